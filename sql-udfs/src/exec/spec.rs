//! The specification of a search.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::projection::ProjectionExpr;
use vexact_kernel::{KernelError, Metric, Search};

use crate::functions::Function;
use crate::vector::{check_metric, vector_type};

/// The score that orders the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// The score of a search: rows that cannot be compared are omitted, an invalid query is an
    /// error.
    Search(Metric),
    /// A SQL function's value, as plain evaluation gives it: NULL and NaN are rows like others.
    Sql(SqlFunction),
}

/// One of the distance functions of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlFunction(pub(crate) Function);

impl SqlFunction {
    /// Returns the function of a name; `None` if no distance function has it.
    pub fn of_name(name: &str) -> Option<Self> {
        Function::ALL.into_iter().find(|function| function.name() == name).map(Self)
    }

    /// Returns its name in SQL.
    pub fn name(self) -> &'static str {
        self.0.name()
    }
}

impl Scoring {
    /// Checks a query against a search's rules. `column`: the type of the vectors.
    pub(crate) fn check_query(self, query: &[f64], column: &DataType) -> Result<(), KernelError> {
        check_metric(self.metric(), column)?;
        let search = Search::new(self.metric(), query)?;
        let dim = vector_type(column).flatten();
        search.top_k(1).plan(dim.unwrap_or(query.len()), None).map(drop)
    }

    pub(crate) fn metric(self) -> Metric {
        match self {
            Scoring::Search(metric) => metric,
            Scoring::Sql(function) => function.0.metric(),
        }
    }

    /// Returns the value for a metric value of `distance`.
    pub(crate) fn value(self, distance: f64) -> f64 {
        match self {
            Scoring::Search(_) => distance,
            Scoring::Sql(function) => function.0.of_distance(distance),
        }
    }
}

/// Bounds of the score, which replace conditions of a search's predicate: the kernel applies them
/// with its intervals, so that it computes few scores exactly.
#[derive(Debug, Clone)]
pub struct ScoreBounds {
    /// The farthest value of the metric that fulfils the conditions.
    pub radius: Option<f64>,
    /// The closest value of the metric that fulfils the conditions.
    pub inner_radius: Option<f64>,
    /// True if a NaN with a negative sign fulfils the conditions.
    pub holds_negative_nan: bool,
    /// True if a NaN with a positive sign fulfils the conditions.
    pub holds_positive_nan: bool,
    /// The rest of the predicate.
    pub rest: Option<Arc<dyn PhysicalExpr>>,
}

impl ScoreBounds {
    /// Returns true if a row needs a score to fulfil the conditions.
    pub(crate) fn needs_score(&self) -> bool {
        self.radius.or(self.inner_radius).is_some()
    }

    /// Returns true if a NaN fulfils the conditions.
    pub(crate) fn holds_nan(&self, nan: f64) -> bool {
        if nan.is_sign_negative() { self.holds_negative_nan } else { self.holds_positive_nan }
    }
}

/// A top-k over the rows of an input.
#[derive(Debug, Clone)]
pub struct TopK {
    /// Predicate that selects the rows to search, over the input's columns; `None` if all rows are
    /// searched.
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    /// The bounds of the score that are part of the predicate; `None` if they are unknown.
    pub bounds: Option<ScoreBounds>,
    /// Ordinal of the vector column in the input.
    pub vector: usize,
    /// The query: an expression without columns, evaluated once.
    pub query: Arc<dyn PhysicalExpr>,
    /// The score that orders the rows.
    pub scoring: Scoring,
    /// True if a NaN with a negative sign comes first and one with a positive sign last; false for
    /// the reverse. (In Arrow's total order the negative NaN is the smallest number, the positive
    /// one the largest.)
    pub negative_nans_first: bool,
    /// True if rows whose value is NULL come first.
    pub nulls_first: bool,
    /// Number of rows; the number of rows of each group if there are groups.
    pub k: usize,
    /// Ordinal of the input column whose values group the rows; `None` if all rows are one group.
    pub group_by: Option<usize>,
    /// Columns of the input that the output needs.
    pub columns: Vec<usize>,
    /// The output, over `columns` and two more: the value (`Float64`) and the row's ordinal in the
    /// input (`UInt64`).
    pub output: Vec<ProjectionExpr>,
}

impl TopK {
    /// Returns the schema over which `output` is evaluated.
    pub fn gathered_schema(&self, input: &Schema) -> Result<SchemaRef> {
        let mut fields: Vec<_> = input.project(&self.columns)?.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("value", DataType::Float64, true)));
        fields.push(Arc::new(Field::new("ordinal", DataType::UInt64, false)));
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Returns the part of the predicate that selects rows before their scores are known.
    pub(crate) fn selecting(&self) -> Option<&Arc<dyn PhysicalExpr>> {
        match &self.bounds {
            Some(bounds) => bounds.rest.as_ref(),
            None => self.predicate.as_ref(),
        }
    }

    /// Returns the query's value if it is a literal.
    pub(crate) fn literal(&self) -> Option<&ScalarValue> {
        let expr: &dyn PhysicalExpr = self.query.as_ref();
        expr.downcast_ref::<Literal>().map(|literal| literal.value())
    }
}
