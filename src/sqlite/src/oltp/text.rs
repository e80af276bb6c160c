//! Registrations of text indexes in a file: `_vexact_text` has table, column and tokenizer. Each
//! engine that opens the file makes the indexes of its replicas.

use rusqlite::Connection;
use vexact_core::error::Result;
use vexact_core::sql::failed;
use vexact_replica::TextColumn;

use super::log;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS _vexact_text(
    tbl TEXT NOT NULL COLLATE NOCASE, col TEXT NOT NULL COLLATE NOCASE, tokenizer TEXT NOT NULL, PRIMARY KEY (tbl, col)) WITHOUT ROWID";

fn context() -> &'static str {
    "the registry of text indexes"
}

fn exists(conn: &Connection) -> Result<bool> {
    log::has_table(conn, "SELECT 1 FROM main._vexact_text LIMIT 1")
}

/// Returns the registered columns.
///
/// # Errors
/// An error of SQLite; a tokenizer of a later version.
pub fn columns(conn: &Connection) -> Result<Vec<TextColumn>> {
    if !exists(conn)? {
        return Ok(Vec::new());
    }
    let read = || {
        conn.prepare("SELECT tbl, col, tokenizer FROM _vexact_text")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<Vec<(String, String, String)>>>()
    };
    let column = |(table, column, tokenizer): (String, String, String)| {
        Ok(TextColumn { table, column, tokenizer: tokenizer.parse()? })
    };
    read().map_err(failed(context))?.into_iter().map(column).collect()
}

/// Registers columns. A column that is registered already gets the new tokenizer.
///
/// # Errors
/// An error of SQLite.
pub fn register(tx: &Connection, columns: &[TextColumn]) -> Result<()> {
    let write = || {
        tx.execute_batch(CREATE)?;
        let mut replace = tx.prepare("REPLACE INTO _vexact_text(tbl, col, tokenizer) VALUES (?1, ?2, ?3)")?;
        columns.iter().try_for_each(|TextColumn { table, column, tokenizer }| {
            replace.execute((table, column, tokenizer.name())).map(drop)
        })
    };
    write().map_err(failed(context))
}

/// Ends the registration of a column, or of all columns of a table. Idempotent.
///
/// # Errors
/// An error of SQLite.
pub fn unregister(tx: &Connection, table: &str, column: Option<&str>) -> Result<()> {
    if !exists(tx)? {
        return Ok(());
    }
    let delete = "DELETE FROM _vexact_text WHERE tbl = ?1 AND col = ifnull(?2, col)";
    tx.execute(delete, (table, column)).map(drop).map_err(failed(context))
}
