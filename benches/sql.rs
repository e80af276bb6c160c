//! Cost of SQL over the kernel: the time of a query beyond the scan, for each way of passing the
//! query vector, and the time of DataFusion's own function over the same table.
//!
//! `VEXACT_BENCH_ROWS` (default 100 000) rows of 384 components.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type};
use criterion::{Criterion, criterion_group, criterion_main};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use tokio::runtime::Runtime;
use vexact::{QueryVectors, Session, VectorSearch};
use vexact_kernel::{Metric, Search, VectorColumn};

const DIM: usize = 384;

fn rows() -> usize {
    std::env::var("VEXACT_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(100_000)
}

fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    (0..len).map(|_| uniform() + uniform() + uniform()).collect()
}

fn table(rows: usize) -> RecordBatch {
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let values = Arc::new(Float32Array::from(noise(42, rows * DIM)));
    let embedding: ArrayRef = Arc::new(FixedSizeListArray::new(item, DIM as i32, values, None));
    let id: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    let bucket: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|i| (i * 7919) % 100)));
    RecordBatch::try_from_iter([("id", id), ("bucket", bucket), ("embedding", embedding)]).unwrap()
}

fn ids(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch["id"].as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn sql(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    for count in [1_000, rows()] {
        let batch = table(count);
        let session = Session::new().unwrap();
        let frame = session.create_dataframe_from_arrow(batch.schema(), vec![batch.clone()]).unwrap();
        session.create_temp_view("docs", &frame).unwrap();
        let query = noise(7, DIM);
        let wide: Vec<f64> = query.iter().map(|x| f64::from(*x)).collect();
        let words: Vec<String> = wide.iter().map(f64::to_string).collect();
        let item = Arc::new(Field::new_list_field(DataType::Float64, true));
        let values = Arc::new(arrow::array::Float64Array::from(wide.clone()));
        let bound = ScalarValue::FixedSizeList(Arc::new(FixedSizeListArray::new(item, DIM as i32, values, None)));

        let array = batch["embedding"].clone();
        let column = VectorColumn::try_new(&array).unwrap();
        let kernel = Search::new(Metric::Cosine, &query).unwrap().top_k(10);
        let expected: Vec<i64> = kernel.run(&column).unwrap().rows.iter().map(|row| *row as i64).collect();

        let mut group = c.benchmark_group(format!("sql/cosine/{count}x{DIM}"));
        group.sample_size(20).measurement_time(Duration::from_secs(3));
        group.bench_function("kernel", |b| b.iter(|| kernel.run(black_box(&column)).unwrap()));

        let search = VectorSearch {
            table: "docs".into(),
            column: "embedding".into(),
            query: QueryVectors::one(&query),
            top_k: 10,
            metric: Metric::Cosine,
            filter: None,
            params: None,
            min_score: None,
            group_by: None,
            columns: vec!["id".into()],
        };
        let call =
            || runtime.block_on(async { session.vector_search(&search).await.unwrap().collect().await.unwrap() });
        assert_eq!(ids(&call()), expected);
        group.bench_function("session-call", |b| b.iter(call));

        let forms = [
            ("bound", "$1".to_owned(), true),
            ("text", format!("'[{}]'", words.join(",")), false),
            ("array-literal", format!("[{}]", words.join(",")), false),
        ];
        for (name, vector, is_bound) in forms {
            let statement = format!("SELECT id FROM docs ORDER BY cosine_distance(embedding, {vector}) LIMIT 10");
            let run = || {
                let params = is_bound.then(|| ParamValues::from(vec![bound.clone()]));
                runtime.block_on(async { session.sql(&statement, params).await.unwrap().collect().await.unwrap() })
            };
            assert_eq!(ids(&run()), expected);
            group.bench_function(format!("order-by-{name}"), |b| b.iter(run));
        }
        let run = || runtime.block_on(async { session.sql("SELECT 1", None).await.unwrap().collect().await.unwrap() });
        group.bench_function("trivial-query", |b| b.iter(run));
        for percent in [10, 1] {
            let statement = format!(
                "SELECT id FROM docs WHERE bucket < {percent} ORDER BY cosine_distance(embedding, $1) LIMIT 10"
            );
            let run = || {
                let params = Some(ParamValues::from(vec![bound.clone()]));
                runtime.block_on(async { session.sql(&statement, params).await.unwrap().collect().await.unwrap() })
            };
            assert_eq!(ids(&run()).len(), 10.min(count * percent / 100));
            group.bench_function(format!("filtered-{percent}-percent"), |b| b.iter(run));
        }

        // The same statement with plain DataFusion.
        let plain = SessionContext::new();
        let memory = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap();
        plain.register_table("docs", Arc::new(memory)).unwrap();
        let run = || {
            runtime.block_on(async {
                let frame =
                    plain.sql("SELECT id FROM docs ORDER BY cosine_distance(embedding, $1) LIMIT 10").await.unwrap();
                frame.with_param_values(vec![bound.clone()]).unwrap().collect().await.unwrap()
            })
        };
        assert_eq!(ids(&run()), expected);
        group.bench_function("datafusion-own-function", |b| b.iter(run));
        group.finish();
    }
}

criterion_group!(benches, sql);
criterion_main!(benches);
