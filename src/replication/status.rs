//! What a sync did, and where it stands.

use std::fmt;

use serde::Serialize;

use crate::replica::Counts;

/// What one sync did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SyncResult {
    /// Changes applied.
    pub events_processed: u64,
    /// Keys that came.
    pub rows_inserted: u64,
    /// Rows of keys that were there.
    pub rows_updated: u64,
    /// Keys that went.
    pub rows_deleted: u64,
    /// Changes removed from the log; `None` where pruning is off or none was.
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

    /// The sum of two.
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

/// Where replication stands.
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
}

/// Where one table stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// Its name, as registered.
    pub name: String,
    /// Rows of the replica.
    pub rows: u64,
    /// Changes not yet applied.
    pub lag: u64,
    /// What can be said of it.
    pub state: TableCondition,
    /// Why it failed.
    pub last_error: Option<String>,
}

/// The condition of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableCondition {
    /// It follows. Set by a copy, or at the registration of an empty table.
    Ready,
    /// It follows since its registration; the rows that the table had then were not copied. Ends with a copy.
    NotLoaded,
    /// It failed to follow and is not read; it is copied again at the next sync.
    Failed,
}

impl fmt::Display for TableCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TableCondition::Ready => "ready",
            TableCondition::NotLoaded => "not-loaded",
            TableCondition::Failed => "failed",
        })
    }
}
