//! State of replication and of its tables between cycles.

use std::collections::BTreeMap;
use std::sync::Arc;

use vexact_core::schema::TableSchema;
use vexact_replica::{Definition, Replicas, SyncMode, Update};

use crate::oltp::FileId;
use crate::oltp::capture::Registered;

/// A table that is followed.
#[derive(Debug, Clone)]
pub(super) struct TableState {
    pub schema: TableSchema,
    pub definition: Arc<Definition>,
    /// The version of the registration whose changes the replica takes.
    pub version: i64,
    /// The version whose columns the replica has; `None` before it has any.
    pub replica_version: Option<i64>,
    /// True if all rows must be read again.
    pub needs_copy: bool,
    /// True if the rows from before the registration are in the replica.
    pub is_loaded: bool,
    /// True if the table was registered through this engine, not found in the file.
    pub is_claimed: bool,
    /// True if the current table cannot be captured, so that a copy would become stale.
    pub is_uncaptured: bool,
    pub error: Option<String>,
}

impl TableState {
    pub fn new(registered: &Registered, mode: SyncMode) -> Self {
        Self {
            schema: registered.schema.clone(),
            definition: Arc::new(Self::definition(&registered.schema, mode)),
            version: registered.version,
            replica_version: None,
            needs_copy: true,
            is_loaded: false,
            is_claimed: false,
            is_uncaptured: false,
            error: None,
        }
    }

    /// The replica of a table of this schema.
    pub fn definition(schema: &TableSchema, mode: SyncMode) -> Definition {
        Definition { name: schema.name().to_owned(), schema: schema.arrow(), key: schema.key().to_vec(), mode }
    }

    /// The same table as its registration is now.
    pub fn registered_anew(&self, registered: &Registered, mode: SyncMode) -> Self {
        let (is_claimed, replica_version) = (self.is_claimed, self.replica_version);
        Self { is_claimed, replica_version, ..Self::new(registered, mode) }
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
    pub tables: BTreeMap<i64, TableState>,
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
    /// By the number of the registration: columns that left the replica when a migration dropped or
    /// renamed them.
    pub lost: BTreeMap<i64, Vec<String>>,
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
        let mut before: Vec<TableState> = std::mem::take(&mut self.tables).into_values().collect();
        for registered in registered {
            let is_same = |followed: &TableState| followed.schema.name().eq_ignore_ascii_case(registered.schema.name());
            let mut followed = TableState::new(registered, self.mode);
            if let Some(at) = before.iter().position(is_same) {
                let known = before.swap_remove(at);
                followed.is_claimed = known.is_claimed;
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
        let registered = |(id, followed): (&i64, &TableState)| Registered {
            id: *id,
            version: followed.version,
            schema: followed.schema.clone(),
        };
        self.tables.iter().map(registered).collect()
    }

    pub fn find(&mut self, table: &str) -> Option<&mut TableState> {
        self.tables.values_mut().find(|followed| followed.schema.name().eq_ignore_ascii_case(table))
    }
}
