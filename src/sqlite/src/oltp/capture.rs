//! Change capture of registered tables: installs, checks and removes their triggers.

use rusqlite::{Connection, OptionalExtension};
use vexact_core::error::{Error, Result};
use vexact_core::schema::{Column, TableSchema, is_row_id_name};
use vexact_core::sql::{failed, ident};

use super::column::{check, described};
use super::log;
use super::reference::absent;
use super::table::Table;
use super::trigger::{Plan, Trigger, prefix};

/// Maximum number of rows that the error of a rejected registration names.
const NAMED_ROWS: usize = 3;

/// A table whose changes are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its number in the file; never used again.
    pub id: i64,
    /// The version that its triggers write: see [`log::versions`].
    pub version: i64,
    /// Its columns and key.
    pub schema: TableSchema,
}

/// Registers a table and starts to capture it, within the write transaction `tx`: changes after it
/// are in the log.
///
/// # Errors
/// A table that is already registered, does not exist, is a view or virtual, lacks a column, has no
/// unique key, has a unique index on an expression, or has values that the types cannot hold (the
/// first rows are named). The caller must then roll back the transaction.
pub fn install(tx: &Connection, schema: &TableSchema) -> Result<Registered> {
    if let Some(known) = find(tx, schema.name())? {
        return Err(Error::Engine(format!(
            "table {:?} is already registered, as {}: unregister_table ends that",
            schema.name(),
            known.schema
        )));
    }
    let (id, version) = log::next_numbers(tx)?;
    capture(tx, id, version, schema)
}

/// Captures a registered table again, as a new version, because its triggers were lost or its
/// schema changes (`schema` is the new one). Columns that the table no longer has are left out,
/// except those of the key. Changes made without triggers are not in the log, so the replica must
/// be copied again.
///
/// # Errors
/// An unknown registration; else as [`install`].
pub fn reinstall(tx: &Connection, id: i64, schema: &TableSchema) -> Result<Registered> {
    if !registered(tx)?.iter().any(|registered| registered.id == id) {
        let name = schema.name();
        return Err(Error::Engine(format!("table {name:?}: expected a registration with number {id}, got none")));
    }
    drop_triggers(tx, id)?;
    let (_, version) = log::next_numbers(tx)?;
    let schema = fitting(&Table::read(tx, schema.name())?, schema)?;
    capture(tx, id, version, &schema)
}

/// Returns a schema without the columns that the table no longer has; the key columns stay.
fn fitting(table: &Table, schema: &TableSchema) -> Result<TableSchema> {
    let is_left = |(at, column): &(usize, &Column)| schema.key().contains(at) || table.column(&column.name).is_some();
    let columns = schema.columns().iter().enumerate().filter(is_left).map(|(_, column)| column.clone()).collect();
    let key: Vec<String> = schema.key_columns().map(|column| column.name.clone()).collect();
    TableSchema::of_columns(schema.name(), columns, &key)
}

/// Returns true if a registration has any triggers, correct or not.
pub fn has_triggers(conn: &Connection, id: i64) -> Result<bool> {
    Ok(!existing(conn, id)?.is_empty())
}

/// Suspends the capture of a table without removing its registration, so that the table can be
/// altered, also by the app if the table no longer fits its registration. [`reinstall`] resumes the
/// capture.
pub fn suspend(tx: &Connection, id: i64) -> Result<()> {
    drop_triggers(tx, id)
}

/// Ends the registration of a table. Its changes stay in the log until they are pruned. Idempotent.
pub fn remove(tx: &Connection, id: i64) -> Result<()> {
    if !log::exists(tx)? {
        return Ok(());
    }
    drop_triggers(tx, id)?;
    tx.execute("DELETE FROM _vexact_tables WHERE id = ?1", [id]).map(drop).map_err(failed(|| "removing a registration"))
}

/// The registered tables, in the order of their registration.
pub fn registered(conn: &Connection) -> Result<Vec<Registered>> {
    if !log::exists(conn)? {
        return Ok(Vec::new());
    }
    let read = || {
        conn.prepare_cached("SELECT id, version, name FROM _vexact_tables ORDER BY id")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<Vec<(i64, i64, String)>>>()
    };
    let tables = read().map_err(failed(|| "reading the registry"))?;
    tables
        .into_iter()
        .map(|(id, version, name)| Ok(Registered { id, version, schema: log::schema(conn, version, &name)? }))
        .collect()
}

/// Returns true if a table is captured completely: all triggers exist, match the current table, and
/// enclose the user's triggers. This fails after the table was dropped and created again, after a
/// new unique index or trigger, after a column or the table was renamed, and after a column was
/// dropped. [`reinstall`] repairs it.
///
/// # Errors
/// A table that no longer exists, or that no longer fits its registration.
pub fn is_installed(conn: &Connection, registered: &Registered) -> Result<bool> {
    let table = Table::read(conn, registered.schema.name())?;
    let schema = fitting(&table, &registered.schema)?;
    let plan = Plan::try_new(conn, &table, &schema, registered.id, registered.version)?;
    Ok(schema == registered.schema
        && plan.triggers() == existing(conn, registered.id)?
        && plan.absent_table() == absent_table(conn, registered.id)?
        && log::is_wide(conn, schema.columns().len(), plan.widest_watched(), schema.key().len())?
        && are_around(conn, &table.name, registered.id)?)
}

/// Returns true if a schema has the hidden row id of a table as a column. VACUUM renumbers such
/// rows, and fires no trigger.
///
/// # Errors
/// A table that no longer exists.
pub fn has_row_id(conn: &Connection, schema: &TableSchema) -> Result<bool> {
    // Most schemas have no column of such a name.
    if !schema.columns().iter().any(|column| is_row_id_name(&column.name)) {
        return Ok(false);
    }
    let table = Table::read(conn, schema.name())?;
    Ok(schema.columns().iter().any(|column| table.is_hidden_row_id(&column.name)))
}

/// Returns SQLite's count of schema changes, by any program; VACUUM counts as one. While the count
/// is unchanged, so is the result of [`is_installed`].
pub fn schema_version(conn: &Connection) -> Result<i64> {
    let version =
        conn.prepare_cached("PRAGMA schema_version").and_then(|mut pragma| pragma.query_row([], |row| row.get(0)));
    version.map_err(failed(|| "reading the schema's version"))
}

fn capture(tx: &Connection, id: i64, version: i64, schema: &TableSchema) -> Result<Registered> {
    let table = Table::read(tx, schema.name())?;
    let plan = Plan::try_new(tx, &table, schema, id, version)?;
    check_rows(tx, &table, schema)?;
    let context = || format!("capturing table {:?}", schema.name());
    let run = |sql: &str| tx.execute_batch(sql).map_err(failed(context));
    // These triggers came with the table when the app renamed it.
    for Trigger { name, .. } in own_triggers(tx, &table.name)? {
        run(&format!("DROP TRIGGER {}", ident(&name)))?;
    }
    let (before, after): (Vec<_>, Vec<_>) = plan.triggers().into_iter().partition(Trigger::is_note);
    let users = users_triggers(tx, &table.name)?;
    for Trigger { name, .. } in &users {
        run(&format!("DROP TRIGGER {}", ident(name)))?;
    }
    for Trigger { sql, .. } in before.iter().chain(&users).chain(&after) {
        run(sql)?;
    }
    // The tables are created after the triggers of the first table: a program that drops all
    // objects in their order then drops these triggers first.
    log::create(tx)?;
    log::add_version(tx, id, version, schema)?;
    log::widen(tx, schema.columns().len(), plan.widest_watched(), schema.key().len())?;
    run(&format!("DROP TABLE IF EXISTS {}", absent(id)))?;
    if let Some(sql) = plan.absent_table() {
        run(&sql)?;
    }
    check_writes(tx, &table, schema)?;
    let registration = "REPLACE INTO _vexact_tables(id, name, version) VALUES (?1, ?2, ?3)";
    tx.execute(registration, (id, schema.name(), version)).map_err(failed(context))?;
    Ok(Registered { id, version, schema: schema.clone() })
}

/// Refuses a capture with which the app could not write: SQLite bounds the depth of expressions,
/// and so the columns of triggers.
fn check_writes(tx: &Connection, table: &Table, schema: &TableSchema) -> Result<()> {
    let name = ident(&table.name);
    let own = table.columns.iter().filter(|column| !column.is_generated);
    let set: Vec<_> = own.map(|column| format!("{0} = {0}", ident(&column.name))).collect();
    for write in [
        format!("INSERT INTO {name} DEFAULT VALUES"),
        format!("UPDATE {name} SET {}", set.join(", ")),
        format!("DELETE FROM {name}"),
    ] {
        // Other errors are the table's own: its indexes may have a collation that only the app has.
        if let Err(error) = tx.prepare(&write)
            && error.to_string().contains("Expression tree is too large")
        {
            let problem =
                "SQLite refuses to write it with the triggers of so many columns: fewer columns can be registered";
            return Err(failed(|| format!("capturing table {:?}: {problem}", schema.name()))(error));
        }
    }
    Ok(())
}

/// Every value that is there must fit, so that the initial copy cannot fail.
fn check_rows(tx: &Connection, table: &Table, schema: &TableSchema) -> Result<()> {
    let context = || format!("reading table {:?}", schema.name());
    let columns: Vec<_> = schema.columns().iter().map(|column| format!("r.{}", ident(&column.name))).collect();
    let sql = format!("SELECT {} FROM {} AS r", columns.join(", "), ident(&table.name));
    let mut statement = tx.prepare(&sql).map_err(failed(context))?;
    let mut rows = statement.query([]).map_err(failed(context))?;
    let mut problems = Vec::new();
    while let Some(row) = rows.next().map_err(failed(context))? {
        for (at, column) in schema.columns().iter().enumerate() {
            let value = row.get_ref(at).map_err(failed(context))?;
            let problem = match value {
                rusqlite::types::ValueRef::Null if schema.key().contains(&at) => {
                    Err(format!("expected {} for a key, got NULL", column.column_type.expected()))
                }
                value => check(column.column_type, value),
            };
            if let Err(problem) = problem {
                let key = schema.key().iter().map(|at| {
                    let value = row.get_ref(*at).map_or_else(|error| error.to_string(), described);
                    format!("{} = {value}", schema.columns()[*at].name)
                });
                let key = key.collect::<Vec<_>>().join(", ");
                problems.push(format!("row ({key}), column {:?}: {problem}", column.name));
            }
        }
        if problems.len() >= NAMED_ROWS {
            break;
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::Engine(format!("table {:?} has values that do not fit: {}", schema.name(), problems.join("; "))))
}

/// The triggers of a registration that the file has, in order of their names.
fn existing(conn: &Connection, id: i64) -> Result<Vec<Trigger>> {
    let read = || {
        conn.prepare_cached(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, length(?1)) = ?1 ORDER BY name",
        )?
        .query_map([prefix(id)], |row| Ok(Trigger { name: row.get(0)?, sql: row.get(1)? }))?
        .collect::<rusqlite::Result<_>>()
    };
    read().map_err(failed(|| "reading the triggers"))
}

/// The user's triggers on a table, the oldest first.
fn users_triggers(conn: &Connection, table: &str) -> Result<Vec<Trigger>> {
    triggers_on(conn, table, false)
}

/// The engine's triggers on a table, of whatever registration.
fn own_triggers(conn: &Connection, table: &str) -> Result<Vec<Trigger>> {
    triggers_on(conn, table, true)
}

fn triggers_on(conn: &Connection, table: &str, is_own: bool) -> Result<Vec<Trigger>> {
    let read = || {
        conn.prepare_cached(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE
                AND (substr(name, 1, 8) = '_vexact_' COLLATE NOCASE) = ?2 ORDER BY rowid",
        )?
        .query_map((table, is_own), |row| Ok(Trigger { name: row.get(0)?, sql: row.get(1)? }))?
        .collect::<rusqlite::Result<_>>()
    };
    read().map_err(failed(|| "reading the triggers"))
}

/// The statement that made the table of a registration's columns that may be dropped.
fn absent_table(conn: &Connection, id: i64) -> Result<Option<String>> {
    let read = || {
        conn.prepare_cached("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?1")?
            .query_row([absent(id)], |row| row.get(0))
            .optional()
    };
    read().map_err(failed(|| "reading the triggers"))
}

/// Returns true if the capture triggers enclose the user's triggers. SQLite fires the newest
/// trigger first. The recording triggers must be older than the user's: they then run last, and see
/// all changes that the user's triggers make before a row is written. The logging triggers must be
/// newer: they then run before a trigger of the user can end the statement by FAIL, which keeps the
/// rows written so far.
fn are_around(conn: &Connection, table: &str, id: i64) -> Result<bool> {
    let read = || {
        conn.prepare_cached(
            "SELECT NOT EXISTS (SELECT 1 FROM sqlite_master AS u, sqlite_master AS o
                WHERE u.type = 'trigger' AND u.tbl_name = ?1 COLLATE NOCASE AND substr(u.name, 1, 8) <> '_vexact_' COLLATE NOCASE
                AND o.type = 'trigger' AND substr(o.name, 1, length(?2)) = ?2
                AND (o.rowid > u.rowid) = (substr(o.name, length(?2) + 1, 5) = 'note_'))",
        )?
        .query_row((table, prefix(id)), |row| row.get(0))
    };
    read().map_err(failed(|| "reading the triggers"))
}

fn drop_triggers(tx: &Connection, id: i64) -> Result<()> {
    let run = |sql: &str| tx.execute_batch(sql).map_err(failed(|| "ending a capture"));
    for Trigger { name, .. } in existing(tx, id)? {
        run(&format!("DROP TRIGGER {}", ident(&name)))?;
    }
    run(&format!("DROP TABLE IF EXISTS {}", absent(id)))?;
    // Their layout is the old version's.
    let forget =
        tx.prepare_cached("DELETE FROM _vexact_displaced WHERE tbl = ?1").and_then(|mut forget| forget.execute([id]));
    forget.map(drop).map_err(failed(|| "ending a capture"))
}

/// The registration of a table, ASCII case aside.
pub fn find(conn: &Connection, table: &str) -> Result<Option<Registered>> {
    if !log::exists(conn)? {
        return Ok(None);
    }
    let read = || {
        conn.prepare_cached("SELECT id, version, name FROM _vexact_tables WHERE name = ?1 COLLATE NOCASE")?
            .query_row([table], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?)))
            .optional()
    };
    let Some((id, version, name)) = read().map_err(failed(|| "reading the registry"))? else { return Ok(None) };
    Ok(Some(Registered { id, version, schema: log::schema(conn, version, &name)? }))
}
