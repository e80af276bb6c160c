//! The positions of engines that only read a file. They are stored beside the file, because nothing
//! is written to it.
//!
//! Each engine has a file in the folder `<database>-vexact-readers`, which it keeps locked while it
//! runs and whose content is its position. If the folder is not writable, the engine has no
//! position: the log is pruned without regard to it, and the engine then copies the tables.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use vexact_locks::ProcessFile;

use super::position::lock;

/// Digits of a position, so that each overwrites the one before.
const DIGITS: usize = 19;

/// The position of this engine.
#[derive(Debug)]
pub(super) struct ReaderLease {
    path: PathBuf,
    file: ProcessFile,
    published: AtomicI64,
    /// A forked child inherits the lease and is not its owner.
    process: u32,
}

impl ReaderLease {
    /// Takes a lease that keeps the whole log. Returns `None` if files beside the database cannot
    /// be written.
    pub fn take(database: &Path, id: &str) -> Option<Self> {
        let folder = folder(database);
        let path = folder.join(id);
        loop {
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return None,
                _ => {}
            }
            match lock(&path) {
                Ok(file) => {
                    let published = AtomicI64::new(-1);
                    let lease = Self { path, file: file?, published, process: std::process::id() };
                    lease.publish(0);
                    return Some(lease);
                }
                // The last engine to leave has just removed the folder.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(_) => return None,
            }
        }
    }

    /// Publishes the position up to which the log may be pruned.
    pub fn publish(&self, applied_seq: i64) {
        if self.published.swap(applied_seq, Ordering::Relaxed) != applied_seq {
            let text = format!("{applied_seq:0DIGITS$}\n");
            // If the position cannot be written, the old one keeps more of the log than necessary.
            let _ = write_at_start(&self.file, text.as_bytes());
        }
    }
}

impl Drop for ReaderLease {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let _ = fs::remove_file(&self.path);
            if let Some(folder) = self.path.parent() {
                // The folder stays while others have a lease.
                let _ = fs::remove_dir(folder);
            }
        }
    }
}

#[cfg(unix)]
fn write_at_start(file: &File, bytes: &[u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, 0)
}

#[cfg(not(unix))]
fn write_at_start(mut file: &File, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::{Seek, Write};
    file.rewind()?;
    file.write_all(bytes)
}

fn folder(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-vexact-readers");
    path.into()
}

/// The engines that only read and run, in any process, with their positions. The files of those
/// that were killed are removed.
pub(super) fn running(database: &Path) -> Vec<(String, i64)> {
    let folder = folder(database);
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let mut running = Vec::new();
    let mut has_removed = false;
    for entry in entries.flatten() {
        let Ok(file) = ProcessFile::open(|| File::open(entry.path())) else { continue };
        match file.try_lock_shared() {
            Ok(()) => has_removed |= fs::remove_file(entry.path()).is_ok(),
            Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // One without a position has just begun.
                let read = (&*file).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                running.push((entry.file_name().to_string_lossy().into_owned(), read.unwrap_or(0)));
            }
        }
    }
    if has_removed {
        let _ = fs::remove_dir(folder);
    }
    running.sort();
    running
}
