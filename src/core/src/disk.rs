//! The file system interface of the store. It has few operations, so that tests can replace it with
//! one that fails and loses power.

use std::fmt::Debug;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use arrow::buffer::{Buffer, MutableBuffer};

use crate::locked_file::LockedFile;

/// A file system.
///
/// After a loss of power, an implementation guarantees only the following. The content of a file is
/// what [`DiskFile::sync`] last made durable; without a sync it is arbitrary. The names in a folder
/// are those of its last [`Disk::sync_folder`], and each later change is either made or not made,
/// in any order. A rename over another file is atomic.
pub trait Disk: Debug + Send + Sync {
    /// Creates a folder and its parents, durably. An existing folder is not an error.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;

    /// Acquires a lock, which is held until the result is dropped or the process ends. Creates the
    /// file.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if this process or another one holds the lock.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;

    /// Creates a file, or truncates the existing one.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Renames a file, replacing a file that has the new name.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable: files created, renamed and removed.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Reads the whole content of a file into memory that is aligned for arrays.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn read(&self, path: &Path) -> io::Result<Buffer>;

    /// Lists the names in a folder. Names that are not Unicode are left out.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Removes a file.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub trait DiskFile: Write + Send {
    /// Makes all that was written durable.
    ///
    /// # Errors
    /// Errors of the operating system. The data written since the last sync is then lost: a second
    /// attempt may succeed without having written it.
    fn sync(&mut self) -> io::Result<()>;
}

/// A lock, held until it is dropped.
pub trait DiskLock: Debug + Send + Sync {}

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileSystem;

impl DiskLock for LockedFile {}

impl DiskFile for BufWriter<File> {
    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.get_ref().sync_all()
    }
}

/// Size of the write buffer, in bytes.
const WRITE_BYTES: usize = 1 << 18;

impl Disk for FileSystem {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let Some(above) = folder.parent() else { return Ok(()) };
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        let is_there = folder.is_dir();
        if !is_there {
            if above != Path::new(".") {
                self.create_folder(above)?;
            }
            match fs::create_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
                other => other?,
            }
        }
        // An existing folder may have been created by a process that ended before this sync.
        match self.sync_folder(above) {
            Err(error) if is_there && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match LockedFile::try_new(file) {
            Ok(locked) => Ok(Box::new(locked)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(BufWriter::with_capacity(WRITE_BYTES, File::create(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    // Other systems cannot open a folder as a file, and its names are durable with the file.
    #[cfg(not(unix))]
    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        Ok(())
    }

    #[cfg(unix)]
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        match File::open(folder)?.sync_all() {
            // The file system does not support this.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }

    fn read(&self, path: &Path) -> io::Result<Buffer> {
        let mut file = File::open(path)?;
        let bytes = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut content = MutableBuffer::from_len_zeroed(bytes);
        file.read_exact(content.as_slice_mut())?;
        Ok(content.into())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
