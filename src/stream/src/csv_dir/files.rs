//! Lists the files of the folder, each with the time since its last change.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use vexact_core::error::{Error, Result};

use super::Positions;

/// Suffixes of the names of files that are still being written.
const UNFINISHED: [&str; 7] = ["~", ".tmp", ".temp", ".part", ".partial", ".crdownload", ".swp"];
/// Minimum age of a reliable modification time: the clocks of file servers differ slightly.
const LONG_AGO: Duration = Duration::from_secs(2);

/// A file as one poll of the folder sees it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub path: PathBuf,
    pub len: u64,
    modified: SystemTime,
    since: Instant,
}

impl Seen {
    /// Returns the time for which the file is known to be unchanged.
    pub fn quiet(&self) -> Duration {
        let age = SystemTime::now().duration_since(self.modified).unwrap_or_default();
        let watched = self.since.elapsed();
        if age >= LONG_AGO { age.max(watched) } else { watched }
    }
}

/// Files of the folder, poll by poll.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    seen: BTreeMap<String, Seen>,
}

impl Files {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, seen: BTreeMap::new() }
    }

    /// Polls the folder, and returns the files by name.
    ///
    /// # Errors
    /// A folder that cannot be listed; a file that was removed before it was read to its end.
    pub fn look(&mut self, positions: &Positions) -> Result<BTreeMap<String, Seen>> {
        let now = Instant::now();
        let mut seen = BTreeMap::new();
        for (name, metadata) in list(&self.folder)? {
            let path = self.folder.join(&name);
            let (len, modified) = (metadata.len(), metadata.modified().map_err(|error| Error::io(&path, error))?);
            let before = self.seen.get(&name).filter(|before| before.len == len && before.modified == modified);
            let since = before.map_or(now, |before| before.since);
            seen.insert(name, Seen { path, len, modified, since });
        }
        for (name, before) in &self.seen {
            let read = positions.get(name).copied().unwrap_or(0);
            if !seen.contains_key(name) && read > 0 && read < before.len {
                let problem =
                    format!("expected it to stay until it is read, got none after {read} of {} bytes", before.len);
                return Err(Error::BadFile { path: before.path.clone(), problem });
            }
        }
        self.seen.clone_from(&seen);
        Ok(seen)
    }
}

/// Rejects a path that is not a folder.
pub(super) fn check_folder(folder: &Path) -> Result<()> {
    match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => {
            Err(Error::InvalidArgument(format!("{}: expected a folder of CSV files, got a file", folder.display())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::FolderNotFound { path: folder.into() }),
        Err(error) => Err(Error::io(folder, error)),
    }
}

/// Returns the names of the files, sorted.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    Ok(list(folder)?.into_iter().map(|(name, _)| name).collect())
}

fn list(folder: &Path) -> Result<Vec<(String, Metadata)>> {
    let io = |error| Error::io(folder, error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
        if is_unfinished(&name) {
            continue;
        }
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => files.push((utf8(&path, name)?, metadata)),
            Ok(_) => {}
            // The file was renamed or deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(&path, error)),
        }
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(files)
}

fn utf8(path: &Path, name: String) -> Result<String> {
    match path.file_name().and_then(|name| name.to_str()) {
        Some(_) => Ok(name),
        None => Err(Error::InvalidArgument(format!("path {path:?}: expected UTF-8"))),
    }
}

fn is_unfinished(name: &str) -> bool {
    name.starts_with(['.', '_']) || UNFINISHED.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending))
}
