//! A cycle with what surrounds it: triggers made again, the save, the log's position, compaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::OwnedMutexGuard;

use super::ReplicationOptions;
use super::cycle::{self, Outcome, State};
use super::durable::Durable;
use super::position::Position;
use super::status::SyncResult;
use crate::error::{Error, Result};
use crate::oltp::{Oltp, capture};
use crate::replica::Replicas;

/// What a cycle needs, on its own.
pub(super) struct Worker {
    pub oltp: Arc<Oltp>,
    pub replicas: Arc<Replicas>,
    pub options: ReplicationOptions,
    pub durable: Option<Durable>,
    pub position: Arc<Position>,
    pub is_compacting: Arc<AtomicBool>,
}

impl Worker {
    /// Makes the replicas durable, where they are to be.
    pub async fn save(&self, state: OwnedMutexGuard<State>) -> Result<OwnedMutexGuard<State>> {
        let Some(durable) = self.durable.clone() else { return Ok(state) };
        let replicas = Arc::clone(&self.replicas);
        let save = move || durable.save(&replicas, &state).map(|()| state);
        let ended = |error| Err(Error::Engine(format!("a save ended: {error}")));
        tokio::task::spawn_blocking(save).await.unwrap_or_else(ended)
    }

    pub async fn run(self, mut state: OwnedMutexGuard<State>) -> Result<SyncResult> {
        let limit = self.options.batch_size;
        let before = state.applied_seq;
        let mut uncaptured: HashMap<i64, String> = HashMap::new();
        let mut result = loop {
            let (replicas, known) = (Arc::clone(&self.replicas), uncaptured.clone());
            let outcome;
            (state, outcome) = self
                .oltp
                .read(move |conn| {
                    let outcome = cycle::run(conn, &mut state, &replicas, limit, &known)?;
                    Ok((state, outcome))
                })
                .await?;
            match outcome {
                Outcome::Done(result) => break result,
                // Each on its own: one that cannot be captured holds up no other.
                Outcome::Broken(broken) => {
                    for table in broken {
                        let id = table.id;
                        let reinstall =
                            move |tx: &rusqlite::Connection| capture::reinstall(tx, id, &table.schema).map(drop);
                        if let Err(error) = self.oltp.write(reinstall).await {
                            uncaptured.insert(id, error.to_string());
                        }
                    }
                }
            }
        };
        state = self.save(state).await?;
        // Only what is durable may be forgotten by the log.
        if state.applied_seq != before {
            let (position, applied_seq, prunes) = (Arc::clone(&self.position), state.applied_seq, self.options.prunes);
            let pruned = self.oltp.write(move |tx| position.advance(tx, applied_seq, prunes)).await?;
            result.pruned_count = (pruned > 0).then_some(pruned);
        }
        self.compact();
        Ok(result)
    }

    /// Merges segments beside everything else.
    fn compact(&self) {
        if self.is_compacting.swap(true, Ordering::AcqRel) {
            return;
        }
        let (replicas, is_compacting) = (Arc::clone(&self.replicas), Arc::clone(&self.is_compacting));
        tokio::task::spawn_blocking(move || {
            // What cannot be merged stays as it is, and is tried again after the next cycle.
            while replicas.compact(false).unwrap_or(false) {}
            is_compacting.store(false, Ordering::Release);
        });
    }
}
