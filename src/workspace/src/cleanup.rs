//! Which runs go, and what goes with them.

use std::path::PathBuf;

use chrono::Duration;
use serde::Serialize;
use vexact_core::error::{Error, Result};

use super::{RunFilter, RunStatus, Workspace, time};

/// Which runs to forget: those that both rules let go. A run that is running stays.
#[derive(Debug, Clone, Default)]
pub struct Cleanup {
    /// The newest so many stay.
    pub keep_last: Option<usize>,
    /// Those that started within so many days stay.
    pub ttl_days: Option<u32>,
    /// Delete their folders too. Files that a run wrote elsewhere stay.
    pub delete_files: bool,
}

/// What went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cleaned {
    /// The runs that the index has no more, the newest first.
    pub deleted_run_ids: Vec<String>,
    /// The folders that are no more.
    pub deleted_run_dirs: Vec<PathBuf>,
}

impl Workspace {
    /// Forgets runs.
    ///
    /// # Errors
    /// No rule, which would mean all runs; a folder that cannot be deleted.
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
