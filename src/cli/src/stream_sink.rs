//! The file that a streaming query writes, and what the answer says of it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use vexact::stream::file_sink::{FileFormat, FileSink};
use vexact::stream::{Position, Sink, SinkTable};
use vexact_core::error::Result;
use vexact_workspace::Preview;

/// The form of a sink's file by its suffix: json and parquet have theirs, all else is csv.
pub(super) fn format_of(path: &Path, delimiter: char) -> FileFormat {
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default().to_lowercase();
    match suffix.as_str() {
        "json" | "jsonl" | "ndjson" => FileFormat::Json,
        "parquet" => FileFormat::Parquet,
        _ => FileFormat::Csv { delimiter },
    }
}

/// A file sink that keeps its first rows in mind. Cheap to clone; clones are one.
#[derive(Debug, Clone)]
pub(super) struct WatchedSink {
    file: FileSink,
    written: Arc<Mutex<WrittenRows>>,
}

#[derive(Debug)]
struct WrittenRows {
    schema: SchemaRef,
    first: Vec<RecordBatch>,
    count: u64,
}

impl WatchedSink {
    pub fn new(file: FileSink) -> Self {
        let written = WrittenRows { schema: Arc::new(Schema::empty()), first: Vec::new(), count: 0 };
        Self { file, written: Arc::new(Mutex::new(written)) }
    }

    fn written(&self) -> MutexGuard<'_, WrittenRows> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first rows that were written since it was opened, and how many there were.
    ///
    /// # Errors
    /// None but Arrow's.
    pub fn preview(&self) -> Result<Preview> {
        let WrittenRows { schema, first, count } = &*self.written();
        Preview::new(schema, first, *count)
    }
}

#[async_trait]
impl SinkTable for WatchedSink {
    fn schema(&self) -> Option<SchemaRef> {
        self.file.schema()
    }

    fn can_truncate(&self) -> bool {
        self.file.can_truncate()
    }

    fn is_blocking(&self) -> bool {
        self.file.is_blocking()
    }

    async fn open(&self, schema: SchemaRef, is_restored: bool) -> Result<Box<dyn Sink>> {
        self.written().schema = Arc::clone(&schema);
        let file = self.file.open(schema, is_restored).await?;
        Ok(Box::new(Writer { file, table: self.clone() }))
    }
}

#[derive(Debug)]
struct Writer {
    file: Box<dyn Sink>,
    table: WatchedSink,
}

#[async_trait]
impl Sink for Writer {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.file.write(batch.clone()).await?;
        let mut written = self.table.written();
        let wanted = Preview::MAX_ROWS.saturating_sub(written.count as usize);
        written.count += batch.num_rows() as u64;
        if wanted > 0 {
            written.first.push(batch.slice(0, wanted.min(batch.num_rows())));
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.file.flush().await
    }

    fn position(&self) -> Option<Position> {
        self.file.position()
    }

    async fn truncate(&mut self, position: &Position) -> Result<()> {
        self.file.truncate(position).await
    }

    async fn finish(&mut self) -> Result<()> {
        self.file.finish().await
    }

    fn is_blocking(&self) -> bool {
        self.file.is_blocking()
    }
}
