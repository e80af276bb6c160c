//! The rows of a result: all of them in the answer, or in a file and the first ones in the answer.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use serde_json::json;
use vexact::sources::object_stores::{ObjectStores, is_remote};
use vexact::sources::row_file::{RowFileOptions, RowFormat};
use vexact::sources::store_file::OutputFile;
use vexact_core::error::{Error, Result};
use vexact_workspace::Preview;

use super::answer::{Table, Written};
use super::failure::{During, Failure};
use super::progress::Shown;
use super::track::Track;

/// Interval between two progress reports of a tracked run.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// A stream of rows that has not been read.
pub(super) struct Rows<'a> {
    pub schema: SchemaRef,
    pub stream: SendableRecordBatchStream,
    /// The file to write; a tracked run has one of its own.
    pub output_path: Option<&'a Path>,
    /// The stores of files that are URLs.
    pub stores: &'a ObjectStores,
}

impl Rows<'_> {
    /// Reads the stream to its end. `phase` is the phase that a failure of the stream reports.
    pub async fn produced(self, track: &Track, phase: &'static str) -> Result<(Table, Option<Written>), Failure> {
        let format = match self.output_path {
            Some(path) => RowFormat::of_suffix(path).during("arguments")?,
            None => RowFormat::for_schema(&self.schema),
        };
        let own = || track.artifact_path(&format!("result.{}", format.name()));
        match self.output_path.map(Path::to_path_buf).or_else(own) {
            Some(path) => {
                let (table, written) = self.into_file(track, path, format, phase).await?;
                Ok((table, Some(written)))
            }
            None => Ok((self.collected(track, phase).await?, None)),
        }
    }

    async fn collected(mut self, track: &Track, phase: &'static str) -> Result<Table, Failure> {
        let mut told = Told::new(track);
        let mut batches = Vec::new();
        while let Some(batch) = self.stream.try_next().await.map_err(Error::from).during(phase)? {
            told.add(&batch)?;
            batches.push(batch);
        }
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(self.schema));
        }
        Ok(Table::new(batches))
    }

    async fn into_file(
        mut self,
        track: &Track,
        path: PathBuf,
        format: RowFormat,
        phase: &'static str,
    ) -> Result<(Table, Written), Failure> {
        let options = RowFileOptions::default();
        let file = OutputFile::create(self.stores, &path, format, &self.schema, &options);
        let mut file = file.during("output")?;
        // A file elsewhere may be overwritten, and CSV has no types: the run keeps its rows itself.
        let mut kept = match self.output_path {
            Some(_) => track.rows_file(&self.schema).during("output")?,
            None => None,
        };
        let mut told = Told::new(track);
        let mut first: Vec<RecordBatch> = Vec::new();
        while let Some(batch) = self.stream.try_next().await.map_err(Error::from).during(phase)? {
            if told.rows < Preview::MAX_ROWS as u64 {
                first.push(batch.clone());
            }
            file.write(&batch).await.during("output")?;
            if let Some((kept, _)) = &mut kept {
                kept.write(&batch).during("output")?;
            }
            told.add(&batch)?;
            // A query that is always ready would never notice its cancellation.
            tokio::task::coop::consume_budget().await;
        }
        let rows_path = match kept {
            Some((kept, path)) => {
                kept.finish().during("output")?;
                Some(path)
            }
            None => None,
        };
        file.finish().await.during("output")?;
        told.tell()?;
        let row_count = told.rows;
        let preview = Preview::new(&self.schema, &first, row_count).during("output")?;
        let table = Table::new(vec![preview.rows().clone()]);
        let truncated = preview.is_truncated();
        let output_path = match is_remote(&path) {
            true => path.clone(),
            false => std::path::absolute(&path).map_err(|error| Error::io(&path, error)).during("output")?,
        };
        track.artifact(format.name(), path, rows_path, preview).during("output")?;
        Ok((table, Written { row_count, truncated, output_path }))
    }
}

/// Count of the rows so far, and the receivers of progress reports.
struct Told<'a> {
    track: &'a Track,
    shown: Shown,
    rows: u64,
    start: Instant,
    last: Instant,
}

impl<'a> Told<'a> {
    fn new(track: &'a Track) -> Self {
        let now = Instant::now();
        Self { track, shown: Shown::new("query"), rows: 0, start: now, last: now }
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        self.rows += batch.num_rows() as u64;
        self.shown.say(format!("query, rows so far: {}", self.rows));
        if self.last.elapsed() < TOLD_EVERY {
            return Ok(());
        }
        self.last = Instant::now();
        self.tell()
    }

    fn tell(&self) -> Result<(), Failure> {
        let elapsed_ms = self.start.elapsed().as_millis() as u64;
        self.track.progress(&json!({"rows": self.rows, "elapsed_ms": elapsed_ms})).during("output")
    }
}
