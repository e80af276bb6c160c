//! Test environment: the rows, a sink that records its rows, and functions that run a query.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use datafusion::datasource::MemTable;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use vexact_core::error::Result;
use vexact_sql::Explained;

use crate::memory::MemoryTable;
use crate::sink::{Position, Sink, SinkTable};
use crate::source::SourceTable;
use crate::{Delivery, StreamFrame, StreamOptions, StreamingQuery};

pub const BATCHES: usize = 6;

/// Creates a batch of the stream: keys with NULLs, texts, integers, fractions whose sums are exact,
/// and event times.
pub fn batch(number: usize) -> RecordBatch {
    let rows = 40 + 7 * number;
    let id = |row: usize| (number * 100 + row) as i64;
    let value = |row: usize| (id(row) * 7919) % 101 - 50;
    let time = |row: usize| id(row) * 10 + (value(row) % 5) * 3 + 60;
    let column = |of: &dyn Fn(usize) -> Option<i64>| Int64Array::from((0..rows).map(of).collect::<Vec<_>>());
    let group = |row: usize| (value(row) % 4 != 0).then(|| format!("g{}", value(row).rem_euclid(5)));
    let columns: [(&str, ArrayRef); 6] = [
        ("id", Arc::new(column(&|row| Some(id(row))))),
        ("k", Arc::new(column(&|row| (row % 11 != 3).then(|| value(row).rem_euclid(7))))),
        ("g", Arc::new(StringArray::from((0..rows).map(group).collect::<Vec<_>>()))),
        ("v", Arc::new(Int32Array::from((0..rows).map(|row| Some(value(row) as i32)).collect::<Vec<_>>()))),
        ("x", Arc::new(Float64Array::from((0..rows).map(|row| value(row) as f64 / 4.0).collect::<Vec<_>>()))),
        ("t", Arc::new(TimestampMillisecondArray::from((0..rows).map(time).collect::<Vec<_>>()))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

pub fn batches() -> Vec<RecordBatch> {
    (0..BATCHES).map(batch).collect()
}

/// A DataFusion catalog with streams, sinks and the vector functions.
#[derive(Clone)]
pub struct Session(pub SessionContext);

impl Session {
    pub fn new() -> Self {
        Self::with_memory(usize::MAX)
    }

    /// Creates a session with a memory limit.
    pub fn with_memory(bytes: usize) -> Self {
        let mut config = SessionConfig::new();
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(bytes, 1.0).build_arc().unwrap();
        let context = SessionContext::new_with_config_rt(config, runtime);
        vexact_sql::register(&context).unwrap();
        Self(context)
    }

    pub fn stream(&self, source: Arc<dyn SourceTable>) -> StreamFrame {
        StreamFrame::of_source(&self.0, source)
    }

    pub fn create_stream_from_arrow(&self, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<StreamFrame> {
        Ok(self.stream(Arc::new(MemoryTable::try_new(schema, batches)?)))
    }

    fn name(&self, name: &str, table: Arc<dyn datafusion::catalog::TableProvider>) -> Result<()> {
        self.0.deregister_table(name)?;
        self.0.register_table(name, table)?;
        Ok(())
    }

    pub fn create_stream_view(&self, name: &str, frame: &StreamFrame) -> Result<()> {
        self.name(name, frame.provider())
    }

    pub fn create_sink(&self, name: &str, sink: Arc<dyn SinkTable>) -> Result<()> {
        self.name(name, crate::sink_table(sink))
    }

    pub fn create_table(&self, name: &str, schema: SchemaRef, batches: Vec<RecordBatch>) {
        self.name(name, Arc::new(MemTable::try_new(schema, vec![batches]).unwrap())).unwrap();
    }

    pub async fn sql(&self, sql: &str) -> datafusion::error::Result<DataFrame> {
        self.0.sql(sql).await
    }

    pub async fn stream_sql(&self, sql: &str) -> Result<StreamFrame> {
        crate::stream_sql(&self.0, self.0.state(), sql).await
    }

    pub async fn start_stream_sql(&self, sql: &str, options: StreamOptions) -> Result<StreamingQuery> {
        crate::start_stream_sql(self.0.state(), sql, options).await
    }

    pub async fn explain_stream_sql(&self, sql: &str, options: &StreamOptions) -> Result<Explained> {
        crate::explain_stream_sql(self.0.state(), sql, options).await
    }
}

/// Creates a session with the rows as a stream `s` and, all at once, as a table `b`; a table `d` to
/// join with, and vectors `docs`.
pub async fn session() -> Session {
    let session = Session::new();
    let schema = batch(0).schema();
    let stream = session.create_stream_from_arrow(Arc::clone(&schema), batches()).unwrap();
    session.create_stream_view("s", &stream).unwrap();
    session.create_table("b", schema, batches());
    for (name, sql) in [
        ("d", "SELECT column1 AS k, column2 AS name FROM (VALUES (1, 'one'), (2, 'two'), (2, 'zwei'), (9, 'nine'))"),
        (
            "docs",
            "SELECT column1 AS id, arrow_cast(column2, 'FixedSizeList(2 x Float32)') AS e FROM (VALUES (1, [1.0, 0.0]), (2, [0.9, 0.1]), (3, [0.0, 1.0]), (4, [0.5, 0.5]))",
        ),
    ] {
        let rows = session.sql(sql).await.unwrap();
        let schema = Arc::clone(rows.schema().inner());
        session.create_table(name, schema, rows.collect().await.unwrap());
    }
    session
}

/// A sink that retains its rows over crashes; its position counts micro-batches.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    pub batches: Arc<Mutex<Vec<RecordBatch>>>,
}

#[async_trait]
impl SinkTable for Memory {
    fn schema(&self) -> Option<SchemaRef> {
        None
    }

    fn can_truncate(&self) -> bool {
        true
    }

    async fn open(&self, _: SchemaRef, is_restored: bool) -> Result<Box<dyn Sink>> {
        if !is_restored {
            self.batches.lock().unwrap().clear();
        }
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Sink for Memory {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.batches.lock().unwrap().push(batch);
        Ok(())
    }

    fn position(&self) -> Option<Position> {
        Some(self.batches.lock().unwrap().len().into())
    }

    async fn truncate(&mut self, position: &Position) -> Result<()> {
        self.batches.lock().unwrap().truncate(position.as_u64().unwrap() as usize);
        Ok(())
    }
}

impl Memory {
    pub fn taken(&self) -> Vec<RecordBatch> {
        self.batches.lock().unwrap().clone()
    }
}

pub fn options() -> StreamOptions {
    StreamOptions::default()
}

pub fn exactly_once(folder: &std::path::Path) -> StreamOptions {
    StreamOptions { checkpoint_path: Some(folder.into()), delivery: Delivery::ExactlyOnce, ..options() }
}

/// Opens a query that writes to `sink`.
pub async fn open(session: &Session, sql: &str, sink: &Memory, options: StreamOptions) -> Result<StreamingQuery> {
    session.create_sink("out", Arc::new(sink.clone()))?;
    session.start_stream_sql(&format!("INSERT INTO out {sql}"), options).await
}

/// Runs a query to its end, and returns the rows of its sink.
pub async fn run(session: &Session, sql: &str, options: StreamOptions) -> Vec<RecordBatch> {
    let sink = Memory::default();
    let query = open(session, sql, &sink, options).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    query.await_termination(0).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    sink.taken()
}

pub async fn at_once(session: &Session, sql: &str) -> Vec<RecordBatch> {
    session.sql(sql).await.unwrap().collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Returns rows as texts, in their order.
pub fn rows(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect()));
    }
    rows
}

pub fn sorted(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let mut rows = rows(batches);
    rows.sort();
    rows
}

/// Returns the last row of each key, sorted by key; keys are the first `keys` columns.
pub fn last_rows(batches: &[RecordBatch], keys: usize) -> Vec<Vec<String>> {
    let last: BTreeMap<Vec<String>, Vec<String>> =
        rows(batches).into_iter().map(|row| (row[..keys].to_vec(), row)).collect();
    let mut rows: Vec<_> = last.into_values().collect();
    rows.sort();
    rows
}
