//! Removes `WINDOW BY ...` from a query; the rest is plain SQL.

use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};
use vexact_core::error::{Error, Result};

use super::window::{LONGEST_MS, WindowClause};

/// Maximum number of windows that contain one event time.
const MOST_WINDOWS: i64 = 100_000;

/// Splits a statement into its tokens without the window clause, and the clause.
///
/// # Errors
/// Text that is not SQL; a window clause that is incomplete, in a subquery or duplicate.
pub(super) fn extract(sql: &str, dialect: &dyn Dialect) -> Result<(Vec<TokenWithSpan>, Option<WindowClause>)> {
    let tokens = Tokenizer::new(dialect, sql)
        .tokenize_with_location()
        .map_err(|error| Error::InvalidArgument(format!("SQL error: {error}")))?;
    let Some(start) = find(&tokens)? else { return Ok((tokens, None)) };
    let mut rest = Rest { tokens: &tokens, place: start };
    let clause = rest.clause()?;
    let end = rest.place;
    let mut without = tokens[..start].to_vec();
    without.extend_from_slice(&tokens[end..]);
    if find(&without)?.is_some() {
        return Err(Error::InvalidArgument("WINDOW BY: expected it once, got it twice".into()));
    }
    Ok((without, Some(clause)))
}

/// Returns the position of `WINDOW BY` in the tokens; `None` if there is none.
fn find(tokens: &[TokenWithSpan]) -> Result<Option<usize>> {
    let mut depth = 0;
    let mut window: Option<usize> = None;
    for (place, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            Token::Word(word) if word.keyword == Keyword::WINDOW && word.quote_style.is_none() => {
                window = Some(place);
                continue;
            }
            Token::Word(word) if word.keyword == Keyword::BY && word.quote_style.is_none() => {
                if let Some(window) = window {
                    if depth > 0 {
                        let problem = "WINDOW BY: expected it in the outer SELECT, got it in a subquery";
                        return Err(Error::InvalidArgument(problem.into()));
                    }
                    return Ok(Some(window));
                }
            }
            _ => {}
        }
        window = None;
    }
    Ok(None)
}

struct Rest<'a> {
    tokens: &'a [TokenWithSpan],
    place: usize,
}

impl<'a> Rest<'a> {
    fn peek(&mut self) -> &'a Token {
        while let Some(Token::Whitespace(_)) = self.tokens.get(self.place).map(|token| &token.token) {
            self.place += 1;
        }
        self.tokens.get(self.place).map_or(&Token::EOF, |token| &token.token)
    }

    fn next(&mut self) -> &'a Token {
        let token = self.peek();
        self.place += 1;
        token
    }

    fn name(&mut self, what: &str) -> Result<String> {
        match self.next() {
            Token::Word(Word { value, quote_style: None, .. }) => Ok(value.to_lowercase()),
            Token::Word(Word { value, .. }) => Ok(value.clone()),
            other => Err(expected(what, other)),
        }
    }

    fn is_word(&mut self, text: &str) -> bool {
        let is_it = matches!(self.peek(), Token::Word(word) if word.value.eq_ignore_ascii_case(text));
        self.place += usize::from(is_it);
        is_it
    }

    fn millis(&mut self, what: &str, least: i64) -> Result<i64> {
        let token = self.next();
        let millis = match token {
            Token::Number(digits, _) => digits.parse::<i64>().ok(),
            _ => None,
        };
        let millis = millis.filter(|millis| (least..=LONGEST_MS).contains(millis));
        let whole = || format!("{what}: a whole number of milliseconds, at least {least} and at most {LONGEST_MS}");
        millis.ok_or_else(|| expected(&whole(), token))
    }

    fn clause(&mut self) -> Result<WindowClause> {
        // Skips WINDOW BY.
        self.next();
        self.next();
        let mut time = vec![self.name("a column of event times")?];
        while matches!(self.peek(), Token::Period) {
            self.next();
            time.push(self.name("a column of event times")?);
        }
        if !self.is_word("every") {
            return Err(expected("EVERY", self.peek()));
        }
        let every_ms = self.millis("EVERY", 1)?;
        let (mut slide_ms, mut lateness_ms) = (None, None);
        loop {
            if slide_ms.is_none() && self.is_word("slide") {
                slide_ms = Some(self.millis("SLIDE", 1)?);
            } else if lateness_ms.is_none() && self.is_word("lateness") {
                lateness_ms = Some(self.millis("LATENESS", 0)?);
            } else if self.is_word("as") {
                break;
            } else {
                return Err(expected("SLIDE, LATENESS or AS", self.peek()));
            }
        }
        if let Some(slide) = slide_ms.filter(|slide| *slide > every_ms) {
            return Err(Error::InvalidArgument(format!(
                "WINDOW BY: expected SLIDE of at most EVERY, {every_ms} ms, got {slide} ms"
            )));
        }
        let windows = slide_ms.map_or(1, |slide| every_ms / slide);
        if windows > MOST_WINDOWS {
            return Err(Error::InvalidArgument(format!(
                "WINDOW BY: expected at most {MOST_WINDOWS} windows of one time, got {windows}: EVERY {every_ms} SLIDE {}",
                slide_ms.unwrap_or(every_ms)
            )));
        }
        let name = self.name("a name for the window's column")?;
        Ok(WindowClause { time, every_ms, slide_ms, lateness_ms, name })
    }
}

fn expected(what: &str, got: &Token) -> Error {
    Error::InvalidArgument(format!("WINDOW BY: expected {what}, got {got}"))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;

    use super::*;

    fn extracted(sql: &str) -> Result<(String, Option<WindowClause>)> {
        let (tokens, clause) = extract(sql, &GenericDialect {})?;
        Ok((tokens.iter().map(|token| token.token.to_string()).collect(), clause))
    }

    #[test]
    fn the_clause_may_stand_anywhere_in_the_outer_select() {
        let clause = WindowClause {
            time: vec!["s".into(), "Ts".into()],
            every_ms: 1000,
            slide_ms: Some(500),
            lateness_ms: Some(0),
            name: "w".into(),
        };
        for sql in [
            "SELECT w, 'WINDOW BY' FROM s WINDOW BY s.\"Ts\" EVERY 1000 SLIDE 500 LATENESS 0 AS w GROUP BY w",
            "SELECT w, 'WINDOW BY' FROM s GROUP BY w window /* x */ by S.\"Ts\" every 1000 lateness 0 slide 500 as W",
        ] {
            let (rest, found) = extracted(sql).unwrap();
            assert_eq!(found.as_ref(), Some(&clause), "{sql}");
            let words: Vec<&str> = rest.split_whitespace().collect();
            assert_eq!(words.join(" "), "SELECT w, 'WINDOW BY' FROM s GROUP BY w");
        }
        let plain = "SELECT sum(x) OVER w FROM s WINDOW w AS (ORDER BY x)";
        assert_eq!(extracted(plain).unwrap(), (plain.into(), None));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (sql, problem) in [
            ("SELECT 1 FROM s WINDOW BY", "expected a column of event times, got EOF"),
            ("SELECT 1 FROM s WINDOW BY t AS w", "expected EVERY, got AS"),
            (
                "SELECT 1 FROM s WINDOW BY t EVERY 0 AS w",
                "EVERY: a whole number of milliseconds, at least 1 and at most 1152921504606846976, got 0",
            ),
            ("SELECT 1 FROM s WINDOW BY t EVERY 1.5 AS w", "got 1.5"),
            ("SELECT 1 FROM s WINDOW BY t EVERY 10 SLIDE 20 AS w", "expected SLIDE of at most EVERY, 10 ms, got 20 ms"),
            ("SELECT 1 FROM s WINDOW BY t EVERY 9223372036854775807 AS w", "at most 1152921504606846976, got 92233"),
            (
                "SELECT 1 FROM s WINDOW BY t EVERY 1000000 SLIDE 1 AS w",
                "at most 100000 windows of one time, got 1000000",
            ),
            ("SELECT 1 FROM s WINDOW BY t EVERY 10", "expected SLIDE, LATENESS or AS, got EOF"),
            ("SELECT 1 FROM (SELECT 1 FROM s WINDOW BY t EVERY 1 AS w)", "got it in a subquery"),
            ("SELECT 1 FROM s WINDOW BY t EVERY 1 AS w WINDOW BY t EVERY 1 AS v", "got it twice"),
        ] {
            let error = extracted(sql).unwrap_err().to_string();
            assert!(error.contains(problem), "{sql}: {error}");
        }
    }
}
