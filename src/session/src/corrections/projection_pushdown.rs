//! Leaves a plan as it is where pushing its projections down fails: `SELECT coalesce(t.s, u.s), t.id
//! FROM t FULL JOIN u ON t.s = u.s WHERE 300 < nullif(u.n, u.id)` makes DataFusion 55 compare the
//! names of other columns, which is an internal error. The rule only saves work.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

/// DataFusion's rule, whose internal errors are ignored.
#[derive(Debug)]
pub(super) struct OptionalProjectionPushdown(pub Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for OptionalProjectionPushdown {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        match self.0.optimize(Arc::clone(&plan), config) {
            Err(error) if matches!(error.find_root(), DataFusionError::Internal(_)) => Ok(plan),
            optimized => optimized,
        }
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}
