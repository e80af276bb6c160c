//! Streams of a session: registers them, queries them and writes their results.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use vexact_core::entry::{enter, entry};
use vexact_core::error::Result;
use vexact_sql::Explained;
use vexact_sql::deep::stack_of_text;
use vexact_stream::csv_dir::CsvDir;
use vexact_stream::memory::MemoryTable;
use vexact_stream::{SinkTable, SourceTable, StreamFrame, StreamOptions, StreamingQuery, sink_table};

use super::Session;

impl Session {
    /// Returns a source as a frame.
    pub fn stream(&self, source: Arc<dyn SourceTable>) -> StreamFrame {
        StreamFrame::of_source(&self.ctx, source)
    }

    /// Creates a bounded stream of Arrow batches: one batch is one micro-batch. Nothing is copied.
    ///
    /// # Errors
    /// Batches of different schemas.
    pub fn create_stream_from_arrow(&self, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<StreamFrame> {
        let open = || MemoryTable::try_new(schema, batches);
        Ok(self.stream(Arc::new(enter(stack_of_text(""), "reading Arrow data", open)?)))
    }

    /// Opens a folder of CSV files as a stream, with the columns of its first file that has rows.
    ///
    /// # Errors
    /// A missing folder, or one without such a file; an invalid delimiter.
    pub fn read_stream_csv_dir(&self, folder: impl AsRef<Path>, delimiter: char) -> Result<StreamFrame> {
        let folder = folder.as_ref();
        let open = || CsvDir::infer(folder, delimiter);
        Ok(self.stream(Arc::new(enter(stack_of_text(""), &format!("reading {}", folder.display()), open)?)))
    }

    /// Registers a stream for streaming SQL, and replaces a view of the same name.
    ///
    /// # Errors
    /// A name that cannot be registered.
    pub fn create_stream_view(&self, name: &str, frame: &StreamFrame) -> Result<()> {
        self.name_table(name, frame.provider())
    }

    /// Registers a sink for `INSERT INTO`, and releases the table that had the name before.
    ///
    /// # Errors
    /// A name that cannot be registered.
    pub fn create_sink(&self, name: &str, sink: Arc<dyn SinkTable>) -> Result<()> {
        self.name_table(name, sink_table(sink))
    }

    /// Plans a SELECT over a stream: a view, a source table, or another such SELECT. It runs when
    /// it is written to a sink.
    ///
    /// # Errors
    /// As [`vexact_stream::stream_sql`].
    pub async fn stream_sql(&self, sql: &str) -> Result<StreamFrame> {
        entry(self.stack_of(sql), sql, vexact_stream::stream_sql(&self.ctx, self.state(), sql)).await
    }

    /// Opens `INSERT INTO sink SELECT ...` over a stream as a query, without starting it. Its
    /// source, sink and checkpoint have been opened and checked.
    ///
    /// # Errors
    /// As [`vexact_stream::start_stream_sql`].
    pub async fn start_stream_sql(&self, sql: &str, options: StreamOptions) -> Result<StreamingQuery> {
        entry(self.stack_of(sql), sql, vexact_stream::start_stream_sql(self.state(), sql, options)).await
    }

    /// As [`Self::start_stream_sql`], with the explain of the query; a SELECT is written to the
    /// sink `default`.
    ///
    /// # Errors
    /// As [`Self::start_stream_sql`].
    pub async fn start_stream_sql_into(
        &self,
        default: &str,
        sql: &str,
        options: StreamOptions,
    ) -> Result<(StreamingQuery, Explained)> {
        let started = vexact_stream::start_stream_sql_into(self.state(), default, sql, options);
        entry(self.stack_of(sql), sql, started).await
    }

    /// Explains a streaming query, SELECT or INSERT, without running it, in three sections.
    ///
    /// # Errors
    /// As [`Self::start_stream_sql`].
    pub async fn explain_stream_sql(&self, sql: &str, options: &StreamOptions) -> Result<Explained> {
        entry(self.stack_of(sql), sql, vexact_stream::explain_stream_sql(self.state(), sql, options)).await
    }
}
