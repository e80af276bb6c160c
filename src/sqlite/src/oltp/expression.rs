//! The expressions of a unique index, over any row: `lower(email)` becomes `lower(NEW."email")`.
//!
//! SQLite allows columns of the table in them, without the table's name, and nothing that depends
//! on more than them. The text between the columns is kept as it is written.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::SQLiteDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// An expression over the columns of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expression {
    /// Columns, each with the text before it.
    parts: Vec<(String, String)>,
    /// The text after the last.
    rest: String,
}

impl Expression {
    /// Parses the part of an index at a position, from the statement that creates the index.
    /// Returns `None` if it is uncertain which of its words are columns.
    pub fn parse(index: &str, at: usize, columns: &[&str]) -> Option<Self> {
        let tokens = tokens(index)?;
        let part = parts(&tokens, index_parts(&tokens)?)?.into_iter().nth(at)?;
        Self::of_tokens(index, without_order(part), columns)
    }

    /// The predicate of a partial index, by the statement that creates the index. Returns `None` as
    /// [`Self::parse`] does.
    pub fn predicate(index: &str, columns: &[&str]) -> Option<Self> {
        let tokens = tokens(index)?;
        let open = index_parts(&tokens)?;
        let end = open + parts(&tokens, open)?.iter().map(|part| part.len() + 1).sum::<usize>();
        let (first, predicate) = tokens.get(end + 1..)?.split_first()?;
        matches!(&first.token, Token::Word(word) if word.keyword == Keyword::WHERE)
            .then(|| Self::of_tokens(index, predicate, columns))?
    }

    fn of_tokens(index: &str, tokens: &[TokenWithSpan], columns: &[&str]) -> Option<Self> {
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

    /// Its SQL over a row, whose columns `value` writes.
    pub fn over(&self, value: impl Fn(&str) -> String) -> String {
        let parts = self.parts.iter().map(|(before, column)| format!("{before}{}", value(column)));
        format!("({}{})", parts.collect::<String>(), self.rest)
    }

    /// The columns that it depends on.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(_, column)| column.as_str())
    }
}

/// Locations of the columns in an expression's text.
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

/// The words in the definition of a column, by the statement that creates the table. Returns `None`
/// if there is no such column.
pub(super) fn definition_words(table: &str, at: usize) -> Option<Vec<String>> {
    let tokens = tokens(table)?;
    let open = tokens.iter().position(|token| token.token == Token::LParen)?;
    let definition = parts(&tokens, open)?.into_iter().nth(at)?;
    let word = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) => Some(word.value.clone()),
        _ => None,
    };
    Some(definition.iter().skip(1).filter_map(word).collect())
}

/// The tokens of a statement, without spaces and comments.
pub(super) fn tokens(sql: &str) -> Option<Vec<TokenWithSpan>> {
    let tokens = Tokenizer::new(&SQLiteDialect {}, sql).tokenize_with_location().ok()?;
    Some(tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect())
}

/// The position of the parenthesis in `CREATE UNIQUE INDEX name ON table(part, ..)`.
fn index_parts(tokens: &[TokenWithSpan]) -> Option<usize> {
    let is_on = |token: &TokenWithSpan| matches!(&token.token, Token::Word(word) if word.keyword == Keyword::ON);
    // After it the table's name.
    let open = tokens.iter().position(is_on)? + 2;
    (tokens.get(open)?.token == Token::LParen).then_some(open)
}

/// The parts of a list in parentheses, of which `open` is the position of the first.
fn parts(tokens: &[TokenWithSpan], open: usize) -> Option<Vec<&[TokenWithSpan]>> {
    let (mut depth, mut start, mut parts) = (0, open + 1, Vec::new());
    for (here, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && token.token == Token::Comma) {
            parts.push(&tokens[start..here]);
            start = here + 1;
        }
        if depth == 0 {
            return Some(parts);
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

/// Returns the byte offset of a location in a text; lines and characters count from 1.
pub(super) fn offset(text: &str, place: Location) -> Option<usize> {
    let lines = usize::try_from(place.line.checked_sub(1)?).ok()?;
    let start: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
    let line = text.get(start..)?;
    let characters = usize::try_from(place.column.checked_sub(1)?).ok()?;
    Some(start + line.char_indices().nth(characters).map_or(line.len(), |(at, _)| at))
}

#[cfg(test)]
mod tests {
    use vexact_core::sql::ident;

    use super::*;

    const COLUMNS: [&str; 7] = ["id", "Email", "a b", "text", "q\"uote", "日本", "desc"];

    fn new(index: &str, at: usize) -> Option<String> {
        Expression::parse(index, at, &COLUMNS).map(|expression| over_new(&expression))
    }

    fn over_new(expression: &Expression) -> String {
        expression.over(|column| format!("NEW.{}", ident(column)))
    }

    #[test]
    fn predicates_are_of_the_row() {
        for (index, expected) in [
            ("CREATE UNIQUE INDEX i ON t(lower(email), id) WHERE id > 10", Some("(NEW.\"id\" > 10)")),
            (
                "CREATE UNIQUE INDEX \"where\" ON [t t] (\"a b\" DESC) /* ( */ WHERE (email IS NULL) AND \"a b\" IN (1, 2)",
                Some("((NEW.\"Email\" IS NULL) AND NEW.\"a b\" IN (1, 2))"),
            ),
            ("CREATE UNIQUE INDEX i ON t(id)", None),
            ("CREATE UNIQUE INDEX i ON t(id) WHERE nope = 1", None),
            ("CREATE UNIQUE INDEX i ON t(id) WHERE", None),
            ("", None),
        ] {
            let predicate = Expression::predicate(index, &COLUMNS).map(|predicate| over_new(&predicate));
            assert_eq!(predicate.as_deref(), expected, "{index}");
        }
    }

    #[test]
    fn the_words_of_a_column() {
        let table = "CREATE TABLE \"t (\"(id INTEGER PRIMARY KEY, a TEXT CHECK (a IN ('id', \"b\")), g AS (abs(ID) + 1) STORED)";
        let words = |at| definition_words(table, at).map(|words| words.join(" "));
        assert_eq!(words(1).as_deref(), Some("TEXT CHECK a IN b"));
        assert_eq!(words(2).as_deref(), Some("AS abs ID STORED"));
        assert_eq!(words(3), None);
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
