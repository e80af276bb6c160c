//! Replication from SQLite to the replicas: the initial copy, the sync cycle, and its status.
//!
//! A cycle reads the log and what it copies in one read snapshot, and publishes all tables
//! together. One cycle runs at a time, and it runs to completion even if its caller is cancelled.

mod absent;
mod alter;
mod background;
mod changes;
mod copy;
mod cycle;
mod durable;
mod position;
mod reader_lease;
mod register;
mod start;
mod state;
mod status;
mod table_state;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use vexact_core::error::{Error, Result};
use vexact_core::schema::TableSchema;
use vexact_replica::{Replicas, Store, SyncMode};

use crate::oltp::{Oltp, log};

use durable::Durable;
use position::Position;
use state::State;
use status::{Copying, Known};
use worker::Worker;

pub use absent::LogPosition;
pub use background::Background;
pub use status::{SyncResult, SyncStatus, unloaded};
pub use table_state::{FollowedTable, Staleness, TableState, TableStatus};

/// Options of replication.
#[derive(Debug, Clone)]
pub struct ReplicationOptions {
    /// Sync mode of the replicas.
    pub mode: SyncMode,
    /// True if changes that no replica needs any more are pruned from the log.
    pub prunes: bool,
    /// Changes of one cycle, before it is extended to the end of a transaction.
    pub batch_size: u64,
    /// Maximum number of changes in the log while no engine reads it; beyond it the tables are
    /// copied. `None` for the limit stored in the file, or without one for the number of rows of
    /// the tables, at least 100 000.
    pub log_limit: Option<u64>,
    /// Store of the replicas; `None` if they are only in memory.
    pub store: Option<Arc<Store>>,
}

/// Follows the tables that are registered in a file.
pub struct Replicator {
    oltp: Arc<Oltp>,
    replicas: Arc<Replicas>,
    options: ReplicationOptions,
    state: Arc<AsyncMutex<State>>,
    /// `None` for replicas in memory, and after the end.
    durable: Mutex<Option<Durable>>,
    /// `None` after the end.
    position: Mutex<Option<Arc<Position>>>,
    known: Arc<Mutex<Known>>,
    copying: Arc<Copying>,
    /// True after a caller's sync has succeeded.
    has_synced: AtomicBool,
    last_error: Mutex<Option<String>>,
    warning: Option<String>,
    background: Background,
}

impl std::fmt::Debug for Replicator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Replicator({:?})", self.oltp)
    }
}

/// Result of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisterOutcome {
    /// Rows that the table has and the replica lacks, until an initial sync.
    pub unloaded_rows: u64,
}

impl Replicator {
    /// The replicas.
    pub fn replicas(&self) -> &Arc<Replicas> {
        &self.replicas
    }

    /// One cycle: at most `batch_size` changes, extended to the next end of a transaction that is
    /// known.
    ///
    /// # Errors
    /// An error of SQLite. A failed table is no error of the cycle: see [`Self::status`].
    pub async fn sync_now(&self) -> Result<SyncResult> {
        let state = Arc::clone(&self.state).lock_owned().await;
        let result = self.cycle(state).await;
        self.note(&result);
        result
    }

    /// Runs cycles until the log's end at the time of the call is reached; returns the sum of the
    /// results.
    ///
    /// # Errors
    /// As [`Self::sync_now`].
    pub async fn sync_all(&self) -> Result<SyncResult> {
        let mut sum = SyncResult::default();
        // The first cycle sees the log's end at the call, or a later one.
        let mut end = None;
        loop {
            let state = Arc::clone(&self.state).lock_owned().await;
            let result = self.cycle(state).await;
            self.note(&result);
            sum = sum.plus(result?);
            let state = self.state.lock().await;
            // A file that went back to a backup may have less.
            if state.applied_seq >= (*end.get_or_insert(state.log_end)).min(state.log_end) {
                return Ok(sum);
            }
        }
    }

    fn note<T>(&self, result: &Result<T>) {
        *self.last_error.lock() = result.as_ref().err().map(|error| error.to_string());
        if result.is_ok() {
            self.has_synced.store(true, Ordering::Relaxed);
        }
    }

    /// Runs a cycle to completion, even if its caller is cancelled.
    async fn cycle(&self, state: OwnedMutexGuard<State>) -> Result<SyncResult> {
        self.blocking(state, Worker::run).await
    }

    /// Runs work to completion, off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        mut state: OwnedMutexGuard<State>,
        work: impl FnOnce(Worker, &mut State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let worker = self.worker()?;
        let known = Arc::clone(&self.known);
        let ended = |error| Err(Error::Engine(format!("a sync ended: {error}")));
        let work = move || {
            let outcome = work(worker, &mut state);
            *known.lock() = Known::of(&state);
            outcome
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(ended)
    }

    fn worker(&self) -> Result<Worker> {
        Ok(Worker {
            oltp: Arc::clone(&self.oltp),
            replicas: Arc::clone(&self.replicas),
            options: self.options.clone(),
            durable: self.durable.lock().clone(),
            position: self.position()?,
            copying: Arc::clone(&self.copying),
        })
    }

    fn position(&self) -> Result<Arc<Position>> {
        let position = self.position.lock();
        position.clone().ok_or_else(Error::shut_down)
    }

    /// Returns the status of replication. Changes nothing, and does not wait for a cycle.
    ///
    /// # Errors
    /// An error of SQLite.
    pub async fn status(&self) -> Result<SyncStatus> {
        let applied_seq = self.known.lock().applied_seq;
        let database = self.oltp.path().to_owned();
        let read = move |conn: &_| Ok((log::lag(conn, applied_seq)?, log::size(conn)?, absent::list(conn, &database)?));
        let (lag, log_rows, positions) = self.oltp.read(read).await?;
        let last_error = self.last_error.lock().clone();
        let known = self.known.lock();
        let has_synced = self.has_synced.load(Ordering::Relaxed);
        let status = known.status(&lag, &self.replicas.snapshot(), &self.copying, (has_synced, last_error));
        Ok(SyncStatus { log_rows, positions, ..status })
    }

    /// Returns the warning from opening the file: a change log that has grown long, and the engines
    /// for which it is kept.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Removes the position of an engine that does not run, so that the log is no longer kept for
    /// it; returns the number of pruned changes. The engine's replicas are copied if it comes back.
    ///
    /// # Errors
    /// An unknown position; an engine that is running; an error of SQLite.
    pub async fn drop_position(&self, id: &str) -> Result<u64> {
        self.oltp.check_writable("drop_position", "an engine that writes the file drops positions")?;
        let state = Arc::clone(&self.state).lock_owned().await;
        let (id, database) = (id.to_owned(), self.oltp.path().to_owned());
        self.oltp.write(move |tx| absent::drop_position(tx, &database, &id)).await?;
        // The next time that the position is written, the log is pruned.
        self.position()?.forget_written();
        Ok(self.cycle(state).await?.pruned_count.unwrap_or(0))
    }

    /// The tables that were registered and whose rows were never copied, so that their replicas
    /// lack those that they had then.
    pub fn unloaded(&self) -> Vec<String> {
        self.known.lock().unloaded()
    }

    /// The registered schema of a table.
    pub async fn schema(&self, table: &str) -> Option<TableSchema> {
        self.state.lock().await.find(table).map(|followed| followed.schema.clone())
    }

    /// Syncs periodically in the background, until [`Self::stop_background`]. The status has its
    /// errors.
    pub fn start_background(self: &Arc<Self>, interval: Duration) {
        // The status has the error.
        self.background.start(self, interval, |replicator| async move { drop(replicator.sync_all().await) });
    }

    /// Ends the background sync; a running cycle runs to completion. Idempotent.
    pub fn stop_background(&self) {
        self.background.stop();
    }

    /// Ends replication: waits for a running cycle and releases the lease. Idempotent.
    pub async fn shutdown(&self) {
        self.stop_background();
        let _state = self.state.lock().await;
        let position = self.position.lock().take();
        // Its folder can be opened again.
        self.durable.lock().take();
        if let Some(position) = position.filter(|position| !position.is_reader()) {
            let oltp = Arc::clone(&self.oltp);
            // If the position cannot be removed because another program is writing, the next engine
            // finds it abandoned.
            let leave = move || drop(oltp.write_soon(move |tx| position.leave(tx), |()| ()));
            let _ = tokio::task::spawn_blocking(leave).await;
        }
    }
}
