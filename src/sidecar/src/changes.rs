//! Converts rows of a source into changes of a replica. A row that the replica already has is no
//! change, however often it is read.

use std::collections::{HashMap, HashSet};

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use rusqlite::types::{Value, ValueRef};
use vexact_core::error::{Error, Result};
use vexact_core::schema::{Column, TableSchema};
use vexact_replica::{Change, ChangeBatch, Counts, KeyState, RowState, TableVersion};
use vexact_sqlite::oltp::column::{ColumnBuilder, described};

use super::poll::Row;

/// Changes, and what they are counted as.
#[derive(Debug)]
pub(super) struct Changes {
    pub batch: ChangeBatch,
    pub counts: Counts,
}

/// Rows in columns, of the replica's schema. In the columns at `clocks` a value that does not fit
/// is NULL: one bad time must not stop its table.
///
/// # Errors
/// A value that its column cannot hold, a NULL key: table, column, row, expected, got.
pub(super) fn in_columns(schema: &TableSchema, clocks: &[usize], rows: &[&Row]) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(schema.columns().len());
    for (at, column) in schema.columns().iter().enumerate() {
        let mut builder = ColumnBuilder::new(column.column_type);
        for row in rows {
            let value = ValueRef::from(&row.values[at]);
            let appended = match value {
                ValueRef::Null if schema.key().contains(&at) => Err("expected a key, got NULL".to_owned()),
                value => builder.append(value).or_else(|problem| {
                    let is_clock = clocks.contains(&at) && !schema.key().contains(&at);
                    match is_clock {
                        true => {
                            builder.append_null();
                            Ok(())
                        }
                        false => Err(problem),
                    }
                }),
            };
            appended.map_err(|problem| {
                Error::Engine(format!(
                    "table {:?} of the source, column {:?}, key ({}): {problem}; sidecar_tables' columns=[..] can leave it out",
                    schema.name(),
                    column.name,
                    key_of(schema, row)
                ))
            })?;
        }
        columns.push(builder.finish());
    }
    RecordBatch::try_new(schema.arrow(), columns).map_err(Error::arrow)
}

/// Rejects rows of which two have the same key: only one of them would be visible.
fn check_keys(schema: &TableSchema, rows: &[Row]) -> Result<()> {
    let mut seen = HashSet::with_capacity(rows.len());
    for row in rows {
        let mut key = Vec::new();
        for at in schema.key() {
            match &row.values[*at] {
                Value::Null => key.push(0),
                Value::Integer(integer) => key.extend(integer.to_le_bytes()),
                Value::Real(real) => key.extend(real.to_bits().to_le_bytes()),
                Value::Text(text) => key.extend(text.as_bytes()),
                Value::Blob(bytes) => key.extend(bytes),
            }
            // The length after each value keeps keys of several columns unambiguous.
            key.extend((key.len() as u64).to_le_bytes());
        }
        if !seen.insert(key) {
            let names: Vec<&str> = schema.key_columns().map(|column| column.name.as_str()).collect();
            return Err(Error::Engine(format!(
                "table {:?} of the source, primary_key [{}]: expected columns that name one row, got two rows of key ({})",
                schema.name(),
                names.join(", "),
                key_of(schema, row)
            )));
        }
    }
    Ok(())
}

/// A row's key, for messages.
fn key_of(schema: &TableSchema, row: &Row) -> String {
    let key = schema.key().iter().map(|at| described(ValueRef::from(&row.values[*at])));
    key.collect::<Vec<_>>().join(", ")
}

/// Returns the changes that rows make to a version, in the order of the rows.
///
/// # Errors
/// As [`in_columns`]; two rows of one key.
pub(super) fn changes(schema: &TableSchema, clocks: &[usize], version: &TableVersion, rows: &[Row]) -> Result<Changes> {
    check_keys(schema, rows)?;
    // Only the key of a deleted row is used: its other values may not fit the types of their
    // columns any more.
    let blank = |row: &Row| -> Row {
        let value = |(at, value): (usize, &_)| match schema.key().contains(&at) {
            true => Value::clone(value),
            false => Value::Null,
        };
        Row { values: row.values.iter().enumerate().map(value).collect(), ..*row }
    };
    let blanks: Vec<Row> = rows.iter().filter(|row| row.is_deleted).map(blank).collect();
    let mut next_blank = blanks.iter();
    let read: Vec<&Row> =
        rows.iter().map(|row| if row.is_deleted { next_blank.next().unwrap_or(row) } else { row }).collect();
    let batch = in_columns(schema, clocks, &read)?;
    let standings = version.compare(&batch)?;
    let (mut kept, mut gone): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
    let mut counts = Counts::default();
    let mut changes = Vec::new();
    for (at, (row, standing)) in rows.iter().zip(standings).enumerate() {
        let state = match (row.is_deleted, standing) {
            (true, RowState::New) | (false, RowState::Same) => continue,
            (true, _) => {
                counts.deleted += 1;
                gone.push(at as u32);
                KeyState::Gone(gone.len() as u32 - 1)
            }
            (false, standing) => {
                // A new key whose row is not its first version is an insert that was missed; it
                // counts as an update.
                match standing == RowState::New && row.is_new {
                    true => counts.inserted += 1,
                    false => counts.updated += 1,
                }
                kept.push(at as u32);
                KeyState::Row(kept.len() as u32 - 1)
            }
        };
        changes.push(Change { time: row.time, state });
    }
    let taken = |rows: Vec<u32>| take_record_batch(&batch, &UInt32Array::from(rows)).map_err(Error::arrow);
    let gone = taken(gone)?.project(schema.key()).map_err(Error::arrow)?;
    Ok(Changes { batch: ChangeBatch { rows: taken(kept)?, gone, changes }, counts })
}

/// One NULL of each column, for rows that are older than it.
pub(super) fn nulls(schema: &TableSchema) -> HashMap<String, ArrayRef> {
    let null = |column: &Column| {
        let mut builder = ColumnBuilder::new(column.column_type);
        builder.append_null();
        (column.name.clone(), builder.finish())
    };
    schema.columns().iter().map(null).collect()
}
