//! An engine rejects all calls after a shutdown, and can be shut down again.

use std::sync::Arc;

use tokio::runtime::Runtime;
use vexact::htap::{HtapConfig, HtapEngine, Param};
use vexact::kernel::Metric;
use vexact::{QueryVectors, TableSchema, VectorSearch};

#[test]
fn calls_after_a_shutdown_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let config = HtapConfig { oltp_path: folder.path().join("app.db"), ..HtapConfig::default() };
    Runtime::new().unwrap().block_on(async {
        let engine = HtapEngine::open(config).await.unwrap();
        engine.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)", &[]).await.unwrap();
        let columns = [("id", "int64"), ("v", "vector(2)")].map(|(name, kind)| (name.to_owned(), kind.to_owned()));
        let schema = TableSchema::try_new("t", &columns, &["id".into()]).unwrap();
        engine.register_table(schema, true).await.unwrap();
        let row = [Param::Integer(1), Param::Vector(vec![1.0, 0.0])];
        engine.execute("INSERT INTO t VALUES (?, ?)", &row).await.unwrap();
        engine.sync_all().await.unwrap();
        let search = VectorSearch {
            table: "t".into(),
            column: "v".into(),
            query: QueryVectors::one(&[1.0_f32, 0.0]),
            top_k: 1,
            metric: Metric::L2,
            filter: None,
            params: None,
            min_score: None,
            group_by: None,
            columns: vec![],
        };
        assert_eq!(engine.vector_search(&search, false).await.unwrap()[0].num_rows(), 1);

        engine.shutdown().await;
        let refused = [
            engine.execute("DELETE FROM t", &[]).await.map(drop),
            engine.query("SELECT id FROM t", &[]).await.map(drop),
            engine.query_olap("SELECT count(*) FROM t", &[]).await.map(drop),
            engine.vector_search(&search, false).await.map(drop),
            engine.explain_vector_search(&search, false).await.map(drop),
            engine.sync_now().await.map(drop),
            engine.initial_sync("t").await.map(drop),
        ];
        for outcome in refused {
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains("the engine was shut down"), "{error}");
        }
        engine.shutdown().await;
    });
}

/// A read that would take years: the count of all rows of sixteen tables, joined without a
/// condition.
#[test]
fn a_shutdown_ends_what_is_being_read() {
    let folder = tempfile::tempdir().unwrap();
    let config = HtapConfig { oltp_path: folder.path().join("app.db"), ..HtapConfig::default() };
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Arc::new(HtapEngine::open(config).await.unwrap());
        engine.execute("CREATE TABLE t(id INTEGER PRIMARY KEY)", &[]).await.unwrap();
        let insert = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 100) INSERT INTO t SELECT id FROM n";
        engine.execute(insert, &[]).await.unwrap();
        let schema = TableSchema::try_new("t", &[("id".into(), "int64".into())], &["id".into()]).unwrap();
        engine.register_table(schema, true).await.unwrap();
        let tables: Vec<String> = (0..16).map(|at| format!("t AS t{at}")).collect();
        let sql = format!("SELECT sum(t0.id % 2 + t15.id) FROM {} WHERE t3.id + t7.id <> t9.id", tables.join(", "));
        let reads = ["query", "query_olap"].map(|call| {
            let (engine, sql) = (Arc::clone(&engine), sql.clone());
            tokio::spawn(async move {
                match call {
                    "query" => engine.query(&sql, &[]).await,
                    _ => engine.query_olap(&sql, &[]).await,
                }
            })
        });
        // The long queries have begun once a short one, queued behind them, has been answered.
        engine.query_olap("SELECT count(*) FROM t", &[]).await.unwrap();
        engine.shutdown().await;
        for read in reads {
            let error = read.await.unwrap().unwrap_err().to_string();
            assert!(error.contains("the engine was shut down"), "{error}");
        }
    });
    // Waits for threads that are still running.
    drop(runtime);
}
