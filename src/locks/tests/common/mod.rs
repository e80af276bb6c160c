//! POSIX locks of this process, as another SQLite library takes them, and a process with a plain
//! SQLite.
#![allow(dead_code, unsafe_code)]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use libsqlite3_sys as ffi;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tempfile::TempDir;

/// Offset of the PENDING byte of a database; RESERVED and SHARED follow it.
pub const PENDING: i64 = 0x4000_0000;

pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        assert!(vexact_locks::are_isolated(), "the tests need a Linux with open-file-description locks");
        Self(tempfile::tempdir().unwrap())
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

pub fn connect(database: &Path, journal_mode: &str) -> Connection {
    let conn = open(database, OpenFlags::default());
    let mode: String = conn.query_row(&format!("PRAGMA journal_mode = {journal_mode}"), [], |row| row.get(0)).unwrap();
    assert_eq!(mode, journal_mode);
    conn
}

pub fn open(database: &Path, flags: OpenFlags) -> Connection {
    let conn = vexact_locks::open(database, flags).unwrap();
    conn.busy_timeout(std::time::Duration::ZERO).unwrap();
    conn
}

pub fn count(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
}

pub fn is_busy<T: std::fmt::Debug>(result: rusqlite::Result<T>) -> bool {
    match result {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => true,
        Err(error) => panic!("expected success or a locked database, got {error}"),
        Ok(_) => false,
    }
}

pub fn shm(database: &Path) -> PathBuf {
    PathBuf::from(format!("{}-shm", database.display()))
}

/// A file that stays open to the end of the process: its close would drop the POSIX locks.
pub fn leaked(path: impl AsRef<Path>) -> &'static File {
    Box::leak(Box::new(File::options().read(true).write(true).open(path).unwrap()))
}

fn flock(kind: i32, start: i64, len: i64) -> libc::flock {
    // SAFETY: `flock` is a C struct of integers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as _;
    lock.l_start = start;
    lock.l_len = len;
    lock
}

/// Takes or releases a POSIX lock of this process. Returns whether it was granted.
pub fn posix(file: &File, kind: i32, start: i64, len: i64) -> bool {
    let lock = flock(kind, start, len);
    // SAFETY: The descriptor is open, and `lock` is the struct that F_SETLK reads.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) == 0 }
}

/// The first lock that a POSIX write lock on the whole file would conflict with: kind, start,
/// length and process, which is -1 for an open file description.
pub fn conflict(file: &File) -> Option<(i32, i64, i64, i32)> {
    let mut lock = flock(libc::F_WRLCK, 0, 0);
    // SAFETY: The descriptor is open, and `lock` is the struct that F_GETLK reads and writes.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) }, 0);
    (i32::from(lock.l_type) != libc::F_UNLCK).then_some((i32::from(lock.l_type), lock.l_start, lock.l_len, lock.l_pid))
}

/// Another process, whose SQLite has the system calls it is compiled with: this test program again,
/// which runs SQL line by line.
pub struct Other {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Other {
    pub fn new(database: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "other_process", "--ignored", "--nocapture"])
            .env("VEXACT_LOCKS_DATABASE", database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, input, output: BufReader::new(output) }
    }

    /// Runs one statement. Returns `ok` or SQLite's message.
    pub fn run(&mut self, sql: &str) -> String {
        writeln!(self.input, "{sql}").unwrap();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the other process ended at {sql}");
            // Before it come lines of the test harness.
            if let Some((_, answer)) = line.split_once("answer: ") {
                return answer.trim_end().to_owned();
            }
        }
    }

    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Runs one statement in another process, which ends.
pub fn other(database: &Path, sql: &str) -> String {
    let mut other = Other::new(database);
    let answer = other.run(sql);
    drop(other.input);
    assert!(other.process.wait().unwrap().success());
    answer
}

/// The body of the other process.
pub fn serve() {
    // SAFETY: `vfs` is an object of the library, which has no connection and no other thread here.
    // Null resets all system calls.
    unsafe {
        let vfs = ffi::sqlite3_vfs_find(c"unix".as_ptr());
        let reset = (*vfs).xSetSystemCall.unwrap();
        assert_eq!(reset(vfs, std::ptr::null(), None), ffi::SQLITE_OK);
    }
    let conn = Connection::open(std::env::var_os("VEXACT_LOCKS_DATABASE").expect("run by the other tests")).unwrap();
    conn.busy_timeout(std::time::Duration::ZERO).unwrap();
    for sql in std::io::stdin().lines() {
        match conn.execute_batch(&sql.unwrap()) {
            Ok(()) => println!("answer: ok"),
            Err(error) => println!("answer: {error}"),
        }
    }
}
