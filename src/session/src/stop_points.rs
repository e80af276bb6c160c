//! Makes a query cancellable at every point: operators that produce many rows from few yield as
//! they go.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::unnest::UnnestExec;

/// Physical optimizer rule: puts `CooperativeExec` above the operators whose output is larger than
/// their input. DataFusion's own rule makes the leaves of a plan yield, but such an operator may
/// not read from them for hours.
#[derive(Debug)]
pub(super) struct StopPoints;

impl PhysicalOptimizerRule for StopPoints {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let yielding = |plan: Arc<dyn ExecutionPlan>| match multiplies_rows(plan.as_ref()) {
            true => Ok(Transformed::yes(Arc::new(CooperativeExec::new(plan)) as Arc<dyn ExecutionPlan>)),
            false => Ok(Transformed::no(plan)),
        };
        plan.transform_up(yielding).data()
    }

    fn name(&self) -> &str {
        "vexact_stop_points"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn multiplies_rows(plan: &dyn ExecutionPlan) -> bool {
    plan.is::<CrossJoinExec>()
        || plan.is::<NestedLoopJoinExec>()
        || plan.is::<HashJoinExec>()
        || plan.is::<SortMergeJoinExec>()
        || plan.is::<UnnestExec>()
        || plan.is::<RecursiveQueryExec>()
}
