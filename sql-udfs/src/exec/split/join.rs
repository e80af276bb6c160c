//! `PartialJoinExec`: for each query its closest rows in one task's range.

use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, UInt64Array, new_empty_array, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{StreamExt, TryStreamExt, stream};
use vexact_kernel::Report;

use super::super::join::run::{Found, SearchState};
use super::super::join::stream::search;
use super::super::join::{Join, JoinColumn, VectorJoinExec};
use super::{counts, first_partition, partial_schema};
use crate::config::VexactOptions;
use crate::vector::vector_type;

/// Searches its task's rows for all queries, which it holds. Its rows have `columns` of the searched
/// input and `query`, the number of a query among the valid ones (see [`super`]). One output
/// partition.
#[derive(Debug)]
pub struct PartialJoinExec {
    /// One column: the query vectors.
    queries: RecordBatch,
    searched: Arc<dyn ExecutionPlan>,
    join: Arc<Join>,
    columns: Vec<usize>,
    properties: Arc<PlanProperties>,
}

/// Returns the columns of the searched input that a join returns.
pub(super) fn found_columns(join: &Join) -> Vec<usize> {
    let mut columns: Vec<usize> = join
        .columns
        .iter()
        .filter_map(|column| match column {
            JoinColumn::Found(column) => Some(*column),
            _ => None,
        })
        .collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

impl PartialJoinExec {
    /// Returns the first part of a join with the rows of its queries' input, over a searched input
    /// with the columns of the join's.
    ///
    /// # Errors
    /// A column that holds no vectors.
    pub fn of(whole: &VectorJoinExec, queries: &RecordBatch, searched: Arc<dyn ExecutionPlan>) -> Result<Self> {
        let whole = whole.join();
        let columns = found_columns(whole);
        let join = Join { vectors: (0, whole.vectors.1), columns: Vec::new(), ..whole.clone() };
        Self::try_new(queries.project(&[whole.vectors.0])?, searched, join, columns)
    }

    /// Returns a part of a join; `queries` has the vectors alone.
    ///
    /// # Errors
    /// Ordinals that an input does not have, or a column that holds no vectors.
    pub fn try_new(
        queries: RecordBatch,
        searched: Arc<dyn ExecutionPlan>,
        join: Join,
        columns: Vec<usize>,
    ) -> Result<Self> {
        let schema = searched.schema();
        let all = schema.fields().len();
        if let Some(missing) = columns.iter().chain([&join.vectors.1]).find(|column| **column >= all) {
            return plan_err!("a part of a join: expected one of {all} columns, got column {missing}");
        }
        let is_vector = |data_type: &DataType| vector_type(data_type).is_some();
        if queries.num_columns() != 1 || join.vectors.0 != 0 || !is_vector(queries.column(0).data_type()) {
            return plan_err!("a part of a join: expected one column of query vectors, got {}", queries.schema());
        }
        if !is_vector(schema.field(join.vectors.1).data_type()) {
            let got = schema.field(join.vectors.1).data_type();
            return plan_err!("a part of a join: expected a column of vectors, got {got}");
        }
        let found = columns.iter().map(|column| Arc::clone(&schema.fields()[*column]));
        let query = Arc::new(Field::new("query", DataType::UInt64, true));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(partial_schema(found.chain([query]))),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self { queries, searched, join: Arc::new(join), columns, properties: Arc::new(properties) })
    }

    /// The query vectors.
    pub fn queries(&self) -> &RecordBatch {
        &self.queries
    }

    /// The searched input.
    pub fn searched(&self) -> &Arc<dyn ExecutionPlan> {
        &self.searched
    }

    /// The specification of the join.
    pub fn join(&self) -> &Join {
        &self.join
    }

    /// The columns of the searched input that it returns.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }
}

impl DisplayAs for PartialJoinExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let text = |value: Option<String>| value.unwrap_or_else(|| "none".into());
        let (k, radius) = (text(self.join.k.map(|k| k.to_string())), text(self.join.radius.map(|r| r.to_string())));
        let queries = self.queries.num_rows();
        write!(f, "PartialJoinExec: metric={}, k={k}, radius={radius}, queries={queries}", self.join.metric)
    }
}

impl ExecutionPlan for PartialJoinExec {
    crate::one_child_plan!(
        PartialJoinExec,
        searched,
        |self, searched| Self::try_new(
            self.queries.clone(),
            searched,
            self.join.as_ref().clone(),
            self.columns.clone()
        )?,
        &self.join.predicate
    );

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("PartialJoinExec has one partition, got {partition}");
        }
        let state = SearchState {
            join: Arc::clone(&self.join),
            schema: self.schema(),
            options: VexactOptions::of(context.session_config().options()),
            context: Arc::clone(&context),
            executed: Arc::new(Mutex::new(None)),
        };
        let (queries, searched, columns) = (self.queries.clone(), Arc::clone(&self.searched), self.columns.clone());
        let batches = stream::once(execute(state, queries, searched, columns, context));
        let batches = batches.map_ok(|batches| stream::iter(batches).map(Ok)).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

async fn execute(
    state: SearchState,
    queries: RecordBatch,
    searched: Arc<dyn ExecutionPlan>,
    columns: Vec<usize>,
    context: Arc<TaskContext>,
) -> Result<[RecordBatch; 2]> {
    let memory = MemoryConsumer::new("VectorJoinExec").register(context.memory_pool());
    memory.try_grow(queries.get_array_memory_size())?;
    let first = first_partition(&context, searched.output_partitioning().partition_count())?;
    let (_, vectors) = state.queries(&queries)?;
    let pairs = search(&state, &searched, &context, memory, &vectors, Some(first)).await?;
    let schema: &SchemaRef = &state.schema;
    let places: Vec<(usize, usize)> = pairs.found.iter().flatten().map(|found| found.place).collect();
    let mut arrays = Vec::with_capacity(schema.fields().len());
    for (ordinal, column) in columns.iter().enumerate() {
        let chunks: Vec<&dyn Array> = pairs.rows.iter().map(|rows| rows.column(*column).as_ref()).collect();
        arrays.push(match places.is_empty() {
            true => new_empty_array(schema.field(ordinal).data_type()),
            false => interleave(&chunks, &places)?,
        });
    }
    let numbers = pairs.found.iter().enumerate();
    let numbers = numbers.flat_map(|(query, found)| std::iter::repeat_n(query as u64, found.len()));
    let all = || pairs.found.iter().flatten();
    arrays.push(Arc::new(UInt64Array::from_iter_values(numbers)) as ArrayRef);
    arrays.push(Arc::new(Float64Array::from_iter_values(all().map(|found: &Found| found.score))));
    arrays.push(Arc::new(UInt64Array::from_iter_values(all().map(|found| found.position))));
    arrays.push(new_null_array(&DataType::UInt64, places.len()));
    arrays.push(new_null_array(&DataType::Utf8, places.len()));
    let found = RecordBatch::try_new(Arc::clone(schema), arrays)?;
    let report: Option<Report> = state.executed.lock().ok().and_then(|report| report.clone());
    Ok([found, counts(schema, first, &pairs.input_rows, report.as_ref())?])
}
