//! Rows that REPLACE removes without a delete trigger.

use super::*;

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
fn rows_displaced_through_expressions() {
    let ddl = "CREATE TABLE t(id INTEGER PRIMARY KEY, email TEXT, \"a b\" INTEGER, g TEXT AS (email || '!') VIRTUAL);
        CREATE UNIQUE INDEX by_email ON t(lower(email) COLLATE NOCASE DESC);
        CREATE UNIQUE INDEX by_sum ON t(\"a b\" % 10, CASE WHEN email IS NULL THEN 'none' ELSE substr(g, 1, 1) END) WHERE \"a b\" > 0";
    let columns = [("id", "int64"), ("email", "utf8"), ("a b", "int64")];
    let mut t = Captured::new(ddl, "t", &columns, &["id"]);
    t.run(&[
        "INSERT INTO t VALUES (1, 'Ann', 1), (2, 'bob', 2), (3, 'Cid', 3), (4, NULL, 4), (5, NULL, 5)",
        "REPLACE INTO t VALUES (9, 'ANN', 21)",
        "REPLACE INTO t(email, \"a b\") VALUES ('Bill', 12)",
        "UPDATE OR REPLACE t SET email = 'CID' WHERE id = 9",
        "REPLACE INTO t VALUES (11, NULL, 14)",
        "UPDATE OR REPLACE t SET \"a b\" = 35 WHERE id = 11",
        "INSERT OR REPLACE INTO t(id, email, \"a b\") SELECT id + 100, upper(email), \"a b\" FROM t",
        "INSERT INTO t VALUES (200, 'cid', 77) ON CONFLICT DO NOTHING",
        "UPDATE t SET id = id + 1000",
    ]);
    assert_eq!(t.replica.len(), 3);
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
fn an_updated_row_that_goes_with_the_row_it_displaces() {
    let ddl = "CREATE TABLE node(id INTEGER PRIMARY KEY, up INTEGER REFERENCES node(id) ON DELETE CASCADE, u TEXT UNIQUE NOT NULL)";
    for key in ["id", "u"] {
        let columns = [("id", "int64"), ("up", "int64"), ("u", "utf8")];
        let mut node = Captured::new(ddl, "node", &columns, &[key]);
        for update in ["SET id = 1", "SET u = 'a'"] {
            node.run(&[
                "INSERT INTO node VALUES (1, NULL, 'a'), (2, 1, 'b'), (3, NULL, 'c')",
                &format!("UPDATE OR REPLACE node {update} WHERE id = 2"),
                "DELETE FROM node",
            ]);
        }
    }
}

#[test]
fn rows_that_a_trigger_of_the_user_moves_into_the_way() {
    let triggers = "CREATE TRIGGER into_the_way BEFORE INSERT ON users WHEN NEW.n = 7
            BEGIN UPDATE users SET email = NEW.email WHERE id = 3; END;
        CREATE TRIGGER into_the_way_too BEFORE UPDATE ON users WHEN NEW.n = 8
            BEGIN UPDATE users SET email = NEW.email WHERE id = 4; END";
    for is_older in [true, false] {
        let ddl = if is_older { format!("{USERS}; {triggers}") } else { USERS.to_owned() };
        let mut users = Captured::new(&ddl, "users", &USER_COLUMNS, &["id"]);
        users.run(&["INSERT INTO users VALUES (1, 'a', 1), (3, 'c', 3), (4, 'd', 4)"]);
        if !is_older {
            users.conn.execute_batch(triggers).unwrap();
            assert!(capture::is_installed(&users.conn, &users.registered).is_ok_and(|is_installed| !is_installed));
            users.registered =
                capture::reinstall(&users.conn, users.registered.id, &users.registered.schema.clone()).unwrap();
        }
        assert!(capture::is_installed(&users.conn, &users.registered).unwrap());
        users.run(&[
            "INSERT OR REPLACE INTO users VALUES (9, 'new', 7)",
            "UPDATE OR REPLACE users SET email = 'newer', n = 8 WHERE id = 9",
        ]);
        assert_eq!(users.replica.len(), 2);
    }
}

#[test]
fn what_a_failing_trigger_of_the_user_leaves() {
    for is_older in [true, false] {
        let trigger = "CREATE TRIGGER failing AFTER INSERT ON users WHEN NEW.n = 7 BEGIN SELECT RAISE(FAIL, 'no'); END;
            CREATE TRIGGER failing_too AFTER DELETE ON users BEGIN INSERT OR FAIL INTO users VALUES (8, 'h', 8), (8, 'i', 8); END";
        let ddl = if is_older { format!("{USERS}; {trigger}") } else { USERS.to_owned() };
        let mut users = Captured::new(&ddl, "users", &USER_COLUMNS, &["id"]);
        if !is_older {
            users.conn.execute_batch(trigger).unwrap();
            users.registered =
                capture::reinstall(&users.conn, users.registered.id, &users.registered.schema.clone()).unwrap();
        }
        for failing in ["INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 7)", "DELETE FROM users WHERE id = 1"] {
            assert!(users.conn.execute_batch(failing).is_err());
            users.check(failing);
        }
        assert_eq!(users.replica.len(), 2);
    }
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
        // A rejected value fails the statement whatever its conflict clause.
        users.refusal(&format!("INSERT OR {clause} INTO users(email, n) VALUES ('x', 'text')"));
    }
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

/// A row can come to have a unique value by any column: of a predicate, of a generated column, of
/// none that is registered.
#[test]
fn random_statements_converge_whatever_decides_about_a_unique_value() {
    let mut state = 4242u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for (ddl, key) in [
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c INTEGER); CREATE UNIQUE INDEX u ON t(a) WHERE b = 0", "id"),
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c INTEGER); CREATE UNIQUE INDEX u ON t(b) WHERE a = 'q' AND c > 1", "id"),
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c INTEGER); CREATE UNIQUE INDEX u ON t(a) WHERE id > 4", "id"),
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c INTEGER); CREATE UNIQUE INDEX u ON t(b) WHERE CAST(a AS A) LIKE 'q%'", "id"),
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c INTEGER, g TEXT AS (CASE WHEN b = 0 THEN lower(a) END) UNIQUE)", "id"),
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c INTEGER, g INTEGER AS (b + c) STORED UNIQUE)", "id"),
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c INTEGER, g AS (b + c), h AS (g % 3));
             CREATE UNIQUE INDEX u ON t(a) WHERE h = 1; CREATE UNIQUE INDEX v ON t(CASE WHEN g > 3 THEN a END)",
            "id",
        ),
        (
            "CREATE TABLE t(id INTEGER NOT NULL, a TEXT COLLATE NOCASE NOT NULL DEFAULT 'Q', b INTEGER, c INTEGER NOT NULL DEFAULT '3');
             CREATE UNIQUE INDEX k ON t(id); CREATE UNIQUE INDEX u ON t(a); CREATE UNIQUE INDEX v ON t(c, b)",
            "id",
        ),
        ("CREATE TABLE t(id INTEGER, a TEXT PRIMARY KEY, b INTEGER, c INTEGER, g AS (id % 3) UNIQUE) WITHOUT ROWID", "a"),
    ] {
        // Not all columns that decide are registered.
        for columns in [&[("id", "int64"), ("a", "utf8"), ("b", "int64"), ("c", "int64")][..], &[("id", "int64"), ("a", "utf8")]] {
            let mut t = Captured::new(ddl, "t", columns, &[key]);
            for _ in 0..500 {
                let clause = ["OR REPLACE", "OR REPLACE", "OR IGNORE", ""][random(4) as usize];
                let a = ["'p'", "'P'", "'q'", "'Q'", "NULL"][random(if key == "a" { 4 } else { 5 }) as usize];
                let (id, b) = (random(8), ["0", "1", "2", "NULL"][random(4) as usize]);
                let c = ["0", "1", "3", "NULL"][random(4) as usize];
                let filter = ["id", "b", "c"][random(3) as usize];
                let statement = match random(8) {
                    0..2 => format!("INSERT {clause} INTO t(id, a, b, c) VALUES ({id}, {a}, {b}, {c})"),
                    2 => format!("INSERT {clause} INTO t(id, a, b) VALUES ({id}, {a}, {b})"),
                    3 => format!("UPDATE {clause} t SET id = {id} WHERE {filter} = 1"),
                    4 => format!("UPDATE {clause} t SET a = {a} WHERE {filter} = 2"),
                    5 => format!("UPDATE {clause} t SET b = {b} WHERE {filter} = 3"),
                    6 => format!("UPDATE {clause} t SET c = {c}, b = {b} WHERE id = {id}"),
                    _ => format!("DELETE FROM t WHERE {filter} = 1"),
                };
                let outcome = t.conn.execute_batch(&statement);
                t.check(&format!("{statement} ({outcome:?}) on {ddl}, of which {columns:?}"));
            }
        }
    }
}

#[test]
fn a_unique_generated_column_of_the_row_id_is_refused() {
    for generated in ["g AS (ID % 3) UNIQUE", "f AS (id + 1), g AS (abs(f)) UNIQUE"] {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(&format!("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, {generated})")).unwrap();
        let refusal = capture::install(&conn, &schema("t", &[("id", "int64")], &["id"])).unwrap_err().to_string();
        assert!(refusal.contains("is on an expression of the row id"), "{refusal}");
    }
}

/// Cost follows the change, not the table.
#[test]
fn capture_finds_rows_through_indexes() {
    for (ddl, key) in [
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c INTEGER);
             CREATE UNIQUE INDEX live ON t(a) WHERE b > 0; CREATE UNIQUE INDEX other ON t(c) WHERE a LIKE 'k%' AND b IS NOT NULL",
            "id",
        ),
        (
            "CREATE TABLE t(id INTEGER, a TEXT NOT NULL, b INTEGER, c INTEGER); CREATE UNIQUE INDEX k ON t(a);
             CREATE UNIQUE INDEX live ON t(id) WHERE b > 0; CREATE UNIQUE INDEX low ON t(lower(a), c)",
            "a",
        ),
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT COLLATE NOCASE UNIQUE, b INTEGER, c INTEGER, UNIQUE(b, c))",
            "id",
        ),
        (
            "CREATE TABLE t(id INTEGER UNIQUE, a TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, b INTEGER, c REAL UNIQUE)",
            "a",
        ),
        ("CREATE TABLE t(id INTEGER UNIQUE, a TEXT PRIMARY KEY, b INTEGER, c INTEGER UNIQUE) WITHOUT ROWID", "a"),
        ("CREATE TABLE t(id, a TEXT, b, c, PRIMARY KEY(a), UNIQUE(b, c)) WITHOUT ROWID", "a"),
    ] {
        let kind = if ddl.contains("REAL") { "float64" } else { "int64" };
        let t = Captured::new(ddl, "t", &[("id", "int64"), ("a", "utf8"), ("b", "int64"), ("c", kind)], &[key]);
        for id in 0..200 {
            t.conn.execute("INSERT INTO t VALUES (?1, 'k' || ?1, ?1, ?1)", [id]).unwrap();
        }
        for sql in [
            "REPLACE INTO t VALUES (5, 'k50', 55, 55)",
            "INSERT INTO t VALUES (1000, 'new', 1000, 1000)",
            &format!(
                "UPDATE OR REPLACE t SET id = 7, a = 'k70', b = 77, c = 77 WHERE {key} = (SELECT 'k8' WHERE '{key}' = 'a' UNION ALL SELECT 8 WHERE '{key}' = 'id')"
            ),
            &format!(
                "DELETE FROM t WHERE {key} = (SELECT 'k9' WHERE '{key}' = 'a' UNION ALL SELECT 9 WHERE '{key}' = 'id')"
            ),
        ] {
            let mut statement = t.conn.prepare(sql).unwrap();
            assert_eq!(statement.execute([]).unwrap(), 1, "{sql} on {ddl}");
            let steps = statement.get_status(rusqlite::StatementStatus::FullscanStep);
            assert!(steps < 10, "{steps} rows scanned by {sql} on {ddl}");
        }
    }
}
