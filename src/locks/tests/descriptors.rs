//! Counts the descriptors that stay parked, and checks which files they belong to. There is only
//! one test, because it counts descriptors of the whole process.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::*;

#[test]
#[ignore = "is run by the other tests, as another process"]
fn other_process() {
    serve();
}

fn descriptors() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// The descriptors of a file.
fn descriptors_of(path: &Path) -> Vec<i32> {
    let file = std::fs::metadata(path).unwrap();
    let is_of = |descriptor: &i32| {
        std::fs::metadata(format!("/proc/self/fd/{descriptor}"))
            .is_ok_and(|other| (other.dev(), other.ino()) == (file.dev(), file.ino()))
    };
    descriptors().into_iter().filter(is_of).collect()
}

fn use_once(database: &Path, mode: &str) {
    let conn = connect(database, mode);
    conn.execute_batch("CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES(1)").unwrap();
}

#[test]
fn parked_descriptors_are_few_and_never_of_another_file() {
    let folder = Folder::new();
    let before = descriptors().len();
    let parked = || descriptors().len() - before;

    let database = folder.file("app.db");
    for mode in ["delete", "wal"] {
        for _ in 0..100 {
            use_once(&database, mode);
            assert!(parked() <= 2, "one file, opened and closed: {} descriptors", parked());
        }
    }
    for ordinal in 0..100 {
        let gone = folder.file(&format!("gone{ordinal}.db"));
        use_once(&gone, "wal");
        std::fs::remove_file(gone).unwrap();
        assert!(parked() <= 3, "deleted files: {} descriptors", parked());
    }
    for ordinal in 0..200 {
        use_once(&folder.file(&format!("{ordinal}.db")), "delete");
        assert!(parked() < 80, "many files: {} descriptors", parked());
    }

    // The other library has a lock on each of many files: their descriptors stay, and so do its
    // locks.
    let held: Vec<_> = (0..100)
        .map(|ordinal| {
            let database = folder.file(&format!("held{ordinal}.db"));
            use_once(&database, "delete");
            let file = leaked(&database);
            assert!(posix(file, libc::F_WRLCK, PENDING + 1, 1));
            (database, file)
        })
        .collect();
    for (database, _) in &held {
        assert_eq!(count(&connect(database, "delete")).unwrap(), 1);
    }
    assert_eq!(other(&held[0].0, "INSERT INTO t VALUES(2)"), "database is locked");
    assert_eq!(other(&held[99].0, "INSERT INTO t VALUES(2)"), "database is locked");
    for (_, file) in &held {
        assert!(posix(file, libc::F_UNLCK, 0, 0));
    }
    use_once(&database, "delete");
    assert!(parked() < 180, "100 are leaked by this test: {} descriptors", parked());

    // A path that names another file now.
    let another = folder.file("another.db");
    assert_eq!(other(&another, "CREATE TABLE t(a)"), "ok");
    std::fs::rename(&another, &database).unwrap();
    let conn = connect(&database, "delete");
    assert_eq!(count(&conn).unwrap(), 0);
    drop(conn);

    // A parked descriptor that the program closed, and whose number is of another file now.
    let closed = descriptors_of(&database)[0];
    let victim = folder.file("victim");
    std::fs::write(&victim, b"hello").unwrap();
    // SAFETY: Both are open descriptors. The parked one belongs to no object of Rust.
    assert_eq!(unsafe { libc::dup2(leaked(&victim).as_raw_fd(), closed) }, closed);
    use_once(&database, "delete");
    assert_eq!(std::fs::read(&victim).unwrap(), b"hello");
    assert_eq!(other(&database, "INSERT INTO t VALUES(2)"), "ok");
    assert_eq!(count(&connect(&database, "delete")).unwrap(), 2);
}
