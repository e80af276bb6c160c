//! The answers of commands.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use serde::Serialize;
use serde_json::Value;
use vexact::replication::{SyncResult, SyncStatus};
use vexact::stream::Progress;
use vexact_core::error::{Error, Result};
use vexact_core::json::{ColumnInfo, Rows, columns};
use vexact_core::rows::unreadable_cells;
use vexact_workspace::{Artifact, Change, Cleaned, Preview, Run, RunError, RunStatus};

use super::failure::Failure;
use super::format::Format;
use super::rows_diff::RowsDiff;
use super::sketch::Sketched;
use super::workers::State;

/// An answer with its mark of success.
#[derive(Serialize)]
struct Success<'a> {
    ok: bool,
    #[serde(flatten)]
    answer: &'a Answer,
}

/// The result of a command.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    Executed {
        rows_affected: u64,
    },
    Queried {
        route: RouteTaken,
        #[serde(flatten)]
        table: Table,
    },
    Registered {
        table: String,
        columns: Vec<ColumnInfo>,
        key: Vec<String>,
        rows: u64,
        unloaded_rows: u64,
    },
    Unregistered {
        table: String,
    },
    Uninstalled {
        dropped: Vec<String>,
    },
    Synced {
        #[serde(flatten)]
        copied: Option<Copied>,
        #[serde(flatten)]
        result: SyncResult,
    },
    Found {
        metric: &'static str,
        top_k: usize,
        #[serde(flatten)]
        table: Table,
        #[serde(skip_serializing_if = "Option::is_none")]
        explain: Option<Explained>,
    },
    TextRegistered {
        table: String,
        columns: Vec<String>,
        tokenizer: &'static str,
    },
    TextFound {
        top_k: usize,
        #[serde(flatten)]
        table: Table,
    },
    Status(SyncStatus),
    PositionDropped {
        position: String,
        pruned_count: u64,
    },
    FileQueried {
        table: String,
        query: String,
        #[serde(flatten)]
        rows: Table,
        #[serde(flatten)]
        written: Option<Written>,
    },
    FileSearched {
        metric: &'static str,
        top_k: usize,
        #[serde(flatten)]
        rows: Table,
        #[serde(flatten)]
        written: Option<Written>,
        explain: Explained,
    },
    Streamed(Streamed),
    Ran(Ran),
    Run {
        run: Run,
        artifacts: Vec<Artifact>,
        #[serde(flatten)]
        so_far: SoFar,
    },
    RunStatus {
        run_id: String,
        status: RunStatus,
        action: String,
        artifacts: Vec<Artifact>,
        artifact_count: usize,
        duration_ms: u64,
        row_count: Option<u64>,
        #[serde(flatten)]
        so_far: SoFar,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<RunError>,
    },
    Runs {
        runs: Vec<Run>,
    },
    RunResult {
        run_id: String,
        status: RunStatus,
        result: Excerpt,
        artifact: Artifact,
    },
    Diff {
        run_id: String,
        other_run_id: String,
        changes: Vec<Change>,
        rows: Option<RowsDiff>,
    },
    Cleaned(Cleaned),
    Artifacts {
        artifacts: Vec<Artifact>,
    },
    Previewed {
        artifact_id: String,
        preview: Excerpt,
        artifact: Artifact,
    },
    Serving {
        url: String,
    },
    Listening {
        listening: String,
        version: &'static str,
        threads: usize,
    },
    Sketched {
        path: PathBuf,
        sketches: Vec<Sketched>,
    },
    Cluster {
        ready: usize,
        workers: Vec<State>,
    },
    /// The rows of a statement of the shell.
    Rows {
        #[serde(flatten)]
        table: Table,
        truncated: bool,
    },
    /// A statement of the shell without rows.
    Done {},
    /// Text that is printed as it is, whatever the format: help, a script for a shell.
    #[serde(skip)]
    Text(String),
}

/// A streaming query that came to its end.
#[derive(Debug, Serialize)]
pub(super) struct Streamed {
    pub query: String,
    pub source_table: String,
    pub sink_table: String,
    /// The path of the sink; `None` if the command has no sink, and all rows are in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink_path: Option<PathBuf>,
    /// Micro-batches that this command processed.
    pub batches_processed: u64,
    /// Rows that it wrote.
    pub rows_written: u64,
    /// The first of them.
    #[serde(flatten)]
    pub rows: Table,
    /// True if there are more rows than these.
    pub truncated: bool,
    pub progress: Box<Progress>,
}

/// A tracked run that came to its end.
#[derive(Debug, Serialize)]
pub(super) struct Ran {
    pub run_id: String,
    pub run_dir: PathBuf,
    pub status: RunStatus,
    pub action: String,
    pub tags: Vec<String>,
    /// The answer of what was run.
    pub result: Box<Answer>,
    pub artifacts: Vec<Artifact>,
}

/// Output of a run: the first rows of its result, once it has one, and its last snapshot.
#[derive(Debug, Serialize)]
pub(super) struct SoFar {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Excerpt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_progress: Option<Value>,
}

/// The first rows of a file.
#[derive(Debug, Serialize)]
pub(super) struct Excerpt {
    #[serde(flatten)]
    pub table: Table,
    /// Rows in the file.
    pub row_count: u64,
    pub truncated: bool,
}

impl Excerpt {
    pub fn new(rows: RecordBatch, row_count: u64) -> Self {
        let truncated = (rows.num_rows() as u64) < row_count;
        Self { table: Table::new(vec![rows]), row_count, truncated }
    }
}

impl From<&Preview> for Excerpt {
    fn from(preview: &Preview) -> Self {
        Self::new(preview.rows().clone(), preview.row_count())
    }
}

#[derive(Debug, Serialize)]
pub(super) struct RouteTaken {
    pub side: &'static str,
    pub reason: String,
}

/// An initial copy.
#[derive(Debug, Serialize)]
pub(super) struct Copied {
    pub table: String,
    pub rows_copied: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Explained {
    pub logical: String,
    pub physical: String,
    pub strategy: String,
}

impl From<vexact_sql::Explained> for Explained {
    fn from(explained: vexact_sql::Explained) -> Self {
        let vexact_sql::Explained { logical, physical, strategy } = explained;
        Self { logical, physical, strategy: strategy.to_string() }
    }
}

impl Explained {
    /// As a row of three columns.
    pub fn row(&self) -> Result<RecordBatch> {
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let columns = [("logical", &self.logical), ("physical", &self.physical), ("strategy", &self.strategy)];
        RecordBatch::try_from_iter(columns.map(|(name, plan)| (name, text(plan)))).map_err(Error::arrow)
    }
}

/// The file that has the rows of a result.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Written {
    /// Rows in it.
    pub row_count: u64,
    /// True if the answer has only the first of the rows.
    pub truncated: bool,
    pub output_path: PathBuf,
}

/// Rows with their columns.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    schema: Vec<ColumnInfo>,
    rows: Rows,
    /// Cells whose value has no text: each has the error in its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<String>,
}

impl Table {
    /// Creates a table from the batches of one result. There must be at least one batch.
    pub fn new(batches: Vec<RecordBatch>) -> Self {
        let schema = batches.first().map_or_else(Vec::new, |batch| columns(&batch.schema()));
        let names = schema.iter().map(|column| column.name.clone()).collect();
        let unreadable = unreadable_cells(&batches);
        Self { schema, rows: Rows { names, batches }, unreadable }
    }

    /// The rows.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.rows.batches
    }
}

impl Answer {
    /// Returns the bytes to print.
    pub fn rendered(&self, format: Format) -> Result<Vec<u8>, Failure> {
        match (format, format.rows()) {
            (_, Some(form)) => self.rows_output(form),
            (Format::Table, None) => self.table().map(String::into_bytes),
            (_, None) => self.json().map(String::into_bytes),
        }
    }

    /// Returns the answer as one line of JSON.
    pub fn json(&self) -> Result<String, Failure> {
        if let Self::Text(text) = self {
            return Ok(text.clone());
        }
        serde_json::to_string(&Success { ok: true, answer: self })
            .map(|text| text + "\n")
            .map_err(|error| Failure::internal("output", error.to_string()))
    }
}
