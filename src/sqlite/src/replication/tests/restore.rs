//! A database that goes back to a backup while an engine has it open.

use rusqlite::backup::Backup;

use super::*;

/// Copies a database into another by SQLite's backup, as `.backup` and `.restore` do.
fn backup(from: &std::path::Path, to: &std::path::Path) {
    let (from, mut to) = (Connection::open(from).unwrap(), Connection::open(to).unwrap());
    Backup::new(&from, &mut to).unwrap().step(-1).unwrap();
}

/// Replaces the database by a copy, as a restore of files does.
fn replace(from: &std::path::Path, database: &std::path::Path) {
    let copy = database.with_extension("copy");
    std::fs::copy(from, &copy).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", database.display()));
    }
    std::fs::rename(copy, database).unwrap();
}

fn write(database: &std::path::Path, sql: &str) {
    Connection::open(database).unwrap().execute_batch(sql).unwrap();
}

/// Changes that are written to the file after the restore, before the next sync.
fn changes(count: usize) -> String {
    (0..count).map(|at| format!("INSERT INTO Docs(Title) VALUES ('after {at}');")).collect()
}

#[tokio::test]
async fn a_database_that_goes_back_is_read_anew_however_much_is_written_then() {
    for by_file in [false, true] {
        for after in [0, 1, 3, 4, 20] {
            let folder = Folder::new();
            let (database, copy) = (folder.database(), folder.0.path().join("backup.db"));
            let engine = open(&database, options(SyncMode::Destructive)).await;
            engine.run(CREATE).await;
            engine.replicator.register(docs(), false).await.unwrap();
            engine.run("INSERT INTO Docs(id, Title) VALUES (1, 'old'), (2, 'old')").await;
            engine.replicator.sync_all().await.unwrap();
            backup(&database, &copy);
            for sql in ["INSERT INTO Docs(id, Title) VALUES (3, 'new')", "DELETE FROM Docs WHERE id = 2"] {
                engine.run(sql).await;
            }
            engine.replicator.sync_all().await.unwrap();
            match by_file {
                true => replace(&copy, &database),
                false => backup(&copy, &database),
            }
            write(&database, &changes(after));
            engine.replicator.sync_all().await.unwrap();
            engine.assert_equal(&docs()).await;
            assert_eq!(engine.olap("SELECT count(*) FROM docs").await, [(2 + after).to_string()]);
            // Replication continues from there, and writes of the engine are in the file that now
            // has the name.
            engine.run("UPDATE Docs SET Title = 'then'").await;
            assert_eq!(engine.replicator.sync_now().await.unwrap().events_processed, 2 + after as u64);
            engine.assert_equal(&docs()).await;
            let titles = "SELECT count(*) FROM Docs WHERE Title = 'then'";
            let written: i64 = Connection::open(&database).unwrap().query_row(titles, [], |row| row.get(0)).unwrap();
            assert_eq!(written, 2 + after as i64);
        }
    }
}

#[tokio::test]
async fn a_copy_of_the_same_state_is_no_other_history() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    engine.run("INSERT INTO Docs(id) VALUES (1)").await;
    engine.replicator.sync_all().await.unwrap();
    let version = || Arc::clone(&engine.replicator.replicas.snapshot().table("docs").unwrap().version);
    let before = version();
    let copy = folder.0.path().join("backup.db");
    backup(&folder.database(), &copy);
    backup(&copy, &folder.database());
    engine.replicator.sync_all().await.unwrap();
    assert!(Arc::ptr_eq(&before, &version()), "nothing was copied");
}

#[tokio::test]
async fn a_history_goes_on_over_a_restore_with_what_differs_then() {
    let folder = Folder::new();
    let (database, copy) = (folder.database(), folder.0.path().join("backup.db"));
    let engine = open(&database, options(SyncMode::Temporal)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    engine.run("INSERT INTO Docs(id, Title) VALUES (1, 'old'), (2, 'same')").await;
    engine.replicator.sync_all().await.unwrap();
    backup(&database, &copy);
    engine.run("UPDATE Docs SET Title = 'new' WHERE id = 1").await;
    // The backup knows neither the column nor the version of the registration.
    engine.replicator.add_column("docs", "extra", ColumnType::Int64).await.unwrap();
    engine.replicator.sync_all().await.unwrap();
    backup(&copy, &database);
    engine.replicator.sync_all().await.unwrap();
    let history = engine.olap("SELECT id, \"Title\", _valid_to IS NULL FROM docs").await;
    assert_eq!(history, ["1|new|false", "1|old|false", "1|old|true", "2|same|true"]);
}

#[tokio::test]
async fn a_backup_from_before_the_registration_has_no_replica() {
    let folder = Folder::new();
    let (database, copy) = (folder.database(), folder.0.path().join("backup.db"));
    let engine = open(&database, options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    backup(&database, &copy);
    engine.replicator.register(docs(), false).await.unwrap();
    engine.run("INSERT INTO Docs(id) VALUES (1)").await;
    engine.replicator.sync_all().await.unwrap();
    backup(&copy, &database);
    engine.replicator.sync_all().await.unwrap();
    assert!(engine.session.sql("SELECT * FROM docs", None).await.is_err());
    engine.replicator.register(docs(), false).await.unwrap();
    engine.run("INSERT INTO Docs(id) VALUES (7)").await;
    engine.replicator.sync_all().await.unwrap();
    engine.assert_equal(&docs()).await;
}

#[tokio::test]
async fn a_database_that_is_removed_is_an_error_that_names_it() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    std::fs::rename(folder.database(), folder.0.path().join("elsewhere.db")).unwrap();
    let error = engine.oltp.execute("INSERT INTO Docs(id) VALUES (1)", vec![]).await.unwrap_err().to_string();
    assert!(error.ends_with("app.db: the database file was removed or renamed while it is open"), "{error}");
    assert_eq!(engine.replicator.sync_now().await.unwrap_err().to_string(), error);
    std::fs::rename(folder.0.path().join("elsewhere.db"), folder.database()).unwrap();
    engine.run("INSERT INTO Docs(id) VALUES (1)").await;
}
