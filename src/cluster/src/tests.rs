//! Random queries have the same answers, to the bit, on any number of workers as without.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use vexact_session::{Session, SessionOptions};
use vexact_sql::deep::THREAD_STACK;

use super::{Cluster, ClusterOptions, Listening, WorkerOptions, serve};

const DIM: usize = 3;
const ROWS: usize = 90;

/// Returns rows of which many vectors are equal; some are NULL, zero or have a NaN, as `x` has.
fn rows(start: usize, end: usize) -> RecordBatch {
    let component = |row: usize, i: usize| match row % 10 {
        0 => 0.0,
        1 if i == 1 => f32::NAN,
        2..6 => [1.0, -0.5, 0.25][i],
        _ => ((row * 31 + i * 17) % 13) as f32 / 4.0 - 1.5,
    };
    let values = (start..end).flat_map(|row| (0..DIM).map(move |i| component(row, i)));
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let nulls = NullBuffer::from_iter((start..end).map(|row| row % 17 != 3));
    let values = Arc::new(Float32Array::from_iter_values(values));
    let vectors = FixedSizeListArray::new(item, DIM as i32, values, Some(nulls));
    let x = |row: usize| match row % 7 {
        0 => None,
        1 => Some(f64::NAN),
        _ => Some((row % 9) as f64 - 4.0),
    };
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from_iter_values((start..end).map(|row| row as i64)))),
        ("g", Arc::new(StringArray::from_iter_values((start..end).map(|row| format!("g{}", row % 4))))),
        ("x", Arc::new((start..end).map(x).collect::<Float64Array>())),
        ("v", Arc::new(vectors)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn write(path: &Path, rows: &RecordBatch) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(7)).build();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path).unwrap(), rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
}

async fn worker() -> String {
    let options = WorkerOptions {
        listen: "127.0.0.1:0".into(),
        token: None,
        tls: None,
        allow: Vec::new(),
        object_stores: Default::default(),
        memory_bytes: None,
        threads: 2,
    };
    let (told, heard) = tokio::sync::oneshot::channel();
    let listening = |listening: &Listening| told.send(listening.url()).unwrap();
    tokio::spawn(serve(options, listening, std::future::pending()));
    heard.await.unwrap()
}

/// Starts three workers, and opens a session without workers, and with 1, 2 and 3, over the files of
/// a folder and the same table in memory.
async fn sessions(folder: &Path) -> Vec<Session> {
    for (name, start, end) in [("a", 0, 5), ("b", 5, 60), ("c", 60, 61), ("d", 61, ROWS)] {
        write(&folder.join(format!("{name}.parquet")), &rows(start, end));
    }
    let workers = [worker().await, worker().await, worker().await];
    let mut sessions = Vec::new();
    for count in 0..=workers.len() {
        let options = SessionOptions { target_partitions: Some(2), ..SessionOptions::default() };
        let session = Session::with_options(&options).unwrap();
        if count > 0 {
            let workers = workers[..count].to_vec();
            let options = ClusterOptions { workers, bytes_per_task: 1, ..ClusterOptions::default() };
            Cluster::try_new(options).unwrap().attach(&session);
        }
        session.create_temp_view("files", &session.read_parquet(folder).await.unwrap()).unwrap();
        let batches = vec![rows(0, 40), rows(40, ROWS)];
        let memory = session.create_dataframe_from_arrow(batches[0].schema(), batches).unwrap();
        session.create_temp_view("memory", &memory).unwrap();
        sessions.push(session);
    }
    sessions
}

/// Returns the rows of a query under its schema, or the text of its error.
async fn answer(session: &Session, sql: &str) -> Result<RecordBatch, String> {
    let rows = async {
        let frame = session.sql(sql, None).await?;
        let batches = frame.collect().await?;
        Ok::<_, vexact_core::error::Error>((frame.schema(), batches))
    };
    let (schema, batches) = rows.await.map_err(|error| error.to_string())?;
    concat_batches(&schema, &batches).map_err(|error| error.to_string())
}

fn table() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["files", "files", "memory"])
}

fn condition() -> impl Strategy<Value = String> {
    let plain = vec!["true", "id % 3 = 0", "id < 0", "x > 0 OR x IS NULL", "g IN ('g1', 'g2')", "v IS NOT NULL"];
    prop_oneof![
        3 => prop::sample::select(plain).prop_map(str::to_owned),
        1 => (0.1..3.0_f64).prop_map(|radius| format!("l2_distance(v, QUERY) < {radius:?}")),
        1 => (0.0..1.5_f64).prop_map(|radius| format!("NOT cosine_distance(v, QUERY) > {radius:?}")),
    ]
}

fn search() -> impl Strategy<Value = String> {
    let orders = vec![
        "cosine_distance(v, QUERY)",
        "cosine_distance(v, QUERY) NULLS FIRST",
        "cosine_similarity(v, QUERY) DESC NULLS LAST",
        "inner_product(v, QUERY) DESC",
        "-dot_product(v, QUERY)",
        "l2_distance(v, QUERY)",
        "l2_distance_squared(v, QUERY) NULLS FIRST",
        "l1_distance(v, QUERY)",
    ];
    (table(), condition(), prop::sample::select(orders), 1..ROWS + 9, 0..6_usize).prop_map(
        |(table, condition, order, k, offset)| {
            format!("SELECT id, g, x FROM {table} WHERE {condition} ORDER BY {order} LIMIT {k} OFFSET {offset}")
        },
    )
}

fn call() -> impl Strategy<Value = String> {
    let metrics = prop::sample::select(vec!["cosine", "dot", "l2", "l1"]);
    (table(), metrics, 1..ROWS).prop_map(|(table, metric, k)| {
        format!("SELECT id, g, score FROM vector_search('{table}', 'v', QUERY, {k}, '{metric}')")
    })
}

fn statement() -> impl Strategy<Value = String> {
    let found = || prop_oneof![3 => search(), 1 => call()];
    let aggregates = "count(*) AS n, count(x) AS c, min(id) AS a, max(id) AS b";
    prop_oneof![
        6 => found(),
        2 => found().prop_map(move |sql| {
            format!("SELECT g, count(*) AS n, min(id) AS a, max(id) AS b FROM ({sql}) GROUP BY g ORDER BY g")
        }),
        2 => (found(), found()).prop_map(|(a, b)| {
            format!("SELECT id, g FROM ({a}) UNION ALL SELECT id, g FROM ({b}) ORDER BY id, g")
        }),
        2 => (found(), found()).prop_map(|(a, b)| {
            format!("SELECT a.id AS one, b.id AS two FROM ({a}) a JOIN ({b}) b ON a.g = b.g ORDER BY one, two")
        }),
        2 => (table(), condition(), 1..40_usize).prop_map(|(table, condition, k)| {
            format!("SELECT id, x FROM {table} WHERE {condition} ORDER BY x DESC, id LIMIT {k}")
        }),
        2 => (table(), condition()).prop_map(|(table, condition)| {
            format!("SELECT id, g, x, l2_distance(v, QUERY) AS d FROM {table} WHERE {condition} ORDER BY id")
        }),
        2 => (table(), condition()).prop_map(move |(table, condition)| {
            format!("SELECT g, {aggregates} FROM {table} WHERE {condition} GROUP BY g ORDER BY g")
        }),
        2 => (table(), condition()).prop_map(move |(table, condition)| {
            format!("SELECT {aggregates} FROM {table} WHERE {condition}")
        }),
        2 => (table(), table(), 1..6_usize).prop_map(|(queries, searched, k)| {
            format!("SELECT id, {searched}_id, rank, score FROM vector_join('{queries}', 'v', '{searched}', 'v', {k}) \
                     WHERE id < 25 ORDER BY id, rank")
        }),
    ]
}

#[test]
fn random_queries_have_the_same_answers_on_any_number_of_workers() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .thread_stack_size(THREAD_STACK)
        .enable_all()
        .build()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sessions = runtime.block_on(sessions(folder.path()));
    let query = prop::array::uniform3(prop::sample::select(vec![-1.0, -0.5, 0.0, 0.25, 1.0]));
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    let checked = TestRunner::new(config).run(&(statement(), query), |(sql, query)| {
        let sql = sql.replace("QUERY", &format!("{query:?}"));
        runtime.block_on(async {
            let expected = answer(&sessions[0], &sql).await;
            for (workers, session) in sessions.iter().enumerate().skip(1) {
                prop_assert_eq!(&answer(session, &sql).await, &expected, "{} workers: {}", workers, sql);
            }
            Ok(())
        })
    });
    checked.unwrap();
}
