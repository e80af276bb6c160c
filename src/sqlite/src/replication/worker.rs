//! Runs a cycle and the steps around it: repair of triggers, save, position in the log, compaction.

use std::sync::Arc;
use std::time::Duration;

use vexact_core::error::{Error, Result};
use vexact_replica::Replicas;

use super::ReplicationOptions;
use super::cycle::{self, Broken, CycleResult, Unmended};
use super::durable::Durable;
use super::position::Position;
use super::state::State;
use super::status::{Copying, SyncResult};
use crate::oltp::limit::{self, Limit};
use crate::oltp::{Oltp, capture, uninstall};

/// Maximum wait for another program's write transaction before a repair of the file; most
/// transactions are shorter.
const MOMENT: Duration = Duration::from_millis(100);

/// The inputs of a cycle, independent of the replicator.
pub(super) struct Worker {
    pub oltp: Arc<Oltp>,
    pub replicas: Arc<Replicas>,
    pub options: ReplicationOptions,
    pub durable: Option<Durable>,
    pub position: Arc<Position>,
    pub copying: Arc<Copying>,
}

impl Worker {
    /// Saves the replicas, if they have a store. Blocks.
    pub fn save(&self, state: &State) -> Result<()> {
        self.durable.as_ref().map_or(Ok(()), |durable| durable.save(&self.replicas, state))
    }

    /// Runs a cycle. Blocks: the whole cycle runs on one thread, because a thread switch costs more
    /// than a short cycle.
    pub fn run(self, state: &mut State) -> Result<SyncResult> {
        let file = self.oltp.file()?;
        if state.file != Some(file) {
            // The count of its schema's changes is another's.
            (state.file, state.schema_version, state.row_ids_version) = (Some(file), None, None);
        }
        let mut unmended = Unmended::default();
        let mut result = loop {
            let written = self.position.written();
            let outcome = self.oltp.read_here(|conn| cycle::run(conn, &self, state, &unmended, written));
            self.copying.set(None);
            match outcome? {
                CycleResult::Done(result) => break result,
                CycleResult::Broken(Broken::Triggers(broken)) => {
                    // Each table has its own transaction: one that cannot be captured does not
                    // delay the others.
                    for table in broken {
                        let (id, before) = (table.id, table.schema.clone());
                        let reinstall = move |tx: &rusqlite::Connection| capture::reinstall(tx, id, &table.schema);
                        let problem = match self.mend(reinstall) {
                            Ok(Some(now)) => {
                                let names = before.columns().iter().map(|column| column.name.clone());
                                let lost = names.filter(|name| now.schema.position(name).is_none());
                                if let Some(followed) = state.tables.get_mut(&id) {
                                    followed.lost_columns.extend(lost);
                                }
                                continue;
                            }
                            Ok(None) => format!("its triggers are lost: {}", self.mended_by()),
                            Err(error) => {
                                self.mend(move |tx| capture::suspend(tx, id))?;
                                error.to_string()
                            }
                        };
                        unmended.uncaptured.insert(id, problem);
                    }
                }
                CycleResult::Broken(Broken::Strays) => {
                    unmended.has_strays = self.mend(uninstall::drop_strays)?.is_none()
                }
                CycleResult::Broken(Broken::Full) => unmended.is_full = self.mend(limit::begin_anew)?.is_none(),
                CycleResult::Broken(Broken::Log(known)) => {
                    let (position, applied_seq) = (Arc::clone(&self.position), state.applied_seq);
                    let mended = self.mend(move |tx| {
                        uninstall::mend(tx, &known, applied_seq)?;
                        position.enter(tx, applied_seq)
                    });
                    if mended?.is_none() {
                        return Err(Error::Engine(format!(
                            "tables of the change log were dropped: {}",
                            self.mended_by()
                        )));
                    }
                }
            }
        };
        self.save(state)?;
        // Only what is durable may be forgotten by the log.
        result.pruned_count = self.advance(state)?;
        self.replicas.compact_beside();
        Ok(result)
    }

    /// Repairs the file. It does not wait long for another program that writes, because the sync's
    /// readers would wait too. Returns `None` in that case, and if the file is read-only.
    fn mend<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> Result<T> + Send + 'static,
    ) -> Result<Option<T>> {
        if self.oltp.is_read_only() { Ok(None) } else { self.oltp.write_within(MOMENT, work, |_| ()) }
    }

    /// Returns a text that says who repairs the file later.
    fn mended_by(&self) -> &'static str {
        match self.oltp.is_read_only() {
            true => "an engine that writes the file mends it at its next sync, this one is read-only (mode=ro)",
            false => "the next sync mends it, as another program is writing",
        }
    }

    /// Advances the position and prunes; returns the number of pruned changes, if any. If another
    /// program is writing, a later cycle does it, because a sync itself only reads.
    fn advance(&self, state: &State) -> Result<Option<u64>> {
        let applied_seq = state.applied_seq;
        // Without a log there is nothing to hold.
        if state.log_end == 0 || self.position.written() == Some(applied_seq) {
            return Ok(None);
        }
        if self.position.is_reader() {
            self.position.publish(applied_seq);
            return Ok(None);
        }
        let snapshot = self.replicas.snapshot();
        let rows = snapshot.tables().map(|table| table.version.num_current_rows() as u64).sum();
        let limit = Limit { changes: self.options.log_limit, rows, is_pruned: self.options.prunes };
        let (position, written) = (Arc::clone(&self.position), Arc::clone(&self.position));
        let advance = move |tx: &_| position.advance(tx, applied_seq, limit);
        let pruned = self.oltp.write_soon(advance, move |_| written.has_written(applied_seq))?;
        Ok(pruned.filter(|pruned| *pruned > 0))
    }
}
