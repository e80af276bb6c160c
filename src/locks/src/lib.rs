//! SQLite connections that share a process with another SQLite library.
//!
//! POSIX locks, which SQLite takes on unix, belong to the process: two SQLite libraries in one
//! process do not see each other's locks, and a `close` in one drops the locks of the other, which
//! destroys the file. On Linux the bundled library locks with open-file-description locks instead;
//! see `ofd_locks.c`. All connections of the workspace, and all files that it locks
//! ([`ProcessFile`]), are opened by this crate, so that a forked child inherits no lock.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, Result};

mod process_file;

pub use process_file::ProcessFile;

/// Opens a database file.
///
/// # Errors
/// An error of SQLite.
pub fn open(path: impl AsRef<Path>, flags: OpenFlags) -> Result<Connection> {
    // The call also makes the linker keep the constructor that installs the locks.
    system::are_isolated();
    Connection::open_with_flags(path, flags)
}

/// Opens a file only for reading, in a folder in which SQLite cannot create the shared-memory file
/// of a write-ahead log. If there is no write-ahead log, the connection sees all committed data. It
/// sees later changes only after the file is opened again.
///
/// # Errors
/// An error of SQLite.
pub fn open_immutable(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => uri.push((*byte).into()),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    open(uri + "?immutable=1", flags | OpenFlags::SQLITE_OPEN_URI)
}

/// Returns true if there is a non-empty write-ahead log beside a database file.
pub fn has_wal(path: &Path) -> bool {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    std::fs::metadata(wal).is_ok_and(|wal| wal.len() > 0)
}

/// Returns true if the error means that the folder of the file is not writable: [`open_immutable`]
/// may open the file.
pub fn is_of_read_only_folder(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// Opens a new database in memory.
///
/// # Errors
/// An error of SQLite.
pub fn open_in_memory() -> Result<Connection> {
    open(":memory:", OpenFlags::default())
}

/// Returns true if another SQLite library in this process may open the same files, because the
/// locks of this library are independent of it. Returns false on systems other than Linux, and on
/// Linux before 3.15.
pub fn are_isolated() -> bool {
    system::are_isolated()
}

/// Returns true if SQLite has the file at this path open. Code that opens such a file itself, even
/// only to read it, must not close it: the close would release the locks that another SQLite
/// library in the process has on it. Returns false if locks are not isolated.
pub fn has_open(path: &Path) -> bool {
    system::has_open(path)
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod system {
    use std::ffi::{CString, c_char, c_int};
    use std::fs::File;
    use std::marker::PhantomData;
    use std::os::fd::{AsRawFd, IntoRawFd};
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    // The C code calls SQLite, so SQLite has to be linked.
    use libsqlite3_sys as _;

    unsafe extern "C" {
        fn vexact_ofd_is_installed() -> c_int;
        fn vexact_ofd_has_open(path: *const c_char) -> c_int;
        fn vexact_ofd_begin_open();
        fn vexact_ofd_end_open(fd: c_int);
        fn vexact_ofd_close(fd: c_int) -> c_int;
    }

    /// The opening of a file whose descriptor a forked child gives up. A fork waits until it is
    /// over.
    pub(super) struct Opening(Option<c_int>, PhantomData<*const ()>);

    impl Opening {
        pub fn begin() -> Self {
            let is_waited_for = are_isolated();
            if is_waited_for {
                // SAFETY: The function has no arguments and takes a mutex, which is given back when
                // this is dropped.
                unsafe { vexact_ofd_begin_open() };
            }
            Self(is_waited_for.then_some(-1), PhantomData)
        }

        pub fn end(mut self, file: &File) {
            self.0 = self.0.map(|_| file.as_raw_fd());
        }
    }

    impl Drop for Opening {
        fn drop(&mut self) {
            if let Some(descriptor) = self.0 {
                // SAFETY: `begin` took the mutex on this thread, which this value does not leave,
                // and this gives it back once.
                unsafe { vexact_ofd_end_open(descriptor) };
            }
        }
    }

    /// Closes a file.
    pub(super) fn close(file: File) {
        // SAFETY: The descriptor is owned by `file`, which gives it up.
        unsafe { vexact_ofd_close(file.into_raw_fd()) };
    }

    pub(super) fn are_isolated() -> bool {
        // SAFETY: The function has no arguments and reads an integer that is written only while the
        // program is loaded.
        unsafe { vexact_ofd_is_installed() != 0 }
    }

    pub(super) fn has_open(path: &Path) -> bool {
        let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
        // SAFETY: `path` is a string that ends in NUL and outlives the call, which does not keep
        // it.
        unsafe { vexact_ofd_has_open(path.as_ptr()) != 0 }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::fs::File;
    use std::path::Path;

    use libsqlite3_sys as _;

    pub(super) fn are_isolated() -> bool {
        false
    }

    pub(super) fn has_open(_path: &Path) -> bool {
        false
    }

    pub(super) struct Opening;

    impl Opening {
        pub fn begin() -> Self {
            Self
        }

        pub fn end(self, _file: &File) {}
    }

    pub(super) fn close(file: File) {
        drop(file);
    }
}
