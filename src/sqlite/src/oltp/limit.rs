//! The limit of the change log: the maximum number of changes it takes while no engine reads them.
//!
//! `_vexact_limit` has one row, the position up to which changes are logged. The trigger that logs
//! a change there removes the row: the log is *full*, and triggers log nothing from then on. An
//! engine that finds the log full restarts it and copies the tables. All other engines copy the
//! tables too, because the new log does not have their positions.

use rusqlite::{Connection, OptionalExtension};
use vexact_core::error::Result;
use vexact_core::sql::failed;

use super::{log, meta};

/// The condition under which triggers log, as SQL.
pub(super) const IS_OPEN: &str = "EXISTS (SELECT 1 FROM _vexact_limit)";

/// The statement of a trigger that closes a log which has reached its limit. The row id is compared
/// first because that is cheaper; it may be that of a user's row.
pub(super) const CLOSE: &str = "DELETE FROM _vexact_limit WHERE last_seq <= last_insert_rowid() \
     AND last_seq <= (SELECT max(seq) FROM _vexact_log)";

/// The table of the limit; a new one has a row.
pub(super) const CREATE: &str = "CREATE TABLE _vexact_limit(last_seq INTEGER NOT NULL)";

/// The limit of a log is at least this many changes, unless the user sets it.
const LEAST: u64 = 100_000;

/// The position of a log without a limit.
const NEVER: i64 = i64::MAX;

/// Parameters of the log's limit.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// The user's limit, which is stored in the file. `None` for the stored limit, or without one
    /// for the number of rows, at least 100 000.
    pub changes: Option<u64>,
    /// Number of rows of all registered tables, which is the cost of a copy.
    pub rows: u64,
    /// True if the log is pruned.
    pub is_pruned: bool,
}

/// Returns true if changes were not logged because the log had reached its limit.
pub fn is_full(conn: &Connection) -> Result<bool> {
    Ok(log::has_table(conn, "SELECT 1 FROM main._vexact_limit LIMIT 1")? && last_seq(conn)?.is_none())
}

/// Moves the limit of the log on, counted from a position. A full log stays full: see
/// [`begin_anew`].
pub fn extend(tx: &Connection, from: i64, limit: Limit) -> Result<()> {
    if !meta::exists(tx)? {
        return Ok(());
    }
    let known = meta::log_limit(tx)?;
    let is_set = limit.changes.is_some() && limit.changes != known;
    if let (true, Some(changes)) = (is_set, limit.changes) {
        meta::set_log_limit(tx, changes)?;
    }
    let Some(last) = last_seq(tx)? else { return Ok(()) };
    let changes = limit.changes.or(known).unwrap_or_else(|| limit.rows.max(LEAST));
    let changes = i64::try_from(changes).unwrap_or(NEVER);
    let next = if limit.is_pruned && !has_history(tx)? { from.saturating_add(changes) } else { NEVER };
    let room = last.saturating_sub(from);
    // Most cycles leave the limit unchanged.
    let is_near = last == next || next != NEVER && !is_set && room >= changes / 2 && room / 2 <= changes;
    if is_near { Ok(()) } else { set(tx, next) }
}

/// Restarts a full log, with positions that no replica has.
pub fn begin_anew(tx: &Connection) -> Result<()> {
    if is_full(tx)? { log::restart_after(tx, 0) } else { Ok(()) }
}

/// Sets the minimum limit of the log, counted from a position.
pub(super) fn open(tx: &Connection, from: i64) -> Result<()> {
    set(tx, from.saturating_add(LEAST as i64))
}

fn set(tx: &Connection, last_seq: i64) -> Result<()> {
    let set = || {
        tx.prepare_cached("DELETE FROM _vexact_limit")?.execute([])?;
        tx.prepare_cached("INSERT INTO _vexact_limit(last_seq) VALUES (?1)")?.execute([last_seq])
    };
    set().map(drop).map_err(failed(context))
}

fn last_seq(conn: &Connection) -> Result<Option<i64>> {
    conn.prepare_cached("SELECT last_seq FROM _vexact_limit")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)).optional())
        .map_err(failed(context))
}

/// Returns true if a stored temporal replica follows the log, because it needs every change.
fn has_history(conn: &Connection) -> Result<bool> {
    conn.prepare_cached("SELECT 1 FROM _vexact_engines WHERE is_temporal = 1 AND is_lease = 0")
        .and_then(|mut statement| statement.exists([]))
        .map_err(failed(context))
}

fn context() -> &'static str {
    "the limit of the change log"
}
