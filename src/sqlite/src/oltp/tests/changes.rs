//! Every kind of change that a statement can make.

use super::*;

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
