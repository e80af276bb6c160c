//! How an engine takes up replication: from nothing, or from what a store holds.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use tokio::sync::Mutex as AsyncMutex;
use vexact_core::error::{Error, Result};
use vexact_replica::Replicas;

use super::background::Background;
use super::durable::Found;
use super::position::{self, Position};
use super::state::State;
use super::{ReplicationOptions, Replicator};
use crate::oltp::{Oltp, capture, log};

impl Replicator {
    /// Starts with the tables that are registered in the file: their replicas are copied, or come from the store and go on from
    /// where they were.
    ///
    /// # Errors
    /// A file that cannot be read, or a lease beside it that cannot be taken; a store that is damaged, or of another sync mode.
    pub async fn start(oltp: Arc<Oltp>, replicas: Arc<Replicas>, mut options: ReplicationOptions) -> Result<Self> {
        let found = match options.store.take() {
            Some(store) => {
                let mode = options.mode;
                let read = tokio::task::spawn_blocking(move || Found::read(store, position::new_id(), mode)).await;
                Some(read.map_err(|error| Error::Engine(format!("reading the storage ended: {error}")))??)
            }
            None => None,
        };
        let position = Arc::new(match &found {
            Some(found) => Position::lasting(oltp.path(), found.durable.engine.clone()),
            None => Position::lease(oltp.path())?,
        });
        let entered = Arc::clone(&position);
        let stored = found.as_ref().and_then(Found::mark);
        // Before anything is read, so that nobody prunes what comes after it.
        let (goes_on, log_end, registered) = oltp
            .write(move |tx| {
                let last = log::last_seq(tx)?;
                let known = entered.entered(tx)?;
                // What is stored goes on only if this is its log, which still has everything since.
                let goes_on = match stored {
                    Some(mark) if known.map_or(last == 0, |known| known <= mark.seq) && mark.is_of(tx)? => {
                        Some(mark.seq)
                    }
                    _ => None,
                };
                if log::exists(tx)? {
                    entered.enter(tx, goes_on.unwrap_or(last))?;
                }
                Ok((goes_on, last, capture::registered(tx)?))
            })
            .await?;
        let mut state = State {
            mode: options.mode,
            tables: BTreeMap::new(),
            applied_seq: goes_on.unwrap_or(log_end),
            log_end,
            last_time: 0,
            schema_version: None,
        };
        if let Some(found) = &found {
            found.restore(&replicas, &mut state, &registered, goes_on.is_some())?;
        }
        let replicator = Self {
            oltp,
            replicas,
            options,
            state: Arc::new(AsyncMutex::new(state)),
            durable: Mutex::new(found.map(|found| found.durable)),
            position: Mutex::new(Some(position)),
            known: Arc::default(),
            has_synced: AtomicBool::new(false),
            copying: Arc::default(),
            last_error: Mutex::default(),
            background: Background::default(),
        };
        let state = Arc::clone(&replicator.state).lock_owned().await;
        replicator.cycle(state).await?;
        Ok(replicator)
    }
}
