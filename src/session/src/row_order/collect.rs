//! All rows of a plan in memory.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::common::spawn_buffered;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, execute_stream};
use futures::stream::select_all;
use futures::{StreamExt, TryStreamExt};

/// Batches that a partition is ahead of the one who gathers them.
const BUFFERED_BATCHES: usize = 2;

/// Runs the partitions of a plan at once; their rows one partition after the other. `count` is called with the rows of each
/// batch as it comes.
pub(crate) async fn collect(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    count: impl Fn(usize),
) -> Result<Vec<RecordBatch>> {
    let partitions = plan.output_partitioning().partition_count();
    if partitions <= 1 {
        return execute_stream(plan, context)?.inspect_ok(|batch| count(batch.num_rows())).try_collect().await;
    }
    let started = (0..partitions).map(|partition| {
        let rows = spawn_buffered(plan.execute(partition, Arc::clone(&context))?, BUFFERED_BATCHES);
        Ok(rows.map(move |batch| (partition, batch)))
    });
    let mut running = select_all(started.collect::<Result<Vec<_>>>()?);
    let mut gathered = vec![Vec::new(); partitions];
    while let Some((partition, batch)) = running.next().await {
        let batch = batch?;
        count(batch.num_rows());
        gathered[partition].push(batch);
    }
    Ok(gathered.into_iter().flatten().collect())
}
