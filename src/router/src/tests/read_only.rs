//! Tests of the statements that the OLAP side accepts, and of each rejection by its message.

use super::read_only;

#[test]
fn queries_are_accepted() {
    for sql in [
        "SELECT 1;",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "VALUES (1)",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE SELECT 1",
        "EXPLAIN VERBOSE SELECT 1",
        "EXPLAIN FORMAT TREE SELECT 1",
        "SHOW TABLES",
        "SHOW COLUMNS FROM docs",
        "DESCRIBE docs",
        "SELECT 'DROP TABLE docs; DELETE FROM docs'",
        "SELECT 1 -- ; DROP TABLE docs",
        "SELECT \"insert\" FROM \"x.parquet\"",
    ] {
        assert!(read_only(sql).is_ok(), "{sql}: {:?}", read_only(sql));
    }
}

#[test]
fn everything_else_is_refused_by_name() {
    for (sql, got) in [
        ("INSERT INTO t VALUES (1)", "INSERT"),
        ("REPLACE INTO t VALUES (1)", "REPLACE"),
        ("UPDATE t SET a = 1", "UPDATE"),
        ("DELETE FROM t WHERE false", "DELETE"),
        ("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE", "MERGE"),
        ("TRUNCATE TABLE t", "TRUNCATE"),
        ("CREATE TABLE t AS SELECT 1", "CREATE"),
        ("CREATE VIEW v AS SELECT 1", "CREATE"),
        ("CREATE SCHEMA s", "CREATE"),
        ("CREATE DATABASE d", "CREATE"),
        ("CREATE FUNCTION f() RETURNS INT RETURN 1", "CREATE"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'x.csv'", "CREATE EXTERNAL TABLE"),
        ("DROP TABLE t", "DROP"),
        ("DROP VIEW v", "DROP"),
        ("ALTER TABLE t ADD COLUMN a INT", "ALTER"),
        ("COPY t TO 'x.parquet'", "COPY"),
        ("COPY (SELECT 1) TO 'x.parquet' STORED AS PARQUET", "COPY"),
        ("SET datafusion.execution.batch_size = 1", "SET"),
        ("RESET datafusion.execution.batch_size", "RESET"),
        ("PREPARE p AS DELETE FROM t", "PREPARE"),
        ("PREPARE p AS SELECT 1", "PREPARE"),
        ("EXECUTE p", "EXECUTE"),
        ("DEALLOCATE p", "DEALLOCATE"),
        ("BEGIN", "BEGIN"),
        ("COMMIT", "COMMIT"),
        ("ROLLBACK", "ROLLBACK"),
        ("PRAGMA user_version", "PRAGMA"),
        ("ATTACH DATABASE 'x.db' AS x", "ATTACH"),
        ("USE d", "USE"),
        ("SELECT 1 INTO t", "SELECT INTO"),
        ("SELECT * FROM (SELECT 1 INTO t)", "SELECT INTO"),
        ("WITH d AS (SELECT 1) INSERT INTO t SELECT * FROM d", "INSERT"),
        ("WITH d AS (DELETE FROM t RETURNING a) SELECT * FROM d", "DELETE"),
        ("WITH d AS (UPDATE t SET a = 1 RETURNING a) SELECT * FROM d", "UPDATE"),
        ("EXPLAIN DELETE FROM t", "EXPLAIN of DELETE"),
        ("EXPLAIN ANALYZE INSERT INTO t VALUES (1)", "EXPLAIN of INSERT"),
        ("EXPLAIN ANALYZE COPY t TO 'x'", "EXPLAIN of COPY"),
        ("EXPLAIN EXPLAIN UPDATE t SET a = 1", "EXPLAIN of EXPLAIN of UPDATE"),
        ("EXPLAIN CREATE TABLE t AS SELECT 1", "EXPLAIN of CREATE"),
        ("DESCRIBE DELETE FROM t", "DELETE"),
        ("SELECT * FROM 'x.parquet'", "'x.parquet' in place of a table (a file's path, or a name in single quotes)"),
        ("SELECT (SELECT count(*) FROM '/etc/passwd')", "'/etc/passwd' in place of a table"),
    ] {
        let message = read_only(sql).expect_err(sql).to_string();
        let expected = "is refused: expected one query that only reads (execute takes writes to SQLite)";
        assert!(message.starts_with(got) && message.ends_with(expected), "{sql}: {message}");
    }
}

#[test]
fn one_statement_is_expected() {
    for (sql, expected) in [
        ("", "expected a query, got an empty statement"),
        ("-- nothing\n;;", "expected a query, got an empty statement"),
        ("SELECT 1; DROP TABLE t", "expected one statement, got 2"),
        ("SELECT 1; SELECT 2; SELECT 3", "expected one statement, got 3"),
        ("SELECT 'open", "SQL error: "),
        ("SELECT * FORM t WHERE", "SQL error: "),
    ] {
        let message = read_only(sql).expect_err(sql).to_string();
        assert!(message.starts_with(expected), "{sql}: {message}");
    }
}

#[test]
fn parameters_are_numbered_as_sqlite_numbers_them() {
    for (sql, expected) in [
        ("SELECT ?, ?", "SELECT $1, $2"),
        ("SELECT ?2, ?, ?1, ?", "SELECT $2, $3, $1, $4"),
        ("SELECT $2, $1, $2", "SELECT $2, $1, $2"),
        ("SELECT $1, ?", "SELECT $1, $2"),
        ("SELECT $7, $7, ?", "SELECT $7, $7, $2"),
        ("SELECT $name, :other", "SELECT $name, :other"),
        ("SELECT '?', \"?\", 'it''s ?' /* ? */, ? -- ?", "SELECT '?', \"?\", 'it''s ?', $1"),
        (
            "SELECT * FROM t WHERE a IN (?, ?) LIMIT ? OFFSET ?",
            "SELECT * FROM t WHERE a IN ($1, $2) LIMIT $3 OFFSET $4",
        ),
    ] {
        assert_eq!(read_only(sql).expect(sql).to_string(), expected, "{sql}");
    }
    for (sql, name) in [("SELECT ?0", "?0"), ("SELECT ?32767", "?32767"), ("SELECT $0", "$0"), ("SELECT $", "$")] {
        let message = read_only(sql).expect_err(sql).to_string();
        assert!(message.starts_with(&format!("parameter {name}: expected")), "{sql}: {message}");
    }
}
