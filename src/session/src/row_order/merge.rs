//! `OrderedMergeExec` concatenates the partitions of its input, one after the other.

use std::fmt;
use std::sync::Arc;

use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::common::spawn_buffered;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, EvaluationType, SchedulingType};
use datafusion::physical_plan::limit::LimitStream;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{StreamExt, stream};

/// Maximum number of batches that a partition is ahead while earlier partitions are read.
const BUFFERED_BATCHES: usize = 4;

/// Concatenates the partitions of its input in their order: all rows of the first, then those of
/// the second, and so on. All of them run in parallel, the later ones [`BUFFERED_BATCHES`] ahead.
/// DataFusion's `CoalescePartitionsExec` returns rows in the order of their arrival.
#[derive(Debug)]
pub struct OrderedMergeExec {
    input: Arc<dyn ExecutionPlan>,
    fetch: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl OrderedMergeExec {
    /// Returns the concatenation of the input's partitions.
    pub fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let mut equivalences = input.equivalence_properties().clone();
        equivalences.clear_orderings();
        equivalences.clear_per_partition_constants();
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(1),
            input.pipeline_behavior(),
            input.boundedness(),
        )
        .with_evaluation_type(EvaluationType::Eager)
        .with_scheduling_type(SchedulingType::Cooperative);
        Self { input, fetch: None, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// Limits the output to `fetch` rows; `None` for no limit.
    pub fn limited_to(self, fetch: Option<usize>) -> Self {
        Self { fetch, ..self }
    }
}

impl DisplayAs for OrderedMergeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("OrderedMergeExec")?;
        self.fetch.map_or(Ok(()), |fetch| write!(f, ": fetch={fetch}"))
    }
}

impl ExecutionPlan for OrderedMergeExec {
    vexact_sql::one_child_plan!(OrderedMergeExec, input, |self, input| Self::new(input).limited_to(self.fetch));

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("OrderedMergeExec has one partition, got number {partition}");
        }
        let partitions = self.input.output_partitioning().partition_count();
        let start =
            |partition| Ok(spawn_buffered(self.input.execute(partition, Arc::clone(&context))?, BUFFERED_BATCHES));
        let started = (0..partitions).map(start).collect::<Result<Vec<_>>>()?;
        let rows = RecordBatchStreamAdapter::new(self.schema(), stream::iter(started).flatten());
        Ok(Box::pin(LimitStream::new(Box::pin(rows), 0, self.fetch, BaselineMetrics::new(&self.metrics, 0))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, _: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(None)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::new(inputs[0].as_ref().clone().with_fetch(self.fetch, 0, 1)?))
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }
}
