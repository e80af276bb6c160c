//! The first rows of an artifact, as the index keeps them: an Arrow stream.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use vexact_core::error::{Error, Result};
use vexact_core::rows::concat;

/// The first rows, and how many there are in all.
#[derive(Debug, Clone)]
pub struct Preview {
    rows: RecordBatch,
    row_count: u64,
}

impl Preview {
    /// Maximum number of rows.
    pub const MAX_ROWS: usize = 50;
    /// Maximum size as an Arrow stream, in bytes.
    pub const MAX_BYTES: usize = 200 * 1024;

    /// Creates a preview from the first batches of the rows. They must have at least
    /// [`Self::MAX_ROWS`] rows, if there are that many.
    ///
    /// # Errors
    /// Batches of different schemas.
    pub fn new(schema: &SchemaRef, first: &[RecordBatch], row_count: u64) -> Result<Self> {
        let mut taken = 0;
        let mut slices = Vec::new();
        for batch in first {
            let wanted = batch.num_rows().min(Self::MAX_ROWS - taken);
            slices.push(batch.slice(0, wanted));
            taken += wanted;
        }
        let rows = without_views(&concat(schema, &slices)?)?;
        let mut preview = Self { rows, row_count };
        // The rows are halved: their size is not known before they are written.
        while preview.stored()?.len() > Self::MAX_BYTES && preview.rows.num_rows() > 0 {
            preview = preview.limited(preview.rows.num_rows() / 2);
        }
        Ok(preview)
    }

    /// The rows.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// Returns the total number of rows.
    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    /// Returns true if there are more rows than these.
    pub fn is_truncated(&self) -> bool {
        (self.rows.num_rows() as u64) < self.row_count
    }

    /// Returns the first `max_rows` of the rows.
    pub fn limited(&self, max_rows: usize) -> Self {
        let rows = match max_rows {
            0 => RecordBatch::new_empty(self.rows.schema()),
            _ => self.rows.slice(0, self.rows.num_rows().min(max_rows)),
        };
        Self { rows, row_count: self.row_count }
    }

    pub(super) fn stored(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &self.rows.schema()).map_err(Error::arrow)?;
        writer.write(&self.rows).and_then(|()| writer.finish()).map_err(Error::arrow)?;
        drop(writer);
        Ok(bytes)
    }

    pub(super) fn of_stored(bytes: &[u8], row_count: u64) -> Result<Self> {
        let reader = StreamReader::try_new(bytes, None).map_err(Error::arrow)?;
        let schema = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(Error::arrow)?;
        Ok(Self { rows: concat(&schema, &batches)?, row_count })
    }
}

/// Converts views to the types that they view: a slice of a view would be written with the text of
/// all rows.
fn without_views(rows: &RecordBatch) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(rows.num_columns());
    let mut columns = Vec::with_capacity(rows.num_columns());
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let plain = match field.data_type() {
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            _ => {
                fields.push(Arc::clone(field));
                columns.push(Arc::clone(column));
                continue;
            }
        };
        columns.push(cast(column, &plain).map_err(Error::arrow)?);
        fields.push(Arc::new(Field::new(field.name(), plain, field.is_nullable())));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(Error::arrow)
}
