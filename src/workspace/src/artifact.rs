//! The artifacts of a run: files in its folder, or at the path that its user named.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vexact_core::json::ColumnInfo;

use super::{Preview, Workspace};

/// The role of an artifact in its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    /// The rows of the result.
    Result,
    /// The logical, physical and strategy plan.
    Explain,
    /// The rows that a stream wrote.
    Sink,
}

impl ArtifactKind {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Explain => "explain",
            Self::Sink => "sink",
        }
    }
}

impl fmt::Display for ArtifactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A file that a run made. A run has one of a kind at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// `<run_id>.<kind>`.
    pub artifact_id: String,
    /// The run that made it.
    pub run_id: String,
    /// Its role in the run.
    pub kind: ArtifactKind,
    /// `parquet`, `arrow`, `csv` or `json`.
    pub format: String,
    /// Absolute; in `run.json`, relative to the run's folder if it is in there.
    pub path: PathBuf,
    /// The rows as the run made them, with their types, if `path` is a file elsewhere, which others
    /// may write too; as `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_path: Option<PathBuf>,
    /// The file's size.
    pub size_bytes: u64,
    /// Rows in it.
    pub row_count: u64,
    /// Their columns.
    pub schema: Vec<ColumnInfo>,
    /// UTC, ISO 8601.
    pub created_at: String,
}

impl Artifact {
    pub(super) fn located(mut self, workspace: &Workspace) -> Self {
        // An absolute path stays what it is.
        self.path = workspace.run_dir(&self.run_id).join(&self.path);
        self.rows_path = self.rows_path.map(|path| workspace.run_dir(&self.run_id).join(path));
        self
    }
}

/// An artifact to be recorded. The file exists already.
#[derive(Debug)]
pub struct NewArtifact {
    /// Its role in the run.
    pub kind: ArtifactKind,
    /// `parquet`, `arrow`, `csv` or `json`.
    pub format: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Its rows as the run made them, if the file is not among the run's artifacts.
    pub rows_path: Option<PathBuf>,
    /// Its columns, its first rows and how many there are.
    pub preview: Preview,
}
