//! Tests of an engine on DuckDB: its answers equal those of DataFusion on the same replicas.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use tempfile::TempDir;
use vexact_core::schema::TableSchema;
use vexact_replica::SyncMode;

use crate::{HtapConfig, HtapEngine, OlapBackend, Param};

const COLUMNS: [(&str, &str); 13] = [
    ("id", "int64"),
    ("Mixed Case", "utf8"),
    ("i8", "int8"),
    ("i16", "int16"),
    ("i32", "int32"),
    ("u32", "uint32"),
    ("u64", "uint64"),
    ("f16", "float16"),
    ("f32", "float32"),
    ("f64", "float64"),
    ("b", "bool"),
    ("bytes", "binary"),
    ("v", "vector(2)"),
];

async fn engine(folder: &TempDir, sync_mode: SyncMode) -> HtapEngine {
    let config = HtapConfig {
        oltp_path: folder.path().join("own.db"),
        olap_backend: OlapBackend::DuckDb,
        sync_mode,
        ..HtapConfig::default()
    };
    let engine = HtapEngine::open(config).await.unwrap();
    let columns: Vec<(String, String)> = COLUMNS.iter().map(|(name, of)| (name.to_string(), of.to_string())).collect();
    engine
        .execute(
            "CREATE TABLE kinds (id INTEGER PRIMARY KEY, \"Mixed Case\" TEXT, i8 INTEGER, i16 INTEGER, i32 INTEGER, u32 INTEGER,
                u64 INTEGER, f16 REAL, f32 REAL, f64 REAL, b INTEGER, bytes BLOB, v BLOB)",
            &[],
        )
        .await
        .unwrap();
    engine.register_table(TableSchema::try_new("kinds", &columns, &["id".into()]).unwrap(), false).await.unwrap();
    engine
}

/// Inserts rows with these keys; every seventh row has NULL in all other columns.
async fn fill(engine: &HtapEngine, rows: std::ops::Range<i64>) {
    let row = |id: i64| {
        let mut row = vec![Param::Integer(id)];
        match id % 7 {
            0 => row.extend(vec![Param::Null; COLUMNS.len() - 1]),
            part => row.extend([
                Param::Text(format!("é {}", id % 10)),
                Param::Integer(part - 3),
                Param::Integer(-part),
                Param::Integer(id * 3),
                Param::Integer(id),
                Param::Integer(i64::MAX - id),
                Param::Real(part as f64 / 4.0),
                Param::Real(id as f64 / 3.0),
                Param::Real(if part == 6 { f64::INFINITY } else { id as f64 / 3.0 }),
                Param::Integer(part % 2),
                Param::Bytes(vec![0, 255, part as u8]),
                Param::Vector(vec![id as f32, 1.0]),
            ]),
        }
        row
    };
    let marks = vec!["?"; COLUMNS.len()].join(", ");
    let rows: Vec<Vec<Param>> = rows.map(row).collect();
    engine.execute_many(&format!("INSERT INTO kinds VALUES ({marks})"), &rows).await.unwrap();
    engine.sync_all().await.unwrap();
}

fn one(batches: &[RecordBatch]) -> RecordBatch {
    concat_batches(&batches[0].schema(), batches).unwrap()
}

/// Checks that both answers are equal.
async fn agree(engine: &HtapEngine, sql: &str) {
    let duckdb = one(&engine.query_olap(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}")));
    let frame = engine.session().sql(sql, None).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let batches = frame.collect().await.unwrap();
    let datafusion = if batches.is_empty() { RecordBatch::new_empty(frame.schema()) } else { one(&batches) };
    assert_eq!(duckdb.schema(), datafusion.schema(), "{sql}");
    assert_eq!(duckdb, datafusion, "{sql}");
}

#[tokio::test]
async fn answers_and_types_are_those_of_datafusion() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&folder, SyncMode::Destructive).await;
    // The table has no rows.
    agree(&engine, "SELECT * FROM kinds ORDER BY id").await;
    agree(&engine, "SELECT count(*), sum(i32), max(\"Mixed Case\") FROM kinds").await;
    fill(&engine, 0..5000).await;
    // Deletes rows: a whole window that DuckDB takes at a time, and single ones. Then adds rows in
    // another segment.
    engine.execute("DELETE FROM kinds WHERE id BETWEEN 100 AND 4300 OR id % 13 = 0", &[]).await.unwrap();
    engine.sync_all().await.unwrap();
    fill(&engine, 5000..5100).await;
    for sql in [
        "SELECT * FROM kinds ORDER BY id",
        "SELECT v, f16, bytes FROM kinds WHERE id < 30 ORDER BY id DESC",
        "SELECT count(*) FROM kinds",
        "SELECT count(*), count(i8), count(DISTINCT \"Mixed Case\") FROM kinds",
        "SELECT sum(i8), sum(i32), sum(id), min(u64), max(f32), avg(i16), min(b), max(\"Mixed Case\") FROM kinds",
        "SELECT \"Mixed Case\", count(*) AS n, sum(i32) AS s FROM kinds GROUP BY \"Mixed Case\" ORDER BY \"Mixed Case\"",
        "SELECT i8, id FROM kinds WHERE id < 40 ORDER BY i8, id",
        "SELECT i8, id FROM kinds WHERE id < 40 ORDER BY i8 DESC, id",
        "SELECT a.id, b.id AS other FROM kinds AS a JOIN kinds AS b ON a.id = b.id + 1 WHERE a.id < 60 ORDER BY 1",
        "WITH kinds AS (SELECT id FROM public.kinds WHERE id < 9) SELECT k.id FROM kinds AS k JOIN public.kinds AS o ON o.id = k.id ORDER BY 1",
        "SELECT id, row_number() OVER (PARTITION BY b ORDER BY id) AS n FROM kinds WHERE id < 50 ORDER BY id",
        "SELECT id / 2 AS half, id % 3 AS rest, i32 * 2 AS twice FROM kinds WHERE id < 30 ORDER BY id",
        "SELECT id FROM kinds WHERE \"Mixed Case\" LIKE 'É%' OR \"Mixed Case\" LIKE '%3' ORDER BY id LIMIT 5",
        "SELECT id FROM kinds WHERE id IN (SELECT max(id) FROM kinds) UNION ALL SELECT 1 ORDER BY 1",
        "SELECT CASE WHEN b THEN 'yes' ELSE 'no' END AS word, count(*) FROM kinds GROUP BY 1 ORDER BY 1",
        "SELECT id FROM kinds WHERE id < 0 GROUP BY id",
        "SELECT 1 AS one, 'text' AS two, NULL AS three, 1.5 AS four",
    ] {
        agree(&engine, sql).await;
    }
}

#[tokio::test]
async fn both_ways_of_the_router_lead_to_duckdb_or_around_it() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&folder, SyncMode::Destructive).await;
    fill(&engine, 1..50).await;
    let texts = |batches: &[RecordBatch]| {
        format!("{:?}", one(batches).columns()).split_whitespace().collect::<Vec<_>>().concat()
    };
    // Only DuckDB has this function, so the types are DuckDB's.
    let found = engine.query("SELECT list(id ORDER BY id) AS ids FROM kinds WHERE id < 4", &[]).await.unwrap();
    assert!(texts(&found).contains("1,2,3,"), "{}", texts(&found));
    let sql = "SELECT count(*) AS n FROM KINDS WHERE ID > ? AND \"mixed case\" = $2";
    let params = [Param::Integer(10), Param::Text("é 3".into())];
    let found = engine.query(sql, &params).await.unwrap();
    assert!(texts(&found).contains("[4,]"), "{}", texts(&found));
    let plan = texts(&engine.query("EXPLAIN SELECT count(*) FROM kinds", &[]).await.unwrap());
    assert!(plan.contains("VEXACT_REPLICA") && plan.contains("olap:"), "{plan}");
    // Queries that only DataFusion supports.
    for sql in [
        "SELECT id FROM kinds WHERE v IS NOT NULL ORDER BY l2_distance(v, [3.0, 1.0]) LIMIT 1",
        "SELECT id FROM vector_search('kinds', 'v', [3.0, 1.0], 1, 'l2')",
        "SELECT value AS id FROM generate_series(3, 3)",
    ] {
        let found = one(&engine.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}")));
        assert!(texts(&[found]).contains("[3,]"), "{sql}");
    }
}

#[tokio::test]
async fn nothing_is_written_and_no_file_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&folder, SyncMode::Destructive).await;
    let file = folder.path().join("secret.csv");
    std::fs::write(&file, "a\n1\n").unwrap();
    let file = file.display();
    for sql in [
        "DELETE FROM kinds".to_owned(),
        "CREATE TABLE t (x int)".into(),
        "COPY kinds TO '/tmp/x.csv'".into(),
        "ATTACH 'x.db'".into(),
        "SET threads = 1".into(),
        "SELECT 1; SELECT 2".into(),
        format!("SELECT * FROM read_csv('{file}')"),
        format!("SELECT * FROM '{file}'"),
        format!("SELECT count(*) FROM \"{file}\""),
        format!("SELECT content, count(*) FROM read_text('{file}') GROUP BY 1"),
        "SELECT count(*) FROM query('SELECT 1')".into(),
        "SELECT count(*) FROM vexact_replica(0)".into(),
    ] {
        let error = engine.query_olap(&sql, &[]).await.expect_err(&sql).to_string();
        assert!(!error.is_empty(), "{sql}");
    }
    let error = engine.query_olap("SELECT CAST('x' || count(*) AS INT) FROM kinds", &[]).await.unwrap_err();
    assert!(error.to_string().starts_with("DuckDB: Conversion Error"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
    // The engine still works.
    agree(&engine, "SELECT count(*) FROM kinds").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_beside_writes_see_whole_states() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Arc::new(engine(&folder, SyncMode::Destructive).await);
    fill(&engine, 1..3000).await;
    let writer = {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move {
            for round in 1..20 {
                // The sum is unchanged.
                let moved =
                    ["UPDATE kinds SET u32 = u32 + 1 WHERE id = 1", "UPDATE kinds SET u32 = u32 - 1 WHERE id = 2998"];
                engine.execute_batch(moved.map(str::to_owned).to_vec()).await.unwrap();
                engine
                    .execute("DELETE FROM kinds WHERE u32 IS NULL AND id = ?", &[Param::Integer(7 * round)])
                    .await
                    .unwrap();
                engine.sync_all().await.unwrap();
            }
        })
    };
    let sum = "SELECT sum(a.u32) AS n FROM kinds AS a JOIN kinds AS b ON a.id = b.id";
    let first = one(&engine.query(sum, &[]).await.unwrap());
    while !writer.is_finished() {
        assert_eq!(one(&engine.query(sum, &[]).await.unwrap()), first);
    }
    writer.await.unwrap();
    assert_eq!(one(&engine.query(sum, &[]).await.unwrap()), first);
}

#[tokio::test]
async fn histories_are_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&folder, SyncMode::Temporal).await;
    fill(&engine, 1..20).await;
    engine.execute("UPDATE kinds SET i32 = 0 WHERE id < 5", &[]).await.unwrap();
    engine.sync_all().await.unwrap();
    agree(&engine, "SELECT _operation, count(*) AS n FROM kinds GROUP BY _operation ORDER BY 1").await;
    agree(&engine, "SELECT count(*) AS n FROM kinds WHERE _valid_to IS NULL").await;
    let found = one(&engine.query("SELECT count(*) AS n FROM as_of('kinds', 9223372036854775806)", &[]).await.unwrap());
    assert_eq!(found.column(0).len(), 1);
}
