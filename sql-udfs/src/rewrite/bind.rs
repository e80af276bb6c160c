//! The analyzer rule that puts long query vectors into the functions that take them, before any
//! other rule sees them.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use crate::functions::bind_query;

/// The rule, for DataFusion.
#[derive(Debug)]
pub(crate) struct BindQueries;

impl AnalyzerRule for BindQueries {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_down_with_subqueries(|plan| bind(plan, &|expr| bind_query(expr, None)))?.data)
    }

    fn name(&self) -> &str {
        "vexact_bind_queries"
    }
}

/// Gives distances their query vectors where these are parameters: what `with_param_values` does
/// for other expressions, without making literals of hundreds of numbers. To be called before it,
/// with the same values.
///
/// # Errors
/// None that is expected.
pub fn bind_parameters(plan: LogicalPlan, params: &ParamValues) -> Result<LogicalPlan> {
    Ok(plan.transform_down_with_subqueries(|plan| bind(plan, &|expr| bind_query(expr, Some(params))))?.data)
}

fn bind(plan: LogicalPlan, bound: &dyn Fn(&Expr) -> Option<Expr>) -> Result<Transformed<LogicalPlan>> {
    let mut has_any = false;
    plan.apply_expressions(|expr| {
        has_any |= expr.exists(|part| Ok(bound(part).is_some()))?;
        Ok(if has_any { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !has_any {
        return Ok(Transformed::no(plan));
    }
    // A sort has its input's columns, whatever it sorts by; elsewhere a column keeps the name that
    // the query gave it.
    let names = (!matches!(plan, LogicalPlan::Sort(_))).then(|| NamePreserver::new(&plan));
    plan.map_expressions(|expr| {
        let name = names.as_ref().map(|names| names.save(&expr));
        let bound = expr.transform_up(|part| {
            Ok(match bound(&part) {
                Some(bound) => Transformed::yes(bound),
                None => Transformed::no(part),
            })
        })?;
        Ok(bound.update_data(|expr: Expr| match name {
            Some(name) => name.restore(expr),
            None => expr,
        }))
    })
}
