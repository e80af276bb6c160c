//! Reads a statement's text before it is run: whether it returns rows, and its placeholders.

use datafusion::sql::sqlparser::dialect::SQLiteDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use vexact::router::{ParsedQuery, read_only};

/// Kind of a statement, by what it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A query that only reads.
    Query,
    /// A PRAGMA, which reads or sets.
    Pragma,
    /// A change that returns rows: `RETURNING`.
    Returning,
    /// Any other statement.
    Write,
}

/// Returns the kind of a statement. A statement that the parser does not know is classified by its
/// words.
pub fn kind(sql: &str) -> Kind {
    if ParsedQuery::parse(sql).is_ok_and(|query| read_only(&query).is_ok()) {
        return Kind::Query;
    }
    let words = words(sql);
    let has = |word: &str| words.iter().any(|found| found == word);
    match words.first().map(String::as_str) {
        Some("PRAGMA") => Kind::Pragma,
        Some("SELECT" | "VALUES" | "EXPLAIN" | "SHOW" | "DESCRIBE") => Kind::Query,
        Some("WITH") if !(has("INSERT") || has("UPDATE") || has("DELETE") || has("REPLACE")) => Kind::Query,
        Some("WITH" | "INSERT" | "REPLACE" | "UPDATE" | "DELETE") if has("RETURNING") => Kind::Returning,
        _ => Kind::Write,
    }
}

fn tokens(sql: &str) -> Vec<Token> {
    Tokenizer::new(&SQLiteDialect {}, sql).tokenize().unwrap_or_default()
}

/// Returns the words outside quotes and comments, in upper case.
fn words(sql: &str) -> Vec<String> {
    let word = |token| match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
        _ => None,
    };
    tokens(sql).into_iter().filter_map(word).collect()
}

/// Returns the parameters of a statement in the order of their positions: the name, or an empty
/// text.
pub fn parameters(sql: &str) -> Vec<String> {
    let (mut found, mut count) = (Vec::<String>::new(), 0_usize);
    for token in tokens(sql) {
        let Token::Placeholder(placeholder) = token else { continue };
        let rest = placeholder.get(1..).unwrap_or_default();
        match (placeholder.as_bytes().first(), rest.parse::<usize>()) {
            (Some(b'?'), Err(_)) => count += 1,
            // SQLite has 32 766 at most.
            (Some(b'?' | b'$'), Ok(number)) => count = count.max(number.min(32_766)),
            _ if !found.iter().any(|name| name == rest) => found.push(rest.to_owned()),
            _ => {}
        }
    }
    let positions = std::iter::repeat_n(String::new(), count);
    positions.chain(found).collect()
}

/// Returns a name in SQL's quotes.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a query as a table of a FROM clause.
pub fn as_table(sql: &str) -> String {
    // A comment at the end must not hide the parenthesis.
    format!("(\n{}\n)", sql.trim_end().trim_end_matches(';'))
}
