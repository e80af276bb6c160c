//! A forked child has none of its parent's locks and descriptors, and connections of its own.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::*;
use rusqlite::{Connection, OpenFlags};

#[test]
#[ignore = "is run by the other tests, as another process"]
fn other_process() {
    serve();
}

/// The first thing that is wrong in the child; 0 if nothing is.
fn child(database: &Path, inherited: [Connection; 2]) -> i32 {
    let [writer, reader] = inherited;
    if writer.execute_batch("COMMIT").is_ok() || count(&reader).is_ok() {
        return 1;
    }
    if vexact_locks::has_open(database) {
        return 2;
    }
    let own = open(database, OpenFlags::default());
    if count(&own).ok() != Some(1) {
        return 3;
    }
    // The parent has a transaction.
    if !is_busy(own.execute_batch("INSERT INTO t VALUES(3)")) {
        return 4;
    }
    drop((writer, reader));
    if count(&own).ok() != Some(1) {
        return 5;
    }
    0
}

#[test]
fn a_child_takes_nothing_from_its_parent() {
    for mode in ["wal", "delete"] {
        let folder = Folder::new();
        let database = folder.file("t.db");
        let (writer, reader) = (connect(&database, mode), open(&database, OpenFlags::default()));
        writer.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1)").unwrap();
        assert_eq!(count(&reader).unwrap(), 1);
        writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES(2)").unwrap();
        // SAFETY: The child calls SQLite and the allocator, which is usable after a fork of glibc and musl, and ends with `_exit`.
        let process = unsafe { libc::fork() };
        if process == 0 {
            let inherited = [writer, reader];
            let wrong = catch_unwind(AssertUnwindSafe(|| child(&database, inherited))).unwrap_or(101);
            // SAFETY: It ends the process, without destructors.
            unsafe { libc::_exit(wrong) }
        }
        let mut status = 0;
        // SAFETY: `process` is a child of this process, and `status` outlives the call.
        assert_eq!(unsafe { libc::waitpid(process, &raw mut status, 0) }, process);
        assert_eq!((mode, status >> 8, status & 0x7f), (mode, 0, 0), "exit code and signal of the child");

        assert_eq!(other(&database, "INSERT INTO t VALUES(4)"), "database is locked");
        writer.execute_batch("COMMIT").unwrap();
        assert_eq!(other(&database, "INSERT INTO t VALUES(4)"), "ok");
        assert_eq!(count(&reader).unwrap(), 3);
    }
}
