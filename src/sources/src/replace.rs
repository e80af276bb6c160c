//! Files that are written whole before they are seen: under another name beside their place, then renamed into it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use vexact_core::error::{Error, Result};
use vexact_core::locked_file::LockedFile;

use super::check_target;

/// A file that is being written. Unless it takes its place, nothing of it stays.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    target: PathBuf,
    is_placed: bool,
}

impl Unfinished {
    /// For this place.
    ///
    /// # Errors
    /// A place that cannot become a file.
    pub fn beside(target: &Path) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        check_target(target)?;
        let mut name = target.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        Ok(Self { path: target.with_file_name(name), target: target.into(), is_placed: false })
    }

    /// What to write to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, empty.
    ///
    /// # Errors
    /// Where the operating system refuses; the error names the place.
    pub fn create(&self) -> Result<File> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&self.path);
        file.map_err(|error| Error::io(&self.target, error))
    }

    /// Takes the place of what is there, on disk when this returns.
    ///
    /// # Errors
    /// Where the operating system refuses: what was there is there still.
    pub fn replace(mut self) -> Result<()> {
        self.synced(|path, target| fs::rename(path, target))
    }

    /// Takes its place where nothing is there; `false` where something is.
    ///
    /// # Errors
    /// Where the operating system refuses.
    pub fn place(mut self) -> Result<bool> {
        match self.synced(|path, target| fs::hard_link(path, target)) {
            Ok(()) => fs::remove_file(&self.path).map(|()| true).map_err(|error| Error::io(&self.target, error)),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn synced(&mut self, place: impl FnOnce(&Path, &Path) -> io::Result<()>) -> Result<()> {
        let placed = || {
            File::open(&self.path)?.sync_all()?;
            place(&self.path, &self.target)?;
            sync_folder(&self.target)
        };
        placed().map_err(|error| Error::io(&self.target, error))?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_placed {
            // What went wrong is the error to report, not that the rest of it stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes a new name in a file's folder last. Folders are no files everywhere: where they cannot be opened, the system sees to it.
fn sync_folder(target: &Path) -> io::Result<()> {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// A file that no other writer of this kind has: in this process or another.
///
/// # Errors
/// Where it cannot be opened or locked.
pub(crate) fn lock(path: &Path) -> io::Result<LockedFile> {
    loop {
        let file = LockedFile::wait_for(File::open(path)?)?;
        // The one that had the lock may have put another file in its place.
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    let (open, there) = (file.metadata()?, fs::metadata(path)?);
    Ok((open.dev(), open.ino()) == (there.dev(), there.ino()))
}

#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> io::Result<bool> {
    // A file that is open cannot be replaced.
    Ok(true)
}
