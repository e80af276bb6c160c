//! Text search and hybrid search of an engine: at one version with the vectors, after each change,
//! after reopening, and against the definition of the fusion.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use vexact::htap::{HtapConfig, HtapEngine, Param, StorageMode};
use vexact::kernel::Metric;
use vexact::sidecar::{SidecarConfig, TimestampTableConfig};
use vexact::{HybridSearch, QuerySyntax, QueryVectors, TableSchema, TextSearch, Tokenizer, VectorSearch};

const CREATE: &str = "CREATE TABLE Docs(id INTEGER PRIMARY KEY, lang TEXT, body TEXT, meta TEXT, v BLOB)";

fn schema() -> TableSchema {
    let columns = [("id", "int64"), ("lang", "utf8"), ("body", "utf8"), ("meta", "utf8"), ("v", "vector(2)")];
    TableSchema::try_new("Docs", &columns.map(|(a, b)| (a.into(), b.into())), &["id".into()]).unwrap()
}

async fn open(config: HtapConfig) -> HtapEngine {
    HtapEngine::open(config).await.unwrap()
}

fn in_memory(folder: &Path) -> HtapConfig {
    HtapConfig { oltp_path: folder.join("app.db"), ..HtapConfig::default() }
}

/// An engine with an indexed table.
async fn engine(folder: &Path) -> HtapEngine {
    let engine = open(in_memory(folder)).await;
    engine.execute(CREATE, &[]).await.unwrap();
    engine.register_table(schema(), true).await.unwrap();
    engine.register_text("docs", &["BODY".into()], Tokenizer::Unicode61).await.unwrap();
    engine
}

async fn run(engine: &HtapEngine, statements: &[&str]) {
    for sql in statements {
        engine.execute(sql, &[]).await.unwrap();
    }
    engine.sync_all().await.unwrap();
}

/// The first column of a query's rows, as integers.
async fn ids(engine: &HtapEngine, sql: &str) -> Vec<i64> {
    integers(&engine.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}")))
}

fn integers(batches: &[RecordBatch]) -> Vec<i64> {
    let column = |batch: &RecordBatch| {
        cast(batch.column(0), &DataType::Int64).unwrap().as_primitive::<Int64Type>().values().to_vec()
    };
    batches.iter().flat_map(column).collect()
}

async fn refusal(engine: &HtapEngine, sql: &str) -> String {
    engine.query(sql, &[]).await.map(drop).unwrap_err().to_string()
}

fn search(words: &str) -> TextSearch {
    TextSearch {
        table: "DOCS".into(),
        column: "Body".into(),
        words: words.into(),
        syntax: QuerySyntax::Any,
        top_k: Some(10),
        filter: None,
        params: None,
        leading: Vec::new(),
        columns: vec!["lang".into()],
    }
}

const ROWS: [&str; 6] = [
    "INSERT INTO docs VALUES (1, 'en', 'lithium battery', '{\"page\": 3, \"tags\": [\"a\"]}', vector('[1,0]'))",
    "INSERT INTO docs VALUES (2, 'en', 'a battery of tests', '{\"page\": 4}', vector('[0.9,0.1]'))",
    "INSERT INTO docs VALUES (3, 'de', 'Lithium und Batterie', '{\"page\": 3}', vector('[0,1]'))",
    "INSERT INTO docs VALUES (4, 'en', NULL, NULL, vector('[0.5,0.5]'))",
    "INSERT INTO docs VALUES (5, 'en', '', '{\"page\": 3}', NULL)",
    "INSERT INTO docs VALUES (6, 'fr', 'batterie au lithium', '{\"page\": 9, \"tags\": [\"b\", \"a\"]}', vector('[-1,0]'))",
];

#[tokio::test(flavor = "multi_thread")]
async fn text_follows_inserts_updates_deletes_and_key_changes() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    run(&engine, &ROWS).await;
    let all = "SELECT id FROM text_search('docs', 'body', 'battery', NULL)";
    assert_eq!(ids(&engine, all).await, [1, 2]);
    assert_eq!(ids(&engine, "SELECT id FROM text_search('DOCS', 'Body', 'lithium', 2)").await.len(), 2);
    run(&engine, &["UPDATE docs SET body = 'a solar cell' WHERE id = 1", "UPDATE docs SET lang = 'xx' WHERE id = 2"])
        .await;
    assert_eq!(ids(&engine, all).await, [2]);
    run(&engine, &["UPDATE docs SET id = 20 WHERE id = 2", "UPDATE docs SET body = 'battery' WHERE id = 4"]).await;
    assert_eq!(ids(&engine, all).await, [4, 20]);
    run(&engine, &["UPDATE docs SET body = NULL WHERE id = 20"]).await;
    assert_eq!(ids(&engine, all).await, [4]);
    run(&engine, &["DELETE FROM docs WHERE id = 4", "REPLACE INTO docs(id, body) VALUES (5, 'battery battery')"]).await;
    assert_eq!(ids(&engine, all).await, [5]);
    run(&engine, &["DELETE FROM docs"]).await;
    assert_eq!(ids(&engine, all).await, [0_i64; 0]);
    run(&engine, &["INSERT INTO docs(id, body) VALUES (7, 'new battery')"]).await;
    assert_eq!(ids(&engine, all).await, [7]);
    // A copy replaces the rows.
    engine.initial_sync("docs").await.unwrap();
    assert_eq!(ids(&engine, all).await, [7]);
    engine.unregister_text("docs", &[]).await.unwrap();
    let error = refusal(&engine, all).await;
    assert!(error.contains("has no text index: expected one (register_text(\"Docs\", [\"body\"])"), "{error}");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_words_are_never_a_syntax_error() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    run(&engine, &ROWS).await;
    let by_param = "SELECT id FROM text_search('docs', 'body', $1, 10)";
    let long = "battery ".repeat(3_000);
    let cases: &[(&str, &[i64])] = &[
        ("\"battery\"", &[1, 2]),
        ("battery OR", &[1, 2]),
        ("AND NOT (", &[]),
        ("batt*", &[]),
        ("body:battery", &[]),
        ("^battery", &[1, 2]),
        ("", &[]),
        (" \t\n", &[]),
        ("!!! ... ???", &[]),
        ("--; DROP TABLE docs", &[]),
        ("bat\0tery battery", &[1, 2]),
        ("電池", &[]),
        ("'battery'", &[1, 2]),
        (&long, &[1, 2]),
    ];
    for (words, expected) in cases {
        let found = engine.query(by_param, &[Param::Text((*words).into())]).await;
        let mut found = integers(&found.unwrap_or_else(|error| panic!("{words:?}: {error}")));
        found.sort_unstable();
        assert_eq!(found, *expected, "{words:?}");
    }
    let syntax = |words: &str, syntax: &str| {
        format!("SELECT id FROM text_search('docs', 'body', '{words}', 10, query_syntax => '{syntax}') ORDER BY id")
    };
    assert_eq!(ids(&engine, &syntax("lithium battery", "all")).await, [1]);
    assert_eq!(ids(&engine, &syntax("lithium ! battery", "all")).await, [1]);
    assert_eq!(ids(&engine, &syntax("lithium battery", "ANY")).await, [1, 2, 3, 6]);
    assert_eq!(ids(&engine, &syntax("lithium NOT batterie", "fts5")).await, [1]);
    assert_eq!(ids(&engine, &syntax("batt*", "fts5")).await, [1, 2, 3, 6]);
    assert_eq!(ids(&engine, &syntax("", "fts5")).await, [0_i64; 0]);
    let error = refusal(&engine, &syntax("battery AND (", "fts5")).await;
    assert!(error.contains("fts5: syntax error"), "{error}");
    for (sql, expected) in [
        ("SELECT * FROM text_search('docs', 'body')", "expected (table, column, words, k"),
        ("SELECT * FROM text_search('docs', 'nope', 'a', 1)", "expected one of its text columns [lang, body, meta]"),
        ("SELECT * FROM text_search('docs', 'id', 'a', 1)", "expected text, got Int64"),
        ("SELECT * FROM text_search('docs', 'lang', 'a', 1)", "has no text index"),
        ("SELECT * FROM text_search('docs', 'lang', '', 1)", "has no text index"),
        (
            "SELECT * FROM text_search('docs', 'body', 'a', 0)",
            "k: expected a whole number of at least 1 or NULL, got 0",
        ),
        ("SELECT * FROM text_search('docs', 'body', 'a', 1, query_syntax => 'or')", "expected any, all or fts5"),
        ("SELECT * FROM text_search('docs', 'body', 'a', 1, wrong => 1)", "expected an argument of [table, column"),
        ("SELECT * FROM text_search('docs', 'body', 'a', 1, filter => 'nope = 1')", "nope"),
        ("SELECT * FROM hybrid_search('docs', 'v', [1.0, 0.0], 'body', 'a', 0)", "k: expected a whole number"),
        (
            "SELECT * FROM hybrid_search('docs', 'v', [1.0, 0.0], 'body', 'a', 1, weight => 2)",
            "weight: expected a number from 0 to 1",
        ),
        (
            "SELECT * FROM hybrid_search('docs', 'v', [1.0, 0.0], 'body', 'a', 1, depth => 0)",
            "depth: expected a whole number",
        ),
        ("SELECT * FROM hybrid_search('docs', 'v', [1.0], 'body', 'a', 1)", "expected"),
    ] {
        let error = refusal(&engine, sql).await;
        assert!(error.contains(expected), "{sql}: {error}");
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_rows_that_fulfil_the_filter_are_ranked() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    run(&engine, &ROWS).await;
    let filtered = |filter: &str| {
        let filter = filter.replace('\'', "''");
        format!(
            "SELECT text_rank, id FROM text_search('docs', 'body', 'lithium batterie battery', 10, filter => '{filter}')"
        )
    };
    for (filter, count) in [
        ("LANG = 'en'", 2),
        ("json_extract(meta, '$.page') = 3", 2),
        ("lang = 'en' AND json_extract(meta, '$.page') = 3", 1),
        ("meta ->> '$.page' = 9", 1),
        ("EXISTS (SELECT 1 FROM json_each(meta, '$.tags') WHERE value = 'a')", 2),
        ("body GLOB 'a *'", 1),
        ("id IN (1, 2) OR json_valid(meta)", 4),
    ] {
        assert_eq!(ids(&engine, &filtered(filter)).await, (1..=count).collect::<Vec<i64>>(), "{filter}");
    }
    let vectors = |filter: &str| {
        let filter = filter.replace('\'', "''");
        format!("SELECT id FROM vector_search('docs', 'v', [1.0, 0.0], 10, 'cosine', '{filter}')")
    };
    assert_eq!(ids(&engine, &vectors("json_extract(meta, '$.page') = 3")).await, [1, 3]);
    assert_eq!(ids(&engine, &vectors("text_match(body, 'lithium')")).await, [1, 3, 6]);
    assert_eq!(ids(&engine, &vectors("text_match(body, 'lithium battery', 'all')")).await, [1]);
    assert_eq!(ids(&engine, &vectors("text_match(body, 'lithium') AND json_extract(meta, '$.page') > 3")).await, [6]);
    assert_eq!(ids(&engine, &vectors("text_match(body, '') OR id = 2")).await, [2]);
    let error = refusal(&engine, &vectors("no_such(meta) = 3")).await;
    assert!(error.contains("no_such"), "{error}");
    let error = refusal(&engine, &vectors("json_extract(meta, '$.page') = \"three\"")).await;
    assert!(error.contains("three") || error.contains("json_extract"), "{error}");
    // By call, with a value for a placeholder.
    let by_call = TextSearch { filter: Some("json_extract(META, '$.page') = $1".into()), ..search("lithium battery") };
    let values = vexact::htap::bound_filter("json_extract(META, '$.page') = ?", vec![Param::Integer(3)]).unwrap();
    assert_eq!(values.0, by_call.filter.clone().unwrap());
    let found = engine.text_search(&TextSearch { params: values.1, ..by_call }, false).await.unwrap();
    assert_eq!(integers(&found), [1, 3]);
    let names: Vec<String> = found[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "text_score", "text_rank", "lang"]);
    // None found: the columns are the same.
    let none = engine.text_search(&search("absent"), true).await.unwrap();
    assert_eq!((none[0].num_rows(), none[0].num_columns()), (0, 4));
    engine.shutdown().await;
}

/// Reciprocal rank fusion from its definition, over two lists of keys, best first.
fn fused(vectors: &[i64], texts: &[i64], rrf_k: f64, weight: f64) -> Vec<(i64, f64)> {
    let mut scores: BTreeMap<i64, f64> = BTreeMap::new();
    for (list, weight) in [(vectors, weight), (texts, 1.0 - weight)] {
        for (rank, key) in list.iter().enumerate() {
            *scores.entry(*key).or_default() += 2.0 * weight / (rrf_k + rank as f64 + 1.0);
        }
    }
    let mut scores: Vec<(i64, f64)> = scores.into_iter().collect();
    scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    scores
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hybrid_search_is_the_fusion_of_its_two_searches() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let words = ["battery", "lithium", "cell", "solar", "grid"];
    let rows = (0..400_i64).map(|id| {
        let text = (0..id % 6).map(|at| words[((id * 7 + at * id) % 5) as usize]).collect::<Vec<_>>().join(" ");
        // Many rows tie.
        format!(
            "({id}, 'l{}', '{text}', '{{\"page\": {}}}', vector('[{},{}]'))",
            id % 3,
            id % 10,
            id % 17,
            (id * 5) % 13 + 1
        )
    });
    let rows = rows.collect::<Vec<_>>().join(", ");
    run(&engine, &[&format!("INSERT INTO docs VALUES {rows}")]).await;
    for (metric, rrf_k, depth, weight, filter) in [
        (Metric::Cosine, 60.0, Some(100), 0.5, None),
        (Metric::L2, 1.0, Some(7), 0.8, None),
        (Metric::Dot, 60.0, None, 0.25, Some("lang = 'l1'")),
        (Metric::Cosine, 0.0, Some(20), 0.5, Some("json_extract(meta, '$.page') < 5")),
    ] {
        let listed = depth.map_or("1000000".to_owned(), |depth| depth.to_string());
        let literal = filter.map_or("NULL".to_owned(), |filter| format!("'{}'", filter.replace('\'', "''")));
        let name = metric.name();
        let vectors = ids(
            &engine,
            &format!("SELECT id FROM vector_search('docs', 'v', [3.0, 4.0], {listed}, '{name}', {literal})"),
        )
        .await;
        let texts = ids(
            &engine,
            &format!("SELECT id FROM text_search('docs', 'body', 'lithium battery', {listed}, {literal})"),
        )
        .await;
        assert!(vectors.len() > 5 && texts.len() > 5);
        let expected = fused(&vectors, &texts, rrf_k, weight);
        let depth_text = depth.map_or("NULL".to_owned(), |depth| depth.to_string());
        let sql = format!(
            "SELECT id, score, vector_rank, text_rank, vector_score, text_score, body FROM hybrid_search('docs', 'v', [3.0, 4.0], \
             'body', 'lithium battery', 25, metric => '{name}', filter => {literal}, rrf_k => {rrf_k}, depth => {depth_text}, \
             weight => {weight})"
        );
        let found = engine.query(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let scores: Vec<f64> =
            found.iter().flat_map(|batch| batch.column(1).as_primitive::<Float64Type>().values().to_vec()).collect();
        let found_ids = integers(&found);
        let got: Vec<(i64, f64)> = found_ids.iter().copied().zip(scores).collect();
        assert_eq!(got, expected[..25.min(expected.len())], "{sql}");
        for batch in &found {
            let (id, vector_rank, text_rank) = (batch.column(0), batch.column(2), batch.column(3));
            for row in 0..batch.num_rows() {
                let id = id.as_primitive::<Int64Type>().value(row);
                for (ranks, scores, list) in
                    [(vector_rank, batch.column(4), &vectors), (text_rank, batch.column(5), &texts)]
                {
                    let place = list.iter().position(|listed| *listed == id).map(|place| place as i64 + 1);
                    let rank = ranks.is_valid(row).then(|| ranks.as_primitive::<Int64Type>().value(row));
                    assert_eq!((rank, scores.is_valid(row)), (place, place.is_some()), "{sql}, row {id}");
                }
            }
        }
        // By call.
        let vector = VectorSearch {
            table: "docs".into(),
            column: "V".into(),
            query: QueryVectors::One(vec![3.0, 4.0]),
            top_k: 25,
            metric,
            filter: filter.map(str::to_owned),
            params: None,
            min_score: None,
            group_by: None,
            columns: vec!["body".into()],
        };
        let call = HybridSearch { rrf_k, depth, weight, ..HybridSearch::new(vector, "BODY", "lithium battery") };
        let called = engine.hybrid_search(&call, true).await.unwrap();
        assert_eq!(integers(&called), found_ids);
        assert_eq!(called[0].schema().field(1).name(), "score");
    }
    // By hand: the definition in SQL.
    let by_hand = "WITH v AS (SELECT id, row_number() OVER (ORDER BY score, id) AS r FROM vector_search('docs', 'v', [3.0, 4.0], 100)), \
        t AS (SELECT id, text_rank AS r FROM text_search('docs', 'body', 'lithium battery', 100)) \
        SELECT coalesce(v.id, t.id) AS id FROM v FULL JOIN t ON v.id = t.id \
        ORDER BY coalesce(1.0 / (60 + v.r), 0) + coalesce(1.0 / (60 + t.r), 0) DESC, 1 LIMIT 10";
    let short = "SELECT id FROM hybrid_search('docs', 'v', [3.0, 4.0], 'body', 'lithium battery', 10)";
    assert_eq!(ids(&engine, by_hand).await, ids(&engine, short).await);
    let prepared = "SELECT id FROM hybrid_search('docs', 'v', $1, 'body', $2, $3)";
    let params = [Param::Vector(vec![3.0, 4.0]), Param::Text("lithium battery".into()), Param::Integer(10)];
    assert_eq!(integers(&engine.query(prepared, &params).await.unwrap()), ids(&engine, short).await);
    engine.shutdown().await;
}

/// Every transaction moves the rows with the word `red` and the vector `[1, 0]` together, so every
/// answer has as many of one as of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_is_of_one_version_under_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Arc::new(engine(folder.path()).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let (writing, over) = (Arc::clone(&engine), Arc::clone(&is_over));
    let writer = tokio::spawn(async move {
        for round in 0..120_i64 {
            let statement = match round % 3 {
                0 => format!(
                    "INSERT INTO docs(id, body, v) SELECT {round} * 100 + value, 'a red ' || value, vector('[1,0]') FROM json_each('[{}]')",
                    (0..round % 40 + 1).map(|at| at.to_string()).collect::<Vec<_>>().join(",")
                ),
                1 => format!("UPDATE docs SET body = 'blue', v = vector('[0,1]') WHERE id % 5 = {}", round % 5),
                _ => format!("DELETE FROM docs WHERE id % 7 = {}", round % 7),
            };
            writing.execute(&statement, &[]).await.unwrap();
            writing.sync_all().await.unwrap();
        }
        over.store(true, Ordering::SeqCst);
    });
    let sql = "SELECT (SELECT count(*) FROM text_search('docs', 'body', 'red', NULL)) AS words, \
        (SELECT count(*) FROM docs WHERE cosine_distance(v, [1.0, 0.0]) < 0.1) AS vectors, \
        (SELECT count(*) FROM hybrid_search('docs', 'v', [1.0, 0.0], 'body', 'red', 100000, depth => NULL) WHERE text_rank > 0) AS both_, \
        (SELECT count(*) FROM vector_search('docs', 'v', [1.0, 0.0], 100000, 'cosine', 'text_match(body, ''red'')') WHERE score < 0.1) AS matched";
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (engine, is_over) = (Arc::clone(&engine), Arc::clone(&is_over));
            tokio::spawn(async move {
                let (mut answers, mut nonempty) = (0, 0);
                while !is_over.load(Ordering::SeqCst) || answers == 0 {
                    let batch = engine.query(sql, &[]).await.unwrap().remove(0);
                    let count = |column: usize| batch.column(column).as_primitive::<Int64Type>().value(0);
                    assert_eq!([count(0), count(2), count(3)], [count(1); 3], "answer {answers}");
                    nonempty += i64::from(count(0) > 0);
                    answers += 1;
                }
                nonempty
            })
        })
        .collect();
    writer.await.unwrap();
    let mut nonempty = 0;
    for reader in readers {
        nonempty += reader.await.unwrap();
    }
    assert!(nonempty > 0);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_survive_reopening() {
    for storage_mode in [StorageMode::InMemory, StorageMode::ArrowIpc, StorageMode::Parquet] {
        let folder = tempfile::tempdir().unwrap();
        let storage_path = (storage_mode != StorageMode::InMemory).then(|| folder.path().join("replicas"));
        let config = || HtapConfig { storage_mode, storage_path: storage_path.clone(), ..in_memory(folder.path()) };
        // Stems: in German and French too.
        let all = "SELECT id FROM text_search('docs', 'body', 'battery', NULL) ORDER BY id";
        let engine = open(config()).await;
        engine.execute(CREATE, &[]).await.unwrap();
        engine.register_table(schema(), true).await.unwrap();
        engine.register_text("docs", &["body".into()], Tokenizer::Porter).await.unwrap();
        run(&engine, &ROWS).await;
        assert_eq!(ids(&engine, all).await, [1, 2, 3, 6]);
        engine.shutdown().await;
        drop(engine);
        let engine = open(config()).await;
        assert_eq!(ids(&engine, all).await, [1, 2, 3, 6], "{storage_mode:?}");
        let columns = engine.text_columns();
        assert_eq!((columns.len(), columns[0].tokenizer), (1, Tokenizer::Porter));
        run(&engine, &["INSERT INTO docs(id, body) VALUES (9, 'batteries')"]).await;
        assert_eq!(ids(&engine, all).await, [1, 2, 3, 6, 9]);
        engine.shutdown().await;
        drop(engine);
        if let Some(storage) = &storage_path {
            // A file that is damaged or of another state is made again.
            std::fs::write(storage.join("text.db"), "not a database").unwrap();
            let engine = open(config()).await;
            assert_eq!(ids(&engine, all).await, [1, 2, 3, 6, 9]);
            engine.unregister_table("docs").await.unwrap();
            engine.shutdown().await;
        } else {
            let engine = open(config()).await;
            engine.unregister_text("docs", &["body".into()]).await.unwrap();
            engine.shutdown().await;
        }
        let engine = open(config()).await;
        assert!(engine.text_columns().is_empty(), "{storage_mode:?}");
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followed_tables_have_indexes_too() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    let app = rusqlite::Connection::open(&source).unwrap();
    app.execute_batch(
        "CREATE TABLE notes(id TEXT PRIMARY KEY, body TEXT, created_at INTEGER, updated_at INTEGER);
        INSERT INTO notes VALUES ('a', 'solar cell', 1, 1), ('b', 'wind and solar', 1, 2);",
    )
    .unwrap();
    let table = TimestampTableConfig {
        table_name: "notes".into(),
        primary_key: vec!["id".into()],
        created_at_column: "created_at".into(),
        updated_at_column: "updated_at".into(),
        columns: Vec::new(),
        column_types: Vec::new(),
    };
    let sidecar = SidecarConfig::new(source.to_str().unwrap(), vec![table]);
    let config = HtapConfig { sidecar: Some(sidecar), ..in_memory(folder.path()) };
    let engine = open(config).await;
    engine.sync_all().await.unwrap();
    engine.register_text("notes", &["body".into()], Tokenizer::Unicode61).await.unwrap();
    let sql = "SELECT text_rank, id FROM text_search('notes', 'body', 'solar', 10)";
    let texts = |batches: Vec<RecordBatch>| -> Vec<String> {
        batches
            .iter()
            .flat_map(|batch| {
                batch.column(1).as_string::<i32>().iter().map(|id| id.unwrap().to_owned()).collect::<Vec<_>>()
            })
            .collect()
    };
    assert_eq!(texts(engine.query(sql, &[]).await.unwrap()), ["a", "b"]);
    app.execute_batch(
        "INSERT INTO notes VALUES ('c', 'solar', 3, 3); UPDATE notes SET body = 'x', updated_at = 4 WHERE id = 'a'",
    )
    .unwrap();
    engine.sync_all().await.unwrap();
    assert_eq!(texts(engine.query(sql, &[]).await.unwrap()), ["c", "b"]);
    engine.shutdown().await;
}
