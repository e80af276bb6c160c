//! Sidecars that follow time columns of every type.

use vexact::replica::SyncMode;

use super::*;

/// Clock columns: their declaration, and values in the order of time, as SQL.
const CLOCKS: [(&str, [&str; 4]); 8] = [
    ("INTEGER", ["1700000000", "1700000001", "1700000002", "1700009000"]),
    ("INTEGER", ["1700000000000", "1700000000001", "1700000001000", "1700009000000"]),
    ("REAL", ["1700000000.25", "1700000000.5", "1700000001.125", "1700009000.0"]),
    (
        "REAL",
        [
            "julianday('2024-05-05')",
            "julianday('2024-05-05 00:00:01')",
            "julianday('2024-05-05 00:00:02')",
            "julianday('2024-05-06')",
        ],
    ),
    (
        "DATETIME",
        ["'2024-05-05 10:00:00'", "'2024-05-05 10:00:01'", "'2024-05-05 10:00:01.5'", "'2024-05-06 00:00:00'"],
    ),
    (
        "TEXT",
        ["'2024-05-05T10:00:00Z'", "'2024-05-05T10:00:01Z'", "'2024-05-05T10:00:01.250Z'", "'2024-05-06T00:00:00Z'"],
    ),
    (
        "TEXT",
        [
            "'2024-05-05T10:00:00+02:00'",
            "'2024-05-05T10:00:01+02:00'",
            "'2024-05-05T10:00:02+02:00'",
            "'2024-05-06T00:00:00+02:00'",
        ],
    ),
    ("TEXT", ["'2024-05-05'", "'2024-05-05'", "'2024-05-05'", "'2024-05-06'"]),
];

#[tokio::test]
async fn clocks_of_every_kind_are_followed() {
    for (declaration, [first, second, third, last]) in CLOCKS {
        let world = World::with(&format!(
            "CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT, created_at {declaration}, updated_at {declaration});
             INSERT INTO docs VALUES (1, 'a', {first}, {first}), (2, 'b', {first}, {third})"
        ));
        let engine = world.open_with(SidecarConfig { poll_batch_size: 2, ..world.sidecar() }).await;
        let is_new_too = u64::from(first == third);
        assert_eq!(sync_all(&engine).await, (1 + is_new_too, 1 - is_new_too, 0), "{declaration} {first}");
        // A late row, before the watermark, and a row within a tick, at the watermark.
        world.run(&format!(
            "INSERT INTO docs VALUES (3, 'late', {second}, {second}); UPDATE docs SET body = 'tick' WHERE id = 2"
        ));
        assert_eq!(sync_all(&engine).await, (1, 1, 0), "{declaration} {first}");
        world.run(&format!("INSERT INTO docs VALUES (4, 'new', {last}, {last})"));
        assert_eq!(sync_all(&engine).await, (1, 0, 0), "{declaration} {first}");
        assert_eq!(sync_all(&engine).await, (0, 0, 0), "{declaration} {first}");
        assert_eq!(docs(&engine).await, ["1|a", "2|tick", "3|late", "4|new"], "{declaration} {first}");
    }
}

#[tokio::test]
async fn texts_with_and_without_t_are_one_clock() {
    let world = World::with(
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT, created_at TEXT, updated_at TEXT);
         INSERT INTO docs VALUES (1, 'a', '2024-05-05T10:00:00', '2024-05-05T10:00:00')",
    );
    let engine = world.open().await;
    assert_eq!(sync_all(&engine).await, (1, 0, 0));
    // As text the time sorts before the watermark, but it is after it.
    world.run("INSERT INTO docs VALUES (2, 'b', '2024-05-05 10:30:00', '2024-05-05 10:30:00')");
    assert_eq!(sync_all(&engine).await, (1, 0, 0));
}

#[tokio::test]
async fn a_clock_that_is_none_names_table_column_and_value() {
    for (value, expected) in [
        ("'soon'", "expected an ISO-8601 time or a number, got text \"soon\""),
        ("x'00'", "expected an ISO-8601 time or a number, got a BLOB of 1 bytes"),
    ] {
        let world = World::with(&format!(
            "CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT, created_at, updated_at);
             INSERT INTO docs VALUES (1, 'a', 1, {value})"
        ));
        let engine = world.open().await;
        let error = engine.sync_status().await.unwrap().last_error.unwrap();
        assert!(error.contains("\"docs\"") && error.contains("updated_at") && error.contains(expected), "{error}");
        world.run("UPDATE docs SET updated_at = 100");
        assert_eq!(sync_all(&engine).await, (0, 1, 0));
        // A single value among others is read as it is.
        world.run(&format!("INSERT INTO docs VALUES (2, 'b', 1, '2024-05-05'), (3, 'c', 1, {value})"));
        assert_eq!(sync_all(&engine).await.1, 2);
        assert_eq!(docs(&engine).await, ["1|a", "2|b", "3|c"]);
        assert_eq!(engine.sync_status().await.unwrap().last_error, None);
    }
}

/// The law: whatever the times of a few rows are, later changes of the other rows are detected,
/// with any batch size.
#[tokio::test]
async fn a_bad_or_far_time_does_not_stop_its_table() {
    let numbers = ["9000000000", "9223372036854775807", "-5", "1e300", "'soon'", "x'ff'", "''"];
    let texts = [
        "'9999-12-31 00:00:00'",
        "'soon'",
        "'2024-13-45'",
        "''",
        "'~'",
        "5",
        "9e99",
        "x'ff'",
        "'2300-01-01T00:00:00Z'",
    ];
    for mode in [SyncMode::Destructive, SyncMode::Temporal] {
        for (is_text, bad) in numbers.iter().map(|bad| (false, bad)).chain(texts.iter().map(|bad| (true, bad))) {
            for poll_batch_size in [1, 2, 3, 50] {
                for is_first in [true, false] {
                    let time = |second: u32| match is_text {
                        true => format!("'2024-05-05 10:00:{second:02}'"),
                        false => (1_700_000_000 + second).to_string(),
                    };
                    let world =
                        World::with("CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT, created_at, updated_at)");
                    let row =
                        |id: u32, time: &str| world.run(&format!("INSERT INTO docs VALUES ({id}, 'a', 1, {time})"));
                    (1..4).for_each(|id| row(id, &time(id)));
                    let config = SidecarConfig { poll_batch_size, ..world.sidecar() };
                    let open = || {
                        HtapEngine::open(HtapConfig {
                            sidecar: Some(config.clone()),
                            sync_mode: mode,
                            ..HtapConfig::default()
                        })
                    };
                    let bad_rows = || (90..92).for_each(|id| row(id, bad));
                    if is_first {
                        bad_rows();
                    }
                    let engine = open().await.unwrap();
                    sync_all(&engine).await;
                    if !is_first {
                        bad_rows();
                    }
                    (4..8).for_each(|id| row(id, &time(10 + id)));
                    let context = format!("{mode:?} {bad} {poll_batch_size} {is_first}");
                    sync_all(&engine).await;
                    world.run(&format!("UPDATE docs SET body = 'b', updated_at = {} WHERE id = 2", time(30)));
                    sync_all(&engine).await;
                    let current = match mode {
                        SyncMode::Destructive => "SELECT id, body FROM docs WHERE id < 90 ORDER BY id",
                        SyncMode::Temporal => {
                            "SELECT id, body FROM docs WHERE id < 90 AND _valid_to IS NULL ORDER BY id"
                        }
                    };
                    assert_eq!(
                        ask(&engine, current).await,
                        ["1|a", "2|b", "3|a", "4|a", "5|a", "6|a", "7|a"],
                        "{context}"
                    );
                    let status = engine.sync_status().await.unwrap();
                    assert_eq!((status.last_error, status.lag), (None, 0), "{context}");
                    assert_eq!(sync_all(&engine).await, (0, 0, 0), "{context}");
                    // A change of a row beyond the horizon is detected too.
                    let far = [numbers[0], texts[0]].contains(bad);
                    if far {
                        let warning = status.tables[0].warning().unwrap_or_default();
                        let expected = "2 rows have a time in \"updated_at\" that is none or lies in the future";
                        assert!(warning.starts_with(expected), "{context}: {warning}");
                        world.run("UPDATE docs SET body = 'c' WHERE id = 90");
                        assert_eq!(sync_all(&engine).await, (0, 1, 0), "{context}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn rows_without_a_time_are_not_seen_until_they_have_one() {
    let world = World::new();
    world.run("INSERT INTO docs VALUES (1, 'a', NULL, NULL), (2, 'b', 5, 5)");
    let engine = world.open().await;
    assert_eq!(sync_all(&engine).await, (1, 0, 0));
    world.doc(1, "a", 6, 6);
    assert_eq!(sync_all(&engine).await, (0, 1, 0));
}
