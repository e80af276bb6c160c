//! The filter of a vector search: a predicate in text, with SQLite's names.

use std::ops::ControlFlow;

use datafusion::common::config::Dialect;
use datafusion::sql::sqlparser::ast::{Expr, VisitMut};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use vexact_core::error::Result;
use vexact_sql::dialect::statement_dialect;

use super::lexer::Lexer;
use super::names::{OlapTable, TableLookup};
use super::olap::Rewriter;

/// Gives the names of a predicate on one table their canonical spelling, as
/// [`for_olap`](super::for_olap) does for a statement. A text that is not a predicate is unchanged:
/// the search reports its error.
///
/// # Errors
/// As [`for_olap`](super::for_olap).
pub fn filter_for_olap(text: &str, table: &OlapTable) -> Result<String> {
    let Some(parsed) = parse(text) else { return Ok(text.to_owned()) };
    let mut spelled = parsed.clone();
    let names = OneTable(table);
    match spelled.visit(&mut Rewriter::of_table(&names, table)) {
        ControlFlow::Continue(()) if spelled == parsed => Ok(text.to_owned()),
        ControlFlow::Continue(()) => Ok(spelled.to_string()),
        ControlFlow::Break(error) => Err(*error),
    }
}

fn parse(text: &str) -> Option<Expr> {
    let tokens = Tokenizer::new(&Lexer, text).tokenize_with_location().ok()?;
    let dialect = statement_dialect(Dialect::Generic, tokens.len()).ok()?;
    let mut parser = Parser::new(dialect.as_ref()).with_tokens_with_locations(tokens);
    let expr = parser.parse_expr().ok()?;
    (parser.peek_token().token == Token::EOF).then_some(expr)
}

/// Names in a filter: those of its table.
struct OneTable<'t>(&'t OlapTable);

impl TableLookup for OneTable<'_> {
    fn in_sqlite(&self, _: &str) -> bool {
        false
    }

    fn olap(&self, table: &str) -> Option<OlapTable> {
        self.0.name.eq_ignore_ascii_case(table).then(|| self.0.clone())
    }
}
