//! An app with and without capture: every statement has the same outcome, migrations too, and the
//! file is the same in the end.

use super::*;
use crate::oltp::uninstall;

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len() as u64) as usize]
    }
}

fn texts(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(sql).unwrap();
    let count = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| {
        (0..count).map(|at| row.get::<_, Value>(at)).collect::<rusqlite::Result<Vec<_>>>().map(|row| format!("{row:?}"))
    };
    statement.query_map([], row).unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

/// Returns the content of a file that the app sees.
fn seen(conn: &Connection) -> Vec<String> {
    const OWN: &str = "substr(name, 1, 8) <> '_vexact_' AND substr(tbl_name, 1, 8) <> '_vexact_'";
    // The triggers of the app are created again, so their order in the schema changes.
    let mut seen =
        texts(conn, &format!("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE {OWN} ORDER BY type, name"));
    let tables =
        "SELECT quote(name) FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 8) <> '_vexact_' ORDER BY name";
    let mut names = conn.prepare(tables).unwrap();
    let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
    for name in names {
        seen.extend(texts(
            conn,
            &format!("SELECT {name}, * FROM {}", ident(name.trim_matches('\''))).replace("''", "'"),
        ));
    }
    seen
}

/// One random statement on the tables that there are.
fn statement(random: &mut Random, conn: &Connection) -> String {
    let table = random.of(&["t", "t", "t", "u"]);
    let mut columns: Vec<String> = Vec::new();
    let mut read = conn.prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0").unwrap();
    for column in read.query_map([table], |row| row.get(0)).unwrap() {
        columns.push(column.unwrap());
    }
    let clause = random.of(&["", "OR REPLACE", "OR REPLACE", "OR IGNORE", "OR FAIL"]);
    let any = |random: &mut Random| match columns.len() {
        0 => "id".to_owned(),
        count => columns[random.below(count as u64) as usize].clone(),
    };
    let value = |random: &mut Random, column: &str| match column {
        "id" => random.below(8).to_string(),
        _ => format!("'{}'", random.of(&["a", "A", "b", "c", "live"])),
    };
    let (one, other) = (any(random), any(random));
    match random.below(32) {
        0..7 => {
            let values: Vec<String> = columns.iter().map(|column| value(random, column)).collect();
            format!("INSERT {clause} INTO {table}({}) VALUES ({})", columns.join(", "), values.join(", "))
        }
        7..12 => format!(
            "UPDATE {clause} {table} SET {one} = {} WHERE {other} = {}",
            value(random, &one),
            value(random, &other)
        ),
        12..14 => format!("DELETE FROM {table} WHERE {one} = {}", value(random, &one)),
        14..16 => format!("ALTER TABLE {table} DROP COLUMN {one}"),
        16 => format!("ALTER TABLE {table} ADD COLUMN {} TEXT", random.of(&["a", "b", "c", "d", "e"])),
        17 => format!("ALTER TABLE {table} RENAME COLUMN {one} TO {}", random.of(&["a", "b", "c", "d", "e"])),
        18 => format!("CREATE UNIQUE INDEX {} ON {table}({one})", random.of(&["i", "j"])),
        19 => format!("CREATE UNIQUE INDEX {} ON {table}({one}) WHERE {other} = 'live'", random.of(&["i", "j"])),
        20 => format!("DROP INDEX {}", random.of(&["i", "j", "k"])),
        21 => random.of(&["ALTER TABLE t RENAME TO u", "ALTER TABLE u RENAME TO t"]).to_owned(),
        22 => random
            .of(&[
                "DROP TABLE u",
                "DROP TABLE t",
                "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT NOT NULL DEFAULT 'live', b TEXT, c TEXT COLLATE NOCASE)",
                "CREATE TABLE t(k TEXT, a TEXT, b TEXT, c TEXT AS (lower(a)) UNIQUE); CREATE UNIQUE INDEX k ON t(k)",
                "CREATE TABLE u(id INTEGER PRIMARY KEY, a TEXT)",
            ])
            .to_owned(),
        23..25 => {
            let values: Vec<String> = columns.iter().map(|column| value(random, column)).collect();
            let action = random.of(&["NOTHING", "UPDATE SET a = 'live'", "UPDATE SET b = excluded.a"]);
            let target = if random.below(2) == 0 && action == "NOTHING" { String::new() } else { format!("({one})") };
            let (columns, values) = (columns.join(", "), values.join(", "));
            format!("INSERT INTO {table}({columns}) VALUES ({values}) ON CONFLICT {target} DO {action}")
        }
        25 => format!("INSERT {clause} INTO {table} SELECT * FROM {}", random.of(&["t", "u"])),
        26 => {
            format!("UPDATE {clause} {table} SET {one} = {}, {other} = {}", value(random, &one), value(random, &other))
        }
        27 => format!(
            "BEGIN; UPDATE {clause} {table} SET {one} = {}; DELETE FROM {table} WHERE {other} = {}; {}",
            value(random, &one),
            value(random, &other),
            random.of(&["ROLLBACK", "COMMIT"])
        ),
        28 => format!("DELETE FROM {table}"),
        29 => {
            let values: Vec<String> = columns.iter().map(|column| value(random, column)).collect();
            let (columns, values) = (columns.join(", "), values.join(", "));
            format!("SAVEPOINT s; INSERT INTO {table}({columns}) VALUES ({values}); ROLLBACK TO s; RELEASE s")
        }
        _ => random
            .of(&[
                "CREATE TRIGGER own AFTER INSERT ON t BEGIN UPDATE t SET b = 'c' WHERE id = NEW.id; END",
                "DROP TRIGGER own",
                "BEGIN; CREATE TABLE n AS SELECT * FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT",
            ])
            .to_owned(),
    }
}

/// As an engine does in a cycle: captures what fits, forgets what does not.
fn cycle(conn: &Connection, schema: &TableSchema) {
    if uninstall::has_strays(conn).unwrap() {
        uninstall::drop_strays(conn).unwrap();
    }
    let known = capture::find(conn, schema.name()).unwrap();
    let is_captured = known.as_ref().map(|known| capture::is_installed(conn, known));
    let tx = conn.unchecked_transaction().unwrap();
    let id = known.as_ref().map(|known| known.id);
    let outcome = match (known, is_captured) {
        (Some(_), Some(Ok(true))) => return,
        (Some(known), Some(Ok(false))) => capture::reinstall(&tx, known.id, &known.schema),
        (Some(known), _) => {
            capture::remove(&tx, known.id).unwrap();
            capture::install(&tx, schema)
        }
        (None, _) => capture::install(&tx, schema),
    };
    match outcome {
        Ok(_) => tx.commit().unwrap(),
        Err(_) => {
            tx.rollback().unwrap();
            id.into_iter().for_each(|id| capture::suspend(conn, id).unwrap());
        }
    }
}

#[test]
fn an_app_runs_with_capture_as_without() {
    let keys = [("id", "int64"), ("k", "utf8")];
    let mut captured_migrations = 0;
    // `VEXACT_SOAK_SECONDS=n` runs new seeds for that long.
    let soak = std::env::var("VEXACT_SOAK_SECONDS").ok().map(|text| text.parse::<u64>().unwrap());
    let end = soak.map(|seconds| std::time::Instant::now() + std::time::Duration::from_secs(seconds));
    let first = soak.map_or(1, |_| std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64 >> 8);
    let seeds = (first..).take_while(|seed| end.map_or(*seed <= 60, |end| std::time::Instant::now() < end));
    for seed in seeds {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let open = || {
            let conn = Connection::open_in_memory().unwrap();
            conn.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b TEXT, c TEXT); CREATE TABLE u(id INTEGER PRIMARY KEY, a TEXT)")
                .unwrap();
            conn
        };
        let (plain, captured) = (open(), open());
        let mut done = Vec::new();
        for step in 0..250 {
            if step % 9 == 0 {
                let (key, kind) = keys[random.below(2) as usize];
                cycle(&captured, &schema("t", &[(key, kind), ("a", "utf8"), ("b", "utf8"), ("c", "utf8")], &[key]));
                cycle(&captured, &schema("t", &[(key, kind), ("a", "utf8")], &[key]));
            }
            let sql = statement(&mut random, &plain);
            let is_captured =
                texts(&captured, "SELECT name FROM sqlite_master WHERE name LIKE '\\_vexact\\_%insert' ESCAPE '\\'");
            captured_migrations += usize::from(!is_captured.is_empty() && sql.starts_with("ALTER"));
            let run = |conn: &Connection| {
                // Triggers change the text position at the end of SQLite's message.
                let outcome = conn.execute_batch(&sql).map_err(|error| match error {
                    rusqlite::Error::SqlInputError { msg, .. } => msg,
                    other => other.to_string(),
                });
                if !conn.is_autocommit() {
                    conn.execute_batch("ROLLBACK").unwrap();
                }
                // For other statements SQLite returns the count of the previous statement, which
                // may belong to the cycle above.
                let is_dml = outcome.is_ok() && ["INSERT", "UPDATE", "DELETE"].iter().any(|word| sql.starts_with(word));
                let changes = if is_dml { conn.changes() } else { 0 };
                // Nor of an upsert that updates.
                let inserts = sql.starts_with("INSERT") && !sql.contains("DO UPDATE") && changes > 0;
                let inserted = inserts.then(|| conn.last_insert_rowid());
                (outcome, changes, inserted)
            };
            let expected = run(&plain);
            let got = run(&captured);
            done.push(sql.clone());
            // A column of a unique index that is renamed and then dropped needs a cycle between.
            if sql.contains("RENAME COLUMN") {
                cycle(&captured, &schema("t", &[("id", "int64"), ("a", "utf8")], &["id"]));
            }
            assert_eq!(got, expected, "seed {seed}: {}", done.join(";\n"));
            assert_eq!(seen(&captured), seen(&plain), "seed {seed}: {}", done.join(";\n"));
        }
    }
    assert!(captured_migrations > 400, "{captured_migrations}");
}

#[test]
fn a_column_is_dropped_after_its_index() {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(
        "CREATE TABLE t(k TEXT, e TEXT COLLATE NOCASE, b TEXT, g TEXT AS (upper(b)), n TEXT NOT NULL DEFAULT 'x', old TEXT);
         CREATE UNIQUE INDEX by_k ON t(k); CREATE UNIQUE INDEX by_e ON t(e) WHERE old IS NULL;
         CREATE UNIQUE INDEX by_low ON t(lower(e) || n); CREATE UNIQUE INDEX by_g ON t(g);
         INSERT INTO t(k, e, b) VALUES ('1', 'a', 'p'), ('2', 'b', 'q')",
    )
    .unwrap();
    let columns = [("k", "utf8"), ("e", "utf8"), ("b", "utf8"), ("n", "utf8")];
    let registered = capture::install(&conn, &schema("t", &columns, &["k"])).unwrap();
    for sql in [
        "DROP INDEX by_low",
        "DROP INDEX by_e",
        "ALTER TABLE t DROP COLUMN e",
        "ALTER TABLE t DROP COLUMN old",
        "ALTER TABLE t DROP COLUMN n",
        "INSERT OR REPLACE INTO t(k, b) VALUES ('3', 'P')",
        "UPDATE OR REPLACE t SET b = 'Q' WHERE k = '3'",
        "DROP INDEX by_g",
        "ALTER TABLE t DROP COLUMN g",
        "ALTER TABLE t RENAME COLUMN b TO c",
        "UPDATE t SET c = 'r'",
        "DROP INDEX by_k",
        "ALTER TABLE t DROP COLUMN k",
        "INSERT INTO t VALUES ('s')",
        "UPDATE t SET c = 't'",
        "DELETE FROM t",
        "DROP TABLE t",
    ] {
        conn.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    assert!(capture::is_installed(&conn, &registered).is_err());
}

#[test]
fn what_is_left_after_an_uninstall_is_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT UNIQUE); CREATE TRIGGER own AFTER INSERT ON t BEGIN SELECT 1; END")
        .unwrap();
    let all = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name";
    let before = texts(&conn, all);
    let t = schema("t", &[("id", "int64"), ("a", "utf8")], &["id"]);
    for _ in 0..2 {
        let tx = conn.unchecked_transaction().unwrap();
        capture::install(&tx, &t).unwrap();
        tx.commit().unwrap();
        conn.execute_batch("INSERT OR REPLACE INTO t(a) VALUES ('x')").unwrap();
        assert_eq!(uninstall::uninstall(&path).unwrap().len(), 16);
        assert_eq!(texts(&conn, all), before);
        conn.execute_batch("INSERT OR REPLACE INTO t(a) VALUES ('x')").unwrap();
    }
    assert_eq!(uninstall::uninstall(&path).unwrap(), Vec::<String>::new());
    let missing = uninstall::uninstall(&folder.path().join("none.db")).unwrap_err().to_string();
    assert!(missing.contains("file not found") && missing.contains("none.db"), "{missing}");
    // Drops the triggers and tables one by one in their order, while an app writes.
    let tx = conn.unchecked_transaction().unwrap();
    capture::install(&tx, &t).unwrap();
    tx.commit().unwrap();
    for name in texts(
        &conn,
        "SELECT 'DROP ' || type || ' ' || name FROM sqlite_master WHERE name LIKE '\\_vexact%' ESCAPE '\\' AND type <> 'index'",
    ) {
        let sql = name.trim_start_matches("[Text(\"").trim_end_matches("\")]").to_owned();
        conn.execute_batch(&sql).unwrap();
        conn.execute_batch("INSERT OR REPLACE INTO t(a) VALUES ('x')")
            .unwrap_or_else(|error| panic!("after {sql}: {error}"));
    }
}
