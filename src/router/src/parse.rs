//! Parses a query: it tokenizes the text, numbers the parameters and calls DataFusion's parser.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use vexact_core::deep::{self, balance_statement};
use vexact_core::error::{Error, Result};
use vexact_sql::dialect::{ParserSteps, is_vector_operator, join_vector_operators};

use super::functions::is_vector;
use super::grammar::Grammar;
use super::lexer::Lexer;
use super::set_operations::group_left_to_right;

const MAX_EXPLAINS: usize = 20;
/// Maximum parameter number, as in SQLite.
const MAX_PARAMETER: usize = 32_766;

/// A parsed query. The later steps read its statement; only SQLite reads its text again.
#[derive(Debug)]
pub struct ParsedQuery {
    text: Arc<str>,
    pub(super) parsed: Parsed,
}

impl ParsedQuery {
    /// Parses a text, whose parameters become `$1`, `$2`, .. with SQLite's numbers.
    ///
    /// # Errors
    /// A parameter whose number SQLite would reject. A text that the parser does not support is not
    /// an error: SQLite may support it.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self { text: text.into(), parsed: parse(text)? })
    }

    /// Returns the text, for SQLite and for messages.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Returns the one statement.
    ///
    /// # Errors
    /// No statement, several, or a text that the parser does not support.
    pub(super) fn statement(&self) -> Result<&Statement> {
        match &self.parsed {
            Parsed::One(statement) => Ok(statement),
            Parsed::Empty => Err(Error::Engine("expected a query, got an empty statement".into())),
            Parsed::Several(count) => Err(several(*count)),
            Parsed::Unknown(unknown) => Err(unknown.refusal()),
        }
    }
}

/// Builds the error of a text with more than one statement.
pub(super) fn several(count: usize) -> Error {
    Error::Engine(format!("expected one statement, got {count}"))
}

/// Result of parsing a text.
#[derive(Debug)]
pub(super) enum Parsed {
    Empty,
    One(Box<Statement>),
    Several(usize),
    /// The parser does not support the text.
    Unknown(Unknown),
}

/// A text that the parser does not support.
#[derive(Debug)]
pub(super) struct Unknown {
    /// Error of the parser.
    pub error: Arc<DataFusionError>,
    /// First word in upper case; empty if there is none.
    pub first_word: String,
    /// True if the text seems to call a vector function, or has a vector operator.
    pub has_vector_function: bool,
}

impl Unknown {
    /// Returns the parser's error.
    pub fn refusal(&self) -> Error {
        DataFusionError::Shared(Arc::clone(&self.error)).into()
    }
}

/// # Errors
/// A parameter whose number SQLite would reject.
fn parse(sql: &str) -> Result<Parsed> {
    let mut tokens = match Tokenizer::new(&Lexer, sql).tokenize_with_location() {
        Ok(tokens) => tokens,
        Err(error) => {
            let error = Arc::new(sql_error(error.into()));
            return Ok(Parsed::Unknown(Unknown { error, first_word: String::new(), has_vector_function: false }));
        }
    };
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    let mut tokens = join_vector_operators(tokens);
    let first_word = match tokens.iter().map(|token| &token.token).find(|token| **token != Token::SemiColon) {
        Some(Token::Word(word)) => word.value.to_ascii_uppercase(),
        _ => String::new(),
    };
    let has_vector_function = calls_vector_function(&tokens);
    let unknown = |error| Ok(Parsed::Unknown(Unknown { error: Arc::new(error), first_word, has_vector_function }));
    if let Err(problem) = bounded(&tokens) {
        return unknown(sql_error(ParserError::ParserError(problem)));
    }
    number_parameters(&mut tokens)?;
    let tokens = match with_hexadecimal_integers(tokens) {
        Ok(tokens) => tokens,
        Err(problem) => return unknown(sql_error(ParserError::ParserError(problem))),
    };
    let grammar = Grammar(ParserSteps::of(tokens.len()));
    match DFParserBuilder::new(tokens).with_dialect(&grammar).build().and_then(|mut parser| parser.parse_statements()) {
        Ok(mut statements) => Ok(match (statements.pop_front(), statements.len()) {
            (None, _) => Parsed::Empty,
            (Some(mut statement), 0) => {
                group_left_to_right(&mut statement);
                balance_statement(&mut statement);
                Parsed::One(Box::new(statement))
            }
            (Some(_), more) => Parsed::Several(more + 1),
        }),
        Err(error) => unknown(error),
    }
}

fn sql_error(error: ParserError) -> DataFusionError {
    DataFusionError::SQL(Box::new(error), None)
}

fn calls_vector_function(tokens: &[TokenWithSpan]) -> bool {
    tokens.windows(2).any(|pair| match (&pair[0].token, &pair[1].token) {
        (Token::Word(word), Token::LParen) => is_vector(&word.value.to_ascii_lowercase()),
        (operator, _) => is_vector_operator(operator),
    })
}

/// Checks the bounds that the parser itself does not check.
fn bounded(tokens: &[TokenWithSpan]) -> Result<(), String> {
    let is_explain =
        |token: &TokenWithSpan| matches!(&token.token, Token::Word(word) if word.keyword == Keyword::EXPLAIN);
    let explains = tokens.iter().filter(|token| is_explain(token)).count();
    if explains > MAX_EXPLAINS {
        return Err(format!("expected at most {MAX_EXPLAINS} times EXPLAIN, got {explains}"));
    }
    deep::check(tokens)
}

/// Converts `0x1F` to an integer of 64 bits, as in SQLite; `x'1F'` stays a BLOB. The tokenizer has
/// one token for both, of different lengths, and two tokens for `0X1F`.
fn with_hexadecimal_integers(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, String> {
    let mut replaced: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let before = replaced.last().filter(|before| before.span.end == token.span.start).map(|before| &before.token);
        let (digits, is_split) = match (&token.token, before) {
            (Token::HexStringLiteral(digits), _) if width(&token) == digits.len() as u64 + 2 => (digits.clone(), false),
            (Token::Word(word), Some(Token::Number(zero, false)))
                if zero == "0" && word.value.starts_with(['x', 'X']) =>
            {
                (word.value[1..].to_owned(), true)
            }
            _ => {
                replaced.push(token);
                continue;
            }
        };
        let Ok(bits) = u64::from_str_radix(&digits, 16) else {
            return Err(format!("expected a hexadecimal integer of at most 64 bits, got 0x{digits}"));
        };
        if is_split {
            replaced.pop();
        }
        let integer = bits.cast_signed();
        let number = Token::Number(integer.unsigned_abs().to_string(), false);
        let new = match integer < 0 {
            true => vec![Token::LParen, Token::Minus, number, Token::RParen],
            false => vec![number],
        };
        replaced.extend(new.into_iter().map(|new| TokenWithSpan { token: new, span: token.span }));
    }
    Ok(replaced)
}

/// Returns the number of characters of a token that is on one line.
fn width(token: &TokenWithSpan) -> u64 {
    token.span.end.column.saturating_sub(token.span.start.column)
}

/// Rewrites `?`, `?N` and `$N` to `$N` with the number that SQLite itself binds: `?` is one more
/// than the largest before it, and a name counts as one parameter at its first occurrence.
fn number_parameters(tokens: &mut [TokenWithSpan]) -> Result<()> {
    let mut largest = 0;
    let mut named = HashMap::new();
    for token in tokens {
        let Token::Placeholder(text) = &mut token.token else { continue };
        let refused = |text: &str| {
            Err(Error::Engine(format!(
                "parameter {text}: expected ?, or a number from 1 to {MAX_PARAMETER} as in $1 or ?1"
            )))
        };
        if let Some(digits) = text.strip_prefix('?') {
            let number = match digits {
                "" => largest + 1,
                digits => match digits.parse() {
                    Ok(number) if (1..=MAX_PARAMETER).contains(&number) => number,
                    _ => return refused(text),
                },
            };
            largest = largest.max(number);
            *text = format!("${number}");
            continue;
        }
        let name = text.strip_prefix('$').unwrap_or(text);
        if name.is_empty() {
            return refused(text);
        }
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            match name.parse::<usize>() {
                Ok(number) if (1..=MAX_PARAMETER).contains(&number) => {
                    if !named.contains_key(text.as_str()) {
                        largest += 1;
                        named.insert(text.clone(), largest);
                    }
                    *text = format!("${number}");
                }
                _ => return refused(text),
            }
        } else if !named.contains_key(text.as_str()) {
            largest += 1;
            named.insert(text.clone(), largest);
        }
    }
    Ok(())
}
