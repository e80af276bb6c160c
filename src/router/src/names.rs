//! Lookup of names for the router, and the origin of a table name.

use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName};

/// The tables of both sides, by name. Names are compared as SQLite does: ASCII letters in any case.
pub trait TableLookup {
    /// Returns true if SQLite's main database has a table or view of this name.
    fn in_sqlite(&self, table: &str) -> bool;
    /// Returns the OLAP side's table of this name.
    fn olap(&self, table: &str) -> Option<OlapTable>;
}

/// A table of the OLAP side.
#[derive(Debug, Clone)]
pub struct OlapTable {
    /// Name in the spelling of the OLAP side.
    pub name: String,
    /// Columns in the spelling of the OLAP side.
    pub schema: SchemaRef,
    /// Owner of the table.
    pub owner: Owner,
    /// Column with SQLite's row id, which `*` does not include.
    pub row_id: Option<String>,
}

impl OlapTable {
    /// Returns the columns that `*` includes.
    pub(super) fn visible_columns(&self) -> impl Iterator<Item = &String> {
        self.schema.fields().iter().map(|field| field.name()).filter(|name| self.row_id.as_ref() != Some(*name))
    }

    /// Returns the canonical spelling of a column.
    pub(super) fn column(&self, name: &str) -> Option<&str> {
        let found = self.schema.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name));
        found.map(|field| field.name().as_str())
    }
}

/// Owner of a table of the OLAP side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A table of SQLite, or of the database that a sidecar follows.
    Replica,
    /// A table or view of the session.
    Session,
}

/// Origin of a table name.
pub(super) enum TableOrigin {
    Session(OlapTable),
    Replica {
        table: OlapTable,
        in_sqlite: bool,
    },
    /// The OLAP side's information_schema.
    System,
    /// A table that only SQLite has.
    Sqlite(String),
    Nowhere,
}

/// Catalog and schema of the OLAP side's tables in DataFusion.
pub(super) const OLAP_CATALOG: &str = "datafusion";
pub(super) const OLAP_SCHEMA: &str = "public";

pub(super) fn origin(name: &ObjectName, names: &dyn TableLookup) -> TableOrigin {
    let Some(parts) = idents(name) else { return TableOrigin::Nowhere };
    let parts: Vec<&str> = parts.iter().map(|part| part.value.as_str()).collect();
    let is = |part: &str, expected: &str| part.eq_ignore_ascii_case(expected);
    let olap = |table: OlapTable, in_sqlite| match table.owner {
        Owner::Session => TableOrigin::Session(table),
        Owner::Replica => TableOrigin::Replica { table, in_sqlite },
    };
    match parts[..] {
        [table] => match names.olap(table) {
            Some(found) => olap(found, names.in_sqlite(table)),
            None if names.in_sqlite(table) || is_sqlites(table) => TableOrigin::Sqlite(table.into()),
            None => TableOrigin::Nowhere,
        },
        [schema, table] if is(schema, "main") => match names.olap(table) {
            Some(found) if found.owner == Owner::Replica && names.in_sqlite(table) => olap(found, true),
            _ if names.in_sqlite(table) || is_sqlites(table) => TableOrigin::Sqlite(table.into()),
            _ => TableOrigin::Nowhere,
        },
        [schema, table] if is(schema, "temp") => TableOrigin::Sqlite(format!("temp.{table}")),
        [schema, _] if is(schema, "information_schema") => TableOrigin::System,
        [catalog, schema, _] if is(catalog, OLAP_CATALOG) && is(schema, "information_schema") => TableOrigin::System,
        // SQLite has no schemas of these names.
        [schema, table] if is(schema, OLAP_SCHEMA) => {
            names.olap(table).map_or(TableOrigin::Nowhere, |found| olap(found, false))
        }
        [catalog, schema, table] if is(catalog, OLAP_CATALOG) && is(schema, OLAP_SCHEMA) => {
            names.olap(table).map_or(TableOrigin::Nowhere, |found| olap(found, false))
        }
        _ => TableOrigin::Nowhere,
    }
}

/// SQLite reserves these names for its own tables.
fn is_sqlites(table: &str) -> bool {
    table.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
}

/// Returns the parts of a name; `None` if one is computed.
pub(super) fn idents(name: &ObjectName) -> Option<Vec<&Ident>> {
    name.0.iter().map(|part| part.as_ident()).collect()
}
