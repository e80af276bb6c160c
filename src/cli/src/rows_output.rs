//! Rows alone on the standard output: as CSV, or as an Arrow IPC stream.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::ipc::writer::StreamWriter;
use vexact::sources::csv_write::CsvWriter;
use vexact::sources::row_file::RowFormat;
use vexact_core::error::{Error, Result};
use vexact_core::rows::{cell_text, unreadable_cells};

use super::answer::{Answer, Excerpt, Ran, Streamed, Table, Written};
use super::failure::{During, Failure};
use super::output::remark;

impl Answer {
    /// Returns the rows of an answer, and their total number if the answer has only the first of
    /// them.
    fn rows(&self) -> Option<(&Table, Option<u64>)> {
        let excerpt = |excerpt: &Excerpt| excerpt.truncated.then_some(excerpt.row_count);
        Some(match self {
            Self::Queried { table, .. }
            | Self::Found { table, .. }
            | Self::TextFound { table, .. }
            | Self::Rows { table, .. } => (table, None),
            Self::FileQueried { rows, written, .. } | Self::FileSearched { rows, written, .. } => {
                (rows, written.as_ref().filter(|written| written.truncated).map(|Written { row_count, .. }| *row_count))
            }
            Self::Streamed(Streamed { rows, truncated, rows_written, .. }) => {
                (rows, truncated.then_some(*rows_written))
            }
            Self::Ran(Ran { result, .. }) => return result.rows(),
            Self::RunResult { result, .. } => (&result.table, excerpt(result)),
            Self::Previewed { preview, .. } => (&preview.table, excerpt(preview)),
            _ => return None,
        })
    }

    /// Returns the rows as CSV text or as an Arrow stream.
    pub fn rows_output(&self, form: RowFormat) -> Result<Vec<u8>, Failure> {
        if let Self::Text(text) = self {
            return Ok(text.clone().into_bytes());
        }
        if let Self::Done {} | Self::Executed { .. } = self {
            return Ok(Vec::new());
        }
        let Some((table, more)) = self.rows() else {
            return Err(Failure::usage(format!("--format {}: expected a command that answers with rows", form.name())));
        };
        if let Some(count) = more {
            let shown: usize = table.batches().iter().map(RecordBatch::num_rows).sum();
            remark(format_args!("first {shown} of {count} rows"));
        }
        written(table.batches(), form).during("output")
    }
}

fn written(batches: &[RecordBatch], form: RowFormat) -> Result<Vec<u8>> {
    let schema = batches.first().map_or_else(|| Schema::empty().into(), RecordBatch::schema);
    form.check_schema(&schema)?;
    if form == RowFormat::Csv {
        let batches = batches.iter().map(readable).collect::<Result<Vec<_>>>()?;
        let schema = batches.first().map_or(schema, RecordBatch::schema);
        let mut writer = CsvWriter::begin(Vec::new(), Path::new("stdout"), &schema, b',', true)?;
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        return Ok(writer.into_inner());
    }
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).map_err(Error::arrow)?;
    batches.iter().try_for_each(|batch| writer.write(batch)).map_err(Error::arrow)?;
    writer.finish().and_then(|()| writer.into_inner()).map_err(Error::arrow)
}

/// Replaces each value that has no text, such as a date beyond the calendar, with the text of the
/// error.
fn readable(batch: &RecordBatch) -> Result<RecordBatch> {
    let mut fields: Vec<FieldRef> = Vec::with_capacity(batch.num_columns());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
    for (place, field) in batch.schema().fields().iter().enumerate() {
        let unreadable = unreadable_cells(&[batch.project(&[place]).map_err(Error::arrow)?]);
        let column = batch.column(place);
        if unreadable.is_empty() {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
            continue;
        }
        remark(format_args!("values without a text: {}", unreadable.join("; ")));
        let text = |row| (!column.is_null(row)).then(|| cell_text(column, row));
        columns.push(Arc::new((0..batch.num_rows()).map(text).collect::<StringArray>()));
        fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(Error::arrow)
}
