//! Lookup of names for the router: the tables of SQLite, the replicas, the session's own tables.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use vexact_core::error::Result;
use vexact_core::schema::{ColumnType, declared, is_row_id_name};
use vexact_core::sql::failed;
use vexact_replica::{Snapshot, SyncMode};
use vexact_router::{OlapTable, Owner, TableLookup};
use vexact_session::Session;
use vexact_sqlite::oltp::{FileId, Oltp, capture};

pub(super) type TableNames = Arc<KnownTables>;

/// A file, and SQLite's count of its schema changes.
type SchemaId = (FileId, i64);

/// Schema of SQLite as it was read. Names of tables are in lower case.
#[derive(Debug, Default)]
pub(super) struct KnownTables {
    /// Columns of tables and views, with their declared types.
    columns: HashMap<String, Vec<(String, String)>>,
    views: HashSet<String>,
    /// Columns of any table whose text is not compared byte by byte, in lower case.
    collated: HashSet<String>,
    /// Columns of any table whose values SQLite does not convert to reals, in lower case.
    undeclared: HashSet<String>,
}

impl KnownTables {
    pub fn contains(&self, table: &str) -> bool {
        self.columns.contains_key(table)
    }

    /// Returns the names of tables and views.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.columns.keys().map(String::as_str)
    }

    /// Returns true if the name is a table and not a view.
    pub fn is_table(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.columns.contains_key(&name) && !self.views.contains(&name)
    }

    /// Returns the columns of a table, with their declared types.
    pub fn columns(&self, table: &str) -> Option<&[(String, String)]> {
        self.columns.get(&table.to_ascii_lowercase()).map(Vec::as_slice)
    }

    /// Returns true if a table has a column of this name with a collation of its own.
    pub fn is_collated(&self, column: &str) -> bool {
        !self.collated.is_empty() && self.collated.contains(&column.to_ascii_lowercase())
    }

    /// Returns true if a table has a column of this name that preserves integers, for any type in
    /// its replica.
    pub fn has_no_declared_type(&self, column: &str) -> bool {
        self.undeclared.contains(&column.to_ascii_lowercase())
    }

    fn read(conn: &Connection) -> rusqlite::Result<Self> {
        let mut tables = conn.prepare_cached(
            "SELECT name, type = 'view', type = 'table' AND upper(sql) LIKE '%COLLATE%' FROM sqlite_master
                WHERE type IN ('table', 'view')",
        )?;
        let tables: Vec<(String, bool, bool)> = tables
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let mut known = Self::default();
        for (table, is_view, has_collations) in tables {
            if is_view {
                known.views.insert(table.to_ascii_lowercase());
            }
            // A view of dropped tables has no columns.
            let columns = read_columns(conn, &table).unwrap_or_default();
            if table.starts_with("_vexact_") {
                // Queries do not read the engine's own columns, whose names other tables may have.
                known.columns.insert(table.to_ascii_lowercase(), columns);
                continue;
            }
            let undeclared = columns
                .iter()
                .filter(|(_, declaration)| !is_view && declared(Some(declaration)) != Some(ColumnType::Float64));
            known.undeclared.extend(undeclared.map(|(column, _)| column.to_ascii_lowercase()));
            for (column, _) in columns.iter().filter(|_| has_collations) {
                let (_, collation, ..) = conn.column_metadata(Some("main"), table.as_str(), column.as_str())?;
                if collation.is_some_and(|collation| !collation.to_bytes().eq_ignore_ascii_case(b"BINARY")) {
                    known.collated.insert(column.to_ascii_lowercase());
                }
            }
            known.columns.insert(table.to_ascii_lowercase(), columns);
        }
        Ok(known)
    }
}

fn read_columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<(String, String)>> {
    let mut columns =
        conn.prepare_cached("SELECT name, type FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid")?;
    columns.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Tables and views of SQLite, in lower case, which are read again after the schema has changed.
#[derive(Debug, Default)]
pub(super) struct SqliteTables {
    known: Arc<Mutex<Option<(SchemaId, TableNames)>>>,
}

impl SqliteTables {
    pub async fn current(&self, oltp: &Oltp) -> Result<TableNames> {
        if let Some(names) = oltp.schema_version_at_once().and_then(|version| self.of(version)) {
            return Ok(names);
        }
        let known = Arc::clone(&self.known);
        let file = oltp.file()?;
        oltp.read(move |conn| {
            let version = (file, capture::schema_version(conn)?);
            let names = KnownTables::read(conn).map(Arc::new).map_err(failed(|| "reading the names of tables"))?;
            *known.lock() = Some((version, Arc::clone(&names)));
            Ok(names)
        })
        .await
    }

    /// Returns the cached names of a schema version; `None` if that version is not cached.
    fn of(&self, version: SchemaId) -> Option<TableNames> {
        let known = self.known.lock();
        known.as_ref().filter(|(known, _)| *known == version).map(|(_, names)| Arc::clone(names))
    }
}

/// Names at one moment.
pub(super) struct EngineNames<'e> {
    pub session: &'e Session,
    pub snapshot: Arc<Snapshot>,
    pub sqlite: TableNames,
    /// Tables of a source, in lower case, which hide SQLite's tables of the same name.
    pub followed: Vec<String>,
}

impl EngineNames<'_> {
    /// Returns true if a SQLite table has columns that its replica lacks. A history is not a copy
    /// of its table: it has columns of its own.
    pub fn lacks_columns(&self, table: &str) -> bool {
        let (Some(state), Some(columns)) = (self.snapshot.table(table), self.sqlite.columns(table)) else {
            return false;
        };
        let definition = state.version.definition();
        let is_there = |name: &str| definition.schema.fields().iter().any(|f| f.name().eq_ignore_ascii_case(name));
        definition.mode == SyncMode::Destructive
            && self.in_sqlite(table)
            && !columns.iter().all(|(name, _)| is_there(name))
    }
}

impl TableLookup for EngineNames<'_> {
    fn in_sqlite(&self, table: &str) -> bool {
        let table = table.to_ascii_lowercase();
        self.sqlite.contains(&table) && !self.followed.contains(&table)
    }

    fn olap(&self, table: &str) -> Option<OlapTable> {
        if let Some((name, schema)) = self.session.own_table(table) {
            return Some(OlapTable { name, schema, owner: Owner::Session, row_id: None });
        }
        let version = &self.snapshot.table(table)?.version;
        let of_sqlite = self.sqlite.columns(table);
        let row_id = version.schema().fields().iter().map(|field| field.name()).find(|name| {
            is_row_id_name(name)
                && of_sqlite.is_some_and(|known| !known.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)))
        });
        Some(OlapTable {
            name: version.definition().name.clone(),
            schema: Arc::clone(version.schema()),
            owner: Owner::Replica,
            row_id: row_id.cloned(),
        })
    }
}
