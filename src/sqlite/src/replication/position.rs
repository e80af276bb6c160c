//! How far an engine has read the log, kept in the file, so that no other engine prunes what it still needs.
//!
//! The position of an engine that keeps its replicas in memory is a lease: a lock that the operating system holds on a file
//! beside the database, and lets go when the process ends, however it ends.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension};
use vexact_core::error::{Error, Result};
use vexact_core::sql::failed;

use crate::oltp::log;

/// The position of one engine.
#[derive(Debug)]
pub(super) struct Position {
    id: String,
    database: PathBuf,
    is_lease: bool,
    lock: Option<File>,
}

fn context() -> &'static str {
    "the engines' positions in the log"
}

fn lock_path(database: &Path, id: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(format!("-vexact-{id}"));
    path.into()
}

/// Microseconds since the Unix epoch.
pub(super) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A name that no other engine has.
pub(super) fn new_id() -> String {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{:x}-{:x}-{next}", std::process::id(), now_us())
}

impl Position {
    /// A lease of this process.
    ///
    /// # Errors
    /// A file beside the database that cannot be made or locked.
    pub fn lease(database: &Path) -> Result<Self> {
        let id = new_id();
        let path = lock_path(database, &id);
        let lock = File::create_new(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        lock.lock().map_err(|source| Error::Io { path, source })?;
        Ok(Self { id, database: database.into(), is_lease: true, lock: Some(lock) })
    }

    /// The position of an engine whose replicas are durable, by its name: it holds the log until it is moved on.
    pub fn lasting(database: &Path, engine: String) -> Self {
        Self { id: engine, database: database.into(), is_lease: false, lock: None }
    }

    /// Where the file says that this engine is; `None`: it is not known there.
    pub fn entered(&self, conn: &Connection) -> Result<Option<i64>> {
        if !log::exists(conn)? {
            return Ok(None);
        }
        conn.query_row("SELECT applied_seq FROM _vexact_engines WHERE id = ?1", [&self.id], |row| row.get(0))
            .optional()
            .map_err(failed(context))
    }

    /// Puts the position into the file, where the file has a log. Harmless to repeat.
    pub fn enter(&self, tx: &Connection, applied_seq: i64) -> Result<()> {
        let write = |sql| tx.prepare_cached(sql)?.execute((&self.id, applied_seq, self.is_lease));
        // It is there but for the first time, and a row that is replaced is written into its index too.
        write("UPDATE _vexact_engines SET applied_seq = ?2, is_lease = ?3 WHERE id = ?1")
            .and_then(|count| match count {
                0 => write("INSERT INTO _vexact_engines(id, applied_seq, is_lease) VALUES (?1, ?2, ?3)"),
                count => Ok(count),
            })
            .map(drop)
            .map_err(failed(context))
    }

    /// Moves the position on, lets go of those of dead processes, and prunes what no engine needs; the changes pruned.
    pub fn advance(&self, tx: &Connection, applied_seq: i64, prunes: bool) -> Result<u64> {
        if !log::exists(tx)? {
            return Ok(0);
        }
        self.enter(tx, applied_seq)?;
        if !prunes {
            return Ok(0);
        }
        let others: Vec<(String, i64, bool)> = tx
            .prepare_cached("SELECT id, applied_seq, is_lease FROM _vexact_engines WHERE id <> ?1")
            .and_then(|mut statement| {
                let rows = statement.query_map([&self.id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
                rows.collect()
            })
            .map_err(failed(context))?;
        let mut all_have = applied_seq;
        for (id, applied_seq, is_lease) in others {
            if is_lease && is_dead(&self.database, &id) {
                tx.execute("DELETE FROM _vexact_engines WHERE id = ?1", [&id]).map_err(failed(context))?;
                continue;
            }
            all_have = all_have.min(applied_seq);
        }
        log::prune(tx, all_have)
    }

    /// Takes a lease out of the file: this engine needs the log no more.
    pub fn leave(&self, tx: &Connection) -> Result<()> {
        if self.is_lease && log::exists(tx)? {
            tx.execute("DELETE FROM _vexact_engines WHERE id = ?1", [&self.id]).map_err(failed(context))?;
        }
        Ok(())
    }
}

impl Drop for Position {
    fn drop(&mut self) {
        if self.lock.take().is_some() {
            // A file that stays is found unlocked by the next engine, which takes it for what it is.
            let _ = std::fs::remove_file(lock_path(&self.database, &self.id));
        }
    }
}

/// Whether nobody holds a lease any more.
fn is_dead(database: &Path, id: &str) -> bool {
    let path = lock_path(database, id);
    let Ok(file) = File::open(&path) else { return !path.exists() };
    match file.try_lock() {
        Ok(()) => {
            let _ = std::fs::remove_file(path);
            true
        }
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
    }
}
