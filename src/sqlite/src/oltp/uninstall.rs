//! Removal of capture: stray triggers, a partly dropped log, and the complete uninstallation.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use vexact_core::error::{Error, Result};
use vexact_core::sql::{failed, ident};

use super::capture::Registered;
use super::connection::resolve;
use super::log;
use super::writer::transaction;

/// Maximum time to wait for the locks of other programs.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns true if the file has triggers that belong to no registered table, because the app
/// renamed the table or dropped the log.
pub fn has_strays(conn: &Connection) -> Result<bool> {
    Ok(!strays(conn)?.is_empty())
}

/// Drops the triggers that [`has_strays`] finds.
pub fn drop_strays(tx: &Connection) -> Result<()> {
    for name in strays(tx)? {
        drop_one(tx, "TRIGGER", &name)?;
    }
    Ok(())
}

fn strays(conn: &Connection) -> Result<Vec<String>> {
    let is_used = if log::exists(conn)? {
        "EXISTS (SELECT 1 FROM _vexact_tables AS t WHERE t.name = s.tbl_name COLLATE NOCASE
            AND substr(s.name, 1, length(t.id) + 9) = '_vexact_' || t.id || '_')"
    } else {
        "0"
    };
    names(conn, &format!("type = 'trigger' AND NOT {is_used}"))
}

/// Returns true if tables of the log were dropped while triggers that need them remain: every write
/// to a captured table then fails.
pub fn is_broken(conn: &Connection) -> Result<bool> {
    Ok(log::is_partial(conn)? || !log::exists(conn)? && has_strays(conn)?)
}

/// Recreates a broken log for the `known` registrations; positions continue after `applied_seq`.
/// The registrations then have new versions and no triggers.
pub fn mend(tx: &Connection, known: &[Registered], applied_seq: i64) -> Result<()> {
    for name in names(tx, "type = 'trigger'")? {
        drop_one(tx, "TRIGGER", &name)?;
    }
    log::create(tx)?;
    log::restart_after(tx, applied_seq)?;
    // The columns of these are lost.
    for (table, version) in [("_vexact_tables", "version"), ("_vexact_versions", "id")] {
        let unknown = format!("DELETE FROM {table} WHERE {version} NOT IN (SELECT version FROM _vexact_columns)");
        tx.execute(&unknown, []).map_err(failed(|| "mending the change log"))?;
    }
    for Registered { id, version, schema } in known {
        let (_, next) = log::next_numbers(tx)?;
        let version = next.max(version + 1);
        log::add_version(tx, *id, version, schema)?;
        let registration = "REPLACE INTO _vexact_tables(id, name, version) VALUES (?1, ?2, ?3)";
        tx.execute(registration, (id, schema.name(), version)).map_err(failed(|| "mending the change log"))?;
    }
    Ok(())
}

/// Removes all triggers and tables of replication from a file, in one transaction; returns their
/// names. Engines that have the file open drop their replicas at their next sync. Blocks.
///
/// # Errors
/// A file that does not exist; an error of SQLite.
pub fn uninstall(path: &Path) -> Result<Vec<String>> {
    let path = &resolve(path)?;
    if !path.try_exists().map_err(|error| Error::io(path, error))? {
        return Err(Error::FileNotFound { path: path.clone() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = vexact_locks::open(path, flags)
        .and_then(|conn| conn.busy_timeout(BUSY_TIMEOUT).map(|()| conn))
        .map_err(failed(|| path.display().to_string()))?;
    transaction(&conn, || {
        let mut dropped = Vec::new();
        // Triggers are dropped first: a trigger without its tables would fail the writes of the
        // app.
        for kind in ["trigger", "table"] {
            for name in names(&conn, &format!("type = '{kind}'"))? {
                drop_one(&conn, kind, &name)?;
                dropped.push(name);
            }
        }
        Ok(dropped)
    })
}

/// The engine's own objects that satisfy a condition.
fn names(conn: &Connection, condition: &str) -> Result<Vec<String>> {
    let read = || {
        conn.prepare(&format!(
            "SELECT s.name FROM sqlite_master AS s WHERE substr(s.name, 1, 8) = '_vexact_' COLLATE NOCASE AND {condition}"
        ))?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()
    };
    read().map_err(failed(|| "looking for what vexact made in the file"))
}

fn drop_one(tx: &Connection, kind: &str, name: &str) -> Result<()> {
    let sql = format!("DROP {kind} {}", ident(name));
    tx.execute_batch(&sql).map_err(failed(|| sql.clone()))
}
