//! Tests that statements with numbered placeholders bind the same values as SQLite does for the
//! original statement.

use proptest::prelude::*;
use rusqlite::types::Value;
use rusqlite::{Connection, Statement};
use vexact_core::param::{Argument, Param, Params, to_sqlite};

use crate::{InLists, all_by_number, by_number, numbered, rows_by_number};

fn texts(conn: &Connection, statement: &mut Statement<'_>) -> Vec<Vec<Value>> {
    let _ = conn;
    let count = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| (0..count).map(|at| row.get(at)).collect();
    statement.raw_query().mapped(row).collect::<rusqlite::Result<_>>().unwrap()
}

/// Returns SQLite's answer to a statement whose parameters have these values.
fn answer(conn: &Connection, sql: &str, value: impl Fn(usize, Option<&str>) -> Value) -> Vec<Vec<Value>> {
    let mut statement = conn.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    for index in 1..=statement.parameter_count() {
        let bound = value(index, statement.parameter_name(index));
        statement.raw_bind_parameter(index, bound).unwrap();
    }
    texts(conn, &mut statement)
}

fn number(index: usize, name: Option<&str>) -> usize {
    name.and_then(|name| name.trim_start_matches(['$', '?']).parse().ok()).unwrap_or(index)
}

fn integer(value: i64) -> Argument {
    Param::Integer(value).into()
}

/// Style of the placeholders of a statement. To SQLite `$2` is only a name, and `?1` may be the
/// same parameter, so styles are not mixed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    Named,
    Question,
    Dollar,
}

/// Generates pieces of statements: placeholders, and texts that only resemble them.
fn piece(style: Style) -> BoxedStrategy<&'static str> {
    let quoted = prop::sample::select(vec![
        "':a'",
        "'it''s ?'",
        "\"x?\"",
        "`y:b`",
        "/* ? :a */ 1",
        "-- @a ?\n 2",
        "x'00'",
        "CAST(3 AS TEXT)",
        "1.5e3",
        "'ü 🦀 ?'",
        "[z$1]",
    ]);
    let placeholders = match style {
        Style::Named => vec![":a", "@a", "$a", ":b", ":längre", "$c1", ":a1"],
        Style::Question => vec!["?", "?1", "?3"],
        Style::Dollar => vec!["$1", "$2", "$3"],
    };
    prop_oneof![quoted, prop::sample::select(placeholders)].boxed()
}

proptest! {
    #[test]
    fn a_rewritten_statement_binds_what_sqlite_binds(
        (style, pieces) in prop::sample::select(vec![Style::Named, Style::Question, Style::Dollar])
            .prop_flat_map(|style| (Just(style), prop::collection::vec(piece(style), 1..8))),
    ) {
        let conn = Connection::open_in_memory().unwrap();
        let is_named = style == Style::Named;
        let from = "\n FROM (SELECT 7 AS \"x?\", 8 AS \"y:b\", 9 AS \"z$1\")";
        let sql = format!("SELECT {}{from}", pieces.join(",\r\n\t"));
        let names = [":a", ":b", ":längre", ":c1", ":a1"];
        let params = match is_named {
            true => Params::Named((10..).zip(names).map(|(value, name)| (name[1..].to_owned(), integer(value))).collect()),
            false => {
                let statement = conn.prepare(&sql).unwrap();
                let indices = 1..=statement.parameter_count();
                let last = indices.map(|index| match statement.parameter_name(index) {
                    // To SQLite this number is only a name.
                    Some(name) if name.starts_with('$') => number(index, Some(name)),
                    _ => index,
                });
                // SQLite counts up to the greatest number, even if no parameter has it.
                let last = last.max().unwrap_or(0);
                Params::Positional((10..).take(last).map(integer).collect())
            }
        };
        let expected = answer(&conn, &sql, |index, name| Value::Integer(match (is_named, name) {
            (true, Some(name)) => 10 + names.iter().position(|known| known[1..] == name[1..]).unwrap() as i64,
            _ => 9 + number(index, name) as i64,
        }));
        let (rewritten, values) = all_by_number(&sql, params).unwrap();
        let values = to_sqlite(&values);
        let got = answer(&conn, &rewritten, |index, name| values[number(index, name) - 1].clone());
        prop_assert_eq!(&got, &expected, "{}\n{}", sql, rewritten);
        if is_named {
            // Without values, the same placeholders get the same numbers.
            prop_assert_eq!(numbered(&sql).into_owned(), rewritten);
        }
    }
}

fn integers(values: &[i64]) -> Argument {
    Argument::List(values.iter().map(|value| Param::Integer(*value)).collect())
}

#[test]
fn a_list_alone_in_in_is_so_many_values() {
    let conn = Connection::open_in_memory().unwrap();
    let sql =
        "WITH t(x) AS (VALUES (1), (2), (3), (NULL)) SELECT x FROM t WHERE x not in ( ?2 ) AND ?1 IN(?1) OR x > ?3";
    for (list, expected) in [(&[1, 3][..], vec![2]), (&[], vec![1, 2, 3]), (&[2], vec![1, 3])] {
        let params = vec![Argument::from(Param::Integer(5)), integers(list), integer(9)];
        let (rewritten, values) = by_number(sql, params.into()).unwrap();
        let values = to_sqlite(&values);
        let got = answer(&conn, &rewritten, |index, name| values[number(index, name) - 1].clone());
        let expected: Vec<Vec<Value>> = expected.into_iter().map(|x| vec![Value::Integer(x)]).collect();
        // No value is in an empty list, not even NULL.
        let nulls: Vec<Vec<Value>> = if list.is_empty() { vec![vec![Value::Null]] } else { vec![] };
        assert_eq!(got, [expected, nulls].concat(), "{rewritten}");
    }
    let lists = InLists::of("SELECT ? IN (?), 1 IN (:ids), 1 IN (1, :no), 1 IN (SELECT @no), ':x' IN ($y)");
    assert!(lists.has_position(2) && !lists.has_position(1));
    assert!(lists.has_name("ids") && lists.has_name("y") && !lists.has_name("no"));
}

#[test]
fn what_cannot_be_bound_is_named() {
    let refused = |sql: &str, params: Params| by_number(sql, params).unwrap_err().to_string();
    let named = |name: &str| Params::Named(vec![(name.to_owned(), integer(1))]);
    assert_eq!(
        refused("SELECT :a, :b", named("a")),
        "parameter :b: expected a value of this name, got [a]: SELECT :a, :b"
    );
    assert_eq!(
        refused("SELECT ?", named("a")),
        "parameter ?: expected a sequence of values, got a mapping of names to values: SELECT ?"
    );
    assert_eq!(
        refused("SELECT ?", vec![integers(&[1])].into()),
        "parameter ?: expected a value, got a list, which stands alone in IN (..): SELECT ?"
    );
    assert_eq!(
        refused("SELECT 1 IN (?), ?", vec![integers(&[1])].into()),
        "parameter ?: expected 2 parameters, got 1: SELECT 1 IN (?), ?"
    );
    assert_eq!(
        refused("SELECT 1 IN (?)", vec![integers(&[1]), integer(2)].into()),
        "expected 1 parameters, got 2: SELECT 1 IN (?)"
    );
    assert_eq!(
        refused("SELECT :a IN (?)", vec![integer(1), integers(&[1])].into()),
        "parameter :a: expected a mapping of names to values, got a sequence: SELECT :a IN (?)"
    );
    let rows = |rows: Vec<Params>| rows_by_number("INSERT INTO t VALUES (:a)", rows).unwrap_err().to_string();
    assert!(
        rows(vec![named("a"), named("b")]).starts_with("row 2: parameter :a: expected a value of this name, got [b]")
    );
    assert!(
        rows(vec![named("a"), vec![integer(1)].into()]).contains("row 2: expected parameters by name or by position")
    );
    assert!(rows(vec![vec![integers(&[1])].into()]).starts_with("row 1: expected values, got a list"));
}

#[test]
fn what_has_no_names_stays_as_it_is() {
    for sql in
        ["SELECT ?, $1 FROM t WHERE x::int = '::a'", "CREATE TABLE \"unfinished", "SELECT [1.0, 2.0], x:y FROM t"]
    {
        let by_values = by_number(sql, vec![integer(1)].into()).unwrap();
        assert_eq!(by_values.0, sql);
    }
    assert_eq!(numbered("SELECT x::int, ?, ':a'"), "SELECT x::int, ?, ':a'");
}
