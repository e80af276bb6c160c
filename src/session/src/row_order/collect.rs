//! Collects all rows of a plan in memory.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::common::spawn_buffered;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, execute_stream};
use futures::stream::select_all;
use futures::{StreamExt, TryStreamExt};
use vexact_sources::parquet_reader::named;

/// Maximum number of batches that a partition is ahead of the consumer.
const BUFFERED_BATCHES: usize = 2;

/// Returns the size of a batch's rows in bytes; the rows may be a part of larger buffers.
fn slice_bytes(batch: &RecordBatch) -> Result<usize> {
    let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size();
    Ok(batch.columns().iter().map(bytes).sum::<Result<usize, _>>()?)
}

/// Runs the partitions of a plan in parallel and returns their rows, one partition after the other.
/// `count` is called with the number of rows of each batch as it arrives.
pub(crate) async fn collect(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    count: impl Fn(usize),
) -> Result<Vec<RecordBatch>> {
    // Collected rows count towards the session's memory limit until they are returned to the
    // caller.
    let reservation = MemoryConsumer::new("collected rows").register(context.memory_pool());
    let hold = |batch: &RecordBatch| {
        count(batch.num_rows());
        reservation.try_grow(slice_bytes(batch)?)
    };
    let partitions = plan.output_partitioning().partition_count();
    if partitions <= 1 {
        let mut rows = named(&plan, execute_stream(Arc::clone(&plan), context)?);
        let mut gathered = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            hold(&batch)?;
            gathered.push(batch);
        }
        return Ok(gathered);
    }
    let started = (0..partitions).map(|partition| {
        let rows = named(&plan, plan.execute(partition, Arc::clone(&context))?);
        let rows = spawn_buffered(rows, BUFFERED_BATCHES);
        Ok(rows.map(move |batch| (partition, batch)))
    });
    let mut running = select_all(started.collect::<Result<Vec<_>>>()?);
    let mut gathered = vec![Vec::new(); partitions];
    while let Some((partition, batch)) = running.next().await {
        let batch = batch?;
        hold(&batch)?;
        gathered[partition].push(batch);
    }
    Ok(gathered.into_iter().flatten().collect())
}
