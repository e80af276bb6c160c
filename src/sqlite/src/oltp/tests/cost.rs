//! Measures the cost of capture for a write. It is a benchmark, not a test: run it with
//! `--ignored --nocapture`.

use std::time::Instant;

use super::*;

const ROWS: i64 = 200_000;

/// Microseconds for each inserted row, in one transaction, the best of three.
fn insert_us(ddl: &str, key: &str, is_captured: bool) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let run = |at: usize| {
        let conn = Connection::open(folder.path().join(format!("{at}.db"))).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL").unwrap();
        conn.execute_batch(ddl).unwrap();
        if is_captured {
            let columns = [("id", "int64"), ("a", "utf8"), ("b", "int64"), ("c", "float64")];
            capture::install(&conn, &schema("t", &columns, &[key])).unwrap();
        }
        let start = Instant::now();
        let tx = conn.unchecked_transaction().unwrap();
        let mut insert = tx.prepare("INSERT INTO t VALUES (?1, ?2, ?3, ?4)").unwrap();
        for id in 0..ROWS {
            insert.execute((id, format!("name{id}"), id * 3, id as f64 * 0.5)).unwrap();
        }
        drop(insert);
        tx.commit().unwrap();
        let elapsed = start.elapsed().as_secs_f64() * 1e6 / ROWS as f64;
        let logged: i64 = match is_captured {
            true => conn.query_row("SELECT count(*) FROM _vexact_log WHERE op = 1", [], |row| row.get(0)).unwrap(),
            false => ROWS,
        };
        assert_eq!(logged, ROWS);
        elapsed
    };
    (0..3).map(run).fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "a measurement"]
fn cost_of_capture() {
    for (what, ddl, key) in [
        ("integer key", "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c REAL)", "id"),
        (
            "integer key, one more UNIQUE",
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT UNIQUE, b INTEGER, c REAL)",
            "id",
        ),
        (
            "integer key, a partial UNIQUE index",
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c REAL); CREATE UNIQUE INDEX u ON t(a) WHERE b > 0",
            "id",
        ),
        ("text key, row id", "CREATE TABLE t(id INTEGER, a TEXT PRIMARY KEY NOT NULL, b INTEGER, c REAL)", "a"),
        (
            "text key, WITHOUT ROWID",
            "CREATE TABLE t(id INTEGER, a TEXT PRIMARY KEY, b INTEGER, c REAL) WITHOUT ROWID",
            "a",
        ),
    ] {
        let (plain, captured) = (insert_us(ddl, key, false), insert_us(ddl, key, true));
        println!("{what}: {plain:.2} us plain, {captured:.2} us captured, {:.2}x", captured / plain);
    }
}
