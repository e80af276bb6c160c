//! What survives the process: the replicas in files, and beside them what replication has to know to go on.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cycle::{Followed, State};
use crate::error::{Error, Result};
use crate::oltp::capture::Registered;
use crate::replica::{Replicas, Store, Stored, SyncMode};

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
    /// By the number of the registration.
    tables: BTreeMap<i64, ExtraTable>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ExtraTable {
    version: i64,
    is_loaded: bool,
}

/// What was found in a store.
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
        let name = |mode| if mode == SyncMode::Temporal { "temporal" } else { "destructive" };
        if let Some(table) = stored.tables.iter().find(|table| table.definition.mode != mode) {
            return Err(Error::InvalidArgument(format!(
                "sync_mode: the storage holds {} replicas: expected {0:?}, got {:?}",
                name(table.definition.mode),
                name(mode)
            )));
        }
        // A state without it was saved before the first cycle.
        let extra = match stored.extra.as_str() {
            "" => Extra { engine, tables: BTreeMap::new() },
            text => serde_json::from_str(text)
                .map_err(|error| Error::Engine(format!("the storage's state of replication: {error}")))?,
        };
        Ok(Self { durable: Durable { store, engine: extra.engine.clone() }, stored: Some((stored, extra)) })
    }

    /// The position that the replicas are at.
    pub fn applied_seq(&self) -> Option<i64> {
        self.stored.as_ref().map(|(stored, _)| stored.applied_seq)
    }

    /// Puts the replicas in place. A table that is registered otherwise than it was then, or that had failed, is copied again.
    pub fn restore(&self, replicas: &Replicas, state: &mut State, registered: &[Registered]) -> Result<()> {
        let Some((stored, extra)) = &self.stored else { return Ok(()) };
        replicas.restore(stored)?;
        state.applied_seq = stored.applied_seq;
        state.last_time = stored.last_time;
        for registered in registered {
            let Some(known) = extra.tables.get(&registered.id) else { continue };
            let snapshot = replicas.snapshot();
            let is_sound = snapshot.table(registered.schema.name()).is_some_and(|table| table.failed.is_none());
            if known.version == registered.version && is_sound {
                let followed = Followed::new(registered, state.mode);
                state
                    .tables
                    .insert(registered.id, Followed { needs_copy: false, is_loaded: known.is_loaded, ..followed });
            }
        }
        Ok(())
    }
}

impl Durable {
    /// Makes the replicas durable, at their position. Blocks.
    pub fn save(&self, replicas: &Replicas, state: &State) -> Result<()> {
        let table = |(id, followed): (&i64, &Followed)| {
            (*id, ExtraTable { version: followed.version, is_loaded: followed.is_loaded })
        };
        let extra = Extra { engine: self.engine.clone(), tables: state.tables.iter().map(table).collect() };
        let extra = serde_json::to_string(&extra)
            .map_err(|error| Error::Engine(format!("the state of replication as text: {error}")))?;
        self.store.save(&replicas.snapshot(), state.last_time, &extra)
    }
}
