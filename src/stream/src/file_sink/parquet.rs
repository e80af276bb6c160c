//! A Parquet file, which appears when it is whole.
//!
//! Rows are kept in parts, files of their own, which are durable after each flush. The end makes one file of them. The file says in
//! its metadata which parts are in it, so that an end that was interrupted doubles nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::KeyValue;
use vexact_core::error::{Error, Result};
use vexact_core::locked_file::LockedFile;

use super::{blocking, open_locked, sync_folder_of};
use crate::sink::Sink;

/// Rows in memory that become a part without a flush.
const PART_BYTES: usize = 32 << 20;
/// The key of the metadata that has the number of parts in the file.
const PARTS_KEY: &str = "vexact.parts";

/// An open file.
#[derive(Debug)]
pub(super) struct ParquetFile {
    state: State,
    waiting: Vec<RecordBatch>,
    waiting_bytes: usize,
    _lock: LockedFile,
}

/// What is on the disk.
#[derive(Debug, Clone)]
struct State {
    path: PathBuf,
    parts: PathBuf,
    schema: SchemaRef,
    /// The number of the next part.
    next: u64,
}

impl ParquetFile {
    pub fn open(path: &Path, schema: SchemaRef, is_restored: bool) -> Result<Self> {
        let parts = beside(path, "parts");
        let io = |error| Error::io(&parts, error);
        fs::create_dir_all(&parts).map_err(io)?;
        let lock = open_locked(&parts.join("lock"))?;
        let mut state = State { path: path.into(), parts: parts.clone(), schema, next: 0 };
        if is_restored {
            let whole = if path.exists() { state.parts_in_file()? } else { 0 };
            let last = state.numbers()?.last().map_or(0, |last| last + 1);
            state.next = last.max(whole);
        } else {
            for number in state.numbers()? {
                fs::remove_file(state.part(number)).map_err(io)?;
            }
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io(path, error)),
                _ => {}
            }
        }
        Ok(Self { state, waiting: Vec::new(), waiting_bytes: 0, _lock: lock })
    }

    /// Makes a part of what waits.
    async fn keep(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (state, batches) = (self.state.clone(), std::mem::take(&mut self.waiting));
        self.waiting_bytes = 0;
        self.state.next += 1;
        blocking(move || {
            let part = state.part(state.next);
            write(&part, &state.schema, batches.into_iter().map(Ok), None)
        })
        .await
    }
}

/// `.NAME.WHAT` in the folder of a file.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{what}"));
    path.with_file_name(name)
}

fn bad(path: &Path, error: ParquetError) -> Error {
    Error::BadFile { path: path.into(), problem: error.to_string() }
}

/// Writes rows beside a file and puts them in its place, durably.
fn write(
    path: &Path,
    schema: &SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch>>,
    parts: Option<u64>,
) -> Result<()> {
    let io = |error| Error::io(path, error);
    let unfinished = beside(path, "tmp");
    let file = File::create(&unfinished).map_err(io)?;
    let mut writer =
        ArrowWriter::try_new(file, std::sync::Arc::clone(schema), None).map_err(|error| bad(path, error))?;
    for batch in batches {
        writer.write(&batch?).map_err(|error| bad(path, error))?;
    }
    if let Some(parts) = parts {
        writer.append_key_value_metadata(KeyValue::new(PARTS_KEY.into(), parts.to_string()));
    }
    let file = writer.into_inner().map_err(|error| bad(path, error))?;
    file.sync_all().map_err(io)?;
    fs::rename(&unfinished, path).map_err(io)?;
    sync_folder_of(path)
}

fn read(path: &Path) -> Result<impl Iterator<Item = Result<RecordBatch>>> {
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build);
    Ok(reader.map_err(|error| bad(path, error))?.map(|batch| batch.map_err(Error::arrow)))
}

impl State {
    fn part(&self, number: u64) -> PathBuf {
        self.parts.join(format!("{number:012}.parquet"))
    }

    /// The numbers of the parts that are there, in their order.
    fn numbers(&self) -> Result<Vec<u64>> {
        let io = |error| Error::io(&self.parts, error);
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.parts).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".parquet")?.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The number of parts that are in the file already.
    fn parts_in_file(&self) -> Result<u64> {
        let file = File::open(&self.path).map_err(|error| Error::io(&self.path, error))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| bad(&self.path, error))?;
        let pairs = reader.metadata().file_metadata().key_value_metadata();
        let parts = pairs.into_iter().flatten().find(|pair| pair.key == PARTS_KEY);
        parts.and_then(|pair| pair.value.as_ref()?.parse().ok()).ok_or_else(|| Error::BadFile {
            path: self.path.clone(),
            problem: "expected a file that this sink has written, got another Parquet file".into(),
        })
    }

    /// Makes one file of the parts.
    fn join(&self) -> Result<()> {
        let mut files = Vec::new();
        let mut done = 0;
        if self.path.exists() {
            done = self.parts_in_file()?;
            files.push(self.path.clone());
        }
        let numbers = self.numbers()?;
        files.extend(numbers.iter().filter(|number| **number >= done).map(|number| self.part(*number)));
        if files.len() > 1 || !self.path.exists() {
            // One after the other: an error of one ends it.
            let batches = files.iter().flat_map(|file| -> Box<dyn Iterator<Item = Result<RecordBatch>>> {
                match read(file) {
                    Ok(batches) => Box::new(batches),
                    Err(error) => Box::new(std::iter::once(Err(error))),
                }
            });
            write(&self.path, &self.schema, batches, Some(self.next))?;
        }
        for number in numbers {
            let part = self.part(number);
            fs::remove_file(&part).map_err(|error| Error::io(&part, error))?;
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for ParquetFile {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() > 0 {
            self.waiting_bytes += batch.get_array_memory_size();
            self.waiting.push(batch);
        }
        if self.waiting_bytes > PART_BYTES {
            self.keep().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.keep().await
    }

    async fn finish(&mut self) -> Result<()> {
        self.keep().await?;
        let state = self.state.clone();
        blocking(move || state.join()).await
    }
}

impl Drop for ParquetFile {
    fn drop(&mut self) {
        // Left where parts remain: then the folder is not empty.
        if self.state.numbers().is_ok_and(|numbers| numbers.is_empty()) && self.state.path.exists() {
            let _ = fs::remove_file(self.state.parts.join("lock"));
            let _ = fs::remove_dir(&self.state.parts);
        }
    }
}
