//! Replicas against SQLite itself: after each sync they are compared row by row, to the bit.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use rusqlite::Connection;

use super::{ReplicationOptions, Replicator, SyncResult, TableCondition};
use crate::oltp::{Oltp, OltpOptions, log};
use crate::replica::{Replicas, SyncMode};
use crate::schema::{ColumnType, TableSchema};
use crate::session::{Session, SessionOptions};

struct Engine {
    oltp: Arc<Oltp>,
    replicator: Arc<Replicator>,
    session: Session,
}

fn options(mode: SyncMode) -> ReplicationOptions {
    ReplicationOptions { mode, prunes: true, batch_size: 1000, store: None }
}

async fn open(path: &std::path::Path, options: ReplicationOptions) -> Engine {
    let oltp = Arc::new(Oltp::open(path, OltpOptions::default()).unwrap());
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
        let batches = self.oltp.read(move |conn| super::copy::rows(conn, &schema, &mut |_| ())).await.unwrap();
        texts(&batches)
    }

    async fn assert_equal(&self, schema: &TableSchema) {
        let columns: Vec<String> =
            schema.columns().iter().map(|column| format!("\"{}\"", column.name.replace('"', "\"\""))).collect();
        let name = schema.name().replace('"', "\"\"");
        let replica = self.olap(&format!("SELECT {} FROM \"{name}\"", columns.join(", "))).await;
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
    assert_eq!(status.tables[0].state, TableCondition::NotLoaded);
    engine.run("INSERT INTO Docs VALUES (3, 'three', 1, NULL)").await;
    assert_eq!(engine.replicator.initial_sync("docs").await.unwrap(), 3);
    assert_eq!(engine.replicator.initial_sync("docs").await.unwrap(), 3);
    engine.assert_equal(&docs()).await;
    // What was before the copy is not applied again.
    assert_eq!(engine.replicator.sync_now().await.unwrap().events_processed, 0);
    assert_eq!(engine.replicator.status().await.unwrap().tables[0].state, TableCondition::Ready);
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
async fn two_engines_on_one_file_each_see_every_change() {
    let folder = Folder::new();
    let a = open(&folder.database(), options(SyncMode::Destructive)).await;
    a.run(CREATE).await;
    a.replicator.register(docs(), false).await.unwrap();
    let b = open(&folder.database(), options(SyncMode::Destructive)).await;
    b.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
    assert_eq!(a.replicator.sync_now().await.unwrap().events_processed, 1);
    a.run("INSERT INTO Docs VALUES (2, 'two', 0.5, NULL)").await;
    assert_eq!(a.replicator.sync_now().await.unwrap().events_processed, 1);
    // Nothing was pruned that the other still needs.
    assert_eq!(b.replicator.sync_all().await.unwrap().events_processed, 2);
    a.assert_equal(&docs()).await;
    b.assert_equal(&docs()).await;
    // A lease that ended holds nothing back.
    b.replicator.shutdown().await;
    a.run("DELETE FROM Docs").await;
    a.replicator.sync_all().await.unwrap();
    let left: i64 = Connection::open(folder.database())
        .unwrap()
        .query_row("SELECT count(*) FROM _vexact_log", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn the_lease_of_a_dead_engine_holds_nothing_back() {
    let folder = Folder::new();
    let a = open(&folder.database(), options(SyncMode::Destructive)).await;
    a.run(CREATE).await;
    a.replicator.register(docs(), false).await.unwrap();
    let dead = "INSERT INTO _vexact_engines(id, applied_seq, is_lease) VALUES ('dead-1', 0, 1)";
    Connection::open(folder.database()).unwrap().execute(dead, []).unwrap();
    a.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
    assert_eq!(a.replicator.sync_now().await.unwrap().pruned_count, Some(1));
}

#[tokio::test]
async fn changes_that_were_pruned_unseen_are_copied() {
    let folder = Folder::new();
    let a = open(&folder.database(), options(SyncMode::Destructive)).await;
    a.run(CREATE).await;
    a.replicator.register(docs(), false).await.unwrap();
    let b = open(&folder.database(), options(SyncMode::Destructive)).await;
    a.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
    // Somebody tidies up, and takes the lease of B with it.
    let forget = "DELETE FROM _vexact_engines";
    Connection::open(folder.database()).unwrap().execute(forget, []).unwrap();
    assert_eq!(a.replicator.sync_now().await.unwrap().pruned_count, Some(1));
    a.run("INSERT INTO Docs VALUES (2, 'two', 0.5, NULL)").await;
    b.replicator.sync_now().await.unwrap();
    b.assert_equal(&docs()).await;
}

#[tokio::test]
async fn a_migration_by_another_program_is_noticed() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    engine.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
    engine.replicator.sync_now().await.unwrap();
    let other = Connection::open(folder.database()).unwrap();
    let migration = format!(
        "BEGIN; ALTER TABLE Docs RENAME TO old; {CREATE}; INSERT INTO Docs SELECT id + 10, Title, weight, v FROM old; \
         DROP TABLE old; COMMIT; INSERT INTO Docs VALUES (99, 'later', 1, NULL);"
    );
    other.execute_batch(&migration).unwrap();
    engine.replicator.sync_now().await.unwrap();
    engine.assert_equal(&docs()).await;
    // Captured again.
    other.execute_batch("UPDATE Docs SET weight = 2").unwrap();
    engine.replicator.sync_now().await.unwrap();
    engine.assert_equal(&docs()).await;
}

#[tokio::test]
async fn a_table_that_is_gone_fails_alone_and_comes_back() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.run("CREATE TABLE other(id INTEGER PRIMARY KEY)").await;
    let other = schema("other", &[("id", "int64")], &["id"]);
    engine.replicator.register(docs(), false).await.unwrap();
    engine.replicator.register(other.clone(), false).await.unwrap();
    Connection::open(folder.database()).unwrap().execute_batch("DROP TABLE Docs").unwrap();
    engine.run("INSERT INTO other VALUES (1)").await;
    assert_eq!(engine.replicator.sync_now().await.unwrap().rows_inserted, 1);
    engine.assert_equal(&other).await;
    let status = engine.replicator.status().await.unwrap();
    assert_eq!(status.tables[0].state, TableCondition::Failed);
    assert!(status.last_error.unwrap().contains("no such table"), "{:?}", status.tables[0].last_error);
    let error = engine.session.sql("SELECT * FROM docs", None).await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("does not follow its source"), "{error}");
    engine.run(CREATE).await;
    engine.run("INSERT INTO Docs VALUES (5, 'five', 0.5, NULL)").await;
    engine.replicator.sync_now().await.unwrap();
    engine.assert_equal(&docs()).await;
    assert_eq!(engine.replicator.status().await.unwrap().last_error, None);
}

#[tokio::test]
async fn a_table_that_cannot_be_captured_fails_alone_until_it_can() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.run("CREATE TABLE other(id INTEGER PRIMARY KEY)").await;
    let followed = schema("other", &[("id", "int64")], &["id"]);
    engine.replicator.register(docs(), false).await.unwrap();
    engine.replicator.register(followed.clone(), false).await.unwrap();
    let other = Connection::open(folder.database()).unwrap();
    let unfit = format!("DROP TABLE Docs; {CREATE}; INSERT INTO Docs VALUES (1, x'00', 1, NULL)");
    let keyless = "DROP TABLE Docs; CREATE TABLE Docs(id INTEGER, Title TEXT, weight REAL, v BLOB)".to_owned();
    for (id, (broken, problem, mended)) in [
        (unfit, "do not fit", "UPDATE Docs SET Title = 'one'".to_owned()),
        (keyless, "is not unique", "CREATE UNIQUE INDEX by_id ON Docs(id)".to_owned()),
        (
            "CREATE UNIQUE INDEX by_title ON Docs(lower(Title))".to_owned(),
            "is on an expression",
            "DROP INDEX by_title".to_owned(),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        other.execute_batch(&broken).unwrap();
        engine.run(&format!("INSERT INTO other VALUES ({id})")).await;
        // The first cycle finds it, the second does not forget it.
        for inserted in [1, 0] {
            assert_eq!(engine.replicator.sync_now().await.unwrap().rows_inserted, inserted, "{broken}");
            let status = engine.replicator.status().await.unwrap();
            assert_eq!(status.tables[0].state, TableCondition::Failed, "{broken}");
            assert!(status.last_error.as_ref().unwrap().contains(problem), "{:?}", status.last_error);
            assert!(engine.replicator.initial_sync("docs").await.is_err());
        }
        engine.assert_equal(&followed).await;
        other.execute_batch(&mended).unwrap();
        engine.replicator.sync_now().await.unwrap();
        engine.run(&format!("INSERT INTO Docs VALUES ({id} + 10, 'new', 1, NULL)")).await;
        engine.replicator.sync_now().await.unwrap();
        engine.assert_equal(&docs()).await;
        assert_eq!(engine.replicator.status().await.unwrap().last_error, None);
    }
}

#[tokio::test]
async fn columns_come_and_go_without_a_gap() {
    for mode in [SyncMode::Destructive, SyncMode::Temporal] {
        let folder = Folder::new();
        let engine = open(&folder.database(), options(mode)).await;
        engine.run(CREATE).await;
        engine.replicator.register(docs(), false).await.unwrap();
        engine.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL), (2, 'two', 1.5, NULL)").await;
        engine.replicator.sync_now().await.unwrap();
        engine.run("UPDATE Docs SET weight = 2.5 WHERE id = 2").await;
        engine.run("ALTER TABLE Docs ADD COLUMN age INTEGER DEFAULT 7").await;
        engine.run("UPDATE Docs SET age = 8 WHERE id = 1").await;
        engine.replicator.add_column("docs", "age", ColumnType::Int32).await.unwrap();
        let open = if mode == SyncMode::Temporal { " WHERE _valid_to IS NULL" } else { "" };
        let rows = engine.olap(&format!("SELECT id, weight, age FROM docs{open}")).await;
        assert_eq!(rows, ["1|0.5|8", "2|2.5|7"]);
        engine.run("INSERT INTO Docs(id, age) VALUES (3, 30)").await;
        assert_eq!(engine.replicator.sync_now().await.unwrap().rows_inserted, 1);
        // A column that SQLite does not have yet is made.
        engine.replicator.add_column("docs", "note", ColumnType::Utf8).await.unwrap();
        engine.run("UPDATE Docs SET note = 'x' WHERE id = 3").await;
        engine.replicator.drop_column("docs", "weight").await.unwrap();
        engine.replicator.sync_now().await.unwrap();
        let rows = engine.olap(&format!("SELECT id, age, note FROM docs{open}")).await;
        assert_eq!(rows, ["1|8|NULL", "2|7|NULL", "3|30|x"]);
        if mode == SyncMode::Temporal {
            let history = engine.olap("SELECT id, age, _operation FROM docs WHERE id = 1").await;
            assert_eq!(history, ["1|7|I", "1|8|U"]);
        }
        let error = engine.replicator.drop_column("docs", "ID").await.unwrap_err().to_string();
        assert!(error.contains("belongs to the key"), "{error}");
        let error = engine.replicator.add_column("docs", "Age", ColumnType::Int32).await.unwrap_err().to_string();
        assert!(error.contains("already has a column"), "{error}");
    }
}

#[tokio::test]
async fn a_history_is_kept_and_asked_as_of_a_time() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Temporal)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    engine.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
    engine.replicator.sync_now().await.unwrap();
    engine.run("UPDATE Docs SET Title = 'uno' WHERE id = 1").await;
    engine.run("UPDATE Docs SET id = 4 WHERE id = 1").await;
    engine.replicator.sync_now().await.unwrap();
    let history = engine.olap("SELECT id, \"Title\", _operation, _valid_to IS NULL FROM docs").await;
    assert_eq!(history, ["1|one|I|false", "1|uno|D|false", "1|uno|U|false", "4|uno|I|true"]);
    let now = engine.olap("SELECT id, \"Title\" FROM as_of('docs', 9000000000000000)").await;
    assert_eq!(now, ["4|uno"]);
    assert!(engine.olap("SELECT * FROM as_of('Docs', 5)").await.is_empty());
    // Read again, a history gets what it has not seen, and nothing twice.
    assert_eq!(engine.replicator.initial_sync("docs").await.unwrap(), 1);
    assert_eq!(engine.olap("SELECT id FROM docs").await.len(), 4);
}

#[tokio::test]
async fn a_copy_loses_nothing_of_a_history_that_the_log_has() {
    let folder = Folder::new();
    let a = open(&folder.database(), options(SyncMode::Temporal)).await;
    a.run(CREATE).await;
    a.replicator.register(docs(), false).await.unwrap();
    let b = open(&folder.database(), options(SyncMode::Temporal)).await;
    a.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
    a.run("UPDATE Docs SET Title = 'uno' WHERE id = 1").await;
    a.replicator.initial_sync("docs").await.unwrap();
    let history = "SELECT id, \"Title\", _operation, _valid_to IS NULL FROM docs";
    assert_eq!(a.olap(history).await, ["1|one|I|false", "1|uno|U|true"]);
    a.run("UPDATE Docs SET Title = 'eins', weight = 1.5").await;
    // What was written before a column was dropped, made anew with another type, and after.
    a.replicator.drop_column("docs", "weight").await.unwrap();
    a.run("UPDATE Docs SET Title = 'ein'").await;
    a.replicator.add_column("docs", "weight", ColumnType::Utf8).await.unwrap();
    a.run("UPDATE Docs SET Title = 'ichi', weight = 'w'").await;
    let all = ["1|eins||U", "1|ein||U", "1|ichi|w|U", "1|one||I", "1|uno||U"];
    for engine in [&a, &b] {
        engine.replicator.sync_now().await.unwrap();
        let rows = engine.olap("SELECT id, \"Title\", coalesce(weight, ''), _operation FROM docs").await;
        assert_eq!(rows, all);
    }
}

#[tokio::test]
async fn an_engine_goes_on_from_what_another_registered_and_altered() {
    let folder = Folder::new();
    let a = open(&folder.database(), options(SyncMode::Destructive)).await;
    let b = open(&folder.database(), options(SyncMode::Destructive)).await;
    a.run(CREATE).await;
    a.replicator.register(docs(), false).await.unwrap();
    a.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
    b.replicator.register(docs(), true).await.unwrap();
    b.assert_equal(&docs()).await;
    a.replicator.add_column("docs", "age", ColumnType::Int32).await.unwrap();
    // B has seen nothing of it.
    b.replicator.drop_column("docs", "weight").await.unwrap();
    a.run("UPDATE Docs SET age = 7").await;
    let columns = [("id", "int64"), ("Title", "utf8"), ("v", "vector(2)"), ("age", "int32")];
    for engine in [&a, &b] {
        engine.replicator.sync_now().await.unwrap();
        engine.assert_equal(&schema("Docs", &columns, &["id"])).await;
        let error = engine.replicator.drop_column("docs", "weight").await.unwrap_err().to_string();
        assert!(error.contains("has no column"), "{error}");
    }
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
