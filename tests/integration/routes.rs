//! Both routes answer alike: random queries over replicated tables, and over tables of the same rows that are not replicated, so
//! that SQLite answers. Rows and types are equal, or the router has kept the query with SQLite. `VEXACT_SEED=n` replays a
//! failure, `VEXACT_SOAK_SECONDS=n` runs new seeds for that long.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tokio::runtime::Runtime;
use vexact::TableSchema;
use vexact::htap::{HtapConfig, HtapEngine};
use vexact::router::Side;

use crate::replication::random::Random;

const QUERIES: u64 = 700;

const COLUMNS: &str =
    "(id INTEGER PRIMARY KEY, a INTEGER, f REAL, s TEXT, b BOOLEAN, x BLOB, small INTEGER, n NUMERIC)";

async fn open(folder: &tempfile::TempDir) -> HtapEngine {
    let config = HtapConfig { oltp_path: folder.path().join("a.db"), ..HtapConfig::default() };
    let engine = HtapEngine::open(config).await.unwrap();
    for table in ["t", "u", "plain_t", "plain_u"] {
        engine.execute(&format!("CREATE TABLE {table}{COLUMNS}"), &[]).await.unwrap();
        let is_first = table.ends_with('t');
        let rows = [
            "(1, 0, 0.0, 'a', 0, X'', 0, 5)",
            "(2, 7, -0.0, 'ab', 1, X'00', 127, 2.5)",
            "(3, -1, 1.5, 'A', NULL, X'FF00', -128, NULL)",
            "(4, NULL, -2.5, '', 1, NULL, 100, 0)",
            "(5, 100, NULL, NULL, 0, X'61', 100, -7)",
            "(6, 7, 2.0, '5', 1, X'00', NULL, 1e300)",
            "(7, 3, 1e10, '2020-02-29', NULL, X'61', 3, 3)",
            "(8, 3, -1.0, 'äß', 0, NULL, 1, 0.5)",
            "(9, 2, 0.1, ' a b ', 1, X'0102', 2, 100)",
            "(10, -100, 3.0, 'a%_b', 0, X'', 5, -2)",
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
        ];
        let columns: Vec<(String, String)> = columns.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
        engine.register_table(TableSchema::try_new(table, &columns, &["id".into()]).unwrap(), true).await.unwrap();
    }
    engine
}

/// Writes queries.
struct Writer {
    random: Random,
}

impl Writer {
    fn pick(&mut self, from: &[&str]) -> String {
        (*self.random.pick(from)).to_owned()
    }

    fn number(&mut self, depth: usize) -> String {
        if depth == 0 || self.random.chance(25) {
            return self.pick(&["id", "a", "a", "f", "f", "n", "0", "1", "2", "-1", "7", "1.5", "0.0", "NULL", "10"]);
        }
        match self.random.below(12) {
            0..=4 => {
                let (a, b) = (self.number(depth - 1), self.number(depth - 1));
                let op = self.pick(&["+", "-", "*", "/", "%", "&", "|"]);
                self.joined(&a, &op, &b)
            }
            5 => format!("-{}", self.operand(depth)),
            6 => format!("abs({})", self.number(depth - 1)),
            7 => format!(
                "CAST({} AS {})",
                self.any(depth - 1),
                self.pick(&["INTEGER", "INT", "BIGINT", "REAL", "DOUBLE"])
            ),
            8 => format!("length({})", if self.random.chance(50) { self.text(depth - 1) } else { self.any(depth - 1) }),
            9 => format!(
                "CASE WHEN {} THEN {} ELSE {} END",
                self.condition(depth - 1),
                self.number(depth - 1),
                self.number(depth - 1)
            ),
            10 => format!("coalesce({}, {})", self.number(depth - 1), self.number(depth - 1)),
            _ => match self.random.below(5) {
                0 => format!("nullif({}, {})", self.number(depth - 1), self.number(depth - 1)),
                1 => format!("instr({}, {})", self.text(depth - 1), self.text(depth - 1)),
                2 => format!("round({}{})", self.number(depth - 1), self.pick(&["", ", 1", ", 2", ", -1", ", a"])),
                3 => format!("a {} {}", self.pick(&["<<", ">>"]), self.pick(&["0", "1", "3"])),
                _ => format!("max({}, {})", self.number(depth - 1), self.number(depth - 1)),
            },
        }
    }

    fn text(&mut self, depth: usize) -> String {
        if depth == 0 || self.random.chance(30) {
            return self.pick(&["s", "s", "s", "'a'", "'ab'", "'A'", "''", "'5'", "NULL", "'b'"]);
        }
        match self.random.below(10) {
            0..=3 => {
                let a = if self.random.chance(80) { self.text(depth - 1) } else { self.any(depth - 1) };
                let b = self.text(depth - 1);
                self.joined(&a, "||", &b)
            }
            4 => format!("{}({})", self.pick(&["lower", "upper", "trim", "ltrim", "rtrim"]), self.text(depth - 1)),
            5 => format!(
                "substr({}, {}, {})",
                self.text(depth - 1),
                self.pick(&["1", "2", "0", "-1", "-2", "a", "NULL"]),
                self.pick(&["0", "1", "2", "-1", "a"])
            ),
            6 => format!("replace({}, {}, {})", self.text(depth - 1), self.text(0), self.text(0)),
            7 => format!("CAST({} AS TEXT)", self.any(depth - 1)),
            8 => format!("CASE WHEN {} THEN {} END", self.condition(depth - 1), self.text(depth - 1)),
            _ => match self.random.below(4) {
                0 => format!("typeof({})", self.any(depth - 1)),
                1 => format!("hex({})", self.pick(&["x", "s"])),
                2 if self.random.chance(50) => format!(
                    "{}({})",
                    self.pick(&["date", "datetime", "lower", "upper", "unicode", "quote"]),
                    self.any(depth - 1)
                ),
                2 => format!("ifnull({}, {})", self.text(depth - 1), self.text(depth - 1)),
                _ => format!("coalesce({}, {})", self.text(depth - 1), self.any(depth - 1)),
            },
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(&[
                "b",
                "a > 2",
                "f >= 0",
                "f = 0",
                "s = 'a'",
                "NOT b",
                "a IS NULL",
                "TRUE",
                "f < 0.0",
                "id % 2 = 0",
            ]);
        }
        match self.random.below(14) {
            13 => format!("t.id IN (SELECT {} FROM u) OR {}", self.pick(&["a", "f", "n"]), self.condition(depth - 1)),
            0..=2 => {
                let (a, b) = if self.random.chance(50) {
                    (self.number(depth - 1), self.number(depth - 1))
                } else {
                    (self.text(depth - 1), self.text(depth - 1))
                };
                let op = self.pick(&["=", "==", "<>", "!=", "<", "<=", ">", ">="]);
                self.joined(&a, &op, &b)
            }
            3 => {
                let (a, b) = (self.any(depth - 1), self.any(depth - 1));
                let op = self.pick(&["=", "<", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"]);
                self.joined(&a, &op, &b)
            }
            4..=5 => {
                let (a, b) = (self.condition(depth - 1), self.condition(depth - 1));
                let op = self.pick(&["AND", "OR"]);
                self.joined(&a, &op, &b)
            }
            6 => format!("NOT {}", self.condition(depth - 1)),
            7 => format!(
                "{} {}LIKE {}",
                self.operand_text(depth),
                self.not(),
                self.pick(&["'a%'", "'%b%'", "'A'", "'_'", "'a\\%'", "s"])
            ),
            8 => format!(
                "{} {}IN ({}, {})",
                self.operand(depth),
                self.not(),
                self.number(depth - 1),
                self.number(depth - 1)
            ),
            9 => format!("{} {}BETWEEN {} AND {}", self.operand(depth), self.not(), self.operand(1), self.operand(1)),
            10 => format!("({}) IS {}NULL", self.any(depth - 1), self.not()),
            11 => format!(
                "{} {}IN (SELECT {} FROM u)",
                self.operand(depth),
                self.not(),
                self.pick(&["a", "id", "f", "s"])
            ),
            _ => format!("EXISTS (SELECT 1 FROM u AS w WHERE w.a = {})", self.pick(&["t.a", "3", "t.f"])),
        }
    }

    fn any(&mut self, depth: usize) -> String {
        match self.random.below(10) {
            0..=3 => self.number(depth),
            4..=6 => self.text(depth),
            7..=8 => self.condition(depth),
            _ => self.pick(&["x", "x", "X'61'", "NULL", "small", "small + small", "small * 2", "-small"]),
        }
    }

    fn not(&mut self) -> &'static str {
        if self.random.chance(30) { "NOT " } else { "" }
    }

    fn operand(&mut self, depth: usize) -> String {
        format!("({})", self.number(depth - 1))
    }

    fn operand_text(&mut self, depth: usize) -> String {
        format!("({})", self.text(depth - 1))
    }

    /// Half of the time without parentheses, so that the precedence counts.
    fn joined(&mut self, a: &str, op: &str, b: &str) -> String {
        if self.random.chance(50) { format!("{a} {op} {b}") } else { format!("({a}) {op} ({b})") }
    }

    fn query(&mut self) -> String {
        let depth = 1 + self.random.below(3);
        let (one, two, filter) = (self.any(depth), self.any(depth), self.condition(depth));
        let number = self.number(depth);
        match self.random.below(13) {
            0 => format!("SELECT {one}, {two} FROM t WHERE {filter}"),
            1 => format!("SELECT DISTINCT {one}, {two} FROM t WHERE {filter}"),
            2 => format!("SELECT count(*), sum({number}), avg({number}), min({one}), max({two}) FROM t WHERE {filter}"),
            3 => format!("SELECT {one} AS e, count(*) FROM t WHERE {filter} GROUP BY {one} HAVING count(*) > 0"),
            4 => format!(
                "SELECT t.id, u.id, {} FROM t JOIN u ON t.{} = u.{}",
                self.pick(&["t.a + u.a", "t.s || u.s", "t.f / u.a"]),
                self.pick(&["a", "s", "id", "f"]),
                self.pick(&["a", "s", "id", "f", "small"])
            ),
            5 => format!(
                "SELECT {one} FROM t {} SELECT {two} FROM u",
                self.pick(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"])
            ),
            6 => format!("SELECT e FROM (SELECT {one} AS e, * FROM t) AS t WHERE {filter}"),
            7 => format!(
                "SELECT id, {one} FROM t WHERE a > (SELECT {} FROM u) AND {filter}",
                self.pick(&["min(a)", "avg(f)", "count(*)", "max(s)"])
            ),
            8 => format!("WITH w AS (SELECT id, {one} AS e FROM t WHERE {filter}) SELECT e, id FROM w"),
            9 => format!(
                "SELECT id, {} OVER (ORDER BY {}, id) FROM t WHERE {filter}",
                self.pick(&["row_number()", "rank()", "sum(a)", "count(*)", "lag(s)", "first_value(a)", "ntile(3)"]),
                self.pick(&["a", "s", "f", "b"])
            ),
            10 => format!(
                "SELECT DISTINCT {one} AS e, id FROM t WHERE {filter} ORDER BY {}, id LIMIT {} OFFSET {}",
                self.pick(&["e", "id", "e DESC"]),
                self.pick(&["3", "0", "-1", "100"]),
                self.pick(&["0", "1", "-1"])
            ),
            11 => format!(
                "SELECT t.id, u.s FROM t {} JOIN u USING (id) WHERE t.a = 3 OR {}",
                self.pick(&["LEFT", "INNER", ""]),
                self.pick(&["u.s IS NULL", "u.f < 2", "u.b"])
            ),
            _ => format!(
                "SELECT b, {} FROM t WHERE {filter} GROUP BY b",
                self.pick(&[
                    "sum(small)",
                    "avg(small)",
                    "max(small)",
                    "total(a)",
                    "group_concat(s)",
                    "count(DISTINCT a)",
                    "min(x)",
                    "sum(f) / count(*)"
                ])
            ),
        }
    }
}

/// `t` and `u` become the tables that are not replicated.
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

/// Rows as text; reals to 9 digits, as sums depend on the order of their rows.
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

/// A row whose integers are written as its reals are.
fn as_reals(row: &str) -> String {
    let cell = |cell: &str| match cell.parse::<i64>() {
        Ok(0) | Err(_) => cell.to_owned(),
        Ok(number) => format!("{:.9e}", number as f64),
    };
    row.split(" | ").map(cell).collect::<Vec<_>>().join(" | ")
}

/// `small` is registered as int8, and declared as INTEGER: what is computed with it may be of another width.
pub(crate) fn types(batches: &[RecordBatch]) -> Vec<DataType> {
    let wide = |data_type: &DataType| if data_type.is_integer() { DataType::Int64 } else { data_type.clone() };
    batches[0].schema().fields().iter().map(|field| wide(field.data_type())).collect()
}

/// Runs one query over both; whether the replicas answered.
async fn check(engine: &HtapEngine, sql: &str) -> Result<bool, String> {
    let Ok(expected) = engine.query(&plain(sql), &[]).await else { return Ok(false) };
    let route = engine.route(sql).await.map_err(|error| format!("{sql}\n{error}"))?;
    // Without a declared type, the values of a column decide.
    let is_typed = !sql.split(|ch: char| !ch.is_ascii_alphanumeric()).any(|word| word == "n");
    let got = match engine.query(sql, &[]).await {
        Ok(got) => got,
        Err(_) if !is_typed && route.side == Side::Sqlite => return Ok(false),
        Err(error) => return Err(format!("{sql}\n{route:?}\n{error}")),
    };
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
    Ok(route.side == Side::Olap)
}

#[test]
fn both_routes_answer_alike() {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let engine = runtime.block_on(open(&folder));
    let mut problems = Vec::new();
    let mut one = |seed: u64| -> bool {
        let sql = Writer { random: Random::new(seed) }.query();
        runtime.block_on(check(&engine, &sql)).unwrap_or_else(|problem| {
            problems.push(format!("VEXACT_SEED={seed}: {problem}"));
            false
        })
    };
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let mut on_replicas = 0;
    if let Some(seed) = number("VEXACT_SEED") {
        one(seed);
    } else if let Some(seconds) = number("VEXACT_SOAK_SECONDS") {
        let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
        let (end, mut runs) = (Instant::now() + Duration::from_secs(seconds), 0);
        while Instant::now() < end {
            on_replicas += u64::from(one(first + runs));
            runs += 1;
        }
        eprintln!("{runs} queries from seed {first}, {on_replicas} answered by the replicas");
    } else {
        on_replicas = (1..=QUERIES).filter(|seed| one(*seed)).count() as u64;
        assert!(on_replicas > QUERIES / 10, "the replicas answered only {on_replicas} of {QUERIES} queries");
    }
    assert!(problems.is_empty(), "{} differ:\n{}", problems.len(), problems[..problems.len().min(20)].join("\n\n"));
}
