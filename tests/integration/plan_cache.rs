//! Cached plans give the answers of new ones: over the SQL files, over rows that change, over
//! tables that are replaced.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use sqllogictest::{DefaultColumnType, Record};
use tokio::runtime::Runtime;
use vexact::Session;
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
                min_score: None,
                group_by: None,
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

/// Returns a session with the tables of the SQL files.
async fn documents(folder: &std::path::Path) -> Session {
    let session = Session::new().unwrap();
    let docs = crate::sql::documents_batch();
    let listed = crate::sql::listed_batch();
    for (name, batch) in [("docs", docs.clone()), ("docs_list", listed)] {
        let frame = session.create_dataframe_from_arrow(batch.schema(), vec![batch]).unwrap();
        session.create_temp_view(name, &frame).unwrap();
    }
    let path = folder.join("docs.parquet");
    if !path.exists() {
        let frame = session.sql("SELECT * FROM docs", None).await.unwrap();
        frame.write_parquet(&path).await.unwrap();
    }
    session.create_temp_view("docs_parquet", &session.read_parquet(&path).await.unwrap()).unwrap();
    let rows = MemTable::try_new(docs.schema(), vec![vec![docs]]).unwrap();
    session.name_table("docs_mem", Arc::new(rows)).unwrap();
    session
}

/// Returns the columns and rows of a query, or its error. Rows are sorted if the query leaves their
/// order open.
async fn shown(session: &Session, sql: &str) -> String {
    // Further on, an error may show addresses, or one of several names that are as close to a wrong
    // one.
    let told = |error: vexact::Error| {
        let text = error.to_string();
        text.lines().next().unwrap_or_default().chars().take(100).collect::<String>()
    };
    let frame = match session.sql(sql, None).await {
        Ok(frame) => frame,
        Err(error) => return told(error),
    };
    match frame.collect().await {
        Ok(rows) => {
            let table = pretty_format_batches(&rows).unwrap().to_string();
            let mut lines: Vec<&str> = table.lines().collect();
            if !sql.contains("ORDER BY") {
                lines.sort_unstable();
            }
            format!("{}\n{}", frame.schema(), lines.join("\n"))
        }
        Err(error) => told(error),
    }
}

#[test]
fn cache_on_equals_cache_off_for_the_sql_files() {
    let folder = tempfile::tempdir().unwrap();
    let files = std::fs::read_dir("tests/sql").unwrap().map(|entry| entry.unwrap().path());
    let (mut queries, mut differences) = (0, Vec::new());
    Runtime::new().unwrap().block_on(async {
        for file in files {
            let (cached, uncached) = (documents(folder.path()).await, documents(folder.path()).await);
            // Access to the session's context disables its plan cache.
            uncached.context();
            for record in sqllogictest::parse_file::<DefaultColumnType>(&file).unwrap() {
                match record {
                    // Never cached; its times and the order of its columns differ.
                    Record::Query { sql, .. } if sql.contains("EXPLAIN") => {}
                    Record::Query { sql, .. } => {
                        let expected = shown(&uncached, &sql).await;
                        let answers = [shown(&cached, &sql).await, shown(&cached, &sql).await];
                        queries += 1;
                        if answers.iter().any(|answer| *answer != expected) {
                            differences.push(format!("{sql}\nexpected {expected}\ngot {answers:#?}"));
                        }
                    }
                    Record::Statement { sql, .. } => {
                        let (expected, got) = (shown(&uncached, &sql).await, shown(&cached, &sql).await);
                        if got != expected {
                            differences.push(format!("{sql}\nexpected {expected}\ngot {got}"));
                        }
                    }
                    _ => {}
                }
            }
        }
    });
    assert!(queries > 300, "{queries} queries");
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

#[test]
fn query_of_a_sessions_own_table_leaves_the_cache_on() {
    let folder = tempfile::tempdir().unwrap();
    Runtime::new().unwrap().block_on(async {
        let engine = open(&folder).await;
        let own = engine.query_olap("SELECT 7 AS id", &[]).await.unwrap().remove(0);
        let frame = engine.session().create_dataframe_from_arrow(own.schema(), vec![own]).unwrap();
        engine.session().create_temp_view("own", &frame).unwrap();
        let search = "SELECT id FROM docs ORDER BY l2_distance(v, $1) LIMIT 3";
        let params = [Param::Vector(vector(4))];
        engine.query_olap(search, &params).await.unwrap();
        assert!(engine.session().has_cached_plans());
        assert_eq!(ids(&engine.query("SELECT id FROM own", &[]).await.unwrap()), [7]);
        assert!(engine.session().has_cached_plans());
        engine.query_olap(search, &params).await.unwrap();
        assert!(engine.session().has_cached_plans());
    });
}
