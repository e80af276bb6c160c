//! The position of an engine in the log. It is stored in the file, so that no other engine prunes
//! changes that this engine still needs.
//!
//! A running engine holds a lock on a file beside the database. The operating system releases the
//! lock when the process ends, however it ends. The position of an engine that keeps its replicas
//! in memory is a lease: it ends with the lock. The position of an engine with a store is durable:
//! see [`super::absent`]. An engine that only reads the file has its position beside it:
//! [`super::reader_lease`].

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension};
use vexact_core::error::{Error, Result};
use vexact_core::sql::failed;
use vexact_locks::ProcessFile;

use super::absent;
use super::reader_lease::ReaderLease;
use crate::oltp::limit::{self, Limit};
use crate::oltp::{FileId, log};

/// The position of one engine.
#[derive(Debug)]
pub(super) struct Position {
    id: String,
    database: PathBuf,
    kept: Kept,
    /// A forked child inherits the position and is not its owner.
    process: u32,
    /// The position in the file as this engine last wrote it; `None` while it is not known.
    written: Mutex<Option<i64>>,
}

/// Location of a stored position.
#[derive(Debug)]
enum Kept {
    /// In the database, with a lock file that is locked for the life of the position.
    InDatabase { storage: Option<Storage>, _lock: ProcessFile },
    /// Beside it, if that can be.
    Beside(Option<ReaderLease>),
}

/// Storage of the replicas of a durable position.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub folder: PathBuf,
    pub is_temporal: bool,
}

pub(super) fn context() -> &'static str {
    "the engines' positions in the log"
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

/// Returns true if a name has the form of [`new_id`].
fn is_id(text: &str) -> bool {
    let is_hex = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split('-').count() == 3 && text.split('-').all(is_hex)
}

impl Position {
    /// A lease of this process.
    ///
    /// # Errors
    /// A file beside the database that cannot be made or locked.
    pub fn lease(database: &Path) -> Result<Self> {
        Self::open(database, new_id(), None)
    }

    /// The position of an engine whose replicas are durable, by its name: it holds the log until it
    /// is moved on. If an engine of this name runs already, from a copy of the storage folder, this
    /// one gets a name of its own.
    ///
    /// # Errors
    /// As [`Self::lease`].
    pub fn lasting(database: &Path, engine: String, storage: Storage) -> Result<Self> {
        Self::open(database, engine, Some(storage))
    }

    fn open(database: &Path, mut id: String, storage: Option<Storage>) -> Result<Self> {
        let lock = loop {
            let path = lock_path(database, &id);
            match lock(&path).map_err(|source| Error::Io { path, source })? {
                Some(lock) => break lock,
                None => id = new_id(),
            }
        };
        Ok(Self::new(id, database, Kept::InDatabase { storage, _lock: lock }))
    }

    /// A position of an engine that only reads the file.
    pub fn reader(database: &Path) -> Self {
        let id = new_id();
        let lease = ReaderLease::take(database, &id);
        Self::new(id, database, Kept::Beside(lease))
    }

    fn new(id: String, database: &Path, kept: Kept) -> Self {
        let (database, process) = (database.into(), std::process::id());
        Self { id, database, kept, process, written: Mutex::default() }
    }

    /// Returns true if the engine only reads the file.
    pub fn is_reader(&self) -> bool {
        matches!(self.kept, Kept::Beside(_))
    }

    /// Publishes the position of an engine that only reads the file.
    pub fn publish(&self, applied_seq: i64) {
        if let Kept::Beside(Some(lease)) = &self.kept {
            lease.publish(applied_seq);
        }
    }

    fn storage(&self) -> Option<&Storage> {
        match &self.kept {
            Kept::InDatabase { storage, .. } => storage.as_ref(),
            Kept::Beside(_) => None,
        }
    }

    /// The engine's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The database that it is a position in.
    pub fn database(&self) -> &Path {
        &self.database
    }

    /// Returns the position of this engine in the file. Returns `None` if the file has none.
    pub fn entered(&self, conn: &Connection) -> Result<Option<i64>> {
        if !log::exists(conn)? {
            return Ok(None);
        }
        conn.prepare_cached("SELECT applied_seq FROM _vexact_engines WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([&self.id], |row| row.get(0)).optional())
            .map_err(failed(context))
    }

    /// Writes the position to the file, which has a log, perhaps of an earlier format. Idempotent.
    /// [`Self::has_written`] must be called after the commit.
    pub fn enter(&self, tx: &Connection, applied_seq: i64) -> Result<()> {
        self.forget_written();
        log::create(tx)?;
        let storage = self.storage();
        let values = (
            &self.id,
            applied_seq,
            storage.is_none(),
            storage.map(|storage| storage.folder.to_string_lossy()),
            storage.map(|storage| storage.is_temporal),
        );
        tx.prepare_cached(
            "REPLACE INTO _vexact_engines(id, applied_seq, is_lease, folder, is_temporal) VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .and_then(|mut replace| replace.execute(values))
        .map(drop)
        .map_err(failed(context))
    }

    /// As [`Self::enter`], but cheaper if the file already has the position.
    fn move_on(&self, tx: &Connection, applied_seq: i64) -> Result<()> {
        self.forget_written();
        let moved = tx
            .prepare_cached("UPDATE _vexact_engines SET applied_seq = ?2 WHERE id = ?1")
            .and_then(|mut update| update.execute((&self.id, applied_seq)))
            .map_err(failed(context))?;
        if moved > 0 { Ok(()) } else { self.enter(tx, applied_seq) }
    }

    /// Records that a transaction with [`Self::enter`] was committed.
    pub fn has_written(&self, applied_seq: i64) {
        *self.written.lock() = Some(applied_seq);
    }

    /// Records that the position in the file is not known.
    pub fn forget_written(&self) {
        *self.written.lock() = None;
    }

    /// Returns the position that was written last. Returns `None` if it is not known.
    pub fn written(&self) -> Option<i64> {
        *self.written.lock()
    }

    /// Returns true if the file has this engine's position as it was written. No other engine
    /// writes it, so a file with another position, or none, went back to a backup. `before` is
    /// [`Self::written`] before the snapshot of `conn` began.
    pub fn is_as_written(&self, conn: &Connection, before: Option<i64>) -> Result<bool> {
        let Some(before) = before else { return Ok(true) };
        let entered = self.entered(conn)?;
        // The position may have been advanced while the snapshot began.
        Ok(entered == Some(before) || self.written() != Some(before))
    }

    /// Advances the position, removes positions that no longer keep the log, and prunes changes
    /// that no engine needs; returns the number of pruned changes.
    pub fn advance(&self, tx: &Connection, applied_seq: i64, limit: Limit) -> Result<u64> {
        if !log::exists(tx)? {
            return Ok(0);
        }
        self.move_on(tx, applied_seq)?;
        let needed = absent::oldest_needed(tx, &self.database, (&self.id, applied_seq), limit.rows)?;
        let pruned = if limit.is_pruned { log::prune(tx, needed)? } else { 0 };
        limit::extend(tx, applied_seq, limit)?;
        Ok(pruned)
    }

    /// Removes a lease from the file: this engine no longer needs the log.
    pub fn leave(&self, tx: &Connection) -> Result<()> {
        if self.storage().is_none() && log::exists(tx)? {
            tx.execute("DELETE FROM _vexact_engines WHERE id = ?1", [&self.id]).map_err(failed(context))?;
        }
        Ok(())
    }
}

impl Drop for Position {
    fn drop(&mut self) {
        if self.process == std::process::id() && !self.is_reader() {
            // The lock file is removed before it is unlocked. If the removal fails, the next engine
            // finds the file unlocked and treats it as abandoned.
            let _ = std::fs::remove_file(lock_path(&self.database, &self.id));
        }
    }
}

/// The file whose lock an engine holds while it runs.
fn lock_path(database: &Path, id: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(format!("-vexact-{id}"));
    path.into()
}

/// Locks a file, which is made if it is not there. Returns `None` if an engine holds the lock.
///
/// An engine holds the lock exclusively; a check whether the engine runs shares it for an instant.
/// So the two can be distinguished.
pub(super) fn lock(path: &Path) -> std::io::Result<Option<ProcessFile>> {
    loop {
        let open = || File::options().create(true).truncate(false).read(true).write(true).open(path);
        let file = ProcessFile::open(open)?;
        match file.try_lock() {
            // A process that found the file unlocked before may have removed it.
            Ok(()) if is_at(&file, path) => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => match file.try_lock_shared() {
                Ok(()) => std::thread::yield_now(),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => return Ok(None),
            },
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(opened), Ok(found)) => FileId::from(&opened) == FileId::from(&found),
        _ => false,
    }
}

/// Returns true if the engine of a position runs, in any process. If the engine ended without
/// removing its lock file, the lock file is removed.
pub(super) fn is_running(database: &Path, id: &str) -> bool {
    let path = lock_path(database, id);
    let Ok(file) = ProcessFile::open(|| File::open(&path)) else { return path.exists() };
    match file.try_lock_shared() {
        Ok(()) => {
            let _ = std::fs::remove_file(path);
            false
        }
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => true,
    }
}

/// Removes the lock files of processes that were killed.
pub(super) fn remove_stale_locks(database: &Path) {
    let (Some(folder), Some(name)) = (database.parent(), database.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    let prefix = format!("{name}-vexact-");
    // In an unreadable folder the files stay, which is harmless.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.file_name();
        if let Some(id) = file.to_str().and_then(|file| file.strip_prefix(&prefix)).filter(|id| is_id(id)) {
            is_running(database, id);
        }
    }
}
