//! Writes and local tables of an engine that follows a source.

use vexact::htap::Param;
use vexact::schema::TableSchema;
use vexact::session::{QueryVectors, VectorSearch};

use super::*;

#[tokio::test]
async fn without_a_file_of_its_own_every_write_is_refused() {
    let world = World::new();
    world.doc(1, "a", 100, 100);
    let engine = world.open().await;
    sync(&engine).await;
    let schema = || TableSchema::try_new("t", &[("id".into(), "int64".into())], &["id".into()]).unwrap();
    let refusals = [
        engine.execute("INSERT INTO docs VALUES (2, 'b', 1, 1)", &[]).await.map(drop),
        engine.execute_batch(["DELETE FROM docs"]).await.map(drop),
        engine.execute_many("DELETE FROM docs WHERE id = ?", &[vec![Param::Integer(1)]]).await.map(drop),
        engine.register_table(schema(), false).await.map(drop),
        engine.initial_sync("t").await.map(drop),
    ];
    for refusal in refusals {
        let error = refusal.unwrap_err().to_string();
        assert!(error.contains("source.db") && error.contains("sidecar_enable_oltp"), "{error}");
    }
    for sql in ["DELETE FROM docs", "PRAGMA user_version = 3", "CREATE TABLE t (x)", "INSERT INTO docs VALUES (2)", ""]
    {
        assert!(engine.query(sql, &[]).await.is_err(), "{sql}");
        assert!(engine.query_olap(sql, &[]).await.is_err(), "{sql}");
    }
    assert!(!world.path("own.db").exists());
    assert_eq!(docs(&engine).await, ["1|a"]);
    assert_eq!(ask(&engine, "SELECT 1 + 1").await, ["2"]);
    let found = engine.query("SELECT body FROM docs WHERE id = ?", &[Param::Integer(1)]).await.unwrap();
    assert_eq!(texts(&found), ["a"]);
    assert_eq!(engine.route("SELECT * FROM docs").await.unwrap().side, vexact::router::Side::Olap);
    assert!(engine.query("SELECT * FROM nowhere", &[]).await.unwrap_err().to_string().contains("nowhere"));
}

#[tokio::test]
async fn own_tables_stand_beside_the_followed_ones() {
    let world = World::new();
    world.doc(1, "a", 100, 100);
    world.doc(2, "b", 100, 100);
    let engine = world.open_with(SidecarConfig { enable_oltp: true, ..world.sidecar() }).await;
    engine.execute("CREATE TABLE notes (doc INTEGER PRIMARY KEY, note TEXT)", &[]).await.unwrap();
    engine.execute("INSERT INTO notes VALUES (2, 'n')", &[]).await.unwrap();
    assert_eq!(sync(&engine).await, (2, 0, 0));
    assert_eq!(ask(&engine, "SELECT note FROM notes").await, ["n"]);
    assert_eq!(docs(&engine).await, ["1|a", "2|b"]);
    let join = "SELECT body, note FROM docs JOIN notes ON notes.doc = docs.id";
    let error = engine.query(join, &[]).await.unwrap_err().to_string();
    assert!(error.contains("\"notes\" is not replicated") && error.contains("\"docs\""), "{error}");
    let columns = [("doc".to_owned(), "int64".to_owned()), ("note".to_owned(), "utf8".to_owned())];
    let schema = TableSchema::try_new("notes", &columns, &["doc".into()]).unwrap();
    engine.register_table(schema, true).await.unwrap();
    assert_eq!(ask(&engine, join).await, ["b|n"]);
    engine.execute("INSERT INTO notes VALUES (1, 'm')", &[]).await.unwrap();
    world.doc(1, "c", 100, 200);
    assert_eq!(sync_all(&engine).await, (1, 1, 0));
    assert_eq!(ask(&engine, &format!("{join} ORDER BY doc")).await, ["c|m", "b|n"]);
    let status = engine.sync_status().await.unwrap();
    let rows: Vec<(String, u64)> = status.tables.into_iter().map(|table| (table.name, table.rows)).collect();
    assert_eq!(rows, [("docs".into(), 2), ("notes".into(), 2)]);
}

#[tokio::test]
async fn names_that_clash_are_refused() {
    let world = World::new();
    let config = SidecarConfig { enable_oltp: true, ..world.sidecar() };
    let engine = world.open_with(config.clone()).await;
    for sql in ["CREATE TABLE Docs (x)", "CREATE VIEW docs AS SELECT 1", "CREATE TEMP TABLE docs (x)"] {
        let error = engine.execute(sql, &[]).await.unwrap_err().to_string();
        assert!(error.contains("one that the sidecar follows"), "{error}");
    }
    let schema = TableSchema::try_new("DOCS", &[("id".into(), "int64".into())], &["id".into()]).unwrap();
    assert!(engine.register_table(schema, false).await.unwrap_err().to_string().contains("is followed in"));
    // The followed table hides another program's table, and the next engine reports it.
    rusqlite::Connection::open(world.path("own.db")).unwrap().execute("CREATE TABLE docs (x)", []).unwrap();
    world.doc(1, "a", 100, 100);
    sync(&engine).await;
    assert_eq!(docs(&engine).await, ["1|a"]);
    engine.shutdown().await;
    let config = HtapConfig { oltp_path: world.path("own.db"), sidecar: Some(config), ..HtapConfig::default() };
    let error = HtapEngine::open(config).await.unwrap_err().to_string();
    assert!(error.contains("\"docs\", which is also one that the sidecar follows"), "{error}");
}

#[tokio::test]
async fn followed_vectors_are_searched() {
    let world = World::with(
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, v \"vector(2)\", created_at INTEGER, updated_at INTEGER);
         INSERT INTO docs VALUES (1, x'0000803f00000000', 100, 100), (2, x'000000000000803f', 100, 100)",
    );
    let engine = world.open().await;
    let search = VectorSearch {
        table: "docs".into(),
        column: "v".into(),
        query: QueryVectors::One(vec![0.0, 1.0]),
        top_k: 1,
        metric: vexact_kernel::Metric::Cosine,
        filter: None,
        params: None,
        min_score: None,
        group_by: None,
        columns: Vec::new(),
    };
    // The search is fresh: it polls the source first.
    assert_eq!(texts(&engine.vector_search(&search, true).await.unwrap()), ["2|0.0"]);
    world.run(
        "UPDATE docs SET v = CASE id WHEN 1 THEN x'000000000000803f' ELSE x'0000803f00000000' END, updated_at = 101",
    );
    assert_eq!(texts(&engine.vector_search(&search, true).await.unwrap()), ["1|0.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_background_sync_follows_and_ends() {
    let world = World::new();
    world.doc(1, "a", 100, 100);
    let engine = world.open_with(SidecarConfig { poll_batch_size: 1, ..world.sidecar() }).await;
    engine.start_sync(std::time::Duration::from_millis(1));
    world.doc(2, "b", 101, 101);
    while engine.sync_status().await.unwrap().last_synced_seq != Some(2) {
        tokio::task::yield_now().await;
    }
    assert_eq!(docs(&engine).await, ["1|a", "2|b"]);
    engine.stop_sync();
    engine.stop_sync();
}
