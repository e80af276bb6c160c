//! Preserves the row order of files and tables wherever SQL leaves the order open: in an unsorted
//! SELECT, under LIMIT, in a file that is written.
//!
//! The partitions of a scan are consecutive ranges of it. So it is enough to concatenate the
//! partitions of a plan ([`OrderedMergeExec`], [`collect`]), and to have no operator between the
//! scan and the result that distributes rows round-robin.

mod collect;
mod merge;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_expr::Partitioning;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{
    ExecutionPlan, ExecutionPlanProperties, execute_stream, replace_children_if_necessary,
};
use vexact_sources::parquet_reader::named;
use vexact_sql::exec::{TieBreakExec, VectorJoinExec, VectorTopKExec};

pub(crate) use collect::collect;
pub use merge::OrderedMergeExec;

use crate::text::TextMatchesExec;

/// Physical optimizer rule: makes merges of partitions ordered if the order of rows is visible, and
/// removes round-robin repartitioning. It runs last, when the partitions are final.
#[derive(Debug)]
pub(crate) struct KeepRowOrder;

impl PhysicalOptimizerRule for KeepRowOrder {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        keep(plan, true)
    }

    fn name(&self) -> &str {
        "vexact_keep_row_order"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Rewrites a plan; `is_visible` is true if the order of its rows reaches the result.
fn keep(plan: Arc<dyn ExecutionPlan>, is_visible: bool) -> Result<Arc<dyn ExecutionPlan>> {
    if is_visible
        && let Some(repartition) = plan.downcast_ref::<RepartitionExec>()
        && let Partitioning::RoundRobinBatch(_) = repartition.partitioning()
    {
        return keep(Arc::clone(repartition.input()), true);
    }
    let children: Vec<Arc<dyn ExecutionPlan>> = plan.children().into_iter().map(Arc::clone).collect();
    if children.is_empty() {
        // A source may skip rows that a LIMIT does not need, or read its parts in another order.
        return Ok(if is_visible { plan.with_preserve_order(true).unwrap_or(plan) } else { plan });
    }
    let carried = carries_order(plan.as_ref());
    let decides = decides_by_order(plan.as_ref());
    let kept =
        children.into_iter().zip(carried).map(|(child, carries)| keep(child, decides || (is_visible && carries)));
    let plan = replace_children_if_necessary(plan, kept.collect::<Result<_>>()?)?;
    match plan.downcast_ref::<CoalescePartitionsExec>() {
        Some(merge) if is_visible => {
            Ok(Arc::new(OrderedMergeExec::new(Arc::clone(merge.input())).limited_to(merge.fetch())))
        }
        _ => Ok(plan),
    }
}

/// Returns, for each input, true if the order of its rows determines the order of the output.
fn carries_order(plan: &dyn ExecutionPlan) -> Vec<bool> {
    let inputs = plan.children().len();
    let is_ordered = plan.is::<CoalescePartitionsExec>() || plan.is::<OrderedMergeExec>() || plan.is::<UnionExec>();
    if is_ordered { vec![true; inputs] } else { plan.maintains_input_order() }
}

/// Returns true if the order of the input's rows determines which rows are in the output: a search
/// breaks ties by it, a limit takes the first rows.
fn decides_by_order(plan: &dyn ExecutionPlan) -> bool {
    let is_limit = plan.is::<GlobalLimitExec>()
        || plan.is::<LocalLimitExec>()
        || (plan.fetch().is_some() && plan.maintains_input_order().into_iter().all(|maintains| maintains));
    is_limit
        || plan.is::<VectorTopKExec>()
        || plan.is::<VectorJoinExec>()
        || plan.is::<TieBreakExec>()
        || plan.is::<TextMatchesExec>()
}

/// Runs a plan and streams its batches, one partition after the other.
pub(crate) fn stream(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<datafusion::execution::TaskContext>,
) -> Result<datafusion::execution::SendableRecordBatchStream> {
    let rows = match plan.output_partitioning().partition_count() {
        0 | 1 => execute_stream(Arc::clone(&plan), context),
        _ => OrderedMergeExec::new(Arc::clone(&plan)).execute(0, context),
    };
    Ok(named(&plan, rows?))
}
