//! Tokenizes SQL by SQLite's rules where SQLite has one; arrays and casts follow DataFusion's
//! syntax.

use std::iter::Peekable;
use std::str::Chars;

use datafusion::sql::sqlparser::dialect::Dialect;

/// Dialect of the tokenizer. The parser after it is DataFusion's.
#[derive(Debug)]
pub(super) struct Lexer;

impl Dialect for Lexer {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"' || ch == '`'
    }

    fn is_nested_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '['
    }

    /// `[name]` is a name to SQLite, `[1, 2]` an array to DataFusion.
    fn peek_nested_delimited_identifier_quotes(&self, mut chars: Peekable<Chars<'_>>) -> Option<(char, Option<char>)> {
        chars.next_if_eq(&'[')?;
        let is_name = chars.peek().is_some_and(|ch| self.is_identifier_start(*ch));
        let end = chars.find(|ch| matches!(ch, ']' | ',' | '[' | '(' | '\'' | '"'));
        (is_name && end == Some(']')).then_some(('[', None))
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_ascii_alphabetic() || ch == '_' || (!ch.is_ascii() && !ch.is_whitespace())
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.is_identifier_start(ch) || ch.is_ascii_digit() || ch == '$'
    }

    fn supports_dollar_placeholder(&self) -> bool {
        true
    }

    // Without this syntax, 1_000 would be read as 1 with the alias _000.
    fn supports_numeric_literal_underscores(&self) -> bool {
        true
    }

    fn supports_string_escape_constant(&self) -> bool {
        true
    }
}
