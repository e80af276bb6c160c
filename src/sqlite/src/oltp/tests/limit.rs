//! A log that has reached its limit.

use super::*;
use crate::oltp::limit::{self, Limit};

fn count(conn: &Connection, table: &str) -> i64 {
    conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

fn set_limit(conn: &Connection, changes: u64) {
    let limit = Limit { changes: Some(changes), rows: 0, is_pruned: true };
    limit::extend(conn, log::last_seq(conn).unwrap(), limit).unwrap();
}

#[test]
fn a_full_log_takes_no_changes_and_values_are_checked_as_ever() {
    let mut users = users();
    users.run(&["INSERT INTO users VALUES (1, 'a', 1)"]);
    set_limit(&users.conn, 3);
    users.run(&["INSERT INTO users VALUES (2, 'b', 1)", "UPDATE users SET n = 2"]);
    assert!(limit::is_full(&users.conn).unwrap());
    let logged = count(&users.conn, "_vexact_log");
    let statements = [
        "INSERT INTO users VALUES (3, 'c', 1)",
        "REPLACE INTO users VALUES (4, 'c', 1)",
        "INSERT INTO users VALUES (5, 'c', 1) ON CONFLICT (email) DO UPDATE SET n = 7",
        "UPDATE OR REPLACE users SET email = 'a', id = 9 WHERE id = 2",
        "DELETE FROM users WHERE id = 4",
    ];
    for statement in statements {
        users.conn.execute_batch(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    assert_eq!((count(&users.conn, "_vexact_log"), count(&users.conn, "_vexact_displaced")), (logged, 0));
    for statement in ["INSERT INTO users VALUES (7, 'x', 'text')", "UPDATE users SET n = 0.5"] {
        let error = users.conn.execute_batch(statement).expect_err(statement).to_string();
        assert!(error.contains("vexact: users.n: expected int64 (an integer)"), "{error}");
    }
    // A new log has none of the positions of the old one.
    let last = log::last_seq(&users.conn).unwrap();
    limit::begin_anew(&users.conn).unwrap();
    assert_eq!(log::time_at(&users.conn, last).unwrap(), None);
    assert!(!limit::is_full(&users.conn).unwrap());
    users.replica = users.table();
    users.applied = log::last_seq(&users.conn).unwrap();
    users.run(&["INSERT INTO users VALUES (3, 'q', 1)", "DELETE FROM users"]);
}

#[test]
fn row_ids_beyond_the_limit_do_not_close_the_log() {
    let mut users = users();
    set_limit(&users.conn, 1000);
    users.run(&[
        "INSERT INTO users VALUES (1000000000000, 'a', 1)",
        "UPDATE users SET id = 1000000000000",
        "INSERT INTO users VALUES (2000000000000, 'b', 1)",
        "UPDATE users SET id = 2000000000000 WHERE email = 'b'",
        "DELETE FROM users",
    ]);
    assert!(!limit::is_full(&users.conn).unwrap());
}

#[test]
fn what_is_rolled_back_does_not_close_the_log() {
    let mut users = users();
    set_limit(&users.conn, 2);
    users.conn.execute_batch("BEGIN; INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 1), (3, 'c', 1)").unwrap();
    assert!(limit::is_full(&users.conn).unwrap());
    users.conn.execute_batch("ROLLBACK").unwrap();
    assert!(!limit::is_full(&users.conn).unwrap());
    users.run(&["INSERT INTO users VALUES (1, 'a', 1)"]);
}

#[test]
fn the_limit_follows_the_users_wish_the_rows_and_whether_the_log_is_pruned() {
    let users = users();
    let conn = &users.conn;
    let last = || conn.query_row("SELECT last_seq FROM _vexact_limit", [], |row| row.get::<_, i64>(0)).unwrap();
    let extend = |from, limit| limit::extend(conn, from, limit).unwrap();
    let automatic = Limit { changes: None, rows: 7, is_pruned: true };
    extend(50_000, automatic);
    assert_eq!(last(), 100_001);
    extend(90_000, automatic);
    assert_eq!(last(), 190_000);
    extend(90_000, Limit { rows: 1_000_000, ..automatic });
    assert_eq!(last(), 1_090_000);
    extend(90_000, Limit { is_pruned: false, ..automatic });
    assert_eq!(last(), i64::MAX);
    extend(90_000, Limit { changes: Some(10), ..automatic });
    assert_eq!(last(), 90_010);
    // The file keeps it.
    extend(90_008, Limit { rows: 1_000_000, ..automatic });
    assert_eq!(last(), 90_018);
    conn.execute_batch("INSERT INTO _vexact_engines VALUES ('a', 1, 0, '/a', 1)").unwrap();
    extend(90_018, automatic);
    assert_eq!(last(), i64::MAX);
}

#[test]
fn a_table_of_many_columns_is_checked_when_the_log_is_full_or_refused() {
    let conn = Connection::open_in_memory().unwrap();
    let column = |at: usize| format!("a{at} INTEGER");
    let ddl: Vec<String> = (0..1100).map(column).collect();
    conn.execute_batch(&format!("CREATE TABLE wide(id TEXT PRIMARY KEY NOT NULL, {})", ddl.join(", "))).unwrap();
    let schema = |count: usize| {
        let columns = (0..count).map(|at| (format!("a{at}"), "int8".to_owned()));
        let all: Vec<_> = [("id".to_owned(), "utf8".to_owned())].into_iter().chain(columns).collect();
        TableSchema::try_new("wide", &all, &["id".to_owned()]).unwrap()
    };
    let tx = conn.unchecked_transaction().unwrap();
    let error = capture::install(&tx, &schema(1100)).unwrap_err().to_string();
    assert!(error.contains("\"wide\"") && error.contains("fewer columns"), "{error}");
    tx.rollback().unwrap();
    capture::install(&conn, &schema(300)).unwrap();
    conn.execute_batch("INSERT INTO wide(id, a7) VALUES ('x', 1)").unwrap();
    conn.execute_batch("DELETE FROM _vexact_limit").unwrap();
    let logged = count(&conn, "_vexact_log");
    conn.execute_batch("UPDATE wide SET a200 = 127").unwrap();
    let error = conn.execute_batch("UPDATE wide SET a200 = 128").unwrap_err().to_string();
    assert!(error.contains("vexact: wide.a200: expected int8"), "{error}");
    assert_eq!(count(&conn, "_vexact_log"), logged);
}
