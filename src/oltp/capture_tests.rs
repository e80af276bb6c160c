//! Capture against an oracle: the log, replayed over the rows that were there at registration, gives the table.

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{Connection, params};

use super::capture::{self, Registered};
use super::log::{self, Operation};
use super::sql::ident;
use crate::schema::TableSchema;

/// A file with one captured table, and its replica.
struct Captured {
    conn: Connection,
    registered: Registered,
    replica: BTreeMap<String, Vec<Value>>,
    applied: i64,
}

fn schema(name: &str, columns: &[(&str, &str)], key: &[&str]) -> TableSchema {
    let columns: Vec<_> = columns.iter().map(|(name, kind)| (name.to_string(), kind.to_string())).collect();
    TableSchema::try_new(name, &columns, &key.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap()
}

impl Captured {
    fn new(ddl: &str, name: &str, columns: &[(&str, &str)], key: &[&str]) -> Self {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF").unwrap();
        conn.execute_batch(ddl).unwrap();
        let registered = capture::install(&conn, &schema(name, columns, key)).unwrap();
        let mut captured = Self { conn, registered, replica: BTreeMap::new(), applied: 0 };
        captured.replica = captured.table();
        captured.applied = log::last_seq(&captured.conn).unwrap();
        captured
    }

    fn key(&self, row: &[Value]) -> String {
        format!("{:?}", self.registered.schema.key().iter().map(|at| &row[*at]).collect::<Vec<_>>())
    }

    fn table(&self) -> BTreeMap<String, Vec<Value>> {
        let columns: Vec<_> = self.registered.schema.columns().iter().map(|column| ident(&column.name)).collect();
        let sql = format!("SELECT {} FROM {}", columns.join(", "), ident(self.registered.schema.name()));
        let mut statement = self.conn.prepare(&sql).unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            (0..columns.len()).map(|at| row.get(at)).collect::<rusqlite::Result<Vec<Value>>>()
        };
        statement.query_map([], row).unwrap().map(|row| row.map(|row| (self.key(&row), row)).unwrap()).collect()
    }

    /// Applies the log; the changes it had.
    fn sync(&mut self) -> Vec<(Operation, Vec<Value>)> {
        let versions = log::versions(&self.conn).unwrap();
        let through = log::last_seq(&self.conn).unwrap();
        let mut changes = Vec::new();
        let mut time = 0;
        log::each_change(&self.conn, self.applied, through, |change| {
            assert!(change.time >= time, "time went back");
            time = change.time;
            if change.operation != Operation::Commit && versions[&change.version].table == self.registered.id {
                let width = self.registered.schema.columns().len();
                let row = (0..width).map(|at| Value::try_from(change.value(at).unwrap()).unwrap()).collect::<Vec<_>>();
                changes.push((change.operation, row));
            }
            Ok(())
        })
        .unwrap();
        self.applied = through;
        for (operation, row) in &changes {
            match operation {
                Operation::Row => drop(self.replica.insert(self.key(row), row.clone())),
                _ => drop(self.replica.remove(&self.key(row))),
            }
        }
        changes
    }

    /// Runs statements one by one; after each, the replayed log equals the table.
    fn run(&mut self, statements: &[&str]) {
        for statement in statements {
            self.conn.execute_batch(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
            self.check(statement);
        }
    }

    fn check(&mut self, what: &str) {
        let changes = self.sync();
        assert_eq!(self.replica, self.table(), "after {what}, which logged {changes:?}");
    }

    fn refusal(&mut self, statement: &str) -> String {
        let error = self.conn.execute_batch(statement).expect_err(statement).to_string();
        assert_eq!(self.sync(), [], "{statement}");
        error
    }
}

const USERS: &str = "CREATE TABLE users(id INTEGER PRIMARY KEY, email TEXT UNIQUE, n INTEGER)";
const USER_COLUMNS: [(&str, &str); 3] = [("id", "int64"), ("email", "utf8"), ("n", "int64")];

fn users() -> Captured {
    Captured::new(USERS, "users", &USER_COLUMNS, &["id"])
}

#[test]
fn inserts_updates_and_deletes() {
    let mut users = users();
    users.run(&[
        "INSERT INTO users VALUES (1, 'a', 10), (2, 'b', NULL)",
        "UPDATE users SET n = n + 1",
        "UPDATE users SET email = NULL WHERE id = 1",
        "DELETE FROM users WHERE id = 2",
    ]);
    assert_eq!(users.replica.len(), 1);
}

#[test]
fn upsert() {
    let mut users = users();
    for upsert in [
        "INSERT INTO users VALUES (1, 'a', 1) ON CONFLICT(id) DO UPDATE SET n = n + 1",
        "INSERT INTO users(email, n) VALUES ('a', 5) ON CONFLICT(email) DO UPDATE SET n = n + excluded.n",
        "INSERT INTO users(email, n) VALUES ('b', 5) ON CONFLICT(email) DO NOTHING",
        "INSERT INTO users VALUES (1, 'c', 1) ON CONFLICT(id) DO UPDATE SET email = excluded.email",
    ] {
        users.run(&[upsert, upsert]);
    }
}

#[test]
fn notes_of_upserts_do_not_accumulate() {
    let mut users = users();
    for _ in 0..50 {
        users.run(&["INSERT INTO users(email, n) VALUES ('a', 1) ON CONFLICT(email) DO UPDATE SET n = n + 1"]);
    }
    let notes = |users: &Captured| {
        users.conn.query_row("SELECT count(*) FROM _vexact_displaced", [], |row| row.get::<_, i64>(0))
    };
    assert_eq!(notes(&users).unwrap(), 1);
    log::prune(&users.conn, i64::MAX).unwrap();
    assert_eq!(notes(&users).unwrap(), 0);
}

#[test]
fn replace_and_or_replace() {
    let mut users = users();
    users.run(&[
        "INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)",
        "REPLACE INTO users VALUES (1, 'a', 10)",
        "INSERT OR REPLACE INTO users VALUES (1, 'z', 11)",
        "UPDATE OR REPLACE users SET id = 2 WHERE id = 1",
    ]);
    assert_eq!(users.replica.len(), 2);
}

#[test]
fn rows_displaced_through_a_secondary_unique() {
    let mut users = users();
    users.run(&["INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 4)"]);
    users.conn.execute_batch("REPLACE INTO users VALUES (9, 'a', 1)").unwrap();
    let gone = users.sync().iter().filter(|(operation, _)| *operation == Operation::Gone).count();
    assert_eq!((gone, users.replica.len()), (1, 4));
    users.run(&[
        "REPLACE INTO users VALUES (2, 'c', 5)",
        "REPLACE INTO users(email, n) VALUES ('d', 5)",
        "UPDATE OR REPLACE users SET email = 'd' WHERE email = 'c'",
        "INSERT OR REPLACE INTO users SELECT id + 100, email, n FROM users",
    ]);
}

#[test]
fn rows_displaced_by_the_conflict_clause_of_the_table() {
    let ddl = "CREATE TABLE users(id INTEGER PRIMARY KEY, email TEXT UNIQUE ON CONFLICT REPLACE, n INTEGER)";
    let mut users = Captured::new(ddl, "users", &USER_COLUMNS, &["id"]);
    users.run(&[
        "INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 2)",
        "INSERT INTO users VALUES (3, 'a', 1)",
        "UPDATE users SET email = 'b' WHERE id = 3",
    ]);
    assert_eq!(users.replica.len(), 1);
}

#[test]
fn rows_displaced_through_composite_partial_and_nocase_uniques() {
    let ddl = "CREATE TABLE t(k TEXT PRIMARY KEY, a INTEGER, b TEXT COLLATE NOCASE, c REAL, UNIQUE(a, b));
        CREATE UNIQUE INDEX part ON t(c) WHERE a > 5; CREATE UNIQUE INDEX upper ON t(k COLLATE NOCASE)";
    let mut t = Captured::new(ddl, "t", &[("k", "utf8"), ("a", "int64"), ("b", "utf8"), ("c", "float64")], &["k"]);
    t.run(&[
        "INSERT INTO t VALUES ('x', 1, 'one', 1.0), ('y', 1, 'two', 1.0), ('z', 9, 'one', 1.5), ('w', NULL, 'one', 2)",
        "REPLACE INTO t VALUES ('v', 1, 'ONE', 3.0)",
        "REPLACE INTO t VALUES ('Y', 7, 'y', 3.0)",
        "REPLACE INTO t VALUES ('new', 6, 'q', 1.5)",
        "UPDATE OR REPLACE t SET c = 3.0, a = 8 WHERE k = 'new'",
        "REPLACE INTO t VALUES ('n2', NULL, 'one', 2)",
    ]);
}

#[test]
fn rows_displaced_through_the_row_id() {
    let mut t = Captured::new(
        "CREATE TABLE t(k TEXT PRIMARY KEY NOT NULL, v INTEGER)",
        "t",
        &[("k", "utf8"), ("v", "int64")],
        &["k"],
    );
    t.run(&[
        "INSERT INTO t VALUES ('a', 1), ('b', 2), ('c', 3)",
        "REPLACE INTO t(rowid, k, v) VALUES (1, 'd', 4)",
        "UPDATE OR REPLACE t SET oid = 2 WHERE k = 'd'",
    ]);
    assert_eq!(t.replica.len(), 2);
    let ddl = "CREATE TABLE t(id INTEGER PRIMARY KEY, rowid TEXT, u TEXT UNIQUE NOT NULL)";
    let mut t = Captured::new(ddl, "t", &[("id", "int64"), ("u", "utf8")], &["u"]);
    t.run(&[
        "INSERT INTO t(u) VALUES ('a'), ('b'), ('c')",
        "REPLACE INTO t(id, u) VALUES (1, 'd')",
        "UPDATE OR REPLACE t SET id = 2 WHERE u = 'd'",
        "UPDATE OR REPLACE t SET oid = 3 WHERE u = 'd'",
        "INSERT INTO t VALUES (-1, '', 'minus')",
        "REPLACE INTO t(u) VALUES ('minus')",
    ]);
    let ddl = "CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT UNIQUE)";
    let mut t = Captured::new(ddl, "t", &[("id", "int64"), ("u", "utf8")], &["id"]);
    t.run(&["INSERT INTO t VALUES (-1, 'a')", "REPLACE INTO t(u) VALUES ('a')", "UPDATE t SET rowid = 77"]);
}

#[test]
fn displaced_rows_with_recursive_triggers() {
    let mut users = users();
    users.conn.execute_batch("PRAGMA recursive_triggers = ON").unwrap();
    users.run(&[
        "INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 2)",
        "REPLACE INTO users VALUES (2, 'a', 3)",
        "UPDATE OR REPLACE users SET id = 5",
    ]);
}

#[test]
fn conflict_clauses_of_the_statement_do_not_reach_into_the_log() {
    let mut users = users();
    users.run(&["INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)"]);
    for clause in ["ABORT", "FAIL", "IGNORE", "REPLACE", "ROLLBACK"] {
        users.run(&[
            &format!("INSERT OR {clause} INTO users(email, n) VALUES ('{clause}', 1), ('{clause}2', 1)"),
            &format!("UPDATE OR {clause} users SET n = n + 1"),
        ]);
        let failing =
            users.conn.execute_batch(&format!("INSERT OR {clause} INTO users VALUES (50, 'n', 1), (1, 'a', 1)"));
        assert_eq!(failing.is_ok(), matches!(clause, "IGNORE" | "REPLACE"), "{clause}");
        users.check(clause);
        users.run(&["DELETE FROM users WHERE id = 50"]);
        // A refusal refuses whatever the clause.
        users.refusal(&format!("INSERT OR {clause} INTO users(email, n) VALUES ('x', 'text')"));
    }
}

#[test]
fn key_changes() {
    let mut users = users();
    users.run(&[
        "INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)",
        "UPDATE users SET id = 10 WHERE id = 1",
        "UPDATE users SET id = -id",
        "UPDATE users SET rowid = 5 WHERE id = -2",
        "UPDATE users SET id = id + 1000 WHERE id > 0",
    ]);
}

#[test]
fn delete_without_where() {
    let mut users = users();
    users.run(&["INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)", "DELETE FROM users"]);
    assert!(users.replica.is_empty());
}

#[test]
fn foreign_key_cascades() {
    let ddl = "CREATE TABLE parent(id INTEGER PRIMARY KEY, u TEXT UNIQUE);
        CREATE TABLE child(id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent(id) ON DELETE CASCADE ON UPDATE CASCADE,
            q TEXT DEFAULT 'none' REFERENCES parent(u) ON DELETE SET NULL ON UPDATE CASCADE);
        INSERT INTO parent VALUES (1, 'a'), (2, 'b'), (3, 'c'); INSERT INTO child VALUES (1, 1, 'b'), (2, 2, 'b'), (3, 3, 'a')";
    let mut child = Captured::new(ddl, "child", &[("id", "int64"), ("p", "int64"), ("q", "utf8")], &["id"]);
    child.run(&[
        "UPDATE parent SET id = 30 WHERE id = 3",
        "UPDATE parent SET u = 'bb' WHERE id = 2",
        "DELETE FROM parent WHERE id = 1",
        "REPLACE INTO parent VALUES (2, 'x')",
        "DELETE FROM parent",
    ]);
    assert!(child.replica.is_empty());
}

#[test]
fn self_referencing_cascades() {
    let ddl =
        "CREATE TABLE node(id INTEGER PRIMARY KEY, up INTEGER REFERENCES node(id) ON DELETE CASCADE ON UPDATE CASCADE)";
    let mut node = Captured::new(ddl, "node", &[("id", "int64"), ("up", "int64")], &["id"]);
    node.run(&[
        "INSERT INTO node VALUES (1, NULL), (2, 1), (3, 2), (4, 3), (5, 1), (6, NULL)",
        "UPDATE node SET id = 20 WHERE id = 2",
        "DELETE FROM node WHERE id = 20",
        "DELETE FROM node WHERE id = 1",
    ]);
    assert_eq!(node.replica.len(), 1);
}

#[test]
fn without_rowid_tables() {
    let ddl = "CREATE TABLE t(a TEXT, b INTEGER, v REAL, u TEXT UNIQUE, PRIMARY KEY(a, b)) WITHOUT ROWID";
    let mut t = Captured::new(ddl, "t", &[("v", "float64"), ("a", "utf8"), ("b", "int32"), ("u", "utf8")], &["a", "b"]);
    t.run(&[
        "INSERT INTO t VALUES ('x', 1, 0.5, 'p'), ('x', 2, 1, 'q'), ('y', 1, NULL, NULL)",
        "REPLACE INTO t VALUES ('x', 1, 9, 'q')",
        "UPDATE t SET b = b + 10, v = v * 2",
        "UPDATE OR REPLACE t SET u = 'same'",
        "DELETE FROM t",
    ]);
}

#[test]
fn composite_text_and_blob_keys() {
    let ddl = "CREATE TABLE t(k BLOB, s TEXT, n INTEGER, UNIQUE(s, k))";
    let mut t = Captured::new(ddl, "t", &[("k", "binary"), ("s", "utf8"), ("n", "int64")], &["k", "s"]);
    t.run(&[
        "INSERT INTO t VALUES (x'00ff', 'a', 1), (x'', '', 2), (x'61', 'it''s', 3)",
        "UPDATE t SET k = CAST(k || x'00' AS BLOB)",
        "UPDATE t SET s = s || s WHERE n = 3",
    ]);
    let error = t.refusal("INSERT INTO t VALUES (NULL, 'a', 1)");
    assert!(error.contains("t.k: expected binary (a BLOB) for a key, got NULL"), "{error}");
    assert!(t.refusal("UPDATE t SET s = NULL").contains("t.s"));
}

#[test]
fn keys_that_differ_only_in_case_under_nocase_columns() {
    let ddl = "CREATE TABLE t(k TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, n INTEGER)";
    let mut t = Captured::new(ddl, "t", &[("k", "utf8"), ("n", "int64")], &["k"]);
    t.run(&[
        "INSERT INTO t VALUES ('a', 1), ('b', 2)",
        "UPDATE t SET k = 'A' WHERE k = 'a'",
        "REPLACE INTO t VALUES ('B', 3)",
        "DELETE FROM t WHERE k = 'b'",
    ]);
    assert_eq!(t.replica.len(), 1);
}

#[test]
fn quoted_mixed_case_and_reserved_names() {
    let ddl = "CREATE TABLE \"Order\"(\"select\" INTEGER PRIMARY KEY, \"Group by\" TEXT UNIQUE, \"a\"\"b\" REAL, tbl TEXT, k0 INTEGER, r INTEGER)";
    let columns = [
        ("SELECT", "int64"),
        ("group by", "utf8"),
        ("a\"b", "float64"),
        ("tbl", "utf8"),
        ("k0", "int64"),
        ("r", "int64"),
    ];
    let mut t = Captured::new(ddl, "oRDER", &columns, &["Select"]);
    t.run(
        &[
            "INSERT INTO \"order\" VALUES (1, 'x', 1.5, 't', 7, 8), (2, 'y', NULL, '', 1, 1)",
            "REPLACE INTO \"order\" VALUES (3, 'x', 2.5, 't', 7, 8)",
            "UPDATE \"order\" SET \"select\" = 9, k0 = 3",
        ][..2],
    );
    t.run(&["UPDATE \"order\" SET \"select\" = 9, k0 = 3 WHERE \"select\" = 2", "DELETE FROM \"order\""]);
}

#[test]
fn generated_columns() {
    let ddl = "CREATE TABLE t(id INTEGER PRIMARY KEY, a INTEGER, extra TEXT,
        twice INTEGER GENERATED ALWAYS AS (a * 2) STORED, low TEXT AS (lower(extra)) VIRTUAL UNIQUE)";
    let mut t = Captured::new(ddl, "t", &[("id", "int64"), ("twice", "int64"), ("low", "utf8")], &["id"]);
    t.run(&[
        "INSERT INTO t(id, a, extra) VALUES (1, 5, 'X'), (2, 6, 'Y')",
        "UPDATE t SET a = a + 1",
        "REPLACE INTO t(id, a, extra) VALUES (3, 5, 'x')",
        "UPDATE OR REPLACE t SET extra = 'y' WHERE id = 3",
    ]);
    assert_eq!(t.replica.len(), 1);
    let ddl = "CREATE TABLE t(doc TEXT, k TEXT AS (substr(doc, 1, 2)) STORED UNIQUE)";
    let mut t = Captured::new(ddl, "t", &[("k", "utf8"), ("doc", "utf8")], &["k"]);
    t.run(&[
        "INSERT INTO t(doc) VALUES ('ab1'), ('cd1')",
        "UPDATE t SET doc = 'ef' WHERE k = 'ab'",
        "REPLACE INTO t(doc) VALUES ('ef3')",
    ]);
}

#[test]
fn columns_that_are_not_registered_log_nothing() {
    let ddl = "CREATE TABLE t(id INTEGER PRIMARY KEY, a INTEGER, secret TEXT)";
    let mut t = Captured::new(ddl, "t", &[("id", "int64"), ("a", "int64")], &["id"]);
    t.run(&["INSERT INTO t VALUES (1, 1, 'x')", "UPDATE t SET rowid = 4"]);
    t.conn.execute_batch("UPDATE t SET secret = 'y'").unwrap();
    assert_eq!(t.sync(), []);
}

#[test]
fn user_triggers_that_touch_the_same_row() {
    for created in ["before", "after"] {
        let triggers = "CREATE TRIGGER stamp AFTER INSERT ON users BEGIN UPDATE users SET n = coalesce(n, 0) + 100 WHERE id = NEW.id; END;
            CREATE TRIGGER low AFTER UPDATE OF email ON users BEGIN UPDATE users SET email = lower(email) WHERE id = NEW.id; END;
            CREATE TRIGGER drop_negative AFTER UPDATE OF n ON users WHEN NEW.n < 0 BEGIN DELETE FROM users WHERE id = NEW.id; END;
            CREATE TRIGGER again AFTER DELETE ON users WHEN OLD.n = 7 BEGIN INSERT INTO users VALUES (OLD.id, OLD.email, 8); END;
            CREATE TRIGGER room BEFORE INSERT ON users BEGIN DELETE FROM users WHERE n = 999; END;";
        let mut users = if created == "before" {
            Captured::new(&format!("{USERS}; {triggers}"), "users", &USER_COLUMNS, &["id"])
        } else {
            let users = users();
            users.conn.execute_batch(triggers).unwrap();
            users
        };
        users.run(&[
            "INSERT INTO users VALUES (1, 'A', 1), (2, 'B', NULL), (3, 'C', 899)",
            "INSERT INTO users VALUES (4, 'd', -93)",
            "UPDATE users SET email = 'LOUD' WHERE id = 1",
            "UPDATE users SET n = -1 WHERE id = 2",
            "DELETE FROM users WHERE id = 4",
            "REPLACE INTO users VALUES (7, 'loud', -200)",
            "DELETE FROM users",
        ]);
    }
}

#[test]
fn rolled_back_changes_leave_nothing() {
    let mut users = users();
    users.run(&["INSERT INTO users VALUES (1, 'a', 1)"]);
    let end = log::last_seq(&users.conn).unwrap();
    users
        .conn
        .execute_batch(
            "BEGIN; INSERT INTO users VALUES (2, 'b', 1); SAVEPOINT s; DELETE FROM users; ROLLBACK TO s; ROLLBACK",
        )
        .unwrap();
    assert_eq!(log::last_seq(&users.conn).unwrap(), end);
    users.run(&["BEGIN; INSERT INTO users VALUES (2, 'b', 1); SAVEPOINT s; DELETE FROM users; ROLLBACK TO s; COMMIT"]);
    assert_eq!(users.replica.len(), 2);
}

#[test]
fn writers_in_other_programs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.db");
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(&format!("PRAGMA journal_mode = WAL; {USERS}")).unwrap();
    let registered = capture::install(&conn, &schema("users", &USER_COLUMNS, &["id"])).unwrap();
    let mut users = Captured { conn, registered, replica: BTreeMap::new(), applied: 0 };
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch(
            "PRAGMA trusted_schema = OFF; INSERT INTO users VALUES (1, 'a', 1); REPLACE INTO users VALUES (2, 'a', 2)",
        )
        .unwrap();
    users.check("another connection");
    assert_eq!(users.replica.len(), 1);
    let refused = other.execute("INSERT INTO users VALUES (3, x'00', 1)", []).unwrap_err().to_string();
    assert_eq!(refused, "vexact: users.email: expected utf8 (text)");
}

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
fn tables_that_cannot_be_captured_are_refused() {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(
        "CREATE TABLE plain(a INTEGER, b TEXT, n INTEGER); CREATE VIEW v AS SELECT * FROM plain;
         CREATE UNIQUE INDEX part ON plain(a) WHERE b IS NULL; CREATE TABLE e(id INTEGER PRIMARY KEY, s TEXT);
         CREATE UNIQUE INDEX low ON e(lower(s)); CREATE TABLE n(k TEXT PRIMARY KEY); INSERT INTO n VALUES (NULL)",
    )
    .unwrap();
    let refusal = |name, columns: &[(&str, &str)], key| {
        let tx = conn.unchecked_transaction().unwrap();
        capture::install(&tx, &schema(name, columns, &[key])).unwrap_err().to_string()
    };
    assert_eq!(refusal("nope", &[("a", "int64")], "a"), "no such table: nope");
    assert!(refusal("v", &[("a", "int64")], "a").contains("got a view"));
    assert!(refusal("plain", &[("a", "int64")], "a").contains("the key (a) is not unique"));
    assert!(refusal("plain", &[("z", "int64")], "z").contains("no column \"z\": expected one of [a, b, n]"));
    assert!(refusal("e", &[("id", "int64")], "id").contains("unique index \"low\" is on an expression"));
    assert!(refusal("n", &[("k", "utf8")], "k").contains("for a key, got NULL"));
}

#[test]
fn a_table_is_registered_once() {
    let users = users();
    let again = capture::install(&users.conn, &schema("Users", &USER_COLUMNS, &["id"])).unwrap_err().to_string();
    assert!(again.contains("already registered, as users(id int64, email utf8, n int64; key id)"), "{again}");
    assert_eq!(capture::registered(&users.conn).unwrap(), [users.registered.clone()]);
    assert_eq!(capture::find(&users.conn, "USERS").unwrap(), Some(users.registered.clone()));
    assert_eq!(capture::find(&users.conn, "other").unwrap(), None);
    capture::remove(&users.conn, users.registered.id).unwrap();
    capture::remove(&users.conn, users.registered.id).unwrap();
    users.conn.execute_batch("INSERT INTO users VALUES (1, 300, 'not captured')").unwrap();
    assert_eq!(log::lag(&users.conn, 0).unwrap(), []);
    users.conn.execute_batch("DELETE FROM users").unwrap();
    let next = capture::install(&users.conn, &schema("users", &USER_COLUMNS, &["id"])).unwrap();
    assert!(next.id > users.registered.id && next.version > users.registered.version);
}

#[test]
fn lost_and_outdated_triggers_are_found() {
    let mut users = users();
    let is_installed = |users: &Captured| capture::is_installed(&users.conn, &users.registered);
    assert!(is_installed(&users).unwrap());
    let before = capture::schema_version(&users.conn).unwrap();
    for change in [
        "DROP TABLE users; CREATE TABLE users(id INTEGER PRIMARY KEY, email TEXT, n INTEGER)",
        "CREATE UNIQUE INDEX by_n ON users(n)",
        "DROP TRIGGER _vexact_1_delete",
    ] {
        users.conn.execute_batch(change).unwrap();
        assert!(!is_installed(&users).unwrap(), "{change}");
        let schema = users.registered.schema.clone();
        users.registered = capture::reinstall(&users.conn, users.registered.id, &schema).unwrap();
        assert!(is_installed(&users).unwrap(), "{change}");
        users.replica = users.table();
        users.applied = log::last_seq(&users.conn).unwrap();
        users.run(&[
            "DELETE FROM users",
            "REPLACE INTO users(id, email, n) VALUES (1, 'a', 1)",
            "REPLACE INTO users(id, email, n) VALUES (2, 'b', 2)",
        ]);
    }
    assert!(capture::schema_version(&users.conn).unwrap() > before);
    users.conn.execute_batch("ALTER TABLE users ADD COLUMN more TEXT").unwrap();
    assert!(is_installed(&users).unwrap(), "a column that is not registered");
    users.conn.execute_batch("ALTER TABLE users RENAME COLUMN n TO m").unwrap();
    assert!(is_installed(&users).unwrap_err().to_string().contains("no column \"n\""));
    users.conn.execute_batch("DROP TABLE users").unwrap();
    assert_eq!(is_installed(&users).unwrap_err().to_string(), "no such table: users");
}

#[test]
fn schema_changes_keep_the_meaning_of_older_log_rows() {
    let mut users = users();
    users.run(&["INSERT INTO users VALUES (1, 'a', 1)"]);
    users.conn.execute_batch("UPDATE users SET n = 2").unwrap();
    let old = users.registered.clone();
    capture::suspend(&users.conn, old.id).unwrap();
    users
        .conn
        .execute_batch("ALTER TABLE users DROP COLUMN n; ALTER TABLE users ADD COLUMN tag BLOB DEFAULT x'01'")
        .unwrap();
    let new = schema("users", &[("id", "int64"), ("email", "utf8"), ("tag", "binary")], &["id"]);
    users.registered = capture::reinstall(&users.conn, old.id, &new).unwrap();
    users.conn.execute_batch("UPDATE users SET tag = x'02'").unwrap();
    let versions = log::versions(&users.conn).unwrap();
    assert_eq!((&versions[&old.version].schema, &versions[&users.registered.version].schema), (&old.schema, &new));
    assert_eq!(log::lag(&users.conn, users.applied).unwrap(), [(old.version, 1), (users.registered.version, 1)]);
}

#[test]
fn pruning_keeps_the_newest_position() {
    let mut users = users();
    users.run(&["INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 1)"]);
    log::mark_commit(&users.conn).unwrap();
    let end = log::last_seq(&users.conn).unwrap();
    log::mark_commit(&users.conn).unwrap();
    assert_eq!(log::last_seq(&users.conn).unwrap(), end, "a second mark");
    assert_eq!(log::prune(&users.conn, end - 2).unwrap(), 1);
    assert_eq!(log::prune(&users.conn, end).unwrap(), 1);
    assert_eq!(log::prune(&users.conn, end).unwrap(), 0);
    assert_eq!(log::last_seq(&users.conn).unwrap(), end);
    // The newest is a change of another program.
    users.run(&["DELETE FROM users WHERE id = 1"]);
    assert_eq!(log::prune(&users.conn, i64::MAX).unwrap(), 1);
    assert!(log::last_seq(&users.conn).unwrap() > end);
    users.run(&["DELETE FROM users"]);
}

#[test]
fn cycles_end_at_transactions() {
    let users = users();
    let start = log::last_seq(&users.conn).unwrap();
    assert_eq!(log::boundary(&users.conn, start, 10).unwrap(), start);
    users.conn.execute_batch("INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 1), (3, 'c', 1)").unwrap();
    log::mark_commit(&users.conn).unwrap();
    users.conn.execute_batch("INSERT INTO users VALUES (4, 'd', 1)").unwrap();
    log::mark_commit(&users.conn).unwrap();
    users.conn.execute_batch("INSERT INTO users VALUES (5, 'e', 1)").unwrap();
    for (limit, end) in [(0, 4), (1, 4), (3, 4), (4, 6), (5, 7), (100, 7)] {
        assert_eq!(log::boundary(&users.conn, start, limit).unwrap(), start + end, "{limit}");
    }
    assert_eq!(log::boundary(&users.conn, start + 4, 1).unwrap(), start + 6);
}

#[test]
fn time_does_not_go_back_with_the_clock() {
    let mut users = users();
    let future = 4_000_000_000_000_000i64;
    users.conn.execute("UPDATE _vexact_clock SET time = ?1", [future]).unwrap();
    users.run(&["INSERT INTO users VALUES (1, 'a', 1)"]);
    let newest = |users: &Captured| {
        users
            .conn
            .query_row("SELECT time FROM _vexact_log ORDER BY seq DESC LIMIT 1", [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(newest(&users), future);
    users.conn.execute("UPDATE _vexact_clock SET time = 0", []).unwrap();
    users.conn.execute_batch("UPDATE users SET n = 5").unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    assert!((now - newest(&users)).abs() < 5_000_000, "{now} {}", newest(&users));
}

#[test]
fn a_file_without_a_log_is_empty() {
    let conn = Connection::open_in_memory().unwrap();
    assert_eq!(
        (log::last_seq(&conn).unwrap(), log::prune(&conn, 5).unwrap(), log::exists(&conn).unwrap()),
        (0, 0, false)
    );
    assert!(capture::registered(&conn).unwrap().is_empty() && log::versions(&conn).unwrap().is_empty());
    log::mark_commit(&conn).unwrap();
    log::each_change(&conn, 0, 10, |_| panic!("no changes")).unwrap();
}

/// Any statements on a table with every kind of unique and with triggers of its own.
#[test]
fn random_statements_converge() {
    let mut state = 42u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for (ddl, key) in [
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT COLLATE NOCASE UNIQUE, b INTEGER, c INTEGER, UNIQUE(b, c))",
            "id",
        ),
        ("CREATE TABLE t(id INTEGER NOT NULL, a TEXT PRIMARY KEY NOT NULL, b INTEGER UNIQUE, c INTEGER)", "a"),
        ("CREATE TABLE t(id INTEGER UNIQUE, a TEXT PRIMARY KEY, b INTEGER, c INTEGER UNIQUE) WITHOUT ROWID", "a"),
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT UNIQUE NOT NULL, b INTEGER, c INTEGER)", "a"),
    ] {
        for triggers in ["", "CREATE TRIGGER u1 AFTER UPDATE ON t WHEN NEW.c > 3 BEGIN UPDATE OR REPLACE t SET c = c - 1, b = b + 1 WHERE id = NEW.id; END;
            CREATE TRIGGER u2 AFTER INSERT ON t WHEN NEW.b = 2 BEGIN INSERT OR REPLACE INTO t VALUES (NEW.id + 1, NEW.a || 'x', 3, NEW.c); END;
            CREATE TRIGGER u3 AFTER DELETE ON t WHEN OLD.b = 3 BEGIN INSERT OR IGNORE INTO t VALUES (OLD.id, OLD.a, 4, OLD.c); END;
            CREATE TRIGGER u4 BEFORE INSERT ON t WHEN NEW.c = 1 BEGIN UPDATE OR IGNORE t SET c = 2 WHERE c = 1; END;"] {
            let columns = [("id", "int64"), ("a", "utf8"), ("b", "int64"), ("c", "int64")];
            let mut t = Captured::new(&format!("{ddl}; {triggers}"), "t", &columns, &[key]);
            for _ in 0..400 {
                let clause = ["", "OR REPLACE", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ABORT"][random(6) as usize];
                let (id, b, c) = (random(8), random(5), random(5));
                let a = ["'p'", "'P'", "'q'", "'Q'", "'r'", "'s'"][random(6) as usize];
                let filter = ["id", "b", "c"][random(3) as usize];
                let statement = match random(8) {
                    0..3 => format!("INSERT {clause} INTO t VALUES ({id}, {a}, {b}, {c})"),
                    3 => format!("UPDATE {clause} t SET id = {id} WHERE {filter} = {b}"),
                    4 => format!("UPDATE {clause} t SET a = {a}, b = {b} WHERE {filter} = {c}"),
                    5 => format!("UPDATE {clause} t SET b = {b}, c = {c} WHERE {filter} > {b}"),
                    6 => format!("INSERT INTO t VALUES ({id}, {a}, {b}, {c}) ON CONFLICT({key}) DO UPDATE SET b = {b}, c = c + 1"),
                    _ => format!("DELETE FROM t WHERE {filter} = {b} AND a <> {a}"),
                };
                // A constraint may refuse it; what it did until then counts.
                let outcome = t.conn.execute_batch(&statement);
                t.check(&format!("{statement} ({outcome:?}) on {ddl} {triggers}"));
            }
        }
    }
}
