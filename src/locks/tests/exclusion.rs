//! The locks of a connection exclude POSIX locks of this process and connections of other
//! processes, in both directions.
#![cfg(target_os = "linux")]

mod common;

use std::fs::File;
use std::path::PathBuf;

use common::*;
use rusqlite::OpenFlags;

const LOCKED: &str = "database is locked";

#[test]
#[ignore = "is run by the other tests, as another process"]
fn other_process() {
    serve();
}

#[test]
fn in_rollback_mode_both_libraries_of_a_process_exclude_each_other() {
    let folder = Folder::new();
    let database = folder.file("t.db");
    let conn = connect(&database, "delete");
    conn.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1)").unwrap();
    let file = leaked(&database);

    conn.execute_batch("BEGIN; SELECT * FROM t").unwrap();
    assert_eq!(conflict(file), Some((libc::F_RDLCK, PENDING + 2, 510, -1)));
    assert!(!posix(file, libc::F_WRLCK, PENDING + 2, 510));
    assert!(posix(file, libc::F_RDLCK, PENDING + 2, 510));
    assert!(posix(file, libc::F_UNLCK, 0, 0));
    conn.execute_batch("INSERT INTO t VALUES(2)").unwrap();
    assert!(!posix(file, libc::F_WRLCK, PENDING + 1, 1), "RESERVED");
    conn.execute_batch("COMMIT").unwrap();
    assert_eq!(conflict(file), None);

    assert!(posix(file, libc::F_RDLCK, PENDING + 2, 510));
    assert!(is_busy(conn.execute_batch("INSERT INTO t VALUES(3)")));
    assert!(posix(file, libc::F_WRLCK, PENDING + 2, 510));
    assert!(is_busy(count(&conn)));
    for _ in 0..10 {
        drop(open(&database, OpenFlags::default()));
    }
    assert!(is_busy(count(&conn)), "the POSIX lock is lost where a connection was closed");
    assert_eq!(other(&database, "SELECT * FROM t"), LOCKED);
    assert!(posix(file, libc::F_UNLCK, 0, 0));

    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    drop(File::open(&database).unwrap());
    assert!(!posix(file, libc::F_WRLCK, PENDING + 1, 1), "our lock is lost where somebody closed the file");
    assert_eq!(other(&database, "INSERT INTO t VALUES(9)"), LOCKED);
    conn.execute_batch("COMMIT").unwrap();
    assert_eq!(other(&database, "INSERT INTO t VALUES(9)"), "ok");
    drop(conn);
    assert_eq!(conflict(file), None, "a closed connection holds nothing");
}

#[test]
fn in_wal_mode_both_libraries_of_a_process_exclude_each_other() {
    let folder = Folder::new();
    let database = folder.file("t.db");
    let conn = connect(&database, "wal");
    conn.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1)").unwrap();
    let (file, index) = (leaked(&database), leaked(shm(&database)));

    assert!(!posix(file, libc::F_WRLCK, PENDING + 2, 510), "a WAL connection keeps SHARED");
    assert!(!posix(index, libc::F_WRLCK, 128, 1), "and the dead-man switch");
    conn.execute_batch("BEGIN; SELECT * FROM t").unwrap();
    assert!(matches!(conflict(index), Some((libc::F_RDLCK, 123..128, _, -1))), "{:?}", conflict(index));
    conn.execute_batch("COMMIT; BEGIN IMMEDIATE").unwrap();
    assert!(!posix(index, libc::F_WRLCK, 120, 1), "WRITE");
    drop(File::open(&database).unwrap());
    drop(File::open(shm(&database)).unwrap());
    assert!(!posix(index, libc::F_WRLCK, 120, 1), "WRITE is lost where somebody closed the file");
    assert_eq!(other(&database, "INSERT INTO t VALUES(9)"), LOCKED);
    conn.execute_batch("COMMIT").unwrap();

    assert!(posix(index, libc::F_WRLCK, 120, 1));
    assert!(is_busy(conn.execute_batch("INSERT INTO t VALUES(3)")));
    // The locks of a second library that has the file open: the last connection of ours leaves the
    // -shm file alone.
    assert!(posix(file, libc::F_RDLCK, PENDING + 2, 510) && posix(index, libc::F_RDLCK, 128, 1));
    drop(conn);
    assert_eq!(other(&database, "INSERT INTO t VALUES(9)"), LOCKED);
    assert!(posix(index, libc::F_UNLCK, 120, 1));
    assert_eq!(other(&database, "INSERT INTO t VALUES(9)"), "ok");
    assert_eq!((conflict(index), conflict(file)), (None, None), "a closed connection holds nothing");
}

#[test]
fn processes_exclude_each_other_until_one_is_killed() {
    for mode in ["delete", "wal"] {
        let folder = Folder::new();
        let database = folder.file("t.db");
        let conn = connect(&database, mode);
        conn.execute_batch("CREATE TABLE t(a)").unwrap();
        let mut other = Other::new(&database);
        assert_eq!(other.run("BEGIN IMMEDIATE"), "ok");
        assert!(is_busy(conn.execute_batch("INSERT INTO t VALUES(1)")));
        assert_eq!(other.run("COMMIT"), "ok");
        conn.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES(1)").unwrap();
        assert_eq!(other.run("BEGIN IMMEDIATE"), LOCKED);
        conn.execute_batch("COMMIT").unwrap();
        assert_eq!(other.run("BEGIN IMMEDIATE"), "ok");
        other.kill();
        conn.execute_batch("INSERT INTO t VALUES(2)").unwrap();
        assert_eq!(count(&conn).unwrap(), 2);
    }
}

#[test]
fn a_read_lock_moves_to_a_writable_descriptor() {
    let folder = Folder::new();
    // Another process makes the file, so that no writable descriptor of it is parked here.
    let database = folder.file("t.db");
    assert_eq!(other(&database, "CREATE TABLE t(a); INSERT INTO t VALUES(1)"), "ok");
    let reader = open(&database, OpenFlags::SQLITE_OPEN_READ_ONLY);
    reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
    let file = leaked(&database);
    assert!(!posix(file, libc::F_WRLCK, PENDING + 2, 510));
    let writer = open(&database, OpenFlags::default());
    writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES(2)").unwrap();
    assert!(!posix(file, libc::F_WRLCK, PENDING + 1, 1));
    assert!(!posix(file, libc::F_WRLCK, PENDING + 2, 510));
    assert!(is_busy(writer.execute_batch("COMMIT")), "the reader still reads");
    reader.execute_batch("COMMIT").unwrap();
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(conflict(file), None);

    drop(writer);
    assert!(reader.execute_batch("INSERT INTO t VALUES(3)").is_err());
    reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
    assert_eq!(other(&database, "INSERT INTO t VALUES(9)"), LOCKED);
    drop(reader);
    assert_eq!(other(&database, "INSERT INTO t VALUES(9)"), "ok");
    assert_eq!(count(&open(&database, OpenFlags::default())).unwrap(), 3);
}

#[test]
fn links_and_odd_names_are_the_same_file() {
    let folder = Folder::new();
    let database = folder.file("odd-journal");
    let conn = connect(&database, "wal");
    conn.execute_batch("CREATE TABLE t(a)").unwrap();
    let (symbolic, hard): (PathBuf, PathBuf) = (folder.file("symbolic.db"), folder.file("hard.db"));
    std::os::unix::fs::symlink(&database, &symbolic).unwrap();
    let index = leaked(shm(&database));
    let linked = open(&symbolic, OpenFlags::default());
    linked.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(!posix(index, libc::F_WRLCK, 120, 1));
    assert!(is_busy(conn.execute_batch("INSERT INTO t VALUES(1)")));
    linked.execute_batch("COMMIT").unwrap();

    std::fs::hard_link(&database, &hard).unwrap();
    for path in [&database, &symbolic, &hard] {
        assert!(vexact_locks::has_open(path), "{}", path.display());
    }
    drop((conn, linked));
    for path in [&database, &symbolic, &hard, &folder.file("missing")] {
        assert!(!vexact_locks::has_open(path), "{}", path.display());
    }
}

#[test]
fn a_lock_that_sqlite_leaves_to_the_close_is_released() {
    let folder = Folder::new();
    let database = folder.file("t.db");
    connect(&database, "delete").execute_batch("CREATE TABLE t(a)").unwrap();
    let uri = format!("file:{}?vfs=unix-excl", database.display());
    let conn = vexact_locks::open(uri, OpenFlags::default()).unwrap();
    conn.execute_batch("INSERT INTO t VALUES(1)").unwrap();
    assert_eq!(other(&database, "SELECT * FROM t"), LOCKED);
    drop(conn);
    assert_eq!(other(&database, "SELECT * FROM t"), "ok");
}
