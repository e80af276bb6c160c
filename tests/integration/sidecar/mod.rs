//! Sidecars over real sources, tested through the engine.

mod durable;
mod follow;
mod law;
mod local;
mod postgres;
mod server;
mod silence;
mod time;

use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tempfile::TempDir;
use vexact::htap::{HtapConfig, HtapEngine};
use vexact::replication::SyncResult;
use vexact::sidecar::{SidecarConfig, TimestampTableConfig};

/// A followed table with the usual columns.
fn table(name: &str) -> TimestampTableConfig {
    TimestampTableConfig {
        table_name: name.into(),
        primary_key: vec!["id".into()],
        created_at_column: "created_at".into(),
        updated_at_column: "updated_at".into(),
        columns: Vec::new(),
        column_types: Vec::new(),
    }
}

/// A SQLite file of another program.
struct World {
    folder: TempDir,
    conn: rusqlite::Connection,
}

impl World {
    fn new() -> Self {
        Self::with("CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT, created_at INTEGER, updated_at INTEGER)")
    }

    fn with(sql: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let conn = rusqlite::Connection::open(folder.path().join("source.db")).unwrap();
        // A test needs no durable source.
        conn.execute_batch("PRAGMA synchronous = OFF").unwrap();
        conn.execute_batch(sql).unwrap();
        Self { folder, conn }
    }

    fn source(&self) -> String {
        self.folder.path().join("source.db").display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, sql: &str) {
        self.conn.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Inserts a row of `docs` with these times of creation and update.
    fn doc(&self, id: i64, body: &str, created: i64, updated: i64) {
        let sql = "INSERT INTO docs VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE
            SET body = excluded.body, updated_at = excluded.updated_at";
        self.conn.execute(sql, (id, body, created, updated)).unwrap();
    }

    fn sidecar(&self) -> SidecarConfig {
        SidecarConfig::new(self.source(), vec![table("docs")])
    }

    async fn open(&self) -> HtapEngine {
        self.open_with(self.sidecar()).await
    }

    async fn open_with(&self, sidecar: SidecarConfig) -> HtapEngine {
        let config = HtapConfig { oltp_path: self.path("own.db"), sidecar: Some(sidecar), ..HtapConfig::default() };
        HtapEngine::open(config).await.unwrap()
    }
}

/// Returns the rows of an answer, each as one text.
fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|")),
        );
    }
    rows
}

async fn ask(engine: &HtapEngine, sql: &str) -> Vec<String> {
    texts(&engine.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}")))
}

async fn docs(engine: &HtapEngine) -> Vec<String> {
    ask(engine, "SELECT id, body FROM docs ORDER BY id").await
}

/// Returns the numbers of inserted, updated and deleted rows.
fn counts(result: SyncResult) -> (u64, u64, u64) {
    assert_eq!(result.events_processed, result.rows_inserted + result.rows_updated + result.rows_deleted);
    (result.rows_inserted, result.rows_updated, result.rows_deleted)
}

async fn sync(engine: &HtapEngine) -> (u64, u64, u64) {
    counts(engine.sync_now().await.unwrap())
}

async fn sync_all(engine: &HtapEngine) -> (u64, u64, u64) {
    counts(engine.sync_all().await.unwrap())
}
