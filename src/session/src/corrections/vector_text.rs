//! Casts between vectors and text; Arrow supports them only for lists of variable length.
//!
//! The text of a vector is that of a list, `[1.0, 2.5]`; a text that is cast to a list of floats is
//! parsed as a vector, as everywhere in SQL.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Cast, TryCast};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, cast};
use datafusion::optimizer::AnalyzerRule;
use vexact_sql::vector_of_text;

use super::rewrite::rewrite_exprs;

/// DataFusion's functions that cast, which become casts when expressions are simplified.
const ARROW_CAST: &str = "arrow_cast";
const ARROW_TRY_CAST: &str = "arrow_try_cast";

/// Replaces such casts by casts that Arrow supports, or by functions.
#[derive(Debug)]
pub(super) struct VectorsAsText;

impl AnalyzerRule for VectorsAsText {
    fn name(&self) -> &str {
        "vexact_vectors_as_text"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let is_candidate = |expr: &Expr| match expr {
            Expr::Cast(_) | Expr::TryCast(_) => true,
            Expr::ScalarFunction(call) => matches!(call.func.name(), ARROW_CAST | ARROW_TRY_CAST),
            _ => false,
        };
        rewrite_exprs(plan, is_candidate, |expr, schema| Ok(of_vector(expr, schema)))
    }
}

fn of_vector(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let (argument, to, is_try) = match &expr {
        Expr::Cast(Cast { expr, field }) => (expr.as_ref(), field.clone(), false),
        Expr::TryCast(TryCast { expr, field }) => (expr.as_ref(), field.clone(), true),
        Expr::ScalarFunction(call) => match (&call.args[..], expr.to_field(schema)) {
            ([argument, _], Ok((_, field))) => (argument, field, call.func.name() == ARROW_TRY_CAST),
            _ => return Transformed::no(expr),
        },
        _ => return Transformed::no(expr),
    };
    let Ok(from) = argument.get_type(schema) else { return Transformed::no(expr) };
    if from.is_string() && is_vector(to.data_type()) {
        return Transformed::yes(vector_of_text(to.data_type(), is_try).call(vec![argument.clone()]));
    }
    match list_of(&from) {
        Some(list) if list != from && to.data_type().is_string() => {
            let list = Box::new(cast(argument.clone(), list));
            Transformed::yes(match is_try {
                true => Expr::TryCast(TryCast { expr: list, field: to }),
                false => Expr::Cast(Cast { expr: list, field: to }),
            })
        }
        _ => Transformed::no(expr),
    }
}

/// Returns the list type that Arrow can cast to text, for any list type.
fn list_of(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::ListView(item) => {
            Some(DataType::List(item.clone()))
        }
        DataType::LargeList(item) | DataType::LargeListView(item) => Some(DataType::LargeList(item.clone())),
        _ => None,
    }
}

fn is_vector(data_type: &DataType) -> bool {
    match data_type {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => {
            item.data_type().is_floating()
        }
        _ => false,
    }
}
