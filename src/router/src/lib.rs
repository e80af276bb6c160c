//! Router: decides if SQLite or the replicas answer a query, and why. Nothing here reads or writes
//! anything.
//!
//! The rules, in this order:
//! 1. A statement that is not a query (DML, DDL, PRAGMA): SQLite.
//! 2. A vector function, `vector_search`, `vector_join`, `text_search`, `hybrid_search`, `as_of` or a
//!    session's own table: the replicas.
//! 3. A table or function that only SQLite has: SQLite.
//! 4. Only tables that SQLite lacks: the replicas.
//! 5. A table that neither has: SQLite, which reports it.
//! 6. An aggregate, join, set operation, subquery, CTE, window, DISTINCT or GROUP BY anywhere: the
//!    replicas.
//! 7. Any other query, and SQL that DataFusion's parser does not support: SQLite.
//!
//! A query that rule 6 routes to the replicas falls back to SQLite if its plan has a
//! [`semantic_gap`].

mod affinity;
mod analysis;
mod canonical_names;
mod column_facts;
mod filter;
mod function_compat;
mod functions;
mod grammar;
mod lexer;
mod magnitude;
mod names;
mod olap;
mod order;
mod parse;
mod partial_wildcard;
mod placeholders;
mod read_only;
mod reason;
mod replicas;
mod result_types;
mod scope;
mod semantic_gap;
mod set_operations;
mod shared_columns;
#[cfg(test)]
mod tests;
mod tree;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use vexact_core::error::{Error, Result};

pub use analysis::is_of_columns;
pub use column_facts::ColumnFacts;
pub use filter::filter_for_olap;
pub use names::{OlapTable, Owner, TableLookup};
pub use olap::for_olap;
pub use parse::ParsedQuery;
pub use partial_wildcard::partial_wildcard;
pub use placeholders::{InLists, all_by_number, by_number, numbered, rows_by_number};
pub use read_only::read_only;
pub use reason::{Reason, Shape};
pub use replicas::replicas_alone;
pub use result_types::{column_by_column, without_limits};
pub use semantic_gap::semantic_gap;

use analysis::StatementAnalysis;
use names::{TableOrigin, origin};
use parse::{Parsed, Unknown, several};
use reason::first_word;

/// Engine side that answers a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The database file.
    Sqlite,
    /// The replicas and the session's tables.
    Olap,
}

/// Route of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Engine side that answers the query.
    pub side: Side,
    /// Reason of the route.
    pub reason: Reason,
    /// OLAP tables that the query reads, in the spelling of the OLAP side, each once, in the order
    /// of their mention; empty for [`Side::Sqlite`].
    pub tables: Vec<String>,
    /// True if SQLite has all tables of the query and all its functions that are known here, so
    /// that it can answer a query that DataFusion cannot plan.
    pub can_fall_back: bool,
    /// True if the query is an EXPLAIN; the route is that of the explained query.
    pub is_explain: bool,
}

impl Route {
    fn sqlite(reason: Reason) -> Self {
        Self { side: Side::Sqlite, reason, tables: Vec::new(), can_fall_back: true, is_explain: false }
    }
}

/// Decides which side answers a query.
///
/// # Errors
/// Several statements; a query that neither side can answer because each lacks a table of it; a
/// query with a vector function that DataFusion's parser does not understand, with the parser's
/// message.
pub fn route(query: &ParsedQuery, names: &dyn TableLookup) -> Result<Route> {
    match &query.parsed {
        Parsed::Empty => Ok(Route::sqlite(Reason::NotAQuery("an empty statement".into()))),
        Parsed::One(statement) => route_statement(statement, names),
        Parsed::Several(count) => Err(several(*count)),
        Parsed::Unknown(unknown) => route_unknown(unknown),
    }
}

/// SQLite decides about syntax that the parser does not support, unless only the OLAP side could
/// answer the query.
fn route_unknown(unknown: &Unknown) -> Result<Route> {
    match unknown.first_word.as_str() {
        "" | "SELECT" | "WITH" | "VALUES" | "EXPLAIN" if unknown.has_vector_function => Err(unknown.refusal()),
        "" | "SELECT" | "WITH" | "VALUES" | "EXPLAIN" => {
            Ok(Route::sqlite(Reason::NotParsed(unknown.error.strip_backtrace())))
        }
        _ => Ok(Route::sqlite(Reason::NotAQuery(unknown.first_word.clone()))),
    }
}

fn route_statement(statement: &Statement, names: &dyn TableLookup) -> Result<Route> {
    let inner = match statement {
        Statement::Explain(explain) => {
            return route_statement(&explain.statement, names).map(|route| Route { is_explain: true, ..route });
        }
        Statement::Statement(statement) => statement.as_ref(),
        other => return Ok(Route::sqlite(Reason::NotAQuery(first_word(other)))),
    };
    let survey = StatementAnalysis::of(inner);
    if let Some(change) = survey.change {
        return Ok(Route::sqlite(Reason::NotAQuery(change)));
    }
    let is_explain = matches!(inner, SqlStatement::Explain { .. });
    route_query(survey, names).map(|route| Route { is_explain, ..route })
}

fn route_query(survey: StatementAnalysis, names: &dyn TableLookup) -> Result<Route> {
    let mut olap = Vec::new();
    let mut vector = survey.vector_function.map(Reason::VectorFunction);
    let mut only_sqlite = survey.sqlite_function.map(Reason::SqliteFunction);
    let mut only_olap = survey.olap_function.map(Reason::OnlyInOlap);
    let mut missing = None;
    let mut all_olap_only = true;
    for name in &survey.tables {
        let table = match origin(name, names) {
            TableOrigin::Sqlite(table) => {
                only_sqlite.get_or_insert(Reason::NotReplicated(table));
                all_olap_only = false;
                continue;
            }
            TableOrigin::Nowhere => {
                missing.get_or_insert(Reason::NoSuchTable(name.to_string()));
                continue;
            }
            TableOrigin::System => {
                only_olap.get_or_insert(Reason::OnlyInOlap(name.to_string()));
                continue;
            }
            TableOrigin::Session(table) => {
                vector.get_or_insert(Reason::SessionTable(table.name.clone()));
                table
            }
            TableOrigin::Replica { table, in_sqlite: true } => {
                all_olap_only = false;
                table
            }
            TableOrigin::Replica { table, in_sqlite: false } => {
                only_olap.get_or_insert(Reason::OnlyInOlap(table.name.clone()));
                table
            }
        };
        if !olap.contains(&table.name) {
            olap.push(table.name);
        }
    }
    let to_olap =
        |reason, can_fall_back| Ok(Route { side: Side::Olap, reason, tables: olap, can_fall_back, is_explain: false });
    let vector = vector.or(survey.olap_statement.map(Reason::OlapStatement));
    match (vector, only_sqlite, only_olap, missing) {
        // Each side lacks a part of such a query.
        (Some(needs), Some(lacks), ..) | (None, Some(lacks), Some(needs), _) => Err(refused(&needs, &lacks)),
        (Some(needs), None, _, Some(missing)) => Err(refused(&needs, &missing)),
        (Some(reason), None, _, None) => to_olap(reason, false),
        (None, Some(reason), None, _) => Ok(Route::sqlite(reason)),
        (None, None, Some(reason), None) if all_olap_only => to_olap(reason, false),
        (None, None, _, Some(reason)) => Ok(Route::sqlite(reason)),
        (None, None, only_olap, None) => match (survey.sqlite_syntax, survey.shape, only_olap) {
            (Some(syntax), ..) => Ok(Route::sqlite(Reason::SqliteSyntax(syntax))),
            (None, Some(shape), only_olap) => to_olap(Reason::Shape(shape), only_olap.is_none()),
            (None, None, Some(reason)) => to_olap(reason, false),
            (None, None, None) => Ok(Route::sqlite(Reason::Plain)),
        },
    }
}

/// Builds the error of a query that neither side can answer.
fn refused(needs: &Reason, lacks: &Reason) -> Error {
    let needs = match needs {
        Reason::VectorFunction(name) => format!("which {name} needs"),
        Reason::SessionTable(name) => format!("which table {name:?} of the session needs"),
        Reason::OnlyInOlap(name) => format!("which {name:?} needs, that only the replicas have"),
        other => format!("which {other} needs"),
    };
    Error::Engine(match lacks {
        Reason::NotReplicated(table) => {
            format!(
                "table {table:?} is not replicated, {needs}: expected a replicated table (register_table makes it one)"
            )
        }
        Reason::SqliteFunction(name) => {
            format!("table function {name} is SQLite's and does not run on the replicas, {needs}")
        }
        Reason::NoSuchTable(table) => {
            format!("no such table: {table}: expected a replicated table or one of the session, {needs}")
        }
        other => format!("{other}, but not on the replicas, {needs}"),
    })
}
