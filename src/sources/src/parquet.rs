//! Parquet files: read as queries need them, row group by row group.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::catalog::TableProvider;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::errors::Result as ParquetResult;
use datafusion::parquet::file::reader::{ChunkReader, Length};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use vexact_core::error::Result;

use super::input::{Input, InputBytes};
use super::ipc::{check_unique, in_order};
use super::many::one_after_the_other;
use super::parquet_table::ParquetTable;
use super::scan::{Batches, FileTable, Records};
use super::{READ_ONLY, bad_file, file_url};

/// Parquet files of the same columns as a table. Nothing but their footers is read.
///
/// # Errors
/// A file that is not Parquet, two columns of one name, other columns than those of the first file.
pub async fn open(ctx: &SessionContext, inputs: &[Input]) -> Result<Arc<dyn TableProvider>> {
    let files = inputs.iter().map(ParquetFile::open).collect::<Result<Vec<_>>>()?;
    if inputs.iter().any(|input| input.is_pipe() || has_refused_name(input.path())) {
        let files = files.into_iter().map(|file| Arc::new(file) as Arc<dyn Records>).collect();
        return Ok(FileTable::read_only(one_after_the_other(inputs, files)?, READ_ONLY));
    }
    let [input] = inputs else { return Ok(Arc::new(ParquetTable::of_files(inputs, &files)?)) };
    // The metadata of the file says what types of other programs, and which column is an index.
    let options = ParquetReadOptions::default().file_extension("").skip_metadata(false);
    let frame = ctx.read_parquet(file_url(input.path())?, options).await;
    Ok(frame.map_err(|error| bad_file(input.path(), &error.strip_backtrace()))?.into_view())
}

/// Whether DataFusion's file store refuses a name: it ends in `#` and digits, as those of its own unfinished files do.
pub(super) fn has_refused_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once('#').is_some_and(|(_, suffix)| suffix.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A Parquet file that is read from its beginning to its end.
#[derive(Debug)]
pub(super) struct ParquetFile {
    input: Input,
    schema: SchemaRef,
}

impl ParquetFile {
    pub fn open(input: &Input) -> Result<Self> {
        let schema = Arc::clone(builder(input)?.schema());
        check_unique(input.path(), schema.fields())?;
        Ok(Self { input: input.clone(), schema })
    }
}

fn builder(input: &Input) -> Result<ParquetRecordBatchReaderBuilder<Chunks>> {
    let chunks = Chunks(match input.full_bytes("a Parquet file")? {
        InputBytes::File(file) => Arc::new(file),
        InputBytes::Copy { file, .. } => file,
    });
    let bad = |problem: &dyn std::fmt::Display| bad_file(input.path(), problem);
    check_footer(&chunks).map_err(|problem| bad(&problem))?;
    // The reader panics at a footer that contradicts itself (apache/arrow-rs#9705).
    match catch_unwind(AssertUnwindSafe(|| ParquetRecordBatchReaderBuilder::try_new(chunks))) {
        Ok(opened) => opened.map_err(|error| bad(&error)),
        Err(_) => Err(bad(&"the Parquet file is damaged: its footer contradicts itself")),
    }
}

/// Refuses a file whose footer is not within it, for which the reader would allocate what the footer says.
fn check_footer(file: &Chunks) -> Result<(), String> {
    const MARK: u64 = 4;
    let len = file.len();
    let Some(room) = len.checked_sub(3 * MARK) else {
        return Err(format!("Invalid Parquet file: expected a footer, got a file of {len} bytes"));
    };
    let end = file.get_bytes(len - 2 * MARK, 8).map_err(|error| error.to_string())?;
    let (length, mark) = end.split_at(4);
    if mark != b"PAR1" && mark != b"PARE" {
        return Err("Invalid Parquet file: expected PAR1 at its end, got other bytes: it may be cut off".into());
    }
    let footer = u64::from(u32::from_le_bytes(length.try_into().unwrap_or_default()));
    match footer == 0 || footer > room {
        true => Err(format!("Invalid Parquet file: expected a footer of 1 to {room} bytes, got one of {footer}")),
        false => Ok(()),
    }
}

/// The bytes of a file, of which several parts are read at a time.
struct Chunks(Arc<File>);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }
}

impl ChunkReader for Chunks {
    type T = InputBytes;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(InputBytes::Copy { file: Arc::clone(&self.0), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let mut bytes = vec![0; length];
        std::io::Read::read_exact(&mut self.get_read(start)?, &mut bytes)?;
        Ok(bytes.into())
    }
}

impl Records for ParquetFile {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn read(&self, columns: &[usize], batch_rows: usize) -> Result<Batches> {
        let builder = builder(&self.input)?;
        let mut read = columns.to_vec();
        read.sort_unstable();
        read.dedup();
        let order = columns.iter().filter_map(|column| read.binary_search(column).ok()).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), read);
        let reader = builder.with_projection(mask).with_batch_size(batch_rows).build();
        let reader = reader.map_err(|error| bad_file(self.input.path(), &error))?;
        Ok(in_order(self.input.path().into(), reader, order, batch_rows))
    }
}
