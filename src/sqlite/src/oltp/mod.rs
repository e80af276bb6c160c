//! Runs statements on SQLite, and captures committed changes as typed rows in the change log.
//!
//! One thread writes ([`Oltp::write`]), a pool of read-only connections reads ([`Oltp::read`]).
//! [`capture`] registers the tables whose changes are logged, [`log`] is the log. Both work on
//! plain connections, because their whole state is in the file.
//!
//! The connections have the SQL function `vector('[1,2,3]')`. Foreign keys are enforced, unless
//! `PRAGMA foreign_keys = OFF` is executed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use rusqlite::Connection;
use rusqlite::types::Value;
use vexact_cooperative::Scheduler;
use vexact_core::database_path::DatabasePath;
use vexact_core::error::{Error, Result};

pub mod capture;
mod check;
pub mod column;
mod components;
mod connection;
mod displaced;
mod dynamic;
mod expression;
mod extensions;
mod file_id;
mod guard;
pub mod infer;
mod last_write;
mod like;
pub(crate) mod limit;
pub mod log;
pub(crate) mod meta;
mod query;
mod readers;
mod reference;
mod statement;
mod table;
pub mod text;
mod trigger;
pub mod uninstall;
mod writer;

#[cfg(test)]
mod tests;

pub use extensions::{Collation, FunctionDefinition, ScalarFunction};
pub use file_id::FileId;
pub use query::{Lookup, ResultTypes};
pub(crate) use table::row_id_name;

/// More threads only saturate memory bandwidth.
const MOST_COPYING_THREADS: u32 = 8;

/// Options of opening a file.
#[derive(Debug, Clone)]
pub struct OltpOptions {
    /// Readers at one time, at least 1.
    pub read_pool_size: u32,
    /// Maximum time that a statement waits for other programs' locks.
    pub busy_timeout: Duration,
    /// Reserved names, which statements cannot give to tables and views.
    pub reserved_tables: Vec<String>,
    /// Scheduler of its work and of the queries of its engine.
    pub scheduler: Scheduler,
}

impl Default for OltpOptions {
    fn default() -> Self {
        Self {
            read_pool_size: 4,
            busy_timeout: Duration::from_secs(5),
            reserved_tables: Vec::new(),
            scheduler: Scheduler::default(),
        }
    }
}

/// A SQLite file, open for statements and queries, or for queries alone. Its methods need a tokio
/// runtime and never block its threads.
pub struct Oltp {
    path: PathBuf,
    /// The writing connection; `None` if the file is read-only.
    writer: Option<writer::Writer>,
    readers: readers::Readers,
    /// Connections outside the pool: one for a sync, the others for its parallel copies.
    sync_readers: readers::Readers,
    /// Readers with `busy_timeout = 0`: they fail at once if the file is locked.
    nonblocking_readers: readers::Readers,
    copying_threads: u32,
    shared: Arc<connection::Shared>,
}

impl std::fmt::Debug for Oltp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Oltp({})", self.path.display())
    }
}

impl Oltp {
    /// Opens a file, or creates it, in WAL mode. With a URI, `file:app.db?mode=ro`, it is opened
    /// read-only. Blocks.
    ///
    /// # Errors
    /// A `read_pool_size` of 0; an empty path; a file that is no database or cannot be written; a
    /// read-only file that does not exist.
    pub fn open(path: impl AsRef<Path>, options: OltpOptions) -> Result<Self> {
        const MOST_READERS: u32 = 1024;
        if !(1..=MOST_READERS).contains(&options.read_pool_size) {
            let got = options.read_pool_size;
            return Err(Error::InvalidArgument(format!("read_pool_size: expected 1 to {MOST_READERS}, got {got}")));
        }
        let DatabasePath { path, is_read_only } = DatabasePath::parse("oltp_path", path.as_ref())?;
        let path = connection::resolve_path(&path)?;
        let shared = Arc::new(connection::Shared {
            is_read_only,
            scheduler: options.scheduler.clone(),
            ..connection::Shared::default()
        });
        let writer = if is_read_only {
            if !path.try_exists().map_err(|error| Error::io(&path, error))? {
                return Err(Error::FileNotFound { path });
            }
            // An error of the file is one of this call.
            drop(connection::open_reader(&path, options.busy_timeout, &shared)?);
            None
        } else {
            let opened = connection::open_writer(&path, options.busy_timeout, &shared)?;
            opened.guard.reserve(options.reserved_tables);
            Some(writer::Writer::start(path.clone(), opened)?)
        };
        let readers = readers::Readers::new(
            path.clone(),
            options.read_pool_size,
            options.busy_timeout,
            readers::JobKind::Query,
            &shared,
        );
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let copying_threads = cores.min(MOST_COPYING_THREADS);
        let sync_readers = readers::Readers::new(
            path.clone(),
            copying_threads,
            options.busy_timeout,
            readers::JobKind::Background,
            &shared,
        );
        let nonblocking_readers =
            readers::Readers::new(path.clone(), cores, Duration::ZERO, readers::JobKind::Query, &shared);
        Ok(Self { path, writer, readers, sync_readers, nonblocking_readers, copying_threads, shared })
    }

    /// The file, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the engine does not write to the file.
    pub fn is_read_only(&self) -> bool {
        self.writer.is_none()
    }

    /// Rejects a write to a read-only file. `what` names the operation, `instead` the alternative.
    ///
    /// # Errors
    /// [`Error::Engine`]: a read-only file.
    pub fn check_writable(&self, what: &str, instead: &str) -> Result<()> {
        self.writer(what, instead).map(drop)
    }

    fn writer(&self, what: &str, instead: &str) -> Result<&writer::Writer> {
        self.writer.as_ref().ok_or_else(|| {
            let path = self.path.display();
            Error::Engine(format!("{what} is refused: {path} is opened read-only (mode=ro): {instead}"))
        })
    }

    /// The writer, for a statement of the user.
    fn user_writer(&self, call: &str) -> Result<&writer::Writer> {
        self.writer(call, "open it by its path to write it")
    }

    fn own_writer(&self) -> Result<&writer::Writer> {
        self.writer("a write of the engine", "this is an error of vexact")
    }

    /// Runs one DML or DDL statement in its own transaction; returns the number of affected rows, 0
    /// for DDL. `?` and `$1` bind.
    ///
    /// # Errors
    /// Before any effect: a NUL character, not exactly one statement, one that returns rows,
    /// transaction control, ATTACH, VACUUM, most PRAGMAs, writes to the engine's own tables, a
    /// wrong number of parameters. Else SQLite's; a value that a registered type cannot hold names
    /// table, column, expected and what was bound. After an error nothing is changed.
    pub async fn execute(&self, sql: impl Into<String>, params: Vec<Value>) -> Result<u64> {
        let sql = sql.into();
        self.user_writer("execute")?.run(move |opened| statement::execute(opened, &sql, &params)).await
    }

    /// Runs statements atomically in one transaction; returns the total number of affected rows.
    ///
    /// # Errors
    /// As [`Self::execute`], with the number and the beginning of the statement.
    pub async fn execute_batch(&self, statements: Vec<(String, Vec<Value>)>) -> Result<u64> {
        self.user_writer("execute_batch")?.run(move |opened| statement::execute_batch(opened, &statements)).await
    }

    /// Runs one INSERT, UPDATE or DELETE with RETURNING in its own transaction; returns its rows,
    /// typed as those of [`Self::query`].
    ///
    /// # Errors
    /// As [`Self::execute`]; a statement without RETURNING, before any effect; a value that does
    /// not fit its column's type. After an error nothing is changed.
    pub async fn execute_returning(
        &self,
        sql: impl Into<String>,
        params: Vec<Value>,
        types: ResultTypes,
    ) -> Result<Vec<RecordBatch>> {
        let sql = sql.into();
        self.user_writer("execute_returning")?
            .run(move |opened| statement::execute_returning(opened, &sql, &params, &types))
            .await
    }

    /// The row id of the last row that a user's statement inserted; 0 before the first. SQL's
    /// `last_insert_rowid()` is the same.
    pub fn last_insert_rowid(&self) -> i64 {
        self.shared.last_write.row_id()
    }

    /// Runs one prepared statement for each row of parameters, in one transaction; returns the
    /// total number of affected rows.
    ///
    /// # Errors
    /// As [`Self::execute`], with the number of the row.
    pub async fn execute_many(&self, sql: impl Into<String>, rows: Vec<Vec<Value>>) -> Result<u64> {
        let sql = sql.into();
        self.user_writer("execute_many")?.run(move |opened| statement::execute_many(opened, &sql, &rows)).await
    }

    /// Adds a scalar SQL function to every connection, replacing an earlier one of the app with the
    /// same name.
    ///
    /// # Errors
    /// A name of a function of SQLite or the engine; more than 127 arguments.
    pub async fn create_function(&self, function: FunctionDefinition) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        self.readers.run(move |opened| shared.extensions.add_function(&opened.conn, function)).await
    }

    /// Adds a collation to every connection, replacing an earlier one of the app with the same
    /// name.
    ///
    /// # Errors
    /// A name of a collation of SQLite.
    pub fn create_collation(&self, name: impl Into<String>, compare: Collation) -> Result<()> {
        self.shared.extensions.add_collation(name.into(), compare)
    }

    /// Installs on a connection of somebody else the functions and collations of the app that were
    /// added after the first `from`, and returns the number of all.
    ///
    /// # Errors
    /// An error of SQLite.
    pub fn install_functions(&self, conn: &Connection, from: usize) -> Result<usize> {
        self.shared.extensions.install_after(conn, from)
    }

    /// Runs one reading statement; returns all its rows in one batch, in SQLite's order. A result
    /// column that is a table's column has its registered type, else its declared type
    /// ([`vexact_core::schema::declared`]); other columns have the type in `types`. Where there is
    /// none, or a value does not fit it, the values decide: integers and reals together are
    /// float64, nothing but NULL is Arrow's Null type, and values without a common type are a dense
    /// union of SQLite's four.
    ///
    /// `last_insert_rowid()`, `changes()` and `total_changes()` are those of the statements that
    /// this engine executed.
    ///
    /// # Errors
    /// Before any effect: a NUL character, a statement that writes, sets or returns nothing,
    /// several statements, a wrong number of parameters. Else SQLite's, and text that is not UTF-8:
    /// column, row, expected, got.
    pub async fn query(
        &self,
        sql: impl Into<String>,
        params: Vec<Value>,
        types: ResultTypes,
    ) -> Result<Vec<RecordBatch>> {
        let sql = sql.into();
        self.readers.run(move |opened| query::query(opened, &sql, &params, &types)).await
    }

    /// Runs the engine's own work in one write transaction, which ends with a mark in the log: all
    /// or nothing, also if it panics. It runs to completion even if its caller is cancelled.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.own_writer()?.run(move |opened| writer::transaction(&opened.conn, || work(&opened.conn))).await
    }

    /// Runs the engine's own work in one read transaction: it sees one state of the file. It is
    /// interrupted if its caller is cancelled.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.readers.run(move |opened| writer::snapshot(&opened.conn, || work(&opened.conn))).await
    }

    /// Returns [`capture::schema_version`] and the identity of the file, without waiting and on
    /// this thread, if that is possible: a query that waits for another thread also waits for a
    /// core.
    pub fn schema_version_at_once(&self) -> Option<(FileId, i64)> {
        self.nonblocking_readers.run_at_once(|opened| Ok((opened.file, capture::schema_version(&opened.conn)?))).ok()
    }

    /// The file that the path names now. A restore may have replaced the one that was opened: each
    /// call works on the file that has the path when it begins.
    ///
    /// # Errors
    /// A file that no longer exists.
    pub fn file(&self) -> Result<FileId> {
        FileId::of(&self.path)
    }

    /// As [`Self::write`], on a thread that may block.
    pub fn write_here<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.own_writer()?.run_here(move |opened| writer::transaction(&opened.conn, || work(&opened.conn)))
    }

    /// As [`Self::write_here`], without waiting for another program that writes, for work that can
    /// be deferred. `committed` runs after the commit. Returns `None` if the work was not done, or
    /// still waits behind other writes.
    pub fn write_soon<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
        committed: impl FnOnce(&T) + Send + 'static,
    ) -> Result<Option<T>> {
        self.write_within(Duration::ZERO, work, committed)
    }

    /// As [`Self::write_soon`], but waits a limited time for another program that writes.
    pub fn write_within<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
        committed: impl FnOnce(&T) + Send + 'static,
    ) -> Result<Option<T>> {
        let job = move |opened: &connection::Opened| {
            let done = writer::transaction_within(opened, patience, || work(&opened.conn))?;
            if let Some(done) = &done {
                committed(done);
            }
            Ok(done)
        };
        self.own_writer()?.run_soon(job).map(Option::flatten)
    }

    /// As [`Self::read`], on a thread that may block and belongs to a runtime, on a connection that
    /// is independent of those of queries.
    pub fn read_here<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.sync_readers.run_here(|opened| writer::snapshot(&opened.conn, || work(&opened.conn)))
    }

    /// Returns the maximum number of threads that read for a sync at once: one by
    /// [`Self::read_here`], the others by [`Self::read_beside`].
    pub(crate) fn copying_threads(&self) -> u32 {
        self.copying_threads
    }

    /// Reads on another connection for a sync that is reading, on any thread that may block. What
    /// it sees may be newer.
    pub fn read_beside<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.sync_readers.run_at_once(|opened| writer::snapshot(&opened.conn, || work(&opened.conn)))
    }

    /// Shuts down: interrupts running reads, completes waiting writes, and closes all connections
    /// and threads. Idempotent; later calls of other methods are errors.
    pub async fn shutdown(&self) {
        self.readers.shutdown().await;
        self.sync_readers.shutdown().await;
        self.nonblocking_readers.shutdown().await;
        if let Some(writer) = &self.writer {
            writer.shutdown().await;
        }
    }
}
