//! `MergeTopKExec`: the best of the rows that the tasks of a search return.

use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Float64Type, SchemaRef, UInt64Type};
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, execute_stream};
use futures::StreamExt;
use futures::stream::once;
use vexact_kernel::{FilterReport, Report, Tier};

use super::super::ranked::{Entry, Ranker};
use super::super::run::{FILTER, evaluate};
use super::super::spec::TopK;
use super::super::stream::{ACCELERATION, Best, GROUPED};
use super::super::top_k::{VectorTopKExec, constant};
use super::Counts;
use crate::vector::vector_of_scalar;

/// Merges the rows of [`super::PartialTopKExec`] of all tasks and evaluates the search's output.
#[derive(Debug, Clone)]
pub struct MergeTopKExec {
    input: Arc<dyn ExecutionPlan>,
    top_k: Arc<TopK>,
    /// The column of the input whose values group the rows.
    group_by: Option<usize>,
    /// Schema over which the output is evaluated.
    gathered: SchemaRef,
    planned: Report,
    /// Name of the vector column.
    column: String,
    properties: Arc<PlanProperties>,
    executed: Arc<Mutex<Option<Report>>>,
}

impl MergeTopKExec {
    /// Returns the last part of a search, over the rows of the first part. When it has run, `whole`
    /// has its report.
    ///
    /// # Errors
    /// Ordinals of columns that the search's input does not have.
    pub fn of(whole: &VectorTopKExec, input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        let top_k = whole.top_k();
        let group_by = top_k.group_by.map(|group| {
            let is_group = |column: &usize| *column == group;
            top_k.columns.iter().position(is_group).unwrap_or(top_k.columns.len())
        });
        let searched = whole.children()[0].schema();
        Ok(Self {
            input,
            top_k: Arc::new(top_k.clone()),
            group_by,
            gathered: top_k.gathered_schema(&searched)?,
            planned: whole.planned(Tier::default()),
            column: searched.field(top_k.vector).name().clone(),
            properties: Arc::clone(whole.properties()),
            executed: Arc::clone(whole.executed()),
        })
    }

    async fn merge(self, context: Arc<TaskContext>) -> Result<RecordBatch> {
        let top_k = &self.top_k;
        let ranker = Ranker {
            bounds: None,
            scoring: top_k.scoring,
            query: vector_of_scalar(&constant(&top_k.query)?)?,
            k: top_k.k,
            negative_nans_first: top_k.negative_nans_first,
            nulls_first: top_k.nulls_first,
            tier: Default::default(),
            threads: 1,
            column: self.column.clone(),
        };
        // An invalid query is rejected before a task is asked for rows.
        ranker.search(None)?;
        let own = self.input.schema().fields().len().saturating_sub(4);
        let held: Vec<usize> = (0..own).collect();
        let schema = Arc::new(self.input.schema().project(&held)?);
        let group_type = self.group_by.map(|column| schema.field(column).data_type().clone());
        let mut best = Best::try_new(top_k.k, schema, group_type.as_ref(), &context)?;
        let mut counts = Counts::default();
        let mut batches = execute_stream(Arc::clone(&self.input), context)?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let found = take_record_batch(&batch, &counts.take(&batch)?)?;
            if found.num_rows() == 0 {
                continue;
            }
            let values = found.column(own).as_primitive::<Float64Type>();
            let positions = found.column(own + 1).as_primitive::<UInt64Type>();
            let rows = found.project(&held)?;
            let groups = best.number(&rows, self.group_by)?;
            let entry = |row: usize| {
                let group = groups.as_ref().map_or(0, |groups| groups[row]);
                let value = (!arrow::array::Array::is_null(values, row)).then(|| values.value(row));
                (group, ranker.entry(value, positions.value(row)))
            };
            let entries: Vec<(u32, Entry)> = (0..rows.num_rows()).map(entry).collect();
            best.add(&entries, rows)?;
        }
        best.finish();
        let mut columns = best.columns()?;
        columns.truncate(top_k.columns.len());
        let schemas = (Arc::clone(&self.gathered), self.properties.eq_properties.schema());
        let output = evaluate(top_k, schemas, columns, &best.entries(), counts.ordinals())?;
        self.publish(&counts, output.num_rows());
        Ok(output)
    }

    fn publish(&self, counts: &Counts, returned_rows: usize) {
        let report = counts.report(self.planned.clone());
        let filter = top_filter(&self.top_k).map(|filter| FilterReport {
            input_rows: Some(counts.rows.values().sum()),
            returned_rows: Some(returned_rows as u64),
            ..filter
        });
        let acceleration = if self.group_by.is_some() { GROUPED } else { ACCELERATION };
        if let Ok(mut executed) = self.executed.lock() {
            // Without rows there was no search, as in one part.
            let has_run = !counts.reports.is_empty();
            *executed = has_run.then_some(Report { filter, acceleration, radius: None, ..report });
        }
    }
}

fn top_filter(top_k: &TopK) -> Option<FilterReport> {
    top_k.predicate.as_ref().map(|_| FilterReport { input_rows: None, execution: FILTER, returned_rows: None })
}

impl DisplayAs for MergeTopKExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let names: Vec<&str> = self.top_k.output.iter().map(|output| output.alias.as_str()).collect();
        write!(f, "MergeTopKExec: k={}, output=[{}]", self.top_k.k, names.join(", "))
    }
}

impl ExecutionPlan for MergeTopKExec {
    crate::one_child_plan!(
        MergeTopKExec,
        input,
        |self, input| Self { input, ..self.as_ref().clone() },
        self.top_k.output.iter().map(|output| &output.expr)
    );

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("MergeTopKExec has one partition, got {partition}");
        }
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), once(self.clone().merge(context)))))
    }

    fn fetch(&self) -> Option<usize> {
        self.top_k.group_by.is_none().then_some(self.top_k.k)
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }
}
