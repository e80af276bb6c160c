//! Deletion of old runs.

use std::path::PathBuf;

use chrono::Duration;
use serde::Serialize;
use vexact_core::error::{Error, Result};

use super::{RunFilter, RunStatus, Workspace, time};

/// The rules by which runs are deleted. A run is deleted only if no rule keeps it. A run in
/// progress is kept.
#[derive(Debug, Clone, Default)]
pub struct Cleanup {
    /// Keep this many runs, the newest.
    pub keep_last: Option<usize>,
    /// Keep the runs that started within this many days.
    pub ttl_days: Option<u32>,
    /// Delete their folders too. Files that a run wrote elsewhere are kept.
    pub delete_files: bool,
}

/// The deleted runs and folders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cleaned {
    /// The runs that were removed from the index, the newest first.
    pub deleted_run_ids: Vec<String>,
    /// The folders that were deleted.
    pub deleted_run_dirs: Vec<PathBuf>,
}

impl Workspace {
    /// Removes runs from the index, and their folders if the rules say so.
    ///
    /// # Errors
    /// A cleanup without a rule, which would delete all runs; a folder that cannot be deleted.
    pub fn cleanup(&self, cleanup: &Cleanup) -> Result<Cleaned> {
        if cleanup.keep_last.is_none() && cleanup.ttl_days.is_none() {
            return Err(Error::InvalidArgument("cleanup: expected keep_last, ttl_days or both, got neither".into()));
        }
        let oldest = cleanup.ttl_days.map(|days| time::text(time::now() - Duration::days(days.into())));
        let runs = self.runs(&RunFilter::default())?;
        let beyond = runs.into_iter().skip(cleanup.keep_last.unwrap_or(0));
        let is_old = |started_at: &str| oldest.as_ref().is_none_or(|oldest| started_at < oldest.as_str());
        let going: Vec<String> = beyond
            .filter(|run| run.status != RunStatus::Running && is_old(&run.started_at))
            .map(|run| run.run_id)
            .collect();
        let mut cleaned = Cleaned { deleted_run_ids: self.index().forget(&going)?, ..Cleaned::default() };
        if cleanup.delete_files {
            for run_id in &cleaned.deleted_run_ids {
                let folder = self.run_dir(run_id);
                match std::fs::remove_dir_all(&folder) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    removed => removed.map_err(|error| Error::io(&folder, error))?,
                }
                cleaned.deleted_run_dirs.push(folder);
            }
        }
        Ok(cleaned)
    }
}
