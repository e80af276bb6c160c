//! Representation of values and times in the log.

use super::*;

#[test]
fn values_that_a_type_cannot_hold_are_refused_at_the_write() {
    let ddl = "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, v)";
    let cases = [
        ("int8", vec!["-128", "127", "NULL"], vec!["300", "'x'", "1.5", "x'01'"]),
        ("uint64", vec!["0", "9223372036854775807"], vec!["-1", "1e19"]),
        ("bool", vec!["0", "1"], vec!["2", "'true'"]),
        ("float32", vec!["1.5", "3.4e38", "9e999", "7"], vec!["1e39", "'1'"]),
        ("float64", vec!["1e300", "9007199254740992"], vec!["9007199254740993", "x''"]),
        ("utf8", vec!["''", "'1'"], vec!["1", "x'61'"]),
        ("binary", vec!["x''"], vec!["'a'"]),
        ("vector(2)", vec!["zeroblob(8)"], vec!["zeroblob(7)", "'[1,2]'", "x''"]),
        ("float16[2]", vec!["zeroblob(8)"], vec!["zeroblob(4)"]),
    ];
    for (kind, good, bad) in cases {
        let mut t = Captured::new(ddl, "t", &[("id", "int64"), ("a", kind)], &["id"]);
        for value in good {
            t.run(&[&format!("INSERT INTO t(a) VALUES ({value})"), &format!("UPDATE t SET a = {value}")]);
        }
        let canonical = t.registered.schema.columns()[1].column_type.to_string();
        for value in bad {
            for statement in [format!("INSERT INTO t(a) VALUES ({value})"), format!("UPDATE t SET a = {value}")] {
                let error = t.refusal(&statement);
                assert!(error.starts_with(&format!("vexact: t.a: expected {canonical} (")), "{statement}: {error}");
            }
        }
    }
    let mut t = Captured::new(ddl, "t", &[("id", "int64"), ("a", "vector(2)")], &["id"]);
    assert!(t.refusal("INSERT INTO t(a) VALUES ('[1,2]')").contains("vector('[1,2,3]')"));
}

#[test]
fn values_are_stored_bit_by_bit() {
    let mut t = Captured::new(
        "CREATE TABLE t(k INTEGER PRIMARY KEY, r REAL, n INTEGER, x)",
        "t",
        &[("k", "int64"), ("r", "float64"), ("n", "int64"), ("x", "utf8")],
        &["k"],
    );
    let reals = [5e-324, f64::MAX, 1.0, 3.0, -0.1, f64::INFINITY, 1e15];
    for (at, real) in reals.into_iter().enumerate() {
        let n = i64::MAX - at as i64;
        t.conn.execute("INSERT INTO t(r, n, x) VALUES (?1, ?2, ?3)", params![real, n, "12\0é"]).unwrap();
    }
    t.check("inserts");
}

#[test]
fn existing_values_are_checked_at_registration() {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, a, s); INSERT INTO t VALUES (1, 5, 'x'), (2, 300, 'y'), (3, 'z', CAST(x'ff' AS TEXT)), (4, 301, '')").unwrap();
    let refused = capture::install(&conn, &schema("t", &[("id", "int64"), ("a", "int8"), ("s", "utf8")], &["id"]))
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains(
            "row (id = integer 2), column \"a\": expected int8 (an integer from -128 to 127), got integer 300"
        ),
        "{refused}"
    );
    assert!(refused.contains("row (id = integer 3), column \"a\"") && refused.contains("got text \"z\""), "{refused}");
    assert!(refused.contains("column \"s\": expected utf8 (text), got text that is not UTF-8 (1 bytes)"), "{refused}");
    assert!(!refused.contains("integer 4"), "{refused}");
}

#[test]
fn time_does_not_go_back_with_the_clock() {
    let mut users = users();
    users.run(&["INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 1), (3, 'c', 1)"]);
    let start = log::last_seq(&users.conn).unwrap();
    users.conn.execute_batch("UPDATE users SET n = 2").unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    let future = now + 60_000_000;
    users.conn.execute("UPDATE _vexact_log SET time = ?2 WHERE seq = ?1", [start + 2, future]).unwrap();
    let times = |floor| {
        let mut times = Vec::new();
        let last = log::each_change(&users.conn, start, i64::MAX, floor, |change| {
            times.push(change.time);
            Ok(())
        });
        assert_eq!(last.unwrap(), times[2]);
        times
    };
    let read = times(0);
    assert!((now - read[0]).abs() < 5_000_000, "{now} {read:?}");
    assert_eq!(read[1..], [future, future]);
    assert_eq!(times(future + 1), [future + 1; 3]);
}
