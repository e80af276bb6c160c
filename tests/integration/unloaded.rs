//! Searches of replicas that lack the rows of their tables.

use vexact::htap::{HtapConfig, HtapEngine};
use vexact::kernel::Metric;
use vexact::sidecar::{SidecarConfig, TimestampTableConfig};
use vexact::{ColumnType, QueryVectors, TableSchema, VectorSearch};

const SEARCHES: [&str; 6] = [
    "SELECT id FROM vector_search('docs', 'v', [1.0, 2.0], 1)",
    "SELECT id FROM Docs ORDER BY l2_distance(v, [1.0, 2.0]) LIMIT 1",
    "SELECT id FROM docs WHERE cosine_distance(v, [1.0, 2.0]) < 0.5",
    "SELECT max(inner_product(v, [1.0, 2.0])) FROM docs",
    "SELECT * FROM vector_join('docs', 'v', 'docs', 'v', 1)",
    "SELECT id FROM (SELECT id, v FROM docs) AS q ORDER BY cosine_distance(v, [1.0, 2.0]) LIMIT 1",
];

fn search() -> VectorSearch {
    VectorSearch {
        table: "docs".into(),
        column: "v".into(),
        query: QueryVectors::One(vec![1.0, 2.0]),
        top_k: 1,
        metric: Metric::Cosine,
        filter: None,
        params: None,
        min_score: None,
        group_by: None,
        columns: Vec::new(),
    }
}

/// Asserts that each search fails with this text, or that each one succeeds.
async fn assert_refused(engine: &HtapEngine, refusal: Option<&str>) {
    let session = engine.session();
    let mut outcomes = Vec::new();
    let by_operator = "SELECT id FROM docs ORDER BY v <-> '[1,2]' LIMIT 1";
    outcomes.push((by_operator, async { session.sql(by_operator, None).await?.collect().await }.await.map(drop)));
    for sql in SEARCHES {
        outcomes.push((sql, engine.query(sql, &[]).await.map(drop)));
        outcomes.push((sql, engine.query_olap(sql, &[]).await.map(drop)));
        // Twice, as its plan is cached.
        for _ in 0..2 {
            outcomes.push((sql, async { session.sql(sql, None).await?.collect().await }.await.map(drop)));
        }
    }
    outcomes.push(("a call of the engine", engine.vector_search(&search(), false).await.map(drop)));
    outcomes.push(("a call of the session", session.vector_search(&search()).await.map(drop)));
    outcomes.push((
        "a call on a view",
        session.vector_search(&VectorSearch { table: "seen".into(), ..search() }).await.map(drop),
    ));
    for (how, outcome) in outcomes {
        match (outcome, refusal) {
            (Err(error), Some(refusal)) => assert!(error.to_string().contains(refusal), "{how}: {error}"),
            (Ok(()), None) => {}
            (outcome, _) => panic!("{how}: {outcome:?}, expected {refusal:?}"),
        }
    }
    // Queries that are no search still work.
    session.sql("SELECT count(*) FROM docs", None).await.unwrap().collect().await.unwrap();
}

#[tokio::test]
async fn searches_of_tables_without_their_rows_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let engine = HtapEngine::open(HtapConfig { oltp_path: path.clone(), ..HtapConfig::default() }).await.unwrap();
    engine
        .execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, v BLOB, created_at INTEGER, updated_at INTEGER)", &[])
        .await
        .unwrap();
    engine.execute("INSERT INTO docs VALUES (1, vector('[1,2]'), 5, 5)", &[]).await.unwrap();
    let columns = [("id", "int64"), ("v", "vector(2)")].map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    let schema = TableSchema::try_new("docs", &columns, &["id".into()]).unwrap();
    engine.register_table(schema, false).await.unwrap();
    let view = engine.session().sql("SELECT id, v FROM docs", None).await.unwrap();
    engine.session().create_temp_view("seen", &view).unwrap();
    assert_refused(&engine, Some("initial_sync(\"docs\") loads them")).await;
    engine.initial_sync("docs").await.unwrap();
    assert_refused(&engine, None).await;

    let table = TimestampTableConfig {
        table_name: "docs".into(),
        primary_key: vec!["id".into()],
        created_at_column: "created_at".into(),
        updated_at_column: "updated_at".into(),
        columns: vec!["v".into()],
        column_types: vec![("v".into(), ColumnType::parse("vector(2)").unwrap())],
    };
    let sidecar = Some(SidecarConfig::new(path.display().to_string(), vec![table]));
    let follower = HtapEngine::open(HtapConfig { sidecar, ..HtapConfig::default() }).await.unwrap();
    let view = follower.session().sql("SELECT id, v FROM docs", None).await.unwrap();
    follower.session().create_temp_view("seen", &view).unwrap();
    assert_refused(&follower, Some("was never read from its source")).await;
    follower.sync_all().await.unwrap();
    assert_refused(&follower, None).await;
}

#[tokio::test]
async fn a_session_does_not_drop_a_replica() {
    let folder = tempfile::tempdir().unwrap();
    let config = HtapConfig { oltp_path: folder.path().join("a.db"), ..HtapConfig::default() };
    let engine = HtapEngine::open(config).await.unwrap();
    engine.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY)", &[]).await.unwrap();
    let schema = TableSchema::try_new("docs", &[("id".into(), "int64".into())], &["id".into()]).unwrap();
    engine.register_table(schema, true).await.unwrap();
    let session = engine.session();
    for sql in [
        "DROP TABLE docs",
        "DROP TABLE IF EXISTS docs",
        "DROP VIEW docs",
        "CREATE OR REPLACE TABLE docs(id INT)",
        "CREATE OR REPLACE VIEW docs AS SELECT 1 AS id",
        "DROP SCHEMA public CASCADE",
    ] {
        let outcome = async { session.sql(sql, None).await?.collect().await }.await;
        assert!(outcome.is_err(), "{sql}");
        let rows = session.sql("SELECT * FROM docs", None).await.unwrap().collect().await.unwrap();
        assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 0, "{sql}");
    }
    session.sql("CREATE TABLE own(id INT)", None).await.unwrap();
    session.sql("DROP TABLE own", None).await.unwrap();
    assert!(session.sql("SELECT * FROM own", None).await.is_err());
}
