//! One attempt to run a plan on workers.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNode;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion_distributed::{
    DistributedExt, NetworkBoundaryExt, ScaleUpLeafNodeEvent, ScaleUpLeafNodeEventResponse, SessionStateBuilderExt,
    WorkerResolver, display_plan_ascii,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use url::Url;
use vexact_session::OrderedMergeExec;
use vexact_sql::exec::VectorJoinExec;

use super::channel::QueryChannels;
use super::cluster::{Cluster, ReadyWorker};
use super::codec::Codec;
use super::cut::{Cut, has_part, largest_scan};
use super::route::Rendezvous;
use super::scan::Shape;
use super::settings::TaskSettings;
use super::traffic::Traffic;

/// A plan that runs on workers.
pub(crate) struct Started {
    pub rows: SendableRecordBatchStream,
    /// The stages, as text.
    pub stages: String,
}

/// Returns the number of tasks and of their partitions: as many tasks as there are workers, fewer for
/// small files. A part always has two tasks, because one would run in the coordinator.
fn shape(bytes: u64, bytes_per_task: u64, workers: &[ReadyWorker]) -> Shape {
    let most = bytes.div_ceil(bytes_per_task.max(1)).max(1) as usize;
    let threads = workers.iter().map(|worker| worker.info.threads).max().unwrap_or(1);
    match most.min(workers.len()) {
        1 => Shape { tasks: 2, partitions: threads.div_ceil(2) },
        tasks => Shape { tasks, partitions: threads },
    }
}

/// Starts a plan.
///
/// # Errors
/// A plan that is refused, or the failure of the queries of a join.
pub(crate) fn start(
    cluster: Arc<Cluster>,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    workers: Arc<[ReadyWorker]>,
    traffic: Arc<Traffic>,
) -> BoxFuture<'static, Result<Started>> {
    async move {
        let shape = shape(largest_scan(&plan), cluster.options.bytes_per_task, &workers);
        let rows_of = {
            let (cluster, context) = (Arc::clone(&cluster), Arc::clone(&context));
            let (workers, traffic) = (Arc::clone(&workers), Arc::clone(&traffic));
            move |plan: Arc<dyn ExecutionPlan>| -> BoxFuture<'static, Result<RecordBatch>> {
                let (cluster, context) = (Arc::clone(&cluster), Arc::clone(&context));
                let (workers, traffic) = (Arc::clone(&workers), Arc::clone(&traffic));
                async move {
                    if !has_part(&plan) {
                        return VectorJoinExec::query_rows(&plan, &context).await;
                    }
                    let schema = plan.schema();
                    let started = start(cluster, plan, Arc::clone(&context), workers, traffic).await?;
                    let batches: Vec<RecordBatch> = futures::TryStreamExt::try_collect(started.rows).await?;
                    Ok(arrow::compute::concat_batches(&schema, &batches)?)
                }
                .boxed()
            }
        };
        let cut = Cut {
            shape,
            functions: &cluster.functions,
            ship_limit_bytes: cluster.options.ship_limit_bytes,
            rows_of: &rows_of,
        };
        let mut plan = cut.cut(plan).await?;
        if plan.output_partitioning().partition_count() > 1 {
            plan = Arc::new(OrderedMergeExec::new(plan));
        }
        // Without a boundary of ours the planner below would choose boundaries by itself, also below
        // operators that need all rows.
        if !plan.exists(|node| Ok(node.is_network_boundary()))? {
            let rows = plan.execute(0, context)?;
            return Ok(Started { rows, stages: String::new() });
        }
        let urls: Vec<Url> = workers.iter().map(|worker| worker.url.clone()).collect();
        let settings = TaskSettings::of(context.session_config().options());
        let channels = QueryChannels { channels: Arc::clone(&cluster.channels), traffic };
        let state = SessionStateBuilder::new()
            .with_config(context.session_config().clone())
            .with_runtime_env(context.runtime_env())
            .with_query_planner(Arc::new(Planned(plan)))
            .with_distributed_worker_resolver(Urls(urls.clone()))
            .with_distributed_channel_resolver(channels)
            .with_distributed_user_codec(Codec)
            .with_distributed_option_extension(settings)
            .with_distributed_planner()
            .with_distributed_scale_up_leaf_node_handler(as_it_is)
            .with_distributed_route_tasks_handler(Rendezvous { workers: urls })
            .build();
        let nothing = LogicalPlanBuilder::empty(false).build()?;
        let plan = state.query_planner().create_physical_plan(&nothing, &state).await?;
        let stages = display_plan_ascii(plan.as_ref(), false);
        let rows = plan.execute(0, state.task_ctx())?;
        Ok(Started { rows, stages })
    }
    .boxed()
}

/// Leaves the leaves of a plan as they are: those of tasks have been split.
fn as_it_is(event: ScaleUpLeafNodeEvent) -> Option<Result<ScaleUpLeafNodeEventResponse>> {
    Some(Ok(ScaleUpLeafNodeEventResponse::new(Arc::clone(event.plan))))
}

/// Returns a plan that has been made.
#[derive(Debug)]
struct Planned(Arc<dyn ExecutionPlan>);

#[async_trait]
impl QueryPlanner for Planned {
    async fn create_physical_plan(&self, _: &LogicalPlan, _: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::clone(&self.0))
    }
}

struct Urls(Vec<Url>);

impl WorkerResolver for Urls {
    fn get_urls(&self) -> Result<Vec<Url>> {
        Ok(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::WorkerInfo;
    use super::*;

    #[test]
    fn a_part_has_at_most_as_many_tasks_as_there_are_workers_and_at_least_two() {
        let workers = |count: usize| -> Vec<ReadyWorker> {
            let worker =
                |i| ReadyWorker { url: Url::parse(&format!("http://w{i}:1")).unwrap(), info: WorkerInfo::own(4, None) };
            (0..count).map(worker).collect()
        };
        assert_eq!(shape(1 << 30, 1 << 20, &workers(3)), Shape { tasks: 3, partitions: 4 });
        assert_eq!(shape(2 << 20, 1 << 20, &workers(3)), Shape { tasks: 2, partitions: 4 });
        assert_eq!(shape(1, 1 << 20, &workers(3)), Shape { tasks: 2, partitions: 2 });
        assert_eq!(shape(1 << 30, 1 << 20, &workers(1)), Shape { tasks: 2, partitions: 2 });
        assert_eq!(shape(0, 1, &workers(1)), Shape { tasks: 2, partitions: 2 });
    }
}
