//! A file that is locked until it is dropped.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Deref;

use vexact_locks::ProcessFile;

/// A file with an exclusive lock. Dropping it releases the lock at once, and not when the last copy
/// of its descriptor is closed: a program that this process is just starting has copies for a
/// moment. Forked children do not hold the lock.
#[derive(Debug)]
pub struct LockedFile {
    file: ProcessFile,
    is_locked: bool,
    /// Id of the process that holds the lock: a child of `fork` has copies of both fields.
    process: u32,
}

impl LockedFile {
    /// # Errors
    /// Another process or descriptor has the lock.
    pub fn try_new(file: File) -> Result<Self, TryLockError> {
        let file = ProcessFile::of(file);
        file.try_lock()?;
        Ok(Self::new(file, true))
    }

    /// Waits for the lock.
    pub fn wait_for(file: File) -> io::Result<Self> {
        let file = ProcessFile::of(file);
        file.lock()?;
        Ok(Self::new(file, true))
    }

    /// Opens without a lock a file that others may also write: a pipe or a device.
    pub fn shared(file: File) -> Self {
        Self::new(ProcessFile::inherited(file), false)
    }

    fn new(file: ProcessFile, is_locked: bool) -> Self {
        Self { file, is_locked, process: std::process::id() }
    }

    /// Returns true if this process opened the file, and not a process that it was forked from.
    pub fn is_of_process(&self) -> bool {
        self.process == std::process::id()
    }

    /// Makes the written data durable, if the file is on a disk: a pipe is not.
    pub fn sync_if_possible(&self) -> io::Result<()> {
        match self.file.sync_all() {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        if self.is_locked && self.is_of_process() {
            // Closing the file also releases the lock, perhaps a little later.
            let _ = self.file.unlock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_owner_though_a_copy_of_the_descriptor_lives_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let locked = LockedFile::wait_for(File::create(&path).unwrap()).unwrap();
        let copy = locked.try_clone().unwrap();
        let again = || LockedFile::try_new(File::open(&path).unwrap());
        assert!(matches!(again(), Err(TryLockError::WouldBlock)));
        drop(locked);
        assert!(again().is_ok());
        drop(copy);
    }
}
