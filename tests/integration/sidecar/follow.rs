//! The changes of a SQLite file that a sidecar detects, and their counts.

use vexact::ColumnType;
use vexact::replica::SyncMode;
use vexact::sidecar::DeleteDetection;

use super::*;

#[tokio::test]
async fn rows_are_upserted_by_key_and_counted_once() {
    let world = World::new();
    world.doc(1, "a", 100, 100);
    world.doc(2, "b", 100, 101);
    let engine = world.open().await;
    assert_eq!(docs(&engine).await, Vec::<String>::new());
    // The second row was changed after its insert, before the first sync: it counts as an update.
    assert_eq!(sync(&engine).await, (1, 1, 0));
    assert_eq!(docs(&engine).await, ["1|a", "2|b"]);
    assert_eq!(sync(&engine).await, (0, 0, 0));
    world.doc(1, "c", 100, 200);
    world.doc(3, "d", 201, 201);
    assert_eq!(engine.sync_status().await.unwrap().lag, 2);
    assert_eq!(sync(&engine).await, (1, 1, 0));
    assert_eq!(docs(&engine).await, ["1|c", "2|b", "3|d"]);
    let status = engine.sync_status().await.unwrap();
    assert_eq!((status.lag, status.last_synced_seq, status.last_error), (0, Some(4), None));
    assert_eq!((status.tables[0].rows, status.tables[0].state.to_string()), (3, "ready".into()));
}

#[tokio::test]
async fn a_cycle_reads_no_more_than_its_batch_also_of_one_time() {
    let world = World::new();
    (0..23).for_each(|id| world.doc(id, "x", 100, 100));
    let engine = world.open_with(SidecarConfig { poll_batch_size: 5, ..world.sidecar() }).await;
    for expected in [5, 5, 5, 5, 3, 0, 0] {
        assert_eq!(sync(&engine).await, (expected, 0, 0));
    }
    // A row of the same time, with a key before the watermark.
    world.doc(-7, "late", 100, 100);
    assert_eq!(sync_all(&engine).await, (1, 0, 0));
    assert_eq!(ask(&engine, "SELECT count(*), min(id) FROM docs").await, ["24|-7"]);
}

#[tokio::test]
async fn every_batch_size_finds_everything_and_doubles_nothing() {
    for poll_batch_size in [1, 2, 3, 7, 500] {
        let world = World::new();
        (0..20).for_each(|id| world.doc(id, "x", 100 + id / 6, 100 + id / 6));
        let engine = world.open_with(SidecarConfig { poll_batch_size, ..world.sidecar() }).await;
        assert_eq!(sync_all(&engine).await, (20, 0, 0));
        world.doc(4, "same tick", 100, 100);
        world.doc(50, "late", 101, 101);
        world.doc(60, "new", 900, 900);
        assert_eq!(sync_all(&engine).await, (2, 1, 0));
        assert_eq!(sync_all(&engine).await, (0, 0, 0));
        assert_eq!(ask(&engine, "SELECT count(*) FROM docs WHERE body = 'x'").await, ["19"]);
    }
}

#[tokio::test]
async fn the_window_ends_where_it_is_documented_to() {
    let world = World::new();
    world.doc(1, "x", 1_000, 1_000);
    let engine = world.open_with(SidecarConfig { poll_batch_size: 10, ..world.sidecar() }).await;
    assert_eq!(sync_all(&engine).await, (1, 0, 0));
    assert_eq!(sync_all(&engine).await, (0, 0, 0));
    world.doc(2, "within", 940, 940);
    world.doc(3, "before", 900, 900);
    assert_eq!(sync_all(&engine).await, (1, 0, 0));
    assert_eq!(docs(&engine).await, ["1|x", "2|within"]);
    // A copy reads all rows again.
    assert_eq!(engine.initial_sync("docs").await.unwrap(), 3);
    assert_eq!(docs(&engine).await, ["1|x", "2|within", "3|before"]);
    world.run("DELETE FROM docs WHERE id = 1");
    assert_eq!(sync_all(&engine).await, (0, 0, 0));
    assert_eq!(engine.initial_sync("DOCS").await.unwrap(), 2);
    assert_eq!(docs(&engine).await, ["2|within", "3|before"]);
}

#[tokio::test]
async fn new_rows_come_before_the_window_is_read_again() {
    let world = World::new();
    (0..40).for_each(|id| world.doc(id, "x", 100, 100));
    let engine = world.open_with(SidecarConfig { poll_batch_size: 4, ..world.sidecar() }).await;
    assert_eq!(sync_all(&engine).await, (40, 0, 0));
    // The window has more rows than a cycle reads, and the new row is still visible at once.
    assert_eq!(sync(&engine).await, (0, 0, 0));
    world.doc(99, "new", 101, 101);
    assert_eq!(sync(&engine).await, (1, 0, 0));
}

#[tokio::test]
async fn soft_deletes_remove_once_and_are_undone() {
    let world = World::with(
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT, created_at INTEGER, updated_at INTEGER, gone INTEGER);
         INSERT INTO docs VALUES (1, 'a', 100, 100, 0), (2, 'b', 100, 100, NULL), (3, 'c', 100, 100, 1)",
    );
    let detection = DeleteDetection::SoftDelete("gone".into());
    let engine = world.open_with(SidecarConfig { delete_detection: detection, ..world.sidecar() }).await;
    assert_eq!(sync(&engine).await, (2, 0, 0));
    world.run("UPDATE docs SET gone = 1, updated_at = 200 WHERE id = 1");
    assert_eq!(sync(&engine).await, (0, 0, 1));
    assert_eq!(docs(&engine).await, ["2|b"]);
    assert_eq!(sync(&engine).await, (0, 0, 0));
    world.run("UPDATE docs SET gone = 0, updated_at = 201 WHERE id = 1");
    assert_eq!(sync(&engine).await, (0, 1, 0));
    assert_eq!(docs(&engine).await, ["1|a", "2|b"]);
    assert_eq!(engine.initial_sync("docs").await.unwrap(), 2);
    // Only the key of a deleted row is read.
    world.run("UPDATE docs SET gone = 1, body = x'ff', updated_at = 202 WHERE id = 2");
    assert_eq!(sync(&engine).await, (0, 0, 1));
}

#[tokio::test]
async fn soft_deletes_are_told_by_numbers_texts_and_bytes() {
    let set = ["1", "-1", "0.5", "'2024-05-05'", "'t'", "'yes'", "'1'", "'on'", "'TRUE'", "x'01'", "'nay'", "'0x'"];
    let unset = [
        "NULL",
        "0",
        "0.0",
        "''",
        "' '",
        "'0'",
        "'0.0'",
        "'00'",
        "'f'",
        "'F'",
        "'false'",
        "' False '",
        "'no'",
        "'N'",
        "'off'",
        "x''",
        "x'00'",
        "'-0'",
    ];
    for declaration in ["", "TEXT", "INTEGER", "BOOLEAN"] {
        let world = World::with(&format!(
            "CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT, created_at INTEGER, updated_at INTEGER, gone {declaration})"
        ));
        for (id, value) in set.iter().chain(&unset).enumerate() {
            world.run(&format!("INSERT INTO docs VALUES ({id}, '', 100, 100, {value})"));
        }
        let detection = DeleteDetection::SoftDelete("gone".into());
        let config = TimestampTableConfig { columns: vec!["body".into()], ..table("docs") };
        let sidecar = SidecarConfig { delete_detection: detection, ..SidecarConfig::new(world.source(), vec![config]) };
        let engine = world.open_with(sidecar).await;
        sync_all(&engine).await;
        let expected: Vec<String> = (set.len()..set.len() + unset.len()).map(|id| id.to_string()).collect();
        assert_eq!(ask(&engine, "SELECT id FROM docs ORDER BY id").await, expected, "{declaration}");
    }
}

#[tokio::test]
async fn types_are_given_by_hand() {
    let world = World::with(
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT, v BLOB, n INTEGER, created_at INTEGER, updated_at INTEGER);
         INSERT INTO docs VALUES (1, 'a', x'0000803f00000040', 3, 100, 100), (2, 'b', NULL, NULL, 100, 101)",
    );
    let by_hand = |types: &[(&str, &str)]| {
        let typed = |(name, data_type): &(&str, &str)| ((*name).to_owned(), ColumnType::parse(data_type).unwrap());
        let config = TimestampTableConfig { column_types: types.iter().map(typed).collect(), ..table("docs") };
        SidecarConfig::new(world.source(), vec![config])
    };
    let engine = world.open_with(by_hand(&[("V", "vector(2)"), ("n", "int8")])).await;
    assert_eq!(sync_all(&engine).await, (1, 1, 0));
    let nearest = "SELECT id FROM docs WHERE v IS NOT NULL ORDER BY l2_distance(v, '[1, 2]') LIMIT 1";
    assert_eq!(ask(&engine, nearest).await, ["1"]);
    assert_eq!(ask(&engine, "SELECT v, arrow_typeof(n) FROM docs WHERE id = 1").await, ["[1.0, 2.0]|Int8"]);
    // A row that does not fit is reported with its column, and the table is synced again once the
    // row fits.
    world.run("UPDATE docs SET v = x'00', updated_at = 200 WHERE id = 2");
    sync_all(&engine).await;
    let error = engine.query("SELECT id FROM docs", &[]).await.unwrap_err().to_string();
    assert!(error.contains("column \"v\"") && error.contains("got a BLOB of 1 bytes"), "{error}");
    world.run("UPDATE docs SET v = x'0000000000000000' WHERE id = 2");
    assert_eq!(sync_all(&engine).await, (0, 1, 0));
    let engine = world.open_with(by_hand(&[("w", "vector(2)")])).await;
    let error = engine.sync_status().await.unwrap().last_error.unwrap();
    assert!(error.contains("has no column \"w\""), "{error}");
    let twice = by_hand(&[("v", "vector(2)"), ("V", "vector(2)")]).check().unwrap_err().to_string();
    assert!(twice.contains("column_types: duplicate column \"V\""), "{twice}");
}

#[tokio::test]
async fn a_column_that_the_source_adds_is_followed() {
    for mode in [SyncMode::Destructive, SyncMode::Temporal] {
        let world = World::new();
        for id in 1..6 {
            world.doc(id, "a", 100, 100 + id);
        }
        let sidecar = SidecarConfig { poll_batch_size: 2, ..world.sidecar() };
        let config = HtapConfig { sidecar: Some(sidecar), sync_mode: mode, ..HtapConfig::default() };
        let engine = HtapEngine::open(config).await.unwrap();
        sync_all(&engine).await;
        world.run("ALTER TABLE docs ADD COLUMN stars INTEGER DEFAULT 3");
        world.run("UPDATE docs SET stars = 5, updated_at = 200 WHERE id = 2");
        // The existing rows stay, whatever part of the new column a cycle has read.
        engine.sync_now().await.unwrap();
        let current = match mode {
            SyncMode::Destructive => "",
            SyncMode::Temporal => " WHERE _valid_to IS NULL",
        };
        assert_eq!(ask(&engine, &format!("SELECT count(*) FROM docs{current}")).await, ["5"]);
        sync_all(&engine).await;
        let rows = ask(&engine, &format!("SELECT id, stars FROM docs{current} ORDER BY id")).await;
        assert_eq!(rows, ["1|3", "2|5", "3|3", "4|3", "5|3"]);
        assert_eq!(sync_all(&engine).await, (0, 0, 0));
        world.run("ALTER TABLE docs DROP COLUMN stars");
        sync_all(&engine).await;
        assert_eq!(ask(&engine, &format!("SELECT * FROM docs{current} ORDER BY id LIMIT 1")).await.len(), 1);
        assert!(engine.query("SELECT stars FROM docs", &[]).await.is_err());
        // Another index has no effect.
        world.run("CREATE INDEX by_body ON docs(body)");
        assert_eq!(sync_all(&engine).await, (0, 0, 0));
    }
}

#[tokio::test]
async fn columns_are_chosen_and_the_key_is_always_there() {
    let world = World::with(
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, part TEXT, body TEXT, v \"vector(2)\", on_sale BOOLEAN, price REAL,
            at DATETIME, created_at INTEGER, updated_at INTEGER);
         INSERT INTO docs VALUES (1, 'p', 'a', x'0000803f00000040', 1, 1.5, '2024-05-05', 100, 100)",
    );
    let config = TimestampTableConfig {
        primary_key: vec!["part".into(), "ID".into()],
        columns: vec!["V".into(), "id".into()],
        ..table("docs")
    };
    let engine = world.open_with(SidecarConfig::new(world.source(), vec![config])).await;
    assert_eq!(sync(&engine).await, (1, 0, 0));
    let found = engine.query("SELECT * FROM docs", &[]).await.unwrap();
    let names: Vec<String> = found[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["part", "v", "id"]);
    assert_eq!(texts(&found), ["p|[1.0, 2.0]|1"]);
    let engine = world.open().await;
    sync(&engine).await;
    assert_eq!(ask(&engine, "SELECT * FROM docs").await, ["1|p|a|[1.0, 2.0]|true|1.5|2024-05-05|100|100"]);
}

#[tokio::test]
async fn history_has_the_sources_own_times() {
    let world = World::new();
    world.doc(1, "a", 100, 100);
    let mut sidecar = world.sidecar();
    sidecar.delete_detection = DeleteDetection::Disabled;
    let config =
        HtapConfig { sync_mode: vexact::replica::SyncMode::Temporal, sidecar: Some(sidecar), ..HtapConfig::default() };
    let engine = HtapEngine::open(config).await.unwrap();
    assert_eq!(sync(&engine).await, (1, 0, 0));
    world.doc(1, "b", 100, 150);
    world.doc(2, "c", 150, 160);
    assert_eq!(sync(&engine).await, (0, 2, 0));
    assert_eq!(sync_all(&engine).await, (0, 0, 0));
    let history =
        "SELECT id, body, _valid_from / 1000000, _valid_to / 1000000, _operation FROM docs ORDER BY _valid_from, id";
    assert_eq!(ask(&engine, history).await, ["1|a|100|150|I", "1|b|150|NULL|U", "2|c|160|NULL|I"]);
    assert_eq!(ask(&engine, "SELECT body FROM as_of('docs', 149000000)").await, ["a"]);
    // A copy detects rows that were deleted without a trace, and only those.
    world.run("DELETE FROM docs WHERE id = 2");
    assert_eq!(engine.initial_sync("docs").await.unwrap(), 1);
    assert_eq!(ask(&engine, "SELECT id FROM as_of('docs', 999000000)").await, ["1"]);
    assert_eq!(ask(&engine, "SELECT count(*) FROM docs WHERE id = 1").await, ["2"]);
}

#[tokio::test]
async fn a_table_that_fails_does_not_hold_up_the_others() {
    let world = World::new();
    world.doc(1, "a", 100, 100);
    let engine =
        world.open_with(SidecarConfig::new(world.source(), vec![table("docs"), table("later"), table("wrong")])).await;
    world.run(
        "CREATE TABLE wrong (id INTEGER PRIMARY KEY, n INTEGER, created_at INT, updated_at INT);
        INSERT INTO wrong VALUES (5, 'five', 100, 100)",
    );
    assert_eq!(sync_all(&engine).await, (1, 0, 0));
    assert_eq!(docs(&engine).await, ["1|a"]);
    let status = engine.sync_status().await.unwrap();
    let states: Vec<String> = status.tables.iter().map(|table| format!("{} {}", table.name, table.state)).collect();
    assert_eq!(states, ["docs ready", "later failed", "wrong failed"]);
    for (sql, expected) in [
        ("SELECT body FROM later", "no such table in the source: later"),
        ("SELECT count(*) FROM docs JOIN later USING (id)", "no such table in the source: later"),
        ("SELECT n FROM wrong", "column \"n\", key (integer 5): expected int64 (an integer), got text \"five\""),
    ] {
        for error in [engine.query(sql, &[]).await, engine.query_olap(sql, &[]).await] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("does not follow its source") && error.contains(expected), "{error}");
        }
    }
    world.run(
        "CREATE TABLE later (id INTEGER PRIMARY KEY, body TEXT, created_at INT, updated_at INT);
        INSERT INTO later VALUES (1, 'here', 7, 7); UPDATE wrong SET n = 5",
    );
    assert_eq!(sync_all(&engine).await, (2, 0, 0));
    assert_eq!(ask(&engine, "SELECT body FROM later").await, ["here"]);
    assert_eq!(ask(&engine, "SELECT n FROM wrong").await, ["5"]);
    assert_eq!(engine.sync_status().await.unwrap().last_error, None);
}

#[tokio::test]
async fn a_table_whose_columns_changed_is_read_again() {
    let world = World::new();
    world.doc(1, "a", 100, 100);
    world.run("ALTER TABLE docs ADD COLUMN extra DATETIME");
    let engine = world.open().await;
    assert_eq!(sync(&engine).await, (1, 0, 0));
    // Without values, the type of `extra` was guessed; this value does not fit the guess.
    world.run("UPDATE docs SET extra = 12, updated_at = 101");
    assert_eq!(sync_all(&engine).await, (0, 1, 0));
    assert_eq!(ask(&engine, "SELECT extra + 1 FROM docs").await, ["13"]);
    world.run("ALTER TABLE docs DROP COLUMN body");
    sync_all(&engine).await;
    assert_eq!(ask(&engine, "SELECT * FROM docs").await, ["1|100|101|12"]);
}

#[tokio::test]
async fn a_source_that_was_away_is_followed_again() {
    let world = World::new();
    world.doc(1, "a", 100, 100);
    let engine = world.open().await;
    assert_eq!(sync(&engine).await, (1, 0, 0));
    std::fs::rename(world.source(), world.path("away.db")).unwrap();
    let error = engine.sync_now().await.unwrap_err().to_string();
    assert!(error.contains("source.db"), "{error}");
    let status = engine.sync_status().await.unwrap();
    assert_eq!((status.last_error, status.tables[0].state.to_string()), (Some(error), "ready".into()));
    assert_eq!(docs(&engine).await, ["1|a"]);
    // Another file replaces the source.
    std::fs::copy(world.path("away.db"), world.source()).unwrap();
    let other = rusqlite::Connection::open(world.source()).unwrap();
    other.execute("INSERT INTO docs VALUES (2, 'b', 101, 101)", []).unwrap();
    assert_eq!(sync(&engine).await, (1, 0, 0));
    assert_eq!(engine.sync_status().await.unwrap().last_error, None);
}

#[tokio::test]
async fn the_source_is_never_written() {
    for mode in ["DELETE", "WAL"] {
        let world = World::new();
        world.run(&format!("PRAGMA journal_mode = {mode}"));
        world.doc(1, "a", 100, 100);
        world.run("PRAGMA wal_checkpoint(TRUNCATE)");
        let before = std::fs::read(world.source()).unwrap();
        let engine = world.open().await;
        assert_eq!(sync_all(&engine).await, (1, 0, 0));
        assert_eq!(engine.initial_sync("docs").await.unwrap(), 1);
        engine.shutdown().await;
        assert_eq!(std::fs::read(world.source()).unwrap(), before, "{mode}");
        assert!(engine.sync_now().await.unwrap_err().to_string().contains("shut down"));
    }
}

#[tokio::test]
async fn a_source_that_is_not_there_is_an_error_of_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nowhere.db").display().to_string();
    let sidecar = Some(SidecarConfig::new(path.clone(), vec![table("docs")]));
    let error = HtapEngine::open(HtapConfig { sidecar, ..HtapConfig::default() }).await.unwrap_err().to_string();
    assert!(error.contains("nowhere.db"), "{error}");
    assert!(!std::path::Path::new(&path).exists());
}

#[tokio::test]
async fn a_key_that_names_two_rows_is_refused() {
    let world = World::new();
    world.doc(1, "a", 100, 100);
    world.doc(2, "a", 100, 100);
    let config = TimestampTableConfig { primary_key: vec!["body".into()], ..table("docs") };
    let engine = world.open_with(SidecarConfig::new(world.source(), vec![config])).await;
    engine.sync_now().await.unwrap();
    let error = engine.sync_status().await.unwrap().last_error.unwrap();
    assert!(error.contains("primary_key [body]") && error.contains("two rows of key (text \"a\")"), "{error}");
}

#[tokio::test]
async fn a_soft_delete_closes_its_row_in_a_history() {
    let world = World::with(
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT, created_at INTEGER, updated_at INTEGER, gone INTEGER);
         INSERT INTO docs VALUES (1, 'a', 100, 100, 0)",
    );
    let detection = DeleteDetection::SoftDelete("gone".into());
    let sidecar = Some(SidecarConfig { delete_detection: detection, ..world.sidecar() });
    let sync_mode = vexact::replica::SyncMode::Temporal;
    let engine = HtapEngine::open(HtapConfig { sync_mode, sidecar, ..HtapConfig::default() }).await.unwrap();
    sync(&engine).await;
    world.run("UPDATE docs SET gone = 1, updated_at = 150");
    assert_eq!(sync(&engine).await, (0, 0, 1));
    world.run("UPDATE docs SET gone = 0, updated_at = 170");
    assert_eq!(sync(&engine).await, (0, 1, 0));
    assert_eq!(sync_all(&engine).await, (0, 0, 0));
    for (time, expected) in [(149, "1"), (150, "0"), (169, "0"), (170, "1")] {
        let sql = format!("SELECT count(*) FROM as_of('docs', {time}000000)");
        assert_eq!(ask(&engine, &sql).await, [expected], "{time}");
    }
}
