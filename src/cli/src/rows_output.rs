//! Rows alone on the standard output: as CSV, or as an Arrow IPC stream.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::writer::StreamWriter;
use vexact::sources::csv_write::CsvWriter;
use vexact::sources::row_file::RowFormat;
use vexact_core::error::{Error, Result};

use super::answer::{Answer, Excerpt, Ran, Streamed, Table, Written};
use super::failure::{During, Failure};

impl Answer {
    /// The rows of an answer, and how many there are if it has but the first of them.
    fn rows(&self) -> Option<(&Table, Option<u64>)> {
        let excerpt = |excerpt: &Excerpt| excerpt.truncated.then_some(excerpt.row_count);
        Some(match self {
            Self::Queried { table, .. } | Self::Found { table, .. } => (table, None),
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

    /// The rows as CSV text or as an Arrow stream.
    pub fn rows_output(&self, form: RowFormat) -> Result<Vec<u8>, Failure> {
        if let Self::Text(text) = self {
            return Ok(text.clone().into_bytes());
        }
        let Some((table, more)) = self.rows() else {
            return Err(Failure::usage(format!("--format {}: expected a command that answers with rows", form.name())));
        };
        if let Some(count) = more {
            let shown: usize = table.batches().iter().map(RecordBatch::num_rows).sum();
            super::output::remark(format_args!("first {shown} of {count} rows"));
        }
        written(table.batches(), form).during("output")
    }
}

fn written(batches: &[RecordBatch], form: RowFormat) -> Result<Vec<u8>> {
    let schema = batches.first().map_or_else(|| Schema::empty().into(), RecordBatch::schema);
    form.check_schema(&schema)?;
    if form == RowFormat::Csv {
        let mut writer = CsvWriter::begin(Vec::new(), Path::new("stdout"), &schema, b',', true)?;
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        return Ok(writer.into_inner());
    }
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).map_err(Error::arrow)?;
    batches.iter().try_for_each(|batch| writer.write(batch)).map_err(Error::arrow)?;
    writer.finish().and_then(|()| writer.into_inner()).map_err(Error::arrow)
}
