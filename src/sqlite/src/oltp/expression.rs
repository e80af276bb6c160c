//! The expression of a unique index, over any row: `lower(email)` becomes `lower(NEW."email")`.
//!
//! SQLite allows columns of the table in it, without the table's name, and nothing that depends on more than them. What stands
//! between the columns stays as it is written.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::SQLiteDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use vexact_core::sql::ident;

/// An expression over the columns of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expression {
    /// Columns, each with the text before it.
    parts: Vec<(String, String)>,
    /// The text after the last.
    rest: String,
}

impl Expression {
    /// The part of an index at a position, by the statement that creates the index. `None`: it cannot be told with certainty
    /// which of its words are columns.
    pub fn parse(index: &str, at: usize, columns: &[&str]) -> Option<Self> {
        let tokens = Tokenizer::new(&SQLiteDialect {}, index).tokenize_with_location().ok()?;
        let tokens: Vec<_> = tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
        let tokens = part(&tokens, at)?;
        let mut found = Columns::default();
        let mut parser = Parser::new(&SQLiteDialect {}).with_tokens_with_locations(tokens.to_vec());
        let expr = parser.parse_expr().ok()?;
        if parser.peek_token_ref().token != Token::EOF || expr.visit(&mut found).is_break() {
            return None;
        }
        let mut parts = Vec::new();
        let mut written = offset(index, tokens.first()?.span.start)?;
        for token in tokens {
            let Token::Word(word) = &token.token else { continue };
            let column = columns.iter().find(|column| column.eq_ignore_ascii_case(&word.value));
            match (column, found.0.contains(&token.span.start)) {
                (Some(column), true) => {
                    let start = offset(index, token.span.start)?;
                    parts.push((index.get(written..start)?.to_owned(), (*column).to_owned()));
                    written = offset(index, token.span.end)?;
                }
                // A function, a type or a collation.
                (None, false) => {}
                _ => return None,
            }
        }
        let rest = index.get(written..offset(index, tokens.last()?.span.end)?)?.to_owned();
        (parts.len() == found.0.len()).then_some(Self { parts, rest })
    }

    /// Its SQL over the row of this name.
    pub fn of(&self, row: &str) -> String {
        let parts = self.parts.iter().map(|(before, column)| format!("{before}{row}.{}", ident(column)));
        format!("({}{})", parts.collect::<String>(), self.rest)
    }

    /// The columns that it depends on.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(_, column)| column.as_str())
    }
}

/// Where the columns of an expression stand.
#[derive(Default)]
struct Columns(Vec<Location>);

impl Visitor for Columns {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => self.0.push(ident.span.start),
            Expr::CompoundIdentifier(_) | Expr::Subquery(_) => return ControlFlow::Break(()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// One of the parts of `CREATE UNIQUE INDEX name ON table(part, ..)`, without its order.
fn part(tokens: &[TokenWithSpan], at: usize) -> Option<&[TokenWithSpan]> {
    let is_on = |token: &TokenWithSpan| matches!(&token.token, Token::Word(word) if word.keyword == Keyword::ON);
    let on = tokens.iter().position(is_on)?;
    // After it the table's name.
    let open = on + 2;
    if tokens.get(open)?.token != Token::LParen {
        return None;
    }
    let (mut depth, mut start, mut parts) = (0, open + 1, 0);
    for (here, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && token.token == Token::Comma) {
            if parts == at {
                return Some(without_order(&tokens[start..here]));
            }
            (parts, start) = (parts + 1, here + 1);
        }
        if depth == 0 {
            return None;
        }
    }
    None
}

fn without_order(part: &[TokenWithSpan]) -> &[TokenWithSpan] {
    match part.split_last() {
        Some((last, before)) => match &last.token {
            Token::Word(word) if matches!(word.keyword, Keyword::ASC | Keyword::DESC) => before,
            _ => part,
        },
        None => part,
    }
}

/// The byte at which a place in a text, in lines and characters from 1, begins.
fn offset(text: &str, place: Location) -> Option<usize> {
    let lines = usize::try_from(place.line.checked_sub(1)?).ok()?;
    let start: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
    let line = text.get(start..)?;
    let characters = usize::try_from(place.column.checked_sub(1)?).ok()?;
    Some(start + line.char_indices().nth(characters).map_or(line.len(), |(at, _)| at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [&str; 7] = ["id", "Email", "a b", "text", "q\"uote", "日本", "desc"];

    fn new(index: &str, at: usize) -> Option<String> {
        Expression::parse(index, at, &COLUMNS).map(|expression| expression.of("NEW"))
    }

    #[test]
    fn columns_are_of_the_row_and_the_rest_stays() {
        for (index, at, expected) in [
            ("CREATE UNIQUE INDEX i ON t(lower(email))", 0, "(lower(NEW.\"Email\"))"),
            ("CREATE UNIQUE INDEX i ON t(id, lower(EMAIL) DESC)", 1, "(lower(NEW.\"Email\"))"),
            (
                "CREATE UNIQUE INDEX \"on\" ON [t t] ( substr(\"a b\", 1, 2) || \n /* x, ( */ `text` -- y\n , id) WHERE id > 1",
                0,
                "(substr(NEW.\"a b\", 1, 2) || \n /* x, ( */ NEW.\"text\")",
            ),
            ("CREATE UNIQUE INDEX i ON t('é' || \"日本\" COLLATE NOCASE)", 0, "('é' || NEW.\"日本\" COLLATE NOCASE)"),
            ("CREATE UNIQUE INDEX i ON t([q\"uote] + 1)", 0, "(NEW.\"q\"\"uote\" + 1)"),
            (
                "CREATE UNIQUE INDEX i ON t(CASE WHEN id IS NULL THEN 'id' ELSE email END)",
                0,
                "(CASE WHEN NEW.\"id\" IS NULL THEN 'id' ELSE NEW.\"Email\" END)",
            ),
            ("CREATE UNIQUE INDEX i ON t(CAST(email AS INTEGER))", 0, "(CAST(NEW.\"Email\" AS INTEGER))"),
        ] {
            assert_eq!(new(index, at).as_deref(), Some(expected), "{index}");
        }
    }

    #[test]
    fn what_is_not_certain_is_none() {
        for (index, at) in [
            // The type has the name of a column.
            ("CREATE UNIQUE INDEX i ON t(CAST(email AS TEXT))", 0),
            ("CREATE UNIQUE INDEX i ON t(lower(nope))", 0),
            ("CREATE UNIQUE INDEX i ON t(\"a text\" || email)", 0),
            ("CREATE UNIQUE INDEX i ON t(t.email || '')", 0),
            ("CREATE UNIQUE INDEX i ON t(email + desc)", 0),
            ("CREATE UNIQUE INDEX i ON t(lower(email))", 1),
            ("CREATE UNIQUE INDEX i ON t(lower(email)", 1),
            ("CREATE UNIQUE INDEX i ON t(email email)", 0),
            ("CREATE UNIQUE INDEX i ON t()", 0),
            ("not an index", 0),
            ("", 0),
        ] {
            assert_eq!(new(index, at), None, "{index}");
        }
    }
}
