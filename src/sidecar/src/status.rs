//! The parts of a sidecar's status after the last cycle. Reading them does not wait for a running
//! cycle.

use vexact_replica::Snapshot;
use vexact_sqlite::replication::{FollowedTable, SyncStatus, TableStatus};

use super::cycle::State;

/// The part of a status that a cycle decides.
#[derive(Debug, Default)]
pub(super) struct Known {
    tables: Vec<TableStatus>,
    /// The tables of which no row was read yet.
    pub unloaded: Vec<String>,
    applied: i64,
    has_synced: bool,
}

impl Known {
    pub fn of(state: &State) -> Self {
        Self {
            tables: state.tables.iter().map(FollowedTable::status).collect(),
            unloaded: vexact_sqlite::replication::unloaded(&state.tables),
            applied: state.applied,
            has_synced: state.has_synced,
        }
    }

    /// The status, with the rows that the replicas have now.
    pub fn status(&self, snapshot: &Snapshot, last_error: Option<String>) -> SyncStatus {
        SyncStatus::new(self.tables.clone(), snapshot, self.has_synced.then_some(self.applied), last_error)
    }
}
