//! `CREATE [OR REPLACE] [SOURCE | SINK] TABLE [IF NOT EXISTS] name [(column type, ...)] USING format OPTIONS (key: 'value', ...)`.
//!
//! An option is `key: 'value'`, `key = 'value'` or `key 'value'`; its value is a text in quotes, a
//! number, TRUE or FALSE. Keys and the format are not case-sensitive; names without quotes are
//! lower case, as elsewhere in SQL.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use vexact_core::error::{Error, Result};

use super::sql_type;

/// Role of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// A table that queries read, and that INSERT writes in some formats.
    Table,
    /// A source that streams read.
    Source,
    /// A sink that streams write.
    Sink,
}

impl fmt::Display for TableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "TABLE",
            Self::Source => "SOURCE TABLE",
            Self::Sink => "SINK TABLE",
        })
    }
}

/// A parsed statement.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    /// Role of the table.
    pub kind: TableKind,
    /// Name of the table.
    pub name: String,
    /// The declared columns, in their order; empty where none are declared.
    pub columns: Vec<(String, DataType)>,
    /// The word after USING, in lower case.
    pub format: String,
    /// The options; keys in lower case.
    pub options: BTreeMap<String, String>,
    /// True if an existing table of this name stays unchanged.
    pub if_not_exists: bool,
    /// True if an existing table of this name is replaced.
    pub or_replace: bool,
}

impl CreateTable {
    /// Returns the declared columns, all of them nullable; `None` if none are declared.
    pub fn schema(&self) -> Option<SchemaRef> {
        let field = |(name, data_type): &(String, DataType)| Field::new(name, data_type.clone(), true);
        (!self.columns.is_empty()).then(|| Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>())))
    }

    /// Returns the value of an option; `None` if it is not given.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.get(key).map(String::as_str)
    }

    /// Returns the value of a required option.
    ///
    /// # Errors
    /// A missing or empty value.
    pub fn required(&self, key: &str) -> Result<&str> {
        match self.option(key) {
            Some(value) if !value.is_empty() => Ok(value),
            got => Err(self.refusal(&format!("option {key}: expected a value, got {}", got.map_or("none", |_| "''")))),
        }
    }

    /// Returns the value of an option that is TRUE or FALSE.
    ///
    /// # Errors
    /// Any other value.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.option(key).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(got) => Err(self.refusal(&format!("option {key}: expected TRUE or FALSE, got {got:?}"))),
        }
    }

    /// Returns the value of an option that is one character; `\t` is a tab.
    ///
    /// # Errors
    /// Any other text.
    pub fn character(&self, key: &str, default: char) -> Result<char> {
        let Some(text) = self.option(key) else { return Ok(default) };
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            _ if text == "\\t" => Ok('\t'),
            (Some(character), None) => Ok(character),
            _ => Err(self.refusal(&format!("option {key}: expected one character, got {text:?}"))),
        }
    }

    /// Rejects options that the format does not have.
    ///
    /// # Errors
    /// The first such option; the message lists the supported ones.
    pub fn check_options(&self, known: &[&str]) -> Result<()> {
        match self.options.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let problem = format!("unknown option {key:?}: USING {} takes {}", self.format, known.join(", "));
                Err(self.refusal(&problem))
            }
        }
    }

    /// Builds an error of this statement.
    pub fn refusal(&self, problem: &str) -> Error {
        Error::InvalidArgument(format!("CREATE {} {}: {problem}", self.kind, self.name))
    }
}

/// Parses the statement; returns `None` for any other, including a plain `CREATE TABLE`.
///
/// # Errors
/// A statement that begins with this syntax and continues differently; the message has the expected
/// syntax and the position in the text.
pub fn parse(sql: &str) -> Result<Option<CreateTable>> {
    let dialect = GenericDialect {};
    // The general SQL parser rejects a text that cannot be tokenized.
    let Ok(mut parser) = Parser::new(&dialect).try_with_sql(sql) else { return Ok(None) };
    let Some((kind, or_replace)) = opening(&mut parser) else { return Ok(None) };
    match statement(&mut parser, kind, or_replace) {
        Ok(found) => Ok(found),
        Err(Refusal::Syntax(error)) => {
            let problem = match error {
                ParserError::TokenizerError(problem) | ParserError::ParserError(problem) => problem,
                ParserError::RecursionLimitExceeded => "nested too deeply".into(),
            };
            Err(Error::InvalidArgument(format!("CREATE {kind}: {problem}")))
        }
        Err(Refusal::Content(problem)) => Err(Error::InvalidArgument(format!("CREATE {kind}: {problem}"))),
    }
}

/// Reason for rejecting a statement: sqlparser's message, or ours.
enum Refusal {
    Syntax(ParserError),
    Content(String),
}

impl From<ParserError> for Refusal {
    fn from(error: ParserError) -> Self {
        Self::Syntax(error)
    }
}

/// Parses `CREATE [OR REPLACE] [SOURCE | SINK] TABLE`; returns `None` if the statement begins
/// otherwise.
fn opening(parser: &mut Parser<'_>) -> Option<(TableKind, bool)> {
    if !parser.parse_keyword(Keyword::CREATE) {
        return None;
    }
    let or_replace = parser.parse_keywords(&[Keyword::OR, Keyword::REPLACE]);
    let kind = if word(parser, "source") {
        TableKind::Source
    } else if word(parser, "sink") {
        TableKind::Sink
    } else {
        TableKind::Table
    };
    parser.parse_keyword(Keyword::TABLE).then_some((kind, or_replace))
}

/// Takes a word that is not a SQL keyword.
fn word(parser: &mut Parser<'_>, expected: &str) -> bool {
    let is_it = matches!(&parser.peek_token_ref().token,
        Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected));
    if is_it {
        parser.advance_token();
    }
    is_it
}

/// Parses the rest of the statement; returns `None` for a table without USING.
fn statement(parser: &mut Parser<'_>, kind: TableKind, or_replace: bool) -> Result<Option<CreateTable>, Refusal> {
    if kind == TableKind::Table && !has_using(parser) {
        return Ok(None);
    }
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = identifier(parser)?;
    if *parser.peek_token_ref() == Token::Period {
        return Err(Refusal::Content(format!("expected a name without a schema, got {name}.…")));
    }
    let columns = if parser.consume_token(&Token::LParen) { columns(parser)? } else { Vec::new() };
    parser.expect_keyword_is(Keyword::USING)?;
    let format = parser.parse_identifier()?.value.to_ascii_lowercase();
    let mut options = BTreeMap::new();
    if word(parser, "options") {
        parser.expect_token(&Token::LParen)?;
        while !parser.consume_token(&Token::RParen) {
            let (key, value) = option(parser)?;
            if options.insert(key.clone(), value).is_some() {
                return Err(Refusal::Content(format!("option {key:?}: expected once, got twice")));
            }
            if !parser.consume_token(&Token::Comma) {
                parser.expect_token(&Token::RParen)?;
                break;
            }
        }
    }
    while parser.consume_token(&Token::SemiColon) {}
    if *parser.peek_token_ref() != Token::EOF {
        let found = parser.next_token();
        return parser.expected("OPTIONS (…) or the end of the statement", found).map_err(Refusal::from);
    }
    if if_not_exists && or_replace {
        return Err(Refusal::Content("expected OR REPLACE or IF NOT EXISTS, got both".into()));
    }
    Ok(Some(CreateTable { kind, name, columns, format, options, if_not_exists, or_replace }))
}

/// Returns true if USING follows the name or the columns, and AS, SELECT or the end does not come
/// first.
fn has_using(parser: &Parser<'_>) -> bool {
    let mut depth = 0_usize;
    for ahead in 0.. {
        match parser.peek_nth_token(ahead).token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Word(word) if depth == 0 && word.keyword == Keyword::USING => return true,
            Token::Word(word) if depth == 0 && matches!(word.keyword, Keyword::AS | Keyword::SELECT) => return false,
            Token::EOF => return false,
            _ => {}
        }
    }
    false
}

fn identifier(parser: &mut Parser<'_>) -> Result<String, ParserError> {
    let Ident { value, quote_style, .. } = parser.parse_identifier()?;
    Ok(if quote_style.is_some() { value } else { value.to_lowercase() })
}

/// Parses the columns, after their opening parenthesis.
fn columns(parser: &mut Parser<'_>) -> Result<Vec<(String, DataType)>, Refusal> {
    let mut columns: Vec<(String, DataType)> = Vec::new();
    loop {
        let name = identifier(parser)?;
        let written = parser.parse_data_type()?;
        let data_type =
            sql_type::arrow(&written).map_err(|problem| Refusal::Content(format!("column {name:?}: {problem}")))?;
        if columns.iter().any(|(other, _)| *other == name) {
            return Err(Refusal::Content(format!("column {name:?}: expected one of each name, got two")));
        }
        columns.push((name, data_type));
        if !parser.consume_token(&Token::Comma) {
            parser.expect_token(&Token::RParen)?;
            return Ok(columns);
        }
    }
}

fn option(parser: &mut Parser<'_>) -> Result<(String, String), Refusal> {
    let found = parser.next_token();
    let key = match found.token {
        Token::Word(word) => word.value,
        Token::SingleQuotedString(key) => key,
        _ => return parser.expected("the name of an option", found).map_err(Refusal::from),
    };
    let _ = parser.consume_token(&Token::Colon) || parser.consume_token(&Token::Eq);
    let sign = if parser.consume_token(&Token::Minus) { "-" } else { "" };
    let found = parser.next_token();
    let value = match found.token {
        Token::Number(number, _) => format!("{sign}{number}"),
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) if sign.is_empty() => text,
        Token::Word(word) if sign.is_empty() && (word.quote_style.is_some() || is_flag(&word.value)) => word.value,
        _ => {
            let expected = format!("a value in quotes for option {key}");
            return parser.expected(&expected, found).map_err(Refusal::from);
        }
    };
    Ok((key.to_lowercase(), value))
}

fn is_flag(word: &str) -> bool {
    word.eq_ignore_ascii_case("true") || word.eq_ignore_ascii_case("false")
}

/// Parses columns as they are declared in SQL: `name TYPE, name TYPE`.
///
/// # Errors
/// Text of another form, an unknown type, two columns of one name.
pub fn parse_columns(text: &str) -> Result<Vec<(String, DataType)>> {
    let refuse = |problem: String| Error::InvalidArgument(format!("columns {text:?}: {problem}"));
    let dialect = GenericDialect {};
    // The parenthesis ends the list, so that nothing can follow it.
    let parsed = Parser::new(&dialect).try_with_sql(&format!("{text})"));
    let mut parser = parsed.map_err(|error| refuse(error.to_string()))?;
    let columns = columns(&mut parser).map_err(|refusal| match refusal {
        Refusal::Syntax(error) => refuse(error.to_string()),
        Refusal::Content(problem) => refuse(problem),
    })?;
    match parser.peek_token_ref().token {
        Token::EOF => Ok(columns),
        _ => Err(refuse("expected columns 'name TYPE, ...', got a parenthesis too many".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(sql: &str) -> CreateTable {
        parse(sql).unwrap().unwrap_or_else(|| panic!("no CREATE TABLE … USING: {sql}"))
    }

    fn refusal(sql: &str) -> String {
        parse(sql).unwrap_err().to_string()
    }

    #[test]
    fn the_three_spellings_of_options_are_one() {
        let spellings =
            ["path: 'a b.csv', delimiter: ';'", "PATH 'a b.csv', Delimiter ';'", "path = 'a b.csv', delimiter=';',"];
        for options in spellings {
            let create = created(&format!("create table T using CSV options ({options});"));
            assert_eq!((create.name.as_str(), create.format.as_str(), create.kind), ("t", "csv", TableKind::Table));
            let options: Vec<_> = create.options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert_eq!(options, [("delimiter", ";"), ("path", "a b.csv")]);
        }
    }

    #[test]
    fn values_are_texts_numbers_and_flags() {
        let create =
            created("CREATE TABLE t USING x OPTIONS(a: 'it''s', b: -1.5, c TRUE, d: false, e = \"q\", 'f': '[1,2]')");
        let values: Vec<&str> = create.options.values().map(String::as_str).collect();
        assert_eq!(values, ["it's", "-1.5", "TRUE", "false", "q", "[1,2]"]);
        assert!(create.flag("c", false).unwrap());
        assert!(!create.flag("d", true).unwrap());
        assert_eq!(
            create.flag("a", true).unwrap_err().to_string(),
            "CREATE TABLE t: option a: expected TRUE or FALSE, got \"it's\""
        );
        assert_eq!(created("CREATE TABLE t USING x OPTIONS(d: '\\t')").character("d", ',').unwrap(), '\t');
        assert!(
            create
                .character("b", ',')
                .unwrap_err()
                .to_string()
                .ends_with("option b: expected one character, got \"-1.5\"")
        );
    }

    #[test]
    fn columns_have_the_types_of_sql() {
        let create = created(
            "CREATE OR REPLACE SOURCE TABLE \"My Table\" (Id BIGINT, \"Name\" STRING, x DOUBLE, at TIMESTAMP(3), ok BOOLEAN, \
             n INT, v VECTOR(3), w FLOAT[2], l INT[], d DECIMAL(10, 2)) USING csv OPTIONS(path 'd')",
        );
        assert_eq!((create.name.as_str(), create.kind, create.or_replace), ("My Table", TableKind::Source, true));
        let columns: Vec<String> = create.columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        let expected = "Id|id Int64;Name Utf8;x Float64;at Timestamp(ms);ok Boolean;n Int32;\
                        v FixedSizeList(3 x Float32);w FixedSizeList(2 x Float32);l List(Int32);d Decimal128(10, 2)";
        let expected: Vec<&str> = expected.split(';').map(|column| column.trim_start_matches("Id|")).collect();
        assert_eq!(columns, expected);
        assert_eq!(create.schema().unwrap().fields().len(), 10);
        assert_eq!(
            parse_columns("key STRING, value_sum INT").unwrap(),
            [("key".to_owned(), DataType::Utf8), ("value_sum".to_owned(), DataType::Int32)]
        );
        assert!(parse_columns("key STRING) x").is_err());
    }

    #[test]
    fn other_statements_are_left_alone() {
        for sql in [
            "SELECT 1",
            "CREATE TABLE t (a INT)",
            "CREATE TABLE t AS SELECT * FROM a JOIN b USING (id)",
            "CREATE TABLE t (a INT) AS SELECT 1",
            "CREATE VIEW v AS SELECT 1",
            "CREATE EXTERNAL TABLE t STORED AS csv LOCATION 'x'",
            "INSERT INTO t VALUES (1)",
            "'",
            "",
        ] {
            assert_eq!(parse(sql).unwrap(), None, "{sql}");
        }
    }

    #[test]
    fn refusals_say_what_was_expected_and_where() {
        for (sql, expected) in [
            ("CREATE SINK TABLE s (a INT)", "CREATE SINK TABLE: Expected: USING, found: EOF"),
            (
                "CREATE TABLE t USING csv OPTIONS(path:)",
                "CREATE TABLE: Expected: a value in quotes for option path, found: ) at Line: 1, Column: 39",
            ),
            (
                "CREATE TABLE t USING csv OPTIONS(path 'a' b 'c')",
                "CREATE TABLE: Expected: ), found: b at Line: 1, Column: 43",
            ),
            (
                "CREATE TABLE t USING csv OPTIONS(path 'a', PATH 'c')",
                "CREATE TABLE: option \"path\": expected once, got twice",
            ),
            ("CREATE TABLE s.t USING csv", "CREATE TABLE: expected a name without a schema, got s.…"),
            (
                "CREATE TABLE t (a INT, a INT) USING csv",
                "CREATE TABLE: column \"a\": expected one of each name, got two",
            ),
            ("CREATE TABLE t (a BLUB) USING csv", "CREATE TABLE: column \"a\": unknown type BLUB: expected"),
            (
                "CREATE TABLE t (v VECTOR(0)) USING csv",
                "CREATE TABLE: column \"v\": type VECTOR(0): expected a dimension from 1 to",
            ),
            (
                "CREATE TABLE t USING csv SELECT 1",
                "CREATE TABLE: Expected: OPTIONS (…) or the end of the statement, found: SELECT",
            ),
            (
                "CREATE OR REPLACE TABLE IF NOT EXISTS t USING csv",
                "CREATE TABLE: expected OR REPLACE or IF NOT EXISTS, got both",
            ),
        ] {
            let got = refusal(sql);
            assert!(got.starts_with(expected), "{sql}: {got}");
        }
        let create = created("CREATE TABLE t USING csv OPTIONS(path: 'a', seperator: ',')");
        let unknown = create.check_options(&["path", "delimiter"]).unwrap_err().to_string();
        assert_eq!(unknown, "CREATE TABLE t: unknown option \"seperator\": USING csv takes path, delimiter");
        assert_eq!(
            create.required("x").unwrap_err().to_string(),
            "CREATE TABLE t: option x: expected a value, got none"
        );
    }
}
