//! The files of a store: each written under a temporary name, made durable, and only then given its name; each read back whole
//! and checked.

use std::hash::Hasher;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::buffer::Buffer;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::disk::{Disk, DiskFile};
use crate::error::{Error, Result};

/// Suffix of a file's name while the file is being written.
pub const TEMPORARY: &str = ".tmp";

/// A folder on a disk.
#[derive(Debug)]
pub struct Folder {
    /// The folder.
    pub path: PathBuf,
    /// The file system that it is in.
    pub disk: Arc<dyn Disk>,
}

/// A file, as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedFile {
    /// Its name in the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// xxHash64 of the content, in hexadecimal: JSON's numbers do not hold 64 bits everywhere.
    pub xxh64: String,
}

/// The checksum of a file's content.
pub fn checksum(content: &[u8]) -> String {
    in_hex(XxHash64::oneshot(0, content))
}

fn in_hex(hash: u64) -> String {
    format!("{hash:016x}")
}

/// A file that counts and sums what is written to it.
struct Counted {
    file: Box<dyn DiskFile>,
    bytes: u64,
    hash: XxHash64,
}

impl Write for Counted {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        let written = self.file.write(content)?;
        self.bytes += written as u64;
        self.hash.write(&content[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Folder {
    /// The path of a file in the folder.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file, durable but for its name, which [`Self::sync`] makes so.
    pub fn write(&self, name: &str, fill: impl FnOnce(&mut (dyn Write + Send)) -> io::Result<()>) -> Result<NamedFile> {
        let temporary = self.write_temporary(name, fill)?;
        self.rename_temporary(name)?;
        Ok(temporary)
    }

    /// The first half of [`Self::write`]: the file has its temporary name.
    pub fn write_temporary(
        &self,
        name: &str,
        fill: impl FnOnce(&mut (dyn Write + Send)) -> io::Result<()>,
    ) -> Result<NamedFile> {
        let path = self.path_of(&format!("{name}{TEMPORARY}"));
        let write = || {
            let mut out = Counted { file: self.disk.create(&path)?, bytes: 0, hash: XxHash64::with_seed(0) };
            fill(&mut out)?;
            out.flush()?;
            out.file.sync()?;
            Ok(NamedFile { name: name.to_owned(), bytes: out.bytes, xxh64: in_hex(out.hash.finish()) })
        };
        write().map_err(|error| Error::Io { path: path.clone(), source: error })
    }

    /// The second half of [`Self::write`]: the file gets its name.
    pub fn rename_temporary(&self, name: &str) -> Result<()> {
        let (from, to) = (self.path_of(&format!("{name}{TEMPORARY}")), self.path_of(name));
        self.disk.rename(&from, &to).map_err(|source| Error::Io { path: to, source })
    }

    /// Makes the names of files durable.
    pub fn sync(&self) -> Result<()> {
        self.disk.sync_folder(&self.path).map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    /// The names in the folder, temporary ones as well.
    pub fn list(&self) -> Result<Vec<String>> {
        self.disk.list(&self.path).map_err(|error| Error::io(&self.path, error))
    }

    /// The content of a file, if it is what was written.
    pub fn read(&self, file: &NamedFile) -> Result<Buffer> {
        let path = self.path_of(&file.name);
        let content = match self.disk.read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(bad(&path, "expected a file that the manifest names, got none".into()));
            }
            other => other.map_err(|error| Error::io(&path, error))?,
        };
        if content.len() as u64 != file.bytes {
            return Err(bad(&path, format!("expected {} bytes, got {}", file.bytes, content.len())));
        }
        let got = checksum(&content);
        if got != file.xxh64 {
            return Err(bad(&path, format!("the file is damaged: expected the xxHash64 {}, got {got}", file.xxh64)));
        }
        Ok(content)
    }
}

/// The content of a file is not what it should be.
pub fn bad(path: &Path, problem: String) -> Error {
    Error::BadFile { path: path.to_owned(), problem }
}
