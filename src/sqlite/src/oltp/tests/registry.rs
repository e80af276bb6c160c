//! The registry of captured tables, and the positions of the log.

use super::*;

#[test]
fn tables_that_cannot_be_captured_are_refused() {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(
        "CREATE TABLE plain(a INTEGER, b TEXT, n INTEGER); CREATE VIEW v AS SELECT * FROM plain;
         CREATE UNIQUE INDEX part ON plain(a) WHERE b IS NULL; CREATE TABLE e(id INTEGER PRIMARY KEY, s TEXT);
         CREATE UNIQUE INDEX low ON e(s || id); CREATE TABLE n(k TEXT PRIMARY KEY); INSERT INTO n VALUES (NULL)",
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
    assert_eq!(capture::registered(&users.conn).unwrap(), vec![users.registered.clone()]);
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
    assert!(!is_installed(&users).unwrap(), "a registered column is gone");
    let schema_before = users.registered.schema.clone();
    users.registered = capture::reinstall(&users.conn, users.registered.id, &schema_before).unwrap();
    assert_eq!(users.registered.schema, schema("users", &USER_COLUMNS[..2], &["id"]));
    assert!(is_installed(&users).unwrap());
    users.conn.execute_batch("ALTER TABLE users RENAME COLUMN id TO other").unwrap();
    assert!(is_installed(&users).unwrap_err().to_string().contains("no column \"id\""));
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
fn a_file_without_a_log_is_empty() {
    let conn = Connection::open_in_memory().unwrap();
    assert_eq!(
        (log::last_seq(&conn).unwrap(), log::prune(&conn, 5).unwrap(), log::exists(&conn).unwrap()),
        (0, 0, false)
    );
    assert!(capture::registered(&conn).unwrap().is_empty() && log::versions(&conn).unwrap().is_empty());
    log::mark_commit(&conn).unwrap();
    log::each_change(&conn, 0, 10, 0, |_| panic!("no changes")).unwrap();
}
