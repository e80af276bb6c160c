//! Start of replication, from nothing or from the replicas in a store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Mutex as AsyncMutex;
use vexact_core::error::{Error, Result};
use vexact_replica::{Replicas, SyncMode};

use super::background::Background;
use super::durable::{Found, Mark};
use super::position::{self, Position, Storage};
use super::state::State;
use super::{ReplicationOptions, Replicator, absent};
use crate::oltp::capture::Registered;
use crate::oltp::{Oltp, capture, limit, log, meta, uninstall};

impl Replicator {
    /// Starts with the tables that are registered in the file: their replicas are copied, or
    /// restored from the store and continued.
    ///
    /// # Errors
    /// A file that cannot be read, or a lease beside it that cannot be taken; a store that is
    /// damaged, or of another sync mode.
    pub async fn start(oltp: Arc<Oltp>, replicas: Arc<Replicas>, mut options: ReplicationOptions) -> Result<Self> {
        let mode = options.mode;
        let mut folder = None;
        let mut found = match options.store.take() {
            Some(store) => {
                // A process that looks for the folder may have another working directory.
                folder = Some(store.folder().canonicalize().map_err(|error| Error::io(store.folder(), error))?);
                let read = tokio::task::spawn_blocking(move || Found::read(store, position::new_id(), mode)).await;
                Some(read.map_err(|error| Error::Engine(format!("reading the storage ended: {error}")))??)
            }
            None => None,
        };
        if !oltp.is_read_only() {
            position::remove_stale_locks(oltp.path());
        }
        let position = Arc::new(match found.as_mut().zip(folder) {
            _ if oltp.is_read_only() => Position::reader(oltp.path()),
            Some((found, folder)) => {
                let storage = Storage { folder, is_temporal: mode == SyncMode::Temporal };
                let position = Position::lasting(oltp.path(), found.durable.engine.clone(), storage)?;
                found.durable.engine = position.id().to_owned();
                position
            }
            None => Position::lease(oltp.path())?,
        });
        let stored = found.as_ref().and_then(Found::mark);
        let Beginning { goes_on, log_end, registered, time, warning } =
            Beginning::enter(Arc::clone(&oltp), Arc::clone(&position), stored).await?;
        let mut state = State {
            mode,
            tables: BTreeMap::new(),
            applied_seq: goes_on.unwrap_or(log_end),
            log_end,
            applied_time: time,
            file: None,
            last_time: 0,
            schema_version: None,
            row_ids_version: None,
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
            warning,
            background: Background::default(),
        };
        let state = Arc::clone(&replicator.state).lock_owned().await;
        replicator.cycle(state).await?;
        Ok(replicator)
    }
}

/// State of the file when an engine starts.
struct Beginning {
    /// Position at which the stored replicas continue; `None` if they cannot.
    goes_on: Option<i64>,
    log_end: i64,
    /// Time in the log row at which the engine starts.
    time: Option<i64>,
    registered: Vec<Registered>,
    warning: Option<String>,
}

impl Beginning {
    /// Writes the position to the file before anything is read, so that no other engine prunes the
    /// changes after it. If another program is writing, a later cycle writes it: if changes are
    /// pruned until then, the cycle detects it and copies the tables.
    async fn enter(oltp: Arc<Oltp>, position: Arc<Position>, stored: Option<Mark>) -> Result<Self> {
        let enter = move || {
            if oltp.is_read_only() {
                return oltp.read_here(|conn| Self::read(conn, &position, stored));
            }
            let entering = Arc::clone(&position);
            let enter = move |tx: &Connection| {
                meta::check(tx)?;
                if uninstall::is_broken(tx)? {
                    uninstall::mend(tx, &[], 0)?;
                } else {
                    limit::begin_anew(tx)?;
                }
                let found = Self::read(tx, &entering, stored)?;
                if log::exists(tx)? {
                    entering.enter(tx, found.begin())?;
                }
                Ok(found)
            };
            // The first cycle writes the position again, and prunes the log.
            match oltp.write_soon(enter, |_| ())? {
                Some(found) => Ok(found),
                None => oltp.read_here(|conn| Self::read(conn, &position, stored)),
            }
        };
        let ended = |error| Err(Error::Engine(format!("reading the change log ended: {error}")));
        tokio::task::spawn_blocking(enter).await.unwrap_or_else(ended)
    }

    fn begin(&self) -> i64 {
        self.goes_on.unwrap_or(self.log_end)
    }

    fn read(conn: &Connection, position: &Position, stored: Option<Mark>) -> Result<Self> {
        meta::check(conn)?;
        if uninstall::is_broken(conn)? {
            // The first cycle repairs the log.
            return Ok(Self { goes_on: None, log_end: 0, time: None, registered: Vec::new(), warning: None });
        }
        let log_end = log::last_seq(conn)?;
        let known = position.entered(conn)?;
        let has_position = |mark: Mark| position.is_reader() || known.map_or(log_end == 0, |known| known <= mark.seq);
        // The stored replicas continue only if this is their log and it still has all changes
        // since.
        let goes_on = match stored {
            Some(mark) if has_position(mark) && !limit::is_full(conn)? && mark.is_of(conn)? => Some(mark.seq),
            _ => None,
        };
        let registered = capture::registered(conn)?;
        let warning = absent::warning(conn, position.database())?;
        let found = Self { goes_on, log_end, time: None, registered, warning };
        Ok(Self { time: log::time_at(conn, found.begin())?, ..found })
    }
}
