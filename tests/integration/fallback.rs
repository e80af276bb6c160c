//! SQLite answers the queries that DataFusion cannot answer, and invalid queries report an error.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Signature, SimpleScalarUDF, Volatility};
use vexact::TableSchema;
use vexact::htap::{HtapConfig, HtapEngine};
use vexact::router::Side;

use crate::routes::rows;

async fn open(folder: &tempfile::TempDir) -> HtapEngine {
    let config = HtapConfig { oltp_path: folder.path().join("a.db"), ..HtapConfig::default() };
    let engine = HtapEngine::open(config).await.unwrap();
    engine.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, s TEXT)", &[]).await.unwrap();
    engine.execute("INSERT INTO t VALUES (1, 'a'), (2, 'B')", &[]).await.unwrap();
    let columns = [("id".into(), "int64".into()), ("s".into(), "utf8".into())];
    engine.register_table(TableSchema::try_new("t", &columns, &["id".into()]).unwrap(), true).await.unwrap();
    engine
}

/// Replaces `lower` on the replicas with a function that fails.
fn break_lower(engine: &HtapEngine, fail: fn() -> PlanResult<ColumnarValue>) {
    let signature = Signature::exact(vec![DataType::Utf8], Volatility::Immutable);
    let body = Arc::new(move |_: &[ColumnarValue]| fail());
    let lower = SimpleScalarUDF::new_with_signature("lower", signature, DataType::Utf8, body);
    engine.session().context().register_udf(ScalarUDF::from(lower));
}

const LOWER: &str = "SELECT DISTINCT lower(s) AS e FROM t ORDER BY e";

#[tokio::test]
async fn a_failure_on_a_value_is_sqlites_to_answer() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&folder).await;
    break_lower(&engine, || exec_err!("of a value"));
    assert_eq!(engine.route(LOWER).await.unwrap().side, Side::Olap);
    assert_eq!(rows(&engine.query(LOWER, &[]).await.unwrap()), ["a", "b"]);
    assert!(engine.query_olap(LOWER, &[]).await.unwrap_err().to_string().contains("of a value"));
}

#[tokio::test]
async fn a_bug_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&folder).await;
    break_lower(&engine, || internal_err!("of a bug"));
    let error = engine.query(LOWER, &[]).await.unwrap_err();
    assert!(error.to_string().contains("of a bug"), "{error}");
}

#[tokio::test]
async fn a_subquery_of_several_rows_has_its_first_as_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&folder).await;
    let query = "SELECT count(*), (SELECT id FROM t ORDER BY id) AS first FROM t";
    assert_eq!(rows(&engine.query(query, &[]).await.unwrap()), ["2 | 1"]);
}

#[tokio::test]
async fn the_route_says_what_datafusion_cannot_plan() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&folder).await;
    let query = "SELECT quote(s) AS e, count(*) FROM t GROUP BY quote(s) ORDER BY e";
    let route = engine.route(query).await.unwrap();
    assert_eq!((route.side, route.tables.len()), (Side::Sqlite, 0));
    assert!(route.reason.to_string().starts_with("DataFusion cannot plan it ("), "{}", route.reason);
    assert_eq!(rows(&engine.query(query, &[]).await.unwrap()), ["'B' | 1", "'a' | 1"]);
}

#[tokio::test]
async fn a_result_has_the_types_that_its_parts_settle() {
    let session = vexact::Session::new().unwrap();
    for (query, data_type) in [
        ("SELECT 1 AS e UNION ALL SELECT 2.5", DataType::Float64),
        ("SELECT NULL AS e UNION ALL SELECT 'a'", DataType::Utf8),
        ("SELECT CASE WHEN x > 1 THEN x ELSE 0.5 END AS e FROM (VALUES (1), (2)) AS v(x)", DataType::Float64),
    ] {
        let frame = session.sql(query, None).await.unwrap();
        assert_eq!(frame.schema().field(0).data_type(), &data_type, "{query}");
        for batch in frame.collect().await.unwrap() {
            assert_eq!(batch.column(0).data_type(), &data_type, "{query}");
        }
    }
}

#[tokio::test]
async fn a_plain_session_counts_per_row() {
    let session = vexact::Session::new().unwrap();
    for create in [
        "CREATE TABLE t AS SELECT * FROM (VALUES (1, 1), (2, 2)) AS v(id, k)",
        "CREATE TABLE u AS SELECT * FROM (VALUES (2, 5), (2, 6)) AS v(k, v)",
    ] {
        session.sql(create, None).await.unwrap();
    }
    for (query, expected) in [
        ("SELECT id, (SELECT count(*) FROM u WHERE u.k = t.k) AS n FROM t ORDER BY id", ["1 | 0", "2 | 2"]),
        ("SELECT id, (SELECT count(*) FROM u WHERE u.k = t.k) > 0 AS n FROM t ORDER BY id", ["1 | false", "2 | true"]),
        ("SELECT id, (SELECT max(v) FROM u WHERE u.k = t.k) AS n FROM t ORDER BY id", ["1 | NULL", "2 | 6"]),
        ("SELECT id, EXISTS (SELECT 1 FROM u WHERE u.k = t.k) AS e FROM t ORDER BY id", ["1 | false", "2 | true"]),
        (
            "SELECT id, NOT EXISTS (SELECT 1 FROM u WHERE u.k = t.k AND v > 5) AS e FROM t ORDER BY id",
            ["1 | true", "2 | false"],
        ),
        ("SELECT id FROM t ORDER BY (SELECT count(*) FROM u WHERE u.k = t.k) DESC, id", ["2", "1"]),
        ("SELECT sum((SELECT count(*) FROM u WHERE u.k = t.k)) AS n FROM t UNION ALL SELECT 0 ORDER BY n", ["0", "2"]),
        (
            "SELECT (SELECT max(v) FROM u WHERE u.k = t.k) AS m, count(*) FROM t
                GROUP BY (SELECT max(v) FROM u WHERE u.k = t.k) ORDER BY m NULLS FIRST",
            ["NULL | 1", "6 | 1"],
        ),
        ("SELECT id, (SELECT count(*) + 1 FROM u WHERE u.k = t.k) AS n FROM t ORDER BY id", ["1 | 1", "2 | 3"]),
    ] {
        let frame = session.sql(query, None).await.unwrap();
        assert_eq!(rows(&frame.collect().await.unwrap()), expected, "{query}");
    }
}

#[tokio::test]
async fn a_plain_session_refines_named_windows() {
    let session = vexact::Session::new().unwrap();
    let rows_of = "FROM (VALUES (1, 1), (1, 2), (2, 3)) AS v(k, x)";
    for query in [
        format!("SELECT x, sum(x) OVER (w ORDER BY x) AS e {rows_of} WINDOW w AS (PARTITION BY k) ORDER BY x"),
        format!("SELECT x, sum(x) OVER v AS e {rows_of} WINDOW w AS (PARTITION BY k), v AS (w ORDER BY x) ORDER BY x"),
        format!(
            "SELECT x, e FROM (SELECT x, sum(x) OVER (W ORDER BY x) AS e {rows_of} WINDOW w AS (PARTITION BY k)) AS q ORDER BY x"
        ),
    ] {
        let frame = session.sql(&query, None).await.unwrap();
        assert_eq!(rows(&frame.collect().await.unwrap()), ["1 | 1", "2 | 3", "3 | 3"], "{query}");
    }
}
