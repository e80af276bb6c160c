//! What commands answer, as JSON and as tables.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use serde::Serialize;

use super::failure::{During, Failure};
use crate::error::{Error, Result};
use crate::json::{ColumnInfo, Rows, columns};
use crate::replication::{SyncResult, SyncStatus};
use crate::session::shortened;

/// An answer with its mark of success.
#[derive(Serialize)]
pub(super) struct Success<'a> {
    pub ok: bool,
    #[serde(flatten)]
    pub answer: &'a Answer,
}

/// What came of a command.
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
    Status(SyncStatus),
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
        Self { logical, physical, strategy }
    }
}

/// Rows with their columns.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    schema: Vec<ColumnInfo>,
    rows: Rows,
}

impl Table {
    /// Of the batches of one result, at least one.
    pub fn new(batches: Vec<RecordBatch>) -> Self {
        let schema = batches.first().map_or_else(Vec::new, |batch| columns(&batch.schema()));
        let names = schema.iter().map(|column| column.name.clone()).collect();
        Self { schema, rows: Rows { names, batches } }
    }
}

impl Answer {
    /// As tables for people.
    pub fn table(&self) -> Result<String, Failure> {
        let rows = |count: usize| format!("({count} row{})\n", if count == 1 { "" } else { "s" });
        Ok(match self {
            Self::Executed { rows_affected } => format!("{rows_affected} rows affected\n"),
            Self::Queried { route, table } => {
                let count: usize = table.rows.batches.iter().map(RecordBatch::num_rows).sum();
                format!("{}{}{}: {}\n", pretty(&table.rows.batches)?, rows(count), route.side, route.reason)
            }
            Self::Registered { table, rows, unloaded_rows, .. } => {
                format!("{table}: registered, {rows} rows in the replica, {unloaded_rows} not loaded\n")
            }
            Self::Synced { copied, result } => {
                let copied =
                    copied.iter().map(|Copied { table, rows_copied }| format!("{table}: {rows_copied} rows copied\n"));
                format!("{}{}", copied.collect::<String>(), synced(result)?)
            }
            Self::Found { table, explain, .. } => {
                let mut text = pretty(&table.rows.batches)?;
                if let Some(Explained { logical, physical, strategy }) = explain {
                    for (title, plan) in [("logical", logical), ("physical", physical), ("strategy", strategy)] {
                        // Writing to a String never fails.
                        let _ = write!(text, "\n{title}\n{}\n", plan.trim_end());
                    }
                }
                text
            }
            Self::Status(status) => status_table(status)?,
        })
    }
}

fn pretty(batches: &[RecordBatch]) -> Result<String, Failure> {
    let options = FormatOptions::default().with_null("NULL");
    let shown = batches.iter().map(shortened).collect::<Result<Vec<_>>>();
    let table = shown.and_then(|shown| pretty_format_batches_with_options(&shown, &options).map_err(Error::arrow));
    Ok(format!("{}\n", table.during("output")?))
}

fn pretty_columns(columns: Vec<(&str, ArrayRef)>) -> Result<String, Failure> {
    let batch = RecordBatch::try_from_iter(columns).map_err(Error::arrow).during("output")?;
    pretty(&[batch])
}

fn numbers(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn synced(result: &SyncResult) -> Result<String, Failure> {
    pretty_columns(vec![
        ("events", numbers([result.events_processed])),
        ("inserted", numbers([result.rows_inserted])),
        ("updated", numbers([result.rows_updated])),
        ("deleted", numbers([result.rows_deleted])),
        ("pruned", numbers([result.pruned_count.unwrap_or(0)])),
    ])
}

fn status_table(status: &SyncStatus) -> Result<String, Failure> {
    let tables = &status.tables;
    let texts = |values: Vec<String>| -> ArrayRef { Arc::new(StringArray::from(values)) };
    let table = pretty_columns(vec![
        ("table", texts(tables.iter().map(|table| table.name.clone()).collect())),
        ("rows", numbers(tables.iter().map(|table| table.rows))),
        ("lag", numbers(tables.iter().map(|table| table.lag))),
        ("state", texts(tables.iter().map(|table| table.state.to_string()).collect())),
        ("last_error", texts(tables.iter().map(|table| table.last_error.clone().unwrap_or_default()).collect())),
    ])?;
    let last = status.last_synced_seq.map_or_else(|| "none".to_owned(), |seq| seq.to_string());
    let error = status.last_error.iter().map(|error| format!("last error: {error}\n")).collect::<String>();
    Ok(format!("{table}lag {}, last synced seq {last}\n{error}", status.lag))
}
