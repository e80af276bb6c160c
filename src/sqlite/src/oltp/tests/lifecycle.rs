//! Jobs of the engine's connections: alone, concurrent, cancelled, and after the shutdown.

use std::sync::Arc;
use std::time::Duration;

use vexact_core::error::{Error, Result};

use super::engine::File;
use super::*;
use crate::oltp::{Oltp, OltpOptions, ResultTypes};

#[test]
fn a_panic_is_an_error_and_its_transaction_is_rolled_back() {
    let file = File::new(&["CREATE TABLE t(a)"]);
    let work = |tx: &Connection| -> Result<()> {
        tx.execute("INSERT INTO t VALUES (1)", []).unwrap();
        panic!("on purpose")
    };
    let error = file.runtime.block_on(file.oltp.write(work)).unwrap_err().to_string();
    assert_eq!(error, "internal error: on purpose");
    let error = file.runtime.block_on(file.oltp.read(|_| -> Result<()> { panic!("reading") })).unwrap_err().to_string();
    assert_eq!(error, "internal error: reading");
    assert_eq!(file.execute("INSERT INTO t VALUES (2)", vec![]).unwrap(), 1);
    assert_eq!(file.number("SELECT sum(a) FROM t"), 2);
}

#[test]
fn a_read_sees_one_state_of_the_file() {
    let file = File::new(&["CREATE TABLE t(a)"]);
    let other = Connection::open(file.oltp.path()).unwrap();
    let work = move |conn: &Connection| {
        let count = || conn.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
        let before = count();
        other.execute("INSERT INTO t VALUES (1)", []).unwrap();
        Ok((before, count()))
    };
    assert_eq!(file.runtime.block_on(file.oltp.read(work)).unwrap(), (0, 0));
    assert_eq!(file.number("SELECT count(*) FROM t"), 1);
}

#[test]
fn writes_of_many_tasks_are_all_done() {
    let file = File::new(&[USERS]);
    file.register(schema("users", &USER_COLUMNS, &["id"]));
    file.execute("INSERT INTO users VALUES (1, 'a', 0)", vec![]).unwrap();
    let tasks: Vec<_> = (0..200)
        .map(|at| {
            let oltp = Arc::clone(&file.oltp);
            file.runtime.spawn(async move {
                if at % 4 == 0 {
                    oltp.query("SELECT n FROM users", vec![], ResultTypes::default()).await.map(drop)
                } else {
                    oltp.execute("UPDATE users SET n = n + 1", vec![]).await.map(drop)
                }
            })
        })
        .collect();
    tasks.into_iter().for_each(|task| file.runtime.block_on(task).unwrap().unwrap());
    assert_eq!(file.number("SELECT n FROM users"), 150);
    assert_eq!(file.number("SELECT count(*) FROM _vexact_log WHERE op = 1"), 151);
}

#[test]
fn a_write_whose_caller_is_gone_is_done_in_full() {
    let file = File::new(&["CREATE TABLE t(a)"]);
    file.runtime.block_on(async {
        let (gate, opened) = std::sync::mpsc::channel::<()>();
        let blocked = file.oltp.write(move |_| opened.recv().map_err(|error| Error::Engine(error.to_string())));
        let write = file.oltp.execute("INSERT INTO t VALUES (1)", vec![]);
        let soon = Duration::from_millis(1);
        let (blocked, write) = tokio::join!(tokio::time::timeout(soon, blocked), tokio::time::timeout(soon, write));
        assert!(blocked.is_err() && write.is_err(), "both callers are gone");
        gate.send(()).unwrap();
        file.oltp.execute("INSERT INTO t VALUES (2)", vec![]).await.unwrap();
    });
    assert_eq!(file.number("SELECT sum(a) FROM t"), 3);
}

const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

#[test]
fn a_query_that_nobody_waits_for_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let options = OltpOptions { read_pool_size: 1, ..OltpOptions::default() };
    let oltp = Oltp::open(folder.path().join("file.db"), options).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let endless = oltp.query(ENDLESS, vec![], ResultTypes::default());
        assert!(tokio::time::timeout(Duration::from_millis(50), endless).await.is_err());
        // The only connection is free again.
        assert_eq!(oltp.query("SELECT 1", vec![], ResultTypes::default()).await.unwrap()[0].num_rows(), 1);
    });
}

#[test]
fn shutdown_ends_queries_keeps_writes_and_can_be_repeated() {
    let file = File::new(&["CREATE TABLE t(a)"]);
    let (started, has_started) = std::sync::mpsc::channel();
    let oltp = Arc::clone(&file.oltp);
    let endless = file.runtime.spawn(async move {
        let work = move |conn: &Connection| {
            conn.query_row("SELECT 1", [], |_| Ok(())).unwrap();
            started.send(()).unwrap();
            conn.query_row(ENDLESS, [], |row| row.get::<_, i64>(0)).map_err(|error| Error::Engine(error.to_string()))
        };
        oltp.read(work).await
    });
    has_started.recv().unwrap();
    let write = file.oltp.execute("INSERT INTO t VALUES (1)", vec![]);
    file.runtime.block_on(async {
        let (written, (), ()) = tokio::join!(biased; write, file.oltp.shutdown(), file.oltp.shutdown());
        assert_eq!(written.unwrap(), 1);
    });
    assert_eq!(file.runtime.block_on(endless).unwrap().unwrap_err().to_string(), "interrupted");
    file.runtime.block_on(file.oltp.shutdown());
    for error in [file.execute("DELETE FROM t", vec![]).unwrap_err(), file.query("SELECT 1", vec![]).unwrap_err()] {
        assert_eq!(error.to_string(), "the engine was shut down");
    }
    let names =
        std::fs::read_dir(file.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(names, ["file.db"], "the last connection removes the WAL");
}

#[test]
fn a_dropped_engine_closes_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let oltp = Oltp::open(folder.path().join("file.db"), OltpOptions::default()).unwrap();
    drop(oltp);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while folder.path().join("file.db-wal").exists() {
        assert!(std::time::Instant::now() < deadline, "the writing thread still has the file open");
        std::thread::yield_now();
    }
}

#[test]
fn files_that_cannot_be_opened_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "no database, but long enough to have a header of one hundred bytes: ".repeat(3)).unwrap();
    let error = Oltp::open(&text, OltpOptions::default()).unwrap_err().to_string();
    assert!(error.contains("notes.txt") && error.contains("not a database"), "{error}");
    let error = Oltp::open(folder.path().join("no/such.db"), OltpOptions::default()).unwrap_err().to_string();
    assert!(error.contains("such.db"), "{error}");
    assert!(Oltp::open(":memory:", OltpOptions::default()).unwrap_err().to_string().contains("expected a file"));
    let none = OltpOptions { read_pool_size: 0, ..OltpOptions::default() };
    assert!(Oltp::open(folder.path().join("a.db"), none).unwrap_err().to_string().contains("read_pool_size"));
}
