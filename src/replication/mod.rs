//! How replicas catch up: the initial copy, the sync cycle, progress.
//!
//! A cycle reads the log and what it copies in one read snapshot, and publishes all tables together. One runs at a time; it runs
//! to its end whoever waits for it.

mod changes;
mod copy;
mod cycle;
mod durable;
mod position;
mod status;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::oltp::{Oltp, capture, log};
use crate::replica::{Replicas, Store, SyncMode};
use crate::schema::{ColumnType, TableSchema};

use cycle::{Followed, Outcome, State};
use durable::{Durable, Found};
use position::Position;
pub use status::{SyncResult, SyncStatus, TableCondition, TableStatus};

/// How replication goes about it.
#[derive(Debug, Clone)]
pub struct ReplicationOptions {
    /// How replicas follow.
    pub mode: SyncMode,
    /// Whether the log is cut to what replicas still need.
    pub prunes: bool,
    /// Changes of one cycle, before it is extended to the end of a transaction.
    pub batch_size: u64,
    /// Where replicas are kept; `None`: in memory.
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
    position: Arc<Mutex<Option<Arc<Position>>>>,
    is_compacting: Arc<AtomicBool>,
    last_error: Mutex<Option<String>>,
    background: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Replicator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Replicator({:?})", self.oltp)
    }
}

/// What a registration found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisterOutcome {
    /// Rows that the table has and the replica lacks, until an initial sync.
    pub unloaded_rows: u64,
}

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
        let stored_seq = found.as_ref().and_then(Found::applied_seq);
        // Before anything is read, so that nobody prunes what comes after it.
        let (applied_seq, registered) = oltp
            .write(move |tx| {
                let last = log::last_seq(tx)?;
                let known = entered.entered(tx)?;
                // What is stored goes on only if the log still has everything since.
                let goes_on =
                    stored_seq.filter(|seq| *seq <= last && (known.is_some_and(|known| known <= *seq) || last == 0));
                if log::exists(tx)? {
                    entered.enter(tx, goes_on.unwrap_or(last))?;
                }
                Ok((goes_on, if goes_on.is_some() { capture::registered(tx)? } else { Vec::new() }))
            })
            .await?;
        let last = oltp.read(log::last_seq).await?;
        let mut state = State {
            mode: options.mode,
            tables: BTreeMap::new(),
            applied_seq: applied_seq.unwrap_or(last),
            log_end: last,
            last_time: 0,
            has_synced: false,
            schema_version: None,
        };
        if let (Some(found), Some(_)) = (&found, applied_seq) {
            found.restore(&replicas, &mut state, &registered)?;
        }
        let replicator = Self {
            oltp,
            replicas,
            options,
            state: Arc::new(AsyncMutex::new(state)),
            durable: Mutex::new(found.map(|found| found.durable)),
            position: Arc::new(Mutex::new(Some(position))),
            is_compacting: Arc::default(),
            last_error: Mutex::default(),
            background: Mutex::default(),
        };
        let state = Arc::clone(&replicator.state).lock_owned().await;
        replicator.cycle(state).await?;
        replicator.state.lock().await.has_synced = false;
        Ok(replicator)
    }

    /// The replicas.
    pub fn replicas(&self) -> &Arc<Replicas> {
        &self.replicas
    }

    /// One cycle: at most `batch_size` changes, extended to the next end of a transaction that is known.
    ///
    /// # Errors
    /// SQLite's. A table that cannot follow is no error of the cycle: see [`Self::status`].
    pub async fn sync_now(&self) -> Result<SyncResult> {
        let state = Arc::clone(&self.state).lock_owned().await;
        let result = self.cycle(state).await;
        self.note(&result);
        result
    }

    /// Cycles until the log's end at the time of the call is reached; the sums.
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
            if state.applied_seq >= *end.get_or_insert(state.log_end) {
                return Ok(sum);
            }
        }
    }

    fn note<T>(&self, result: &Result<T>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) =
            result.as_ref().err().map(|error| error.to_string());
    }

    /// Runs a cycle to its end, also if the caller goes away.
    async fn cycle(&self, state: OwnedMutexGuard<State>) -> Result<SyncResult> {
        let worker = self.worker()?;
        let ended = |error| Err(Error::Engine(format!("a sync ended: {error}")));
        tokio::spawn(worker.run(state)).await.unwrap_or_else(ended)
    }

    fn worker(&self) -> Result<Worker> {
        Ok(Worker {
            oltp: Arc::clone(&self.oltp),
            replicas: Arc::clone(&self.replicas),
            options: self.options.clone(),
            durable: self.durable.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            position: self.position()?,
            is_compacting: Arc::clone(&self.is_compacting),
        })
    }

    fn position(&self) -> Result<Arc<Position>> {
        let position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        position.clone().ok_or_else(|| Error::Engine("the engine was shut down".into()))
    }

    /// Captures a table and makes its replica. With `initial_sync`, the rows that it has are copied.
    ///
    /// # Errors
    /// A table that is registered already, by this engine or with another schema; else as [`capture::install`].
    pub async fn register(&self, schema: TableSchema, initial_sync: bool) -> Result<RegisterOutcome> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        if state.find(schema.name()).is_none() {
            // Another engine may have registered it since the last cycle.
            let name = schema.name().to_owned();
            if self.oltp.read(move |conn| capture::find(conn, &name)).await?.is_some() {
                self.cycle(state).await?;
                state = Arc::clone(&self.state).lock_owned().await;
            }
        }
        if let Some(followed) = state.find(schema.name()) {
            if followed.is_claimed {
                return Err(Error::Engine(format!("table {:?} is already registered", schema.name())));
            }
            if !followed.schema.is_same(&schema) {
                return Err(Error::Engine(format!(
                    "table {:?} is already registered with another schema: expected {}, got {schema}",
                    schema.name(),
                    followed.schema
                )));
            }
            followed.is_claimed = true;
            let needs_copy = !followed.is_loaded;
            drop(state);
            if needs_copy && initial_sync {
                self.initial_sync(schema.name()).await?;
            }
            return Ok(RegisterOutcome { unloaded_rows: 0 });
        }
        let position = self.position()?;
        let applied_seq = state.applied_seq;
        let (registered, rows) = self
            .oltp
            .write(move |tx| {
                let registered = capture::install(tx, &schema)?;
                position.enter(tx, applied_seq)?;
                let name = schema.name().replace('"', "\"\"");
                let count = tx.query_row(&format!("SELECT count(*) FROM \"{name}\""), [], |row| row.get::<_, i64>(0));
                let count = count.map_err(|source| Error::Sqlite { context: "counting rows".into(), source })?;
                Ok((registered, count.unsigned_abs()))
            })
            .await?;
        let mut followed = Followed::new(&registered, state.mode);
        followed.is_claimed = true;
        followed.needs_copy = initial_sync || rows == 0;
        let needs_copy = followed.needs_copy;
        if !needs_copy {
            followed.publish_empty(&self.replicas, state.applied_seq);
        }
        state.tables.insert(registered.id, followed);
        if needs_copy {
            let has_synced = state.has_synced;
            self.cycle(state).await?;
            self.state.lock().await.has_synced = has_synced;
            self.check(registered.schema.name()).await?;
        } else {
            self.worker()?.save(state).await?;
        }
        Ok(RegisterOutcome { unloaded_rows: if needs_copy { 0 } else { rows } })
    }

    /// The error of a table that failed.
    async fn check(&self, table: &str) -> Result<()> {
        match self.state.lock().await.find(table).and_then(|followed| followed.error.clone()) {
            Some(error) => Err(Error::Engine(error)),
            None => Ok(()),
        }
    }

    /// Copies all rows of a table, in the place of what its replica has; in a history the differences become versions. The number
    /// of rows. The other tables come to the same position of the log.
    ///
    /// # Errors
    /// A table that is not registered, or values that its columns cannot hold.
    pub async fn initial_sync(&self, table: &str) -> Result<u64> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let Some(followed) = state.find(table) else { return Err(not_registered(table)) };
        followed.needs_copy = true;
        let result = self.cycle(state).await;
        self.note(&result);
        result?;
        self.check(table).await?;
        let snapshot = self.replicas.snapshot();
        let rows = snapshot.table(table).map_or(0, |state| state.version.num_current_rows());
        Ok(rows as u64)
    }

    /// Adds a column to a registered table: in SQLite, where it is not there yet, and in the replica, whose rows get the values that
    /// they have in SQLite.
    ///
    /// # Errors
    /// A table that is not registered, a column that is there; SQLite's.
    pub async fn add_column(&self, table: &str, column: &str, column_type: ColumnType) -> Result<()> {
        self.alter(table, Alteration::Add(column.to_owned(), column_type)).await
    }

    /// Drops a column of a table, in SQLite and in the replica.
    ///
    /// # Errors
    /// A table that is not registered, a column that is not there or belongs to the key; SQLite's.
    pub async fn drop_column(&self, table: &str, column: &str) -> Result<()> {
        self.alter(table, Alteration::Drop(column.to_owned())).await
    }

    async fn alter(&self, table: &str, alteration: Alteration) -> Result<()> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let Some(id) =
            state.tables.iter().find(|(_, t)| t.schema.name().eq_ignore_ascii_case(table)).map(|(id, _)| *id)
        else {
            return Err(not_registered(table));
        };
        let table_name = table.to_owned();
        let registered = self
            .oltp
            .write(move |tx| {
                // Another engine may have altered it since the last cycle.
                let registered = capture::registered(tx)?.into_iter().find(|registered| registered.id == id);
                let before = registered.ok_or_else(|| not_registered(&table_name))?.schema;
                let altered = alteration.schema(&before)?;
                capture::suspend(tx, id)?;
                alteration.alter(tx, &before)?;
                capture::reinstall(tx, id, &altered)
            })
            .await?;
        if let Some(followed) = state.tables.get_mut(&id) {
            *followed = followed.registered_anew(&registered, self.options.mode);
        }
        self.cycle(state).await?;
        self.check(table).await
    }

    /// Where replication stands. Changes nothing.
    ///
    /// # Errors
    /// SQLite's.
    pub async fn status(&self) -> Result<SyncStatus> {
        let (applied_seq, has_synced, tables) = {
            let state = self.state.lock().await;
            (state.applied_seq, state.has_synced, state.tables.clone())
        };
        let lag = self.oltp.read(move |conn| log::lag(conn, applied_seq)).await?;
        let snapshot = self.replicas.snapshot();
        let table = |followed: &Followed| TableStatus {
            name: followed.schema.name().to_owned(),
            rows: snapshot.table(followed.schema.name()).map_or(0, |state| state.version.num_rows() as u64),
            lag: lag.iter().filter(|(version, _)| *version == followed.version).map(|(_, count)| count).sum(),
            state: match (&followed.error, followed.is_loaded) {
                (Some(_), _) => TableCondition::Failed,
                (None, true) => TableCondition::Ready,
                (None, false) => TableCondition::NotLoaded,
            },
            last_error: followed.error.clone(),
        };
        let mut tables: Vec<TableStatus> = tables.values().map(table).collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        let last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(SyncStatus {
            lag: lag.iter().map(|(_, count)| count).sum(),
            last_synced_seq: has_synced.then_some(applied_seq),
            last_error: last_error.or_else(|| tables.iter().find_map(|table| table.last_error.clone())),
            tables,
        })
    }

    /// The registered schema of a table.
    pub async fn schema(&self, table: &str) -> Option<TableSchema> {
        self.state.lock().await.find(table).map(|followed| followed.schema.clone())
    }

    /// Syncs again and again in the background, until [`Self::stop_background`]. Its errors are in the status.
    pub fn start_background(self: &Arc<Self>, interval: Duration) {
        let weak = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(replicator) = weak.upgrade() else { return };
                // The error is noted.
                let _ = replicator.sync_all().await;
            }
        });
        let before = self.background.lock().unwrap_or_else(PoisonError::into_inner).replace(task);
        if let Some(before) = before {
            before.abort();
        }
    }

    /// Ends the background sync; a cycle that runs goes on to its end. Harmless to repeat.
    pub fn stop_background(&self) {
        if let Some(task) = self.background.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }

    /// Ends replication: waits for a running cycle and gives the lease back. Harmless to repeat.
    pub async fn shutdown(&self) {
        self.stop_background();
        let _state = self.state.lock().await;
        let position = self.position.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Its folder can be opened again.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(position) = position {
            // A position that stays is found dead by the next engine.
            let _ = self.oltp.write(move |tx| position.leave(tx)).await;
        }
    }
}

fn not_registered(table: &str) -> Error {
    Error::Engine(format!("table {table:?} is not registered: register_table captures it"))
}

enum Alteration {
    Add(String, ColumnType),
    Drop(String),
}

impl Alteration {
    /// The schema after it.
    fn schema(&self, schema: &TableSchema) -> Result<TableSchema> {
        let mut columns = schema.columns().to_vec();
        let key: Vec<String> = schema.key().iter().map(|at| columns[*at].name.clone()).collect();
        match self {
            Alteration::Add(name, column_type) => {
                if schema.position(name).is_some() {
                    return Err(Error::Engine(format!("table {:?} already has a column {name:?}", schema.name())));
                }
                columns.push(crate::schema::Column { name: name.clone(), column_type: *column_type });
            }
            Alteration::Drop(name) => {
                let Some(at) = schema.position(name) else {
                    return Err(Error::Engine(format!("table {:?} has no column {name:?}", schema.name())));
                };
                if schema.key().contains(&at) {
                    return Err(Error::Engine(format!(
                        "column {name:?} belongs to the key of table {:?} and cannot be dropped",
                        schema.name()
                    )));
                }
                columns.remove(at);
            }
        }
        TableSchema::of_columns(schema.name(), columns, &key)
    }

    fn alter(&self, tx: &rusqlite::Connection, schema: &TableSchema) -> Result<()> {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let table = quoted(schema.name());
        let failed = |context: &str| {
            let context = context.to_owned();
            move |source| Error::Sqlite { context, source }
        };
        let sql = match self {
            // A migration may have added it already.
            Alteration::Add(name, _) if column_exists(tx, schema.name(), name).map_err(failed(&table))? => {
                return Ok(());
            }
            Alteration::Add(name, column_type) => {
                format!("ALTER TABLE {table} ADD COLUMN {} {}", quoted(name), column_type.sqlite())
            }
            Alteration::Drop(name) => format!("ALTER TABLE {table} DROP COLUMN {}", quoted(name)),
        };
        tx.execute_batch(&sql).map_err(failed(&sql))
    }
}

fn column_exists(tx: &rusqlite::Connection, table: &str, column: &str) -> rusqlite::Result<bool> {
    tx.query_row(
        "SELECT EXISTS (SELECT 1 FROM pragma_table_xinfo(?1) WHERE name = ?2 COLLATE NOCASE)",
        (table, column),
        |row| row.get(0),
    )
}

/// What a cycle needs, on its own.
struct Worker {
    oltp: Arc<Oltp>,
    replicas: Arc<Replicas>,
    options: ReplicationOptions,
    durable: Option<Durable>,
    position: Arc<Position>,
    is_compacting: Arc<AtomicBool>,
}

impl Worker {
    /// Makes the replicas durable, where they are to be.
    async fn save(&self, state: OwnedMutexGuard<State>) -> Result<OwnedMutexGuard<State>> {
        let Some(durable) = self.durable.clone() else { return Ok(state) };
        let replicas = Arc::clone(&self.replicas);
        let save = move || durable.save(&replicas, &state).map(|()| state);
        let ended = |error| Err(Error::Engine(format!("a save ended: {error}")));
        tokio::task::spawn_blocking(save).await.unwrap_or_else(ended)
    }

    async fn run(self, mut state: OwnedMutexGuard<State>) -> Result<SyncResult> {
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
