//! The size of a logical plan: views within views make plans deep, and those that name a view twice
//! make them large.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::stack::{on_stack, stack_of_plan};

/// Maximum number of operators from the root of a plan to a leaf.
const MAX_DEPTH: usize = 4_000;
/// Maximum number of operators of a plan; those of a view count once for each reference to it.
pub(super) const MAX_OPERATORS: usize = 50_000;
/// Maximum number of subqueries within each other. DataFusion checks a plan's operators once for the
/// plan and once more for each subquery around them, which doubles at each level.
const MAX_SUBQUERIES: usize = 14;
/// Stack that one step of the recursion through subqueries needs.
const SUBQUERY_STACK: usize = 64 << 10;

/// Depth and size of a plan.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PlanSize {
    /// Operators from the root to a leaf.
    pub depth: usize,
    /// Operators in all.
    pub operators: usize,
    /// The depth of the deepest expression.
    pub expression: usize,
    /// Subqueries within each other that are parts of expressions.
    pub subqueries: usize,
}

/// Measures a plan, without recursion but for its subqueries.
pub fn plan_size(plan: &LogicalPlan) -> PlanSize {
    let mut size = PlanSize::default();
    let mut open = vec![(plan, 1)];
    while let Some((plan, depth)) = open.pop() {
        size.depth = size.depth.max(depth);
        size.operators += 1;
        // Counting stops here: the plan is already large enough to be rejected.
        if size.operators > MAX_OPERATORS {
            return size;
        }
        // Measuring does not fail.
        let _ = plan.apply_expressions(|expr| {
            measure_expr(expr, depth, &mut size);
            Ok(TreeNodeRecursion::Continue)
        });
        open.extend(plan.inputs().into_iter().map(|input| (input, depth + 1)));
    }
    size
}

/// The stack that an expression needs.
pub fn stack_of_expr(expr: &Expr) -> usize {
    let mut size = PlanSize::default();
    measure_expr(expr, 0, &mut size);
    stack_of_plan(size)
}

fn measure_expr(expr: &Expr, at: usize, size: &mut PlanSize) {
    let mut open = vec![(expr, 1)];
    while let Some((expr, depth)) = open.pop() {
        size.expression = size.expression.max(depth);
        let subquery = match expr {
            Expr::ScalarSubquery(subquery) => Some(subquery),
            Expr::Exists(exists) => Some(&exists.subquery),
            Expr::InSubquery(inside) => Some(&inside.subquery),
            Expr::SetComparison(comparison) => Some(&comparison.subquery),
            _ => None,
        };
        if let Some(subquery) = subquery {
            let inner = on_stack(SUBQUERY_STACK, || plan_size(&subquery.subquery));
            size.depth = size.depth.max(at + inner.depth);
            size.operators = size.operators.saturating_add(inner.operators);
            size.expression = size.expression.max(inner.expression);
            size.subqueries = size.subqueries.max(1 + inner.subqueries);
        }
        let _ = expr.apply_children(|child| {
            open.push((child, depth + 1));
            Ok(TreeNodeRecursion::Continue)
        });
    }
}

/// Rejects a plan that is too deep or too large; returns its size.
///
/// # Errors
/// A plan beyond a limit; the message has the limit and the size.
pub fn check_plan(plan: &LogicalPlan) -> Result<PlanSize> {
    let size = plan_size(plan);
    if size.operators > MAX_OPERATORS {
        return plan_err!(
            "expected a plan of at most {MAX_OPERATORS} operators, those of a view once for each place that names it, got more"
        );
    }
    if size.depth > MAX_DEPTH {
        return plan_err!(
            "expected at most {MAX_DEPTH} operators within each other, those of views included, got {}; CREATE TABLE AS keeps \
             the rows of a query, and a query of that table is shallow",
            size.depth
        );
    }
    if size.subqueries > MAX_SUBQUERIES {
        return plan_err!(
            "expected at most {MAX_SUBQUERIES} subqueries within each other, those of views included, got {}",
            size.subqueries
        );
    }
    Ok(size)
}
