//! Rewrites the placeholders of a statement: `:name`, `@name` and `$name`, and lists in `IN (?)`,
//! become numbered placeholders.
//!
//! SQLite and DataFusion both bind `$1`. They support different names and spellings, and neither
//! binds a list. So a statement with names or lists is rewritten before either side gets it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use vexact_core::error::{Error, Result};
use vexact_core::param::{Argument, Param, Params};
use vexact_core::sql::excerpt;

use super::lexer::Lexer;

/// Placeholders of a statement that are the only element of an IN list, and so take a list.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct InLists {
    positions: HashSet<usize>,
    names: HashSet<String>,
}

impl InLists {
    /// Finds the placeholders of a statement. A statement that cannot be tokenized has none.
    pub fn of(sql: &str) -> Self {
        let mut found = Self::default();
        for placeholder in placeholders(sql).unwrap_or_default().into_iter().filter(|found| found.in_list.is_some()) {
            match placeholder.slot {
                Slot::Position(position) => found.positions.insert(position),
                Slot::Name(name) => found.names.insert(name),
            };
        }
        found
    }

    /// Returns true if the placeholder at this position, from 1, takes a list.
    pub fn has_position(&self, position: usize) -> bool {
        self.positions.contains(&position)
    }

    /// Returns true if the placeholder of this name takes a list.
    pub fn has_name(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

/// Rewrites a statement to numbered placeholders, and returns their values.
///
/// # Errors
/// A name without a value; a placeholder without a name although the values have names; a list that
/// is not the only element of an IN list; too few or too many values, if there is a list.
pub fn by_number(sql: &str, params: Params) -> Result<(Cow<'_, str>, Vec<Param>)> {
    let params = match params {
        Params::Positional(arguments) => match values(arguments) {
            // Both sides number `?` in the same way.
            Ok(values) => return Ok((Cow::Borrowed(sql), values)),
            Err(arguments) => Params::Positional(arguments),
        },
        named => named,
    };
    let (text, values) = all_by_number(sql, params)?;
    Ok((Cow::Owned(text), values))
}

/// As [`by_number`], but also replaces `?` and `?1` by `$1`, because DataFusion's own parser does
/// not number them.
///
/// # Errors
/// As [`by_number`].
pub fn all_by_number(sql: &str, params: Params) -> Result<(String, Vec<Param>)> {
    rewritten(sql, &parsed(sql)?, params)
}

fn rewritten(sql: &str, placeholders: &[Placeholder], params: Params) -> Result<(String, Vec<Param>)> {
    match params {
        Params::Positional(arguments) => Rewrite::of(sql, placeholders, &Source::Positions(&arguments)),
        Params::Named(arguments) => Rewrite::of(sql, placeholders, &Source::Names(&arguments.into_iter().collect())),
    }
}

/// Rewrites a statement to numbered placeholders, and returns the values of each row.
///
/// # Errors
/// As [`by_number`], with the number of the row; a list, with which each row would be a different
/// statement.
pub fn rows_by_number(sql: &str, rows: impl IntoIterator<Item = Params>) -> Result<(Cow<'_, str>, Vec<Vec<Param>>)> {
    let mut text: Option<Cow<'_, str>> = None;
    let mut placeholders: Option<Vec<Placeholder>> = None;
    let mut all = Vec::new();
    for (at, row) in rows.into_iter().enumerate() {
        let of_row = |problem: String| Error::Engine(format!("row {}: {problem}", at + 1));
        let arguments = match &row {
            Params::Positional(arguments) => arguments.iter().collect::<Vec<_>>(),
            Params::Named(arguments) => arguments.iter().map(|(_, argument)| argument).collect(),
        };
        if arguments.iter().any(|argument| matches!(argument, Argument::List(_))) {
            return Err(of_row(
                "expected values, got a list: each row would be a statement of its own (execute takes it)".into(),
            ));
        }
        let bound = match row {
            Params::Positional(_) => by_number(sql, row),
            Params::Named(_) => {
                let placeholders: &[Placeholder] = match &placeholders {
                    Some(placeholders) => placeholders,
                    None => placeholders.insert(parsed(sql)?),
                };
                rewritten(sql, placeholders, row).map(|(text, values)| (Cow::Owned(text), values))
            }
        };
        let (row_text, values) = bound.map_err(|error| of_row(error.to_string()))?;
        match &text {
            None => text = Some(row_text),
            Some(first) if *first == row_text => {}
            Some(_) => return Err(of_row("expected parameters by name or by position as in the rows before".into())),
        }
        all.push(values);
    }
    Ok((text.unwrap_or(Cow::Borrowed(sql)), all))
}

/// Rewrites a statement to numbered placeholders, as [`by_number`] does for any values.
pub fn numbered(sql: &str) -> Cow<'_, str> {
    let Ok(found) = placeholders(sql) else { return Cow::Borrowed(sql) };
    if found.iter().all(|placeholder| matches!(placeholder.slot, Slot::Position(_))) {
        return Cow::Borrowed(sql);
    }
    let mut numbers: HashMap<&Slot, usize> = HashMap::new();
    let mut text = String::with_capacity(sql.len());
    let mut written = 0;
    for placeholder in &found {
        let next = numbers.len() + 1;
        let number = *numbers.entry(&placeholder.slot).or_insert(next);
        text += &sql[written..placeholder.start];
        text += &format!("${number}");
        written = placeholder.end;
    }
    Cow::Owned(text + &sql[written..])
}

/// Returns all values, if none is a list; else the unchanged arguments.
fn values(arguments: Vec<Argument>) -> Result<Vec<Param>, Vec<Argument>> {
    if arguments.iter().any(|argument| matches!(argument, Argument::List(_))) {
        return Err(arguments);
    }
    let value = |argument| match argument {
        Argument::Value(value) => Some(value),
        Argument::List(_) => None,
    };
    Ok(arguments.into_iter().filter_map(value).collect())
}

/// Position or name of a placeholder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Slot {
    /// Position, from 1.
    Position(usize),
    Name(String),
}

#[derive(Debug)]
struct Placeholder {
    /// Byte offsets of its text.
    start: usize,
    end: usize,
    slot: Slot,
    /// IN list whose only element is this placeholder.
    in_list: Option<InList>,
}

#[derive(Debug)]
struct InList {
    /// Byte offset after its closing parenthesis.
    end: usize,
    is_negated: bool,
}

/// Arguments of a statement, by position or by name.
enum Source<'a> {
    Positions(&'a [Argument]),
    Names(&'a HashMap<String, Argument>),
}

impl<'a> Source<'a> {
    fn argument(&self, slot: &Slot, text: &str, sql: &str) -> Result<&'a Argument> {
        let refused = |problem: String| Err(Error::Engine(format!("{problem}: {}", excerpt(sql))));
        match (self, slot) {
            (Source::Positions(arguments), Slot::Position(position)) => match arguments.get(position - 1) {
                Some(argument) => Ok(argument),
                None => refused(format!("parameter {text}: expected {position} parameters, got {}", arguments.len())),
            },
            (Source::Positions(_), Slot::Name(_)) => {
                refused(format!("parameter {text}: expected a mapping of names to values, got a sequence"))
            }
            (Source::Names(arguments), Slot::Name(name)) => match arguments.get(name) {
                Some(argument) => Ok(argument),
                None => {
                    let mut names: Vec<&str> = arguments.keys().map(String::as_str).collect();
                    names.sort_unstable();
                    refused(format!("parameter {text}: expected a value of this name, got [{}]", names.join(", ")))
                }
            },
            (Source::Names(_), Slot::Position(_)) => {
                refused(format!("parameter {text}: expected a sequence of values, got a mapping of names to values"))
            }
        }
    }
}

/// A statement while its placeholders are replaced.
#[derive(Default)]
struct Rewrite {
    text: String,
    values: Vec<Param>,
    /// New text of each placeholder that occurred: the same placeholder is the same expression.
    seen: HashMap<Slot, String>,
}

impl Rewrite {
    fn of(sql: &str, placeholders: &[Placeholder], source: &Source<'_>) -> Result<(String, Vec<Param>)> {
        if let Source::Positions(arguments) = source {
            let last = placeholders.iter().filter_map(|placeholder| match placeholder.slot {
                Slot::Position(position) => Some(position),
                Slot::Name(_) => None,
            });
            let expected = last.max().unwrap_or(0);
            if arguments.len() > expected {
                let got = arguments.len();
                return Err(Error::Engine(format!("expected {expected} parameters, got {got}: {}", excerpt(sql))));
            }
        }
        let mut rewrite = Self::default();
        let mut written = 0;
        for Placeholder { start, end, slot, in_list } in placeholders {
            let (start, end) = (*start, *end);
            rewrite.text += &sql[written..start];
            written = end;
            if let Some(known) = rewrite.seen.get(slot) {
                let known = known.clone();
                rewrite.text += &known;
                continue;
            }
            let text = &sql[start..end];
            let new = match source.argument(slot, text, sql)? {
                Argument::Value(value) => rewrite.number(value),
                Argument::List(values) if let Some(list) = in_list => match values.is_empty() {
                    false => {
                        let numbers: Vec<String> = values.iter().map(|value| rewrite.number(value)).collect();
                        numbers.join(", ")
                    }
                    // No value is in an empty list, not even NULL. DataFusion does not parse `IN
                    // ()`.
                    true => {
                        written = list.end;
                        let is_true = if list.is_negated { "IS NOT FALSE" } else { "IS TRUE" };
                        format!("NULL{} {is_true}", &sql[end..list.end])
                    }
                },
                Argument::List(_) => {
                    let problem = "expected a value, got a list, which stands alone in IN (..)";
                    return Err(Error::Engine(format!("parameter {text}: {problem}: {}", excerpt(sql))));
                }
            };
            rewrite.text += &new;
            // A list is allowed only in IN, so each occurrence is checked.
            if in_list.is_none() {
                rewrite.seen.insert(slot.clone(), new);
            }
        }
        rewrite.text += &sql[written..];
        Ok((rewrite.text, rewrite.values))
    }

    /// Assigns a new number to a value.
    fn number(&mut self, value: &Param) -> String {
        self.values.push(value.clone());
        format!("${}", self.values.len())
    }
}

/// Returns the placeholders of a statement.
fn parsed(sql: &str) -> Result<Vec<Placeholder>> {
    placeholders(sql).map_err(|problem| Error::Engine(format!("{problem}: {}", excerpt(sql))))
}

/// Returns the placeholders of a text, in order, with SQLite's numbers: `?` is one more than the
/// largest before it, and a name counts as one parameter at its first occurrence.
fn placeholders(sql: &str) -> Result<Vec<Placeholder>, String> {
    let tokens = Tokenizer::new(&Lexer, sql).tokenize_with_location().map_err(|error| error.to_string())?;
    let tokens: Vec<_> = tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
    let mut offsets = Offsets { sql, line: 1, column: 1, offset: 0 };
    let (mut largest, mut named) = (0, HashSet::new());
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let Some((text, last)) = placeholder(&tokens[at..]) else { continue };
        let (start, end) = (offsets.of(tokens[at].span.start), offsets.of(tokens[at + last].span.end));
        let mut name_counts = || {
            if named.insert(text.clone()) {
                largest += 1;
            }
        };
        let slot = match (text.strip_prefix('?'), text.strip_prefix('$').map(str::parse::<usize>)) {
            (Some(""), _) => {
                largest += 1;
                Slot::Position(largest)
            }
            (Some(digits), _) => match digits.parse() {
                Ok(number) if number > 0 => {
                    largest = largest.max(number);
                    Slot::Position(number)
                }
                _ => return Err(format!("parameter {text}: expected ?, or a number from 1 as in ?1 or $1")),
            },
            (None, Some(Ok(number))) if number > 0 => {
                name_counts();
                Slot::Position(number)
            }
            (None, _) => {
                name_counts();
                Slot::Name(text[1..].to_owned())
            }
        };
        let close = tokens.get(at + last + 1).filter(|token| token.token == Token::RParen);
        let in_list = close.filter(|_| opens_in_list(&tokens[..at])).map(|close| InList {
            end: offsets.of(close.span.end),
            is_negated: at >= 3 && is_keyword(&tokens[at - 3], Keyword::NOT),
        });
        found.push(Placeholder { start, end, slot, in_list });
    }
    Ok(found)
}

/// Returns true if tokens end with `IN (`.
fn opens_in_list(tokens: &[TokenWithSpan]) -> bool {
    matches!(tokens, [.., word, open] if is_keyword(word, Keyword::IN) && open.token == Token::LParen)
}

fn is_keyword(token: &TokenWithSpan, keyword: Keyword) -> bool {
    matches!(&token.token, Token::Word(word) if word.keyword == keyword)
}

/// Returns the text of the placeholder at the start of the tokens, and the index of its last token.
fn placeholder(tokens: &[TokenWithSpan]) -> Option<(String, usize)> {
    match (&tokens[0].token, tokens.get(1)) {
        (Token::Placeholder(text), _) if text.len() > 1 || text == "?" => Some((text.clone(), 0)),
        (mark @ (Token::Colon | Token::AtSign), Some(name)) if name.span.start == tokens[0].span.end => {
            let name = match &name.token {
                Token::Word(word) if word.quote_style.is_none() => word.value.clone(),
                Token::Number(number, false) => number.clone(),
                _ => return None,
            };
            Some((format!("{mark}{name}"), 1))
        }
        _ => None,
    }
}

/// Byte offsets of locations, which are queried in order.
struct Offsets<'s> {
    sql: &'s str,
    line: u64,
    column: u64,
    offset: usize,
}

impl Offsets<'_> {
    fn of(&mut self, location: Location) -> usize {
        for c in self.sql[self.offset..].chars() {
            if (self.line, self.column) >= (location.line, location.column) {
                break;
            }
            (self.line, self.column) = if c == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
            self.offset += c.len_utf8();
        }
        self.offset
    }
}
