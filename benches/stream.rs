//! Streaming queries from memory into a queue: rows a second, and the time of a checkpoint.
//!
//! `cargo bench -p vexact --bench stream`

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use vexact::Session;
use vexact::stream::queue::{QueueSink, Watermarks};
use vexact::stream::{ExecutionMode, Progress, StreamOptions};

const BATCHES: usize = 32;
const ROWS: usize = 1 << 16;

/// Returns batches with keys below `keys`, whole numbers as values, and 16 events a millisecond.
fn batches(keys: i64) -> Vec<RecordBatch> {
    let batch = |number: usize| {
        let ids = || (number * ROWS) as i64..((number + 1) * ROWS) as i64;
        let column = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let columns = [
            ("k", column(ids().map(|id| (id * 7919) % keys).collect())),
            ("v", column(ids().map(|id| id % 1000).collect())),
            ("t", column(ids().map(|id| id / 16).collect())),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    (0..BATCHES).map(batch).collect()
}

fn session(keys: i64) -> Session {
    let session = Session::new().unwrap();
    let batches = batches(keys);
    session.create_stream_view("s", &session.create_stream_from_arrow(batches[0].schema(), batches).unwrap()).unwrap();
    session
}

/// Runs a query to its end while its sink is read; returns the number of rows that it wrote.
async fn run(session: &Session, sql: &str, options: StreamOptions) -> (usize, Progress) {
    let sink = QueueSink::try_new(Watermarks::default()).unwrap();
    session.create_sink("out", Arc::new(sink.clone())).unwrap();
    let query = session.start_stream_sql(&format!("INSERT INTO out {sql}"), options).await.unwrap();
    query.start();
    let mut rows = 0;
    while let Some(batch) = sink.queue().pop(None).await {
        rows += batch.num_rows();
    }
    assert_eq!(query.await_termination(0).await.unwrap(), BATCHES as u64);
    (rows, query.progress())
}

fn streams(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("stream");
    group.throughput(Throughput::Elements((BATCHES * ROWS) as u64));
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let sliding = "SELECT w, k, sum(v) FROM s WINDOW BY t EVERY 10000 SLIDE 2000 LATENESS 5000 AS w GROUP BY w, k";
    for (name, keys, sql, rows) in [
        ("stateless", 1000, "SELECT k, v * 2 + 1 AS w FROM s WHERE v % 10 <> 3", Some(BATCHES * ROWS * 9 / 10)),
        ("logarithms", 1000, "SELECT k, ln(v + 1) * log2(k + 1) AS w FROM s", Some(BATCHES * ROWS)),
        ("sum_1000_keys", 1000, "SELECT k, sum(v) AS total FROM s GROUP BY k", Some(BATCHES * 1000)),
        ("sliding_1000_keys", 1000, sliding, None),
        // There is about one row per group.
        ("sliding_50000_keys", 50_000, sliding, None),
    ] {
        let session = session(keys);
        for workers in [1, 2] {
            let options = StreamOptions {
                execution: if workers > 1 { ExecutionMode::LocalWorkers } else { ExecutionMode::SingleProcess },
                local_workers: workers,
                ..StreamOptions::default()
            };
            let (got, progress) = runtime.block_on(run(&session, sql, options.clone()));
            println!("{name}, {workers}: {}, {}", progress.execution_mode, progress.execution_reason);
            assert!(rows.is_none_or(|rows| got.abs_diff(rows) <= BATCHES * ROWS / 1000), "{name}: {got} rows");
            group.bench_function(BenchmarkId::new(name, workers), |bencher| {
                bencher.iter(|| runtime.block_on(run(&session, sql, options.clone())));
            });
        }
    }
    group.finish();
}

/// Times the last checkpoint of a query with micro-batches that touch all of 100 000 groups, so
/// that all of the state is written.
fn checkpoint(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let session = Session::new().unwrap();
    let keys = Int64Array::from_iter_values(0..100_000);
    let batch = RecordBatch::try_from_iter([("k", Arc::new(keys) as ArrayRef)]).unwrap();
    let stream = session.create_stream_from_arrow(batch.schema(), vec![batch; BATCHES]).unwrap();
    session.create_stream_view("s", &stream).unwrap();
    let mut group = criterion.benchmark_group("stream");
    group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(2));
    group.bench_function("checkpoint/100000_groups", |bencher| {
        bencher.iter_custom(|runs| {
            let folder = tempfile::tempdir().unwrap();
            let mut total = Duration::ZERO;
            for run_number in 0..runs {
                let path = Some(folder.path().join(run_number.to_string()));
                let options = StreamOptions { checkpoint_path: path, ..StreamOptions::default() };
                let started = Instant::now();
                let sql = "SELECT k, sum(k) AS total, count(*) AS n FROM s GROUP BY k";
                let (rows, progress) = runtime.block_on(run(&session, sql, options));
                let state_ms = progress.last_state_latency_ms;
                assert_eq!(rows, BATCHES * 100_000);
                assert!(started.elapsed().as_secs_f64() * 1e3 > state_ms);
                total += Duration::from_secs_f64(state_ms / 1e3);
            }
            total
        });
    });
    group.finish();
}

criterion_group!(benches, streams, checkpoint);
criterion_main!(benches);
