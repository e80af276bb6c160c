//! The filter of a search: a predicate in text.

use datafusion::catalog::Session;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, lit};

use super::Table;
use crate::deep::parse_expr;

/// Plans the text of a filter.
pub type PlanFilter = dyn Fn(&SessionState, &Table, &str) -> Result<Expr> + Send + Sync;

/// Plans the texts of filters in place of [`parse_expr`], as an extension of a session's
/// configuration.
pub struct FilterPlanner(pub Box<PlanFilter>);

/// Parses the text of a filter as a predicate over the table.
///
/// # Errors
/// Text that is not a predicate on single rows of the table; a session that is not DataFusion's.
pub fn filter_expr(function: &str, table: &Table, text: &str, session: &dyn Session) -> Result<Expr> {
    let Some(state) = session.as_any().downcast_ref::<SessionState>() else {
        return plan_err!("{function}: filter: needs a session of DataFusion itself");
    };
    let context = |error| plan_datafusion_err!("{function}: filter {text:?}: {error}");
    let expr = match state.config().get_extension::<FilterPlanner>() {
        Some(planner) => (planner.0)(state, table, text),
        None => parse_expr(state, text, &table.df_schema()?),
    };
    let expr = expr.map_err(context)?;
    expr.apply(|part| match part {
        Expr::AggregateFunction(_) => plan_err!("{function}: filter {text:?}: expected a predicate on single rows, got the aggregate {part}"),
        Expr::WindowFunction(_) => plan_err!("{function}: filter {text:?}: expected a predicate on single rows, got the window function {part}"),
        Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => {
            plan_err!("{function}: filter {text:?}: expected a predicate on the table's columns, got a subquery (filter a view instead)")
        }
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    if let Expr::Literal(ScalarValue::Null, _) = expr {
        return Ok(lit(false));
    }
    Ok(expr)
}
