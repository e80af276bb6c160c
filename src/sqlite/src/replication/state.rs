//! State of replication and of its tables between cycles.

use std::collections::BTreeMap;
use std::sync::Arc;

use vexact_core::schema::TableSchema;
use vexact_replica::{Definition, Replicas, SyncMode, Update};

use super::table_state::{FollowedTable, Staleness, TableState};
use crate::oltp::FileId;
use crate::oltp::capture::Registered;

/// A table that is followed.
#[derive(Debug, Clone)]
pub(super) struct ReplicatedTable {
    pub schema: TableSchema,
    pub definition: Arc<Definition>,
    /// The version of the registration whose changes the replica takes.
    pub version: i64,
    /// The version whose columns the replica has; `None` before it has any.
    pub replica_version: Option<i64>,
    /// True if all rows must be read again.
    pub needs_copy: bool,
    /// True if the table was registered through this engine, not found in the file.
    pub is_claimed: bool,
    /// Columns that left the replica when a migration dropped or renamed them.
    pub lost_columns: Vec<String>,
    /// Never `Copying` or `Stale`, which follow from the running copy and from the lost columns.
    pub state: TableState,
}

impl FollowedTable for ReplicatedTable {
    fn name(&self) -> &str {
        self.schema.name()
    }

    fn state(&self) -> TableState {
        match &self.state {
            TableState::Ready if !self.lost_columns.is_empty() => {
                TableState::Stale(Staleness::LostColumns(self.lost_columns.clone()))
            }
            state => state.clone(),
        }
    }

    /// The log has the count, by version.
    fn lag(&self) -> u64 {
        0
    }
}

impl ReplicatedTable {
    pub fn new(registered: &Registered, mode: SyncMode) -> Self {
        Self {
            schema: registered.schema.clone(),
            definition: Arc::new(Self::definition(&registered.schema, mode)),
            version: registered.version,
            replica_version: None,
            needs_copy: true,
            is_claimed: false,
            lost_columns: Vec::new(),
            state: TableState::Pending,
        }
    }

    /// The replica of a table of this schema.
    pub fn definition(schema: &TableSchema, mode: SyncMode) -> Definition {
        Definition { name: schema.name().to_owned(), schema: schema.arrow(), key: schema.key().to_vec(), mode }
    }

    /// The same table as its registration is now.
    pub fn registered_anew(&self, registered: &Registered, mode: SyncMode) -> Self {
        let (is_claimed, replica_version) = (self.is_claimed, self.replica_version);
        let lost_columns = self.lost_columns.clone();
        Self { is_claimed, replica_version, lost_columns, ..Self::new(registered, mode) }
    }

    /// Fails the table, which the next cycle copies again.
    pub fn fail(&mut self, error: impl Into<String>) {
        self.state = TableState::Failed(error.into());
        self.needs_copy = true;
    }

    /// Publishes an empty replica.
    pub fn publish_empty(&mut self, replicas: &Replicas, applied_seq: i64) {
        self.replica_version = Some(self.version);
        let update = Update::Replace(Arc::clone(&self.definition), Vec::new(), 0);
        replicas.update(vec![(self.schema.name().to_owned(), update)], applied_seq);
    }
}

/// State of replication between cycles.
#[derive(Debug)]
pub(super) struct State {
    pub mode: SyncMode,
    /// By the number of the registration.
    pub tables: BTreeMap<i64, ReplicatedTable>,
    pub applied_seq: i64,
    /// The log's end when it was last read.
    pub log_end: i64,
    /// The time in the log row at `applied_seq`, which distinguishes this log from another log with
    /// the same position.
    pub applied_time: Option<i64>,
    /// The file that was read last.
    pub file: Option<FileId>,
    /// The time of the last change applied, microseconds.
    pub last_time: i64,
    /// SQLite's count of schema changes when the registrations were last checked.
    pub schema_version: Option<i64>,
    /// The same when tables were last copied whose rows have SQLite's row ids.
    pub row_ids_version: Option<i64>,
}

impl State {
    /// Restarts from another history of the file, with these registrations and this end of its log:
    /// all rows must be read again. Returns the names of tables that are no longer registered.
    pub fn start_over(&mut self, registered: &[Registered], (log_end, time): (i64, Option<i64>)) -> Vec<String> {
        // Numbers of registrations and versions may mean others now.
        let mut before: Vec<ReplicatedTable> = std::mem::take(&mut self.tables).into_values().collect();
        for registered in registered {
            let is_same =
                |followed: &ReplicatedTable| followed.schema.name().eq_ignore_ascii_case(registered.schema.name());
            let mut followed = ReplicatedTable::new(registered, self.mode);
            if let Some(at) = before.iter().position(is_same) {
                let known = before.swap_remove(at);
                (followed.is_claimed, followed.lost_columns) = (known.is_claimed, known.lost_columns);
                followed.replica_version = known.replica_version.map(|_| registered.version);
            }
            self.tables.insert(registered.id, followed);
        }
        (self.applied_seq, self.log_end, self.applied_time) = (log_end, log_end, time);
        (self.schema_version, self.row_ids_version) = (None, None);
        before.iter().map(|followed| followed.schema.name().to_owned()).collect()
    }

    /// The registrations as they are followed.
    pub fn registered(&self) -> Vec<Registered> {
        let registered = |(id, followed): (&i64, &ReplicatedTable)| Registered {
            id: *id,
            version: followed.version,
            schema: followed.schema.clone(),
        };
        self.tables.iter().map(registered).collect()
    }

    pub fn find(&mut self, table: &str) -> Option<&mut ReplicatedTable> {
        self.tables.values_mut().find(|followed| followed.schema.name().eq_ignore_ascii_case(table))
    }
}
