//! Query of a text search: plain words, or the syntax of FTS5.

use std::fmt::{self, Write};
use std::str::FromStr;

use vexact_core::error::{Error, Result};

/// Meaning of the text that is searched for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum QuerySyntax {
    /// Plain words: documents with any of them.
    #[default]
    Any,
    /// Plain words: documents with all of them.
    All,
    /// A query of FTS5: phrases, AND, OR, NOT, NEAR and prefixes.
    Fts5,
}

impl QuerySyntax {
    const ALL: [Self; 3] = [Self::Any, Self::All, Self::Fts5];

    fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::All => "all",
            Self::Fts5 => "fts5",
        }
    }

    /// Returns the query for FTS5. Plain words are quoted, so that no text is a syntax error.
    /// Returns `None` if there is no word.
    pub fn query(self, words: &str) -> Option<String> {
        let between = match self {
            Self::Fts5 => return (!words.trim().is_empty()).then(|| words.to_owned()),
            Self::Any => " OR ",
            // FTS5 ignores words without a letter or digit between the others only in a list
            // without AND.
            Self::All => " ",
        };
        let mut query = String::with_capacity(words.len() + 16);
        // FTS5 stops reading at a NUL.
        for word in words.split(|c: char| c.is_whitespace() || c == '\0').filter(|word| !word.is_empty()) {
            if !query.is_empty() {
                query += between;
            }
            let _ = write!(query, "\"{}\"", word.replace('"', "\"\""));
        }
        (!query.is_empty()).then_some(query)
    }
}

impl fmt::Display for QuerySyntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for QuerySyntax {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|syntax| syntax.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| Error::InvalidArgument(format!("query_syntax: expected any, all or fts5, got {name:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_quoted() {
        let any = |words: &str| QuerySyntax::Any.query(words);
        assert_eq!(any("lithium  battery\n").as_deref(), Some(r#""lithium" OR "battery""#));
        assert_eq!(QuerySyntax::All.query("a b").as_deref(), Some(r#""a" "b""#));
        assert_eq!(any(r#"say "hi" NEAR(x*"#).as_deref(), Some(r#""say" OR """hi""" OR "NEAR(x*""#));
        assert_eq!(any("a\0b").as_deref(), Some(r#""a" OR "b""#));
        assert_eq!(any(" \t\u{3000}"), None);
        assert_eq!(QuerySyntax::Fts5.query("a NOT b").as_deref(), Some("a NOT b"));
        assert_eq!(QuerySyntax::Fts5.query("  "), None);
        let error = "or".parse::<QuerySyntax>().unwrap_err().to_string();
        assert_eq!(error, "query_syntax: expected any, all or fts5, got \"or\"");
    }
}
