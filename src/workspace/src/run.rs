//! One tracked run, as `run.json` has it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vexact_core::error::Error;

use super::{Workspace, time};

/// The status of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// A process is running it. Set at the start.
    Running,
    /// It succeeded.
    Succeeded,
    /// It failed: [`Run::error`] has the reason. Its `error_type` is `orphaned` if its process
    /// died.
    Failed,
    /// It exceeded [`Run::timeout_ms`].
    TimedOut,
    /// It was cancelled from outside, by Ctrl-C or SIGTERM.
    Cancelled,
}

impl RunStatus {
    const NAMES: [(Self, &'static str); 5] = [
        (Self::Running, "running"),
        (Self::Succeeded, "succeeded"),
        (Self::Failed, "failed"),
        (Self::TimedOut, "timed_out"),
        (Self::Cancelled, "cancelled"),
    ];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(status, _)| *status == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for RunStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::NAMES.iter().find(|(_, name)| *name == text);
        known.map(|(status, _)| *status).ok_or_else(|| {
            let names: Vec<&str> = Self::NAMES.iter().map(|(_, name)| *name).collect();
            Error::InvalidArgument(format!("status: expected one of [{}], got {text:?}", names.join(", ")))
        })
    }
}

/// The reason for which a run did not succeed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunError {
    /// The root cause.
    pub error: String,
    /// The command line's name for the error, or `orphaned`.
    pub error_type: String,
    /// The phase in which it failed.
    pub phase: String,
    /// The details of the failure.
    #[serde(default)]
    pub details: Map<String, Value>,
}

/// One tracked run. Times are UTC, ISO 8601 with milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// `YYYYMMDDTHHMMSSZ_<8 hex>`: when it started, and a random number.
    pub run_id: String,
    /// Name given by the user.
    pub run_name: Option<String>,
    /// Description given by the user.
    pub description: Option<String>,
    /// Name of the action, such as `csv-sql`.
    pub action: String,
    /// Its status.
    pub status: RunStatus,
    /// Tags in the order given, without duplicates.
    pub tags: Vec<String>,
    /// Start time.
    pub started_at: String,
    /// End time; of an orphan, the time of its detection.
    pub finished_at: Option<String>,
    /// Duration in milliseconds; of a run in progress, up to now.
    pub duration_ms: u64,
    /// Timeout in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Id of its process.
    pub pid: u32,
    /// Version of vexact that ran it.
    pub version: String,
    /// Number of rows of its result, once it has one.
    pub row_count: Option<u64>,
    /// The reason for which it did not succeed.
    pub error: Option<RunError>,
    /// Its folder.
    #[serde(default)]
    pub run_dir: PathBuf,
}

impl Run {
    /// Returns the run with its folder in this workspace, which may have been moved since the run
    /// was written, and its duration up to now.
    pub(super) fn located(mut self, workspace: &Workspace) -> Self {
        self.run_dir = workspace.run_dir(&self.run_id);
        if self.status == RunStatus::Running {
            self.duration_ms = time::millis_since(&self.started_at, time::now());
        }
        self
    }

    /// Returns the run as ended now, with a measured duration that does not depend on changes of
    /// the clock.
    pub(super) fn ended_after(mut self, elapsed: Duration, status: RunStatus, error: Option<RunError>) -> Self {
        self = self.ended(status, error);
        self.duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        self.finished_at = self.finished_at.map(|end| end.max(time::after(&self.started_at, elapsed)));
        self
    }

    /// Returns the run as ended now, by the clock.
    pub(super) fn ended(mut self, status: RunStatus, error: Option<RunError>) -> Self {
        let now = time::now();
        self.duration_ms = time::millis_since(&self.started_at, now);
        self.finished_at = Some(time::text(now).max(self.started_at.clone()));
        self.status = status;
        self.error = error;
        self
    }

    /// Returns the run as failed because its process is gone.
    pub(super) fn orphaned(self) -> Self {
        let error = RunError {
            error: format!("orphaned: process {} ended before the run did", self.pid),
            error_type: "orphaned".into(),
            phase: "run".into(),
            details: Map::from_iter([("pid".to_owned(), self.pid.into())]),
        };
        self.ended(RunStatus::Failed, Some(error))
    }
}

/// A filter of runs: all of its conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// The runs of this status.
    pub status: Option<RunStatus>,
    /// The runs of this action.
    pub action: Option<String>,
    /// The runs with this tag.
    pub tag: Option<String>,
    /// The runs with this text, in any case, in the id, name, description, action, tags or inputs.
    pub query: Option<String>,
    /// Maximum number of runs, the newest first.
    pub limit: Option<usize>,
}
