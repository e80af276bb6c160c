//! Recognising a distance in an expression.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::functions_nested::cosine_distance::CosineDistance;
use datafusion::functions_nested::distance::ArrayDistance;
use datafusion::functions_nested::inner_product::InnerProduct;
use datafusion::logical_expr::{Operator, ScalarUDF};
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal, NegativeExpr};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;

use super::Decline;
use crate::exec::{Scoring, SqlFunction};
use crate::functions::{BoundDistance, Distance, Function, Negate, VectorScore};
use crate::vector::{vector_of_scalar, vector_type};

/// A call of a distance function, whatever its arguments are.
#[derive(Clone)]
pub(super) struct Call {
    pub scoring: Scoring,
    /// The whole call, as it stands in the plan.
    pub expr: Arc<dyn PhysicalExpr>,
    /// The query that the function carries.
    bound: Option<ScalarValue>,
}

/// A call on a column of a table and a constant.
pub(super) struct ColumnCall {
    pub scoring: Scoring,
    pub column: usize,
    pub query: Arc<dyn PhysicalExpr>,
}

fn downcast<T: PhysicalExpr>(expr: &Arc<dyn PhysicalExpr>) -> Option<&T> {
    let expr: &dyn PhysicalExpr = expr.as_ref();
    expr.downcast_ref::<T>()
}

/// Returns the score that a function computes, and the query bound to it; returns `None` if the
/// function is no distance.
pub(crate) fn scoring(function: &ScalarUDF) -> Option<(Scoring, Option<&ScalarValue>)> {
    let (udf, bound) = match function.inner().downcast_ref::<BoundDistance>() {
        Some(to_query) => (to_query.function.inner(), Some(&to_query.query)),
        None => (function.inner(), None),
    };
    let sql = |function| Scoring::Sql(SqlFunction(function));
    let scoring = if let Some(distance) = udf.downcast_ref::<Distance>() {
        sql(distance.function)
    } else if let Some(score) = udf.downcast_ref::<VectorScore>() {
        Scoring::Search(score.metric)
    } else if udf.is::<CosineDistance>() {
        sql(Function::CosineDistance)
    } else if udf.is::<InnerProduct>() {
        sql(Function::InnerProduct)
    } else if udf.is::<ArrayDistance>() {
        sql(Function::L2Distance)
    } else {
        return None;
    };
    Some((scoring, bound))
}

/// Returns the call if an expression is a call of a distance.
pub(super) fn call(expr: &Arc<dyn PhysicalExpr>) -> Option<Call> {
    let (scoring, bound) = scoring(downcast::<ScalarFunctionExpr>(expr)?.fun())?;
    Some(Call { scoring, expr: Arc::clone(expr), bound: bound.cloned() })
}

/// Returns true if an expression contains a distance.
pub(crate) fn has_call(expr: &Arc<dyn PhysicalExpr>) -> bool {
    call(expr).is_some() || expr.children().into_iter().any(has_call)
}

/// Direction in which an expression changes with the call in it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Direction {
    /// True if the expression decreases when the call increases.
    pub is_falling: bool,
    /// True if the expression flips the sign of NaN.
    pub is_negated: bool,
}

/// Returns the operand of a negation.
fn negated(expr: &Arc<dyn PhysicalExpr>) -> Option<&Arc<dyn PhysicalExpr>> {
    if let Some(negative) = downcast::<NegativeExpr>(expr) {
        return Some(negative.arg());
    }
    let function = downcast::<ScalarFunctionExpr>(expr)?;
    function.fun().inner().is::<Negate>().then(|| function.args().first()).flatten()
}

/// Returns the call in an expression that is monotone in the call: `-d`, `1 - d`, `d + 1`.
pub(super) fn monotone(expr: &Arc<dyn PhysicalExpr>) -> Option<(Call, Direction)> {
    if let Some(call) = call(expr) {
        return Some((call, Direction::default()));
    }
    if let Some(number) = negated(expr) {
        let (call, direction) = monotone(number)?;
        let flipped = Direction { is_falling: !direction.is_falling, is_negated: !direction.is_negated };
        return Some((call, flipped));
    }
    let binary = downcast::<BinaryExpr>(expr)?;
    let is_number = |expr: &Arc<dyn PhysicalExpr>| {
        let value = downcast::<Literal>(expr).map(|literal| literal.value());
        matches!(value, Some(ScalarValue::Float64(Some(x))) if x.is_finite())
    };
    match (binary.op(), is_number(binary.left()), is_number(binary.right())) {
        (Operator::Minus, true, false) => {
            let (call, direction) = monotone(binary.right())?;
            Some((call, Direction { is_falling: !direction.is_falling, ..direction }))
        }
        (Operator::Plus, true, false) => monotone(binary.right()),
        (Operator::Plus | Operator::Minus, false, true) => monotone(binary.left()),
        _ => None,
    }
}

impl Call {
    /// Returns true if a larger value of the call is closer.
    pub fn is_larger_closer(&self) -> bool {
        match self.scoring {
            Scoring::Search(metric) => metric.is_larger_closer(),
            Scoring::Sql(SqlFunction(function)) => function.is_larger_closer(),
        }
    }

    /// The call's column and its constant, over the columns of `schema`.
    pub fn on_column(&self, schema: &Schema) -> Result<ColumnCall, Decline> {
        let function = downcast::<ScalarFunctionExpr>(&self.expr).ok_or(Decline::NotAColumn)?;
        let is_constant = |expr: &Arc<dyn PhysicalExpr>| collect_columns(expr).is_empty() && !is_volatile(expr);
        let (stored, query): (_, Arc<dyn PhysicalExpr>) = match (function.args(), &self.bound) {
            ([stored], Some(query)) => (stored, Arc::new(Literal::new(query.clone()))),
            ([a, b], None) => match (is_constant(a), is_constant(b)) {
                (false, true) => (a, Arc::clone(b)),
                (true, false) => (b, Arc::clone(a)),
                (true, true) => return Err(Decline::NotAColumn),
                (false, false) => return Err(Decline::QueryNotConstant),
            },
            _ => return Err(Decline::NotAColumn),
        };
        let column = stored_column(stored).ok_or(Decline::NotAColumn)?.index();
        let data_type = schema.field(column).data_type();
        if vector_type(data_type).is_none() {
            return Err(Decline::NotAVectorColumn(data_type.to_string()));
        }
        Ok(ColumnCall { scoring: self.scoring, column, query })
    }
}

/// A column, under the cast to `List(Float64)` that DataFusion's own functions require: it widens,
/// so it changes no value.
fn stored_column(expr: &Arc<dyn PhysicalExpr>) -> Option<&Column> {
    if let Some(cast) = downcast::<CastExpr>(expr) {
        let is_widening = match cast.cast_type() {
            DataType::List(item) | DataType::LargeList(item) => item.data_type() == &DataType::Float64,
            _ => false,
        };
        return is_widening.then(|| stored_column(cast.expr())).flatten();
    }
    downcast::<Column>(expr)
}

impl ColumnCall {
    /// Checks a literal query against a search's rules.
    pub fn check_literal(&self, schema: &Schema) -> Result<(), Decline> {
        let Some(literal) = downcast::<Literal>(&self.query) else { return Ok(()) };
        let bad = |error: String| Decline::BadQuery(error);
        let query = vector_of_scalar(literal.value()).map_err(|error| bad(error.to_string()))?;
        let query = query.ok_or_else(|| bad("expected a query vector, got NULL".into()))?;
        self.scoring.check_query(&query, schema.field(self.column).data_type()).map_err(|error| bad(error.to_string()))
    }
}
