//! SQLite's description of a table: its columns, its row id and its unique indexes.

use rusqlite::{Connection, OptionalExtension};
use vexact_core::error::{Error, Result};
use vexact_core::sql::failed;

use super::expression::{Expression, definition_words};

/// SQLite's own names of a row id, which a column of the same name hides.
const ROW_ID_NAMES: [&str; 3] = ["rowid", "oid", "_rowid_"];

/// A table of the main database.
#[derive(Debug)]
pub(super) struct Table {
    /// As SQLite spells it.
    pub name: String,
    pub columns: Vec<TableColumn>,
    pub row_id: RowId,
    pub unique: Vec<Unique>,
    /// A foreign key can delete its rows.
    pub is_cascaded: bool,
}

#[derive(Debug)]
pub(super) struct TableColumn {
    pub name: String,
    pub not_null: bool,
    pub is_generated: bool,
    /// The SQL of its default, if it is a constant.
    pub default: Option<String>,
    pub collation: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum RowId {
    /// WITHOUT ROWID, or columns hide all of its names.
    None,
    /// It has no column; this is a name that reaches it.
    Hidden(&'static str),
    /// This column is it: INTEGER PRIMARY KEY.
    Column(String),
}

/// A unique index or the row id: at most one row has each of its values.
#[derive(Debug)]
pub(super) struct Unique {
    /// The index's name, or "row id".
    pub name: String,
    pub columns: Vec<UniqueColumn>,
    pub is_partial: bool,
    /// `None` if it has none, or one that cannot be written over another row.
    pub predicate: Option<Expression>,
    /// A PRIMARY KEY or UNIQUE of the table's own, whose columns SQLite does not drop.
    pub is_constraint: bool,
}

impl Unique {
    /// Returns the columns that its values depend on; returns `None` if they cannot be determined.
    pub fn sources(&self) -> Option<impl Iterator<Item = &str>> {
        let predicate = self.predicate.iter().flat_map(Expression::columns);
        (self.is_partial == self.predicate.is_some())
            .then(|| self.columns.iter().flat_map(UniqueColumn::sources).chain(predicate))
    }
}

#[derive(Debug)]
pub(super) struct UniqueColumn {
    /// `None` for an expression.
    pub name: Option<String>,
    /// `None` for a column, and for an expression that cannot be written over another row.
    pub expression: Option<Expression>,
    pub collation: String,
}

impl UniqueColumn {
    pub fn is_binary(&self) -> bool {
        self.collation.eq_ignore_ascii_case("BINARY")
    }

    pub fn is(&self, column: &str) -> bool {
        self.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(column))
    }

    /// The columns that its value depends on.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.name.as_deref().into_iter().chain(self.expression.iter().flat_map(Expression::columns))
    }
}

impl Table {
    /// Reads the current description of a table.
    ///
    /// # Errors
    /// A table that does not exist; a view or a virtual table, whose changes triggers cannot
    /// capture.
    pub fn read(conn: &Connection, name: &str) -> Result<Self> {
        let context = || format!("table {name:?}");
        let found = conn
            .prepare_cached("SELECT name, type, wr FROM pragma_table_list(?1) WHERE schema = 'main'")
            .and_then(|mut statement| {
                let row = |row: &rusqlite::Row<'_>| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?))
                };
                statement.query_row([name], row).optional()
            })
            .map_err(failed(context))?;
        let Some((name, kind, without_row_id)) = found else {
            return Err(Error::Engine(format!("no such table: {name}")));
        };
        if kind != "table" {
            return Err(Error::Engine(format!("table {name:?}: expected an ordinary table, got a {kind}")));
        }
        let columns = read_columns(conn, &name).map_err(failed(context))?;
        let row_id =
            if without_row_id { RowId::None } else { read_row_id(conn, &name, &columns).map_err(failed(context))? };
        let (hidden, row_id_name) = match &row_id {
            RowId::None => (None, None),
            RowId::Hidden(name) => (Some(*name), Some(*name)),
            RowId::Column(column) => (None, Some(column.as_str())),
        };
        let mut unique = read_unique(conn, &name, hidden, &columns).map_err(failed(context))?;
        if let Some(column) = row_id_name {
            let columns =
                vec![UniqueColumn { name: Some(column.into()), expression: None, collation: "BINARY".into() }];
            unique.push(Unique {
                name: "row id".into(),
                columns,
                is_partial: false,
                predicate: None,
                is_constraint: true,
            });
        }
        let is_cascaded = conn
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM pragma_foreign_key_list(?1) WHERE on_delete = 'CASCADE')")
            .and_then(|mut statement| statement.query_row([&name], |row| row.get(0)))
            .map_err(failed(context))?;
        Ok(Self { name, columns, row_id, unique, is_cascaded })
    }

    /// A column by name, ASCII case aside.
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    pub fn is_generated(&self, column: &str) -> bool {
        self.column(column).is_some_and(|column| column.is_generated)
    }

    /// Returns the default of a NOT NULL column.
    pub fn default(&self, column: &str) -> Option<&str> {
        self.column(column).filter(|column| column.not_null).and_then(|column| column.default.as_deref())
    }

    /// Returns true if `ALTER TABLE DROP COLUMN` may drop the column, perhaps after its index.
    pub fn is_droppable(&self, column: &str) -> bool {
        !self.unique.iter().any(|unique| unique.is_constraint && unique.columns.iter().any(|part| part.is(column)))
    }

    /// Returns true if a generated column is computed from the row id, directly or through other
    /// columns; also true if that cannot be determined.
    ///
    /// # Errors
    /// An error of SQLite.
    pub fn is_of_row_id(&self, conn: &Connection, column: &str) -> Result<bool> {
        let sql: Option<String> = conn
            .prepare_cached("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?1")
            .and_then(|mut statement| statement.query_row([&self.name], |row| row.get(0)).optional())
            .map_err(failed(|| format!("table {:?}", self.name)))?;
        let (sql, row_id) = (sql.unwrap_or_default(), self.row_id_names());
        let (mut reached, mut next) = (vec![column.to_owned()], 0);
        while let Some(column) = reached.get(next) {
            next += 1;
            let Some(at) = self.columns.iter().position(|known| known.name.eq_ignore_ascii_case(column)) else {
                continue;
            };
            if !self.columns[at].is_generated {
                continue;
            }
            let Some(words) = definition_words(&sql, at) else { return Ok(true) };
            if words.iter().any(|word| row_id.iter().any(|name| name.eq_ignore_ascii_case(word))) {
                return Ok(true);
            }
            let is_new = |word: &String| !reached.iter().any(|known| known.eq_ignore_ascii_case(word));
            let new: Vec<_> = words.into_iter().filter(is_new).collect();
            reached.extend(new);
        }
        Ok(false)
    }

    pub fn is_row_id(&self, column: &str) -> bool {
        match &self.row_id {
            RowId::None => false,
            RowId::Hidden(name) => name.eq_ignore_ascii_case(column),
            RowId::Column(name) => name.eq_ignore_ascii_case(column),
        }
    }

    /// Returns true if a name is the first name of a hidden row id, that is, of a row id without a
    /// column.
    pub fn is_hidden_row_id(&self, name: &str) -> bool {
        matches!(self.row_id, RowId::Hidden(_)) && self.is_row_id(name)
    }

    /// All names under which an UPDATE can set the row id.
    pub fn row_id_names(&self) -> Vec<&str> {
        let hidden = ROW_ID_NAMES.into_iter().filter(|name| self.column(name).is_none());
        match &self.row_id {
            RowId::None => Vec::new(),
            RowId::Hidden(_) => hidden.collect(),
            RowId::Column(column) => hidden.chain([column.as_str()]).collect(),
        }
    }
}

/// The name of a table's row id, if it has one that can be named.
pub(crate) fn row_id_name(conn: &Connection, table: &str) -> Result<Option<String>> {
    Ok(match Table::read(conn, table)?.row_id {
        RowId::None => None,
        RowId::Hidden(name) => Some(name.to_owned()),
        RowId::Column(name) => Some(name),
    })
}

fn read_columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<TableColumn>> {
    let mut statement =
        conn.prepare_cached("SELECT name, \"notnull\", hidden, dflt_value FROM pragma_table_xinfo(?1) ORDER BY cid")?;
    let column = |row: &rusqlite::Row<'_>| {
        let hidden: i64 = row.get(2)?;
        // A default may be a bare word too, which is a text there and would be a column elsewhere.
        let default = row.get::<_, Option<String>>(3)?;
        let default = default.filter(|sql| sql.starts_with(|c: char| c.is_ascii_digit() || "'+-.(".contains(c)));
        let name: String = row.get(0)?;
        let (_, collation, ..) = conn.column_metadata(Some("main"), table, name.as_str())?;
        let collation = collation.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(TableColumn { name, not_null: row.get(1)?, is_generated: matches!(hidden, 2 | 3), default, collation })
    };
    statement.query_map([table], column)?.collect()
}

fn read_row_id(conn: &Connection, table: &str, columns: &[TableColumn]) -> rusqlite::Result<RowId> {
    // A primary key that has no index of its own is the row id.
    let mut statement = conn.prepare_cached(
        "SELECT name FROM pragma_table_xinfo(?1) WHERE pk = 1 AND upper(type) = 'INTEGER'
            AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')",
    )?;
    if let Some(column) = statement.query_row([table], |row| row.get(0)).optional()? {
        return Ok(RowId::Column(column));
    }
    let free = |name: &&str| !columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    Ok(ROW_ID_NAMES.into_iter().find(free).map_or(RowId::None, RowId::Hidden))
}

fn read_unique(
    conn: &Connection,
    table: &str,
    hidden: Option<&str>,
    columns: &[TableColumn],
) -> rusqlite::Result<Vec<Unique>> {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let mut indexes = conn.prepare_cached(
        "SELECT l.name, l.partial, m.sql, l.origin <> 'c' FROM pragma_index_list(?1) AS l
            LEFT JOIN sqlite_master AS m ON m.type = 'index' AND m.name = l.name WHERE l.\"unique\" = 1 ORDER BY l.name",
    )?;
    let mut parts =
        conn.prepare_cached("SELECT name, coll, cid, seqno FROM pragma_index_xinfo(?1) WHERE key = 1 ORDER BY seqno")?;
    let indexes: Vec<(String, bool, Option<String>, bool)> = indexes
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<rusqlite::Result<_>>()?;
    indexes
        .into_iter()
        .map(|(name, is_partial, sql, is_constraint)| {
            let part = |row: &rusqlite::Row<'_>| {
                let (collation, at) = (row.get(1)?, usize::from(row.get::<_, u16>(3)?));
                let (name, expression) = match row.get::<_, i64>(2)? {
                    // An index can be on the row id that has no column.
                    -1 => (hidden.map(str::to_owned), None),
                    -2 => (None, Expression::parse(sql.as_deref().unwrap_or_default(), at, &names)),
                    _ => (row.get(0)?, None),
                };
                Ok(UniqueColumn { name, expression, collation })
            };
            let columns = parts.query_map([&name], part)?.collect::<rusqlite::Result<_>>()?;
            let predicate = sql.as_deref().filter(|_| is_partial).and_then(|sql| Expression::predicate(sql, &names));
            Ok(Unique { name, columns, is_partial, predicate, is_constraint })
        })
        .collect()
}
