//! One tracked run, as `run.json` has it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vexact_core::error::Error;

use super::{Workspace, time};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// A process is at it. Set when it starts.
    Running,
    /// It came to its end.
    Succeeded,
    /// It did not: [`Run::error`] says why. `orphaned` where its process died.
    Failed,
    /// It was given up after [`Run::timeout_ms`].
    TimedOut,
    /// It was ended from outside, by Ctrl-C or SIGTERM.
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

    /// Its name.
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

/// Why a run did not come to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunError {
    /// The root cause.
    pub error: String,
    /// As the command line names it, or `orphaned`.
    pub error_type: String,
    /// What was being done.
    pub phase: String,
    /// What it was about.
    #[serde(default)]
    pub details: Map<String, Value>,
}

/// One tracked run. Times are UTC, ISO 8601 with milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// `YYYYMMDDTHHMMSSZ_<8 hex>`: when it started, and a random number.
    pub run_id: String,
    /// What its user calls it.
    pub run_name: Option<String>,
    /// What its user says of it.
    pub description: Option<String>,
    /// What was done, such as `csv-sql`.
    pub action: String,
    /// Where it stands.
    pub status: RunStatus,
    /// In the order given, each once.
    pub tags: Vec<String>,
    /// When it started.
    pub started_at: String,
    /// When it ended; of an orphan, when that was found.
    pub finished_at: Option<String>,
    /// How long it took, or has taken so far.
    pub duration_ms: u64,
    /// After how long it is given up.
    pub timeout_ms: Option<u64>,
    /// The process.
    pub pid: u32,
    /// The version of vexact that ran it.
    pub version: String,
    /// Rows of its result, once it has one.
    pub row_count: Option<u64>,
    /// Why it did not come to its end.
    pub error: Option<RunError>,
    /// Its folder.
    #[serde(default)]
    pub run_dir: PathBuf,
}

impl Run {
    /// As it is now, in this workspace: a folder may have been moved since it was written.
    pub(super) fn located(mut self, workspace: &Workspace) -> Self {
        self.run_dir = workspace.run_dir(&self.run_id);
        if self.status == RunStatus::Running {
            self.duration_ms = time::millis_since(&self.started_at, time::now());
        }
        self
    }

    /// Ended now, after a time that a clock which was set meanwhile does not change.
    pub(super) fn ended_after(mut self, elapsed: Duration, status: RunStatus, error: Option<RunError>) -> Self {
        self = self.ended(status, error);
        self.duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        self.finished_at = self.finished_at.map(|end| end.max(time::after(&self.started_at, elapsed)));
        self
    }

    /// Ended now, by the clock.
    pub(super) fn ended(mut self, status: RunStatus, error: Option<RunError>) -> Self {
        let now = time::now();
        self.duration_ms = time::millis_since(&self.started_at, now);
        self.finished_at = Some(time::text(now).max(self.started_at.clone()));
        self.status = status;
        self.error = error;
        self
    }

    /// Without a process.
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

/// Which runs are asked for: those that all of it fits.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Of this status.
    pub status: Option<RunStatus>,
    /// Of this action.
    pub action: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// With this text, in any case, in the id, name, description, action, tags or inputs.
    pub query: Option<String>,
    /// The newest so many.
    pub limit: Option<usize>,
}
