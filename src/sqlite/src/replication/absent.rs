//! The positions of other engines: they keep the log from being pruned, for a limited time.
//!
//! A position keeps the log while its engine runs. A lease ends with its engine. A durable
//! position, of replicas in a storage folder, keeps the log after that, so that the engine can
//! resume, until
//!
//! - its folder is removed,
//! - or the log that it keeps has more rows than the tables, so that copying them again costs less
//!   than applying the log. The replicas of such an engine are copied when it comes back. The
//!   position of a temporal engine stays, because a copy cannot replace a history,
//! - or it is dropped by name.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde::Serialize;
use vexact_core::error::{Error, Result};
use vexact_core::sql::failed;

use super::position::{context, is_running};
use super::reader_lease;
use crate::oltp::{limit, log};

/// Number of log rows from which a warning is given, if engines that do not run keep the log or no
/// engine reads it.
const WARNED_ROWS: u64 = 100_000;

/// The position of one engine in the change log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogPosition {
    /// The engine's name.
    pub id: String,
    /// The last row of the log that it has applied.
    pub applied_seq: i64,
    /// Rows of the log after it.
    pub lag: u64,
    /// The folder of its replicas; `None` if they are in memory, so that the position ends with the
    /// process.
    pub folder: Option<String>,
    /// True if the engine runs, in any process.
    pub is_running: bool,
}

struct Row {
    id: String,
    applied_seq: i64,
    is_lease: bool,
    folder: Option<String>,
    is_temporal: Option<bool>,
}

fn rows(conn: &Connection) -> Result<Vec<Row>> {
    let read = || {
        let has_folders = conn.column_exists(Some("main"), "_vexact_engines", "folder")?;
        let more = if has_folders { "folder, is_temporal" } else { "NULL, NULL" };
        conn.prepare_cached(&format!("SELECT id, applied_seq, is_lease, {more} FROM _vexact_engines ORDER BY id"))?
            .query_map([], |row| {
                let (id, applied_seq, is_lease) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(Row { id, applied_seq, is_lease, folder: row.get(3)?, is_temporal: row.get(4)? })
            })?
            .collect::<rusqlite::Result<_>>()
    };
    read().map_err(failed(context))
}

/// Returns the last row of the log that every engine which keeps the log has applied. Positions
/// that no longer keep the log are removed. `own` is the calling engine and its position;
/// `copied_rows` is the number of rows that a copy of all tables reads.
pub(super) fn oldest_needed(
    tx: &Connection,
    database: &Path,
    (own_id, own_seq): (&str, i64),
    copied_rows: u64,
) -> Result<i64> {
    let others = rows(tx)?.into_iter().filter(|row| row.id != own_id);
    let (running, absent): (Vec<Row>, Vec<Row>) = others.partition(|row| is_running(database, &row.id));
    let readers = reader_lease::running(database).into_iter().map(|(_, applied_seq)| applied_seq);
    let needed_by_running = running.iter().map(|row| row.applied_seq).chain(readers).fold(own_seq, i64::min);
    let mut needed = needed_by_running;
    for row in absent {
        let held = needed_by_running.saturating_sub(row.applied_seq).max(0).unsigned_abs();
        let is_gone = row.folder.as_deref().is_some_and(|folder| !Path::new(folder).is_dir());
        let is_cheaper_copied = row.is_temporal == Some(false) && held > copied_rows;
        if row.is_lease || is_gone || is_cheaper_copied {
            remove(tx, &row.id)?;
        } else {
            needed = needed.min(row.applied_seq);
        }
    }
    Ok(needed)
}

fn remove(tx: &Connection, id: &str) -> Result<()> {
    tx.execute("DELETE FROM _vexact_engines WHERE id = ?1", [id]).map(drop).map_err(failed(context))
}

/// All positions, by name.
pub(super) fn list(conn: &Connection, database: &Path) -> Result<Vec<LogPosition>> {
    if !log::exists(conn)? {
        return Ok(Vec::new());
    }
    let end = log::last_seq(conn)?;
    let position = |row: Row| LogPosition {
        is_running: is_running(database, &row.id),
        lag: end.saturating_sub(row.applied_seq).max(0).unsigned_abs(),
        id: row.id,
        applied_seq: row.applied_seq,
        folder: row.folder.or_else(|| (!row.is_lease).then(|| "unknown".to_owned())),
    };
    let mut positions: Vec<LogPosition> = rows(conn)?.into_iter().map(position).collect();
    positions.extend(reader_lease::running(database).into_iter().map(|(id, applied_seq)| LogPosition {
        is_running: true,
        lag: end.saturating_sub(applied_seq).max(0).unsigned_abs(),
        id,
        applied_seq,
        folder: None,
    }));
    Ok(positions)
}

/// Removes the position of an engine that does not run.
///
/// # Errors
/// An unknown position; an engine that is running.
pub(super) fn drop_position(tx: &Connection, database: &Path, id: &str) -> Result<()> {
    let known = if log::exists(tx)? { rows(tx)? } else { Vec::new() };
    if !known.iter().any(|row| row.id == id) {
        let names: Vec<&str> = known.iter().map(|row| row.id.as_str()).collect();
        let expected = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
        return Err(Error::InvalidArgument(format!(
            "position: expected one of the change log's ({expected}), got {id:?}"
        )));
    }
    if is_running(database, id) {
        return Err(Error::Engine(format!("position {id:?} belongs to an engine that is running: shut it down first")));
    }
    remove(tx, id)
}

/// The warning about the file when an engine opens it.
pub(super) fn warning(conn: &Connection, database: &Path) -> Result<Option<String>> {
    let warnings: Vec<String> =
        [links(database), full(conn, database)?, size(conn, database)?].into_iter().flatten().collect();
    Ok((!warnings.is_empty()).then(|| warnings.join("; ")))
}

/// A file that has other names: SQLite keeps the WAL under the name by which a file was opened.
fn links(database: &Path) -> Option<String> {
    #[cfg(unix)]
    let links = std::os::unix::fs::MetadataExt::nlink(&std::fs::metadata(database).ok()?);
    #[cfg(not(unix))]
    let links = 1;
    (links > 1).then(|| {
        format!(
            "{}: the file has {links} hard links: programs that open it by different names destroy it, as each name has a WAL of its own",
            database.display()
        )
    })
}

/// Returns a warning if the log is full. This engine could not restart it, because it only reads
/// the file or another program is writing.
fn full(conn: &Connection, database: &Path) -> Result<Option<String>> {
    let warning = || {
        format!(
            "{}: the change log is full, so each sync copies the tables until an engine that writes the file has begun the log anew",
            database.display()
        )
    };
    Ok(limit::is_full(conn)?.then(warning))
}

fn size(conn: &Connection, database: &Path) -> Result<Option<String>> {
    let size = log::size(conn)?;
    if size < WARNED_ROWS {
        return Ok(None);
    }
    let holders =
        list(conn, database)?.into_iter().filter(|position| !position.is_running && position.folder.is_some());
    let holders: Vec<String> = holders
        .map(|LogPosition { id, folder, lag, .. }| {
            let folder = folder.unwrap_or_default();
            let gone = if PathBuf::from(&folder).is_dir() { "" } else { ", which is gone" };
            format!("the replicas in {folder:?}{gone} hold {lag} of them (drop_position({id:?}) releases these)")
        })
        .collect();
    let why = if holders.is_empty() { "no engine has pruned it since".to_owned() } else { holders.join("; ") };
    Ok(Some(format!("{}: the change log has {size} rows: {why}", database.display())))
}
