//! Facts about the columns that a query reads, from SQLite's schema and from the rows of the
//! replicas.

use std::sync::Arc;

use vexact_replica::{Snapshot, TableVersion};
use vexact_router::ColumnFacts;

use super::names::TableNames;

/// Columns of a query's tables.
pub(super) struct ReadColumns {
    names: TableNames,
    tables: Vec<Arc<TableVersion>>,
}

impl ReadColumns {
    /// Collects the columns of these tables, by the names in the replicas.
    pub fn new(names: TableNames, snapshot: &Snapshot, tables: &[String]) -> Self {
        let versions = tables.iter().filter_map(|table| Some(Arc::clone(&snapshot.table(table)?.version)));
        Self { names, tables: versions.collect() }
    }

    /// Returns the tables that have a column of this name, each with the column's ordinal.
    fn with_column(&self, name: &str) -> impl Iterator<Item = (&TableVersion, usize)> {
        self.tables.iter().filter_map(move |table| {
            let fields = table.schema().fields();
            let at = fields.iter().position(|field| field.name().eq_ignore_ascii_case(name))?;
            Some((table.as_ref(), at))
        })
    }
}

impl ColumnFacts for ReadColumns {
    fn is_collated(&self, column: &str) -> bool {
        self.names.is_collated(column)
    }

    fn has_no_declared_type(&self, column: &str) -> bool {
        self.names.has_no_declared_type(column)
    }

    fn greatest_magnitude(&self, column: &str) -> f64 {
        self.with_column(column).map(|(table, at)| table.greatest_magnitude(at)).fold(0.0, f64::max)
    }

    fn rows(&self) -> Option<usize> {
        match &self.tables[..] {
            [table] => Some(table.num_rows()),
            _ => None,
        }
    }

    fn may_have_nul(&self, column: &str) -> bool {
        // A computed text may come from any column.
        let is_computed = self.with_column(column).next().is_none();
        let all = || self.tables.iter().flat_map(|table| (0..table.schema().fields().len()).map(move |at| (table, at)));
        match is_computed {
            true => all().any(|(table, at)| table.may_have_nul(at)),
            false => self.with_column(column).any(|(table, at)| table.may_have_nul(at)),
        }
    }
}
