//! The files of a run's folder.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vexact_core::error::{Error, Result};
use vexact_core::locked_file::LockedFile;
use vexact_locks::ProcessFile;

use super::{Artifact, Run};

pub(super) const RUN: &str = "run.json";
pub(super) const INPUTS: &str = "inputs.json";
pub(super) const STDOUT: &str = "stdout.log";
pub(super) const STDERR: &str = "stderr.log";
pub(super) const PROGRESS: &str = "progress.jsonl";
pub(super) const EXPLAIN: &str = "explain.json";
/// The newest rows of a running stream: an Arrow stream.
pub(super) const LATEST: &str = "latest.arrow";
pub(super) const ARTIFACTS: &str = "artifacts";
/// Name of the lock file. The process of the run holds the lock, and removes the file when the run
/// has ended in order.
pub(super) const LOCK: &str = "lock";

/// The content of `run.json`.
#[derive(Serialize, Deserialize)]
struct RunFile<R, A> {
    #[serde(flatten)]
    run: R,
    artifacts: A,
}

/// A run as its own files store it.
pub(super) struct StoredRun {
    pub run: Run,
    pub artifacts: Vec<Artifact>,
    /// Text that a search looks through.
    pub searched: String,
}

/// Writes `run.json` anew.
pub(super) fn write_run(folder: &Path, run: &Run, artifacts: &[Artifact]) -> Result<()> {
    write_json(&folder.join(RUN), &RunFile { run, artifacts })
}

/// Reads `run.json`.
pub(super) fn stored_run(folder: &Path) -> Result<StoredRun> {
    let path = folder.join(RUN);
    let stored: RunFile<Run, Vec<Artifact>> = json(&path)?.ok_or(Error::FileNotFound { path })?;
    let inputs: Value = json(&folder.join(INPUTS))?.unwrap_or_default();
    let searched = searched(&stored.run, &inputs);
    Ok(StoredRun { run: stored.run, artifacts: stored.artifacts, searched })
}

/// Reads the runs of a folder. Entries that are no run of this version are skipped.
pub(super) fn stored_runs(runs: &Path) -> Result<Vec<StoredRun>> {
    let entries = fs::read_dir(runs).map_err(|error| Error::io(runs, error))?;
    Ok(entries.filter_map(|entry| stored_run(&entry.ok()?.path()).ok()).collect())
}

/// The texts of a run, a line each, in lower case.
pub(super) fn searched(run: &Run, inputs: &Value) -> String {
    let mut texts = vec![run.run_id.clone(), run.action.clone()];
    texts.extend([&run.run_name, &run.description].into_iter().flatten().cloned());
    texts.extend(run.tags.iter().cloned());
    collect_texts(inputs, &mut texts);
    texts.join("\n").to_lowercase()
}

fn collect_texts(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Value::Object(entries) => entries.values().for_each(|item| collect_texts(item, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Makes a folder and those above it, for its user alone.
pub(super) fn create_folder(folder: &Path) -> Result<()> {
    private_folder().recursive(true).create(folder).map_err(|source| Error::Io { path: folder.into(), source })
}

/// Returns a builder of folders that only their user can read.
pub(super) fn private_folder() -> DirBuilder {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "other systems have no modes"))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Returns options for files that only their user can read.
pub(super) fn private_file() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "other systems have no modes"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes an existing file readable by its user only.
pub(super) fn make_private(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(path, mode).map_err(|error| Error::io(path, error))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Writes a file of JSON as [`write_whole`] does.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let failed = |source| Error::Io { path: path.into(), source };
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    write_whole(path, &text)
}

/// Replaces a file in one step: a reader sees the old one or the new one, whole.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let failed = |source| Error::Io { path: path.into(), source };
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let unfinished = path.with_extension(format!("{}.{number}.tmp", std::process::id()));
    let created = private_file().write(true).create(true).truncate(true).open(&unfinished);
    let written = created.and_then(|mut file| {
        file.write_all(content)?;
        file.sync_data()?;
        fs::rename(&unfinished, path)
    });
    written.map_err(|source| {
        // The earlier error is the one to report.
        let _ = fs::remove_file(&unfinished);
        failed(source)
    })
}

/// Reads a file of JSON; returns `None` if there is none.
pub(super) fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let content = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| Error::io(path, error))?,
    };
    let bad = |error: serde_json::Error| Error::BadFile { path: path.into(), problem: error.to_string() };
    serde_json::from_slice(&content).map(Some).map_err(bad)
}

/// Reads the last lines of a file of JSON lines; returns none if there is no file. A line that is
/// still being written is left out.
pub(super) fn json_lines(path: &Path, limit: Option<usize>) -> Result<Vec<Value>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(|error| Error::io(path, error))?,
    };
    let mut lines = std::collections::VecDeque::new();
    for line in BufReader::new(file).lines() {
        lines.push_back(line.map_err(|error| Error::io(path, error))?);
        if limit.is_some_and(|limit| lines.len() > limit.saturating_add(1)) {
            lines.pop_front();
        }
    }
    let mut values: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if let Some(limit) = limit {
        values.drain(..values.len().saturating_sub(limit));
    }
    Ok(values)
}

/// Opens a file for appending, and creates it if there is none.
pub(super) fn appended(path: PathBuf) -> Result<File> {
    private_file().create(true).append(true).open(&path).map_err(|source| Error::Io { path, source })
}

/// Creates the lock file of a run's folder and acquires the lock.
pub(super) fn hold(folder: &Path) -> Result<LockedFile> {
    let path = folder.join(LOCK);
    let file = private_file().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| Error::Io { path: path.clone(), source })?;
    LockedFile::wait_for(file).map_err(|source| Error::Io { path, source })
}

/// Returns true if a process holds the lock of this folder's run, or if this cannot be determined.
pub(super) fn is_held(folder: &Path) -> bool {
    match ProcessFile::open(|| File::open(folder.join(LOCK))) {
        // The lock is shared, so that two processes that check do not take each other for the
        // holder.
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => true,
        },
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}
