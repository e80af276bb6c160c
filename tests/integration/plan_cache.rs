//! Queries of an engine whose plans it keeps: they see what was written since, and a table that became another.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use tokio::runtime::Runtime;
use vexact::htap::{HtapConfig, HtapEngine, Param};
use vexact::kernel::Metric;
use vexact::{QueryVectors, TableSchema, VectorSearch};

const DIM: usize = 20;
const ROWS: i64 = 50;

fn vector(seed: i64) -> Vec<f32> {
    (0..DIM as i64).map(|i| ((seed * 31 + i * 17) % 19 - 9) as f32 / 4.0).collect()
}

fn ids(batches: &[RecordBatch]) -> Vec<i64> {
    let ids = |batch: &RecordBatch| batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec();
    batches.iter().flat_map(ids).collect()
}

fn schema(name: &str, note: &str) -> TableSchema {
    let vectors = format!("vector({DIM})");
    let columns = [("id", "int64"), ("v", vectors.as_str()), (note, "utf8")];
    let columns = columns.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    TableSchema::try_new(name, &columns, &["id".into()]).unwrap()
}

async fn open(folder: &tempfile::TempDir) -> HtapEngine {
    let config = HtapConfig { oltp_path: folder.path().join("app.db"), ..HtapConfig::default() };
    let engine = HtapEngine::open(config).await.unwrap();
    engine.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, v BLOB, note TEXT)", &[]).await.unwrap();
    let rows: Vec<Vec<Param>> = (0..ROWS)
        .map(|id| vec![Param::Integer(id), Param::Vector(vector(id)), Param::Text(format!("n{id}"))])
        .collect();
    engine.execute_many("INSERT INTO docs VALUES (?, ?, ?)", &rows).await.unwrap();
    engine.register_table(schema("docs", "note"), true).await.unwrap();
    engine
}

#[test]
fn searches_by_sql_find_what_searches_by_call_find_after_each_sync() {
    let folder = tempfile::tempdir().unwrap();
    Runtime::new().unwrap().block_on(async {
        let engine = open(&folder).await;
        for round in 0..6 {
            let query = vector(round + 2);
            let search = VectorSearch {
                table: "docs".into(),
                column: "v".into(),
                query: QueryVectors::one(&query),
                top_k: 5,
                metric: Metric::L2,
                filter: Some("note <> 'n4'".into()),
                params: None,
                columns: vec![],
            };
            let expected = ids(&engine.vector_search(&search, false).await.unwrap());
            assert_eq!(expected.len(), 5);
            let sql = |query: &str| {
                format!("SELECT ID FROM Docs WHERE note <> 'n4' ORDER BY l2_distance(V, {query}) LIMIT 5")
            };
            let literal = format!("'{query:?}'");
            for (text, params) in [(sql("?"), vec![Param::Vector(query.clone())]), (sql(&literal), vec![])] {
                assert_eq!(ids(&engine.query_olap(&text, &params).await.unwrap()), expected, "{text}, round {round}");
                assert_eq!(ids(&engine.query(&text, &params).await.unwrap()), expected, "{text}, round {round}");
            }
            let moved: Vec<Vec<Param>> = (0..9)
                .map(|i| vec![Param::Vector(vector(i * 3 + round)), Param::Integer((i * 7 + round) % ROWS)])
                .collect();
            engine.execute_many("UPDATE docs SET v = ? WHERE id = ?", &moved).await.unwrap();
            engine.execute("DELETE FROM docs WHERE id = ?", &[Param::Integer(round * 5)]).await.unwrap();
            engine.sync_all().await.unwrap();
        }
    });
}

#[test]
fn a_table_that_was_made_again_is_planned_anew() {
    let folder = tempfile::tempdir().unwrap();
    Runtime::new().unwrap().block_on(async {
        let engine = open(&folder).await;
        let sql = "SELECT note, count(*) AS n FROM docs WHERE id < $1 GROUP BY note ORDER BY note LIMIT 1";
        let all = "SELECT * FROM docs WHERE id < $1 ORDER BY l2_distance(v, $2) LIMIT 1";
        let params = [Param::Integer(7), Param::Vector(vector(3))];
        for _ in 0..2 {
            let counted = engine.query_olap(sql, &params[..1]).await.unwrap();
            assert_eq!(counted[0].schema().field(0).name(), "note");
            let found = engine.query_olap(all, &params).await.unwrap();
            assert_eq!((ids(&found), found[0].num_columns()), (vec![3], 3));
        }
        let alter = "ALTER TABLE docs ADD COLUMN size INTEGER DEFAULT 8";
        engine.execute(alter, &[]).await.unwrap();
        engine.add_column("docs", "size", vexact::ColumnType::parse("int64").unwrap()).await.unwrap();
        let found = engine.query_olap(all, &params).await.unwrap();
        assert_eq!((ids(&found), found[0].num_columns()), (vec![3], 4));
        engine.drop_column("docs", "note").await.unwrap();
        let error = engine.query_olap(sql, &params[..1]).await.unwrap_err().to_string();
        assert!(error.contains("note"), "{error}");
        let found = engine.query_olap(all, &params).await.unwrap();
        assert_eq!((ids(&found), found[0].num_columns()), (vec![3], 3));
    });
}
