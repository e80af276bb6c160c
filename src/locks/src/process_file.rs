//! A file that a forked child does not inherit.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use super::system::{self, Opening};

/// An open file that only this process can use: a forked child has in its place a descriptor on
/// which every operation fails. So a lock on the file ends with the process, even if children
/// survive; children normally share inherited files and the locks on them. On systems other than
/// Linux a child inherits the file.
#[derive(Debug)]
pub struct ProcessFile(ManuallyDrop<File>);

impl ProcessFile {
    /// Opens a file. `open` must be quick and open no other such file: a fork waits for it.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn open(open: impl FnOnce() -> io::Result<File>) -> io::Result<Self> {
        let opening = Opening::begin();
        let file = open()?;
        opening.end(&file);
        Ok(Self(ManuallyDrop::new(file)))
    }

    /// Wraps a file that is already open. A child forked meanwhile by another thread may have
    /// inherited it.
    pub fn of(file: File) -> Self {
        Opening::begin().end(&file);
        Self(ManuallyDrop::new(file))
    }

    /// Wraps a file that children inherit.
    pub fn inherited(file: File) -> Self {
        Self(ManuallyDrop::new(file))
    }
}

impl Deref for ProcessFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for ProcessFile {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: The file is not used after this.
        system::close(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}
