//! A plan that is run on one micro-batch after another.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::common::collect;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use vexact_core::error::{Error, Result};

use super::split::{keeps_stream, with_tables_read};
use super::table::Feed;

/// Number of runs after which the operators of a plan are created anew: each run leaves its metrics
/// in them.
const RUNS: usize = 1000;

/// A plan that is run on one micro-batch after another.
pub(super) struct RunPlan {
    plan: Arc<dyn ExecutionPlan>,
    feed: Arc<Feed>,
    context: Arc<TaskContext>,
    runs: usize,
    keeps_stream: bool,
}

impl RunPlan {
    /// Creates the plan; `feed` is the leaf that it reads.
    pub fn new(plan: Arc<dyn ExecutionPlan>, feed: Arc<Feed>, context: &Arc<TaskContext>) -> Self {
        Self { keeps_stream: keeps_stream(&plan), plan, feed, context: Arc::clone(context), runs: 0 }
    }

    /// Returns the columns of the input rows.
    pub fn input_schema(&self) -> &SchemaRef {
        self.feed.schema()
    }

    /// Reads the tables that the plan joins with, once.
    ///
    /// # Errors
    /// A table that cannot be read.
    pub async fn open(&mut self) -> Result<()> {
        self.plan = with_tables_read(&self.plan, Arc::clone(&self.context)).await?;
        Ok(())
    }

    /// Runs the plan on these batches, divided into `partitions` partitions with a thread each, and
    /// returns its rows in their order.
    ///
    /// # Errors
    /// An error of an operator.
    pub async fn run(&mut self, batches: &[RecordBatch], partitions: usize) -> Result<Vec<RecordBatch>> {
        if self.runs > 0 && (self.keeps_stream || self.runs.is_multiple_of(RUNS)) {
            self.plan = reset_plan_states(Arc::clone(&self.plan))?;
        }
        self.runs += 1;
        let batch_rows = self.context.session_config().batch_size();
        self.feed.fill(batches, partitions, batch_rows);
        // A partition of the plan corresponds to one of its input, unless the plan merges or splits
        // partitions.
        let all = self.plan.output_partitioning().partition_count();
        let count = if all == self.feed.partitions() { partitions.clamp(1, all) } else { all };
        let rows = |partition| {
            let stream = self.plan.execute(partition, Arc::clone(&self.context))?;
            Ok::<_, Error>(async move { Ok::<_, Error>(collect(stream).await?) })
        };
        let mut made = Vec::new();
        if count == 1 {
            made = rows(0)?.await?;
        } else {
            let others: Vec<_> =
                (1..count).map(|partition| Ok(SpawnedTask::spawn(rows(partition)?))).collect::<Result<_>>()?;
            made.extend(rows(0)?.await?);
            for task in others {
                made.extend(task.join_unwind().await.map_err(|error| Error::Interrupted(error.to_string()))??);
            }
        }
        self.feed.clear();
        Ok(made)
    }
}

/// Concatenates batches into one.
pub(super) fn concat(mut batches: Vec<RecordBatch>, schema: &SchemaRef) -> Result<RecordBatch> {
    match batches.len() {
        1 => Ok(batches.swap_remove(0)),
        _ => arrow::compute::concat_batches(schema, &batches).map_err(Error::arrow),
    }
}
