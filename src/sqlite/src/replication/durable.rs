//! Durable state of replication: the replicas in files, and beside them the state that is needed to
//! resume.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use vexact_core::error::{Error, Result};
use vexact_replica::{Replicas, Store, Stored, SyncMode, Update};

use super::state::{ReplicatedTable, State};
use super::table_state::TableState;
use crate::oltp::capture::Registered;
use crate::oltp::log;

/// The store of an engine that keeps its replicas in files.
#[derive(Debug, Clone)]
pub(super) struct Durable {
    pub store: Arc<Store>,
    /// The engine's name among the positions in the database.
    pub engine: String,
}

/// Stored beside the replicas.
#[derive(Debug, Serialize, Deserialize)]
struct Extra {
    engine: String,
    /// The time in the log row at the position, which identifies the log.
    log_time: Option<i64>,
    /// By the number of the registration.
    tables: BTreeMap<i64, ExtraTable>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ExtraTable {
    /// Version of the replica's columns.
    version: Option<i64>,
    is_loaded: bool,
}

/// Content of a store.
pub(super) struct Found {
    pub durable: Durable,
    stored: Option<(Stored, Extra)>,
}

impl Found {
    /// Reads a store. `engine`: a name for an engine that is new. Blocks.
    ///
    /// # Errors
    /// Files that are damaged; replicas of another sync mode.
    pub fn read(store: Arc<Store>, engine: String, mode: SyncMode) -> Result<Self> {
        let Some(stored) = store.load()? else {
            return Ok(Self { durable: Durable { store, engine }, stored: None });
        };
        stored.check_mode(mode)?;
        // A state without it was saved before the first cycle.
        let extra = match stored.extra.as_str() {
            "" => Extra { engine, log_time: None, tables: BTreeMap::new() },
            text => serde_json::from_str(text)
                .map_err(|error| Error::Engine(format!("the storage's state of replication: {error}")))?,
        };
        Ok(Self { durable: Durable { store, engine: extra.engine.clone() }, stored: Some((stored, extra)) })
    }

    /// Returns the position of the replicas in the log.
    pub fn mark(&self) -> Option<Mark> {
        self.stored.as_ref().map(|(stored, extra)| Mark { seq: stored.applied_seq, time: extra.log_time })
    }

    /// Restores the replicas, at `state.applied_seq`. A table whose registration changed, or that
    /// had failed, is copied again, and so are all tables if the log does not continue at this
    /// position: a history then continues with the differences. A replica without a registration is
    /// dropped.
    pub fn restore(
        &self,
        replicas: &Replicas,
        state: &mut State,
        registered: &[Registered],
        goes_on: bool,
    ) -> Result<()> {
        let Some((stored, extra)) = &self.stored else { return Ok(()) };
        replicas.restore(stored)?;
        state.last_time = stored.last_time;
        for registered in registered {
            let Some(known) = extra.tables.get(&registered.id) else { continue };
            let snapshot = replicas.snapshot();
            let Some(table) = snapshot.table(registered.schema.name()) else { continue };
            let needs_copy = !goes_on || table.failed.is_some() || known.version != Some(registered.version);
            let mut followed = ReplicatedTable::new(registered, state.mode);
            (followed.needs_copy, followed.replica_version) = (needs_copy, known.version);
            if known.is_loaded {
                followed.state = TableState::Ready;
            }
            state.tables.insert(registered.id, followed);
        }
        let is_followed =
            |name: &str| state.tables.values().any(|followed| followed.schema.name().eq_ignore_ascii_case(name));
        let gone = stored.tables.iter().map(|table| &table.definition.name).filter(|name| !is_followed(name));
        let gone = gone.map(|name| (name.clone(), Update::Drop)).collect();
        replicas.update(gone, state.applied_seq);
        Ok(())
    }
}

/// A position in a log, with the time that distinguishes this log from another log with the same
/// position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub seq: i64,
    time: Option<i64>,
}

impl Mark {
    /// Returns true if a log is the one in which the mark was made, and reaches the mark's
    /// position.
    pub fn is_of(&self, conn: &Connection) -> Result<bool> {
        Ok(self.seq <= log::last_seq(conn)? && log::time_at(conn, self.seq)? == self.time)
    }
}

impl Durable {
    /// Makes the replicas durable, at their position in the log. Blocks.
    pub fn save(&self, replicas: &Replicas, state: &State) -> Result<()> {
        let table = |(id, followed): (&i64, &ReplicatedTable)| {
            (*id, ExtraTable { version: followed.replica_version, is_loaded: followed.state == TableState::Ready })
        };
        let tables = state.tables.iter().map(table).collect();
        let extra = Extra { engine: self.engine.clone(), log_time: state.applied_time, tables };
        let extra = serde_json::to_string(&extra)
            .map_err(|error| Error::Engine(format!("the state of replication as text: {error}")))?;
        self.store.save(&replicas.snapshot(), state.last_time, &extra)
    }
}
