//! `PartialTopKExec`: the best rows of one task's range.

use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, UInt64Array, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, CardinalityEffect, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::super::run::SearchState;
use super::super::spec::TopK;
use super::super::stream::search;
use super::super::top_k::{VectorTopKExec, constant, ranker};
use super::{counts, first_partition, partial_schema};
use crate::vector::vector_type;

/// Searches all partitions of its task together, with one threshold, and returns the best rows and
/// the partitions' numbers of rows (see [`super`]). One output partition.
#[derive(Debug)]
pub struct PartialTopKExec {
    input: Arc<dyn ExecutionPlan>,
    top_k: Arc<TopK>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl PartialTopKExec {
    /// Returns the first part of a search, over an input with the columns of the search's.
    ///
    /// # Errors
    /// A query that cannot be evaluated.
    pub fn of(whole: &VectorTopKExec, input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        let whole = whole.top_k();
        let mut columns = whole.columns.clone();
        columns.extend(whole.group_by.filter(|group| !columns.contains(group)));
        let query = Arc::new(Literal::new(constant(&whole.query)?));
        Self::try_new(input, TopK { columns, query, output: Vec::new(), ..whole.clone() })
    }

    /// Returns a part of a search, whose output is empty and whose query is a literal.
    ///
    /// # Errors
    /// Ordinals that the input does not have, or a column that holds no vectors.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, top_k: TopK) -> Result<Self> {
        let schema = input.schema();
        let mut read = top_k.columns.iter().copied().chain(top_k.group_by).chain([top_k.vector]);
        let columns = schema.fields().len();
        if let Some(missing) = read.find(|column| *column >= columns) {
            return plan_err!("a part of a search: expected one of {columns} columns, got column {missing}");
        }
        if vector_type(schema.field(top_k.vector).data_type()).is_none() {
            let got = schema.field(top_k.vector).data_type();
            return plan_err!("a part of a search: expected a column of vectors, got {got}");
        }
        if top_k.group_by.is_some_and(|group| !top_k.columns.contains(&group)) {
            return plan_err!("a part of a search: expected the group's column among its columns");
        }
        let fields = top_k.columns.iter().map(|column| Arc::clone(&schema.fields()[*column]));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(partial_schema(fields)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { input, top_k: Arc::new(top_k), properties: Arc::new(properties), metrics })
    }

    /// Returns the same search with another form of its predicate.
    pub fn with_predicate(self, predicate: Option<Arc<dyn PhysicalExpr>>) -> Self {
        Self { top_k: Arc::new(TopK { predicate, ..self.top_k.as_ref().clone() }), ..self }
    }

    /// The input.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// The specification of the search.
    pub fn top_k(&self) -> &TopK {
        &self.top_k
    }
}

impl DisplayAs for PartialTopKExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let input = self.input.schema();
        let column = input.field(self.top_k.vector).name();
        write!(f, "PartialTopKExec: metric={}, column={column}, k={}", self.top_k.scoring.metric(), self.top_k.k)?;
        if let Some(group) = self.top_k.group_by {
            write!(f, ", group_by={}", input.field(group).name())?;
        }
        self.top_k.predicate.as_ref().map_or(Ok(()), |predicate| write!(f, ", filter={predicate}"))
    }
}

impl ExecutionPlan for PartialTopKExec {
    crate::one_child_plan!(
        PartialTopKExec,
        input,
        |self, input| Self::try_new(input, self.top_k.as_ref().clone())?,
        [&self.top_k.query].into_iter().chain(&self.top_k.predicate)
    );

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("PartialTopKExec has one partition, got {partition}");
        }
        let column = self.input.schema().field(self.top_k.vector).name().clone();
        let state = SearchState {
            input: Arc::clone(&self.input),
            top_k: Arc::clone(&self.top_k),
            schema: self.schema(),
            context,
            column,
            filter_us: MetricBuilder::new(&self.metrics).counter("filter_us", 0),
            fetch_us: MetricBuilder::new(&self.metrics).counter("fetch_us", 0),
            chunks_pruned: MetricBuilder::new(&self.metrics).counter("chunks_pruned", 0),
            metrics: self.metrics.clone(),
            executed: Arc::new(Mutex::new(None)),
        };
        let batches = stream::once(execute(state)).map_ok(|batches| stream::iter(batches).map(Ok)).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }
}

async fn execute(state: SearchState) -> Result<[RecordBatch; 2]> {
    let ranker = ranker(&state)?;
    let state = Arc::new(state);
    let first = first_partition(&state.context, state.input.output_partitioning().partition_count())?;
    let best = search(&state, ranker, first).await?;
    let entries = best.entries();
    state.publish(best.report().cloned(), entries.len());
    let mut columns = best.columns()?;
    columns.push(Arc::new(entries.iter().map(|entry| entry.distance).collect::<Float64Array>()));
    columns.push(Arc::new(UInt64Array::from_iter_values(entries.iter().map(|entry| entry.position))) as ArrayRef);
    columns.push(new_null_array(&DataType::UInt64, entries.len()));
    columns.push(new_null_array(&DataType::Utf8, entries.len()));
    let schema: &SchemaRef = &state.schema;
    let found = RecordBatch::try_new(Arc::clone(schema), columns)?;
    Ok([found, counts(schema, first, best.input_rows(), best.report())?])
}
