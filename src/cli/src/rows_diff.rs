//! The rows in which two results differ, ignoring their order.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use serde::Serialize;
use serde_json::Value;
use vexact::session::DataFrame;
use vexact_core::error::{Error, Result};
use vexact_core::json::{Rows, columns};

use super::failure::{During, Failure};

/// Rows shown of each side.
const EXAMPLES: usize = 5;

/// The rows of two results as multisets: of a row that one has three times and the other twice, one
/// is only in the one.
#[derive(Debug, Serialize)]
pub(super) struct RowsDiff {
    pub same: u64,
    pub only_in_run: u64,
    pub only_in_other: u64,
    pub examples_only_in_run: Vec<Value>,
    pub examples_only_in_other: Vec<Value>,
}

impl RowsDiff {
    /// Compares two results; returns `None` if their columns differ.
    pub async fn of(run: &DataFrame, other: &DataFrame) -> Result<Option<Self>, Failure> {
        let names =
            |frame: &DataFrame| columns(&frame.schema()).into_iter().map(|column| column.name).collect::<Vec<_>>();
        if names(run) != names(other) {
            return Ok(None);
        }
        // Rows of the run that the other has not had yet.
        let mut waiting: HashMap<String, u64> = HashMap::new();
        let mut rows = run.stream().await.during("output")?;
        while let Some(batch) = rows.try_next().await.map_err(Error::from).during("output")? {
            for row in texts(&names(run), batch)? {
                *waiting.entry(row).or_default() += 1;
            }
        }
        let mut found = Self {
            same: 0,
            only_in_run: 0,
            only_in_other: 0,
            examples_only_in_run: Vec::new(),
            examples_only_in_other: Vec::new(),
        };
        let mut rows = other.stream().await.during("output")?;
        while let Some(batch) = rows.try_next().await.map_err(Error::from).during("output")? {
            for row in texts(&names(other), batch)? {
                match waiting.get_mut(&row).filter(|count| **count > 0) {
                    Some(count) => {
                        *count -= 1;
                        found.same += 1;
                    }
                    None => {
                        found.only_in_other += 1;
                        if found.examples_only_in_other.len() < EXAMPLES {
                            found.examples_only_in_other.push(value(&row)?);
                        }
                    }
                }
            }
        }
        let mut left: Vec<(String, u64)> = waiting.into_iter().filter(|(_, count)| *count > 0).collect();
        left.sort_unstable();
        found.only_in_run = left.iter().map(|(_, count)| count).sum();
        found.examples_only_in_run = left.iter().take(EXAMPLES).map(|(row, _)| value(row)).collect::<Result<_, _>>()?;
        Ok(Some(found))
    }
}

/// Each row as JSON.
fn texts(names: &[String], batch: RecordBatch) -> Result<Vec<String>, Failure> {
    let rows = Rows { names: names.to_vec(), batches: vec![batch] };
    let texts = rows.iter().map(|row| serde_json::to_string(&row)).collect::<Result<_, _>>();
    texts.map_err(unreadable)
}

fn value(row: &str) -> Result<Value, Failure> {
    serde_json::from_str(row).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> Failure {
    Failure::internal("output", error.to_string())
}
