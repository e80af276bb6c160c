//! Follows an external database, a SQLite file or PostgreSQL, read-only, by polling the clock
//! columns of its tables.
//!
//! Nothing is installed in the source. The clock columns are the only information about changes:
//! rows are read in the order of (`updated_at`, key) and upserted by key. [`poll`] describes which
//! rows one cycle reads, and which changes it misses.

mod calendar;
mod changes;
mod clock;
mod columns;
mod config;
mod cycle;
mod durable;
mod poll;
#[cfg_attr(not(feature = "postgres"), path = "without_postgres.rs")]
mod postgres;
mod source;
mod sqlite;
mod status;
mod stop;
mod table;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use vexact_core::error::{Error, Result};
use vexact_replica::{Replicas, Store, SyncMode};
use vexact_sqlite::replication::{Background, SyncResult, SyncStatus};

pub use config::{DeleteDetection, OVERLAP, SidecarConfig, SourceKind, TimestampTableConfig};

use cycle::{Cycle, State};
use source::Source;
use status::Known;
use stop::Stopper;
use table::Table;

/// Longest time that a status waits for the source to count rows that were not read yet.
const COUNTING: Duration = Duration::from_secs(1);

/// The settings that a cycle needs.
#[derive(Debug, Clone)]
struct Settings {
    mode: SyncMode,
    batch_size: u32,
    deletes: DeleteDetection,
    overlap: Duration,
}

impl SidecarConfig {
    /// Rejects invalid settings.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: no source, another scheme, an address that names no server, no tables, a table twice, an empty
    /// or repeated name, a size of 0.
    pub fn check(&self) -> Result<()> {
        if self.kind() == SourceKind::Postgres {
            postgres::check_address(&self.source)?;
        }
        self.check_settings()
    }
}

/// Follows the tables of a source.
pub struct Sidecar {
    name: String,
    tables: Vec<String>,
    replicas: Arc<Replicas>,
    settings: Arc<Settings>,
    /// `None` after the end.
    state: Arc<AsyncMutex<Option<State>>>,
    known: Arc<Mutex<Known>>,
    stopper: Stopper,
    last_error: Mutex<Option<String>>,
    background: Background,
}

impl std::fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sidecar({})", self.name)
    }
}

impl Sidecar {
    /// Describes the tables and creates their replicas: empty ones, or those of the store. Reads no
    /// rows.
    ///
    /// # Errors
    /// Wrong settings; a source that cannot be reached and has no stored replicas; a store that is
    /// damaged, or holds other replicas. A table that does not exist or differs from its
    /// configuration is no error: it is marked as failed, and its status has the reason.
    pub async fn start(
        config: &SidecarConfig,
        mode: SyncMode,
        replicas: Arc<Replicas>,
        store: Option<Arc<Store>>,
    ) -> Result<Self> {
        config.check()?;
        let settings = Arc::new(Settings {
            mode,
            batch_size: config.poll_batch_size,
            deletes: config.delete_detection.clone(),
            overlap: config.overlap,
        });
        let (stopper, stop) = stop::stop();
        let source: Box<dyn Source> = match config.kind() {
            SourceKind::Sqlite => Box::new(sqlite::SqliteSource::new(&config.source, stop)?),
            SourceKind::Postgres => postgres::open(&config.source, stop)?,
        };
        let table = |table: &TimestampTableConfig| Table::new(table.clone(), table.replica_name(&config.kind()));
        let tables: Vec<Table> = config.tables.iter().map(table).collect();
        let names = tables.iter().map(|table| table.name.clone()).collect();
        let name = source.name().to_owned();
        let mut state = State { source, tables, store, applied: 0, has_synced: false };
        let (into, with) = (Arc::clone(&replicas), Arc::clone(&settings));
        let looked = tokio::task::spawn_blocking(move || state.start(&into, &with).map(|problem| (state, problem)));
        let (state, problem) = looked.await.unwrap_or_else(|error| Err(ended(&error)))?;
        Ok(Self {
            name,
            tables: names,
            replicas,
            settings,
            known: Arc::new(Mutex::new(Known::of(&state))),
            state: Arc::new(AsyncMutex::new(Some(state))),
            stopper,
            last_error: Mutex::new(problem),
            background: Background::default(),
        })
    }

    /// The source, without a password.
    pub fn source(&self) -> &str {
        &self.name
    }

    /// The names of the replicas.
    pub fn tables(&self) -> &[String] {
        &self.tables
    }

    /// The replicas of which no row was read yet.
    pub fn unloaded(&self) -> Vec<String> {
        self.known.lock().unloaded.clone()
    }

    /// Returns true if a table with a replica of this name is followed.
    pub fn follows(&self, table: &str) -> bool {
        self.tables.iter().any(|name| name.eq_ignore_ascii_case(table))
    }

    /// Runs work on the state to its end, off the async threads, even if the caller is cancelled.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut State) -> Result<T> + Send + 'static) -> Result<T> {
        self.run_on(Arc::clone(&self.state).lock_owned().await, work).await
    }

    async fn run_on<T: Send + 'static>(
        &self,
        mut state: OwnedMutexGuard<Option<State>>,
        work: impl FnOnce(&mut State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let known = Arc::clone(&self.known);
        let work = move || {
            let Some(state) = &mut *state else { return Err(Error::shut_down()) };
            let outcome = work(state);
            *known.lock() = Known::of(state);
            outcome
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(ended(&error)))
    }

    async fn cycle(&self) -> Result<Cycle> {
        let (replicas, settings) = (Arc::clone(&self.replicas), Arc::clone(&self.settings));
        let result = self.run(move |state| state.cycle(&replicas, &settings)).await;
        *self.last_error.lock() = result.as_ref().err().map(|error| error.to_string());
        if result.as_ref().is_ok_and(|cycle| cycle.result.events_processed > 0) {
            self.replicas.compact_beside();
        }
        result
    }

    /// One cycle: of each table, at most `poll_batch_size` rows are read.
    ///
    /// # Errors
    /// An error of the source or of the storage. A failed table is no error of the cycle: see
    /// [`Self::status`].
    pub async fn sync_now(&self) -> Result<SyncResult> {
        Ok(self.cycle().await?.result)
    }

    /// Runs cycles until all rows of each table, and all rows of its overlap window, were read
    /// since the call; returns the sum of the results.
    ///
    /// # Errors
    /// As [`Self::sync_now`].
    pub async fn sync_all(&self) -> Result<SyncResult> {
        self.run(|state| {
            for table in &mut state.tables {
                (table.progress.sweep, table.progress.ahead) = (None, None);
            }
            Ok(())
        })
        .await?;
        let mut sum = SyncResult::default();
        let mut complete = vec![false; self.tables.len()];
        while complete.contains(&false) {
            let cycle = self.cycle().await?;
            sum = sum.plus(cycle.result);
            complete.iter_mut().zip(cycle.complete).for_each(|(complete, now)| *complete |= now);
        }
        Ok(sum)
    }

    /// Runs cycles until the newest rows were read.
    async fn catch_up(&self) -> Result<()> {
        loop {
            self.cycle().await?;
            let is_behind = self.run(|state| Ok(state.tables.iter().any(|table| table.is_behind))).await?;
            if !is_behind {
                return Ok(());
            }
        }
    }

    /// Reads all rows of a table again, in one step, which also detects rows that were deleted
    /// without a delete mark. Returns the number of rows. In a history the differences become
    /// versions.
    ///
    /// # Errors
    /// A table that is not followed; an error of the source, of the storage or of the table.
    pub async fn initial_sync(&self, table: &str) -> Result<u64> {
        let Some(at) = self.tables.iter().position(|name| name.eq_ignore_ascii_case(table)) else {
            return Err(Error::Engine(format!("table {table:?} is not followed")));
        };
        let (replicas, settings) = (Arc::clone(&self.replicas), Arc::clone(&self.settings));
        self.run(move |state| state.copy(at, &replicas, &settings)).await
    }

    /// Returns the sync status; `last_synced_seq` is the number of changes applied. The lag is
    /// counted in the source. While a cycle runs, or if the source does not answer within a second,
    /// the last count is returned.
    ///
    /// # Errors
    /// A sidecar that was shut down.
    pub async fn status(&self) -> Result<SyncStatus> {
        if let Ok(state) = Arc::clone(&self.state).try_lock_owned() {
            let counting = self.run_on(state, |state| {
                state.count_lag();
                Ok(())
            });
            // The count continues even if no caller waits for it.
            if let Ok(counted) = tokio::time::timeout(COUNTING, counting).await {
                counted?;
            }
        }
        let last_error = self.last_error.lock().clone();
        let known = self.known.lock();
        Ok(known.status(&self.replicas.snapshot(), last_error))
    }

    /// Syncs periodically in the background, until [`Self::stop_background`]. The status has its
    /// errors.
    pub fn start_background(self: &Arc<Self>, interval: Duration) {
        // The status has the error; the next tick connects again.
        self.background.start(self, interval, |sidecar| async move { drop(sidecar.catch_up().await) });
    }

    /// Ends the background sync; a running cycle runs to completion. Idempotent.
    pub fn stop_background(&self) {
        self.background.stop();
    }

    /// Interrupts the reads of a running cycle, which has no effect then, and closes the source and
    /// the store. Idempotent.
    pub async fn shutdown(&self) {
        self.stop_background();
        self.stopper.stop();
        let mut state: OwnedMutexGuard<Option<State>> = Arc::clone(&self.state).lock_owned().await;
        if let Some(state) = state.take() {
            // Closing a connection may wait for it.
            let _ = tokio::task::spawn_blocking(move || drop(state)).await;
        }
    }
}

fn ended(error: &tokio::task::JoinError) -> Error {
    Error::Engine(format!("a sync ended: {error}"))
}
