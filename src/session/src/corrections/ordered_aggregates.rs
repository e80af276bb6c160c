//! Drops ORDER BY from aggregates that do not depend on it.
//!
//! In groups DataFusion passes the keys to the aggregate, which panics, or returns fewer columns than
//! it declares: `avg(x ORDER BY y)`, `min(x ORDER BY y)` (apache/datafusion#25401).

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite::rewrite_exprs;

/// Aggregates whose value is the same in every order of rows.
const UNORDERED: [&str; 21] = [
    "approx_distinct",
    "approx_median",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "max",
    "median",
    "min",
    "stddev",
    "stddev_pop",
    "sum",
    "var",
    "var_pop",
    "var_samp",
];

/// Drops the keys.
#[derive(Debug)]
pub(super) struct UnorderedAggregates;

impl AnalyzerRule for UnorderedAggregates {
    fn name(&self) -> &str {
        "vexact_unordered_aggregates"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_exprs(plan, is_ordered_in_vain, |expr, _| {
            let is_in_vain = is_ordered_in_vain(&expr);
            Ok(match expr {
                Expr::AggregateFunction(mut call) if is_in_vain => {
                    call.params.order_by.clear();
                    Transformed::yes(Expr::AggregateFunction(call))
                }
                other => Transformed::no(other),
            })
        })
    }
}

fn is_ordered_in_vain(expr: &Expr) -> bool {
    match expr {
        Expr::AggregateFunction(call) => !call.params.order_by.is_empty() && UNORDERED.contains(&call.func.name()),
        _ => false,
    }
}
