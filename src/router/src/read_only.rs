//! Checks that a statement is one query that only reads, as the OLAP side requires.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Select, Statement as SqlStatement, TableFactor, Visit, Visitor};
use vexact_core::error::{Error, Result};

use super::parse::ParsedQuery;
use super::reason::first_word;

/// Returns the statement of one query that only reads. SELECT, VALUES, SHOW and DESCRIBE are
/// queries, and EXPLAIN of one, also with ANALYZE.
///
/// # Errors
/// Anything else, at any depth: DML, DDL, COPY, external tables, SET, PREPARE, SELECT INTO, a
/// file's path as a table; more than one statement or none; SQL that the parser does not
/// understand.
pub fn read_only(query: &ParsedQuery) -> Result<&Statement> {
    let statement = query.statement()?;
    match refusal(statement) {
        None => Ok(statement),
        Some(got) => Err(Error::Engine(format!(
            "{got} is refused: expected one query that only reads (execute takes writes to SQLite)"
        ))),
    }
}

fn refusal(statement: &Statement) -> Option<String> {
    match statement {
        Statement::Explain(explain) => refusal(&explain.statement).map(|got| format!("EXPLAIN of {got}")),
        Statement::CreateExternalTable(_) => Some("CREATE EXTERNAL TABLE".into()),
        Statement::CopyTo(_) => Some("COPY".into()),
        Statement::Reset(_) => Some("RESET".into()),
        Statement::Statement(statement) => match statement.visit(&mut ReadOnly) {
            ControlFlow::Continue(()) => None,
            ControlFlow::Break(got) => Some(got),
        },
    }
}

struct ReadOnly;

impl Visitor for ReadOnly {
    type Break = String;

    fn pre_visit_statement(&mut self, statement: &SqlStatement) -> ControlFlow<String> {
        match statement {
            SqlStatement::Query(_)
            | SqlStatement::Explain { .. }
            | SqlStatement::ExplainTable { .. }
            | SqlStatement::ShowTables { .. }
            | SqlStatement::ShowColumns { .. }
            | SqlStatement::ShowFunctions { .. }
            | SqlStatement::ShowVariable { .. } => ControlFlow::Continue(()),
            other => ControlFlow::Break(first_word(other)),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<String> {
        match &select.into {
            None => ControlFlow::Continue(()),
            Some(_) => ControlFlow::Break("SELECT INTO".into()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<String> {
        if let TableFactor::Table { name, .. } = factor
            && name.0.iter().filter_map(|part| part.as_ident()).any(|part| part.quote_style == Some('\''))
        {
            return ControlFlow::Break(format!(
                "{name} in place of a table (a file's path, or a name in single quotes)"
            ));
        }
        ControlFlow::Continue(())
    }
}
