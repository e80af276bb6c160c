//! One execution of a search: its inputs and its report.

use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::nullif;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use vexact_kernel::{FilterExecution, KernelError, Report, to_fixed_size_list};

use super::ranked::{Entry, external, on_column};
use super::spec::TopK;

/// The evaluation of predicates in reports.
pub(super) const FILTER: FilterExecution = FilterExecution::PredicateToBitmap;

/// State of one execution.
pub(super) struct SearchState {
    pub input: Arc<dyn ExecutionPlan>,
    pub top_k: Arc<TopK>,
    pub schema: SchemaRef,
    pub context: Arc<TaskContext>,
    pub column: String,
    /// Microseconds spent on the predicate, and on the winners' columns.
    pub filter_us: Count,
    pub fetch_us: Count,
    /// Number of chunks that the predicate pruned by their bounds.
    pub chunks_pruned: Count,
    pub metrics: ExecutionPlanMetricsSet,
    pub executed: Arc<Mutex<Option<Report>>>,
}

impl SearchState {
    /// The output rows from the winners' needed columns.
    pub fn output(
        &self,
        columns: Vec<ArrayRef>,
        entries: &[Entry],
        ordinal: impl Fn(u64) -> u64,
    ) -> Result<RecordBatch> {
        let gathered = self.top_k.gathered_schema(&self.input.schema())?;
        evaluate(&self.top_k, (gathered, &self.schema), columns, entries, ordinal)
    }

    /// Publishes the report: as metrics for EXPLAIN ANALYZE, as a whole for `report`.
    pub fn publish(&self, report: Option<Report>, output_rows: usize) {
        let count = |name: &'static str, n: u64| MetricBuilder::new(&self.metrics).counter(name, 0).add(n as usize);
        MetricBuilder::new(&self.metrics).output_rows(0).add(output_rows);
        if let Some(execution) = report.as_ref().and_then(|report| report.execution) {
            count("rows_scanned", execution.rows_scanned);
            count("rows_pruned", execution.pruned);
            count("rows_refined", execution.refined);
            count("bytes_read", execution.bytes_read);
            count("scan_us", execution.scan_us);
            count("refine_us", execution.refine_us);
        }
        if let Some(skipped) = report.as_ref().and_then(|report| report.skipped_rows) {
            count("rows_skipped", skipped);
        }
        if let Ok(mut executed) = self.executed.lock() {
            *executed = report;
        }
    }
}

/// Evaluates the output of a search over the columns, values and ordinals of its best rows.
/// `schemas`: that of the output's input, and that of the output.
pub(super) fn evaluate(
    top_k: &TopK,
    (gathered, schema): (SchemaRef, &SchemaRef),
    columns: Vec<ArrayRef>,
    entries: &[Entry],
    ordinal: impl Fn(u64) -> u64,
) -> Result<RecordBatch> {
    let value = |entry: &Entry| entry.distance.map(|distance| top_k.scoring.value(distance));
    let values: Float64Array = entries.iter().map(value).collect();
    let ordinals: UInt64Array = entries.iter().map(|entry| Some(ordinal(entry.position))).collect();
    let mut arrays = columns;
    arrays.push(Arc::new(values));
    arrays.push(Arc::new(ordinals));
    let options = RecordBatchOptions::new().with_row_count(Some(entries.len()));
    let gathered = RecordBatch::try_new_with_options(gathered, arrays, &options)?;
    let output = top_k.output.iter().map(|output| output.expr.evaluate(&gathered)?.into_array(entries.len()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), output.collect::<Result<_>>()?, &options)?)
}

/// An array of vectors as the kernel takes it. Rows that are not selected may have any length.
/// `first` is the ordinal of the array's first row in the input, for errors.
pub(super) fn vectors(
    array: &ArrayRef,
    column: &str,
    query: Option<&[f64]>,
    selection: Option<&BooleanBuffer>,
    first: u64,
) -> Result<ArrayRef> {
    if matches!(array.data_type(), DataType::FixedSizeList(..) | DataType::FixedSizeBinary(_)) {
        return Ok(Arc::clone(array));
    }
    let masked = match selection {
        Some(selection) => nullif(array, &BooleanArray::new(!selection, None))?,
        None => Arc::clone(array),
    };
    let refused = |error| on_column(column, error);
    let ordinal = |row: usize| first as usize + row;
    let list = match to_fixed_size_list(&masked, query.map(<[f64]>::len)) {
        Err(KernelError::RaggedRows { row, expected, got }) => match to_fixed_size_list(&masked, None) {
            // The rows are alike: the query is the odd one, or those of earlier batches are.
            Ok(_) => {
                let error = external(KernelError::DimensionMismatch { expected: got, got: expected });
                return Err(refused(if first == 0 { error } else { error.context(format!("row {}", ordinal(row))) }));
            }
            error => error,
        },
        list => list,
    };
    let list = list.map_err(|error| match error {
        KernelError::RaggedRows { row, expected, got } => KernelError::RaggedRows { row: ordinal(row), expected, got },
        other => other,
    });
    Ok(Arc::new(list.map_err(|error| refused(external(error)))?))
}
