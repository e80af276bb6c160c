//! `MergeJoinExec`: for each query the best of the rows that the tasks of a join return.

use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Float64Type, UInt64Type};
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, execute_stream};
use futures::StreamExt;
use futures::stream::once;
use vexact_kernel::{Report, Tier};

use super::super::join::run::{Found, SearchState};
use super::super::join::{Join, VectorJoinExec};
use super::Counts;
use super::join::found_columns;
use crate::config::VexactOptions;

/// Merges the rows of [`super::PartialJoinExec`] of all tasks into the output of the join.
#[derive(Debug, Clone)]
pub struct MergeJoinExec {
    /// The rows of the queries' input.
    queries: RecordBatch,
    input: Arc<dyn ExecutionPlan>,
    join: Arc<Join>,
    planned: Report,
    properties: Arc<PlanProperties>,
    executed: Arc<Mutex<Option<Report>>>,
}

impl MergeJoinExec {
    /// Returns the last part of a join with the rows of its queries' input, over the rows of the
    /// first part. When it has run, `whole` has its report.
    pub fn of(whole: &VectorJoinExec, queries: RecordBatch, input: Arc<dyn ExecutionPlan>) -> Self {
        Self {
            queries,
            input,
            join: Arc::new(whole.join().clone()),
            planned: whole.report(Tier::default()),
            properties: Arc::clone(whole.properties()),
            executed: Arc::clone(whole.executed()),
        }
    }

    async fn merge(self, context: Arc<TaskContext>) -> Result<RecordBatch> {
        let memory = MemoryConsumer::new("VectorJoinExec").register(context.memory_pool());
        memory.try_grow(self.queries.get_array_memory_size())?;
        let state = SearchState {
            join: Arc::clone(&self.join),
            schema: Arc::clone(self.properties.eq_properties.schema()),
            options: VexactOptions::of(context.session_config().options()),
            context: Arc::clone(&context),
            executed: Arc::new(Mutex::new(None)),
        };
        let (rows, vectors) = state.queries(&self.queries)?;
        let columns = found_columns(&self.join);
        let own = columns.len();
        let mut found: Vec<Vec<Found>> = vec![Vec::new(); vectors.len()];
        let mut kept: Vec<RecordBatch> = Vec::new();
        let mut counts = Counts::default();
        let mut batches = execute_stream(Arc::clone(&self.input), context)?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let pairs = take_record_batch(&batch, &counts.take(&batch)?)?;
            memory.try_grow(pairs.get_array_memory_size() + pairs.num_rows() * size_of::<Found>())?;
            let queries = pairs.column(own).as_primitive::<UInt64Type>().values();
            let scores = pairs.column(own + 1).as_primitive::<Float64Type>().values();
            let positions = pairs.column(own + 2).as_primitive::<UInt64Type>().values();
            for row in 0..pairs.num_rows() {
                let of = found.get_mut(queries[row] as usize);
                let of = of.ok_or_else(|| internal_datafusion_err!("a task of a join returned an unknown query"))?;
                of.push(Found { score: scores[row], position: positions[row], place: (kept.len(), row) });
            }
            kept.push(pairs);
        }
        let sign = if self.join.metric.is_larger_closer() { -1.0 } else { 1.0 };
        let ordinal = counts.ordinals();
        for found in &mut found {
            let score = |a: &Found, b: &Found| (sign * a.score).total_cmp(&(sign * b.score));
            found.sort_unstable_by(|a, b| score(a, b).then(a.position.cmp(&b.position)));
            found.truncate(self.join.k.unwrap_or(usize::MAX));
            found.iter_mut().for_each(|found| found.position = ordinal(found.position));
        }
        let searched = |column: usize| match columns.binary_search(&column) {
            Ok(place) => kept.iter().map(|rows| Arc::clone(rows.column(place))).collect(),
            Err(_) => Vec::new(),
        };
        let output = state.output(&self.queries, &rows, &found, &searched)?;
        if let Ok(mut executed) = self.executed.lock() {
            let queries = Some(vectors.len());
            let filter = self.planned.filter.clone();
            *executed = Some(Report { queries, filter, threads: None, ..counts.report(self.planned.clone()) });
        }
        Ok(output)
    }
}

impl DisplayAs for MergeJoinExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let k = self.join.k.map_or_else(|| "none".into(), |k| k.to_string());
        write!(f, "MergeJoinExec: k={k}, queries={}", self.queries.num_rows())
    }
}

impl ExecutionPlan for MergeJoinExec {
    crate::one_child_plan!(MergeJoinExec, input, |self, input| Self { input, ..self.as_ref().clone() });

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("MergeJoinExec has one partition, got {partition}");
        }
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), once(self.clone().merge(context)))))
    }
}
