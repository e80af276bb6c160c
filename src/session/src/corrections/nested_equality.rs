//! Hides equalities of an expression of a table's columns from DataFusion's sort orders.
//!
//! `WHERE upper(s) = s ORDER BY s` fails: DataFusion records that `s` and `upper(s)` are equal,
//! writes the one for the other in the required order, and again inside of it, so that no sort
//! satisfies the order (as in apache/datafusion#20194, fixed there for other forms). The same
//! happens over a chain of equalities. An opaque comparison is no such fact. Equalities between
//! tables stay, as they are the keys of joins.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use super::opaque::same;
use super::rewrite::rewrite_exprs;

/// Makes such equalities opaque.
#[derive(Debug)]
pub(super) struct OpaqueEqualities;

impl AnalyzerRule for OpaqueEqualities {
    fn name(&self) -> &str {
        "vexact_opaque_equalities"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_exprs(plan, is_within_a_table, |expr, _| {
            Ok(if is_within_a_table(&expr) { Transformed::yes(same(expr)) } else { Transformed::no(expr) })
        })
    }
}

/// Returns true for an equality of a column and another expression of the same table's columns.
fn is_within_a_table(expr: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq | Operator::IsNotDistinctFrom, right }) = expr else {
        return false;
    };
    let is_column = |side: &Expr| matches!(side, Expr::Column(_));
    if is_column(left) == is_column(right) || expr.contains_outer() {
        return false;
    }
    let (left, right) = (left.column_refs(), right.column_refs());
    let tables: Vec<_> = left.iter().chain(&right).map(|column: &&Column| &column.relation).collect();
    !left.is_empty() && !right.is_empty() && tables.iter().all(|table| *table == tables[0])
}
