//! Place of the private file: the folder of the stored replicas, or a temporary folder.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use vexact_core::error::{Error, Result};
use vexact_core::sql::failed;
use vexact_locks::ProcessFile;

/// Name of the file.
const FILE: &str = "text.db";

/// Name of the file whose lock says that a temporary folder is in use.
const LOCK: &str = "lock";

/// Beginning of the names of temporary folders.
const TEMPORARY: &str = "vexact-text-";

/// Time after which a lock file that is not locked belongs to no process.
const NEW: Duration = Duration::from_secs(60);

/// Maximum number of connections that wait for a reader.
const IDLE: usize = 8;

/// The folder of a private file, and connections to the file that are not in use.
#[derive(Debug)]
pub(super) struct TextFolder {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// Lock of a temporary folder, which is removed with this value.
    lock: Option<ProcessFile>,
}

/// Returns a number that no other process has.
pub(super) fn random() -> i64 {
    RandomState::new().hash_one(std::process::id()).cast_signed()
}

impl TextFolder {
    /// The folder of stored replicas, which their store has locked.
    pub fn lasting(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::default(), lock: None }
    }

    /// Returns true if there is a private file in a folder.
    pub fn has_file(path: &Path) -> bool {
        path.join(FILE).exists()
    }

    /// Creates a temporary folder, and removes those of processes that were killed.
    ///
    /// # Errors
    /// A folder that cannot be created.
    pub fn temporary() -> Result<Self> {
        let base = std::env::temp_dir();
        remove_stale(&base);
        let path = base.join(format!("{TEMPORARY}{}-{:016x}", std::process::id(), random()));
        let created = || -> std::io::Result<ProcessFile> {
            fs::create_dir(&path)?;
            let lock = ProcessFile::open(|| File::create(path.join(LOCK)))?;
            lock.lock()?;
            Ok(lock)
        };
        let lock = created().map_err(|error| Error::io(&path, error))?;
        Ok(Self { path, idle: Mutex::default(), lock: Some(lock) })
    }

    /// Returns true if the file lasts longer than the process.
    pub fn is_lasting(&self) -> bool {
        self.lock.is_none()
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// An error of SQLite.
    pub fn connect(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let file = self.path.join(FILE);
        vexact_locks::open(&file, flags).map_err(failed(|| format!("opening the text indexes in {}", file.display())))
    }

    /// Returns a connection for reading.
    pub fn reader(&self) -> Result<Connection> {
        let idle = self.idle.lock().pop();
        idle.map_or_else(|| self.connect(), Ok)
    }

    /// Takes a connection back whose transaction has ended.
    pub fn put_back(&self, conn: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(conn);
        }
    }

    /// Removes the file.
    pub fn remove_file(&self) {
        self.idle.lock().clear();
        for suffix in ["", "-wal", "-shm"] {
            // If it is not removed, opening it reports why.
            let _ = fs::remove_file(self.path.join(format!("{FILE}{suffix}")));
        }
    }
}

impl Drop for TextFolder {
    fn drop(&mut self) {
        self.idle.lock().clear();
        if self.lock.is_some() {
            // The next process removes what is left.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes temporary folders whose process has ended.
fn remove_stale(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for folder in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(TEMPORARY)) {
        let lock = folder.path().join(LOCK);
        let Ok(file) = ProcessFile::open(|| File::options().write(true).open(&lock)) else { continue };
        let age = file.metadata().and_then(|file| file.modified()).ok().and_then(|made| made.elapsed().ok());
        // A process that has just made the file locks it next.
        if age.is_some_and(|age| age > NEW) && file.try_lock().is_ok() {
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_ends_with_its_value_or_with_the_next_process() {
        let folder = TextFolder::temporary().unwrap();
        let path = folder.path.clone();
        assert!(path.is_dir());
        drop(folder);
        assert!(!path.exists());
        let abandoned = std::env::temp_dir().join(format!("{TEMPORARY}0-{:016x}", random()));
        fs::create_dir(&abandoned).unwrap();
        let made = std::time::SystemTime::now() - 2 * NEW;
        File::create(abandoned.join(LOCK)).unwrap().set_modified(made).unwrap();
        let used = TextFolder::temporary().unwrap();
        assert!(!abandoned.exists());
        let other = TextFolder::temporary().unwrap();
        assert!(used.path.exists() && other.path.exists());
    }
}
