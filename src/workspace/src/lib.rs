//! What a tracked run leaves behind, and how it is found again.
//!
//! A workspace is a folder. `runs/<run_id>/` is what one run left: `run.json` (replaced atomically, so always whole), `inputs.json`,
//! `stdout.log`, `stderr.log`, `progress.jsonl`, `explain.json` and `artifacts/`. `index/artifacts.sqlite` finds runs and artifacts,
//! and keeps the first rows of each; it can be deleted: the next process that opens the workspace makes it anew.
//!
//! Several processes may use one workspace at once. A process holds a lock on `lock` in the folder of its run: so a run whose
//! process died is known by the lock that nobody holds, however process ids are reused, and becomes `failed` (`orphaned`).

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

/// The folder of tracked runs and its index. Cheap to clone, safe from several threads; its methods block.
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
    /// Where a process's workspace is: `$VEXACT_HOME`, else `.vexact` in the home folder.
    ///
    /// # Errors
    /// Neither is known.
    pub fn default_root() -> Result<PathBuf> {
        if let Some(root) = std::env::var_os("VEXACT_HOME").filter(|root| !root.is_empty()) {
            return Ok(root.into());
        }
        let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
        home.map(|home| home.join(".vexact")).ok_or_else(|| {
            Error::InvalidArgument("workspace: expected VEXACT_HOME or a home folder, got neither".into())
        })
    }

    /// Opens the workspace in a folder, or makes it. An index that is not there is made of the runs' own files.
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

    /// The folder of a run, whether or not it is there.
    pub fn run_dir(&self, run_id: &str) -> PathBuf {
        self.inner.root.join("runs").join(run_id)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.inner.index.lock()
    }

    /// Runs, the newest first.
    ///
    /// # Errors
    /// An index that cannot be read.
    pub fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        self.settle_orphans()?;
        let runs = self.index().runs(filter)?;
        Ok(runs.into_iter().map(|run| run.located(self)).collect())
    }

    /// One run.
    ///
    /// # Errors
    /// An id that the workspace does not have.
    pub fn run(&self, run_id: &str) -> Result<Run> {
        self.settle_orphans()?;
        let run = self.index().run(run_id)?.ok_or_else(|| self.unknown("run_id", "a run", run_id))?;
        Ok(run.located(self))
    }

    /// The artifacts of a run in the order in which they were made, or those of all runs, the newest run first.
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

    /// One artifact.
    ///
    /// # Errors
    /// An id that the workspace does not have.
    pub fn artifact(&self, artifact_id: &str) -> Result<Artifact> {
        Ok(self.find_artifact(artifact_id)?.0)
    }

    /// The first rows of an artifact, as the index keeps them: at most 50, and 200 KiB.
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

    /// The snapshots that a run wrote into `progress.jsonl`, the oldest first; the last `limit` of them.
    ///
    /// # Errors
    /// A run that the workspace does not have; a file that cannot be read.
    pub fn progress(&self, run_id: &str, limit: Option<usize>) -> Result<Vec<Value>> {
        files::json_lines(&self.run(run_id)?.run_dir.join(files::PROGRESS), limit)
    }

    /// What a run left in `explain.json`: `{logical, physical, strategy}`.
    ///
    /// # Errors
    /// A run that the workspace does not have; a file that cannot be read.
    pub fn explain(&self, run_id: &str) -> Result<Option<Value>> {
        files::json(&self.run(run_id)?.run_dir.join(files::EXPLAIN))
    }

    /// What a run was asked: `inputs.json`.
    ///
    /// # Errors
    /// A run that the workspace does not have; a file that cannot be read.
    pub fn inputs(&self, run_id: &str) -> Result<Option<Value>> {
        files::json(&self.run(run_id)?.run_dir.join(files::INPUTS))
    }

    /// Makes `failed` of each `running` run that no process runs any more.
    fn settle_orphans(&self) -> Result<()> {
        let running = self.index().running()?;
        for run in running {
            let folder = self.run_dir(&run.run_id);
            if files::is_held(&folder) {
                continue;
            }
            // Its process may have ended in order since the index was read, or died before it told the index.
            let (ended, artifacts) = match files::stored_run(&folder) {
                Ok(stored) if stored.run.status != RunStatus::Running => (stored.run, stored.artifacts),
                Ok(stored) => (stored.run.orphaned(), stored.artifacts),
                // Without its folder, the index is all that is known of it.
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
