//! A file that a forked child does not inherit.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use super::system::{self, Opening};

/// An open file of this process alone: a forked child finds in its place a descriptor on which everything fails. So a lock on it ends
/// with the process, although children live on, which share the files that they inherit and the locks on them. On systems other than
/// Linux a child inherits it.
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

    /// Takes a file that is open already. A fork of another thread just now may have inherited it.
    pub fn of(file: File) -> Self {
        Opening::begin().end(&file);
        Self(ManuallyDrop::new(file))
    }

    /// Takes a file that children are to inherit.
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
