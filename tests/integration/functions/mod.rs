//! The replicas' functions and casts give the results of SQLite's, over values on which
//! implementations differ.

mod values;

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tokio::runtime::Runtime;
use vexact::TableSchema;
use vexact::htap::{HtapConfig, HtapEngine, Param};
use vexact::router::Side;

use self::values::values;
use crate::routes::{rows, types};

/// Opens an engine with `t`, which is replicated, and `plain`, which is not, with the same rows.
async fn open(folder: &tempfile::TempDir, rows: &[Vec<Param>]) -> HtapEngine {
    let config = HtapConfig { oltp_path: folder.path().join("a.db"), ..HtapConfig::default() };
    let engine = HtapEngine::open(config).await.unwrap();
    for table in ["t", "plain"] {
        let columns = "(id INTEGER PRIMARY KEY, a INTEGER, f REAL, s TEXT, b BOOLEAN, x BLOB, n NUMERIC)";
        engine.execute(&format!("CREATE TABLE {table}{columns}"), &[]).await.unwrap();
        let values: Vec<Vec<Param>> = rows
            .iter()
            .enumerate()
            .map(|(id, row)| {
                let mut values = vec![Param::Integer(id as i64)];
                values.extend(row.iter().cloned());
                values
            })
            .collect();
        engine.execute_many(&format!("INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?)"), &values).await.unwrap();
    }
    let columns = [
        ("id", "int64"),
        ("a", "int64"),
        ("f", "float64"),
        ("s", "utf8"),
        ("b", "bool"),
        ("x", "binary"),
        ("n", "float64"),
    ];
    let columns: Vec<(String, String)> = columns.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
    engine.register_table(TableSchema::try_new("t", &columns, &["id".into()]).unwrap(), true).await.unwrap();
    engine
}

/// Returns rows as text. Reals are exact to the bit except for the sign of zero, which sets and
/// groups lose.
fn exact(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let cell = |column: &ArrayRef, row: usize| match column.data_type() {
        DataType::Float64 if column.is_valid(row) => {
            format!("{:?}", column.as_primitive::<Float64Type>().value(row) + 0.0)
        }
        _ => ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string(),
    };
    let row = |batch: &RecordBatch, row| {
        batch.columns().iter().map(|column| cell(column, row)).collect::<Vec<_>>().join(" | ")
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |at| row(batch, at))).collect()
}

/// Runs the same query over both tables, each answered by its side.
async fn alike(engine: &HtapEngine, query: &str) -> Option<String> {
    let sql = query.replace("{t}", "t");
    let route = engine.route(&sql).await.unwrap();
    if route.side != Side::Olap {
        return Some(format!("{sql}\n{}", route.reason));
    }
    let got = match engine.query_olap(&sql, &[]).await {
        Ok(got) => got,
        Err(error) => return Some(format!("{sql}\n{error}")),
    };
    let expected = engine.query(&query.replace("{t}", "plain"), &[]).await.unwrap();
    let mut problem = String::new();
    if types(&got) != types(&expected) {
        write!(problem, "{sql}\n{:?}, SQLite: {:?}", types(&got), types(&expected)).unwrap();
    }
    let (got, expected) = (exact(&got), exact(&expected));
    for (got, expected) in got.iter().zip(&expected).filter(|(got, expected)| got != expected).take(4) {
        write!(problem, "{sql}\n{got:?}\nSQLite: {expected:?}\n").unwrap();
    }
    if got.len() != expected.len() {
        write!(problem, "{sql}\n{} rows, SQLite: {}", got.len(), expected.len()).unwrap();
    }
    (!problem.is_empty()).then_some(problem)
}

fn check(expressions: &[&str]) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let engine = runtime.block_on(open(&folder, &values()));
    let problems = expressions.iter().filter_map(|expression| {
        let query = format!("SELECT DISTINCT id, s, f, a, {expression} AS e FROM {{t}} ORDER BY id");
        runtime.block_on(alike(&engine, &query))
    });
    let problems: Vec<String> = problems.collect();
    assert!(problems.is_empty(), "{} differ:\n{}", problems.len(), problems.join("\n\n"));
}

#[test]
fn casts_are_those_of_sqlite() {
    check(&[
        "CAST(s AS INTEGER)",
        "CAST(s AS BIGINT)",
        "CAST(s AS REAL)",
        "CAST(s AS DOUBLE)",
        "CAST(s AS TEXT)",
        "CAST(f AS INTEGER)",
        "CAST(f AS TEXT)",
        "CAST(f AS REAL)",
        "CAST(a AS TEXT)",
        "CAST(a AS REAL)",
        "CAST(b AS TEXT)",
        "CAST(b AS INTEGER)",
        "CAST(b AS REAL)",
        "CAST(CAST(s AS REAL) AS TEXT)",
        "CAST(a > 0 AS TEXT)",
        "CAST('12abc' AS INTEGER)",
        "CAST(1e300 AS INTEGER)",
        "CAST(2.50 AS TEXT)",
        "f || ''",
        "s || f || a || b",
        "b || 'x'",
        "(f * 2) || 'x'",
        "avg(id / 2.0) OVER () || ''",
    ]);
}

#[test]
fn functions_of_text_are_those_of_sqlite() {
    check(&[
        "lower(s)",
        "upper(s)",
        "lower(a)",
        "upper(f)",
        "lower(b)",
        "length(s)",
        "length(a)",
        "length(f)",
        "length(x)",
        "length(b)",
        "substr(s, 1)",
        "substr(s, 0)",
        "substr(s, -1)",
        "substr(s, 2, 3)",
        "substr(s, 0, 2)",
        "substr(s, 0, -2)",
        "substr(s, -3, 2)",
        "substr(s, 3, -2)",
        "substr(s, -2, -2)",
        "substr(s, a)",
        "substr(s, a, a)",
        "substr(s, 2, a)",
        "substr(s, NULL)",
        "substr(s, 1, NULL)",
        "substr(a, 2, 2)",
        "substr(f, 1, 3)",
        "substring(s, 2)",
        "replace(s, 'a', 'bb')",
        "replace(s, '', 'x')",
        "replace(s, '', NULL)",
        "replace(s, '1', NULL)",
        "replace(s, s, 'x')",
        "replace(s, 'e', '')",
        "replace(a, '1', s)",
        "replace(f, '.', ',')",
        "trim(s)",
        "ltrim(s, '0 ')",
        "rtrim(s, '0')",
        "instr(s, 'e')",
        "instr(s, '')",
        "unicode(s)",
        "hex(x)",
        "printf('%5.2f|%d|%s', f, a, s)",
        "format('%s', f)",
    ]);
}

#[test]
fn round_is_that_of_sqlite() {
    check(&[
        "round(f)",
        "round(f, 0)",
        "round(f, 1)",
        "round(f, 2)",
        "round(f, 3)",
        "round(f, 10)",
        "round(f, 15)",
        "round(f, 100)",
        "round(f, -1)",
        "round(f, a)",
        "round(f, NULL)",
        "round(a)",
        "round(a, 2)",
        "round(s)",
        "round(s, 2)",
        "round(b)",
        "round(n, 1)",
        "round(2.675, 2)",
        "round(-0.4)",
    ]);
}

#[test]
fn functions_of_constants_are_those_of_sqlite() {
    check(&[
        "lower('ÄB')",
        "substr('hello', -3, 2)",
        "round(1e20, 2)",
        "round(-0.5)",
        "CAST('' AS REAL)",
        "CAST(NULL AS TEXT)",
        "replace('aaa', 'aa', 'b')",
        "length('a' || NULL)",
        "CAST(9223372036854775807 AS REAL)",
        "upper(NULL)",
    ]);
}

#[test]
fn times_are_those_of_sqlite() {
    check(&[
        "date(s)",
        "datetime(s)",
        "time(s)",
        "julianday(s)",
        "unixepoch(s)",
        "strftime('%Y-%m', s)",
        "strftime('%s %f %w %j', s)",
        "date(s, '+1 month', 'start of month')",
        "datetime(a, 'unixepoch')",
        "datetime(f)",
        "date(a)",
        "strftime(s, s)",
        "strftime('%Y', a, 'unixepoch', s)",
        "date(n)",
    ]);
}

#[test]
fn what_sqlite_may_hold_as_an_integer_stays_with_it() {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let engine = runtime.block_on(open(&folder, &values()));
    for expression in [
        "n / 2",
        "CAST(n AS TEXT)",
        "n || ''",
        "coalesce(a, f) / 2",
        "CASE WHEN b THEN 5 ELSE f END / 2",
        "CASE WHEN b THEN f ELSE 0 END || ''",
        "(CASE WHEN b THEN f ELSE 0 END + 7) / 2",
        "lower(n)",
        "max(n) / 2",
        "date('now')",
        "strftime('%Y', 'now')",
        "date()",
    ] {
        let sql = format!("SELECT DISTINCT {expression} FROM t");
        let route = runtime.block_on(engine.route(&sql)).unwrap();
        assert_eq!(route.side, Side::Sqlite, "{sql}");
    }
    for query in [
        "SELECT sum(e / 2) FROM (SELECT coalesce(a, f) AS e FROM t)",
        "SELECT sum(e / 2) FROM (SELECT CASE WHEN b THEN a ELSE f END AS e FROM t)",
        "SELECT sum(e / 2) FROM (SELECT id AS e FROM t UNION ALL SELECT f FROM t)",
        "WITH w(e) AS (VALUES (1), (2.5)) SELECT e / 2 FROM w, t",
    ] {
        assert_eq!(runtime.block_on(engine.route(query)).unwrap().side, Side::Sqlite, "{query}");
    }
    for query in [
        "SELECT b, sum(CASE WHEN b THEN id / 2.0 ELSE 0 END) / count(*) AS e FROM {t} GROUP BY b",
        "SELECT b, max(n), sum(n) FROM {t} GROUP BY b",
        "SELECT id, f / 2, n + 1, coalesce(id, f) AS e FROM {t} WHERE id IN (SELECT a FROM {t}) OR s = 'a'",
    ] {
        let (sql, plain) = (query.replace("{t}", "t"), query.replace("{t}", "plain"));
        assert_eq!(runtime.block_on(engine.route(&sql)).unwrap().side, Side::Olap, "{sql}");
        let answer = |sql: String| runtime.block_on(engine.query(&sql, &[])).unwrap();
        let (mut got, mut expected) = (rows(&answer(sql.clone())), rows(&answer(plain)));
        got.sort();
        expected.sort();
        assert_eq!(got, expected, "{sql}");
    }
}

#[test]
fn a_group_by_lower_is_answered_by_the_replica() {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let engine = runtime.block_on(open(&folder, &values()));
    for query in [
        "SELECT lower(s) AS e, count(*), max(id / 2.0) FROM {t} WHERE abs(f) < 100 GROUP BY lower(s) ORDER BY e",
        "SELECT round(f, 1) AS e, count(*) FROM {t} WHERE upper(s) > 'A' GROUP BY 1 ORDER BY e",
        "SELECT CAST(s AS INTEGER) AS e, count(*) FROM {t} GROUP BY e HAVING e > 0 ORDER BY e",
        "SELECT strftime('%Y', a, 'unixepoch') AS e, count(*) FROM {t} GROUP BY e ORDER BY e",
    ] {
        assert_eq!(runtime.block_on(alike(&engine, query)), None);
    }
}
