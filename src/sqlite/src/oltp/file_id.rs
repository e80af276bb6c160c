//! Identity of the database file, to check that a path still names the file that a connection has
//! open.

use std::path::Path;

use vexact_core::error::{Error, Result};

/// Distinguishes a file from another one of the same path. A restore by rename replaces the
/// database file, and open connections would continue with the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
}

impl FileId {
    /// Returns the identity of the file that a path names now.
    ///
    /// # Errors
    /// A file that does not exist.
    pub fn of(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::Engine(format!("{}: the database file was removed or renamed while it is open", path.display()))
            }
            _ => Error::io(path, error),
        })?;
        Ok(Self::from(&metadata))
    }
}

impl From<&std::fs::Metadata> for FileId {
    #[cfg(unix)]
    fn from(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    #[cfg(not(unix))]
    fn from(_: &std::fs::Metadata) -> Self {
        Self {}
    }
}
