//! Result of a sync, and status of replication.

use std::fmt;

use parking_lot::Mutex;
use serde::Serialize;
use vexact_replica::{Counts, Snapshot};

use super::absent::LogPosition;
use super::state::{State, TableState};

/// Result of one sync.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SyncResult {
    /// Changes applied.
    pub events_processed: u64,
    /// Number of keys that were added.
    pub rows_inserted: u64,
    /// Number of new rows of existing keys.
    pub rows_updated: u64,
    /// Number of keys that were removed.
    pub rows_deleted: u64,
    /// Changes removed from the log; `None` if pruning is disabled or nothing was pruned.
    pub pruned_count: Option<u64>,
}

impl SyncResult {
    pub(super) fn new(events_processed: u64, counts: Counts) -> Self {
        Self {
            events_processed,
            rows_inserted: counts.inserted,
            rows_updated: counts.updated,
            rows_deleted: counts.deleted,
            pruned_count: None,
        }
    }

    /// Returns the sum of two results.
    pub fn plus(self, other: Self) -> Self {
        Self {
            events_processed: self.events_processed + other.events_processed,
            rows_inserted: self.rows_inserted + other.rows_inserted,
            rows_updated: self.rows_updated + other.rows_updated,
            rows_deleted: self.rows_deleted + other.rows_deleted,
            pruned_count: match (self.pruned_count, other.pruned_count) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            },
        }
    }
}

impl fmt::Display for SyncResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pruned = self.pruned_count.map_or_else(|| "None".to_owned(), |count| count.to_string());
        write!(
            f,
            "SyncResult(events={}, inserted={}, updated={}, deleted={}, pruned={pruned})",
            self.events_processed, self.rows_inserted, self.rows_updated, self.rows_deleted
        )
    }
}

/// Status of replication.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SyncStatus {
    /// Changes not yet applied.
    pub lag: u64,
    /// The last position applied; `None` before the first sync.
    pub last_synced_seq: Option<i64>,
    /// The last error of a sync, in the background too; `None` once one succeeds.
    pub last_error: Option<String>,
    /// The tables, by name.
    pub tables: Vec<TableStatus>,
    /// Rows of the change log, marks of commits included.
    pub log_rows: u64,
    /// The engines that the log is kept for, by name.
    pub positions: Vec<LogPosition>,
}

/// Status of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// Its name, as registered.
    pub name: String,
    /// Rows of the replica.
    pub rows: u64,
    /// Changes not yet applied.
    pub lag: u64,
    /// The condition of the replica.
    pub state: TableCondition,
    /// The error of a failed table.
    pub last_error: Option<String>,
    /// Warning about a table that follows: columns that its replica lost, rows whose time cannot be
    /// right.
    pub warning: Option<String>,
}

/// The condition of a replica; its text in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableCondition {
    /// The replica is complete and follows the table. Set by a copy, or at the registration of an
    /// empty table.
    Ready,
    /// The replica follows the table since its registration, but the rows that existed then were
    /// not copied. Ends with a copy.
    NotLoaded,
    /// A copy is running; the number is the count of rows read so far.
    Copying(u64),
    /// Replication of the table failed and queries cannot read it; the next sync copies it again.
    Failed,
}

impl Serialize for TableCondition {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for TableCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableCondition::Ready => f.write_str("ready"),
            TableCondition::NotLoaded => f.write_str("not-loaded"),
            TableCondition::Copying(rows) => write!(f, "copying, {rows} rows"),
            TableCondition::Failed => f.write_str("failed"),
        }
    }
}

/// Parts of [`SyncStatus`] after the last cycle. Reading them does not wait for a running cycle.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub applied_seq: i64,
    tables: Vec<TableState>,
    /// Columns that a migration dropped, by table.
    lost: Vec<(String, Vec<String>)>,
}

impl Known {
    pub fn of(state: &State) -> Self {
        let lost = state.lost.iter().filter(|(_, columns)| !columns.is_empty());
        let lost =
            lost.filter_map(|(id, columns)| Some((state.tables.get(id)?.schema.name().to_owned(), columns.clone())));
        Self { applied_seq: state.applied_seq, tables: state.tables.values().cloned().collect(), lost: lost.collect() }
    }

    pub fn unloaded(&self) -> Vec<String> {
        let unloaded = self.tables.iter().filter(|followed| followed.error.is_none() && !followed.is_loaded);
        unloaded.map(|followed| followed.schema.name().to_owned()).collect()
    }

    fn warning(&self, table: &str) -> Option<String> {
        let (_, columns) = self.lost.iter().find(|(name, _)| name == table)?;
        Some(format!(
            "[{}] left the replica when a migration dropped or renamed it: add_column adds what has another name \
             now, drop_column accepts the loss",
            columns.join(", ")
        ))
    }

    /// `lag`: changes by the version of a registration.
    pub fn status(
        &self,
        lag: &[(i64, u64)],
        snapshot: &Snapshot,
        copying: &Copying,
        (has_synced, last_error): (bool, Option<String>),
    ) -> SyncStatus {
        let table = |followed: &TableState| TableStatus {
            name: followed.schema.name().to_owned(),
            rows: snapshot.table(followed.schema.name()).map_or(0, |state| state.version.num_rows() as u64),
            lag: lag.iter().filter(|(version, _)| *version == followed.version).map(|(_, count)| count).sum(),
            state: match (copying.rows(followed.schema.name()), &followed.error, followed.is_loaded) {
                (Some(rows), ..) => TableCondition::Copying(rows),
                (None, Some(_), _) => TableCondition::Failed,
                (None, None, true) => TableCondition::Ready,
                (None, None, false) => TableCondition::NotLoaded,
            },
            last_error: followed.error.clone(),
            warning: self.warning(followed.schema.name()),
        };
        let mut tables: Vec<TableStatus> = self.tables.iter().map(table).collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        SyncStatus {
            lag: lag.iter().map(|(_, count)| count).sum(),
            last_synced_seq: has_synced.then_some(self.applied_seq),
            last_error: last_error.or_else(|| tables.iter().find_map(|table| table.last_error.clone())),
            tables,
            ..SyncStatus::default()
        }
    }
}

/// The table that is being copied, and how many rows have been read.
#[derive(Debug, Default)]
pub(super) struct Copying(Mutex<Option<(String, u64)>>);

impl Copying {
    pub fn set(&self, copying: Option<(&str, u64)>) {
        *self.0.lock() = copying.map(|(table, rows)| (table.to_owned(), rows));
    }

    fn rows(&self, table: &str) -> Option<u64> {
        let copying = self.0.lock();
        copying.as_ref().filter(|(name, _)| name == table).map(|(_, rows)| *rows)
    }
}
