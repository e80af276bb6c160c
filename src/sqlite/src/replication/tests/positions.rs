//! Positions that keep the log, and other programs that write while an engine only reads.

use vexact_core::disk::FileSystem;
use vexact_replica::{StorageFormat, Store};

use super::*;

pub(super) fn stored(folder: &Folder, mode: SyncMode) -> ReplicationOptions {
    let path = folder.0.path().join("store");
    let store = Store::open(&path, StorageFormat::ArrowIpc, Arc::new(FileSystem)).unwrap();
    ReplicationOptions { store: Some(Arc::new(store)), ..options(mode) }
}

fn rows(folder: &Folder, table: &str) -> i64 {
    let count = format!("SELECT count(*) FROM {table}");
    Connection::open(folder.database()).unwrap().query_row(&count, [], |row| row.get(0)).unwrap()
}

fn lock_files(folder: &Folder) -> usize {
    let names = std::fs::read_dir(folder.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().contains("-vexact-")).count()
}

/// An engine with a store that was shut down, and one in memory that still runs.
async fn left_behind(folder: &Folder, mode: SyncMode) -> Engine {
    let engine = open(&folder.database(), stored(folder, mode)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    engine.run("INSERT INTO Docs(id) VALUES (1), (2), (3)").await;
    engine.replicator.sync_all().await.unwrap();
    engine.replicator.shutdown().await;
    drop(engine);
    open(&folder.database(), options(SyncMode::Destructive)).await
}

async fn update(engine: &Engine, times: usize) {
    for at in 0..times {
        engine.run(&format!("UPDATE Docs SET Title = 't{at}' WHERE id = 1")).await;
        engine.replicator.sync_all().await.unwrap();
    }
}

#[tokio::test]
async fn a_position_whose_folder_is_gone_holds_nothing() {
    for mode in [SyncMode::Destructive, SyncMode::Temporal] {
        let folder = Folder::new();
        let engine = left_behind(&folder, mode).await;
        update(&engine, 1).await;
        let status = engine.replicator.status().await.unwrap();
        assert_eq!(status.positions.iter().filter(|position| !position.is_running).count(), 1);
        std::fs::remove_dir_all(folder.0.path().join("store")).unwrap();
        update(&engine, 1).await;
        assert_eq!((rows(&folder, "_vexact_engines"), rows(&folder, "_vexact_log")), (1, 1));
    }
}

#[tokio::test]
async fn a_position_holds_no_more_of_the_log_than_a_copy_reads() {
    let folder = Folder::new();
    let engine = left_behind(&folder, SyncMode::Destructive).await;
    update(&engine, 20).await;
    let log = rows(&folder, "_vexact_log");
    assert!(log < 10, "{log} rows of the log for 3 rows of the table");
    engine.replicator.shutdown().await;
    // It comes back with a copy.
    let engine = open(&folder.database(), stored(&folder, SyncMode::Destructive)).await;
    engine.assert_equal(&docs()).await;
}

#[tokio::test]
async fn a_history_holds_the_log_until_its_position_is_dropped() {
    let folder = Folder::new();
    let engine = left_behind(&folder, SyncMode::Temporal).await;
    update(&engine, 20).await;
    assert!(rows(&folder, "_vexact_log") >= 20);
    let status = engine.replicator.status().await.unwrap();
    assert_eq!(status.log_rows, rows(&folder, "_vexact_log").unsigned_abs());
    let (absent, running): (Vec<_>, Vec<_>) = status.positions.into_iter().partition(|position| !position.is_running);
    let (absent, running) = (&absent[0], &running[0]);
    assert!(absent.lag >= 20 && absent.folder.as_deref().is_some_and(|folder| folder.ends_with("store")));
    assert_eq!((running.lag, &running.folder), (0, &None));

    let error = engine.replicator.drop_position(&running.id).await.unwrap_err().to_string();
    assert!(error.contains("is running"), "{error}");
    let error = engine.replicator.drop_position("x").await.unwrap_err().to_string();
    assert!(error.contains(&absent.id) && error.ends_with("got \"x\""), "{error}");
    assert_eq!(engine.replicator.drop_position(&absent.id).await.unwrap(), 20);
    assert_eq!((rows(&folder, "_vexact_engines"), rows(&folder, "_vexact_log")), (1, 1));
}

#[tokio::test]
async fn a_log_that_has_grown_long_is_a_warning_that_names_who_holds_it() {
    let folder = Folder::new();
    let engine = left_behind(&folder, SyncMode::Temporal).await;
    assert_eq!(engine.replicator.warning(), None);
    engine.replicator.shutdown().await;
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
        INSERT INTO _vexact_log(time, version, op) SELECT 0, 0, 0 FROM n";
    Connection::open(folder.database()).unwrap().execute(many, []).unwrap();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    let warning = engine.replicator.warning().unwrap().to_owned();
    assert!(warning.contains("the change log has 1000") && warning.contains("drop_position("), "{warning}");
    engine.replicator.shutdown().await;
    std::fs::remove_dir_all(folder.0.path().join("store")).unwrap();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    assert!(
        engine.replicator.warning().unwrap().contains("store\", which is gone hold"),
        "{:?}",
        engine.replicator.warning()
    );
}

#[tokio::test]
async fn two_engines_from_copies_of_one_store_have_two_positions() {
    let folder = Folder::new();
    let a = open(&folder.database(), stored(&folder, SyncMode::Destructive)).await;
    a.run(CREATE).await;
    a.replicator.register(docs(), false).await.unwrap();
    a.replicator.sync_all().await.unwrap();
    let copy = folder.0.path().join("copied");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(folder.0.path().join("store")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    let store = Store::open(&copy, StorageFormat::ArrowIpc, Arc::new(FileSystem)).unwrap();
    let b = ReplicationOptions { store: Some(Arc::new(store)), ..options(SyncMode::Destructive) };
    let b = open(&folder.database(), b).await;
    assert_eq!(rows(&folder, "_vexact_engines"), 2);
    a.run("INSERT INTO Docs(id) VALUES (1)").await;
    assert_eq!(a.replicator.sync_all().await.unwrap().events_processed, 1);
    assert_eq!(b.replicator.sync_all().await.unwrap().events_processed, 1);
}

#[cfg(unix)]
#[tokio::test]
async fn every_spelling_of_a_path_is_one_file() {
    let folder = Folder::new();
    let (real, links) = (folder.0.path().join("real"), folder.0.path().join("links"));
    std::fs::create_dir_all(&real).unwrap();
    std::fs::create_dir(&links).unwrap();
    // A link to a file that is not there yet, and one to its folder.
    std::os::unix::fs::symlink("../real/app.db", links.join("link.db")).unwrap();
    std::os::unix::fs::symlink(&real, links.join("folder")).unwrap();
    let paths =
        [links.join("link.db"), real.join("app.db"), links.join("folder/app.db"), real.join("../real/./app.db")];
    let mut engines = Vec::new();
    for path in &paths {
        let engine = open(path, options(SyncMode::Temporal)).await;
        assert_eq!(engine.oltp.path(), real.canonicalize().unwrap().join("app.db"));
        engines.push(engine);
    }
    engines[0].run(CREATE).await;
    engines[0].replicator.register(docs(), false).await.unwrap();
    for engine in &engines {
        engine.replicator.sync_all().await.unwrap();
    }
    for title in ["a", "b", "c"] {
        engines[0].run(&format!("REPLACE INTO Docs(id, Title) VALUES (1, '{title}')")).await;
        engines[1].replicator.sync_all().await.unwrap();
    }
    for engine in &engines {
        engine.replicator.sync_all().await.unwrap();
        assert_eq!(engine.olap("SELECT \"Title\" FROM docs").await, ["a", "b", "c"]);
    }
}

#[tokio::test]
async fn lock_files_of_killed_processes_go_also_without_a_log() {
    let folder = Folder::new();
    for id in ["1f-2e3d-0", "a-b-1"] {
        std::fs::write(format!("{}-vexact-{id}", folder.database().display()), "").unwrap();
    }
    let others = format!("{}-vexact-notes.txt", folder.database().display());
    std::fs::write(&others, "").unwrap();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    assert_eq!(lock_files(&folder), 2, "its own, and a file of somebody else");
    engine.replicator.shutdown().await;
    assert_eq!(lock_files(&folder), 1);
    assert!(std::path::Path::new(&others).exists());
}

#[tokio::test]
async fn another_programs_write_transaction_keeps_nobody_from_reading() {
    for has_store in [false, true] {
        let folder = Folder::new();
        let with = || if has_store { stored(&folder, SyncMode::Destructive) } else { options(SyncMode::Destructive) };
        let engine = open(&folder.database(), with()).await;
        engine.run(CREATE).await;
        engine.replicator.register(docs(), false).await.unwrap();
        engine.run("INSERT INTO Docs(id) VALUES (1)").await;
        let writer = Connection::open(folder.database()).unwrap();
        writer.execute_batch("BEGIN IMMEDIATE; UPDATE Docs SET Title = 'uncommitted'").unwrap();
        assert_eq!(engine.replicator.sync_all().await.unwrap().events_processed, 1);
        assert_eq!(engine.olap("SELECT count(*) FROM docs").await, ["1"]);
        let second = open(&folder.database(), options(SyncMode::Destructive)).await;
        assert_eq!(second.olap("SELECT count(*) FROM docs").await, ["1"]);
        assert_eq!(second.replicator.status().await.unwrap().lag, 0);
        engine.replicator.shutdown().await;
        drop(engine);
        let engine = open(&folder.database(), with()).await;
        writer.execute_batch("COMMIT").unwrap();
        // Positions are written, and the log is pruned, when that is possible.
        for engine in [&engine, &second, &engine, &second] {
            engine.replicator.sync_all().await.unwrap();
            assert_eq!(engine.olap("SELECT \"Title\" FROM docs").await, ["uncommitted"]);
        }
        assert_eq!((rows(&folder, "_vexact_engines"), rows(&folder, "_vexact_log")), (2, 1));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_with_another_hard_link_is_a_warning() {
    let folder = Folder::new();
    assert_eq!(open(&folder.database(), options(SyncMode::Destructive)).await.replicator.warning(), None);
    std::fs::hard_link(folder.database(), folder.0.path().join("other.db")).unwrap();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    let warning = engine.replicator.warning().unwrap();
    assert!(warning.contains("app.db: the file has 2 hard links"), "{warning}");
}

#[tokio::test]
async fn what_a_migration_broke_is_mended_without_waiting_for_another_program() {
    for broken in ["DROP TRIGGER _vexact_1_insert", "ALTER TABLE Docs RENAME TO gone", "DROP TABLE _vexact_columns"] {
        let folder = Folder::new();
        let path = folder.database();
        // A wait would not end.
        let patient = OltpOptions { busy_timeout: std::time::Duration::from_secs(1_000_000), ..OltpOptions::default() };
        let engine = open_with(&path, patient, options(SyncMode::Destructive)).await;
        engine.run(CREATE).await;
        engine.run("CREATE TABLE other(id INTEGER PRIMARY KEY)").await;
        let other = schema("other", &[("id", "int64")], &["id"]);
        engine.replicator.register(docs(), false).await.unwrap();
        engine.replicator.register(other.clone(), false).await.unwrap();
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch(&format!("{broken}; INSERT INTO other VALUES (1); BEGIN IMMEDIATE")).unwrap_or_default();
        if writer.is_autocommit() {
            writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        }
        let synced = engine.replicator.sync_all().await;
        let status = engine.replicator.status().await.unwrap();
        match broken {
            "DROP TABLE _vexact_columns" => {
                assert!(synced.unwrap_err().to_string().contains("another program is writing"), "{broken}");
            }
            "DROP TRIGGER _vexact_1_insert" => {
                assert_eq!(synced.unwrap().rows_inserted, 1, "{broken}");
                let error = status.tables[0].last_error().unwrap();
                assert!(error.contains("another program is writing"), "{error}");
            }
            _ => assert_eq!(synced.unwrap().rows_inserted, 1, "{broken}"),
        }
        writer.execute_batch("COMMIT").unwrap();
        if broken.contains("RENAME") {
            writer.execute_batch("ALTER TABLE gone RENAME TO Docs").unwrap();
        }
        engine.replicator.sync_all().await.unwrap();
        engine.assert_equal(&other).await;
        writer.execute_batch("INSERT INTO Docs(id) VALUES (9)").unwrap();
        engine.replicator.sync_all().await.unwrap();
        engine.assert_equal(&docs()).await;
        assert_eq!(engine.replicator.status().await.unwrap().last_error, None, "{broken}");
    }
}

#[tokio::test]
async fn a_write_that_waits_for_another_program_holds_up_no_sync() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    engine.run("INSERT INTO Docs(id) VALUES (1)").await;
    let writer = Connection::open(folder.database()).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let oltp = Arc::clone(&engine.oltp);
    let waiting = tokio::spawn(async move { oltp.execute("INSERT INTO Docs(id) VALUES (2)", vec![]).await });
    tokio::task::yield_now().await;
    assert_eq!(engine.replicator.sync_all().await.unwrap().events_processed, 1);
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
    engine.replicator.sync_all().await.unwrap();
    engine.assert_equal(&docs()).await;
}
