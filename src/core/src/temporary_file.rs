//! Files under temporary names in the folder of the file that they become. A name is random,
//! created exclusively and locked while its writer lives. So two writers of one target do not
//! collide, and a temporary file without a lock is the leftover of a killed process, which the next
//! writer in the folder removes.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};

use crate::locked_file::LockedFile;

/// Separator between the target's name and the random digits of a temporary name.
const MARK: &str = ".vexact-";
/// Suffix of a temporary name.
const END: &str = ".tmp";
/// Number of hexadecimal digits between [`MARK`] and [`END`].
const DIGITS: usize = 16;
/// Maximum bytes of the target's name in a temporary one: file systems allow 255 in all.
const NAME_BYTES: usize = 200;

/// Temporary files, each with the id of its process: in a child of `fork` the set also has the
/// parent's files.
static UNFINISHED: Mutex<BTreeSet<(u32, PathBuf)>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<(u32, PathBuf)>> {
    UNFINISHED.lock()
}

/// Removes the temporary files of this process. Call this when the process is about to end: writers
/// that are still at work fail.
pub fn discard_unfinished() {
    for (process, path) in std::mem::take(&mut *unfinished()) {
        if process == std::process::id() {
            // A file that was renamed to its name meanwhile no longer exists.
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes a temporary name from the set of unfinished files.
pub(crate) fn forget_temporary(path: PathBuf) {
    unfinished().remove(&(std::process::id(), path));
}

/// Creates a new file under a temporary name, locked.
pub(crate) fn create_temporary(target: &Path, old: Option<&Metadata>) -> io::Result<(PathBuf, LockedFile)> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let end = (0..=NAME_BYTES.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    loop {
        let number = random();
        let path = target.with_file_name(format!("{}{MARK}{number:016x}{END}", &name[..end]));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        if let Some(old) = old {
            use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
            // Users who could not read the old file must not be able to read the new one.
            options.mode(old.permissions().mode() & 0o777 | 0o600);
        }
        #[cfg(not(unix))]
        let _ = old;
        let file = match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            opened => opened?,
        };
        let entry = (std::process::id(), path.clone());
        unfinished().insert(entry.clone());
        // Between these two steps another writer may have removed it as a leftover.
        match LockedFile::try_new(file) {
            Ok(file) if is_at(&file, &path) => return Ok((path, file)),
            Err(fs::TryLockError::Error(error)) => {
                unfinished().remove(&entry);
                let _ = fs::remove_file(&path);
                return Err(error);
            }
            Ok(_) | Err(fs::TryLockError::WouldBlock) => {
                unfinished().remove(&entry);
            }
        }
    }
}

/// Returns a random number that differs from those of other writers: its hasher's keys are random.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};

    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// Returns true if a temporary name is one of ours.
fn is_temporary(name: &str) -> bool {
    let digits = name.strip_suffix(END).and_then(|name| name.rsplit_once(MARK)).map(|(_, digits)| digits);
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Removes temporary files that no process writes any more from a folder.
pub fn remove_leftovers(folder: &Path) {
    // In a folder that cannot be listed, they remain.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_str().is_some_and(is_temporary) || !entry.file_type().is_ok_and(|kind| kind.is_file())
        {
            continue;
        }
        if let Ok(file) = OpenOptions::new().write(true).open(entry.path())
            && let Ok(_lock) = LockedFile::try_new(file)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns true if the path still names this open file.
#[cfg(unix)]
pub fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => id(open) == id(there),
        _ => false,
    }
}

/// Returns true if the path still names this open file: an open file cannot be replaced on this
/// platform.
#[cfg(not(unix))]
pub fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}
