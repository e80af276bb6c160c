//! Tables without a key of their own, by SQLite's row ids.

use super::*;

fn words() -> TableSchema {
    schema("words", &[("word", "utf8"), ("n", "int64")], &["rowid"])
}

#[tokio::test]
async fn a_table_without_a_key_is_followed_by_its_row_ids_through_a_vacuum() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    let second = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run("CREATE TABLE words(word TEXT, n INTEGER)").await;
    engine.run("CREATE UNIQUE INDEX by_n ON words(n) WHERE word <> 'free'").await;
    engine.run("INSERT INTO words VALUES ('a', 1), ('b', 2), ('a', 3), ('free', 3), (NULL, NULL)").await;
    engine.replicator.register(words(), true).await.unwrap();
    engine.assert_equal(&words()).await;
    let app = Connection::open(folder.database()).unwrap();
    for (step, sql) in [
        "INSERT INTO words VALUES ('c', 4)",
        "INSERT INTO words(rowid, word, n) VALUES (100, 'far', 5)",
        "UPDATE words SET rowid = 50 WHERE word = 'b'",
        "UPDATE words SET oid = oid + 1000 WHERE n = 4",
        "DELETE FROM words WHERE word = 'a' AND n = 1",
        "REPLACE INTO words VALUES ('displaces', 3)",
        "UPDATE OR REPLACE words SET n = 5 WHERE n = 2",
        "VACUUM",
        "UPDATE words SET word = upper(word) WHERE word <> 'free'",
        "INSERT INTO words SELECT word || 'x', n * 1000 + length(word) FROM words",
        "DELETE FROM words WHERE n % 2 = 0; VACUUM; UPDATE words SET n = n + 100; VACUUM",
        "DELETE FROM words",
        "INSERT INTO words VALUES ('z', 1)",
        "ALTER TABLE words ADD COLUMN extra",
        "UPDATE words SET word = 'y'",
        "ALTER TABLE words DROP COLUMN extra",
        "UPDATE words SET word = 'x'",
    ]
    .into_iter()
    .enumerate()
    {
        app.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        for engine in [&engine, &second] {
            engine.replicator.sync_all().await.unwrap();
            engine.assert_equal(&words()).await;
            assert_eq!(engine.replicator.status().await.unwrap().last_error, None, "{step}: {sql}");
        }
    }
}

#[tokio::test]
async fn stored_replicas_of_row_ids_are_copied_after_a_vacuum_without_an_engine() {
    let folder = Folder::new();
    let engine = open(&folder.database(), positions::stored(&folder, SyncMode::Destructive)).await;
    engine.run("CREATE TABLE words(word TEXT, n INTEGER)").await;
    engine.run("INSERT INTO words VALUES ('a', 1), ('b', 2), ('c', 3)").await;
    engine.replicator.register(words(), true).await.unwrap();
    engine.run("DELETE FROM words WHERE n = 1").await;
    engine.replicator.sync_all().await.unwrap();
    engine.replicator.shutdown().await;
    engine.oltp.shutdown().await;
    drop(engine);
    let app = Connection::open(folder.database()).unwrap();
    app.execute_batch("VACUUM; UPDATE words SET word = 'd' WHERE n = 3").unwrap();
    let engine = open(&folder.database(), positions::stored(&folder, SyncMode::Destructive)).await;
    engine.assert_equal(&words()).await;
}

#[tokio::test]
async fn a_registration_by_row_id_is_refused_where_it_would_not_hold() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    for (create, expected) in [
        ("CREATE TABLE words(id INTEGER PRIMARY KEY, word TEXT, n INTEGER)", "expected its INTEGER PRIMARY KEY \"id\""),
        ("CREATE TABLE words(word TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID", "no column \"rowid\""),
        ("CREATE TABLE words(word TEXT, n INTEGER, rowid TEXT)", "is not unique"),
    ] {
        engine.run(create).await;
        let error = engine.replicator.register(words(), true).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{create}: {error}");
        engine.run("DROP TABLE words").await;
    }
    engine.run("CREATE TABLE words(word TEXT, n INTEGER)").await;
    let temporal = open(&folder.database(), options(SyncMode::Temporal)).await;
    let error = temporal.replicator.register(words(), true).await.unwrap_err().to_string();
    assert!(error.contains("VACUUM numbers rows anew"), "{error}");
    engine.replicator.register(words(), true).await.unwrap();
    temporal.replicator.sync_all().await.unwrap();
    let status = temporal.replicator.status().await.unwrap();
    assert!(status.tables[0].last_error().unwrap().contains("VACUUM numbers rows anew"), "{status:?}");
}
