//! A Parquet file sink; the file gets its name when it is complete.
//!
//! Rows are stored in parts, separate files that are durable after each flush. The end of the query
//! merges them into one file, and only then replaces the old one. The file's metadata states which
//! parts of which query it contains, so that an interrupted end does not duplicate rows.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::KeyValue;
use vexact_core::atomic_file::AtomicFile;
use vexact_core::error::{Error, Result};
use vexact_core::locked_file::LockedFile;
use vexact_sources::file_form::FileForm;

use super::{blocking, open_locked};
use crate::control::query_id;
use crate::sink::Sink;

/// Size, in bytes, of buffered rows that become a part without a flush.
const PART_BYTES: usize = 32 << 20;
/// Metadata key of the query's identifier and the number of its parts in the file.
const PARTS_KEY: &str = "vexact.parts";
/// Name of the file among the parts that has the query's identifier.
const ID: &str = "id";

/// An open file.
#[derive(Debug)]
pub(super) struct ParquetFile {
    state: State,
    waiting: Vec<RecordBatch>,
    waiting_bytes: usize,
    /// True if a checkpoint may rely on the parts.
    is_durable: bool,
    _lock: LockedFile,
}

/// Files of the sink on disk.
#[derive(Debug, Clone)]
struct State {
    path: PathBuf,
    parts: PathBuf,
    schema: SchemaRef,
    /// Identifier of the query, and of those that resumed from its checkpoint.
    id: String,
    /// The number of the next part.
    next: u64,
}

impl ParquetFile {
    pub fn open(path: &Path, schema: SchemaRef, is_restored: bool) -> Result<Self> {
        FileForm::Parquet.check_schema(&schema)?;
        vexact_sources::refuse_open_database(path)?;
        let parts = beside(path, "parts");
        let io = |error| Error::io(&parts, error);
        fs::create_dir_all(&parts).map_err(io)?;
        let lock = open_locked(&parts.join("lock"))?;
        let mut state = State { path: path.into(), parts: parts.clone(), schema, id: String::new(), next: 0 };
        match is_restored {
            true => {
                state.id = state.stored_id()?;
                let whole = state.parts_in_file()?;
                state.next = state.numbers()?.last().map_or(0, |last| last + 1).max(whole);
            }
            false => {
                for number in state.numbers()? {
                    fs::remove_file(state.part(number)).map_err(io)?;
                }
                state.id = query_id();
                let file = AtomicFile::create(&parts.join(ID))?;
                file.writer().write_all(state.id.as_bytes()).map_err(io)?;
                file.commit()?;
            }
        }
        Ok(Self { state, waiting: Vec::new(), waiting_bytes: 0, is_durable: is_restored, _lock: lock })
    }

    /// Writes the buffered rows as a part.
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

/// Returns the path `.NAME.WHAT` in the folder of a file.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{what}"));
    path.with_file_name(name)
}

fn bad(path: &Path, error: ParquetError) -> Error {
    Error::BadFile { path: path.into(), problem: error.to_string() }
}

/// Writes rows into a file, which gets its name when it is complete.
fn write(
    path: &Path,
    schema: &SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch>>,
    parts: Option<String>,
) -> Result<()> {
    let file = AtomicFile::create(path)?;
    let failed = |error: ParquetError| file.error(bad(path, error));
    let mut writer = ArrowWriter::try_new(file.writer(), std::sync::Arc::clone(schema), None).map_err(failed)?;
    for batch in batches {
        writer.write(&batch?).map_err(failed)?;
    }
    if let Some(parts) = parts {
        writer.append_key_value_metadata(KeyValue::new(PARTS_KEY.into(), parts));
    }
    writer.close().map_err(failed)?;
    file.commit()
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

    /// Returns the numbers of the existing parts, sorted.
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

    /// Returns the query's identifier and the number of its parts in the existing file; `None` if
    /// there is no file, or one of another program.
    fn mark(&self) -> Result<Option<(String, u64)>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| Error::io(&self.path, error))?,
        };
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| bad(&self.path, error))?;
        let pairs = reader.metadata().file_metadata().key_value_metadata();
        let mark = pairs.into_iter().flatten().find(|pair| pair.key == PARTS_KEY).and_then(|pair| pair.value.as_ref());
        Ok(mark.and_then(|mark| {
            let (id, parts) = mark.split_once(' ')?;
            Some((id.to_owned(), parts.parse().ok()?))
        }))
    }

    /// Returns the identifier of the query whose parts exist; without parts, of the query that
    /// wrote the file.
    fn stored_id(&self) -> Result<String> {
        match fs::read_to_string(self.parts.join(ID)) {
            Ok(id) => Ok(id),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.mark()? {
                Some((id, _)) => Ok(id),
                None if !self.path.exists() => Ok(query_id()),
                None => Err(Error::BadFile {
                    path: self.path.clone(),
                    problem: "expected a file that this sink has written, got another Parquet file".into(),
                }),
            },
            Err(error) => Err(Error::io(&self.parts, error)),
        }
    }

    /// Returns the number of parts that are in the file already.
    fn parts_in_file(&self) -> Result<u64> {
        // Existing parts mean that a file of another program is to be replaced.
        let mark = match self.parts.join(ID).exists() {
            true => self.mark().unwrap_or_default(),
            false => self.mark()?,
        };
        Ok(mark.filter(|(id, _)| *id == self.id).map_or(0, |(_, parts)| parts))
    }

    /// Merges the parts into one file.
    fn join(&self) -> Result<()> {
        let done = self.parts_in_file()?;
        let numbers = self.numbers()?;
        let is_own = self.path.exists() && self.mark().unwrap_or_default().is_some_and(|(id, _)| id == self.id);
        let mut files: Vec<PathBuf> = if is_own { vec![self.path.clone()] } else { Vec::new() };
        files.extend(numbers.iter().filter(|number| **number >= done).map(|number| self.part(*number)));
        if !is_own || files.len() > 1 {
            // Files are read one after the other; an error ends the sequence.
            let batches = files.iter().flat_map(|file| -> Box<dyn Iterator<Item = Result<RecordBatch>>> {
                match read(file) {
                    Ok(batches) => Box::new(batches),
                    Err(error) => Box::new(std::iter::once(Err(error))),
                }
            });
            write(&self.path, &self.schema, batches, Some(format!("{} {}", self.id, self.next)))?;
        }
        self.remove_parts()
    }

    fn remove_parts(&self) -> Result<()> {
        for number in self.numbers()? {
            let part = self.part(number);
            fs::remove_file(&part).map_err(|error| Error::io(&part, error))?;
        }
        Ok(())
    }

    /// Removes the folder of the parts.
    fn remove_folder(&self) {
        for name in [ID, "lock"] {
            let _ = fs::remove_file(self.parts.join(name));
        }
        let _ = fs::remove_dir(&self.parts);
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
        self.is_durable = true;
        self.keep().await
    }

    async fn finish(&mut self) -> Result<()> {
        self.keep().await?;
        let state = self.state.clone();
        blocking(move || state.join()).await?;
        self.is_durable = false;
        Ok(())
    }
}

impl Drop for ParquetFile {
    fn drop(&mut self) {
        if !self.is_durable && self.state.remove_parts().is_ok() {
            self.state.remove_folder();
        }
    }
}
