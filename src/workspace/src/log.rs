//! The logs of a run.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use vexact_core::error::{Error, Result};

use super::{Workspace, files};

/// One of a run's two logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// `stdout.log`: its answer.
    Stdout,
    /// `stderr.log`: its remarks and errors.
    Stderr,
}

impl Workspace {
    /// Returns the end of a log, at most `max_bytes`. It begins at the beginning of a line if the
    /// log is longer; it is empty if there is no log. Bytes that are not UTF-8 become `U+FFFD`.
    ///
    /// # Errors
    /// A run that the workspace does not have; a file that cannot be read.
    pub fn log_end(&self, run_id: &str, kind: LogKind, max_bytes: u64) -> Result<String> {
        let name = match kind {
            LogKind::Stdout => files::STDOUT,
            LogKind::Stderr => files::STDERR,
        };
        let path = self.run(run_id)?.run_dir.join(name);
        let read = || {
            let mut file = File::open(&path)?;
            let skipped = file.metadata()?.len().saturating_sub(max_bytes);
            file.seek(SeekFrom::Start(skipped))?;
            let mut bytes = Vec::new();
            file.take(max_bytes).read_to_end(&mut bytes)?;
            Ok((skipped, bytes))
        };
        let (skipped, bytes) = match read() {
            Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => return Ok(String::new()),
            read => read.map_err(|error| Error::io(&path, error))?,
        };
        let text = String::from_utf8_lossy(&bytes);
        // A single line that is longer than the limit has no beginning to show.
        Ok(match (skipped, text.split_once('\n')) {
            (1.., Some((_, whole))) => whole.to_owned(),
            _ => text.into_owned(),
        })
    }
}
