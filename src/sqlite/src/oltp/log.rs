//! The change log in the user's file: its tables, and how it is read and pruned.
//!
//! | table | one row is |
//! |---|---|
//! | `_vexact_log` | `seq`, `time` (microseconds since the epoch, as the clock was), `version`, `op`, `c0..`: at this point the row of a key was this (`op` 1: the columns of the version, in order), or no row had the key (`op` 2: only its key columns). `op` 0 marks the end of a transaction of the engine |
//! | `_vexact_displaced` | a key that a running statement may remove without SQLite saying so |
//! | `_vexact_tables` | a registered table: `id`, `name`, current `version` |
//! | `_vexact_versions`, `_vexact_columns` | what the columns of log rows mean; kept for ever |
//! | `_vexact_engines` | the position of a replica, so that no other prunes what it still needs |
//! | `_vexact_meta` | the version of the format (`meta.rs`) |
//! | `_vexact_limit` | how far the log may grow (`limit.rs`) |
//! | `_vexact_<id>_absent` | always empty: the columns of a registered table that a migration may drop (see `reference.rs`) |
//!
//! The columns of the log and of `_vexact_displaced` have no type, so SQLite stores values
//! unchanged. `seq` grows by one and is never reused: the newest row is never pruned.

use std::collections::HashMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};
use vexact_core::error::{Error, Result};
use vexact_core::schema::{Column, ColumnType, TableSchema};
use vexact_core::sql::failed;

use super::trigger::{NOW, op};
use super::{limit, meta};

/// Creates the log if it does not exist. A log of an earlier format is upgraded.
pub(crate) fn create(tx: &Connection) -> Result<()> {
    let create = || {
        tx.execute_batch(
            "CREATE TABLE IF NOT EXISTS _vexact_log(seq INTEGER PRIMARY KEY, time, version, op);
             CREATE TABLE IF NOT EXISTS _vexact_displaced(tbl, idx);
             CREATE TABLE IF NOT EXISTS _vexact_tables(
                id INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL);
             CREATE TABLE IF NOT EXISTS _vexact_versions(
                id INTEGER PRIMARY KEY, tbl INTEGER NOT NULL, name TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS _vexact_columns(
                version INTEGER NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL,
                key_position INTEGER, PRIMARY KEY(version, position));
             CREATE TABLE IF NOT EXISTS _vexact_engines(
                id TEXT PRIMARY KEY, applied_seq INTEGER NOT NULL, is_lease INTEGER NOT NULL,
                folder TEXT, is_temporal INTEGER);",
        )?;
        // The first row is a mark: there always is a newest row.
        const NONE: &str = "NOT EXISTS (SELECT 1 FROM _vexact_log)";
        tx.execute(&format!("INSERT INTO _vexact_log(time, version, op) SELECT {NOW}, 0, 0 WHERE {NONE}"), [])?;
        for column in ["folder TEXT", "is_temporal INTEGER"] {
            let name = column.split(' ').next().unwrap_or(column);
            if !tx.column_exists(Some("main"), "_vexact_engines", name)? {
                tx.execute_batch(&format!("ALTER TABLE _vexact_engines ADD COLUMN {column}"))?;
            }
        }
        let is_missing = |table: &str| tx.table_exists(Some("main"), table).map(|is_there| !is_there);
        if is_missing("_vexact_meta")? {
            tx.execute_batch(meta::CREATE)?;
        }
        let has_no_limit = is_missing("_vexact_limit")?;
        if has_no_limit {
            tx.execute_batch(limit::CREATE)?;
        }
        Ok(has_no_limit)
    };
    let has_no_limit = create().map_err(failed(|| "creating the change log"))?;
    if has_no_limit {
        limit::open(tx, last_seq(tx)?)?;
    }
    meta::set_version(tx)
}

/// Returns true if some of the log's tables are missing, but not all: another program dropped them.
pub(super) fn is_partial(conn: &Connection) -> Result<bool> {
    // Logs of format version 1 lack the last two, and their triggers name neither.
    conn.prepare_cached(
        "SELECT all_versions + since_2 > 0 AND NOT (all_versions = 6 AND (since_2 = 2 OR since_2 = 0 AND NOT has_limit)) FROM (SELECT
            (SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('_vexact_log', '_vexact_displaced', '_vexact_tables',
                '_vexact_versions', '_vexact_columns', '_vexact_engines')) AS all_versions,
            (SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('_vexact_meta', '_vexact_limit')) AS since_2,
            EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, 8) = '_vexact_'
                AND instr(sql, ' _vexact_limit')) AS has_limit)",
    )
    .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
    .map_err(failed(|| "looking for the change log"))
}

/// Empties the log, whose rows are no longer readable, and reopens it for changes. Positions
/// continue after `seq`, which a replica has applied, and after those of the log.
pub(super) fn restart_after(tx: &Connection, seq: i64) -> Result<()> {
    let next = last_seq(tx)?.max(seq) + 1;
    let restart = || {
        tx.execute("DELETE FROM _vexact_log", [])?;
        tx.execute(&format!("INSERT INTO _vexact_log(seq, time, version, op) VALUES (?1, {NOW}, 0, 0)"), [next])
    };
    restart().map_err(failed(|| "mending the change log"))?;
    limit::open(tx, next)
}

/// Numbers for a new registration and a new version; never used before.
pub(super) fn next_numbers(tx: &Connection) -> Result<(i64, i64)> {
    if !exists(tx)? {
        return Ok((1, 1));
    }
    const NEXT: &str = "SELECT 1 + max(coalesce((SELECT max(tbl) FROM _vexact_versions), 0),
            coalesce((SELECT max(id) FROM _vexact_tables), 0)),
        1 + max(coalesce((SELECT max(id) FROM _vexact_versions), 0), coalesce((SELECT max(version) FROM _vexact_columns), 0),
            coalesce((SELECT max(version) FROM _vexact_tables), 0))";
    tx.query_row(NEXT, [], |row| Ok((row.get(0)?, row.get(1)?))).map_err(failed(|| "reading the registry"))
}

/// Returns true if the log's tables have the columns that [`widen`] adds.
pub(super) fn is_wide(conn: &Connection, columns: usize, unique: usize, key: usize) -> Result<bool> {
    let has = |(table, letter, count): (&str, char, usize)| match count.checked_sub(1) {
        Some(last) => conn.column_exists(Some("main"), table, format!("{letter}{last}").as_str()),
        None => Ok(true),
    };
    let needed = [("_vexact_log", 'c', columns), ("_vexact_displaced", 'u', unique), ("_vexact_displaced", 'k', key)];
    let all = needed.into_iter().try_fold(true, |all, part| Ok(all && has(part)?));
    all.map_err(failed(|| "looking for the change log"))
}

/// Adds the columns that a table needs: `columns` values in the log, `unique` and `key` values in
/// `_vexact_displaced`.
pub(super) fn widen(tx: &Connection, columns: usize, unique: usize, key: usize) -> Result<()> {
    let widen = || {
        for (table, letter, count) in
            [("_vexact_log", 'c', columns), ("_vexact_displaced", 'u', unique), ("_vexact_displaced", 'k', key)]
        {
            for at in 0..count {
                let column = format!("{letter}{at}");
                if !tx.column_exists(Some("main"), table, column.as_str())? {
                    tx.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column}"))?;
                }
            }
        }
        if unique > 0 {
            tx.execute_batch("CREATE INDEX IF NOT EXISTS _vexact_displaced_by ON _vexact_displaced(tbl, idx, u0)")?;
        }
        Ok(())
    };
    widen().map_err(failed(|| "widening the change log"))
}

/// Returns true if the file has a change log.
pub fn exists(conn: &Connection) -> Result<bool> {
    // The connection's cached schema may be older than the file's, so the statement is run, not
    // only prepared: the registration that created the log may have been rolled back.
    has_table(conn, "SELECT 1 FROM main._vexact_log LIMIT 1")
}

/// Returns true if the file has the table that a statement reads.
pub(super) fn has_table(conn: &Connection, sql: &str) -> Result<bool> {
    match conn.prepare_cached(sql).and_then(|mut statement| statement.exists([])) {
        Ok(_) => Ok(true),
        Err(error) if error.to_string().contains("no such table") => Ok(false),
        Err(error) => Err(failed(|| "looking for the change log")(error)),
    }
}

/// Marks the end of a transaction, if it logged changes. It must be the last call in each
/// transaction of the engine.
pub fn mark_commit(tx: &Connection) -> Result<()> {
    if !exists(tx)? {
        return Ok(());
    }
    let mark = || {
        const NEWEST: &str = "(SELECT op FROM _vexact_log ORDER BY seq DESC LIMIT 1)";
        tx.prepare_cached(&format!(
            "INSERT INTO _vexact_log(time, version, op) SELECT {NOW}, 0, 0 WHERE {NEWEST} <> 0"
        ))?
        .execute([])
    };
    mark().map(drop).map_err(failed(|| "marking a commit"))
}

/// The newest position of the log; 0 without a log.
pub fn last_seq(conn: &Connection) -> Result<i64> {
    if !exists(conn)? {
        return Ok(0);
    }
    conn.prepare_cached("SELECT coalesce(max(seq), 0) FROM _vexact_log")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(failed(|| "reading the change log's end"))
}

/// Returns the number of rows of the log, commit marks included, in constant time.
pub fn size(conn: &Connection) -> Result<u64> {
    if !exists(conn)? {
        return Ok(0);
    }
    conn.prepare_cached("SELECT (SELECT max(seq) FROM _vexact_log) - (SELECT min(seq) FROM _vexact_log) + 1")
        .and_then(|mut statement| statement.query_row([], |row| row.get::<_, Option<i64>>(0)))
        .map(|rows| rows.unwrap_or(0).unsigned_abs())
        .map_err(failed(|| "reading the change log's size"))
}

/// Returns true if changes after a position were removed from the log, because another engine
/// considered the replica at this position abandoned.
pub fn has_gap(conn: &Connection, after: i64) -> Result<bool> {
    if !exists(conn)? {
        return Ok(false);
    }
    let first = conn
        .prepare_cached("SELECT min(seq) FROM _vexact_log")
        .and_then(|mut statement| statement.query_row([], |row| row.get::<_, Option<i64>>(0)));
    Ok(first.map_err(failed(|| "reading the change log's beginning"))?.is_some_and(|first| first > after + 1))
}

/// Returns the time in the log row at a position, which identifies the log. A file that went back
/// (a loss of power, a backup) and was written to again has other rows at the same positions.
/// Returns `None` if there is no row.
pub fn time_at(conn: &Connection, seq: i64) -> Result<Option<i64>> {
    if !exists(conn)? {
        return Ok(None);
    }
    conn.prepare_cached("SELECT time FROM _vexact_log WHERE seq = ?1")
        .and_then(|mut statement| statement.query_row([seq], |row| row.get(0)).optional())
        .map_err(failed(|| format!("reading change {seq}")))
}

/// Removes the log up to a position that every replica holds durably; returns the number of changes
/// removed. The row at the position stays, as a mark that identifies this log ([`time_at`]), and so
/// does the newest row, so that `seq` never goes back. Runs in its own write transaction.
pub fn prune(tx: &Connection, up_to_seq: i64) -> Result<u64> {
    if !exists(tx)? {
        return Ok(0);
    }
    mark_commit(tx)?;
    let prune = || {
        let changes = tx
            .prepare_cached("SELECT count(*) FROM _vexact_log WHERE seq <= ?1 AND op <> 0")?
            .query_row([up_to_seq], |row| row.get::<_, i64>(0))?;
        const UP_TO: &str = "seq < min(?1, (SELECT max(seq) FROM _vexact_log))";
        tx.prepare_cached(&format!("DELETE FROM _vexact_log WHERE {UP_TO}"))?.execute([up_to_seq])?;
        tx.prepare_cached(
            "REPLACE INTO _vexact_log(seq, time, version, op)
             SELECT seq, time, 0, 0 FROM _vexact_log WHERE seq = ?1 AND op <> 0",
        )?
        .execute([up_to_seq])?;
        // No running statement can still need these records.
        tx.prepare_cached("DELETE FROM _vexact_displaced")?.execute([])?;
        Ok(changes.unsigned_abs())
    };
    prune().map_err(failed(|| "pruning the change log"))
}

/// Returns the last position of a cycle that starts after `after`: at or after the `limit`th
/// change, the next known end of a transaction, which is a mark or the end of the log. Never before
/// `after`.
pub fn boundary(conn: &Connection, after: i64, limit: u64) -> Result<i64> {
    let end = last_seq(conn)?;
    if end <= after {
        return Ok(after);
    }
    if (end - after).unsigned_abs() <= limit {
        return Ok(end);
    }
    let find = || {
        let full: Option<i64> = conn
            .prepare_cached("SELECT seq FROM _vexact_log WHERE seq > ?1 AND op <> 0 ORDER BY seq LIMIT 1 OFFSET ?2")?
            .query_row((after, i64::try_from(limit.max(1) - 1).unwrap_or(i64::MAX)), |row| row.get(0))
            .optional()?;
        let Some(full) = full else { return Ok(end) };
        let mark: Option<i64> = conn
            .prepare_cached("SELECT seq FROM _vexact_log WHERE seq > ?1 AND op = 0 ORDER BY seq LIMIT 1")?
            .query_row([full], |row| row.get(0))
            .optional()?;
        Ok(mark.unwrap_or(end))
    };
    find().map_err(failed(|| "reading the change log"))
}

/// Changes after a position, by version: `(version, changes)`.
pub fn lag(conn: &Connection, after: i64) -> Result<Vec<(i64, u64)>> {
    if !exists(conn)? {
        return Ok(Vec::new());
    }
    let count = || {
        conn.prepare_cached("SELECT version, count(*) FROM _vexact_log WHERE seq > ?1 AND op <> 0 GROUP BY version")?
            .query_map([after], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?
            .collect::<rusqlite::Result<_>>()
    };
    count().map_err(failed(|| "counting the change log"))
}

/// Operation of a log row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A transaction of the engine ends here.
    Commit,
    /// The row of this key is now this: all values are there.
    Row,
    /// The key has no row now: only the key's values are there.
    Gone,
}

/// One row of the log, while it is being read.
pub struct Change<'row> {
    /// Its position.
    pub seq: i64,
    /// Microseconds since the Unix epoch; never less than in the row before, nor than the floor.
    pub time: i64,
    /// The key of [`versions`]; 0 for a commit.
    pub version: i64,
    /// The operation.
    pub operation: Operation,
    row: &'row Row<'row>,
}

impl Change<'_> {
    /// The value of the version's column at a position.
    ///
    /// # Errors
    /// A position that the log does not have.
    pub fn value(&self, position: usize) -> Result<ValueRef<'_>> {
        self.row.get_ref(FIXED + position).map_err(failed(|| format!("change {}", self.seq)))
    }
}

/// The columns before the values.
const FIXED: usize = 4;

/// Reads the log, for parameters `after` and `through`, in order: `seq, time, version, op, c0, ..`,
/// the order in which the columns were made.
pub const SELECT_CHANGES: &str = "SELECT * FROM _vexact_log WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";

/// Steps through the log after `after` up to and with `through`, in order. Ends at the first error
/// of `step`. Returns the time of the last row, which is the floor of the next call: if the clock
/// went back, the time stays constant. The first floor is 0.
pub fn each_change(
    conn: &Connection,
    after: i64,
    through: i64,
    floor: i64,
    mut step: impl FnMut(&Change<'_>) -> Result<()>,
) -> Result<i64> {
    let mut time = floor;
    if !exists(conn)? {
        return Ok(time);
    }
    let context = || "reading the change log";
    let mut statement = conn.prepare_cached(SELECT_CHANGES).map_err(failed(context))?;
    let mut rows = statement.query((after, through)).map_err(failed(context))?;
    while let Some(row) = rows.next().map_err(failed(context))? {
        let fixed = |at| row.get::<_, i64>(at).map_err(failed(context));
        let seq = fixed(0)?;
        let operation = match fixed(3)? {
            op::COMMIT => Operation::Commit,
            op::ROW => Operation::Row,
            op::GONE => Operation::Gone,
            other => {
                return Err(Error::Engine(format!("change {seq}: expected an operation from 0 to 2, got {other}")));
            }
        };
        time = time.max(fixed(1)?);
        step(&Change { seq, time, version: fixed(2)?, operation, row })?;
    }
    Ok(time)
}

/// Schema of the log rows of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The registered table, which may be removed by now.
    pub table: i64,
    /// Its name, columns and key at that time.
    pub schema: TableSchema,
}

/// All versions that log rows can have, by their number.
pub fn versions(conn: &Connection) -> Result<HashMap<i64, Version>> {
    if !exists(conn)? {
        return Ok(HashMap::new());
    }
    let context = || "reading the registry";
    let read = || {
        conn.prepare_cached("SELECT id, tbl, name FROM _vexact_versions")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<Vec<(i64, i64, String)>>>()
    };
    let versions = read().map_err(failed(context))?;
    versions
        .into_iter()
        .map(|(id, table, name)| Ok((id, Version { table, schema: schema(conn, id, &name)? })))
        .collect()
}

pub(super) fn schema(conn: &Connection, version: i64, name: &str) -> Result<TableSchema> {
    let read = || {
        conn.prepare_cached(
            "SELECT name, type, key_position FROM _vexact_columns WHERE version = ?1 ORDER BY position",
        )?
        .query_map([version], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<Vec<(String, String, Option<i64>)>>>()
    };
    let rows = read().map_err(failed(|| format!("reading the registry: table {name:?}")))?;
    let mut key: Vec<(i64, String)> =
        rows.iter().filter_map(|(name, _, position)| position.map(|position| (position, name.clone()))).collect();
    key.sort();
    let columns = rows.into_iter().map(|(name, text, _)| Ok(Column { name, column_type: ColumnType::parse(&text)? }));
    let key: Vec<_> = key.into_iter().map(|(_, name)| name).collect();
    TableSchema::of_columns(name, columns.collect::<Result<_>>()?, &key)
}

/// Writes a new version of a table.
pub(super) fn add_version(tx: &Connection, table: i64, version: i64, schema: &TableSchema) -> Result<()> {
    let add = || {
        let new = "INSERT INTO _vexact_versions(id, tbl, name) VALUES (?1, ?2, ?3)";
        tx.execute(new, (version, table, schema.name()))?;
        let mut column = tx.prepare_cached(
            "INSERT INTO _vexact_columns(version, position, name, type, key_position) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for (position, Column { name, column_type }) in schema.columns().iter().enumerate() {
            let key_position = schema.key().iter().position(|at| *at == position);
            let [position, key_position] = [Some(position), key_position].map(|at| at.map(|at| at as i64));
            column.execute((version, position, name, column_type.to_string(), key_position))?;
        }
        Ok(())
    };
    add().map_err(failed(|| format!("registering table {:?}", schema.name())))
}
