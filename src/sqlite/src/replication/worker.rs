//! A cycle with what surrounds it: triggers made again, the save, the log's position, compaction.

use std::collections::HashMap;
use std::sync::Arc;

use vexact_core::error::Result;
use vexact_replica::Replicas;

use super::ReplicationOptions;
use super::cycle::{self, Broken, Outcome};
use super::durable::Durable;
use super::position::Position;
use super::state::State;
use super::status::{Copying, SyncResult};
use crate::oltp::{Oltp, capture, uninstall};

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
        self.durable.as_ref().map_or(Ok(()), |durable| durable.save(&self.replicas, state))
    }

    /// Runs a cycle. Blocks: all of it happens on one thread, as a change of threads costs more than a short cycle.
    pub fn run(self, state: &mut State) -> Result<SyncResult> {
        let file = self.oltp.file()?;
        if state.file != Some(file) {
            // The count of its schema's changes is another's.
            (state.file, state.schema_version) = (Some(file), None);
        }
        let mut uncaptured: HashMap<i64, String> = HashMap::new();
        let mut result = loop {
            let written = self.position.written();
            let outcome = self.oltp.read_here(|conn| cycle::run(conn, &self, state, &uncaptured, written));
            self.copying.set(None);
            match outcome? {
                Outcome::Done(result) => break result,
                Outcome::Broken(Broken::Triggers(broken)) => {
                    // Each on its own: one that cannot be captured holds up no other.
                    for table in broken {
                        let (id, before) = (table.id, table.schema.clone());
                        let reinstall = move |tx: &rusqlite::Connection| capture::reinstall(tx, id, &table.schema);
                        match self.oltp.write_here(reinstall) {
                            Ok(now) => {
                                let names = before.columns().iter().map(|column| column.name.clone());
                                let lost = names.filter(|name| now.schema.position(name).is_none());
                                state.lost.entry(id).or_default().extend(lost);
                            }
                            Err(error) => drop(uncaptured.insert(id, error.to_string())),
                        }
                    }
                }
                Outcome::Broken(Broken::Strays) => self.oltp.write_here(uninstall::drop_strays)?,
                Outcome::Broken(Broken::Log(known)) => {
                    let (position, applied_seq) = (Arc::clone(&self.position), state.applied_seq);
                    self.oltp.write_here(move |tx| {
                        uninstall::mend(tx, &known, applied_seq)?;
                        position.enter(tx, applied_seq)
                    })?;
                }
            }
        };
        self.save(state)?;
        // Only what is durable may be forgotten by the log.
        result.pruned_count = self.advance(state)?;
        self.replicas.compact_beside();
        Ok(result)
    }

    /// Moves the position on and prunes; the changes pruned, if any. Where another program is writing, a later cycle does it: a sync
    /// only reads what it is for.
    fn advance(&self, state: &State) -> Result<Option<u64>> {
        let applied_seq = state.applied_seq;
        // Without a log there is nothing to hold.
        if state.log_end == 0 || self.position.written() == Some(applied_seq) {
            return Ok(None);
        }
        let snapshot = self.replicas.snapshot();
        let rows = snapshot.tables().map(|table| table.version.num_current_rows() as u64).sum();
        let (position, prunes) = (Arc::clone(&self.position), self.options.prunes);
        let written = Arc::clone(&self.position);
        let advance = move |tx: &_| position.advance(tx, applied_seq, prunes, rows);
        let pruned = self.oltp.write_soon(advance, move |_| written.has_written(applied_seq))?;
        Ok(pruned.filter(|pruned| *pruned > 0))
    }
}
