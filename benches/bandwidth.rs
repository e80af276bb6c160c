//! The time of one query against the time of only reading the vectors. The two are timed in turn,
//! so that a drift of the machine's speed does not decide; the median of the ratios is printed, and
//! the answer is checked first.
//!
//! `VEXACT_BENCH_ROWS` (default 1 000 000) rows; 384 and 768 components; `VEXACT_BENCH_ROUNDS`
//! (default 15).

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, FixedSizeListArray, Float32Array};
use arrow::datatypes::{DataType, Field, Float32Type};
use vexact_kernel::{Backend, Metric, Search, VectorColumn, reference};

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
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

/// Reads all data once, on all threads, with four streams each.
fn read(data: &[f32]) {
    let threads = rayon::current_num_threads();
    rayon::scope(|scope| {
        for part in data.chunks(data.len().div_ceil(threads)) {
            scope.spawn(move |_| {
                let streams: Vec<&[f32]> = part.chunks(part.len().div_ceil(4)).collect();
                let len = streams.iter().map(|stream| stream.len()).min().unwrap_or(0) / 64 * 64;
                let mut seen = [[0_u32; 64]; 4];
                for i in (0..len).step_by(64) {
                    for (seen, stream) in seen.iter_mut().zip(&streams) {
                        for (seen, x) in seen.iter_mut().zip(&stream[i..i + 64]) {
                            *seen |= x.to_bits();
                        }
                    }
                }
                black_box(seen);
            });
        }
    });
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    black_box(work());
    started.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let (rows, rounds) = (setting("VEXACT_BENCH_ROWS", 1_000_000), setting("VEXACT_BENCH_ROUNDS", 15));
    println!("{rows} rows, {} threads, {rounds} rounds in turn", rayon::current_num_threads());
    println!(
        "{:<8} {:>5} {:>9} {:>10} {:>10} {:>8} {:>18}",
        "metric", "dim", "backend", "search ms", "read ms", "GB/s", "share of bandwidth"
    );
    for dim in [384, 768] {
        let item = Arc::new(Field::new_list_field(DataType::Float32, true));
        let values = Arc::new(Float32Array::from(noise(42, rows * dim)));
        let array = FixedSizeListArray::new(item, dim as i32, values, None);
        let column = VectorColumn::try_new(&array).unwrap();
        let data = array.values().as_primitive::<Float32Type>().values();
        let query = noise(43, dim);
        let wide: Vec<f64> = query.iter().map(|x| f64::from(*x)).collect();
        for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
            for backend in [Backend::fastest(), Backend::Simsimd] {
                let search = Search::new(metric, &query).unwrap().top_k(10).backend(backend);
                let few = array.slice(0, rows.min(5_000));
                let prefix: Vec<Option<&[f32]>> = data.chunks(dim).take(few.len()).map(Some).collect();
                let expected: Vec<u64> =
                    reference::search(metric, &prefix, &wide, 10).iter().map(|hit| hit.0).collect();
                assert_eq!(search.run(&VectorColumn::try_new(&few).unwrap()).unwrap().rows, expected);

                let mut searches = Vec::new();
                let mut reads = Vec::new();
                for _ in 0..rounds {
                    reads.push(timed(|| read(data)).as_secs_f64());
                    searches.push(timed(|| search.run(&column).unwrap()).as_secs_f64());
                }
                let share = searches.iter().zip(&reads).map(|(search, read)| read / search).collect();
                let (search_s, read_s) = (median(searches), median(reads));
                let gigabytes = size_of_val(&data[..]) as f64 / 1e9;
                println!(
                    "{:<8} {dim:>5} {:>9} {:>10.1} {:>10.1} {:>8.1} {:>18.2}",
                    metric.name(),
                    backend.name(),
                    search_s * 1e3,
                    read_s * 1e3,
                    gigabytes / search_s,
                    median(share)
                );
            }
        }
    }
}
