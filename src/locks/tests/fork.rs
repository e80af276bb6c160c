//! A forked child has none of its parent's locks and descriptors, and it opens its own connections.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;

use std::fs::{File, TryLockError};
use std::io::{PipeReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::*;
use rusqlite::{Connection, OpenFlags};
use vexact_locks::ProcessFile;

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
        // SAFETY: The child calls SQLite and the allocator, which is usable after a fork of glibc
        // and musl, and ends with `_exit`.
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

/// Runs a parent that is about to be killed: the parent locks the file, and forks a child that
/// lives until its `hold` ends.
fn parent(path: &Path, mut hold: PipeReader, mut says: std::io::PipeWriter) {
    let open = || File::options().create(true).truncate(false).write(true).open(path);
    let locked = ProcessFile::open(open).unwrap();
    locked.try_lock().unwrap();
    let child = unsafe_fork();
    if child == 0 {
        // The inherited descriptor is unusable, and closing it releases no lock.
        let is_dead = locked.metadata().is_err() || locked.set_len(7).is_err();
        drop(locked);
        std::io::Write::write_all(&mut says, if is_dead { b"c" } else { b"!" }).unwrap();
        let _ = hold.read(&mut [0]);
        return;
    }
    let _ = hold.read(&mut [0]);
}

#[test]
fn a_lock_ends_with_a_process_that_is_killed_although_its_child_lives() {
    let folder = Folder::new();
    let path = folder.file("lock");
    let ((hold, holder), (mut heard, says)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
    let process = unsafe_fork();
    if process == 0 {
        drop((holder, heard));
        let _ = catch_unwind(AssertUnwindSafe(|| parent(&path, hold, says)));
        // SAFETY: It ends the process, without destructors.
        unsafe { libc::_exit(0) }
    }
    drop(says);
    let mut said = [0];
    heard.read_exact(&mut said).unwrap();
    assert_eq!(said, *b"c", "a child can use the file of its parent");
    let file = File::options().write(true).open(&path).unwrap();
    assert!(matches!(file.try_lock(), Err(TryLockError::WouldBlock)), "the parent lives, and holds the lock");
    let mut status = 0;
    // SAFETY: `process` is a child of this process, and `status` outlives the call.
    unsafe {
        assert_eq!(libc::kill(process, libc::SIGKILL), 0);
        assert_eq!(libc::waitpid(process, &raw mut status, 0), process);
    }
    file.try_lock().expect("the parent is dead: its child holds no lock");
    // The child still lived: only now does it end.
    drop(hold);
    drop(holder);
    assert_eq!(heard.read(&mut said).unwrap(), 0);
}

#[test]
fn a_file_that_is_dropped_or_fails_to_open_leaves_its_number_to_others() {
    let folder = Folder::new();
    let path = folder.file("a");
    assert!(ProcessFile::open(|| File::open(&path)).is_err());
    drop(ProcessFile::open(|| File::create(&path)).unwrap());
    let plain = File::open(&path).unwrap();
    let process = unsafe_fork();
    if process == 0 {
        let is_usable = plain.metadata().is_ok() && (&plain).read(&mut [0]).is_ok();
        // SAFETY: It ends the process, without destructors.
        unsafe { libc::_exit(i32::from(!is_usable)) }
    }
    let mut status = 0;
    // SAFETY: `process` is a child of this process, and `status` outlives the call.
    assert_eq!(unsafe { libc::waitpid(process, &raw mut status, 0) }, process);
    assert_eq!((status >> 8, status & 0x7f), (0, 0), "exit code and signal of the child");
}

fn unsafe_fork() -> libc::pid_t {
    // SAFETY: The child calls the allocator, which is usable after a fork of glibc and musl, and
    // ends with `_exit`.
    unsafe { libc::fork() }
}
