//! Connections without tables, on which SQLite evaluates filters over rows of replicas.

use std::sync::OnceLock;

use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use vexact_core::error::Result;
use vexact_core::sql::failed;

/// Maximum number of connections that wait for the next filter.
const IDLE: usize = 16;

/// Installs the functions of the app that were added after the first ones on a connection; returns
/// the number of all.
pub(crate) type InstallFunctions = dyn Fn(&Connection, usize) -> Result<usize> + Send + Sync;

/// A pool of connections in memory, with the functions of the app.
#[derive(Default)]
pub(crate) struct Evaluator {
    /// Connections, and the number of functions that each has.
    idle: Mutex<Vec<(Connection, usize)>>,
    install: OnceLock<Box<InstallFunctions>>,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Evaluator")
    }
}

impl Evaluator {
    /// Sets the source of the app's functions. It can be set only once.
    pub fn set_functions(&self, install: Box<InstallFunctions>) {
        let _ = self.install.set(install);
    }

    /// Runs work with a connection that no other thread uses meanwhile.
    ///
    /// # Errors
    /// An error of SQLite, or of `work`.
    pub fn with<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().pop();
        let (conn, mut functions) = match idle {
            Some(idle) => idle,
            None => (open().map_err(failed(|| "opening SQLite in memory"))?, 0),
        };
        if let Some(install) = self.install.get() {
            functions = install(&conn, functions)?;
        }
        let done = work(&conn);
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push((conn, functions));
        }
        done
    }
}

fn open() -> rusqlite::Result<Connection> {
    let conn = vexact_locks::open_in_memory()?;
    // As in queries of an engine.
    conn.pragma_update(None, "case_sensitive_like", true)?;
    // Otherwise a misspelled column in double quotes would be text.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    Ok(conn)
}
