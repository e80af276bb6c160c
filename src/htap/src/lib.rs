//! The engine: SQLite for writes, replicas for analytics and search, in one process.

mod config;
#[cfg(feature = "duckdb-linked")]
mod duckdb;
mod export;
mod fallback;
mod followers;
mod local;
mod names;
mod olap;
mod query;
mod read_columns;
mod route;
mod search;
mod statements;
mod text;
mod typing;

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use vexact_core::disk::FileSystem;
use vexact_core::error::{Error, Result};
use vexact_core::schema::{ColumnType, TableSchema};
use vexact_replica::{Replicas, StorageFormat, Store};
use vexact_session::{Session, SessionOptions};
use vexact_sidecar::Sidecar;
use vexact_sqlite::oltp::Lookup;
use vexact_sqlite::replication::{RegisterOutcome, SyncResult, SyncStatus};

pub use config::{HtapConfig, OlapBackend, StorageMode};
use followers::Followers;
use local::{Local, opened};
use names::{EngineNames, TableNames};
pub use search::{bind_filter, bound_filter};
pub use vexact_core::param::{Argument, Param, Params, Statement};
use vexact_sqlite::oltp::infer::infer;
pub use vexact_sqlite::oltp::infer::{Blobs, InferredColumn, InferredTable};
pub use vexact_sqlite::oltp::{Collation, FunctionDefinition, ScalarFunction};

/// A SQLite database with columnar replicas of its tables, or replicas of a database that it
/// follows, or both. Its methods need a tokio runtime and never block its threads.
#[derive(Debug)]
pub struct HtapEngine {
    /// Local SQLite database; `None` if the engine only follows a source.
    local: Option<Local>,
    followers: Followers,
    replicas: Arc<Replicas>,
    session: Session,
    /// Set at shutdown, which cancels running reads.
    ended: watch::Sender<bool>,
    /// DuckDB engine; `None` if DataFusion answers all queries.
    #[cfg(feature = "duckdb-linked")]
    duckdb: Option<crate::duckdb::DuckDb>,
}

impl HtapEngine {
    /// Opens the database, or creates it, and copies the replicas of the tables that are registered
    /// in it.
    ///
    /// # Errors
    /// Settings that contradict each other; a file that cannot be opened.
    pub async fn open(config: HtapConfig) -> Result<Self> {
        config.check()?;
        let format = match config.storage_mode {
            StorageMode::InMemory => None,
            StorageMode::ArrowIpc => Some(StorageFormat::ArrowIpc),
            StorageMode::Parquet => Some(StorageFormat::Parquet),
        };
        let replicas = Arc::new(Replicas::default());
        let options = SessionOptions { tier: config.tier, ..SessionOptions::default() };
        let session = Session::over_replicas(&options, Arc::clone(&replicas))?;
        let mut store = match format.zip(config.storage_path.clone()) {
            Some((format, folder)) => {
                let indexes = Arc::clone(&replicas);
                let open = move || {
                    let store = Store::open(&folder, format, Arc::new(FileSystem))?;
                    indexes.keep_text_in(folder)?;
                    Ok(Arc::new(store))
                };
                Some(opened(open).await?)
            }
            None => None,
        };
        let sidecar = match &config.sidecar {
            // The followed tables come before the replicas of the engine's own tables, because
            // stored replicas replace everything.
            Some(sidecar) => {
                let into = Arc::clone(&replicas);
                Some(Arc::new(Sidecar::start(sidecar, config.sync_mode, into, store.take()).await?))
            }
            None => None,
        };
        let local = match &config.sidecar {
            Some(sidecar) if !sidecar.enable_oltp => None,
            _ => Some(
                Local::open(&config, sidecar.as_deref(), Arc::clone(&replicas), store, session.scheduler().clone())
                    .await?,
            ),
        };
        let log = local.as_ref().map(|local| Arc::clone(&local.replicator));
        #[cfg(feature = "duckdb-linked")]
        let duckdb = match config.olap_backend {
            OlapBackend::DataFusion => None,
            OlapBackend::DuckDb => Some(opened(crate::duckdb::DuckDb::open).await?),
        };
        if let Some(local) = &local {
            let oltp = Arc::downgrade(&local.oltp);
            session.set_sqlite_functions(move |conn, from| {
                oltp.upgrade().map_or(Ok(from), |oltp| oltp.install_functions(conn, from))
            });
        }
        let followers = Followers { log, sidecar };
        text::resume(&replicas, local.as_ref(), &followers).await?;
        // A session does not keep its engine alive.
        let log = followers.log.as_ref().map(Arc::downgrade);
        let sidecar = followers.sidecar.as_ref().map(Arc::downgrade);
        session.refuse_searches_of(move || {
            let log = log.as_ref().and_then(Weak::upgrade);
            Followers { log, sidecar: sidecar.as_ref().and_then(Weak::upgrade) }.unloaded()
        });
        Ok(Self {
            local,
            followers,
            replicas,
            session,
            ended: watch::Sender::new(false),
            #[cfg(feature = "duckdb-linked")]
            duckdb,
        })
    }

    /// Returns the engine's own SQLite file, for operations that need it.
    fn local(&self, what: &str) -> Result<&Local> {
        self.local.as_ref().ok_or_else(|| {
            let source = self.followers.sidecar.as_ref().map_or("", |sidecar| sidecar.source());
            Error::Engine(format!(
                "{what} is refused: the engine follows {source}, which it never writes; with sidecar_enable_oltp it has a SQLite \
                 file of its own"
            ))
        })
    }

    /// As [`Self::local`], for one table, which must not be a followed one.
    fn local_of(&self, what: &str, table: &str) -> Result<&Local> {
        match &self.followers.sidecar {
            Some(sidecar) if sidecar.follows(table) => Err(Error::Engine(format!(
                "{what} of table {table:?} is refused: it is followed in {}, which the engine never writes",
                sidecar.source()
            ))),
            _ => self.local(what),
        }
    }

    async fn names(&self) -> Result<EngineNames<'_>> {
        Ok(EngineNames {
            session: &self.session,
            snapshot: self.replicas.snapshot(),
            sqlite: match &self.local {
                Some(local) => local.tables.current(&local.oltp).await?,
                None => TableNames::default(),
            },
            followed: match &self.followers.sidecar {
                Some(sidecar) => sidecar.tables().iter().map(|table| table.to_ascii_lowercase()).collect(),
                None => Vec::new(),
            },
        })
    }

    /// Runs work until the engine is shut down; then the work is dropped.
    async fn until_end<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut ended = self.ended.subscribe();
        tokio::select! {
            done = work => done,
            _ = ended.wait_for(|ended| *ended) => Err(Error::shut_down()),
        }
    }

    /// Returns a lookup of the schemas of registered tables.
    fn registered(&self) -> Lookup {
        let snapshot = self.replicas.snapshot();
        Arc::new(move |table: &str| {
            let schema = snapshot.table(table)?.version.definition().table_schema()?;
            Some(Arc::new(schema))
        })
    }

    /// Infers the columns, the types and the key of a table of the engine's SQLite file, for
    /// [`Self::register_table`]. `blobs` says what BLOB columns hold.
    ///
    /// # Errors
    /// As [`vexact_sqlite::oltp::infer::infer`].
    pub async fn infer_table(&self, table: &str, blobs: Vec<(String, Blobs)>) -> Result<InferredTable> {
        let table = table.to_owned();
        self.local("infer_schema")?.oltp.read(move |conn| infer(conn, &table, &blobs)).await
    }

    /// Captures the changes of a table and creates its replica.
    ///
    /// # Errors
    /// As [`Replicator::register`].
    pub async fn register_table(&self, schema: TableSchema, initial_sync: bool) -> Result<RegisterOutcome> {
        let local = self.local_of("register_table", schema.name())?;
        local.replicator.register(schema, initial_sync).await
    }

    /// Ends the registration of a table, even if the table no longer exists, and drops its replica.
    ///
    /// # Errors
    /// As [`Replicator::unregister`].
    pub async fn unregister_table(&self, table: &str) -> Result<()> {
        self.local_of("unregister_table", table)?.replicator.unregister(table).await?;
        self.unregister_text(table, &[]).await
    }

    /// Runs one sync cycle.
    ///
    /// # Errors
    /// As [`Replicator::sync_now`].
    pub async fn sync_now(&self) -> Result<SyncResult> {
        self.followers.sync_now().await
    }

    /// Runs sync cycles up to the log's end at the time of the call.
    ///
    /// # Errors
    /// As [`Replicator::sync_all`].
    pub async fn sync_all(&self) -> Result<SyncResult> {
        self.followers.sync_all().await
    }

    /// Returns the status of replication.
    ///
    /// # Errors
    /// As [`Replicator::status`].
    pub async fn sync_status(&self) -> Result<SyncStatus> {
        self.followers.status().await
    }

    /// Copies all rows of a registered table, and returns their number.
    ///
    /// # Errors
    /// As [`Replicator::initial_sync`].
    pub async fn initial_sync(&self, table: &str) -> Result<u64> {
        match &self.followers.sidecar {
            Some(sidecar) if sidecar.follows(table) => sidecar.initial_sync(table).await,
            _ => self.local("initial_sync")?.replicator.initial_sync(table).await,
        }
    }

    /// Adds a column to a registered table.
    ///
    /// # Errors
    /// As [`Replicator::add_column`].
    pub async fn add_column(&self, table: &str, column: &str, column_type: ColumnType) -> Result<()> {
        self.local_of("add_column", table)?.replicator.add_column(table, column, column_type).await
    }

    /// Drops a column of a registered table.
    ///
    /// # Errors
    /// As [`Replicator::drop_column`].
    pub async fn drop_column(&self, table: &str, column: &str) -> Result<()> {
        self.local_of("drop_column", table)?.replicator.drop_column(table, column).await
    }

    /// Returns a warning about the file from the time when it was opened: a long change log, and
    /// the engines that it is retained for.
    pub fn warning(&self) -> Option<&str> {
        self.local.as_ref()?.replicator.warning()
    }

    /// Removes the position of an engine that does not run from the change log, so that the log is
    /// no longer retained for it; returns the number of changes that were pruned. Positions are in
    /// [`Self::sync_status`].
    ///
    /// # Errors
    /// As [`vexact_sqlite::replication::Replicator::drop_position`].
    pub async fn drop_position(&self, id: &str) -> Result<u64> {
        self.local("drop_position")?.replicator.drop_position(id).await
    }

    /// Starts periodic syncs in the background.
    pub fn start_sync(&self, interval: Duration) {
        self.followers.start_background(interval);
    }

    /// Stops the background sync. Idempotent.
    pub fn stop_sync(&self) {
        self.followers.stop_background();
    }

    /// Returns a session on the same catalog: files and Arrow tables beside the replicas.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Shuts down threads, connections and files. Idempotent; later calls of other methods are
    /// errors, and a session keeps the replicas unchanged.
    pub async fn shutdown(&self) {
        self.ended.send_replace(true);
        self.followers.shutdown().await;
        if let Some(local) = &self.local {
            local.oltp.shutdown().await;
        }
    }
}

/// Removes from a SQLite file everything that replication created in it, in one transaction, and
/// returns the names of the removed objects.
///
/// # Errors
/// As [`vexact_sqlite::oltp::uninstall::uninstall`].
pub async fn uninstall(path: impl Into<PathBuf>) -> Result<Vec<String>> {
    let path = path.into();
    opened(move || vexact_sqlite::oltp::uninstall::uninstall(&path)).await
}
