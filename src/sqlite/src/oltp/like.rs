//! Case-sensitive LIKE in queries, while LIKE in the schema stays case-insensitive.
//!
//! SQLite has one LIKE for a connection, and `PRAGMA case_sensitive_like` changes the meaning of
//! indexes, generated columns and CHECKs of the file, or makes the file unusable. So LIKE in a
//! query is rewritten to GLOB, which is case-sensitive, with the pattern translated to GLOB's
//! syntax: `name LIKE 'a%'` is `name GLOB 'a*'`, which can use an index too. So can `name LIKE ?`,
//! whose pattern is translated when it is bound.

use std::borrow::Cow;
use std::collections::BTreeMap;

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use vexact_core::sql::literal;

use super::expression::{offset, tokens};

/// Keywords after which an expression begins: a LIKE there is a name.
const BEFORE_EXPRESSIONS: &str = " SELECT DISTINCT ALL WHERE AND OR NOT ON BY HAVING WHEN THEN ELSE CASE IN IS BETWEEN LIKE GLOB MATCH REGEXP \
    ESCAPE LIMIT OFFSET AS FROM JOIN UNION EXCEPT INTERSECT VALUES USING EXISTS COLLATE ";

/// Prefix of the parameters that are patterns of GLOB: the position follows of the value that is a
/// pattern of LIKE.
const GLOB_PARAMETER: &str = "$_vexact_glob_";

/// Rewrites a query to case-sensitive LIKE. Returns `None` if the extent of a pattern cannot be
/// determined.
pub(super) fn case_sensitive(sql: &str) -> Option<Cow<'_, str>> {
    if !sql.as_bytes().windows(4).any(|word| word.eq_ignore_ascii_case(b"like")) {
        return Some(Cow::Borrowed(sql));
    }
    let tokens = tokens(sql)?;
    // Replacements: start, end, new text.
    let mut edits: Vec<(usize, usize, Cow<'_, str>)> = Vec::new();
    let numbers = numbers(&tokens);
    let mut has_bound_pattern = false;
    for at in (0..tokens.len()).filter(|at| is_operator(&tokens, *at)) {
        let from = |at: usize| tokens.get(at).and_then(|token| offset(sql, token.span.start));
        let to = |at: usize| tokens.get(at).and_then(|token| offset(sql, token.span.end));
        edits.push((from(at)?, to(at)?, "GLOB".into()));
        let end = operand(&tokens, at + 1)?;
        let has_escape = is_word(&tokens, end, Keyword::ESCAPE);
        if let (Token::SingleQuotedString(pattern), 1, false) = (&tokens[at + 1].token, end - at - 1, has_escape) {
            edits.push((from(at + 1)?, to(at + 1)?, literal(&glob(pattern, None)).into()));
            continue;
        }
        if let (Some(numbers), 1, false) = (&numbers, end - at - 1, has_escape)
            && let Some(number) = numbers.get(&(at + 1))
        {
            edits.push((from(at + 1)?, to(at + 1)?, format!("{GLOB_PARAMETER}{number}").into()));
            has_bound_pattern = true;
            continue;
        }
        let start = from(at + 1)?;
        edits.push((start, start, "_vexact_glob(CAST(".into()));
        let pattern_end = to(end - 1)?;
        if has_escape {
            edits.push((pattern_end, to(end)?, " AS TEXT), CAST(".into()));
            let escape_end = to(operand(&tokens, end + 1)? - 1)?;
            edits.push((escape_end, escape_end, " AS TEXT))".into()));
        } else {
            edits.push((pattern_end, pattern_end, " AS TEXT))".into()));
        }
    }
    if has_bound_pattern {
        // SQLite would renumber the other parameters.
        for (at, number) in numbers.into_iter().flatten() {
            let (from, to) = (offset(sql, tokens[at].span.start)?, offset(sql, tokens[at].span.end)?);
            if !edits.iter().any(|(start, end, _)| *start == from && *end == to) {
                edits.push((from, to, format!("${number}").into()));
            }
        }
    }
    edits.sort_by_key(|(from, to, _)| (*from, *to));
    let (mut text, mut written) = (String::with_capacity(sql.len() + 32), 0);
    for (from, to, new) in edits {
        text.push_str(sql.get(written..from)?);
        text.push_str(&new);
        written = to;
    }
    text.push_str(sql.get(written..)?);
    Some(text.into())
}

/// The placeholders of a query, by their tokens, and the positions of their values. Returns `None`
/// if there are some by name, or some of several kinds.
fn numbers(tokens: &[TokenWithSpan]) -> Option<BTreeMap<usize, usize>> {
    let mut numbers = BTreeMap::new();
    let mut kinds = [false; 2];
    for (at, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::Placeholder(text) if text == "?" => {
                kinds[0] = true;
                numbers.insert(at, numbers.len() + 1);
            }
            Token::Placeholder(text) => {
                kinds[1] = true;
                numbers.insert(at, text.strip_prefix(['$', '?'])?.parse().ok().filter(|number| *number > 0)?);
            }
            Token::Colon | Token::AtSign => return None,
            _ => {}
        }
    }
    (kinds != [true; 2]).then_some(numbers)
}

/// The position of the value of a parameter that [`case_sensitive`] made.
pub(super) fn pattern_position(parameter: &str) -> Option<usize> {
    parameter.strip_prefix(GLOB_PARAMETER)?.parse().ok()
}

/// Returns the value to bind to such a parameter.
pub(super) fn bound_pattern(value: &Value) -> Value {
    let pattern = match value {
        Value::Null => return Value::Null,
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) => format!("{real:?}"),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    };
    Value::Text(glob(&pattern, None))
}

/// Returns true if an expression begins after a word.
fn is_before_expression(word: &Word) -> bool {
    word.quote_style.is_none() && BEFORE_EXPRESSIONS.contains(&format!(" {} ", word.value.to_ascii_uppercase()))
}

fn is_word(tokens: &[TokenWithSpan], at: usize, keyword: Keyword) -> bool {
    matches!(tokens.get(at).map(|token| &token.token), Some(Token::Word(word)) if word.keyword == keyword)
}

/// Returns true if a token is the operator LIKE and not a name, because it follows a value.
fn is_operator(tokens: &[TokenWithSpan], at: usize) -> bool {
    let before = if at > 0 && is_word(tokens, at - 1, Keyword::NOT) { at - 1 } else { at };
    let Some(before) = before.checked_sub(1).filter(|_| is_word(tokens, at, Keyword::LIKE)) else { return false };
    match &tokens[before].token {
        Token::Word(word) => !is_before_expression(word),
        Token::RParen
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::HexStringLiteral(_)
        | Token::Placeholder(_) => true,
        _ => false,
    }
}

/// Returns the end of the operand of LIKE that begins at `at`: the first operator that binds no
/// tighter.
fn operand(tokens: &[TokenWithSpan], mut at: usize) -> Option<usize> {
    loop {
        while matches!(tokens.get(at)?.token, Token::Plus | Token::Minus | Token::Tilde) {
            at += 1;
        }
        at = primary(tokens, at)?;
        while is_word(tokens, at, Keyword::COLLATE) {
            at += 2;
        }
        match tokens.get(at).map(|token| &token.token) {
            Some(
                Token::StringConcat
                | Token::Arrow
                | Token::LongArrow
                | Token::Mul
                | Token::Div
                | Token::Mod
                | Token::Plus
                | Token::Minus
                | Token::Ampersand
                | Token::Pipe
                | Token::ShiftLeft
                | Token::ShiftRight
                | Token::Lt
                | Token::Gt
                | Token::LtEq
                | Token::GtEq,
            ) => at += 1,
            _ => return Some(at),
        }
    }
}

/// Returns the end of a value without operators.
fn primary(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    match &tokens.get(at)?.token {
        Token::LParen => closed(tokens, at),
        Token::Word(word) if word.keyword == Keyword::CASE => {
            let mut depth = 0;
            for here in at..tokens.len() {
                depth +=
                    i32::from(is_word(tokens, here, Keyword::CASE)) - i32::from(is_word(tokens, here, Keyword::END));
                if depth == 0 {
                    return Some(here + 1);
                }
            }
            None
        }
        Token::Word(word) if is_before_expression(word) && word.keyword != Keyword::EXISTS => None,
        Token::Word(_) => {
            let mut end = at + 1;
            while tokens.get(end).is_some_and(|token| token.token == Token::Period) {
                end += 2;
            }
            let is_call = tokens.get(end).is_some_and(|token| token.token == Token::LParen);
            if is_call { closed(tokens, end) } else { Some(end) }
        }
        // `:name` and `@name`.
        Token::Colon | Token::AtSign => Some(at + 2),
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::HexStringLiteral(_)
        | Token::Placeholder(_) => Some(at + 1),
        _ => None,
    }
}

/// The position behind the parenthesis that closes the one at `open`.
fn closed(tokens: &[TokenWithSpan], open: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// A pattern of LIKE as one of GLOB.
fn glob(pattern: &str, escape: Option<char>) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(next) = chars.next() {
        let is_escaped = Some(next) == escape;
        let next = match (is_escaped, is_escaped.then(|| chars.next()).flatten()) {
            (false, _) => next,
            (true, Some(next)) => next,
            // An open bracket matches nothing, as an escape without a letter does.
            (true, None) => {
                text.push('[');
                break;
            }
        };
        match next {
            '%' if !is_escaped => text.push('*'),
            '_' if !is_escaped => text.push('?'),
            '*' | '?' | '[' => text.extend(['[', next, ']']),
            other => text.push(other),
        }
    }
    text
}

/// Adds the function that the text of [`case_sensitive`] calls.
pub(super) fn add_function(conn: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    for arguments in [1, 2] {
        conn.create_scalar_function("_vexact_glob", arguments, flags, glob_function)?;
    }
    Ok(())
}

fn glob_function(context: &Context<'_>) -> rusqlite::Result<Value> {
    let text = |at: usize| match context.get_raw(at) {
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    };
    let Some(pattern) = text(0) else { return Ok(Value::Null) };
    let escape = match context.len() {
        1 => None,
        _ => {
            let Some(escape) = text(1) else { return Ok(Value::Null) };
            let mut chars = escape.chars();
            match (chars.next(), chars.next()) {
                (Some(escape), None) => Some(escape),
                _ => {
                    let problem = "ESCAPE expression must be a single character";
                    return Err(rusqlite::Error::UserFunctionError(problem.into()));
                }
            }
        }
    };
    Ok(Value::Text(glob(&pattern, escape)))
}

#[cfg(test)]
mod tests {
    use super::super::statement::bind;
    use super::*;

    /// A connection with case-sensitive LIKE by SQLite's own setting, and one without.
    fn connections() -> (Connection, Connection) {
        let open = || {
            let conn = Connection::open_in_memory().unwrap();
            conn.execute_batch(
                "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b TEXT, \"like\" TEXT);
                 INSERT INTO t(a, b, \"like\") VALUES ('Abc', 'abc', 'x'), ('abc', 'a%', 'LIKE'), ('a*c', 'a?[b]', 'like'),
                    ('a_c%', 'A', NULL), (NULL, '%', '\\%'), (12, '1_', '_2'), (1.5, '%.5', ''), (x'416263', 'A%', 'a[');",
            )
            .unwrap();
            conn
        };
        let (own, other) = (open(), open());
        own.execute_batch("PRAGMA case_sensitive_like = ON").unwrap();
        add_function(&other).unwrap();
        (own, other)
    }

    fn rows(conn: &Connection, sql: &str) -> rusqlite::Result<Vec<Vec<Value>>> {
        let mut statement = conn.prepare(sql)?;
        let count = statement.column_count();
        bind_all(&mut statement, &["a%".into(), "A%".into(), "b".into(), "x".into()].map(Value::Text));
        statement.raw_query().mapped(|row| (0..count).map(|at| row.get(at)).collect()).collect()
    }

    /// Binds the values that a statement has parameters for.
    fn bind_all(statement: &mut rusqlite::Statement<'_>, values: &[Value]) {
        let wanted = (0..=values.len()).find(|count| bind(statement, "", &values[..*count]).is_ok());
        assert!(wanted.is_some());
    }

    #[test]
    fn queries_mean_what_they_mean_with_case_sensitive_like() {
        let (own, other) = connections();
        for sql in [
            "SELECT id FROM t WHERE a LIKE 'a%'",
            "SELECT id, a LIKE b, b LIKE a, a NOT LIKE b, NOT a LIKE b FROM t ORDER BY id",
            "SELECT id FROM t WHERE a like '%' || 'c' AND b LIKE b COLLATE NOCASE OR a LiKe ?",
            "SELECT id, ?, a LIKE ?, b LIKE ? || '%' FROM t WHERE id > length(?) - 2",
            "SELECT id, a LIKE ?2, ?1, b LIKE (?2), a LIKE ?2 ESCAPE '\\' FROM t WHERE b LIKE ?1 OR a NOT LIKE $1",
            "SELECT $2, a LIKE $1 AND b LIKE $2, typeof($1) FROM t",
            "SELECT id, a LIKE '_' || '_c' = 1, a LIKE b IS NULL, (a LIKE 'a%') LIKE '1' FROM t ORDER BY id",
            "SELECT id, b LIKE 'a\\%' ESCAPE '\\', b LIKE '%a%' ESCAPE 'a', b LIKE 'ab' ESCAPE 'b', b LIKE \"like\" ESCAPE '\\' FROM t",
            "SELECT CASE WHEN a LIKE 'A%' THEN 'x' LIKE 'X' ELSE b LIKE CASE id WHEN 1 THEN 'a%' ELSE 'A%' END END FROM t",
            "SELECT id FROM t WHERE a LIKE (SELECT b FROM t AS u WHERE u.b LIKE 'a%' AND u.id = t.id)",
            "SELECT t.\"like\" LIKE t.\"like\", t.like, like('a%', 'ab') FROM t -- a LIKE 'b'",
            "SELECT 'a LIKE b', a /* LIKE */ LIKE /* LIKE */ 'a*%' FROM t",
            "SELECT count(*) FILTER (WHERE a LIKE 'a%'), max(a LIKE b) FROM t GROUP BY b LIKE 'a%' HAVING max(b) LIKE '%' ORDER BY 1, 2",
            "SELECT a LIKE 1 + 11, a LIKE -1.5, a LIKE x'6125', a LIKE NULL, a LIKE 'a' < 3 FROM t",
            "SELECT t.a LIKE substr(b, 1, 1) || '%', a LIKE lower('A%'), a LIKE cast('a%' AS TEXT) FROM t",
            "WITH u(like) AS (SELECT 'a') SELECT like FROM u",
            "SELECT a FROM t WHERE a LIKE 'a%' UNION SELECT b FROM t WHERE b LIKE '%[%' ORDER BY 1 LIMIT 5",
            "SELECT 'é' LIKE '_', '日本' LIKE '日%', 'İ' LIKE 'i', '' LIKE '', 'a' LIKE '', '' LIKE '%'",
        ] {
            let text = case_sensitive(sql).unwrap_or_else(|| panic!("{sql}"));
            let expected = rows(&own, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(rows(&other, &text).map_err(|error| error.to_string()), Ok(expected), "{sql} as {text}");
        }
        let text = case_sensitive("SELECT 'a' LIKE 'a' ESCAPE 'xx'").unwrap();
        assert!(rows(&other, &text).unwrap_err().to_string().contains("must be a single character"));
        for sql in ["SELECT a LIKE FROM t", "SELECT a LIKE", "SELECT a LIKE (b FROM t", "SELECT a LIKE 'b"] {
            assert_eq!(case_sensitive(sql), None, "{sql}");
        }
    }

    #[test]
    fn a_prefix_is_found_through_an_index() {
        let (_, conn) = connections();
        conn.execute_batch("CREATE INDEX by_b ON t(b)").unwrap();
        let text = case_sensitive("EXPLAIN QUERY PLAN SELECT id FROM t WHERE b LIKE 'ab%'").unwrap();
        let plan: String = conn.query_row(&text, [], |row| row.get(3)).unwrap();
        assert!(plan.contains("by_b (b>? AND b<?)"), "{plan}");
    }

    #[test]
    fn a_bound_prefix_is_found_through_an_index() {
        let (_, conn) = connections();
        conn.execute_batch("CREATE INDEX by_b ON t(b)").unwrap();
        for sql in ["b LIKE ?", "b LIKE ?1", "b LIKE $1 AND id > ?1"] {
            let text =
                case_sensitive(&format!("EXPLAIN QUERY PLAN SELECT id FROM t WHERE {sql}")).unwrap().into_owned();
            let mut statement = conn.prepare(&text).unwrap();
            bind_all(&mut statement, &[Value::Text("ab%".into())]);
            let plan: Vec<String> = statement.raw_query().mapped(|row| row.get(3)).map(Result::unwrap).collect();
            assert!(plan[0].contains("by_b (b>? AND b<?)"), "{text}: {plan:?}");
        }
    }

    #[test]
    fn random_patterns_match_as_with_like() {
        let (own, other) = connections();
        let mut state = 7u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut word = |longest| -> String {
            (0..random(longest))
                .map(|_| ['a', 'A', 'b', '%', '_', '*', '?', '[', ']', '^', '-', '\\', 'é'][random(13)])
                .collect()
        };
        let sql = "SELECT ?1 LIKE ?2, ?1 LIKE ?2 ESCAPE '\\', ?1 LIKE ?2 ESCAPE 'a'";
        let text = case_sensitive(sql).unwrap();
        let (mut like, mut glob) = (own.prepare(sql).unwrap(), other.prepare(&text).unwrap());
        for _ in 0..20_000 {
            let (value, pattern) = (word(6), word(8));
            let get = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get::<_, bool>(2)?]);
            let expected = like.query_row([&value, &pattern], get).unwrap();
            bind(&mut glob, &text, &[&value, &pattern].map(|text| Value::Text(text.clone()))).unwrap();
            let got = glob.raw_query().mapped(get).next().unwrap().unwrap();
            assert_eq!(got, expected, "{value:?} LIKE {pattern:?}");
        }
    }
}
