//! Splits SQL text into statements by the rule of SQLite's own shell.

use std::iter::Peekable;
use std::str::CharIndices;

/// The last token, as far as the end of a trigger depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Semicolon,
    EndOfBody,
    Other,
}

/// Returns the statements of a text, without the semicolons between them. Semicolons in quotes,
/// comments and the bodies of triggers separate no statements.
pub(super) fn statements(sql: &str) -> Vec<&str> {
    split(sql).0
}

/// Returns true if a text ends with the semicolon of its last statement.
pub(super) fn is_complete(sql: &str) -> bool {
    !split(sql).1
}

/// Returns the statements of a text, and whether the last one lacks its semicolon.
fn split(sql: &str) -> (Vec<&str>, bool) {
    let mut found = Vec::new();
    let mut chars = sql.char_indices().peekable();
    // The start of the statement, its first words, and the last token.
    let (mut start, mut words, mut last) = (None, Vec::new(), Last::Other);
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c.is_whitespace() || c == '\u{feff}' => continue,
            '-' if chars.next_if(|(_, next)| *next == '-').is_some() => {
                chars.by_ref().find(|(_, c)| *c == '\n');
                continue;
            }
            '/' if chars.next_if(|(_, next)| *next == '*').is_some() => {
                end_comment(&mut chars);
                continue;
            }
            ';' => {
                let is_inside = is_trigger(&words) && last != Last::EndOfBody;
                match start {
                    Some(_) if is_inside => last = Last::Semicolon,
                    Some(start_at) => {
                        found.push(sql[start_at..at].trim_end());
                        (start, last) = (None, Last::Other);
                        words.clear();
                    }
                    None => {}
                }
                continue;
            }
            _ => {}
        }
        start.get_or_insert(at);
        let is_after_semicolon = last == Last::Semicolon;
        last = Last::Other;
        match c {
            '\'' | '"' | '`' => skip_to(&mut chars, c),
            '[' => skip_to(&mut chars, ']'),
            _ if is_word(c) => {
                let mut end = at + c.len_utf8();
                while let Some((next, c)) = chars.next_if(|(_, c)| is_word(*c)) {
                    end = next + c.len_utf8();
                }
                let word = &sql[at..end];
                if is_after_semicolon && word.eq_ignore_ascii_case("END") {
                    last = Last::EndOfBody;
                }
                if words.len() < 3 {
                    words.push(word);
                }
            }
            _ => {}
        }
    }
    let is_open = start.is_some();
    found.extend(start.map(|start| sql[start..].trim_end()));
    (found, is_open)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Returns true if the first words of a statement are `CREATE [TEMP] TRIGGER`.
fn is_trigger(words: &[&str]) -> bool {
    let is = |at: usize, word: &str| words.get(at).is_some_and(|found| found.eq_ignore_ascii_case(word));
    is(0, "CREATE") && (is(1, "TRIGGER") || (is(1, "TEMP") || is(1, "TEMPORARY")) && is(2, "TRIGGER"))
}

fn skip_to(chars: &mut Peekable<CharIndices<'_>>, end: char) {
    chars.find(|(_, c)| *c == end);
}

fn end_comment(chars: &mut Peekable<CharIndices<'_>>) {
    while chars.any(|(_, c)| c == '*') {
        if chars.next_if(|(_, c)| *c == '/').is_some() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_that_are_not_within_something() {
        let trigger = "create temp trigger t after insert on a begin select case when 1 then 2 end; delete from b; end";
        for (sql, expected) in [
            ("", vec![]),
            (" ;; -- nothing;\n /* ; */", vec![]),
            ("a", vec!["a"]),
            ("a; b ;", vec!["a", "b"]),
            ("'a;''b'; \"c;\"; `d;`; [e;]", vec!["'a;''b'", "\"c;\"", "`d;`", "[e;]"]),
            ("a -- b;\n c; d /* ; **/ e", vec!["a -- b;\n c", "d /* ; **/ e"]),
            ("a - b; c / d", vec!["a - b", "c / d"]),
            ("'open; a", vec!["'open; a"]),
            ("/* open; a", vec![]),
            (&format!("{trigger}; b"), vec![trigger, "b"]),
            ("create table trigger(a); end", vec!["create table trigger(a)", "end"]),
            ("é; 'ü;'", vec!["é", "'ü;'"]),
        ] {
            assert_eq!(statements(sql), expected, "{sql:?}");
        }
    }

    #[test]
    fn a_statement_is_complete_with_its_semicolon() {
        for (sql, expected) in [
            ("SELECT 1;", true),
            ("SELECT 1; -- done", true),
            ("SELECT 1", false),
            ("SELECT ';", false),
            ("SELECT 1; SELECT", false),
            ("create trigger t after insert on a begin select 1; ", false),
            ("", true),
        ] {
            assert_eq!(is_complete(sql), expected, "{sql:?}");
        }
    }
}
