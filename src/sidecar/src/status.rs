//! The parts of a sidecar's status after the last cycle. Reading them does not wait for a running
//! cycle.

use vexact_replica::Snapshot;
use vexact_sqlite::replication::{SyncStatus, TableCondition, TableStatus};

use super::cycle::State;
use super::table::Table;

/// The part of a status that a cycle decides.
#[derive(Debug, Default)]
pub(super) struct Known {
    tables: Vec<TableStatus>,
    applied: i64,
    has_synced: bool,
}

impl Known {
    pub fn of(state: &State) -> Self {
        let table = |table: &Table| TableStatus {
            name: table.name.clone(),
            rows: 0,
            lag: table.lag,
            state: match (&table.error, table.definition.is_some()) {
                (Some(_), _) => TableCondition::Failed,
                (None, _) if !state.has_synced && table.progress.after.is_none() => TableCondition::NotLoaded,
                (None, _) => TableCondition::Ready,
            },
            last_error: table.error.clone(),
            warning: table.warning(),
        };
        let mut tables: Vec<TableStatus> = state.tables.iter().map(table).collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Self { tables, applied: state.applied, has_synced: state.has_synced }
    }

    /// The tables of which no row was read yet.
    pub fn unloaded(&self) -> Vec<String> {
        let unloaded = self.tables.iter().filter(|table| table.state == TableCondition::NotLoaded);
        unloaded.map(|table| table.name.clone()).collect()
    }

    /// The status, with the rows that the replicas have now.
    pub fn status(&self, snapshot: &Snapshot, last_error: Option<String>) -> SyncStatus {
        let mut tables = self.tables.clone();
        for table in &mut tables {
            table.rows = snapshot.table(&table.name).map_or(0, |state| state.version.num_rows() as u64);
        }
        SyncStatus {
            lag: tables.iter().map(|table| table.lag).sum(),
            last_synced_seq: self.has_synced.then_some(self.applied),
            last_error: last_error.or_else(|| tables.iter().find_map(|table| table.last_error.clone())),
            tables,
            ..SyncStatus::default()
        }
    }
}
