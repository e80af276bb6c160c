//! Statements that write: one at a time, a list in one transaction, one for many rows.

use arrow::array::RecordBatch;
use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, ErrorCode, Statement};
use vexact_core::error::{Error, Result};
use vexact_core::schema::ColumnType;
use vexact_core::sql::{excerpt, failed, keyword, within, without_nul};

use super::check::PREFIX;
use super::column::{check, described};
use super::connection::Opened;
use super::like;
use super::query::{ResultTypes, read};
use super::writer::transaction;

/// Runs one DML or DDL statement in its own transaction; returns the number of affected rows.
pub(super) fn execute(opened: &Opened, sql: &str, params: &[Value]) -> Result<u64> {
    // Inside a transaction SQLite ignores these settings without a word.
    if keyword(sql) == "PRAGMA" {
        return prepare_and_run(opened, sql, params);
    }
    transaction(&opened.conn, || prepare_and_run(opened, sql, params))
}

fn prepare_and_run(opened: &Opened, sql: &str, params: &[Value]) -> Result<u64> {
    watched(opened, || {
        let mut statement = prepare(&opened.conn, sql)?;
        run(opened, &mut statement, sql, params)
    })
}

/// Runs a closure that prepares and steps a user's statement.
fn watched<T>(opened: &Opened, run: impl FnOnce() -> Result<T>) -> Result<T> {
    opened.shared.last_write.watch(&opened.conn, || opened.guard.watch(run))
}

/// Runs one statement with RETURNING in its own transaction; returns its rows.
pub(super) fn execute_returning(
    opened: &Opened,
    sql: &str,
    params: &[Value],
    types: &ResultTypes,
) -> Result<Vec<RecordBatch>> {
    transaction(&opened.conn, || {
        watched(opened, || {
            let mut statement = prepare_one(&opened.conn, sql, "execute_returning runs one")?;
            if !is_dml(sql) || statement.readonly() || statement.column_count() == 0 {
                let problem = "execute_returning takes INSERT, UPDATE or DELETE with RETURNING";
                return Err(Error::Engine(format!("{problem} (execute and query take others), got: {}", excerpt(sql))));
            }
            bind(&mut statement, sql, params)?;
            let rows = read(&opened.conn, &mut statement, &[], sql, types, &|error| explained(error, sql, params))?;
            opened.shared.last_write.changed(opened.conn.changes());
            Ok(rows)
        })
    })
}

/// Runs statements atomically in one transaction; returns the total number of affected rows.
pub(super) fn execute_batch(opened: &Opened, statements: &[(String, Vec<Value>)]) -> Result<u64> {
    transaction(&opened.conn, || {
        let mut affected = 0;
        for (at, (sql, params)) in statements.iter().enumerate() {
            let part = || format!("statement {} of {} ({})", at + 1, statements.len(), excerpt(sql));
            if sets_foreign_keys(sql) {
                let problem = "SQLite ignores PRAGMA foreign_keys in a transaction: use execute".into();
                return Err(within(Error::Engine(problem), &part()));
            }
            affected += prepare_and_run(opened, sql, params).map_err(|error| within(error, &part()))?;
        }
        Ok(affected)
    })
}

fn sets_foreign_keys(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    keyword(sql) == "PRAGMA" && lower.contains("foreign_keys") && !lower.contains("defer_foreign_keys")
}

/// Runs one statement for each row of parameters, in one transaction; returns the total number of
/// affected rows.
pub(super) fn execute_many(opened: &Opened, sql: &str, rows: &[Vec<Value>]) -> Result<u64> {
    transaction(&opened.conn, || {
        watched(opened, || {
            let mut statement = prepare(&opened.conn, sql)?;
            let mut affected = 0;
            for (at, row) in rows.iter().enumerate() {
                let part = || format!("row {} of {}", at + 1, rows.len());
                affected += run(opened, &mut statement, sql, row).map_err(|error| within(error, &part()))?;
            }
            Ok(affected)
        })
    })
}

/// Prepares exactly one statement that returns no rows.
fn prepare<'conn>(conn: &'conn Connection, sql: &str) -> Result<CachedStatement<'conn>> {
    let keyword = keyword(sql);
    let refused = |problem: &str| Err(Error::Engine(format!("{problem}, got: {}", excerpt(sql))));
    match keyword.as_str() {
        "BEGIN" | "COMMIT" | "END" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" => {
            return refused(
                "transactions are not opened by statements (execute_batch is one): expected a DML or DDL statement",
            );
        }
        "VACUUM" => return refused("VACUUM does not run beside open connections: expected a DML or DDL statement"),
        "" => return refused("expected a DML or DDL statement"),
        _ => {}
    }
    let statement = prepare_one(conn, sql, "execute_batch runs several")?;
    if statement.column_count() > 0 {
        return refused(
            "execute takes statements that return no rows (query returns rows, execute_returning those of RETURNING)",
        );
    }
    Ok(statement)
}

/// Prepares exactly one statement; `hint` names the function that takes several.
pub(super) fn prepare_one<'conn>(conn: &'conn Connection, sql: &str, hint: &str) -> Result<CachedStatement<'conn>> {
    without_nul(sql)?;
    match conn.prepare_cached(sql) {
        Err(rusqlite::Error::MultipleStatement) => {
            Err(Error::Engine(format!("expected one statement, got more ({hint}): {}", excerpt(sql))))
        }
        // Its own message has the statement already.
        Err(rusqlite::Error::SqlInputError { msg, .. }) => Err(Error::Engine(format!("{msg}: {}", excerpt(sql)))),
        other => other.map_err(failed(|| excerpt(sql))),
    }
}

fn run(opened: &Opened, statement: &mut Statement<'_>, sql: &str, params: &[Value]) -> Result<u64> {
    bind(statement, sql, params)?;
    let affected = statement.raw_execute().map_err(|error| explained(error, sql, params))?;
    // SQLite's count is of the last DML, which DDL is not.
    if !is_dml(sql) {
        return Ok(0);
    }
    opened.shared.last_write.changed(affected as u64);
    Ok(affected as u64)
}

fn is_dml(sql: &str) -> bool {
    matches!(keyword(sql).as_str(), "INSERT" | "REPLACE" | "UPDATE" | "DELETE" | "WITH")
}

/// Binds `?`, `?N` and `$N`.
///
/// # Errors
/// Another kind of name; more or fewer values than the statement has parameters.
pub(super) fn bind(statement: &mut Statement<'_>, sql: &str, params: &[Value]) -> Result<()> {
    // SQLite numbers parameters as they appear; `$2` is only a name to it.
    let mut positions = Vec::with_capacity(statement.parameter_count());
    for index in 1..=statement.parameter_count() {
        let name = statement.parameter_name(index);
        let pattern = name.and_then(like::pattern_position);
        let position = match (pattern, name) {
            (Some(position), _) => position,
            (None, None) => index,
            (None, Some(name)) => match name.strip_prefix(['$', '?']).and_then(|number| number.parse::<usize>().ok()) {
                Some(number) if number > 0 => number,
                _ => return Err(Error::Engine(format!("parameter {name}: expected ? or $1, in: {}", excerpt(sql)))),
            },
        };
        positions.push((position, pattern.is_some()));
    }
    let expected = positions.iter().map(|(position, _)| *position).max().unwrap_or(0);
    if expected != params.len() {
        return Err(Error::Engine(format!("expected {expected} parameters, got {}: {}", params.len(), excerpt(sql))));
    }
    statement.clear_bindings();
    for (index, (position, is_pattern)) in positions.into_iter().enumerate() {
        let value = &params[position - 1];
        let bound = match is_pattern {
            true => statement.raw_bind_parameter(index + 1, like::bound_pattern(value)),
            false => statement.raw_bind_parameter(index + 1, value),
        };
        bound.map_err(failed(|| format!("parameter {position} of {}", excerpt(sql))))?;
    }
    Ok(())
}

/// Adds context to an error. An error raised by the triggers names table, column and type; the
/// value must be one of the bound values, if it was bound at all.
fn explained(error: rusqlite::Error, sql: &str, params: &[Value]) -> Error {
    if let rusqlite::Error::SqliteFailure(code, Some(message)) = &error
        && code.code == ErrorCode::ConstraintViolation
        && let Some(refusal) = message.strip_prefix(PREFIX)
    {
        let kind = refusal.split_once("expected ").and_then(|(_, expected)| expected.split(" (").next());
        let kind = kind.and_then(|kind| ColumnType::parse(kind).ok());
        let is_refused = |value: &Value| kind.is_some_and(|kind| check(kind, value.into()).is_err());
        let got = params.iter().enumerate().filter(|(_, value)| is_refused(value));
        let got = got.map(|(at, value)| format!("{} (parameter {})", described(value.into()), at + 1));
        let got: Vec<_> = got.take(3).collect();
        let got = if got.is_empty() || refusal.contains(", got ") {
            String::new()
        } else {
            format!(", got {}", got.join(" or "))
        };
        return Error::Engine(format!("{refusal}{got}"));
    }
    failed(|| excerpt(sql))(error)
}
