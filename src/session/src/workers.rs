//! Queries of a session on other processes.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use vexact_core::error::Result;
use vexact_sql::Explained;

use super::{DataFrame, Session};

/// Runs parts of plans on other processes.
pub trait Distribute: Debug + Send + Sync {
    /// Returns a plan with the rows of `plan`, parts of which run elsewhere; `plan` itself if no
    /// part of it can.
    ///
    /// # Errors
    /// A plan that is refused.
    fn distribute(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>>;

    /// Adds to an explain of a plan, made by [`Self::distribute`], where its parts run or ran.
    fn explain(&self, plan: &Arc<dyn ExecutionPlan>, explained: &mut Explained);
}

/// The workers of a session: an extension of its `SessionConfig`.
#[derive(Debug)]
struct Workers(Arc<dyn Distribute>);

/// Returns the workers of a session.
pub(super) fn workers(config: &SessionConfig) -> Option<Arc<dyn Distribute>> {
    config.get_extension::<Workers>().map(|workers| Arc::clone(&workers.0))
}

/// Returns the plan to run: parts of it run on the session's workers, if it has any.
pub(super) fn distributed(config: &SessionConfig, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    match workers(config) {
        Some(workers) => workers.distribute(plan),
        None => Ok(plan),
    }
}

/// Adds to an explain where the parts of a plan run.
pub(super) fn explain(config: &SessionConfig, plan: &Arc<dyn ExecutionPlan>, explained: &mut Explained) {
    if let Some(workers) = workers(config) {
        workers.explain(plan, explained);
    }
}

impl Session {
    /// Runs parts of its queries on other processes from now on.
    pub fn use_workers(&self, workers: Arc<dyn Distribute>) {
        let state = self.ctx.state_ref();
        let mut state = state.write();
        let config = state.config_mut();
        config.set_extension(Arc::new(Workers(workers)));
        // A filter that is only known while the query runs does not reach other processes.
        let optimizer = &mut config.options_mut().optimizer;
        optimizer.enable_dynamic_filter_pushdown = false;
        optimizer.enable_topk_dynamic_filter_pushdown = false;
        optimizer.enable_join_dynamic_filter_pushdown = false;
        drop(state);
        self.plans.invalidate();
    }
}

impl DataFrame {
    /// Returns a query of DataFusion on a frame as a frame, so that it runs on the session's workers.
    pub(super) fn of_query_on_workers(query: datafusion::dataframe::DataFrame) -> Option<Self> {
        let (state, plan): (SessionState, _) = query.into_parts();
        workers(state.config())?;
        Some(Self::of_plan(Arc::new(state), plan))
    }
}
