//! Both routes give equal answers: random queries over replicated tables, and over tables of the
//! same rows that are not replicated, which SQLite answers. Rows and types are equal, or the router
//! has routed the query to SQLite. Queries that SQLite rejects, that it answers, and that the
//! replicas answer are counted separately. `VEXACT_SEED=n` replays a failure,
//! `VEXACT_SOAK_SECONDS=n` runs new seeds for that long.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tokio::runtime::Runtime;
use vexact::TableSchema;
use vexact::htap::{HtapConfig, HtapEngine};
use vexact::router::Side;

use crate::query_writer::Writer;
use crate::replication::random::Random;

const QUERIES: u64 = 1_200;

const COLUMNS: &str =
    "(id INTEGER PRIMARY KEY, a INTEGER, f REAL, s TEXT, b BOOLEAN, x BLOB, small INTEGER, n NUMERIC, g REAL)";

pub(crate) async fn open(folder: &tempfile::TempDir) -> HtapEngine {
    let config = HtapConfig { oltp_path: folder.path().join("a.db"), ..HtapConfig::default() };
    let engine = HtapEngine::open(config).await.unwrap();
    for table in ["t", "u", "plain_t", "plain_u"] {
        engine.execute(&format!("CREATE TABLE {table}{COLUMNS}"), &[]).await.unwrap();
        let is_first = table.ends_with('t');
        let rows = [
            "(1, 0, 0.0, 'a', 0, X'', 0, 5, 9e999)",
            "(2, 7, -0.0, 'ab', 1, X'00', 127, 2.5, -9e999)",
            "(3, -1, 1.5, 'A', NULL, X'FF00', -128, NULL, 1.0)",
            "(4, NULL, -2.5, '', 1, NULL, 100, 0, 9e999)",
            "(5, 100, NULL, NULL, 0, X'61', 100, -7, NULL)",
            "(6, 7, 2.0, '5', 1, X'00', NULL, 1e300, 0.0)",
            "(7, 3, 1e10, '2020-02-29', NULL, X'61', 3, 3, -9e999)",
            "(8, 3, -1.0, 'äß', 0, NULL, 1, 0.5, 1e308)",
            "(9, 2, 0.1, ' a b ', 1, X'0102', 2, 100, -1e308)",
            "(10, -100, 3.0, 'a%_b', 0, X'', 5, -2, 2.5)",
        ];
        let kept = rows.iter().enumerate().filter(|(at, _)| is_first || at % 3 != 0).map(|(_, row)| *row);
        let values = kept.collect::<Vec<_>>().join(", ");
        engine.execute(&format!("INSERT INTO {table} VALUES {values}"), &[]).await.unwrap();
    }
    for table in ["t", "u"] {
        let columns = [
            ("id", "int64"),
            ("a", "int64"),
            ("f", "float64"),
            ("s", "utf8"),
            ("b", "bool"),
            ("x", "binary"),
            ("small", "int8"),
            ("n", "float64"),
            ("g", "float64"),
        ];
        let columns: Vec<(String, String)> = columns.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
        engine.register_table(TableSchema::try_new(table, &columns, &["id".into()]).unwrap(), true).await.unwrap();
    }
    engine
}

/// Replaces `t` and `u` by the tables that are not replicated.
fn plain(sql: &str) -> String {
    let mut plain = String::new();
    let mut words = sql.split_inclusive(|ch: char| !ch.is_ascii_alphanumeric() && ch != '_').peekable();
    let mut is_table = false;
    while let Some(word) = words.next() {
        let name = word.trim_end_matches(|ch: char| !ch.is_ascii_alphanumeric() && ch != '_');
        if is_table && matches!(name, "t" | "u") {
            let is_named = words.peek().is_some_and(|next| next.trim() == "AS");
            let alias = if is_named { String::new() } else { format!(" AS {name}") };
            plain += &format!("plain_{name}{alias}{}", &word[name.len()..]);
        } else {
            plain += word;
        }
        is_table = matches!(name, "FROM" | "JOIN");
    }
    plain
}

/// Returns rows as text; reals to 9 digits, as sums depend on the order of their rows.
pub(crate) fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let cell = |column: &ArrayRef, row: usize| match column.data_type() {
            DataType::Float64 if column.is_valid(row) => {
                let value = column.as_primitive::<Float64Type>().value(row);
                if value == 0.0 { "0".into() } else { format!("{value:.9e}") }
            }
            _ => ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string(),
        };
        rows.extend(
            (0..batch.num_rows())
                .map(|row| batch.columns().iter().map(|column| cell(column, row)).collect::<Vec<_>>().join(" | ")),
        );
    }
    rows
}

/// Rewrites the integers of a row as reals.
fn as_reals(row: &str) -> String {
    let cell = |cell: &str| match cell.parse::<i64>() {
        Ok(0) | Err(_) => cell.to_owned(),
        Ok(number) => format!("{:.9e}", number as f64),
    };
    row.split(" | ").map(cell).collect::<Vec<_>>().join(" | ")
}

/// Returns the types of the columns, with each integer type as Int64: `small` is registered as int8
/// and declared as INTEGER, so a result computed from it may have another width.
pub(crate) fn types(batches: &[RecordBatch]) -> Vec<DataType> {
    let wide = |data_type: &DataType| if data_type.is_integer() { DataType::Int64 } else { data_type.clone() };
    batches[0].schema().fields().iter().map(|field| wide(field.data_type())).collect()
}

/// The side that answered a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Neither side: SQLite rejects the query.
    Refused,
    Sqlite,
    Replicas,
}

/// Runs one query over both.
pub(crate) async fn check(engine: &HtapEngine, sql: &str) -> Result<Answered, String> {
    let Ok(expected) = engine.query(&plain(sql), &[]).await else { return Ok(Answered::Refused) };
    let route = engine.route(sql).await.map_err(|error| format!("{sql}\n{error}"))?;
    // Without a declared type, the values of a column decide.
    let is_typed = !sql.split(|ch: char| !ch.is_ascii_alphanumeric()).any(|word| word == "n");
    let got = engine.query(sql, &[]).await.map_err(|error| format!("{sql}\n{route:?}\n{error}"))?;
    let (mut a, mut b) = (rows(&got), rows(&expected));
    if !sql.contains("ORDER BY e") {
        a.sort();
        b.sort();
    }
    if !is_typed {
        [&mut a, &mut b].into_iter().flatten().for_each(|row| *row = as_reals(row));
        a.sort();
        b.sort();
    }
    if a != b || (is_typed && types(&got) != types(&expected)) {
        let answers = [(&a, &got), (&b, &expected)].map(|(rows, batches)| format!("{:?} {rows:?}", types(batches)));
        return Err(format!("{sql}\n{route:?}\n{}\nSQLite: {}", answers[0], answers[1]));
    }
    Ok(if route.side == Side::Olap { Answered::Replicas } else { Answered::Sqlite })
}

/// Number of queries by the side that answered.
#[derive(Debug, Default)]
struct Counts {
    refused: u64,
    by_sqlite: u64,
    by_replicas: u64,
}

#[test]
fn both_routes_answer_alike() {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let engine = runtime.block_on(open(&folder));
    let (mut problems, mut counts) = (Vec::new(), Counts::default());
    let mut one = |seed: u64| {
        let sql = Writer { random: Random::new(seed) }.query();
        match runtime.block_on(check(&engine, &sql)) {
            Ok(Answered::Refused) => counts.refused += 1,
            Ok(Answered::Sqlite) => counts.by_sqlite += 1,
            Ok(Answered::Replicas) => counts.by_replicas += 1,
            Err(problem) => problems.push(format!("VEXACT_SEED={seed}: {problem}")),
        }
    };
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("VEXACT_SEED") {
        one(seed);
    } else if let Some(seconds) = number("VEXACT_SOAK_SECONDS") {
        let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
        let (end, mut runs) = (Instant::now() + Duration::from_secs(seconds), 0);
        while Instant::now() < end {
            one(first + runs);
            runs += 1;
        }
        eprintln!("{runs} queries from seed {first}: {counts:?}");
    } else {
        (1..=QUERIES).for_each(&mut one);
        eprintln!("{counts:?}");
        assert!(counts.by_replicas > QUERIES / 4, "too few answers by replicas: {counts:?}");
        assert!(counts.by_sqlite < QUERIES * 2 / 3, "too many answers by SQLite: {counts:?}");
        assert!(counts.refused < QUERIES / 10, "too many refused queries: {counts:?}");
    }
    assert!(problems.is_empty(), "{} differ:\n{}", problems.len(), problems[..problems.len().min(20)].join("\n\n"));
}
