//! Makes OFFSET skip rows in the order of the sort below it.
//!
//! DataFusion removes a sort that no operator above requires, also below OFFSET without LIMIT
//! (apache/datafusion#23534), moves a sort from above OFFSET below it, and gives a sort below
//! `LIMIT 5 OFFSET 2` the limit of 5 if another sort by the same keys is above (#24958). So while
//! it decides where sorts are needed, an operator replaces the limit. This operator requires the
//! order of the skipped rows, has no limit of its own, and no output order.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, Partitioning};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements,
    PlanProperties, replace_children_if_necessary,
};

/// Replaces limits that skip rows of a sort by the operator.
#[derive(Debug)]
pub(super) struct MarkOffsets;

/// Restores the limits.
#[derive(Debug)]
pub(super) struct UnmarkOffsets;

impl PhysicalOptimizerRule for MarkOffsets {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let marked = plan.transform_up(|plan| {
            let limit = plan.downcast_ref::<GlobalLimitExec>().filter(|limit| limit.skip() > 0);
            Ok(match limit.map(|limit| above_sort(limit, limit.input())).transpose()?.flatten() {
                Some(marked) => Transformed::yes(marked),
                None => Transformed::no(plan),
            })
        })?;
        Ok(marked.data)
    }

    fn name(&self) -> &str {
        "vexact_mark_offsets"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl PhysicalOptimizerRule for UnmarkOffsets {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let unmarked = plan.transform_up(|plan| {
            Ok(match plan.downcast_ref::<SkipExec>() {
                Some(SkipExec { input, skip, .. }) => {
                    Transformed::yes(
                        Arc::new(GlobalLimitExec::new(Arc::clone(input), *skip, None)) as Arc<dyn ExecutionPlan>
                    )
                }
                None => Transformed::no(plan),
            })
        })?;
        Ok(unmarked.data)
    }

    fn name(&self) -> &str {
        "vexact_unmark_offsets"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Returns the input with the operator directly above the sort, and with the limit's fetch in the
/// sort; `None` if there is no sort.
fn above_sort(limit: &GlobalLimitExec, input: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(projection) = input.downcast_ref::<ProjectionExec>() {
        let Some(below) = above_sort(limit, projection.input())? else { return Ok(None) };
        return replace_children_if_necessary(Arc::clone(input), vec![below]).map(Some);
    }
    let Some(sort) = input.downcast_ref::<SortExec>().filter(|sort| !sort.preserve_partitioning()) else {
        return Ok(None);
    };
    let fetch = limit.fetch().map(|fetch| fetch.saturating_add(limit.skip()));
    let fetch = match (fetch, sort.fetch()) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let sorted = Arc::new(sort.with_fetch(fetch));
    Ok(Some(Arc::new(SkipExec::new(sorted, limit.skip(), sort.expr().clone()))))
}

/// Placeholder of a limit that skips rows. It is never executed.
#[derive(Debug)]
struct SkipExec {
    input: Arc<dyn ExecutionPlan>,
    skip: usize,
    order: LexOrdering,
    properties: Arc<PlanProperties>,
}

impl SkipExec {
    fn new(input: Arc<dyn ExecutionPlan>, skip: usize, order: LexOrdering) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(1),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, skip, order, properties: Arc::new(properties) }
    }
}

impl DisplayAs for SkipExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SkipExec: skip={}", self.skip)
    }
}

impl ExecutionPlan for SkipExec {
    vexact_sql::one_child_plan!(SkipExec, input, |self, input| Self::new(input, self.skip, self.order.clone()));

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![Some(OrderingRequirements::from(self.order.clone()))]
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("SkipExec stands for a limit while a plan is optimized")
    }

    fn child_stats_requests(&self, _: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(None)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::new(inputs[0].as_ref().clone().with_fetch(None, self.skip, 1)?))
    }
}
