//! Parquet files, read on demand, row group by row group.

use std::io::Read;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::catalog::TableProvider;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::parquet::file::reader::{ChunkReader, Length};
use vexact_core::error::Result;

use super::hive;
use super::input::{Input, InputBytes, local_path};
use super::inputs::{PARQUET, Paths, is_pattern, local_files};
use super::ipc::{check_unique, in_order};
use super::many::one_after_the_other;
use super::object_stores::ObjectStores;
use super::parquet_dataset::{Declared, ParquetDataset};
use super::parquet_pages::{check_metadata, check_pages, chunk};
use super::parquet_sketch::{sketched, visible, without_sketches};
use super::parquet_table::ParquetTable;
use super::probe::Format;
use super::scan::{Batches, FileTable, Records};
use super::{READ_ONLY, bad_file};

/// Opens Parquet files of the same columns as a table. Only their footers are read.
///
/// # Errors
/// A file that is not Parquet, two columns of one name, other columns than those of the first file.
pub fn open(inputs: &[Input]) -> Result<Arc<dyn TableProvider>> {
    let files = inputs.iter().map(ParquetFile::open).collect::<Result<Vec<_>>>()?;
    if inputs.iter().any(|input| input.is_pipe() || has_refused_name(input.path())) {
        let files = files.into_iter().map(|file| Arc::new(file) as Arc<dyn Records>).collect();
        return Ok(FileTable::read_only(one_after_the_other(inputs, files)?, READ_ONLY));
    }
    Ok(Arc::new(ParquetTable::of_files(inputs, &files)?))
}

/// Opens Parquet files: paths of this machine, or URLs of one object store. Folders `name=value` are
/// columns of the files in them.
///
/// # Errors
/// As [`open`]; a failed request; files in several stores.
pub async fn open_paths(stores: &Arc<ObjectStores>, paths: Paths) -> Result<Arc<dyn TableProvider>> {
    if let Paths::Given(given) = &paths
        && (paths.is_remote() || is_partitioned(given))
    {
        return Ok(Arc::new(ParquetDataset::open(stores, given, Declared::default()).await?));
    }
    open(&paths.inputs(Format::Parquet)?)
}

/// Returns true if some Parquet files of paths on this machine are in folders `name=value` below
/// the folder or pattern that is given.
pub fn is_partitioned(paths: &[PathBuf]) -> bool {
    let has_partitions = |path: &PathBuf| {
        let Ok(path) = local_path(path) else { return false };
        (path.is_dir() || is_pattern(&path))
            && local_files(&path, &PARQUET)
                .is_ok_and(|files| files.iter().any(|(_, folders)| folders.split('/').any(hive::is_partition)))
    };
    paths.iter().any(has_partitions)
}

/// Returns true if DataFusion's file store rejects a name: it ends in `#` and digits, as the names
/// of the store's own unfinished files do.
pub(super) fn has_refused_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once('#').is_some_and(|(_, suffix)| suffix.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A Parquet file that is read sequentially.
#[derive(Debug)]
pub(super) struct ParquetFile {
    input: Input,
    schema: SchemaRef,
    /// Ordinals in the file of the columns of the schema, which has none of sketches.
    columns: Vec<usize>,
    /// Columns of vectors with a column of a sketch.
    sketched: Vec<String>,
}

impl ParquetFile {
    pub fn open(input: &Input) -> Result<Self> {
        let schema = Arc::clone(builder(input)?.0.schema());
        check_unique(input.path(), schema.fields())?;
        let (columns, sketched) = (visible(&schema), sketched(&schema));
        Ok(Self { input: input.clone(), schema: without_sketches(&schema), columns, sketched })
    }

    /// Returns the columns of vectors that have a column of a sketch.
    pub fn sketched_columns(&self) -> Vec<String> {
        self.sketched.clone()
    }

    /// Reads the footer of a file.
    ///
    /// # Errors
    /// A file that is not Parquet, or is damaged.
    pub fn metadata(input: &Input) -> Result<Arc<ParquetMetaData>> {
        Ok(Arc::clone(builder(input)?.0.metadata()))
    }

    /// Rejects damaged pages of the columns that are read.
    fn check_pages(
        &self,
        builder: &ParquetRecordBatchReaderBuilder<InputBytes>,
        bytes: &InputBytes,
        mask: &ProjectionMask,
    ) -> Result<()> {
        for group in builder.metadata().row_groups() {
            let columns = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
            for (_, column) in columns {
                let Some(pages) = chunk(column) else { continue };
                let read = |part: Range<u64>| {
                    let length = (part.end - part.start) as usize;
                    bytes.get_bytes(part.start, length).map_err(|error| error.to_string())
                };
                check_pages(column, pages, read).map_err(|problem| {
                    let problem = format!("the Parquet file is damaged: {problem}");
                    bytes.blame(self.input.path(), bad_file(self.input.path(), &problem))
                })?;
            }
        }
        Ok(())
    }
}

/// Creates a reader of a file, and returns the bytes that it reads.
fn builder(input: &Input) -> Result<(ParquetRecordBatchReaderBuilder<InputBytes>, InputBytes)> {
    let bytes = input.full_bytes("a Parquet file")?;
    let bad = |problem: &dyn std::fmt::Display| bytes.blame(input.path(), bad_file(input.path(), problem));
    check_footer(&bytes).map_err(|problem| bad(&problem))?;
    // The reader panics at an inconsistent footer (apache/arrow-rs#9705).
    let opened = catch_unwind(AssertUnwindSafe(|| ParquetRecordBatchReaderBuilder::try_new(bytes.clone())));
    let opened = match opened {
        Ok(opened) => opened.map_err(|error| bad(&error))?,
        Err(_) => return Err(bad(&"the Parquet file is damaged: its footer contradicts itself")),
    };
    let checked = check_metadata(opened.metadata(), Length::len(&bytes));
    checked.map_err(|problem| bad(&format!("the Parquet file is damaged: {problem}")))?;
    Ok((opened, bytes))
}

/// Rejects a file whose footer is longer than the file, because the reader would allocate the
/// footer's stated size.
fn check_footer(file: &InputBytes) -> Result<(), String> {
    const MARK: u64 = 4;
    let len = Length::len(file);
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

impl Length for InputBytes {
    fn len(&self) -> u64 {
        Self::len(self).unwrap_or_default()
    }
}

impl ChunkReader for InputBytes {
    type T = Self;

    fn get_read(&self, start: u64) -> ParquetResult<Self> {
        Ok(self.from(start))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let mut bytes = Vec::new();
        // No memory is allocated for missing bytes.
        self.from(start).take(length as u64).read_to_end(&mut bytes)?;
        match bytes.len() == length {
            true => Ok(bytes.into()),
            false => Err(ParquetError::EOF(format!("expected {length} bytes from {start}, got {}", bytes.len()))),
        }
    }
}

impl Records for ParquetFile {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn read(&self, columns: &[usize], batch_rows: usize) -> Result<Batches> {
        let (builder, bytes) = builder(&self.input)?;
        let columns: Vec<usize> = columns.iter().map(|column| self.columns[*column]).collect();
        let mut read = columns.clone();
        read.sort_unstable();
        read.dedup();
        let order = columns.iter().filter_map(|column| read.binary_search(column).ok()).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), read);
        self.check_pages(&builder, &bytes, &mask)?;
        let reader = builder.with_projection(mask).with_batch_size(batch_rows).build();
        let reader = reader.map_err(|error| bad_file(self.input.path(), &error))?;
        Ok(in_order(self.input.path().into(), bytes, reader, order, batch_rows))
    }
}
