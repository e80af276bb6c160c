//! Converts log rows to change batches of typed columns.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use rusqlite::Connection;
use vexact_core::error::{Error, Result};
use vexact_core::schema::TableSchema;
use vexact_replica::{Change, ChangeBatch, KeyState};

use crate::oltp::column::ColumnBuilder;
use crate::oltp::log::{self, Operation};

/// Changes of one table, while they are being read.
struct Reading {
    schema: TableSchema,
    rows: Vec<ColumnBuilder>,
    gone: Vec<ColumnBuilder>,
    counts: (u32, u32),
    changes: Vec<Change>,
    error: Option<String>,
}

impl Reading {
    fn new(schema: TableSchema) -> Self {
        let builders = |columns: &[usize]| {
            columns.iter().map(|at| ColumnBuilder::new(schema.columns()[*at].column_type)).collect()
        };
        let all: Vec<usize> = (0..schema.columns().len()).collect();
        let (rows, gone) = (builders(&all), builders(schema.key()));
        Self { rows, gone, counts: (0, 0), changes: Vec::new(), error: None, schema }
    }

    fn push(&mut self, change: &log::Change<'_>) -> Result<()> {
        if self.error.is_some() {
            return Ok(());
        }
        let append = |column: &mut ColumnBuilder, position: usize| -> Result<Option<String>> {
            let Err(problem) = column.append(change.value(position)?) else { return Ok(None) };
            let (table, name) = (self.schema.name(), &self.schema.columns()[position].name);
            Ok(Some(format!("table {table:?}, column {name:?}, change {}: {problem}", change.seq)))
        };
        let state = match change.operation {
            Operation::Row => {
                for (position, column) in self.rows.iter_mut().enumerate() {
                    if let Some(error) = append(column, position)? {
                        self.error = Some(error);
                        return Ok(());
                    }
                }
                self.counts.0 += 1;
                KeyState::Row(self.counts.0 - 1)
            }
            Operation::Gone => {
                for (column, position) in self.gone.iter_mut().zip(self.schema.key()) {
                    if let Some(error) = append(column, *position)? {
                        self.error = Some(error);
                        return Ok(());
                    }
                }
                self.counts.1 += 1;
                KeyState::Gone(self.counts.1 - 1)
            }
            Operation::Commit => return Ok(()),
        };
        self.changes.push(Change { time: change.time, state });
        Ok(())
    }

    fn finish(self) -> Result<ChangeBatch> {
        let schema = self.schema.arrow();
        let key: Vec<_> = self.schema.key().iter().map(|at| schema.field(*at).clone()).collect();
        let batch = |schema, columns: Vec<ColumnBuilder>| {
            let columns: Vec<ArrayRef> = columns.into_iter().map(ColumnBuilder::finish).collect();
            RecordBatch::try_new(schema, columns).map_err(Error::arrow)
        };
        Ok(ChangeBatch {
            rows: batch(schema, self.rows)?,
            gone: batch(Arc::new(Schema::new(key)), self.gone)?,
            changes: self.changes,
        })
    }
}

/// Changes read from the log.
pub(super) struct Read {
    /// By version, in which the changes of one table follow each other: the changes, or why they
    /// cannot be read.
    pub batches: BTreeMap<i64, Result<ChangeBatch, String>>,
    /// Changes of the versions that are followed.
    pub events: u64,
    /// The time of the last log row.
    pub last_time: i64,
}

/// Reads the changes after `after` up to `through` of the versions in `followed`; other changes are
/// passed over.
pub(super) fn read(
    conn: &Connection,
    (after, through): (i64, i64),
    floor: i64,
    followed: &HashMap<i64, TableSchema>,
) -> Result<Read> {
    let mut readings: HashMap<i64, Reading> = HashMap::new();
    let mut events = 0;
    let last_time = log::each_change(conn, after, through, floor, |change| {
        if change.operation == Operation::Commit {
            return Ok(());
        }
        let reading = match readings.entry(change.version) {
            std::collections::hash_map::Entry::Occupied(reading) => reading.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let Some(schema) = followed.get(&change.version) else { return Ok(()) };
                place.insert(Reading::new(schema.clone()))
            }
        };
        events += 1;
        reading.push(change)
    })?;
    let finish = |(version, reading): (i64, Reading)| {
        let batch = match reading.error.clone() {
            Some(error) => Err(error),
            None => Ok(reading.finish()?),
        };
        Ok((version, batch))
    };
    let batches = readings.into_iter().map(finish).collect::<Result<_>>()?;
    Ok(Read { batches, events, last_time })
}
