//! Makes grouping sets aggregate rows without a known order.
//!
//! DataFusion assumes that the groups have the order of the input, although each set has NULL for
//! the columns that it lacks: it loses groups, or returns them twice (apache/datafusion#24421,
//! #16965). So the columns pass through a function, after which DataFusion knows no order for them.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection};
use datafusion::optimizer::AnalyzerRule;

use super::opaque::same;

/// Inserts the function between the input and the grouping sets.
#[derive(Debug)]
pub(super) struct UnorderedGroupingSets;

impl AnalyzerRule for UnorderedGroupingSets {
    fn name(&self) -> &str {
        "vexact_unordered_grouping_sets"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Aggregate(aggregate) if has_sets(&aggregate) => unordered(aggregate).map(Transformed::yes),
            other => Ok(Transformed::no(other)),
        })
        .data()
    }
}

fn has_sets(aggregate: &Aggregate) -> bool {
    aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)))
}

fn unordered(aggregate: Aggregate) -> Result<LogicalPlan> {
    let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
    let mut grouped = std::collections::HashSet::new();
    for expr in &group_expr {
        grouped.extend(expr.column_refs().into_iter().cloned());
    }
    let columns = input.schema().columns().into_iter().map(|column| match grouped.contains(&column) {
        true => same(Expr::Column(column.clone())).alias_qualified(column.relation.clone(), column.name),
        false => Expr::Column(column),
    });
    let projection = LogicalPlan::Projection(Projection::try_new(columns.collect(), Arc::clone(&input))?);
    Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(projection), group_expr, aggr_expr)?))
}
