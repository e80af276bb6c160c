//! A folder of CSV files as a source: every file that exists or is added later is read once,
//! regardless of the order of the names.
//!
//! **Files.** The source reads regular files of the folder itself. Names that begin with `.` or
//! `_`, or end with `~`, `.tmp`, `.temp`, `.part`, `.partial`, `.crdownload`, `.swp`, are files
//! that are being written, and are ignored: the safe way to add a file is to write it under such a
//! name and to rename it.
//!
//! **Timing.** A file is read once its size and its modification time have not changed for 200 ms
//! (or that time is 2 s ago), and only up to its last whole record, so that a record is never cut.
//! The first micro-batch waits up to 2 s for this condition on all files, so that it has the
//! content at the start of the query. A last record without a line end counts as whole after 1 s;
//! one that ends within quotes never does, and is an error after 60 s. Bytes that are appended to a
//! file later are read as well. A file that has become shorter, continues in the middle of a
//! record, or begins with bytes that differ from those that were read, is an error; a checkpoint
//! has their checksums.
//!
//! **Micro-batches.** Files are read in the order of their names, up to 8 MiB at once: many small
//! files, or a part of a large one. An offset is `{"name": bytes}`, the position in each file, so
//! that the rows between two offsets never change. A file that is deleted after it was read leaves
//! the offset; a later file of the same name is a new one.

mod files;
mod part;
mod seal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use parking_lot::Mutex;
use vexact_core::error::{Error, Result};
use vexact_sources::csv_part::{CsvColumns, read_bytes};

use self::files::Files;
use self::seal::Seals;
use super::source::{Offset, OffsetRange, Source, SourceTable};

/// Default size of a micro-batch, in bytes of text.
const BATCH_BYTES: u64 = 8 << 20;
/// Minimum time between two polls of the folder; it is longer if a poll takes long.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Maximum wait of the first micro-batch for files that were written just before.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// Byte offset up to which each file is read.
type Positions = BTreeMap<String, u64>;

/// A folder of CSV files, by its path.
#[derive(Debug, Clone)]
pub struct CsvDir {
    folder: PathBuf,
    columns: CsvColumns,
    batch_bytes: u64,
}

impl CsvDir {
    /// Creates a source of files with these columns.
    ///
    /// # Errors
    /// A missing folder; a type that a cell cannot hold; an invalid delimiter. The content of the
    /// files is checked when the source is opened.
    pub fn declared(folder: &Path, delimiter: char, schema: &SchemaRef) -> Result<Self> {
        files::check_folder(folder)?;
        Ok(Self::new(folder, CsvColumns::declared(schema, delimiter)?))
    }

    /// Infers the columns from the first file that has rows, as [`vexact_sources::csv::open`] does.
    ///
    /// # Errors
    /// A missing folder, or one without such a file.
    pub fn infer(folder: &Path, delimiter: char) -> Result<Self> {
        files::check_folder(folder)?;
        for name in files::names(folder)? {
            if let Some(columns) = CsvColumns::infer(&folder.join(name), delimiter)? {
                return Ok(Self::new(folder, columns));
            }
        }
        Err(Error::InvalidArgument(format!(
            "{}: expected at least one CSV file with a header line and a row, to know the columns, got none (CREATE SOURCE TABLE \
             declares them)",
            folder.display()
        )))
    }

    fn new(folder: &Path, columns: CsvColumns) -> Self {
        Self { folder: folder.into(), columns, batch_bytes: BATCH_BYTES }
    }

    /// Sets the approximate size of micro-batches, in bytes of text, instead of 8 MiB. Each has at
    /// least one record.
    ///
    /// # Errors
    /// A size of 0.
    pub fn with_batch_bytes(self, batch_bytes: u64) -> Result<Self> {
        match batch_bytes {
            0 => Err(Error::InvalidArgument("batch_bytes: expected at least 1, got 0".into())),
            _ => Ok(Self { batch_bytes, ..self }),
        }
    }

    fn read(&self, from: &Positions, to: &Positions, seals: &mut Seals) -> Result<RecordBatch> {
        let mut batches = Vec::new();
        for (name, end) in to {
            let start = from.get(name).copied().unwrap_or(0);
            if *end > start {
                let path = self.folder.join(name);
                let bytes = read_bytes(&path, start, *end)?;
                seals.add(&path, name, start, &bytes)?;
                batches.extend(self.columns.parse(&path, start, &bytes)?);
            }
        }
        seals.retain(to);
        concat_batches(self.columns.schema(), &batches).map_err(Error::arrow)
    }
}

#[async_trait]
impl SourceTable for CsvDir {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.schema())
    }

    fn is_bounded(&self) -> bool {
        false
    }

    fn can_replay(&self) -> bool {
        true
    }

    fn identity(&self) -> String {
        let folder = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone());
        format!("CSV folder {} of ({})", folder.display(), super::source::columns(self.columns.schema()))
    }

    async fn open(&self) -> Result<Box<dyn Source>> {
        let table = self.clone();
        let check = move || {
            files::check_folder(&table.folder)?;
            let names = files::names(&table.folder)?;
            names.iter().try_for_each(|name| table.columns.check(&table.folder.join(name)))
        };
        blocking(check).await?;
        let files = Arc::new(Mutex::new(Files::new(self.folder.clone())));
        let first_until = Some(Instant::now() + FIRST_WAIT);
        let (positions, seals) = (Positions::new(), Arc::default());
        Ok(Box::new(CsvDirReader { table: self.clone(), files, positions, seals, first_until }))
    }
}

/// Runs work that blocks on the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Interrupted(error.to_string()))?
}

#[derive(Debug)]
struct CsvDirReader {
    table: CsvDir,
    files: Arc<Mutex<Files>>,
    positions: Positions,
    seals: Arc<Mutex<Seals>>,
    /// Deadline of the first micro-batch; `None` after it.
    first_until: Option<Instant>,
}

impl CsvDirReader {
    /// Returns the positions after the next micro-batch; `None` while there is nothing to read.
    async fn look(&self) -> Result<Option<Positions>> {
        let (files, table, positions) = (Arc::clone(&self.files), self.table.clone(), self.positions.clone());
        let may_wait = self.first_until.is_some_and(|until| Instant::now() < until);
        blocking(move || {
            let mut files = files.lock();
            let seen = files.look(&positions)?;
            if may_wait && !part::are_settled(&seen, &positions)? {
                return Ok(None);
            }
            part::next(&seen, &positions, &table.columns, table.batch_bytes)
        })
        .await
    }

    fn positions(&self, offset: &Offset) -> Result<Positions> {
        serde_json::from_value(offset.clone()).map_err(|_| {
            let folder = self.table.folder.display();
            let expected = "expected an object of file names and bytes";
            Error::InvalidArgument(format!("source offset of folder {folder}: {expected}, got {offset}"))
        })
    }
}

fn offset(positions: &Positions) -> Offset {
    positions.iter().map(|(name, bytes)| (name.clone(), Offset::from(*bytes))).collect()
}

#[async_trait]
impl Source for CsvDirReader {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn is_bounded(&self) -> bool {
        false
    }

    fn can_replay(&self) -> bool {
        true
    }

    fn start(&self) -> Offset {
        offset(&Positions::new())
    }

    async fn next_range(&mut self) -> Result<Option<OffsetRange>> {
        loop {
            let started = Instant::now();
            if let Some(positions) = self.look().await? {
                let range = OffsetRange { from: offset(&self.positions), to: offset(&positions) };
                (self.positions, self.first_until) = (positions, None);
                return Ok(Some(range));
            }
            tokio::time::sleep((started.elapsed() * 10).clamp(SHORTEST_WAIT, LONGEST_WAIT)).await;
        }
    }

    async fn read(&mut self, range: &OffsetRange) -> Result<RecordBatch> {
        let (from, to) = (self.positions(&range.from)?, self.positions(&range.to)?);
        let (table, seals) = (self.table.clone(), Arc::clone(&self.seals));
        blocking(move || table.read(&from, &to, &mut seals.lock())).await
    }

    fn evidence(&self) -> serde_json::Value {
        self.seals.lock().evidence()
    }

    async fn verify(&mut self, evidence: &serde_json::Value) -> Result<()> {
        let (folder, positions) = (self.table.folder.clone(), self.positions.clone());
        let (seals, evidence) = (Arc::clone(&self.seals), evidence.clone());
        blocking(move || seals.lock().verify(&folder, &positions, &evidence)).await
    }

    async fn restore(&mut self, offset: &Offset) -> Result<()> {
        self.positions = self.positions(offset)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
