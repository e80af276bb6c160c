//! The kernel alone: one query against the machine's read bandwidth, query batches against the
//! arithmetic rate.
//!
//! Groups are named `metric/element/dim`; each asserts its answer against the reference first.
//! Sizes: `VEXACT_BENCH_ROWS` (default 100 000; 1 000 000 is out of every cache).

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{FixedSizeListArray, Float32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use vexact_kernel::{Backend, Metric, Search, VectorColumn, reference};

const SEED: u64 = 42;
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

fn rows() -> usize {
    std::env::var("VEXACT_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(100_000)
}

/// Sums of uniform numbers, near enough to normal.
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

fn vectors(rows: usize, dim: usize) -> FixedSizeListArray {
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    FixedSizeListArray::new(item, dim as i32, Arc::new(Float32Array::from(noise(SEED, rows * dim))), None)
}

fn group<'c>(c: &'c mut Criterion, name: &str, bytes: usize) -> BenchmarkGroup<'c, WallTime> {
    let mut group = c.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Bytes(bytes as u64));
    group
}

/// The read bandwidth of all threads, four streams each: the limit of one query.
fn bandwidth(c: &mut Criterion, data: &[f32]) {
    let mut group = group(c, "read-bandwidth", size_of_val(data));
    let sum = |part: &[f32]| {
        let streams: Vec<&[f32]> = part.chunks(part.len().div_ceil(4)).collect();
        let len = streams.iter().map(|stream| stream.len()).min().unwrap_or(0) / 64 * 64;
        let mut sums = [[0_u32; 64]; 4];
        for i in (0..len).step_by(64) {
            for (sum, stream) in sums.iter_mut().zip(&streams) {
                for (sum, x) in sum.iter_mut().zip(&stream[i..i + 64]) {
                    *sum |= x.to_bits();
                }
            }
        }
        sums.iter().flatten().fold(0, |all, x| all | x)
    };
    let threads = rayon::current_num_threads();
    group.bench_function(format!("{threads}-threads-4-streams"), |b| {
        b.iter(|| {
            rayon::scope(|scope| {
                for part in data.chunks(data.len().div_ceil(threads)) {
                    scope.spawn(move |_| {
                        black_box(sum(part));
                    });
                }
            });
        });
    });
    group.finish();
}

fn one_query(c: &mut Criterion) {
    for dim in [384, 768] {
        let array = vectors(rows(), dim);
        let column = VectorColumn::try_new(&array).unwrap();
        let values = arrow::array::AsArray::as_primitive::<arrow::datatypes::Float32Type>(array.values());
        bandwidth(c, values.values());
        let query = noise(SEED + 1, dim);
        let wide: Vec<f64> = query.iter().map(|x| f64::from(*x)).collect();
        for metric in METRICS {
            let prefix: Vec<Option<&[f32]>> = values.values().chunks(dim).take(10_000).map(Some).collect();
            let expected = reference::search(metric, &prefix, &wide, 10);
            let array = array.slice(0, 10_000.min(rows()));
            let hits =
                Search::new(metric, &query).unwrap().top_k(10).run(&VectorColumn::try_new(&array).unwrap()).unwrap();
            assert_eq!(hits.rows, expected.iter().map(|hit| hit.0).collect::<Vec<_>>());

            let mut group = group(c, &format!("{metric}/float32/{dim}"), rows() * dim * 4);
            for backend in Backend::available() {
                let search = Search::new(metric, &query).unwrap().top_k(10).backend(backend);
                group.bench_function(format!("one-query/{backend}"), |b| {
                    b.iter(|| search.run(black_box(&column)).unwrap())
                });
            }
            group.finish();
        }
    }
}

fn query_batch(c: &mut Criterion) {
    for dim in [384, 768] {
        let array = vectors(rows().min(100_000), dim);
        let column = VectorColumn::try_new(&array).unwrap();
        let rows = array.values().len() / dim;
        for metric in METRICS {
            for count in [16, 256] {
                let queries: Vec<Vec<f32>> = (0..count).map(|i| noise(SEED + 1 + i, dim)).collect();
                let search = Search::batch(metric, &queries).unwrap().top_k(10);
                let one = Search::new(metric, &queries[3]).unwrap().top_k(10).run(&column).unwrap();
                assert_eq!(search.run(&column).unwrap().rankings[3].rows, one.rows);
                let mut group = c.benchmark_group(format!("{metric}/float32/{dim}"));
                group.sample_size(10).measurement_time(Duration::from_secs(2));
                // In "elements": floating-point operations of the matrix product.
                group.throughput(Throughput::Elements(2 * (rows * dim) as u64 * count));
                group.bench_function(format!("batch-{count}"), |b| b.iter(|| search.run(black_box(&column)).unwrap()));
                group.finish();
            }
        }
    }
}

fn filtered(c: &mut Criterion) {
    let dim = 384;
    let array = vectors(rows(), dim);
    let column = VectorColumn::try_new(&array).unwrap();
    let query = noise(SEED + 1, dim);
    for percent in [10, 1] {
        let selection: BooleanBuffer = (0..rows()).map(|i| (i * 7919) % 100 < percent).collect();
        let mut group = group(c, &format!("cosine/float32/{dim}"), selection.count_set_bits() * dim * 4);
        let search = Search::new(Metric::Cosine, &query).unwrap().top_k(10).selection(&selection);
        assert_eq!(search.run(&column).unwrap().report.candidate_rows, Some(selection.count_set_bits() as u64));
        group.bench_function(format!("filtered-{percent}-percent"), |b| {
            b.iter(|| search.run(black_box(&column)).unwrap())
        });
        group.finish();
    }
}

criterion_group!(benches, one_query, query_batch, filtered);
criterion_main!(benches);
