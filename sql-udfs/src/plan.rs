//! The plan of a statement. A sort by distance over chunks in memory has a fast path that skips
//! most of DataFusion's rules: they change nothing in such a plan, and running them costs more than
//! the search of a small table.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::push_down_limit::PushDownLimit;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use crate::rewrite::{VectorRewrite, scoring};
use crate::search_plan::search_in_place;

/// Optimizes a logical plan and makes the physical one, as [`SessionState::create_physical_plan`]
/// does.
///
/// # Errors
/// An error of DataFusion.
pub async fn create_physical_plan(
    state: &SessionState,
    plan: &LogicalPlan,
) -> Result<(LogicalPlan, Arc<dyn ExecutionPlan>)> {
    if let Some(short) = state.config().get_extension::<FastPathPlanner>()
        && let Some(planned) = short.plan(state, plan).await
    {
        return Ok(planned);
    }
    let optimized = state.optimize(plan)?;
    let physical = state.query_planner().create_physical_plan(&optimized, state).await?;
    Ok((optimized, physical))
}

/// The few rules that such a search needs.
#[derive(Debug)]
pub(crate) struct FastPathPlanner {
    optimizer: Optimizer,
    /// Has the physical rule; the functions are in the plan.
    state: SessionState,
}

impl FastPathPlanner {
    pub fn new(runtime: Arc<RuntimeEnv>) -> Self {
        let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
            Arc::new(SimplifyExpressions::new()),
            Arc::new(PushDownLimit::new()),
            Arc::new(PushDownFilter::new()),
            Arc::new(OptimizeProjections::new()),
        ];
        let state = SessionStateBuilder::new()
            .with_runtime_env(runtime)
            .with_physical_optimizer_rules(vec![Arc::new(VectorRewrite { is_in_place: true })])
            .build();
        Self { optimizer: Optimizer::with_rules(rules), state }
    }

    /// Returns `None` if the statement has another form, or if it is invalid: the full planner then
    /// reports the error.
    async fn plan(&self, state: &SessionState, plan: &LogicalPlan) -> Option<(LogicalPlan, Arc<dyn ExecutionPlan>)> {
        if !is_sorted_table(plan) {
            return None;
        }
        let analyzed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {}).ok()?;
        let optimized = self.optimizer.optimize(analyzed, state, |_, _| {}).ok()?;
        let mut own = self.state.clone();
        own.config_mut().clone_from(state.config());
        let physical = DefaultPhysicalPlanner::default().create_physical_plan(&optimized, &own).await.ok()?;
        // For such a plan the other rules change nothing.
        search_in_place(&physical).is_some().then_some((optimized, physical))
    }
}

/// Returns true if a plan has the form `SELECT .. FROM table [WHERE ..] ORDER BY .. LIMIT ..` with
/// a distance and no subquery.
fn is_sorted_table(plan: &LogicalPlan) -> bool {
    let (mut has_limit, mut has_sort, mut has_distance, mut has_more) = (false, false, false, false);
    let visited = plan.apply(|node| {
        match node {
            LogicalPlan::Limit(_) => has_limit = true,
            LogicalPlan::Sort(_) => has_sort = true,
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::TableScan(_) => {}
            _ => has_more = true,
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::ScalarFunction(call) => has_distance |= scoring(&call.func).is_some(),
                    Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => {
                        has_more = true;
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(if has_more { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    visited.is_ok() && has_limit && has_sort && has_distance && !has_more
}
