//! Infers the columns, the types and the key of a table, for a registration that names none.
//!
//! A type comes from the declaration where SQLite's affinity or a vector's type says it, else from
//! the values that the column has. A BLOB may be a vector or bytes: the caller says which. A column
//! whose type is not certain has a guess instead, which the caller shows and does not use.

use std::collections::BTreeMap;

use rusqlite::Connection;
use vexact_core::error::{Error, Result};
use vexact_core::schema::{ColumnType, VectorElement, declared};
use vexact_core::sql::{failed, ident};

use super::table::{RowId, Table};

/// A table's schema as far as it is certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferredTable {
    /// Name as SQLite spells it.
    pub name: String,
    /// Columns in the table's order.
    pub columns: Vec<InferredColumn>,
    /// The primary key's columns in the key's order, or the name of the row id.
    pub key: Vec<String>,
}

/// A column and its type, or a guess at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferredColumn {
    /// Name as SQLite spells it.
    pub name: String,
    /// The type to register: certain if `is_certain`, else the one that most likely fits.
    pub column_type: ColumnType,
    /// False if the column may hold values of another type.
    pub is_certain: bool,
    /// The declaration and, where they were read, the values that the type comes from.
    pub reason: String,
}

/// The content of a BLOB column, as its user says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blobs {
    /// Vectors of so many little-endian float32.
    Vectors(usize),
    /// Bytes.
    Bytes,
}

/// The values of a column: their number and lengths by storage class.
type Classes = BTreeMap<String, Lengths>;

#[derive(Debug, Clone, Copy)]
struct Lengths {
    count: i64,
    least: i64,
    greatest: i64,
}

/// Infers the schema of a table. `blobs` says what BLOB columns hold, by their names.
///
/// # Errors
/// As [`Table::read`]; a name in `blobs` that is no column, or a column that is not declared as a
/// BLOB; a dimension of 0; a table without a key whose row id has no name.
pub fn infer(conn: &Connection, table: &str, blobs: &[(String, Blobs)]) -> Result<InferredTable> {
    let found = Table::read(conn, table)?;
    let declarations = declarations(conn, &found.name).map_err(failed(|| format!("table {:?}", found.name)))?;
    for (name, _) in blobs {
        if found.column(name).is_none() {
            return Err(invalid(&found, &format!("vectors: expected a column of the table, got {name:?}")));
        }
    }
    let columns = declarations.iter().map(|declaration| {
        let said = blobs.iter().find(|(name, _)| name.eq_ignore_ascii_case(&declaration.name)).map(|(_, said)| *said);
        column(conn, &found, declaration, said)
    });
    let columns = columns.collect::<Result<_>>()?;
    let mut key: Vec<&Declaration> = declarations.iter().filter(|declaration| declaration.key > 0).collect();
    key.sort_by_key(|declaration| declaration.key);
    let key = match (key.is_empty(), &found.row_id) {
        (false, _) => key.into_iter().map(|declaration| declaration.name.clone()).collect(),
        (true, RowId::Hidden(name)) => vec![(*name).to_owned()],
        (true, _) => return Err(invalid(&found, "expected a primary key, got none, and its columns hide the row id")),
    };
    Ok(InferredTable { name: found.name, columns, key })
}

fn invalid(table: &Table, problem: &str) -> Error {
    Error::InvalidArgument(format!("table {:?}: {problem}", table.name))
}

struct Declaration {
    name: String,
    /// As written; empty if there is none.
    text: String,
    /// Position in the primary key, from 1; 0 outside.
    key: i64,
}

fn declarations(conn: &Connection, table: &str) -> rusqlite::Result<Vec<Declaration>> {
    let sql = "SELECT name, type, pk FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid";
    let row = |row: &rusqlite::Row<'_>| Ok(Declaration { name: row.get(0)?, text: row.get(1)?, key: row.get(2)? });
    conn.prepare_cached(sql)?.query_map([table], row)?.collect()
}

fn column(conn: &Connection, table: &Table, declaration: &Declaration, said: Option<Blobs>) -> Result<InferredColumn> {
    let Declaration { name, text, .. } = declaration;
    let shown = if text.is_empty() { "no declared type".into() } else { format!("declared {text}") };
    let new =
        |column_type, is_certain, reason| Ok(InferredColumn { name: name.clone(), column_type, is_certain, reason });
    match said {
        Some(Blobs::Bytes) => return new(ColumnType::Binary, true, format!("{shown}, said to be bytes")),
        Some(Blobs::Vectors(dim)) => {
            if !(1..=i32::MAX as usize).contains(&dim) {
                let expected = format!("from 1 to {}", i32::MAX);
                return Err(invalid(
                    table,
                    &format!("vectors: column {name:?}: expected a dimension {expected}, got {dim}"),
                ));
            }
            return new(vector(dim), true, format!("{shown}, said to be vectors"));
        }
        None => {}
    }
    if let Some(column_type) = declared_vector(text) {
        return new(column_type, true, shown);
    }
    match declared(Some(text.as_str())) {
        Some(ColumnType::Binary) | None => {}
        Some(column_type) => return new(column_type, true, shown),
    }
    let classes =
        classes(conn, &table.name, name).map_err(failed(|| format!("table {:?}: column {name:?}", table.name)))?;
    let values: Vec<String> = classes.iter().map(|(class, lengths)| described(class, *lengths)).collect();
    let values = if values.is_empty() { "no values".into() } else { values.join(" and ") };
    let (column_type, is_certain) = of_values(&classes, declared(Some(text.as_str())) == Some(ColumnType::Binary));
    new(column_type, is_certain, format!("{shown}, {values}"))
}

fn vector(dim: usize) -> ColumnType {
    ColumnType::Vector { element: VectorElement::Float32, dim }
}

/// Returns the type of a declaration that is a vector's, in the spellings of libSQL (`F32_BLOB(N)`,
/// `FLOAT32(N)`), sqlite-vec (`FLOAT[N]`) and this engine.
fn declared_vector(declaration: &str) -> Option<ColumnType> {
    if let Ok(vector @ ColumnType::Vector { .. }) = ColumnType::parse(declaration) {
        return Some(vector);
    }
    let compact: String = declaration.to_ascii_lowercase().split_whitespace().collect();
    let dim = ["f32_blob(", "float32(", "float["].iter().find_map(|prefix| compact.strip_prefix(prefix))?;
    let dim = dim.strip_suffix([')', ']'])?;
    let dim: i32 = dim.parse().ok().filter(|dim| *dim > 0)?;
    Some(vector(dim as usize))
}

fn classes(conn: &Connection, table: &str, column: &str) -> rusqlite::Result<Classes> {
    let (table, column) = (ident(table), ident(column));
    // An index may have a collation that only the app has.
    let sql = format!(
        "SELECT typeof({column}), count(*), min(length({column})), max(length({column}))
         FROM {table} NOT INDEXED WHERE {column} IS NOT NULL GROUP BY 1"
    );
    let row = |row: &rusqlite::Row<'_>| {
        let lengths = Lengths { count: row.get(1)?, least: row.get(2)?, greatest: row.get(3)? };
        Ok((row.get(0)?, lengths))
    };
    conn.prepare(&sql)?.query_map([], row)?.collect()
}

fn described(class: &str, lengths: Lengths) -> String {
    let Lengths { count, least, greatest } = lengths;
    match (class, least == greatest) {
        ("blob", true) => format!("{count} BLOBs of {least} bytes"),
        ("blob", false) => format!("{count} BLOBs of {least} to {greatest} bytes"),
        _ => format!("{count} values of class {class}"),
    }
}

/// Returns the type of a column by its values, and whether it is certain.
fn of_values(classes: &Classes, is_blob: bool) -> (ColumnType, bool) {
    let names: Vec<&str> = classes.keys().map(String::as_str).collect();
    match (&names[..], classes.values().next()) {
        // Lengths of BLOBs that differ are not those of vectors.
        (["blob"], Some(lengths)) if lengths.least != lengths.greatest => (ColumnType::Binary, true),
        (["blob"], Some(lengths)) if lengths.least > 0 && lengths.least % 4 == 0 => {
            (vector(lengths.least as usize / 4), false)
        }
        (["blob"], Some(_)) => (ColumnType::Binary, true),
        (["text"], _) if !is_blob => (ColumnType::Utf8, true),
        (["integer"], _) if !is_blob => (ColumnType::Int64, true),
        (["real"] | ["integer", "real"], _) if !is_blob => (ColumnType::Float64, true),
        ([], _) if !is_blob => (ColumnType::Utf8, false),
        _ => (ColumnType::Binary, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(sql: &str) -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(sql).unwrap();
        conn
    }

    /// `name type` for each column, with `?` after a guess.
    fn shown(conn: &Connection, blobs: &[(String, Blobs)]) -> (String, Vec<String>) {
        let InferredTable { columns, key, .. } = infer(conn, "T", blobs).unwrap();
        let column = |column: InferredColumn| {
            format!("{} {}{}", column.name, column.column_type, if column.is_certain { "" } else { "?" })
        };
        (columns.into_iter().map(column).collect::<Vec<_>>().join(", "), key)
    }

    #[test]
    fn declarations_decide_where_they_say_a_type() {
        let conn = opened(
            "CREATE TABLE t (Id INTEGER PRIMARY KEY, a VARCHAR(9), b BIGINT, c DOUBLE PRECISION, d BOOLEAN, e F32_BLOB(3),
                f FLOAT[4], g vector(5), h float32 [ 6 ], i FLOAT32 ( 7 ), j FLOAT, k float16[8])",
        );
        let types = "Id int64, a utf8, b int64, c float64, d bool, e vector(3), f vector(4), g vector(5), h vector(6), i vector(7), \
                     j float64, k float16[8]";
        assert_eq!(shown(&conn, &[]), (types.into(), vec!["Id".into()]));
    }

    #[test]
    fn values_decide_where_the_declaration_does_not() {
        let conn = opened(
            "CREATE TABLE t (a DATE, b DECIMAL(5, 2), c, d BLOB, e NUMERIC, f JSON, g BLOB, h BLOB);
             INSERT INTO t VALUES ('2024-01-01', 1.5, 'x', x'0102', 7, '{}', x'00', 'text'), (NULL, 2, 'y', x'01', NULL, '[]', NULL, x'00');",
        );
        let types = "a utf8, b float64, c utf8, d binary, e int64, f utf8, g binary, h binary?";
        assert_eq!(shown(&conn, &[]), (types.into(), vec!["rowid".into()]));
    }

    #[test]
    fn what_is_not_certain_is_a_guess() {
        let conn = opened(
            "CREATE TABLE t (a DATE, b BLOB, c BLOB, d); INSERT INTO t VALUES (NULL, zeroblob(12), NULL, 1), (NULL, zeroblob(12), NULL, 'x')",
        );
        assert_eq!(shown(&conn, &[]).0, "a utf8?, b vector(3)?, c binary?, d binary?");
        let said = [("B".to_owned(), Blobs::Vectors(3)), ("c".to_owned(), Blobs::Bytes)];
        assert_eq!(shown(&conn, &said).0, "a utf8?, b vector(3), c binary, d binary?");
        let reasons = infer(&conn, "t", &said).unwrap().columns.into_iter().map(|column| column.reason);
        let expected = [
            "declared DATE, no values",
            "declared BLOB, said to be vectors",
            "declared BLOB, said to be bytes",
            "no declared type, 1 values of class integer and 1 values of class text",
        ];
        assert_eq!(reasons.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn keys_are_in_their_order() {
        let conn = opened("CREATE TABLE t (a TEXT, b INT, c TEXT, PRIMARY KEY (c, a)) WITHOUT ROWID");
        assert_eq!(shown(&conn, &[]).1, ["c", "a"]);
        let hidden = opened("CREATE TABLE t (rowid TEXT, oid TEXT, _rowid_ TEXT)");
        assert!(infer(&hidden, "t", &[]).unwrap_err().to_string().contains("expected a primary key, got none"));
    }

    #[test]
    fn wrong_names_are_refused() {
        let conn = opened("CREATE TABLE t (a BLOB); CREATE VIEW v AS SELECT 1 AS one");
        let problem = |table: &str, blobs: &[(String, Blobs)]| infer(&conn, table, blobs).unwrap_err().to_string();
        assert!(problem("x", &[]).contains("no such table: x"));
        assert!(problem("v", &[]).contains("expected an ordinary table, got a view"));
        assert!(problem("t", &[("b".into(), Blobs::Bytes)]).contains("expected a column of the table, got \"b\""));
        assert!(
            problem("t", &[("a".into(), Blobs::Vectors(0))])
                .contains("expected a dimension from 1 to 2147483647, got 0")
        );
    }
}
