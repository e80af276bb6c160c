//! Tests that every text yields an answer or an error.

use proptest::prelude::*;

use vexact_sql::deep::{on_stack, stack_of_text};

use super::{World, read_only};
use crate::{ParsedQuery, for_olap};

/// Generates text from pieces that are significant to the lexer and the parser.
fn fragments() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "SELECT",
        "FROM",
        "WHERE",
        "WITH",
        "RECURSIVE",
        "AS",
        "JOIN",
        "ON",
        "USING",
        "NATURAL",
        "UNION",
        "GROUP BY",
        "ORDER BY",
        "LIMIT",
        "VALUES",
        "EXPLAIN",
        "INSERT INTO",
        "DELETE",
        "CASE",
        "WHEN",
        "THEN",
        "END",
        "EXISTS",
        "IN",
        "OVER",
        "FILTER",
        "docs",
        "Orders",
        "main",
        ".",
        "notes",
        "id",
        "\"Title\"",
        "[id]",
        "[",
        "]",
        "(",
        ")",
        ",",
        "*",
        "?",
        "?2",
        "$1",
        ":a",
        "@b",
        "'x'",
        "'",
        "\"",
        "`",
        "/*",
        "*/",
        "--",
        "\n",
        ";",
        "1",
        "1.5e",
        "x'00'",
        "count(",
        "vector_search('docs', 'embedding', ",
        "cosine_distance(",
        "=",
        "||",
        "->",
        "::",
        "é",
        "\u{0}",
        "LATERAL",
        "TABLE",
        "INTO",
        "DESCRIBE",
        "SHOW TABLES",
        "{",
        "}",
        "=>",
        "#",
        "\\",
        "E'\\x",
        "U&'",
        "$$",
        "INTERVAL",
        "NOT",
        "-",
    ]);
    prop::collection::vec((piece, prop::bool::weighted(0.8)), 0..24).prop_map(|pieces| {
        pieces.into_iter().map(|(piece, spaced)| format!("{piece}{}", if spaced { " " } else { "" })).collect()
    })
}

fn answers(sql: &str) {
    let Ok(query) = ParsedQuery::parse(sql) else { return };
    let _ = crate::route(&query, &World);
    if let Ok(statement) = crate::read_only(&query) {
        // An engine copies and rewrites a statement on a stack of its text's size.
        on_stack(stack_of_text(sql), || drop(for_olap(statement.clone(), &World)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn arbitrary_text_never_panics(sql in any::<String>()) {
        answers(&sql);
    }

    #[test]
    fn arbitrary_sql_never_panics(sql in fragments()) {
        answers(&sql);
    }

    /// A query from `for_olap` has canonical names already.
    #[test]
    fn spelling_is_stable(column in "[iI][dD]|[tT][iI]tle|PRICE|n", table in "[dD]ocs|DOCS", alias in "[tT]|D") {
        let sql = format!("SELECT {column} AS N, {alias}.{column} FROM {table} {alias} ORDER BY n, {column}");
        let once = for_olap(read_only(&sql)?, &World)?;
        let twice = for_olap(read_only(&once.to_string())?, &World)?;
        prop_assert_eq!(once.to_string(), twice.to_string());
    }
}

#[test]
fn long_chains_of_any_operator_fit_a_small_stack() {
    let chains = [" + 1", " || 'a'", " = 1", " AND 1", " IS NULL", "::int", " COLLATE b", " BETWEEN 1 AND 2", "[1]"];
    let of = |text: &str, count: usize| text.repeat(count);
    let mut texts: Vec<String> =
        chains.iter().map(|chain| format!("SELECT count(*), 1{} FROM docs", of(chain, 2_900))).collect();
    texts.extend(chains.iter().map(|chain| format!("SELECT count(*), 1{}", of(chain, 50_000))));
    texts.push(format!("SELECT 1{}", of(" UNION SELECT 1", 2_000)));
    texts.push(format!("SELECT 1{}", of(" UNION SELECT 1", 50_000)));
    texts.push(format!("SELECT {}1", of("NOT ", 50_000)));
    texts.push(format!("SELECT {}1", of("- ", 50_000)));
    texts.push(format!("SELECT {}", of("CASE WHEN ", 50_000)));
    texts.push(format!("SELECT * FROM docs{}", of(" JOIN docs", 2_000)));
    texts.push(of("EXPLAIN ", 5_000) + "SELECT 1");
    texts.push(of("(", 50_000));
    texts.push(of("[", 50_000));
    texts.push(format!("SELECT a{} FROM docs", of(".a", 2_000)));
    texts.push(format!("SELECT 1, 2{}", of(" UNION SELECT 1, 2", 2_000)));
    texts.push(format!("SELECT 1, 2{}", of(" UNION SELECT 1, 2", 50_000)));
    texts.push(format!("SELECT {}", of(&format!("CASE WHEN 1{} + ", of(" + 1", 2_000)), 40)));
    texts.push(format!("SELECT {}", of(&format!("f(a)(1{} + ", of(" + 1", 2_000)), 40)));
    texts.push(format!("SELECT 1{}", of(" + f(1)", 20_000)));
    texts.push(format!("SELECT 1{}", of(" + CASE 1 WHEN 2 THEN 3 END", 20_000)));
    // Minimum stack size of a thread of a runtime.
    let all = move || texts.iter().for_each(|sql| answers(sql));
    std::thread::Builder::new().stack_size(2 << 20).spawn(all).expect("thread").join().expect("no overflow");
}
