//! A run in progress: the one whose process writes its folder.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use serde_json::Value;
use vexact_core::error::{Error, Result};
use vexact_core::json::columns;
use vexact_core::locked_file::LockedFile;

use super::{Artifact, NewArtifact, Preview, Run, RunError, RunStatus, Workspace, files, time};

/// A run to start.
#[derive(Debug, Clone, Default)]
pub struct NewRun {
    /// Name of the action, such as `csv-sql`.
    pub action: String,
    /// Name given by the user.
    pub run_name: Option<String>,
    /// Description given by the user.
    pub description: Option<String>,
    /// Tags; repeated ones count once.
    pub tags: Vec<String>,
    /// Timeout in milliseconds. The caller enforces it.
    pub timeout_ms: Option<u64>,
    /// Inputs of the run, stored in `inputs.json`.
    pub inputs: Value,
}

/// Result with which a run ended.
#[derive(Debug, Clone)]
pub enum RunOutcome {
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed(RunError),
    /// It exceeded its timeout.
    TimedOut(RunError),
    /// It was cancelled from outside.
    Cancelled(RunError),
}

/// A run in progress. Safe from several threads. A run that is dropped before it is finished has
/// failed.
#[derive(Debug)]
pub struct ActiveRun {
    workspace: Workspace,
    folder: PathBuf,
    run_id: String,
    /// Start on a monotonic clock.
    started: Instant,
    pub(super) state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub run: Run,
    artifacts: Vec<Artifact>,
    progress: File,
    stdout: File,
    stderr: File,
    /// Held until it has ended.
    pub lock: Option<LockedFile>,
}

impl Workspace {
    /// Starts a run: creates its folder, acquires its lock and inserts it into the index.
    ///
    /// # Errors
    /// A folder or an index that cannot be written.
    pub fn start(&self, new: NewRun) -> Result<ActiveRun> {
        let (now, started) = (time::now(), Instant::now());
        let (run_id, folder) = self.new_folder(&time::compact(now))?;
        let lock = files::hold(&folder)?;
        files::create_folder(&folder.join(files::ARTIFACTS))?;
        let mut tags: Vec<String> = Vec::new();
        for tag in new.tags {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        let run = Run {
            run_id: run_id.clone(),
            run_name: new.run_name,
            description: new.description,
            action: new.action,
            status: RunStatus::Running,
            tags,
            started_at: time::text(now),
            finished_at: None,
            duration_ms: 0,
            timeout_ms: new.timeout_ms,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            row_count: None,
            error: None,
            run_dir: folder.clone(),
        };
        files::write_json(&folder.join(files::INPUTS), &new.inputs)?;
        files::write_run(&folder, &run, &[])?;
        let file = |name| files::appended(folder.join(name));
        let (progress, stdout, stderr) = (file(files::PROGRESS)?, file(files::STDOUT)?, file(files::STDERR)?);
        self.index().put(&run, &files::searched(&run, &new.inputs), &[])?;
        let state = State { run, artifacts: Vec::new(), progress, stdout, stderr, lock: Some(lock) };
        Ok(ActiveRun { workspace: self.clone(), folder, run_id, started, state: Mutex::new(state) })
    }

    /// Creates a folder with a unique name.
    fn new_folder(&self, time: &str) -> Result<(String, PathBuf)> {
        loop {
            let number = getrandom::u32().map_err(|error| Error::Engine(format!("no random numbers: {error}")))?;
            let run_id = format!("{time}_{number:08x}");
            let folder = self.run_dir(&run_id);
            match files::private_folder().create(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(|source| Error::Io { path: folder.clone(), source })?,
            }
            return Ok((run_id, folder));
        }
    }
}

impl ActiveRun {
    /// Its id.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Its folder.
    pub fn run_dir(&self) -> &Path {
        &self.folder
    }

    /// A file among its artifacts.
    pub fn artifact_path(&self, name: &str) -> PathBuf {
        self.folder.join(files::ARTIFACTS).join(name)
    }

    /// Returns the current state of the run.
    pub fn run(&self) -> Run {
        self.state().run.clone().located(&self.workspace)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Returns the state of a run that has not ended, or an error: writes after the end, such as
    /// after a timeout, are rejected.
    fn open_state(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        match state.lock {
            Some(_) => Ok(state),
            None => Err(Error::Engine(format!("run {} has ended: {}", self.run_id, state.run.status))),
        }
    }

    /// Adds a line to `progress.jsonl`: the snapshot, which is an object, and its time as `at`.
    ///
    /// # Errors
    /// A snapshot that is no object; a file that cannot be written; a run that has ended.
    pub fn progress(&self, snapshot: &impl Serialize) -> Result<()> {
        #[derive(Serialize)]
        struct Line<'a, T> {
            at: String,
            #[serde(flatten)]
            snapshot: &'a T,
        }
        let path = || self.folder.join(files::PROGRESS);
        let line = serde_json::to_string(&Line { at: time::text(time::now()), snapshot })
            .map_err(|error| Error::io(&path(), error.into()))?
            + "\n";
        let write = self.open_state()?.progress.write_all(line.as_bytes());
        write.map_err(|error| Error::io(&path(), error))
    }

    /// Adds what was printed to `stdout.log`.
    ///
    /// # Errors
    /// A file that cannot be written; a run that has ended.
    pub fn stdout(&self, text: &str) -> Result<()> {
        let write = self.open_state()?.stdout.write_all(text.as_bytes());
        write.map_err(|error| Error::io(&self.folder.join(files::STDOUT), error))
    }

    /// Adds a remark or an error to `stderr.log`.
    ///
    /// # Errors
    /// A file that cannot be written; a run that has ended.
    pub fn stderr(&self, text: &str) -> Result<()> {
        let write = self.open_state()?.stderr.write_all(text.as_bytes());
        write.map_err(|error| Error::io(&self.folder.join(files::STDERR), error))
    }

    /// Writes `explain.json` and returns its path.
    ///
    /// # Errors
    /// A file that cannot be written; a run that has ended.
    pub fn explain(&self, explained: &impl Serialize) -> Result<PathBuf> {
        let _open = self.open_state()?;
        let path = self.folder.join(files::EXPLAIN);
        files::write_json(&path, explained)?;
        Ok(path)
    }

    /// Replaces the newest rows of the run's output, which are shown while it runs.
    ///
    /// # Errors
    /// A file that cannot be written; a run that has ended.
    pub fn latest(&self, rows: &Preview) -> Result<()> {
        let _open = self.open_state()?;
        files::write_whole(&self.folder.join(files::LATEST), &rows.stored()?)
    }

    /// Records a file that the run has made.
    ///
    /// # Errors
    /// A file that is not there; a second one of its kind; a run that has ended.
    pub fn add_artifact(&self, new: NewArtifact) -> Result<Artifact> {
        let mut state = self.open_state()?;
        if state.artifacts.iter().any(|artifact| artifact.kind == new.kind) {
            return Err(Error::Engine(format!(
                "run {}: expected one {} artifact, got a second",
                self.run_id, new.kind
            )));
        }
        let path = std::path::absolute(&new.path).map_err(|error| Error::io(&new.path, error))?;
        if path.starts_with(&self.folder) {
            files::make_private(&path)?;
        }
        let size_bytes = fs::metadata(&path).map_err(|error| Error::io(&path, error))?.len();
        let within = |path: PathBuf| path.strip_prefix(&self.folder).map(Path::to_path_buf).unwrap_or(path);
        let artifact = Artifact {
            artifact_id: format!("{}.{}", self.run_id, new.kind),
            run_id: self.run_id.clone(),
            kind: new.kind,
            format: new.format.into(),
            path: within(path),
            rows_path: new.rows_path.map(within),
            size_bytes,
            row_count: new.preview.row_count(),
            schema: columns(&new.preview.rows().schema()),
            created_at: time::text(time::now()),
        };
        self.workspace.index().add(&artifact, state.artifacts.len(), &new.preview.stored()?)?;
        if new.kind == super::ArtifactKind::Result {
            state.run.row_count = Some(artifact.row_count);
        }
        state.artifacts.push(artifact.clone());
        files::write_run(&self.folder, &state.run, &state.artifacts)?;
        Ok(artifact.located(&self.workspace))
    }

    /// Ends the run: writes `run.json`, then the index. A run that has ended does not change.
    ///
    /// # Errors
    /// Files or an index that cannot be written.
    pub fn finish(&self, outcome: RunOutcome) -> Result<Run> {
        let mut state = self.state();
        if state.lock.is_none() {
            return Ok(state.run.clone().located(&self.workspace));
        }
        let (status, error) = match outcome {
            RunOutcome::Succeeded => (RunStatus::Succeeded, None),
            RunOutcome::Failed(error) => (RunStatus::Failed, Some(error)),
            RunOutcome::TimedOut(error) => (RunStatus::TimedOut, Some(error)),
            RunOutcome::Cancelled(error) => (RunStatus::Cancelled, Some(error)),
        };
        state.run = state.run.clone().ended_after(self.started.elapsed(), status, error);
        files::write_run(&self.folder, &state.run, &state.artifacts)?;
        self.workspace.index().end(&state.run)?;
        if state.lock.take().is_some() {
            // A lock file that stays is found without a holder, which says the same.
            let _ = fs::remove_file(self.folder.join(files::LOCK));
        }
        Ok(state.run.clone().located(&self.workspace))
    }
}

impl Drop for ActiveRun {
    fn drop(&mut self) {
        if self.state().lock.is_some() {
            let error = RunError {
                error: "it was abandoned before its end".into(),
                error_type: "internal_error".into(),
                phase: "run".into(),
                details: serde_json::Map::new(),
            };
            // If this fails, the run is an orphan, which is detected.
            let _ = self.finish(RunOutcome::Failed(error));
        }
    }
}
