//! Result of a sync, and status of replication.

use std::fmt;

use parking_lot::Mutex;
use serde::Serialize;
use vexact_replica::{Counts, Snapshot};

use super::absent::LogPosition;
use super::state::{ReplicatedTable, State};
use super::table_state::{FollowedTable, TableState, TableStatus};

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

impl SyncStatus {
    /// Returns the status of tables, with the rows that their replicas have in a snapshot.
    pub fn new(
        mut tables: Vec<TableStatus>,
        snapshot: &Snapshot,
        last_synced_seq: Option<i64>,
        last_error: Option<String>,
    ) -> Self {
        for table in &mut tables {
            table.rows = snapshot.table(&table.name).map_or(0, |table| table.version.num_rows() as u64);
        }
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            lag: tables.iter().map(|table| table.lag).sum(),
            last_synced_seq,
            last_error: last_error.or_else(|| tables.iter().find_map(|table| table.last_error().map(str::to_owned))),
            tables,
            ..Self::default()
        }
    }
}

/// Returns the tables that were registered and whose rows were never copied.
pub fn unloaded<T: FollowedTable>(tables: &[T]) -> Vec<String> {
    let unloaded = tables.iter().filter(|table| table.state() == TableState::Pending);
    unloaded.map(|table| table.name().to_owned()).collect()
}

/// Parts of [`SyncStatus`] after the last cycle. Reading them does not wait for a running cycle.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub applied_seq: i64,
    tables: Vec<ReplicatedTable>,
}

impl Known {
    pub fn of(state: &State) -> Self {
        Self { applied_seq: state.applied_seq, tables: state.tables.values().cloned().collect() }
    }

    pub fn unloaded(&self) -> Vec<String> {
        unloaded(&self.tables)
    }

    /// `lag`: changes by the version of a registration.
    pub fn status(
        &self,
        lag: &[(i64, u64)],
        snapshot: &Snapshot,
        copying: &Copying,
        (has_synced, last_error): (bool, Option<String>),
    ) -> SyncStatus {
        let table = |followed: &ReplicatedTable| {
            let lag = lag.iter().filter(|(version, _)| *version == followed.version).map(|(_, count)| count).sum();
            let status = followed.status();
            TableStatus { lag, state: copying.state(followed.name()).unwrap_or(status.state), ..status }
        };
        let last_synced_seq = has_synced.then_some(self.applied_seq);
        let status = SyncStatus::new(self.tables.iter().map(table).collect(), snapshot, last_synced_seq, last_error);
        // The log may have changes of versions that no table follows.
        SyncStatus { lag: lag.iter().map(|(_, count)| count).sum(), ..status }
    }
}

/// The table that is being copied, and how many rows have been read.
#[derive(Debug, Default)]
pub(super) struct Copying(Mutex<Option<(String, u64)>>);

impl Copying {
    pub fn set(&self, copying: Option<(&str, u64)>) {
        *self.0.lock() = copying.map(|(table, rows)| (table.to_owned(), rows));
    }

    fn state(&self, table: &str) -> Option<TableState> {
        let copying = self.0.lock();
        copying.as_ref().filter(|(name, _)| name == table).map(|(_, rows)| TableState::Copying { rows: *rows })
    }
}
