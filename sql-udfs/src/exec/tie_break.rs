//! `TieBreakExec`: appends to its input the columns that order rows of equal distance.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::StreamExt;

use super::stream::ORDINAL_BITS;

/// The order of rows of equal distance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TieBreak {
    /// By position: each partition follows the one before.
    Position,
    /// By columns of the input.
    Columns(Vec<usize>),
}

/// Adds the columns that break ties to its input.
#[derive(Debug)]
pub struct TieBreakExec {
    input: Arc<dyn ExecutionPlan>,
    by: TieBreak,
    properties: Arc<PlanProperties>,
}

impl TieBreakExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, by: TieBreak) -> Self {
        let columns = input.schema();
        let mut fields: Vec<Arc<Field>> = columns.fields().iter().cloned().collect();
        let added = |data_type, is_nullable| Arc::new(Field::new("__tie", data_type, is_nullable));
        match &by {
            TieBreak::Position => fields.push(added(DataType::UInt64, false)),
            TieBreak::Columns(keys) => fields.extend(keys.iter().map(|key| {
                let field = columns.field(*key);
                added(field.data_type().clone(), field.is_nullable())
            })),
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, by, properties: Arc::new(properties) }
    }

    /// The input.
    pub(crate) fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }
}

impl DisplayAs for TieBreakExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.by {
            TieBreak::Position => f.write_str("TieBreakExec: by=position"),
            TieBreak::Columns(columns) => {
                let schema = self.input.schema();
                let names: Vec<&str> = columns.iter().map(|column| schema.field(*column).name().as_str()).collect();
                write!(f, "TieBreakExec: by=[{}]", names.join(", "))
            }
        }
    }
}

impl ExecutionPlan for TieBreakExec {
    crate::one_child_plan!(TieBreakExec, input, |self, input| Self::new(input, self.by.clone()));

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (by, schema) = (self.by.clone(), self.schema());
        let mut position = (partition as u64) << ORDINAL_BITS;
        let batches = self.input.execute(partition, context)?.map(move |batch| {
            let batch = batch?;
            let rows = batch.num_rows();
            let mut columns = batch.columns().to_vec();
            match &by {
                TieBreak::Position => {
                    let next = position + rows as u64;
                    columns.push(Arc::new(UInt64Array::from_iter_values(position..next)) as ArrayRef);
                    position = next;
                }
                TieBreak::Columns(keys) => columns.extend(keys.iter().map(|key| Arc::clone(batch.column(*key)))),
            }
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = inputs[0].num_rows;
        Ok(Arc::new(statistics))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
