//! Keeps a sort with a limit above a window function from limiting the aggregate below it, whose
//! other groups the window reads (apache/datafusion#25066).

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

/// DataFusion's rule, applied only to plans without window functions.
#[derive(Debug)]
pub(super) struct TopKAggregationWithoutWindows(pub Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for TopKAggregationWithoutWindows {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let mut has_window = false;
        plan.apply(|plan| {
            has_window |= plan.is::<WindowAggExec>() || plan.is::<BoundedWindowAggExec>();
            Ok(if has_window { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if has_window { Ok(plan) } else { self.0.optimize(plan, config) }
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}
