//! A query vector that stands in the text of a query, `'[0.1, 0.2, ...]'`, as a parameter: so all searches of a form have one text,
//! whose plan is kept.

use datafusion::common::{ParamValues, ScalarValue};
use vexact_sql::{parse_vector, scalar_of_vector};

/// Shorter literals are cheap to plan.
const LITERAL_BYTES: usize = 128;

/// The text of a SELECT with a parameter in the place of its one long vector, and the vector. `None`: there is none, or it stands
/// where the name of a column would be made of it, or the text has parameters, comments or quotes of other kinds.
pub fn as_parameter(query: &str) -> Option<(String, ParamValues)> {
    const SELECT: &str = "SELECT";
    let is_select = query.trim_start().get(..SELECT.len()).is_some_and(|word| word.eq_ignore_ascii_case(SELECT));
    if !is_select || query.len() < LITERAL_BYTES || query.contains('$') {
        return None;
    }
    let literals = literals(query)?;
    let vector = *literals.iter().find(|literal| is_vector(literal.content))?;
    let mut text = String::with_capacity(query.len() - vector.content.len());
    let mut end = 0;
    for (i, literal) in literals.iter().enumerate() {
        if literal.content == vector.content {
            text.push_str(&query[end..literal.start]);
            text.push_str("$1");
            end = literal.end;
            if !is_unnamed(&query[end..]) && !is_search_argument(query, &literals[..=i]) {
                return None;
            }
        } else if is_vector(literal.content) {
            return None;
        }
    }
    text.push_str(&query[end..]);
    // A `?` is a parameter too.
    if text.contains('?') {
        return None;
    }
    let value: ScalarValue = scalar_of_vector(parse_vector(vector.content).ok()?);
    Some((text, ParamValues::from(vec![value])))
}

/// A text literal: where it stands with its quotes, and what is between them.
#[derive(Clone, Copy)]
struct Literal<'a> {
    start: usize,
    end: usize,
    content: &'a str,
}

fn is_vector(content: &str) -> bool {
    content.len() >= LITERAL_BYTES && content.starts_with('[')
}

/// The text literals of a query.
fn literals(query: &str) -> Option<Vec<Literal<'_>>> {
    let bytes = query.as_bytes();
    let mut literals = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = closing(bytes, at)?,
            b'\'' => {
                // E'..', X'..' and others have rules of their own.
                if at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || matches!(bytes[at - 1], b'_' | b'&')) {
                    return None;
                }
                let end = closing(bytes, at)?;
                literals.push(Literal { start: at, end, content: query.get(at + 1..end - 1)? });
                at = end;
            }
            b'-' if bytes.get(at + 1) == Some(&b'-') => return None,
            b'/' if bytes.get(at + 1) == Some(&b'*') => return None,
            b'`' => return None,
            _ => at += 1,
        }
    }
    Some(literals)
}

/// Where a quoted part ends, after its closing quote; a quote that is doubled is within it.
fn closing(bytes: &[u8], open: usize) -> Option<usize> {
    let quote = bytes[open];
    let mut at = open + 1;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == quote)? + 1;
        if bytes.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

/// Whether what follows a literal leaves the column without a name that holds it: it has another one, or it is sorted by.
fn is_unnamed(rest: &str) -> bool {
    let rest = rest.trim_start();
    let Some(after) = rest.strip_prefix(')') else { return false };
    let mut words = after.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let is_order = |word: &str| {
        let ends = ["ASC", "DESC", "NULLS", "FIRST", "LAST", "LIMIT", "OFFSET"];
        ends.iter().any(|end| end.eq_ignore_ascii_case(word)) || word.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut names = words.clone();
    let is_named = after.trim_start().starts_with(|c: char| c.is_alphabetic())
        && names.next().is_some_and(|word| word.eq_ignore_ascii_case("AS"));
    is_named || words.all(is_order)
}

/// Whether the last of these literals is the third argument of `vector_search`.
fn is_search_argument(query: &str, literals: &[Literal<'_>]) -> bool {
    const FUNCTION: &str = "vector_search";
    let [.., table, column, vector] = literals else { return false };
    let is_comma = |a: &Literal<'_>, b: &Literal<'_>| query[a.end..b.start].trim() == ",";
    let before = query[..table.start].trim_end().strip_suffix('(').unwrap_or_default().trim_end();
    let name = before.len().checked_sub(FUNCTION.len()).and_then(|start| before.get(start..));
    let is_function = name.is_some_and(|name| name.eq_ignore_ascii_case(FUNCTION));
    is_function && is_comma(table, column) && is_comma(column, vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector() -> String {
        format!("[{}]", vec!["0.125"; 32].join(","))
    }

    #[test]
    fn a_vector_that_names_no_column_becomes_a_parameter() {
        let v = vector();
        for (query, expected) in [
            (
                format!("SELECT id FROM t WHERE a = 'x''y' ORDER BY l2_distance(v, '{v}') LIMIT 5"),
                "SELECT id FROM t WHERE a = 'x''y' ORDER BY l2_distance(v, $1) LIMIT 5",
            ),
            (
                format!(
                    "select id, 1 - cosine_distance(v, '{v}' ) as s FROM t ORDER BY cosine_distance(v,'{v}') desc nulls last limit 5 offset 2"
                ),
                "select id, 1 - cosine_distance(v, $1 ) as s FROM t ORDER BY cosine_distance(v,$1) desc nulls last limit 5 offset 2",
            ),
            (
                format!("SELECT id, inner_product(v, '{v}') AS s FROM \"T'\" ORDER BY s DESC LIMIT 5;"),
                "SELECT id, inner_product(v, $1) AS s FROM \"T'\" ORDER BY s DESC LIMIT 5;",
            ),
            (
                format!("SELECT * FROM Vector_Search ('t', 'v', '{v}', 5) WHERE n > 1"),
                "SELECT * FROM Vector_Search ('t', 'v', $1, 5) WHERE n > 1",
            ),
        ] {
            let (text, params) = as_parameter(&query).unwrap();
            assert_eq!(text, expected);
            let value = params.get_placeholders_with_values("$1").unwrap().value;
            assert_eq!(value, scalar_of_vector(vec![0.125; 32]));
        }
    }

    #[test]
    fn any_other_text_stays_as_it_is() {
        let v = vector();
        for query in [
            "SELECT id FROM t ORDER BY l2_distance(v, '[1,2]') LIMIT 5".to_owned(),
            format!("INSERT INTO t VALUES (1, '{v}')"),
            format!("SELECT id FROM t ORDER BY l2_distance(v, '{}') LIMIT 5", v.replace(']', ",x]")),
            format!("SELECT id, l2_distance(v, '{v}') FROM t LIMIT 5"),
            format!("SELECT id, l2_distance(v, '{v}') d FROM t ORDER BY d LIMIT 5"),
            format!("SELECT id, '{v}' FROM t"),
            format!("SELECT id FROM t WHERE n = $1 ORDER BY l2_distance(v, '{v}') LIMIT 5"),
            format!("SELECT id FROM t WHERE n = ? ORDER BY l2_distance(v, '{v}') LIMIT 5"),
            format!("SELECT id FROM t ORDER BY l2_distance(v, E'{v}') LIMIT 5"),
            format!("SELECT id FROM t ORDER BY l2_distance(v, '{v}') LIMIT 5 -- closest"),
            format!("SELECT id FROM t ORDER BY /* ' */ l2_distance(v, '{v}') LIMIT 5"),
            format!("SELECT id FROM t ORDER BY l2_distance(v, '{v}' LIMIT 5 + 'open"),
            format!(
                "SELECT id, l2_distance(w, '{v}') AS a FROM t ORDER BY l2_distance(v, '{}') LIMIT 5",
                v.replace('5', "7")
            ),
            format!("SELECT round(l2_distance(v, '{v}'), 2) FROM t"),
        ] {
            assert!(as_parameter(&query).is_none(), "{query}");
        }
    }
}
