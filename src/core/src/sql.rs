//! SQL text: quoting of names and literals, the kind of a statement, and SQLite's errors with their
//! context.

use crate::error::{Error, Result};

/// Returns a name in double quotes.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a text literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Rejects a NUL character: SQLite takes it for the end of the text, and would run only the part
/// before it.
///
/// # Errors
/// A NUL character; the message has its position, counted in characters from 0.
pub fn without_nul(sql: &str) -> Result<()> {
    match sql.split_once('\0') {
        None => Ok(()),
        Some((before, _)) => Err(Error::Engine(format!(
            "expected text without NUL characters, got one at position {}, behind: {}",
            before.chars().count(),
            excerpt(before)
        ))),
    }
}

/// Adds the operation that failed to an error of SQLite.
pub fn failed<C: Into<String>>(context: impl FnOnce() -> C) -> impl FnOnce(rusqlite::Error) -> Error {
    |source| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::OperationInterrupted) => {
            Error::Interrupted("its caller is gone, or the engine was shut down".into())
        }
        _ => Error::Sqlite { context: context().into(), source },
    }
}

/// Adds to an error the part of a call that failed: `statement 2 of 3 (..): ..`.
pub fn within(error: Error, part: &str) -> Error {
    match error {
        Error::Sqlite { context, source } if context.is_empty() => Error::Sqlite { context: part.into(), source },
        Error::Sqlite { context, source } => Error::Sqlite { context: format!("{part}: {context}"), source },
        Error::Engine(problem) => Error::Engine(format!("{part}: {problem}")),
        other => other,
    }
}

/// Returns the first word of a statement in upper case, after spaces and comments; empty if there
/// is none.
pub fn keyword(sql: &str) -> String {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ';' || c == '\u{feff}');
        rest = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, after)| after)
        } else {
            break;
        };
    }
    rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>().to_ascii_uppercase()
}

/// Returns the beginning of a statement on one line, for messages.
pub fn excerpt(sql: &str) -> String {
    const SHOWN: usize = 80;
    let mut line = String::new();
    for word in sql.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        // No more than is shown of a word as long as a file.
        line.extend(word.chars().take(SHOWN + 1));
        if line.len() > 4 * SHOWN {
            break;
        }
    }
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyword_is_found_behind_spaces_and_comments() {
        for (sql, expected) in [
            ("select 1", "SELECT"),
            ("  -- why\n /* and */ Insert INTO t", "INSERT"),
            ("", ""),
            ("-- nothing", ""),
            ("/* open", ""),
            (";;vacuum", "VACUUM"),
            ("(select 1)", ""),
        ] {
            assert_eq!(keyword(sql), expected, "{sql:?}");
        }
    }

    #[test]
    fn a_nul_is_refused_with_its_place() {
        assert!(without_nul("SELECT 'é'").is_ok());
        let error = without_nul("SELECT 'é\0' -- \0").unwrap_err().to_string();
        assert_eq!(error, "expected text without NUL characters, got one at position 9, behind: SELECT 'é");
    }

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
    }

    #[test]
    fn excerpts_are_one_line_and_cut_between_characters() {
        assert_eq!(excerpt("a\n  b"), "a b");
        assert_eq!(excerpt(&"é".repeat(100)), format!("{}...", "é".repeat(80)));
    }
}
