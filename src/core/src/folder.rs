//! The files of a store. Each is written under a temporary name, made durable, and only then
//! renamed to its name; each is read back whole and checked.

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

/// A file, with the manifest's record of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedFile {
    /// Its name in the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// xxHash64 of the content, in hexadecimal: JSON's numbers do not hold 64 bits everywhere.
    pub xxh64: String,
}

/// Returns the checksum of a file's content.
pub fn checksum(content: &[u8]) -> String {
    in_hex(XxHash64::oneshot(0, content))
}

fn in_hex(hash: u64) -> String {
    format!("{hash:016x}")
}

/// A writer that counts the bytes and computes their checksum.
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
    /// Returns the path of a file in the folder.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file durably, except for its name: [`Self::sync`] makes that durable.
    pub fn write(&self, name: &str, fill: impl FnOnce(&mut (dyn Write + Send)) -> io::Result<()>) -> Result<NamedFile> {
        let temporary = self.write_temporary(name, fill)?;
        self.rename_temporary(name)?;
        Ok(temporary)
    }

    /// Writes the file under its temporary name: the first half of [`Self::write`].
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

    /// Renames the file to its name: the second half of [`Self::write`].
    pub fn rename_temporary(&self, name: &str) -> Result<()> {
        let (from, to) = (self.path_of(&format!("{name}{TEMPORARY}")), self.path_of(name));
        self.disk.rename(&from, &to).map_err(|source| Error::Io { path: to, source })
    }

    /// Makes the names of files durable.
    pub fn sync(&self) -> Result<()> {
        self.disk.sync_folder(&self.path).map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    /// Lists the names in the folder, including temporary ones.
    pub fn list(&self) -> Result<Vec<String>> {
        self.disk.list(&self.path).map_err(|error| Error::io(&self.path, error))
    }

    /// Reads the content of a file. Returns an error if it differs from what was written.
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

/// Returns the error for invalid content of a file.
pub fn bad(path: &Path, problem: String) -> Error {
    Error::BadFile { path: path.to_owned(), problem }
}
