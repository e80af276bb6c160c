//! Adds a hint to the error of a correlated subquery that DataFusion cannot plan: how to write the
//! query instead.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, not_impl_datafusion_err};
use datafusion::logical_expr::{Expr, LogicalPlan};

/// The error of planning `plan`, with a way to write the query if a correlated subquery is its
/// cause.
pub(crate) fn with_hint(error: DataFusionError, plan: &LogicalPlan) -> DataFusionError {
    let (mut has_outer_column, mut has_subquery) = (false, false);
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::OuterReferenceColumn(..) => has_outer_column = true,
                    Expr::ScalarSubquery(subquery) => has_subquery |= !subquery.outer_ref_columns.is_empty(),
                    Expr::Exists(exists) => has_subquery |= !exists.subquery.outer_ref_columns.is_empty(),
                    Expr::InSubquery(within) => has_subquery |= !within.subquery.outer_ref_columns.is_empty(),
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    if visited.is_err() {
        return error;
    }
    if has_subquery {
        return not_impl_datafusion_err!(
            "a subquery that is linked to the outer row by something else than an equality, or that takes its first rows, is not \
             planned for each row: join the tables and group by the outer row's key (SELECT o.id, max(i.x) FROM o LEFT JOIN i ON \
             i.id < o.id GROUP BY o.id), or number the joined rows (row_number() OVER (PARTITION BY o.id ORDER BY ...) = 1)"
        );
    }
    if has_outer_column {
        return not_impl_datafusion_err!(
            "LATERAL that takes the first rows for each outer row is not planned: vector_join(queries, query_column, table, column, k) \
             finds the k closest rows of each row, vector_search(..., group_by => 'column') those of each group, and row_number() OVER \
             (PARTITION BY ... ORDER BY ...) <= k the first rows of a join"
        );
    }
    error
}
