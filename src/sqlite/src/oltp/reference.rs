//! References from triggers to columns that the app may drop or rename.
//!
//! SQLite rejects `ALTER TABLE DROP COLUMN` while a trigger names the column, unless the name
//! resolves to something else without it. So each reference to such a column has a second
//! resolution: the name also exists in the enclosing query, or in a table joined by NATURAL, and is
//! NULL there. SQLite writes a renaming into the triggers, but not through `SELECT *`: there the
//! old name gets its second resolution at once.

use vexact_core::sql::ident;

use super::table::{RowId, Table};
use super::trigger::prefix;

/// The references of one table's triggers.
pub(super) struct References<'a> {
    table: &'a Table,
    id: i64,
    /// All columns that the triggers name, in order.
    named: Vec<&'a str>,
}

impl<'a> References<'a> {
    /// `columns`: all that the triggers name.
    pub fn new(table: &'a Table, id: i64, columns: impl Iterator<Item = &'a str>) -> Self {
        let columns = columns.filter_map(|name| table.column(name));
        let mut named: Vec<&str> = columns.map(|column| column.name.as_str()).collect();
        named.sort_unstable();
        named.dedup();
        Self { table, id, named }
    }

    fn is_droppable(&self, column: &str) -> bool {
        self.table.column(column).is_some() && self.table.is_droppable(column)
    }

    /// The row id's names are not quoted: in quotes they would be columns.
    fn name(&self, column: &str) -> String {
        match self.table.row_id {
            RowId::Hidden(hidden) if self.table.is_hidden_row_id(column) => hidden.to_owned(),
            _ => ident(column),
        }
    }

    /// A column of the row `r`, in a query over [`Self::from`].
    pub fn stored(&self, column: &str) -> String {
        format!("r.{}", self.name(column))
    }

    /// A column of NEW or OLD; `otherwise` if it is dropped.
    pub fn changed(&self, row: &str, column: &str, otherwise: &str) -> String {
        let name = self.name(column);
        if !self.is_droppable(column) {
            return format!("{row}.{name}");
        }
        let value = format!("(SELECT (SELECT {row}.{name}) FROM (SELECT {otherwise} AS {name}) AS {row})");
        // A subquery has no collation, which an expression may use.
        match self.table.column(column) {
            Some(column) if !column.collation.eq_ignore_ascii_case("BINARY") => {
                format!("({value} COLLATE {})", ident(&column.collation))
            }
            _ => value,
        }
    }

    /// The table as `r`, for a query that names these columns of it.
    pub fn from<'b>(&self, columns: impl IntoIterator<Item = &'b str>) -> String {
        let table = ident(&self.table.name);
        let columns: Vec<_> = columns.into_iter().collect();
        if !columns.iter().any(|column| self.is_droppable(column)) {
            return format!("{table} AS r");
        }
        // Both tables of the join have a row id.
        let row_id = match self.table.row_id {
            RowId::Hidden(id) if columns.iter().any(|column| self.table.is_hidden_row_id(column)) => {
                format!("d.{id} AS {id}, ")
            }
            _ => String::new(),
        };
        format!("(SELECT {row_id}d.* FROM {table} AS d) AS r NATURAL LEFT JOIN {} AS r", absent(self.id))
    }

    /// The statement that creates the table that is joined; `None` if no column can be dropped.
    pub fn absent_table(&self) -> Option<String> {
        let columns: Vec<_> = self.named.iter().map(|column| ident(column)).collect();
        let is_needed = self.named.iter().any(|column| self.is_droppable(column));
        is_needed.then(|| format!("CREATE TABLE {}({})", absent(self.id), columns.join(", ")))
    }
}

/// The name of the table, always empty, that stands for dropped columns.
pub(super) fn absent(id: i64) -> String {
    format!("{}absent", prefix(id))
}
