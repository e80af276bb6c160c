//! The standard output and the standard error.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};

/// Writes an answer to the standard output; the exit code, which is a failure's if the answer could not be written.
pub(super) fn print(text: &[u8], code: u8) -> u8 {
    match write(text) {
        Ok(()) => code,
        // A reader that has enough, such as `head`, is no failure to report.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 1,
        Err(error) => {
            remark(format_args!("writing the output: {error}"));
            1
        }
    }
}

/// Writes a line to the standard error, as far as there is one.
pub(super) fn remark(text: impl Display) {
    // There is nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(unix)]
fn write(text: &[u8]) -> io::Result<()> {
    use std::os::fd::AsFd;

    // Rust's own handle takes writing to a closed descriptor for a success.
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    out.write_all(text)
}

#[cfg(not(unix))]
fn write(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush())
}
