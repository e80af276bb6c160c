//! Metadata of a change log: the version of its format, and the limit that the user set.
//!
//! | version | since |
//! |---|---|
//! | 1 | the first; it has no `_vexact_meta` |
//! | 2 | `_vexact_meta` and `_vexact_limit`, and triggers that respect the limit |

use rusqlite::{Connection, OptionalExtension};
use vexact_core::error::{Error, Result};
use vexact_core::sql::failed;

use super::log;

/// Format version that this code writes; it reads all versions up to this one.
const VERSION: i64 = 2;

/// The table of key and value.
pub(super) const CREATE: &str = "CREATE TABLE _vexact_meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID";

/// Returns true if the file has the metadata table, which exists since version 2.
pub(super) fn exists(conn: &Connection) -> Result<bool> {
    log::has_table(conn, "SELECT 1 FROM main._vexact_meta LIMIT 1")
}

/// Rejects a file whose change log was made by a later version of vexact.
///
/// # Errors
/// A later version; the message names both versions.
pub fn check(conn: &Connection) -> Result<()> {
    let version = if exists(conn)? { value(conn, "format")? } else { None };
    match version {
        Some(version) if version > VERSION => Err(Error::Engine(format!(
            "the change log in {} has format version {version}, and this version of vexact reads up to version {VERSION}: open it with \
             the version that made it, or take the log out of the file (vexact db uninstall)",
            conn.path().unwrap_or("the file")
        ))),
        _ => Ok(()),
    }
}

/// Records that the file has the current format.
pub(super) fn set_version(tx: &Connection) -> Result<()> {
    if value(tx, "format")? == Some(VERSION) { Ok(()) } else { set(tx, "format", VERSION) }
}

/// The limit of the log that the user set, in changes.
pub(super) fn log_limit(conn: &Connection) -> Result<Option<u64>> {
    Ok(value(conn, "log_limit")?.map(i64::unsigned_abs))
}

/// Stores a limit that the user set.
pub(super) fn set_log_limit(tx: &Connection, changes: u64) -> Result<()> {
    set(tx, "log_limit", i64::try_from(changes).unwrap_or(i64::MAX))
}

fn value(conn: &Connection, key: &str) -> Result<Option<i64>> {
    conn.prepare_cached("SELECT value FROM _vexact_meta WHERE key = ?1")
        .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
        .map_err(failed(context))
}

fn set(tx: &Connection, key: &str, value: i64) -> Result<()> {
    tx.prepare_cached("REPLACE INTO _vexact_meta(key, value) VALUES (?1, ?2)")
        .and_then(|mut replace| replace.execute((key, value)))
        .map(drop)
        .map_err(failed(context))
}

fn context() -> &'static str {
    "what the file says of its change log"
}
