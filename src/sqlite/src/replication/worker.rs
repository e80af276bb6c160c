//! A cycle with what surrounds it: triggers made again, the save, the log's position, compaction.

use std::collections::HashMap;
use std::sync::Arc;

use vexact_core::error::Result;
use vexact_replica::Replicas;

use super::ReplicationOptions;
use super::cycle::{self, Outcome};
use super::durable::Durable;
use super::position::Position;
use super::state::State;
use super::status::{Copying, SyncResult};
use crate::oltp::{Oltp, capture};

/// What a cycle needs, on its own.
pub(super) struct Worker {
    pub oltp: Arc<Oltp>,
    pub replicas: Arc<Replicas>,
    pub options: ReplicationOptions,
    pub durable: Option<Durable>,
    pub position: Arc<Position>,
    pub copying: Arc<Copying>,
}

impl Worker {
    /// Makes the replicas durable, where they are to be. Blocks.
    pub fn save(&self, state: &State) -> Result<()> {
        self.durable.as_ref().map_or(Ok(()), |durable| durable.save(&self.oltp, &self.replicas, state))
    }

    /// Runs a cycle. Blocks: all of it happens on one thread, as a change of threads costs more than a short cycle.
    pub fn run(self, state: &mut State) -> Result<SyncResult> {
        let before = state.applied_seq;
        let mut uncaptured: HashMap<i64, String> = HashMap::new();
        let mut result = loop {
            let limit = self.options.batch_size;
            let read =
                |conn: &_| cycle::run(conn, &self.oltp, state, &self.replicas, limit, &uncaptured, &self.copying);
            let outcome = self.oltp.read_here(read);
            self.copying.set(None);
            match outcome? {
                Outcome::Done(result) => break result,
                // Each on its own: one that cannot be captured holds up no other.
                Outcome::Broken(broken) => {
                    for table in broken {
                        let id = table.id;
                        let reinstall =
                            move |tx: &rusqlite::Connection| capture::reinstall(tx, id, &table.schema).map(drop);
                        if let Err(error) = self.oltp.write_here(reinstall) {
                            uncaptured.insert(id, error.to_string());
                        }
                    }
                }
            }
        };
        self.save(state)?;
        // Only what is durable may be forgotten by the log.
        if state.applied_seq != before {
            let (position, applied_seq, prunes) = (Arc::clone(&self.position), state.applied_seq, self.options.prunes);
            let pruned = self.oltp.write_here(move |tx| position.advance(tx, applied_seq, prunes))?;
            result.pruned_count = (pruned > 0).then_some(pruned);
        }
        self.replicas.compact_beside();
        Ok(result)
    }
}
