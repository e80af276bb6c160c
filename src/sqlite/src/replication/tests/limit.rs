//! A log that grows while no engine reads it.

use super::positions::stored;
use super::*;

fn limited(options: ReplicationOptions) -> ReplicationOptions {
    ReplicationOptions { log_limit: Some(50), ..options }
}

fn app(folder: &Folder) -> Connection {
    Connection::open(folder.database()).unwrap()
}

fn logged(app: &Connection) -> i64 {
    app.query_row("SELECT count(*) FROM _vexact_log", [], |row| row.get(0)).unwrap()
}

/// Changes of one row, each in a transaction of its own.
fn update(app: &Connection, times: usize) {
    for at in 0..times {
        app.execute("UPDATE Docs SET Title = ?1 WHERE id = 1", [format!("t{at}")]).unwrap();
    }
}

async fn registered(folder: &Folder, options: ReplicationOptions) -> Engine {
    let engine = open(&folder.database(), options).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    engine.run("INSERT INTO Docs(id) VALUES (1), (2), (3)").await;
    engine.replicator.sync_all().await.unwrap();
    engine
}

async fn shut_down(engine: Engine) {
    engine.replicator.shutdown().await;
    engine.oltp.shutdown().await;
}

#[tokio::test]
async fn the_log_is_bounded_without_an_engine_and_the_tables_are_copied_then() {
    for is_stored in [false, true] {
        let folder = Folder::new();
        let options =
            || if is_stored { stored(&folder, SyncMode::Destructive) } else { options(SyncMode::Destructive) };
        shut_down(registered(&folder, limited(options())).await).await;
        let app = app(&folder);
        update(&app, 500);
        app.execute_batch("INSERT INTO Docs(id) VALUES (4); DELETE FROM Docs WHERE id = 2").unwrap();
        assert!((25..=55).contains(&logged(&app)), "{}", logged(&app));
        // The limit is the file's.
        let engine = open(&folder.database(), options()).await;
        engine.assert_equal(&docs()).await;
        assert_eq!(engine.replicator.warning(), None);
        update(&app, 3);
        assert_eq!(engine.replicator.sync_all().await.unwrap().events_processed, 3);
        shut_down(engine).await;
        update(&app, 500);
        assert!(logged(&app) <= 55, "{}", logged(&app));
    }
}

#[tokio::test]
async fn engines_that_run_beside_a_full_log_copy_the_tables() {
    for mode in [SyncMode::Destructive, SyncMode::Temporal] {
        let folder = Folder::new();
        let a = registered(&folder, limited(options(mode))).await;
        let b = open(&folder.database(), options(mode)).await;
        let app = app(&folder);
        update(&app, 200);
        app.execute_batch("DELETE FROM Docs WHERE id = 3").unwrap();
        a.replicator.sync_all().await.unwrap();
        update(&app, 2);
        // One engine has restarted the log, and the other detects that it is a new log.
        b.replicator.sync_all().await.unwrap();
        a.replicator.sync_all().await.unwrap();
        for engine in [&a, &b] {
            let current = match mode {
                SyncMode::Destructive => "SELECT id, \"Title\" FROM docs",
                SyncMode::Temporal => "SELECT id, \"Title\" FROM docs WHERE _valid_to IS NULL AND _operation <> 'D'",
            };
            assert_eq!(engine.olap(current).await, ["1|t1", "2|NULL"]);
        }
    }
}

#[tokio::test]
async fn a_log_that_another_program_keeps_locked_is_copied_at_each_sync() {
    let folder = Folder::new();
    let engine = registered(&folder, limited(options(SyncMode::Destructive))).await;
    let app = app(&folder);
    update(&app, 200);
    let other = Connection::open(folder.database()).unwrap();
    for at in 0..2 {
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        engine.replicator.sync_all().await.unwrap();
        engine.assert_equal(&docs()).await;
        other.execute_batch("ROLLBACK").unwrap();
        app.execute("UPDATE Docs SET Title = ?1", [format!("later {at}")]).unwrap();
    }
    engine.replicator.sync_all().await.unwrap();
    engine.assert_equal(&docs()).await;
    update(&app, 1);
    assert_eq!(engine.replicator.sync_all().await.unwrap().events_processed, 1);
}

#[tokio::test]
async fn a_history_in_files_and_a_log_that_is_not_pruned_have_no_limit() {
    let folder = Folder::new();
    shut_down(registered(&folder, limited(stored(&folder, SyncMode::Temporal))).await).await;
    let app = app(&folder);
    update(&app, 200);
    let engine = open(&folder.database(), stored(&folder, SyncMode::Temporal)).await;
    assert_eq!(engine.olap("SELECT count(*) FROM docs WHERE id = 1").await, ["201"]);
    // Without the history there is a limit again.
    let id = engine.replicator.status().await.unwrap().positions[0].id.clone();
    shut_down(engine).await;
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.replicator.drop_position(&id).await.unwrap();
    shut_down(engine).await;
    update(&app, 200);
    assert!(logged(&app) <= 55, "{}", logged(&app));

    let folder = Folder::new();
    let unpruned = ReplicationOptions { prunes: false, ..options(SyncMode::Destructive) };
    shut_down(registered(&folder, unpruned).await).await;
    let app = self::app(&folder);
    app.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 110000) INSERT INTO Docs(id) SELECT i FROM n",
    )
    .unwrap();
    assert!(logged(&app) > 109_990, "{}", logged(&app));
}

#[tokio::test]
async fn a_limit_that_was_dropped_is_mended() {
    for table in ["_vexact_limit", "_vexact_meta"] {
        let folder = Folder::new();
        let engine = registered(&folder, options(SyncMode::Destructive)).await;
        let app = app(&folder);
        app.execute_batch(&format!("DROP TABLE {table}")).unwrap();
        engine.replicator.sync_all().await.unwrap();
        // Who dropped it has an old schema of the triggers' tables until its next query.
        update(&self::app(&folder), 1);
        engine.replicator.sync_all().await.unwrap();
        engine.assert_equal(&docs()).await;
    }
}
