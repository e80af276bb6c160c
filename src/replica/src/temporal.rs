//! A replica that keeps history, as a slowly changing dimension of type 2 (Kimball): a change
//! closes the valid row and adds a new one. Rows are never changed in place: a closed row is
//! written again with its end time.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::interleave;
use arrow::datatypes::Int64Type;
use vexact_core::error::{Error, Result};

use super::changes::{ChangeBatch, Counts, KeyState};
use super::destructive::ChangedKeys;
use super::index::Location;
use super::outcome::{Current, WriteResult};
use super::version::TableVersion;

/// Source of the registered columns of a row.
#[derive(Debug, Clone, Copy)]
enum Source {
    Stored(Location),
    New(u32),
}

/// A row of the history.
#[derive(Debug, Clone, Copy)]
struct BufferedRow {
    source: Source,
    from: i64,
    to: Option<i64>,
    operation: &'static str,
}

const INSERT: &str = "I";
const UPDATE: &str = "U";
const DELETE: &str = "D";

/// `_valid_from` and `_operation` of a stored row.
fn stored(version: &TableVersion, location: Location) -> Result<(i64, &'static str)> {
    let columns = version.definition.schema.fields().len();
    let part = version.part(location).ok_or_else(|| Error::Engine("a key's row is gone".into()))?;
    let from = part.segment.rows.column(columns).as_primitive::<Int64Type>().value(location.row());
    let operation = match part.segment.rows.column(columns + 2).as_string::<i32>().value(location.row()) {
        UPDATE => UPDATE,
        _ => INSERT,
    };
    Ok((from, operation))
}

/// Computes the effect of a batch of changes.
pub(super) fn outcome(version: &TableVersion, changes: &ChangeBatch) -> Result<WriteResult> {
    let mut touched = ChangedKeys::try_new(version, changes)?;
    let mut counts = Counts::default();
    let mut held: Vec<BufferedRow> = Vec::with_capacity(2 * changes.changes.len());
    // For each touched key, its open row in `held`.
    let mut open: Vec<Option<usize>> = Vec::new();
    for (ordinal, change) in changes.changes.iter().enumerate() {
        let (key, earlier) = touched.touch(ordinal);
        if earlier.is_none() {
            open.push(None);
            if let Some(before) = touched.keys[key].before {
                let (from, operation) = stored(version, before)?;
                open[key] = Some(held.len());
                held.push(BufferedRow { source: Source::Stored(before), from, to: None, operation });
            }
        }
        let closed = open[key].take();
        if let Some(closed) = closed {
            // A clock that went back between two writers cannot make a row end before it begins.
            held[closed].to = Some(change.time.max(held[closed].from));
        }
        let time = closed.and_then(|closed| held[closed].to).unwrap_or(change.time);
        match (change.state, closed) {
            (KeyState::Row(row), closed) => {
                let operation = if closed.is_some() { UPDATE } else { INSERT };
                counts.updated += u64::from(closed.is_some());
                counts.inserted += u64::from(closed.is_none());
                open[key] = Some(held.len());
                held.push(BufferedRow { source: Source::New(row), from: time, to: None, operation });
            }
            (KeyState::Gone(_), Some(closed)) => {
                counts.deleted += 1;
                let source = held[closed].source;
                held.push(BufferedRow { source, from: time, to: Some(time), operation: DELETE });
            }
            (KeyState::Gone(_), None) => {}
        }
    }

    let rows = rows(version, changes, &held)?;
    let mut current = Vec::new();
    let mut forgotten = Vec::new();
    for (key, open) in touched.keys.iter().zip(&open) {
        match (open, key.before) {
            (Some(row), before) => current.push(Current { row: *row as u32, hash: key.hash, before }),
            (None, Some(before)) => forgotten.push((key.hash, before)),
            (None, None) => {}
        }
    }
    Ok(WriteResult { rows, current, forgotten, counts })
}

/// The rows of the history as a batch.
fn rows(version: &TableVersion, changes: &ChangeBatch, held: &[BufferedRow]) -> Result<RecordBatch> {
    let stored: Vec<Location> = held
        .iter()
        .filter_map(|held| match held.source {
            Source::Stored(location) => Some(location),
            Source::New(_) => None,
        })
        .collect();
    let old = version.take(&stored)?;
    let mut next_old = 0;
    let mut at: hashbrown::HashMap<Location, usize> = hashbrown::HashMap::new();
    let places: Vec<(usize, usize)> = held
        .iter()
        .map(|held| match held.source {
            Source::New(row) => (0, row as usize),
            Source::Stored(location) => {
                let place = next_old;
                next_old += 1;
                (1, *at.entry(location).or_insert(place))
            }
        })
        .collect();
    let mut columns: Vec<ArrayRef> = (0..changes.rows.num_columns())
        .map(|column| interleave(&[changes.rows.column(column).as_ref(), old.column(column).as_ref()], &places))
        .collect::<Result<_, _>>()
        .map_err(Error::arrow)?;
    columns.push(Arc::new(Int64Array::from_iter_values(held.iter().map(|held| held.from))));
    columns.push(Arc::new(held.iter().map(|held| held.to).collect::<Int64Array>()));
    columns.push(Arc::new(StringArray::from_iter_values(held.iter().map(|held| held.operation))));
    RecordBatch::try_new(Arc::clone(&version.stored_schema), columns).map_err(Error::arrow)
}
