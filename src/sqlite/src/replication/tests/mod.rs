//! Replicas against SQLite itself: after each sync they are compared row by row, to the bit.

mod engines;
mod history;
mod limit;
mod migrations;
mod positions;
mod read_only;
mod restore;
mod row_ids;
mod stored;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use rusqlite::Connection;
use vexact_core::schema::{ColumnType, TableSchema};
use vexact_core::sql::ident;
use vexact_replica::{Replicas, SyncMode};
use vexact_session::{Session, SessionOptions};

use super::{ReplicationOptions, Replicator, SyncResult, TableState};
use crate::oltp::{Oltp, OltpOptions, log};

struct Engine {
    oltp: Arc<Oltp>,
    replicator: Arc<Replicator>,
    session: Session,
}

fn options(mode: SyncMode) -> ReplicationOptions {
    ReplicationOptions { mode, prunes: true, batch_size: 1000, log_limit: None, store: None }
}

async fn open(path: &std::path::Path, options: ReplicationOptions) -> Engine {
    open_with(path, OltpOptions::default(), options).await
}

async fn open_with(path: &std::path::Path, oltp: OltpOptions, options: ReplicationOptions) -> Engine {
    let oltp = Arc::new(Oltp::open(path, oltp).unwrap());
    let replicas = Arc::new(Replicas::default());
    let replicator = Replicator::start(Arc::clone(&oltp), Arc::clone(&replicas), options).await.unwrap();
    let session = Session::over_replicas(&SessionOptions::default(), replicas).unwrap();
    Engine { oltp, replicator: Arc::new(replicator), session }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn database(&self) -> PathBuf {
        self.0.path().join("app.db")
    }
}

fn schema(name: &str, columns: &[(&str, &str)], key: &[&str]) -> TableSchema {
    let columns: Vec<(String, String)> = columns.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let key: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
    TableSchema::try_new(name, &columns, &key).unwrap()
}

fn docs() -> TableSchema {
    schema("Docs", &[("id", "int64"), ("Title", "utf8"), ("weight", "float64"), ("v", "vector(2)")], &["id"])
}

const CREATE: &str = "CREATE TABLE Docs(id INTEGER PRIMARY KEY, Title TEXT, weight REAL, v BLOB)";

/// Rows as sorted texts.
fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = Vec::new();
    let options = FormatOptions::default().with_null("NULL");
    for batch in batches {
        let columns: Vec<ArrayFormatter> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    rows.sort();
    rows
}

impl Engine {
    async fn run(&self, sql: &str) {
        self.oltp.execute(sql, vec![]).await.unwrap();
    }

    async fn olap(&self, sql: &str) -> Vec<String> {
        texts(&self.session.sql(sql, None).await.unwrap().collect().await.unwrap())
    }

    /// The table as SQLite has it, with the registered types.
    async fn oltp_rows(&self, schema: &TableSchema) -> Vec<String> {
        let schema = schema.clone();
        let oltp = Arc::clone(&self.oltp);
        let copy = move |conn: &rusqlite::Connection| super::copy::rows(conn, &oltp, &schema, &|_| ());
        let batches = self.oltp.read(copy).await.unwrap();
        texts(&batches)
    }

    async fn assert_equal(&self, schema: &TableSchema) {
        let columns: Vec<String> = schema.columns().iter().map(|column| ident(&column.name)).collect();
        let replica = self.olap(&format!("SELECT {} FROM {}", columns.join(", "), ident(schema.name()))).await;
        assert_eq!(replica, self.oltp_rows(schema).await);
    }
}

#[tokio::test]
async fn what_is_written_is_seen_after_a_sync() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    engine.run("INSERT INTO Docs VALUES (1, 'one', 0.5, vector('[1,2]')), (2, 'two', NULL, NULL)").await;
    assert_eq!(engine.olap("SELECT count(*) FROM docs").await, ["0"]);
    let result = engine.replicator.sync_now().await.unwrap();
    assert_eq!(result.to_string(), "SyncResult(events=2, inserted=2, updated=0, deleted=0, pruned=2)");
    engine.assert_equal(&docs()).await;
    engine.run("UPDATE Docs SET \"Title\" = 'deux' WHERE id = 2").await;
    engine.run("DELETE FROM Docs WHERE id = 1").await;
    engine.run("REPLACE INTO Docs VALUES (3, 'three', 1, vector('[3,4]'))").await;
    let result = engine.replicator.sync_now().await.unwrap();
    assert_eq!(
        result,
        SyncResult { events_processed: 3, rows_inserted: 1, rows_updated: 1, rows_deleted: 1, pruned_count: Some(3) }
    );
    engine.assert_equal(&docs()).await;
    assert_eq!(engine.replicator.sync_now().await.unwrap(), SyncResult::default());
    let hits = engine.olap("SELECT id FROM vector_search('docs', 'v', [3.0, 4.0], 1)").await;
    assert_eq!(hits, ["3"]);
}

#[tokio::test]
async fn rows_before_the_registration_come_with_an_initial_sync() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL), (2, 'two', NULL, NULL)").await;
    let outcome = engine.replicator.register(docs(), false).await.unwrap();
    assert_eq!(outcome.unloaded_rows, 2);
    let status = engine.replicator.status().await.unwrap();
    assert_eq!(status.tables[0].state, TableState::Pending);
    engine.run("INSERT INTO Docs VALUES (3, 'three', 1, NULL)").await;
    assert_eq!(engine.replicator.initial_sync("docs").await.unwrap(), 3);
    assert_eq!(engine.replicator.initial_sync("docs").await.unwrap(), 3);
    engine.assert_equal(&docs()).await;
    // Changes before the copy are not applied again.
    assert_eq!(engine.replicator.sync_now().await.unwrap().events_processed, 0);
    assert_eq!(engine.replicator.status().await.unwrap().tables[0].state, TableState::Ready);
    let error = engine.replicator.register(docs(), false).await.unwrap_err().to_string();
    assert_eq!(error, "table \"Docs\" is already registered");
}

#[tokio::test]
async fn a_first_registration_that_is_refused_leaves_no_trace() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.run("INSERT INTO Docs VALUES (1, x'00', 0.5, NULL)").await;
    let error = engine.replicator.register(docs(), true).await.unwrap_err().to_string();
    assert!(error.contains("do not fit"), "{error}");
    engine.run("UPDATE Docs SET Title = 'one'").await;
    engine.replicator.sync_now().await.unwrap();
    assert_eq!(engine.replicator.status().await.unwrap().lag, 0);
    engine.replicator.register(docs(), true).await.unwrap();
    engine.assert_equal(&docs()).await;
}

#[tokio::test]
async fn a_new_process_has_the_replicas_of_the_old_one() {
    let folder = Folder::new();
    {
        let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
        engine.run(CREATE).await;
        engine.replicator.register(docs(), false).await.unwrap();
        engine.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
        // Neither synced nor shut down.
    }
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.assert_equal(&docs()).await;
    engine.replicator.register(docs(), true).await.unwrap();
    let other = schema("docs", &[("id", "int64")], &["id"]);
    let again = open(&folder.database(), options(SyncMode::Destructive)).await;
    let error = again.replicator.register(other, false).await.unwrap_err().to_string();
    assert!(error.contains("already registered with another schema") && error.contains("Title utf8"), "{error}");
}

#[tokio::test]
async fn one_cycle_ends_at_the_end_of_a_transaction() {
    let folder = Folder::new();
    let small = ReplicationOptions { batch_size: 3, ..options(SyncMode::Destructive) };
    let engine = open(&folder.database(), small).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    for batch in 0..4 {
        let rows = (0..2).map(|row| {
            vec![rusqlite::types::Value::Integer(batch * 2 + row), rusqlite::types::Value::Text("x".into())]
        });
        engine.oltp.execute_many("INSERT INTO Docs(id, Title) VALUES (?, ?)", rows.collect()).await.unwrap();
    }
    assert_eq!(engine.replicator.status().await.unwrap().lag, 8);
    assert_eq!(engine.replicator.sync_now().await.unwrap().events_processed, 4);
    assert_eq!(engine.replicator.sync_all().await.unwrap().events_processed, 4);
    engine.assert_equal(&docs()).await;
}

#[tokio::test]
async fn a_key_that_becomes_minus_zero_stays_one_key() {
    let folder = Folder::new();
    for mode in [SyncMode::Destructive, SyncMode::Temporal] {
        let engine = open(&folder.database(), options(mode)).await;
        engine.run("CREATE TABLE IF NOT EXISTS z(k PRIMARY KEY, n INTEGER)").await;
        let z = schema("z", &[("k", "float64"), ("n", "int64")], &["k"]);
        engine.replicator.register(z, false).await.unwrap();
        for (zero, n) in [(0.0, 1), (-0.0, 2), (0.0, 3)] {
            let row = vec![zero.into(), rusqlite::types::Value::Integer(n)];
            engine.oltp.execute("REPLACE INTO z VALUES (?, ?)", row).await.unwrap();
            engine.replicator.sync_now().await.unwrap();
            let open = if mode == SyncMode::Temporal { " WHERE _valid_to IS NULL" } else { "" };
            assert_eq!(engine.olap(&format!("SELECT n FROM z{open}")).await, [n.to_string()]);
        }
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_half_of_a_sync() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    for id in 0..20 {
        engine.run(&format!("INSERT INTO Docs VALUES ({id}, 'x', 1, NULL)")).await;
        // Polled once, then dropped.
        let mut sync = Box::pin(engine.replicator.sync_now());
        let _ = futures::poll!(&mut sync);
    }
    engine.replicator.sync_all().await.unwrap();
    engine.assert_equal(&docs()).await;
}

#[tokio::test]
async fn the_background_sync_catches_up_and_stops() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    engine.replicator.start_background(std::time::Duration::from_millis(1));
    engine.run("INSERT INTO Docs VALUES (1, 'x', 1, NULL)").await;
    while engine.replicator.status().await.unwrap().lag > 0 {
        tokio::task::yield_now().await;
    }
    engine.assert_equal(&docs()).await;
    engine.replicator.stop_background();
    engine.replicator.stop_background();
    engine.replicator.shutdown().await;
    assert!(engine.replicator.sync_now().await.is_err());
    let end = engine.oltp.read(log::last_seq).await.unwrap();
    assert!(end > 0);
}

#[tokio::test]
async fn the_status_waits_for_no_cycle_and_tells_how_far_a_copy_is() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    engine.run("INSERT INTO Docs(id) VALUES (1), (2)").await;
    // As a cycle that has read two rows of a copy.
    let state = engine.replicator.state.lock().await;
    engine.replicator.copying.set(Some(("Docs", 2)));
    let status = engine.replicator.status().await.unwrap();
    assert_eq!((status.lag, status.last_synced_seq), (2, None));
    assert_eq!(status.tables[0].state.to_string(), "copying, 2 rows");
    drop(state);
    engine.replicator.sync_now().await.unwrap();
    let status = engine.replicator.status().await.unwrap();
    assert_eq!(status.tables[0].state, TableState::Ready);
    assert!(status.lag == 0 && status.last_synced_seq.is_some());
}
