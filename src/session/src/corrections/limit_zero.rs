//! Replaces a sort with limit 0 by an empty relation. DataFusion's top k panics for `k = 0`, which
//! its optimizer leaves in the plan after it combines limits.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// Replaces sorts with limit 0. It runs after the limits are final.
#[derive(Debug)]
pub(super) struct EmptySorts;

impl PhysicalOptimizerRule for EmptySorts {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let replaced = plan.transform_up(|plan| {
            if plan.downcast_ref::<SortExec>().is_none_or(|sort| sort.fetch() != Some(0)) {
                return Ok(Transformed::no(plan));
            }
            let partitions = plan.output_partitioning().partition_count();
            Ok(Transformed::yes(
                Arc::new(EmptyExec::new(plan.schema()).with_partitions(partitions)) as Arc<dyn ExecutionPlan>
            ))
        })?;
        Ok(replaced.data)
    }

    fn name(&self) -> &str {
        "vexact_empty_sorts"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
