//! Canonical names: the spelling of a statement's names for DataFusion, which compares names
//! exactly.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    ObjectName, Query, Select, SelectItem, Statement, TableAlias, TableFactor, Visit, Visitor,
};
use vexact_core::error::{Error, Result};

use super::analysis::{bare, table_function};
use super::names::{OlapTable, TableLookup, TableOrigin, origin};
use super::scope::Ctes;

/// Canonical spelling of each name of a statement: that of a table or column if one has the name,
/// else that of its first alias. Keys are in lower case.
pub(super) struct CanonicalNames {
    tables: HashMap<String, String>,
    columns: HashMap<String, String>,
    relation_aliases: HashMap<String, String>,
    column_aliases: HashMap<String, String>,
}

impl CanonicalNames {
    /// # Errors
    /// A table that the OLAP side lacks.
    pub fn of(statement: &Statement, names: &dyn TableLookup) -> Result<Self> {
        let spelling = Self {
            tables: HashMap::new(),
            columns: HashMap::new(),
            relation_aliases: HashMap::new(),
            column_aliases: HashMap::new(),
        };
        let mut collector = Collector { names, ctes: Ctes::default(), spelling };
        match statement.visit(&mut collector) {
            ControlFlow::Continue(()) => Ok(collector.spelling),
            ControlFlow::Break(error) => Err(*error),
        }
    }

    /// Collects the canonical names of one table.
    pub fn of_table(table: &OlapTable) -> Self {
        let mut spelling = Self {
            tables: HashMap::new(),
            columns: HashMap::new(),
            relation_aliases: HashMap::new(),
            column_aliases: HashMap::new(),
        };
        spelling.add_table(table);
        spelling
    }

    /// Returns the canonical name of a table, a CTE or an alias of one.
    pub fn relation(&self, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase();
        self.tables.get(&name).or_else(|| self.relation_aliases.get(&name)).map(String::as_str)
    }

    /// Returns the canonical name of a column or an alias of an expression.
    pub fn column(&self, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase();
        self.columns.get(&name).or_else(|| self.column_aliases.get(&name)).map(String::as_str)
    }

    fn add_table(&mut self, table: &OlapTable) {
        first(&mut self.tables, &table.name);
        table.schema.fields().iter().for_each(|field| first(&mut self.columns, field.name()));
    }

    fn add_alias(&mut self, alias: &TableAlias) {
        first(&mut self.relation_aliases, &alias.name.value);
        alias.columns.iter().for_each(|column| first(&mut self.column_aliases, &column.name.value));
    }
}

fn first(spellings: &mut HashMap<String, String>, name: &str) {
    spellings.entry(name.to_ascii_lowercase()).or_insert_with(|| name.to_owned());
}

/// Returns the table of the OLAP side; `None` for one of its information_schema.
///
/// # Errors
/// A table that the OLAP side lacks.
pub(super) fn olap_table(name: &ObjectName, names: &dyn TableLookup) -> Result<Option<OlapTable>> {
    match origin(name, names) {
        TableOrigin::Session(table) | TableOrigin::Replica { table, .. } => Ok(Some(table)),
        TableOrigin::System => Ok(None),
        TableOrigin::Sqlite(table) => Err(Error::Engine(format!(
            "table {table:?} is not replicated: expected a replicated table (register_table makes it one)"
        ))),
        TableOrigin::Nowhere => {
            Err(Error::Engine(format!("no such table: {name}: expected a replicated table or one of the session")))
        }
    }
}

struct Collector<'a> {
    names: &'a dyn TableLookup,
    ctes: Ctes,
    spelling: CanonicalNames,
}

impl Collector<'_> {
    fn table(&mut self, name: &ObjectName) -> ControlFlow<Box<Error>, Option<OlapTable>> {
        match olap_table(name, self.names) {
            Ok(table) => {
                table.iter().for_each(|table| self.spelling.add_table(table));
                ControlFlow::Continue(table)
            }
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

impl Visitor for Collector<'_> {
    type Break = Box<Error>;

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Self::Break> {
        if let Statement::ExplainTable { table_name, .. } = statement {
            self.table(table_name)?;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.ctes.enter(query);
        query.with.iter().flat_map(|with| &with.cte_tables).for_each(|cte| self.spelling.add_alias(&cte.alias));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.ctes.leave(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                first(&mut self.spelling.column_aliases, &alias.value);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        if let Some(alias) = alias(factor) {
            self.spelling.add_alias(alias);
        }
        if let TableFactor::Table { name, args: None, .. } = factor
            && !bare(name).is_some_and(|bare| self.ctes.contains(bare))
        {
            self.table(name)?;
        }
        if let Some(call) = table_function(factor) {
            for (at, argument) in call.named_tables().into_iter().enumerate() {
                let table = self.table(&argument.table)?;
                // If both tables have a column of the name, the joined table's column is qualified
                // with its name.
                if let (1, Some(table)) = (at, table) {
                    let columns = table.schema.fields().iter().map(|field| format!("{}_{}", table.name, field.name()));
                    columns.for_each(|column| first(&mut self.spelling.column_aliases, &column));
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// Returns the alias of a relation that can have one.
fn alias(factor: &TableFactor) -> Option<&TableAlias> {
    match factor {
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::TableFunction { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::NestedJoin { alias, .. } => alias.as_ref(),
        _ => None,
    }
}
