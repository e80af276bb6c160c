//! The sink of a streaming query: it writes a file, and keeps the rows for the answer and for the
//! tracked run.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use vexact::sources::row_file::RowFile;
use vexact::stream::file_sink::{FileFormat, FileSink};
use vexact::stream::{Position, Sink, SinkTable};
use vexact_core::error::Result;
use vexact_workspace::Preview;

use super::track::Track;

/// Newest rows that a tracked run shows while it runs.
const LATEST_ROWS: usize = 20;

/// The form of a sink's file by its suffix: json and parquet have theirs, all else is csv.
pub(super) fn format_of(path: &Path, delimiter: char) -> FileFormat {
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default().to_lowercase();
    match suffix.as_str() {
        "json" | "jsonl" | "ndjson" => FileFormat::Json,
        "parquet" => FileFormat::Parquet,
        _ => FileFormat::Csv { delimiter },
    }
}

/// A sink that keeps rows in memory: the first ones, and all of them for a command without a file.
/// A tracked run has a copy of all rows with their types. Cheap to clone; clones share their state.
#[derive(Debug, Clone)]
pub(super) struct WatchedSink {
    file: Option<FileSink>,
    declared: Option<SchemaRef>,
    track: Track,
    written: Arc<Mutex<WrittenRows>>,
}

#[derive(Debug)]
struct WrittenRows {
    schema: SchemaRef,
    kept: Vec<RecordBatch>,
    count: u64,
    /// The newest rows of a tracked run, [`LATEST_ROWS`] or more of them.
    latest: VecDeque<RecordBatch>,
    /// Copy of all rows, for a tracked run.
    copy: Option<(RowFile, PathBuf)>,
}

impl WatchedSink {
    /// Rows for a file, or for the answer alone.
    pub fn new(file: Option<FileSink>, declared: Option<SchemaRef>, track: &Track) -> Self {
        let written = WrittenRows {
            schema: Arc::new(Schema::empty()),
            kept: Vec::new(),
            count: 0,
            latest: VecDeque::new(),
            copy: None,
        };
        Self { file, declared, track: track.clone(), written: Arc::new(Mutex::new(written)) }
    }

    fn written(&self) -> MutexGuard<'_, WrittenRows> {
        self.written.lock()
    }

    /// Returns the first rows that were written since the sink was opened, and their total number.
    ///
    /// # Errors
    /// Errors of Arrow only.
    pub fn preview(&self) -> Result<Preview> {
        let WrittenRows { schema, kept, count, .. } = &*self.written();
        Preview::new(schema, kept, *count)
    }

    /// Returns the newest rows and the number of all, for a tracked run; `None` before there are any.
    ///
    /// # Errors
    /// Errors of Arrow only.
    pub fn latest(&self) -> Result<Option<Preview>> {
        let WrittenRows { schema, latest, count, .. } = &*self.written();
        if latest.is_empty() {
            return Ok(None);
        }
        let rows: usize = latest.iter().map(RecordBatch::num_rows).sum();
        let mut older = rows.saturating_sub(LATEST_ROWS);
        let mut newest = Vec::with_capacity(latest.len());
        for batch in latest {
            let skipped = older.min(batch.num_rows());
            older -= skipped;
            newest.push(batch.slice(skipped, batch.num_rows() - skipped));
        }
        Preview::new(schema, &newest, *count).map(Some)
    }

    /// Returns all rows of a command that has no file and is not tracked; else `None`.
    pub fn rows(&self) -> Option<Vec<RecordBatch>> {
        let written = self.written();
        let is_whole = self.file.is_none() && written.copy.is_none();
        is_whole.then(|| match written.kept.is_empty() {
            true => vec![RecordBatch::new_empty(Arc::clone(&written.schema))],
            false => written.kept.clone(),
        })
    }

    /// Completes the copy of a tracked run; returns its path.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn finish_copy(&self) -> Result<Option<PathBuf>> {
        match self.written().copy.take() {
            Some((file, path)) => file.finish().map(|()| Some(path)),
            None => Ok(None),
        }
    }

    /// Returns the maximum number of rows that are kept in memory.
    fn most_rows(&self, written: &WrittenRows) -> usize {
        match self.file.is_none() && written.copy.is_none() {
            true => usize::MAX,
            false => Preview::MAX_ROWS,
        }
    }
}

#[async_trait]
impl SinkTable for WatchedSink {
    fn schema(&self) -> Option<SchemaRef> {
        self.declared.clone()
    }

    fn can_truncate(&self) -> bool {
        self.file.as_ref().is_some_and(SinkTable::can_truncate)
    }

    fn is_blocking(&self) -> bool {
        self.file.as_ref().is_some_and(SinkTable::is_blocking)
    }

    fn identity(&self) -> String {
        self.file.as_ref().map_or_else(|| "the rows of a command".into(), SinkTable::identity)
    }

    async fn open(&self, schema: SchemaRef, is_restored: bool) -> Result<Box<dyn Sink>> {
        let copy = self.track.rows_file(&schema)?;
        let file = match &self.file {
            Some(file) => Some(file.open(Arc::clone(&schema), is_restored).await?),
            None => None,
        };
        let mut written = self.written();
        (written.schema, written.copy) = (schema, copy);
        Ok(Box::new(Writer { file, table: self.clone() }))
    }
}

#[derive(Debug)]
struct Writer {
    file: Option<Box<dyn Sink>>,
    table: WatchedSink,
}

#[async_trait]
impl Sink for Writer {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.write(batch.clone()).await?;
        }
        let mut written = self.table.written();
        if let Some((copy, _)) = &mut written.copy {
            copy.write(&batch)?;
        }
        let wanted = self.table.most_rows(&written).saturating_sub(written.count as usize);
        written.count += batch.num_rows() as u64;
        if self.table.track.is_tracked() && batch.num_rows() > 0 {
            let older = batch.num_rows().saturating_sub(LATEST_ROWS);
            written.latest.push_back(batch.slice(older, batch.num_rows() - older));
            let mut rows: usize = written.latest.iter().map(RecordBatch::num_rows).sum();
            while let Some(first) = written.latest.front().map(RecordBatch::num_rows)
                && rows - first >= LATEST_ROWS
            {
                rows -= first;
                written.latest.pop_front();
            }
        }
        if wanted > 0 {
            let kept = batch.slice(0, wanted.min(batch.num_rows()));
            written.kept.push(kept);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        match &mut self.file {
            Some(file) => file.flush().await,
            None => Ok(()),
        }
    }

    fn position(&self) -> Option<Position> {
        self.file.as_ref().and_then(|file| file.position())
    }

    async fn truncate(&mut self, position: &Position) -> Result<()> {
        match &mut self.file {
            Some(file) => file.truncate(position).await,
            None => Ok(()),
        }
    }

    async fn finish(&mut self) -> Result<()> {
        match &mut self.file {
            Some(file) => file.finish().await,
            None => Ok(()),
        }
    }

    fn is_blocking(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.is_blocking())
    }
}
