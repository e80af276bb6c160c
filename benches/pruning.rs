//! Cost of filters on a growing column: over a replica, whose segments have bounds, and over
//! DataFusion's own table of the same batches, which has none. The answers are asserted to be
//! equal. Each figure is the median of 51 runs, planning included.
//!
//! `VEXACT_BENCH_ROWS` (default 1 000 000).

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::runtime::Runtime;
use vexact::replica::{Definition, Replicas, SyncMode, Update};
use vexact::session::{Session, SessionOptions};

const RUNS: usize = 51;

fn median(mut run: impl FnMut() -> String) -> (Duration, String) {
    let mut times = Vec::new();
    let mut answer = String::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        answer = run();
        times.push(started.elapsed());
    }
    times.sort_unstable();
    (times[RUNS / 2], answer)
}

fn main() {
    let rows: i64 = std::env::var("VEXACT_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000);
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("at", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("price", DataType::Float64, true),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..rows)),
        Arc::new(Int64Array::from_iter_values((0..rows).map(|id| 1_700_000_000_000_000 + id * 1000 + id * 7919 % 997))),
        Arc::new(StringArray::from_iter_values((0..rows).map(|id| format!("name-{}", id * 7919 % 10_007)))),
        Arc::new(Float64Array::from_iter_values((0..rows).map(|id| (id * 7919 % 1_000_003) as f64 / 7.0))),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let runtime = Runtime::new().unwrap();

    let replicas = Arc::new(Replicas::default());
    let definition =
        Definition { name: "t".into(), schema: Arc::clone(&schema), key: vec![0], mode: SyncMode::Destructive };
    let update = Update::Replace(Arc::new(definition), vec![batch.clone()], 0);
    replicas.update(vec![("t".into(), update)], 1).pop().unwrap().1.unwrap();
    let replica = Session::over_replicas(&SessionOptions::default(), replicas).unwrap();

    let chunks =
        (0..rows as usize).step_by(1 << 16).map(|start| batch.slice(start, (1 << 16).min(rows as usize - start)));
    let mut config = SessionConfig::new();
    config.options_mut().sql_parser.default_null_ordering = "nulls_min".into();
    let plain = SessionContext::new_with_config(config);
    plain.register_table("t", Arc::new(MemTable::try_new(schema, vec![chunks.collect()]).unwrap())).unwrap();

    let (low, high) = (rows * 9 / 10, rows * 9 / 10 + 1000);
    let at = 1_700_000_000_000_000 + low * 1000;
    for sql in [
        format!("SELECT count(*), max(price) FROM t WHERE id BETWEEN {low} AND {high}"),
        format!("SELECT count(*), min(name), max(price) FROM t WHERE at >= {at} AND at < {}", at + 1_000_000),
        format!("SELECT count(*), max(price) FROM t WHERE id >= {low}"),
        "SELECT id, name FROM t ORDER BY at DESC LIMIT 10".into(),
        "SELECT count(*), max(price) FROM t WHERE at > (SELECT max(at) - 1000000 FROM t)".into(),
        "SELECT min(at), max(at), count(name) FROM t".into(),
        "SELECT count(*), max(price) FROM t WHERE price < 1000".into(),
    ] {
        let text = |batches: Vec<RecordBatch>| pretty_format_batches(&batches).unwrap().to_string();
        let (with, got) = median(|| {
            text(runtime.block_on(async { replica.sql(&sql, None).await.unwrap().collect().await.unwrap() }))
        });
        let (without, expected) =
            median(|| text(runtime.block_on(async { plain.sql(&sql).await.unwrap().collect().await.unwrap() })));
        let body = |text: &str| text.lines().skip(3).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(body(&got), body(&expected), "{sql}");
        println!("{:>8.0} us, without bounds {:>8.0} us: {sql}", with.as_secs_f64() * 1e6, without.as_secs_f64() * 1e6);
    }
}
