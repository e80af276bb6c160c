//! File formats of a segment's rows: a row is read back bit for bit as it was written.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::writer::FileWriter;
use bytes::Bytes;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;

/// File format of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageFormat {
    /// Arrow IPC files, not compressed: the largest, and the fastest to open, because arrays use
    /// the bytes of the file in place.
    ArrowIpc,
    /// Parquet files, compressed.
    Parquet,
}

/// `arrow_ipc` or `parquet`, the values of `storage_mode`.
impl fmt::Display for StorageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ArrowIpc => "arrow_ipc",
            Self::Parquet => "parquet",
        })
    }
}

impl StorageFormat {
    /// The ending of the names of its files.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::ArrowIpc => "arrow",
            Self::Parquet => "parquet",
        }
    }

    pub(super) fn write(self, rows: &RecordBatch, out: &mut (dyn Write + Send)) -> io::Result<()> {
        match self {
            Self::ArrowIpc => write_arrow(rows, out).map_err(of_arrow),
            Self::Parquet => write_parquet(rows, out).map_err(of_parquet),
        }
    }

    /// Decodes the rows of a file whose checksum was verified; returns a description of the problem
    /// if they are not as expected.
    pub(super) fn read(self, content: Buffer, expected: &SchemaRef, rows: usize) -> Result<RecordBatch, String> {
        let batch = match self {
            Self::ArrowIpc => read_arrow(&content).map_err(|error| error.to_string())?,
            Self::Parquet => read_parquet(content, rows).map_err(|error| error.to_string())?,
        };
        if batch.schema_ref().fields() != expected.fields() {
            return Err(format!("expected the columns {}, got {}", listed(expected), listed(batch.schema_ref())));
        }
        if batch.num_rows() != rows {
            return Err(format!("expected {rows} rows, got {}", batch.num_rows()));
        }
        // One schema for all segments, and none of what a format adds to it.
        RecordBatch::try_new(Arc::clone(expected), batch.columns().to_vec()).map_err(|error| error.to_string())
    }
}

fn listed(schema: &SchemaRef) -> String {
    let optional = |is_nullable| if is_nullable { "" } else { " not null" };
    let columns = schema.fields().iter();
    let columns: Vec<_> = columns
        .map(|field| format!("{:?} {}{}", field.name(), field.data_type(), optional(field.is_nullable())))
        .collect();
    format!("({})", columns.join(", "))
}

fn of_arrow(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, error) => error,
        other => io::Error::other(other),
    }
}

fn of_parquet(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        other => io::Error::other(other),
    }
}

fn write_arrow(rows: &RecordBatch, out: &mut (dyn Write + Send)) -> Result<(), ArrowError> {
    let mut writer = FileWriter::try_new(out, rows.schema_ref())?;
    writer.write(rows)?;
    writer.finish()
}

fn read_arrow(content: &Buffer) -> Result<RecordBatch, ArrowError> {
    const TRAILER_BYTES: usize = 10;
    let wrong = |problem: &str| ArrowError::IpcError(problem.into());
    let trailer = content.last_chunk::<TRAILER_BYTES>().ok_or_else(|| wrong("expected an Arrow IPC file"))?;
    let footer_end = content.len() - TRAILER_BYTES;
    let footer_start = footer_end.checked_sub(read_footer_length(*trailer)?);
    let footer = footer_start.and_then(|start| content.get(start..footer_end));
    let footer = ipc::root_as_footer(footer.ok_or_else(|| wrong("expected the footer within the file"))?)
        .map_err(|error| ArrowError::IpcError(error.to_string()))?;
    let schema = footer.schema().ok_or_else(|| wrong("expected a schema"))?;
    let decoder = FileDecoder::new(Arc::new(fb_to_schema(schema)), footer.version());
    let blocks = footer.recordBatches().filter(|blocks| blocks.len() == 1);
    let block = *blocks.ok_or_else(|| wrong("expected one record batch"))?.get(0);
    let bytes = usize::try_from(block.bodyLength()).ok().zip(usize::try_from(block.metaDataLength()).ok());
    let bytes = bytes.and_then(|(body, metadata)| body.checked_add(metadata));
    let place = usize::try_from(block.offset()).ok().zip(bytes);
    let place = place.filter(|(start, bytes)| start.checked_add(*bytes).is_some_and(|end| end <= footer_end));
    let (start, bytes) = place.ok_or_else(|| wrong("expected the record batch within the file"))?;
    let batch = decoder.read_record_batch(&block, &content.slice_with_length(start, bytes))?;
    batch.ok_or_else(|| wrong("expected a record batch, got an empty message"))
}

fn write_parquet(rows: &RecordBatch, out: &mut (dyn Write + Send)) -> Result<(), ParquetError> {
    // Segments are read whole, so statistics for skipping rows would be useless. Dictionaries help
    // for texts; numbers rarely repeat, and vectors never and do not compress.
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(None);
    for field in rows.schema_ref().fields() {
        let name = field.name().clone();
        properties = match field.data_type() {
            DataType::Utf8 => properties.set_column_dictionary_enabled(ColumnPath::new(vec![name]), true),
            DataType::FixedSizeList(item, _) => {
                let path = ColumnPath::new(vec![name, "list".into(), item.name().clone()]);
                properties.set_column_compression(path, Compression::UNCOMPRESSED)
            }
            _ => properties,
        };
    }
    let mut writer = ArrowWriter::try_new(out, rows.schema(), Some(properties.build()))?;
    writer.write(rows)?;
    writer.close()?;
    Ok(())
}

/// A buffer as the owner of bytes.
struct Content(Buffer);

impl AsRef<[u8]> for Content {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn read_parquet(content: Buffer, rows: usize) -> Result<RecordBatch, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from_owner(Content(content)))?;
    let schema = Arc::clone(builder.schema());
    let mut batches: Vec<RecordBatch> = builder.with_batch_size(rows.max(1)).build()?.collect::<Result<_, _>>()?;
    match batches.len() {
        0 => Ok(RecordBatch::new_empty(schema)),
        1 => Ok(batches.remove(0)),
        _ => Ok(arrow::compute::concat_batches(&schema, &batches)?),
    }
}
