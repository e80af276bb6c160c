//! Searches in two parts. The partial operator runs in each of several tasks, over a range of the
//! rows, and returns the best rows of its range; the final operator merges the rows of all tasks.
//!
//! A position has the number of the row's partition over all tasks, so that the partitions of
//! consecutive tasks follow each other as those of one scan do: ties are broken as by a search in
//! one part.
//!
//! The rows of a partial operator have the columns that the output needs, then `value`, `position`,
//! `rows` and `report`. A row in which `rows` is not NULL is no row of the result: it has the number
//! of rows of one partition, and the first one of a task has the task's report.

mod join;
mod merge_join;
mod merge_top_k;
mod report;
#[cfg(test)]
mod tests;
mod top_k;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::common::{Result, internal_err};
use datafusion::execution::TaskContext;
use vexact_kernel::Report;

pub use join::PartialJoinExec;
pub use merge_join::MergeJoinExec;
pub use merge_top_k::MergeTopKExec;
pub use top_k::PartialTopKExec;

use super::stream::{ORDINAL_BITS, ordinal};
use report::TaskReport;

/// Maximum number of partitions of all tasks together.
const MAX_PARTITIONS: usize = 1 << (u64::BITS - ORDINAL_BITS);

/// The number of a task, counted from 0: an extension of the task's `SessionConfig`. The partitions
/// of a task follow those of the tasks before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskIndex(pub usize);

/// Returns the number of a task's first partition over all tasks.
fn first_partition(context: &TaskContext, partitions: usize) -> Result<usize> {
    let task = context.session_config().get_extension::<TaskIndex>().map_or(0, |index| index.0);
    match (task + 1).checked_mul(partitions) {
        Some(end) if end <= MAX_PARTITIONS => Ok(task * partitions),
        _ => internal_err!("a search has at most {MAX_PARTITIONS} partitions, got task {task} of {partitions} each"),
    }
}

/// Returns the schema of the rows of a partial operator.
fn partial_schema(columns: impl Iterator<Item = Arc<Field>>) -> SchemaRef {
    // The rows that are no rows of the result have NULL in all columns.
    let mut fields: Vec<Field> = columns.map(|field| field.as_ref().clone().with_nullable(true)).collect();
    fields.push(Field::new("value", DataType::Float64, true));
    fields.push(Field::new("position", DataType::UInt64, false));
    fields.push(Field::new("rows", DataType::UInt64, true));
    fields.push(Field::new("report", DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

/// Returns the rows of a partial operator that have the numbers of rows of its partitions, which
/// are counted from `first`, and its report.
fn counts(schema: &SchemaRef, first: usize, rows: &[u64], report: Option<&Report>) -> Result<RecordBatch> {
    let own = schema.fields().len() - 3;
    let mut columns: Vec<ArrayRef> =
        schema.fields()[..own].iter().map(|field| new_null_array(field.data_type(), rows.len())).collect();
    let position = |partition: usize| ((first + partition) as u64) << ORDINAL_BITS;
    columns.push(Arc::new(UInt64Array::from_iter_values((0..rows.len()).map(position))));
    columns.push(Arc::new(UInt64Array::from(rows.to_vec())));
    let report = report.map(|report| TaskReport::of(report).to_string());
    let reports: StringArray = (0..rows.len()).map(|row| report.as_deref().filter(|_| row == 0)).collect();
    columns.push(Arc::new(reports));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// The numbers of rows of all partitions, and the reports of all tasks.
#[derive(Debug, Default)]
struct Counts {
    rows: BTreeMap<u64, u64>,
    reports: Vec<TaskReport>,
}

impl Counts {
    /// Takes the counts and reports of a batch of a partial operator. Returns the ordinals of the
    /// other rows, which are rows of the result.
    fn take(&mut self, batch: &RecordBatch) -> Result<UInt64Array> {
        let [.., positions, rows, reports] = batch.columns() else {
            return internal_err!("the rows of a part of a search have at least 3 columns");
        };
        let (positions, rows) = (positions.as_primitive::<UInt64Type>(), rows.as_primitive::<UInt64Type>());
        let reports = reports.as_string::<i32>();
        let mut found = Vec::new();
        for row in 0..batch.num_rows() {
            if rows.is_null(row) {
                found.push(row as u64);
                continue;
            }
            self.rows.insert(positions.value(row) >> ORDINAL_BITS, rows.value(row));
            if reports.is_valid(row) {
                self.reports.push(reports.value(row).parse()?);
            }
        }
        Ok(found.into())
    }

    /// Returns the ordinals of rows in the whole input.
    fn ordinals(&self) -> impl Fn(u64) -> u64 + use<> {
        let mut first = 0;
        let before = self.rows.iter().map(|(partition, rows)| {
            let start = first;
            first += rows;
            (*partition, start)
        });
        let before: BTreeMap<u64, u64> = before.collect();
        move |position| before.get(&(position >> ORDINAL_BITS)).copied().unwrap_or(0) + ordinal(position)
    }

    /// Returns the report of all tasks together: `planned` with their counts and times.
    fn report(&self, planned: Report) -> Report {
        let mut reports = self.reports.iter();
        let Some(first) = reports.next() else { return planned };
        let mut all = first.onto(planned.clone());
        for report in reports {
            all.add_rows(&report.onto(planned.clone()));
        }
        // The searches of all partitions run at the same time.
        Report { threads: Some(self.rows.len()), ..all }
    }
}
