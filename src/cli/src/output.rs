//! The standard output and the standard error.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};

/// Writes an answer to the standard output and returns the exit code, which is 1 if the answer
/// could not be written.
pub(super) fn print(text: &[u8], code: u8) -> u8 {
    match write(text) {
        Ok(()) => code,
        // A reader that closes the pipe early, such as `head`, is no failure to report.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 1,
        Err(error) => {
            remark(format_args!("writing the output: {error}"));
            1
        }
    }
}

/// Writes a line to the standard error, if it is open.
pub(super) fn remark(text: impl Display) {
    // If the standard error cannot be written, there is no place to report it.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(unix)]
fn write(text: &[u8]) -> io::Result<()> {
    use std::os::fd::AsFd;

    // Rust's own handle reports success for writes to a closed descriptor.
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    out.write_all(text)
}

#[cfg(not(unix))]
fn write(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush())
}
