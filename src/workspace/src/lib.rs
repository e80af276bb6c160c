//! Tracked runs: their files, and the index that finds them.
//!
//! A workspace is a folder. `runs/<run_id>/` has the files of one run: `run.json` (replaced
//! atomically, so always whole), `inputs.json`, `stdout.log`, `stderr.log`, `progress.jsonl`,
//! `explain.json` and `artifacts/`. `index/artifacts.sqlite` finds runs and artifacts, and stores
//! the first rows of each. It can be deleted: the next process that opens the workspace rebuilds
//! it.
//!
//! Several processes may use one workspace at once. A process holds a lock on `lock` in the folder
//! of its run. A run whose process died is detected by its lock, which nobody holds, even if its
//! process id is reused; it becomes `failed` (`orphaned`).

mod active;
mod artifact;
mod cleanup;
mod diff;
mod files;
mod index;
mod log;
mod preview;
mod run;
#[cfg(test)]
mod tests;
mod time;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use arrow::array::RecordBatch;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use vexact_core::error::{Error, Result};
use vexact_core::temporary_file::remove_leftovers;

pub use active::{ActiveRun, NewRun, RunOutcome};
pub use artifact::{Artifact, ArtifactKind, NewArtifact};
pub use cleanup::{Cleaned, Cleanup};
pub use diff::{Change, Diff};
pub use log::LogKind;
pub use preview::Preview;
pub use run::{Run, RunError, RunFilter, RunStatus};

use index::Index;

/// The folder of tracked runs and its index. Cheap to clone, safe from several threads; its methods
/// block.
#[derive(Debug, Clone)]
pub struct Workspace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    index: Mutex<Index>,
}

impl Workspace {
    /// Returns the default folder of the workspace: `$VEXACT_HOME`, else `.vexact` in the home
    /// folder.
    ///
    /// # Errors
    /// Neither `$VEXACT_HOME` nor a home folder.
    pub fn default_root() -> Result<PathBuf> {
        if let Some(root) = std::env::var_os("VEXACT_HOME").filter(|root| !root.is_empty()) {
            return Ok(root.into());
        }
        let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
        home.map(|home| home.join(".vexact")).ok_or_else(|| {
            Error::InvalidArgument("workspace: expected VEXACT_HOME or a home folder, got neither".into())
        })
    }

    /// Opens or creates the workspace in a folder. A missing index is rebuilt from the runs' own
    /// files.
    ///
    /// # Errors
    /// A folder that cannot be written; an index of a newer version.
    pub fn open(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).map_err(|error| Error::io(root, error))?;
        files::create_folder(&root.join("runs"))?;
        files::create_folder(&root.join("index"))?;
        let (mut index, is_new) = Index::open(&root.join("index").join("artifacts.sqlite"))?;
        if is_new {
            for run in files::stored_runs(&root.join("runs"))? {
                index.put(&run.run, &run.searched, &run.artifacts)?;
            }
        }
        Ok(Self { inner: Arc::new(Inner { root, index: Mutex::new(index) }) })
    }

    /// The workspace's folder, absolute.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Returns the folder of a run, whether or not it exists.
    pub fn run_dir(&self, run_id: &str) -> PathBuf {
        self.inner.root.join("runs").join(run_id)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.inner.index.lock()
    }

    /// Returns runs, the newest first.
    ///
    /// # Errors
    /// An index that cannot be read.
    pub fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        self.settle_orphans()?;
        let runs = self.index().runs(filter)?;
        Ok(runs.into_iter().map(|run| run.located(self)).collect())
    }

    /// Returns one run.
    ///
    /// # Errors
    /// An id that the workspace does not have.
    pub fn run(&self, run_id: &str) -> Result<Run> {
        self.settle_orphans()?;
        let run = self.index().run(run_id)?.ok_or_else(|| self.unknown("run_id", "a run", run_id))?;
        Ok(run.located(self))
    }

    /// Returns the artifacts of a run in the order of their creation, or those of all runs, the
    /// newest run first.
    ///
    /// # Errors
    /// A run that the workspace does not have.
    pub fn artifacts(&self, run_id: Option<&str>, limit: Option<usize>) -> Result<Vec<Artifact>> {
        if let Some(run_id) = run_id {
            self.run(run_id)?;
        }
        let artifacts = self.index().artifacts(run_id, limit)?;
        Ok(artifacts.into_iter().map(|artifact| artifact.located(self)).collect())
    }

    /// Returns one artifact.
    ///
    /// # Errors
    /// An id that the workspace does not have.
    pub fn artifact(&self, artifact_id: &str) -> Result<Artifact> {
        Ok(self.find_artifact(artifact_id)?.0)
    }

    /// Returns the first rows of an artifact from the index: at most 50, and 200 KiB.
    ///
    /// # Errors
    /// An id that the workspace does not have; an artifact without rows, such as a log.
    pub fn preview(&self, artifact_id: &str) -> Result<Preview> {
        let (artifact, stored) = self.find_artifact(artifact_id)?;
        let Some(stored) = stored else {
            return Err(Error::InvalidArgument(format!(
                "artifact {artifact_id:?}: expected one with a preview, got a {} without: read {}",
                artifact.kind,
                artifact.path.display()
            )));
        };
        Preview::of_stored(&stored, artifact.row_count)
    }

    fn find_artifact(&self, artifact_id: &str) -> Result<(Artifact, Option<Vec<u8>>)> {
        let found = self.index().artifact(artifact_id)?;
        let (artifact, preview) = found.ok_or_else(|| self.unknown("artifact_id", "an artifact", artifact_id))?;
        Ok((artifact.located(self), preview))
    }

    /// Returns the snapshots in a run's `progress.jsonl`, the oldest first; only the last `limit`
    /// of them.
    ///
    /// # Errors
    /// A run that the workspace does not have; a file that cannot be read.
    pub fn progress(&self, run_id: &str, limit: Option<usize>) -> Result<Vec<Value>> {
        files::json_lines(&self.run(run_id)?.run_dir.join(files::PROGRESS), limit)
    }

    /// Returns the newest rows of a run's output, as it last reported them.
    ///
    /// # Errors
    /// A run that the workspace does not have; a file that cannot be read.
    pub fn latest(&self, run_id: &str) -> Result<Option<RecordBatch>> {
        let path = self.run(run_id)?.run_dir.join(files::LATEST);
        match fs::read(&path) {
            Ok(stored) => Preview::of_stored(&stored, 0).map(|preview| Some(preview.rows().clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path, error)),
        }
    }

    /// Returns a run's `explain.json`: `{logical, physical, strategy}`.
    ///
    /// # Errors
    /// A run that the workspace does not have; a file that cannot be read.
    pub fn explain(&self, run_id: &str) -> Result<Option<Value>> {
        files::json(&self.run(run_id)?.run_dir.join(files::EXPLAIN))
    }

    /// Returns the inputs of a run: `inputs.json`.
    ///
    /// # Errors
    /// A run that the workspace does not have; a file that cannot be read.
    pub fn inputs(&self, run_id: &str) -> Result<Option<Value>> {
        files::json(&self.run(run_id)?.run_dir.join(files::INPUTS))
    }

    /// Marks each `running` run as `failed` if no process runs it any more.
    fn settle_orphans(&self) -> Result<()> {
        let running = self.index().running()?;
        for run in running {
            let folder = self.run_dir(&run.run_id);
            if files::is_held(&folder) {
                continue;
            }
            // Since the index was read, the run's process may have ended in order, or died before
            // it updated the index.
            let (ended, artifacts) = match files::stored_run(&folder) {
                Ok(stored) if stored.run.status != RunStatus::Running => (stored.run, stored.artifacts),
                Ok(stored) => (stored.run.orphaned(), stored.artifacts),
                // Without its folder, the run is known from the index only.
                Err(_) => (run.orphaned(), Vec::new()),
            };
            if folder.is_dir() {
                remove_leftovers(&folder.join(files::ARTIFACTS));
                files::write_run(&folder, &ended, &artifacts)?;
            }
            self.index().end(&ended)?;
        }
        Ok(())
    }

    fn unknown(&self, what: &str, expected: &str, got: &str) -> Error {
        Error::InvalidArgument(format!(
            "{what}: expected {expected} of the workspace {}, got {got:?}, which it does not have",
            self.inner.root.display()
        ))
    }
}
