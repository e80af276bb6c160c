//! Rewrites expressions of a plan without changing the names of its columns.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// Rewrites, bottom-up, the expressions of the operators that have a candidate among them, over the
/// columns of the operator's inputs.
pub(super) fn rewrite_exprs(
    plan: LogicalPlan,
    is_candidate: impl Fn(&Expr) -> bool,
    rewrite: impl Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    let of_operator = |plan: LogicalPlan| {
        let mut has_any = false;
        plan.apply_expressions(|expr| {
            has_any |= expr.exists(|expr| Ok(is_candidate(expr)))?;
            Ok(if has_any { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if !has_any {
            return Ok(Transformed::no(plan));
        }
        let schema = match &plan {
            LogicalPlan::TableScan(scan) => {
                DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?
            }
            _ => merge_schema(&plan.inputs()),
        };
        let names = NamePreserver::new(&plan);
        let is_sort = matches!(plan, LogicalPlan::Sort(_));
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let rewritten = expr.transform_up(|expr| rewrite(expr, &schema))?;
            // The output columns of a sort do not depend on its keys.
            Ok(if is_sort { rewritten } else { rewritten.update_data(|expr| name.restore(expr)) })
        })
    };
    Ok(plan.transform_up_with_subqueries(of_operator)?.data)
}
