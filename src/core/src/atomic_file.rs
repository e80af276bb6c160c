//! Output files that appear under their name only when they are complete.
//!
//! A file is written under a temporary name in the target's folder ([`crate::temporary_file`]),
//! synced and renamed. A symbolic link is kept, and the file that it points to is replaced;
//! permissions and owner of a replaced file are kept. A target that is no regular file (a pipe, a
//! device) cannot be replaced by a rename and is written directly.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::locked_file::LockedFile;
use crate::temporary_file::{create_temporary, forget_temporary, remove_leftovers};

/// Maximum number of symbolic links to follow, as on Linux.
const LINKS: usize = 40;

/// Rejects a path that cannot become a file: a folder, or a path in a folder that does not exist.
///
/// # Errors
/// Such a path.
pub fn check_target(path: &Path) -> Result<()> {
    if path.file_name().is_none() || path.is_dir() {
        let source = io::Error::new(io::ErrorKind::IsADirectory, "expected a file to write, got a folder");
        return Err(Error::Io { path: path.into(), source });
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.exists() => {
            Err(Error::FolderNotFound { path: folder.into() })
        }
        _ => Ok(()),
    }
}

/// An output file that is being written. Unless it is committed, nothing of it remains.
#[derive(Debug)]
pub struct AtomicFile {
    /// Path as given, for messages.
    path: PathBuf,
    /// The file that is replaced, behind all symbolic links.
    target: PathBuf,
    /// `None` for a target that is written directly.
    temporary: Option<PathBuf>,
    file: Arc<LockedFile>,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl AtomicFile {
    /// Creates a temporary file for this path.
    ///
    /// # Errors
    /// A path that cannot become a file; a file that is read-only.
    pub fn create(path: &Path) -> Result<Self> {
        check_target(path)?;
        let io = |error| Error::io(path, error);
        let target = followed(path).map_err(io)?;
        check_target(&target)?;
        let old = match fs::metadata(&target) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io(error)),
        };
        if let Some(old) = &old {
            // A rename would replace a read-only file.
            let file = OpenOptions::new().write(true).open(&target).map_err(io)?;
            if !old.is_file() {
                let file = Arc::new(LockedFile::shared(file));
                return Ok(Self { path: path.into(), target, temporary: None, file, failure: Arc::default() });
            }
        }
        remove_leftovers(folder_of(&target));
        let (temporary, file) = create_temporary(&target, old.as_ref()).map_err(io)?;
        let file = Arc::new(file);
        Ok(Self { path: path.into(), target, temporary: Some(temporary), file, failure: Arc::default() })
    }

    /// Returns a writer to the file. It is cheap to clone.
    pub fn writer(&self) -> AtomicWriter {
        AtomicWriter { file: Arc::clone(&self.file), failure: Arc::clone(&self.failure) }
    }

    /// Returns the file, for reading back what was written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the error to report for an error of an encoder: if an error of the operating system
    /// caused it, that error with the path.
    pub fn error(&self, otherwise: Error) -> Error {
        match self.failure.lock().take() {
            Some(source) => Error::Io { path: self.path.clone(), source },
            None => otherwise,
        }
    }

    /// Renames the file to its name, durably, replacing a file that has the name.
    ///
    /// # Errors
    /// Errors of the operating system: the old file still exists then.
    pub fn commit(mut self) -> Result<()> {
        let result = match &self.temporary {
            None => self.file.sync_if_possible(),
            Some(temporary) => self.finished(temporary, |from, to| fs::rename(from, to)),
        };
        result.map_err(|error| Error::io(&self.path, error))?;
        self.release();
        Ok(())
    }

    /// Renames the file to its name, durably, if no file has the name. Returns `false` if one has.
    ///
    /// # Errors
    /// Errors of the operating system.
    pub fn commit_new(self) -> Result<bool> {
        let Some(temporary) = &self.temporary else { return Ok(false) };
        match self.finished(temporary, |from, to| fs::hard_link(from, to)) {
            // Dropping `self` removes the temporary name.
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Error::io(&self.path, error)),
        }
    }

    fn finished(&self, temporary: &Path, place: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
        // The metadata are read now, as they may have changed since the file was created.
        if let Ok(old) = fs::metadata(&self.target) {
            keep_attributes(&self.file, &old)?;
        }
        self.file.sync_all()?;
        place(temporary, &self.target)?;
        sync_folder(&self.target)
    }

    /// Marks the temporary name as gone.
    fn release(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            forget_temporary(temporary);
        }
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary
            // In a child of `fork`, the file belongs to the parent.
            && self.file.is_of_process()
        {
            // The earlier error is the one to report.
            let _ = fs::remove_file(temporary);
        }
        self.release();
    }
}

/// Writes to an [`AtomicFile`], and keeps the first error of the operating system for
/// [`AtomicFile::error`]: encoders wrap it.
#[derive(Debug, Clone)]
pub struct AtomicWriter {
    file: Arc<LockedFile>,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl Write for AtomicWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file: &File = &self.file;
        file.write(bytes).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                let mut failure = self.failure.lock();
                failure.get_or_insert_with(|| copy_of(error));
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// Resolves the symbolic links of a path, whether or not the last target exists.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = path.parent().unwrap_or(Path::new("")).join(next),
            // The path is no link, or does not exist.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("expected a file, got symbolic links that lead in a circle"))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Copies the permissions and the owner of another file, as far as this user may.
#[cfg(unix)]
fn keep_attributes(file: &File, old: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};

    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) && fchown(file, Some(old.uid()), Some(old.gid())).is_err() {
        // The owner of the old file is another user: perhaps only the group can be set.
        let _ = fchown(file, None, Some(old.gid()));
    }
    file.set_permissions(old.permissions())
}

#[cfg(not(unix))]
fn keep_attributes(file: &File, old: &Metadata) -> io::Result<()> {
    file.set_permissions(old.permissions())
}

/// Makes a new name in a file's folder durable. On systems that cannot open folders, the name is
/// durable with the file.
fn sync_folder(target: &Path) -> io::Result<()> {
    match File::open(folder_of(target)).and_then(|folder| folder.sync_all()) {
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn written(path: &Path, text: &str) -> AtomicFile {
        let file = AtomicFile::create(path).unwrap();
        file.writer().write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_file_is_replaced_when_it_is_complete_and_never_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        fs::write(&path, "old").unwrap();
        drop(written(&path, "half"));
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path())), ("old", vec!["a.csv".into()]));
        let file = written(&path, "new");
        assert_eq!(names(folder.path()).len(), 2);
        file.commit().unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path())), ("new", vec!["a.csv".into()]));
        assert!(!written(&path, "newer").commit_new().unwrap());
        let other = folder.path().join("b.csv");
        assert!(written(&other, "b").commit_new().unwrap());
        assert_eq!(names(folder.path()), ["a.csv", "b.csv"]);
    }

    #[test]
    fn one_of_many_writers_wins_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        let file = AtomicFile::create(path).unwrap();
                        for _ in 0..100 {
                            file.writer().write_all(format!("{writer}\n").as_bytes()).unwrap();
                        }
                        file.commit().unwrap();
                        let text = fs::read_to_string(path).unwrap();
                        let first = text.lines().next().unwrap();
                        assert!(text.lines().count() == 100 && text.lines().all(|line| line == first));
                    }
                });
            }
        });
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};

        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("deep/real"), folder.path().join("link"));
        fs::create_dir(folder.path().join("deep")).unwrap();
        symlink("deep/real", &link).unwrap();
        // A link to a file that does not exist yet.
        written(&link, "1").commit().unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "1");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        written(&link, "2").commit().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "2");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(names(&folder.path().join("deep")), ["real"]);
        symlink("loop", folder.path().join("loop")).unwrap();
        assert!(AtomicFile::create(&folder.path().join("loop")).is_err());
    }

    #[test]
    fn leftovers_of_the_killed_go_and_files_of_the_living_stay() {
        let folder = tempfile::tempdir().unwrap();
        let leftover = folder.path().join("x.vexact-0123456789abcdef.tmp");
        let others = folder.path().join("x.0123456789abcdef.tmp");
        fs::write(&leftover, "rest").unwrap();
        fs::write(&others, "of others").unwrap();
        let living = written(&folder.path().join("y"), "y");
        written(&folder.path().join("x"), "x").commit().unwrap();
        living.commit().unwrap();
        assert_eq!(names(folder.path()), ["x", "x.0123456789abcdef.tmp", "y"]);
    }

    #[test]
    fn long_names_and_targets_that_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join(format!("{}é.csv", "n".repeat(240)));
        written(&long, "x").commit().unwrap();
        assert_eq!(fs::read_to_string(&long).unwrap(), "x");
        for (path, problem) in [("", "got a folder"), ("nowhere/x", "folder not found")] {
            let error = AtomicFile::create(&folder.path().join(path)).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named_and_a_device_is_not_replaced() {
        let path = Path::new("/dev/full");
        let file = AtomicFile::create(path).unwrap();
        let failure = file.writer().write_all(b"x").unwrap_err();
        assert_eq!(failure.kind(), io::ErrorKind::StorageFull);
        let error = file.error(Error::InvalidArgument("an encoder failed".into()));
        assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("/dev/full: No space left"), "{error}");
        drop(file);
        assert!(path.exists());
    }
}
