//! The score of a search, row by row: it defines `vector_search`, and it is the fallback if the
//! rewrite is disabled. It has no name in SQL.

use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use vexact_kernel::{Element, Metric, Search, reference};

use super::bits::evaluate_bits;
use super::distance::{coerce_distance, evaluate};
use super::rows::VisitRows;
use crate::vector::vector_of_scalar;

/// [`reference::score`] of a column and a query under one metric: NULL for rows that cannot be
/// compared, an error for a query that a search rejects.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct VectorScore {
    pub metric: Metric,
    signature: Signature,
}

impl VectorScore {
    pub fn new(metric: Metric) -> Self {
        Self { metric, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for VectorScore {
    fn name(&self) -> &str {
        match self.metric {
            Metric::Cosine => "vector_score_cosine",
            Metric::Dot => "vector_score_dot",
            Metric::L2 | Metric::L2Squared => "vector_score_l2",
            Metric::L1 => "vector_score_l1",
            Metric::Hamming => "vector_score_hamming",
            Metric::Jaccard => "vector_score_jaccard",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_distance("vector_search", self.metric, arg_types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [_, ColumnarValue::Scalar(query)] = args.args.as_slice() {
            check_query(self.metric, vector_of_scalar(query)?.as_deref())?;
        }
        if self.metric.is_of_bits() {
            return evaluate_bits("vector_search", self.metric, args);
        }
        let metric = self.metric;
        evaluate("vector_search", args, |row, query| {
            struct One<'q>(Metric, (usize, usize), &'q [f64]);
            impl VisitRows for One<'_> {
                type Output = Option<f64>;
                fn visit<T: Element>(self, values: &[T]) -> Option<f64> {
                    reference::score(self.0, &values[self.1.0..][..self.1.1], self.2)
                }
            }
            row.0.visit(One(metric, row.1, query))
        })
    }
}

/// Rejects a query vector that no search accepts, whatever the column.
pub(crate) fn check_query(metric: Metric, query: Option<&[f64]>) -> Result<Search> {
    let Some(query) = query else {
        return datafusion::common::exec_err!("vector_search: expected a query vector, got NULL");
    };
    Search::new(metric, query).map_err(|error| DataFusionError::External(Box::new(error)))
}

/// The score of a vector column and a query under one metric, as an expression: what
/// `vector_search` adds to a table.
pub fn score_expr(metric: Metric, column: Expr, query: Expr) -> Expr {
    ScalarUDF::from(VectorScore::new(metric)).call(vec![column, query])
}
