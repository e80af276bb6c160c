//! Keeps a sort with a limit from limiting the aggregate below it where other groups are needed too,
//! or where the limit cannot compare them:
//!
//! - A window function between them reads all groups (apache/datafusion#25066).
//! - Floats: the limited hash table finds no group whose key is NaN, and panics when it removes it.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

/// DataFusion's rule, applied only to plans without window functions and without aggregates of
/// floats.
#[derive(Debug)]
pub(super) struct LimitedAggregates(pub Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for LimitedAggregates {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let mut is_declined = false;
        plan.apply(|plan| {
            is_declined |= plan.is::<WindowAggExec>() || plan.is::<BoundedWindowAggExec>();
            if plan.is::<AggregateExec>() {
                is_declined |= plan.schema().fields().iter().any(|field| field.data_type().is_floating());
            }
            Ok(if is_declined { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if is_declined { Ok(plan) } else { self.0.optimize(plan, config) }
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}
