//! Parameters of a search by call.

use datafusion::common::ParamValues;
use vexact_core::sql::excerpt;
use vexact_kernel::{Element, Metric};

/// One query, or a query batch.
#[derive(Debug, Clone)]
pub enum QueryVectors {
    /// One vector.
    One(Vec<f64>),
    /// Several, searched together.
    Many(Vec<Vec<f64>>),
}

impl QueryVectors {
    /// One query, widened to `f64`.
    pub fn one<T: Element>(query: &[T]) -> Self {
        Self::One(query.iter().map(|x| x.to_f64()).collect())
    }
}

/// A search of a table.
#[derive(Debug, Clone)]
pub struct VectorSearch {
    /// Name of a table or view.
    pub table: String,
    /// Name of its vector column.
    pub column: String,
    /// Query vectors.
    pub query: QueryVectors,
    /// Number of rows to return for each query vector.
    pub top_k: usize,
    /// The distance function.
    pub metric: Metric,
    /// A SQL predicate on the table, applied before the search.
    pub filter: Option<String>,
    /// The values of the filter's placeholders, `$1` or `$name`.
    pub params: Option<ParamValues>,
    /// Minimum score of the searched rows: under a distance it excludes the closest rows, under dot
    /// the farthest.
    pub min_score: Option<f64>,
    /// A column whose values group the rows: the result has `top_k` rows of each group. NULL is a
    /// group.
    pub group_by: Option<String>,
    /// Columns of the table that the result has, besides `row_id` and `score`; `*` for all.
    pub columns: Vec<String>,
}

impl VectorSearch {
    /// Returns true if a query batch cannot be searched together.
    pub(crate) fn is_of_one_query(&self) -> bool {
        self.min_score.is_some() || self.group_by.is_some()
    }
}

impl std::fmt::Display for VectorSearch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a vector search on column {:?} of table {:?}", self.column, self.table)?;
        self.filter.as_ref().map_or(Ok(()), |filter| write!(f, " with the filter {}", excerpt(filter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_widened_exactly() {
        let QueryVectors::One(query) = QueryVectors::one(&[0.1_f32]) else { panic!("one query") };
        assert_eq!(query, [f64::from(0.1_f32)]);
    }
}
