//! Sketches against the `f32` tier, in alternating runs of one process: the median of each and of
//! their ratios.
//!
//! Data: `VEXACT_BENCH_VECTORS` names a file of little-endian `f32` vectors of 384 components (real
//! embeddings); without it, vectors of falling spectrum stand in. `VEXACT_BENCH_QUERIES` the same
//! for queries. Sizes: `VEXACT_BENCH_ROWS` (default 1 000 000) for the tables that are made by
//! mixing. Every answer is compared with the reference's tier.

use std::time::Instant;

use arrow_array::{Array, FixedSizeListArray, Float32Array};
use arrow_buffer::BooleanBuffer;
use std::sync::Arc;
use vexact_kernel::{ChunkedColumn, Metric, Search, Sketch, SketchBasis, Tier, VectorColumn};

const K: usize = 10;

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn uniform(&mut self) -> f32 {
        (self.next() >> 13) as f32 / (1_u64 << 40) as f32 - 0.5
    }

    /// Sums of uniform numbers, near enough to normal.
    fn normal(&mut self) -> f32 {
        2.0 * (self.uniform() + self.uniform() + self.uniform())
    }
}

fn read(variable: &str) -> Option<Vec<f32>> {
    let bytes = std::fs::read(std::env::var(variable).ok()?).expect("a file of vectors");
    Some(bytes.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect())
}

fn unit(row: &mut [f32]) {
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter_mut().for_each(|x| *x /= norm);
}

/// Rows that mix two rows of the table and some noise, as neighbours in an embedding space would
/// be.
fn mixtures(rows: &[f32], from: usize, dim: usize, count: usize) -> Vec<f32> {
    let mut noise = Noise(7);
    let mut out = Vec::with_capacity(count * dim);
    let available = rows.len() / from;
    for _ in 0..count {
        let (a, b) = (noise.next() as usize % available, noise.next() as usize % available);
        let share = 0.5 + noise.uniform().abs();
        let mut row: Vec<f32> = (0..dim)
            .map(|i| {
                // A wider table repeats rows of the narrow one with other partners.
                let (part, i) = (i / from, i % from);
                let other = (b + part * 131) % available;
                share * rows[((a + part * 17) % available) * from + i] + (1.0 - share) * rows[other * from + i]
            })
            .collect();
        row.iter_mut().for_each(|x| *x += 0.01 * noise.normal());
        unit(&mut row);
        out.extend(row);
    }
    out
}

fn spectrum(rows: usize, dim: usize) -> Vec<f32> {
    let mut noise = Noise(3);
    let mut out = Vec::with_capacity(rows * dim);
    for _ in 0..rows {
        let mut row: Vec<f32> = (0..dim).map(|i| noise.normal() / (1.0 + i as f32 / 24.0)).collect();
        unit(&mut row);
        out.extend(row);
    }
    out
}

fn list(values: Vec<f32>, dim: usize) -> FixedSizeListArray {
    let item = Arc::new(arrow_schema::Field::new_list_field(arrow_schema::DataType::Float32, true));
    FixedSizeListArray::new(item, dim as i32, Arc::new(Float32Array::from(values)), None)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Times two calls in alternation; the medians in milliseconds and the median ratio.
fn alternate(runs: usize, mut a: impl FnMut(usize), mut b: impl FnMut(usize)) -> (f64, f64, f64) {
    let (mut all_a, mut all_b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let time = |call: &mut dyn FnMut(usize), i: usize| {
        let started = Instant::now();
        call(i);
        started.elapsed().as_secs_f64() * 1e3
    };
    for i in 0..runs {
        let (x, y) = (time(&mut a, i), time(&mut b, i));
        all_a.push(x);
        all_b.push(y);
        ratios.push(x / y);
    }
    (median(all_a), median(all_b), median(ratios))
}

struct Table {
    name: String,
    array: FixedSizeListArray,
    queries: Vec<Vec<f32>>,
}

impl Table {
    fn new(name: &str, values: Vec<f32>, dim: usize, queries: &[f32]) -> Self {
        let queries = queries.chunks_exact(dim).map(<[f32]>::to_vec).collect();
        Self { name: format!("{name} {} x {dim}", values.len() / dim), array: list(values, dim), queries }
    }

    fn measure(&self, tiers: &[Tier]) {
        let plain = VectorColumn::try_new(&self.array).unwrap();
        for &tier in tiers {
            let started = Instant::now();
            let training = SketchBasis::train(&ChunkedColumn::from(&plain), tier);
            let train = started.elapsed().as_secs_f64();
            println!("{}: {tier}: trained in {train:.2} s: {}", self.name, training.reason);
            let Some(basis) = training.basis else { continue };
            let started = Instant::now();
            let sketch = basis.encode(&plain).unwrap();
            let seconds = started.elapsed().as_secs_f64();
            let bytes = size_of_val(Array::to_data(&self.array).child_data()[0].buffers()[0].as_slice()) as f64;
            println!(
                "  encoded at {:.2} GB/s, +{:.1} %",
                bytes / seconds / 1e9,
                sketch.size_bytes() as f64 / bytes * 100.0
            );
            for metric in [Metric::Cosine, Metric::L2] {
                for threads in [1, 2] {
                    self.one_query(&plain, &sketch, metric, threads);
                }
            }
            self.filtered(&plain, &sketch);
            self.batch(&plain, &sketch);
        }
    }

    fn one_query(&self, plain: &VectorColumn<'_>, sketch: &Sketch, metric: Metric, threads: usize) {
        let with = plain.clone().with_sketch(sketch).unwrap();
        let search =
            |i: usize| Search::new(metric, &self.queries[i % self.queries.len()]).unwrap().top_k(K).threads(threads);
        let (mut left, mut scan, mut refine, mut tier) = (Vec::new(), Vec::new(), Vec::new(), Tier::F32);
        for i in 0..self.queries.len().min(20) {
            let (a, b) = (search(i).run(plain).unwrap(), search(i).run(&with).unwrap());
            assert_eq!((a.rows, a.scores), (b.rows, b.scores));
            let execution = b.report.execution.unwrap();
            left.push(execution.rows_left.unwrap_or(0) as f64);
            scan.push(execution.scan_us as f64);
            refine.push(execution.refine_us as f64);
            tier = b.report.tier;
        }
        let run = |column: &VectorColumn<'_>, i: usize| drop(search(i).run(column).unwrap());
        let (f32, own, ratio) = alternate(41, |i| run(plain, i), |i| run(&with, i));
        println!(
            "  {metric}, {threads} threads: f32 {f32:.3} ms, {tier} {own:.3} ms ({ratio:.1}x), {} rows left, scan {} us, refine {} us",
            median(left),
            median(scan),
            median(refine)
        );
    }

    fn filtered(&self, plain: &VectorColumn<'_>, sketch: &Sketch) {
        let with = plain.clone().with_sketch(sketch).unwrap();
        for percent in [10, 1] {
            let selection: BooleanBuffer = (0..plain.len()).map(|i| (i * 7919) % 100 < percent).collect();
            let run = |column: &VectorColumn<'_>, i: usize| {
                let query = &self.queries[i % self.queries.len()];
                Search::new(Metric::Cosine, query).unwrap().top_k(K).selection(&selection).run(column).unwrap()
            };
            assert_eq!(run(plain, 0).rows, run(&with, 0).rows);
            let (f32, own, ratio) = alternate(21, |i| drop(run(plain, i)), |i| drop(run(&with, i)));
            println!("  filter of {percent} %: f32 {f32:.3} ms, sketch {own:.3} ms ({ratio:.1}x)");
        }
    }

    fn batch(&self, plain: &VectorColumn<'_>, sketch: &Sketch) {
        // All rows equal take minutes in a batch: each of them is a candidate of each query.
        if plain.len() > 200_000 || self.name.starts_with("all equal") {
            return;
        }
        let with = plain.clone().with_sketch(sketch).unwrap();
        for count in [16, 256] {
            let queries: Vec<&[f32]> = self.queries.iter().cycle().take(count).map(Vec::as_slice).collect();
            let run = |column: &VectorColumn<'_>| {
                Search::batch(Metric::Cosine, &queries).unwrap().top_k(K).run(column).unwrap()
            };
            let (a, b) = (run(plain), run(&with));
            assert_eq!(a.rankings, b.rankings);
            let (f32, own, ratio) = alternate(9, |_| drop(run(plain)), |_| drop(run(&with)));
            let left = b.report.execution.unwrap().rows_left.unwrap_or(0) as f64 / count as f64;
            println!(
                "  batch of {count}: f32 {f32:.1} ms, {} {own:.1} ms ({ratio:.1}x), {left:.0} rows left",
                b.report.tier
            );
        }
    }
}

fn main() {
    let dim = 384;
    let only = std::env::args().nth(1).filter(|name| !name.starts_with("--"));
    let is_wanted = |name: &str| only.as_deref().is_none_or(|only| name.contains(only));
    let count: usize = std::env::var("VEXACT_BENCH_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let rows = read("VEXACT_BENCH_VECTORS").unwrap_or_else(|| spectrum(82_115, dim));
    let queries = read("VEXACT_BENCH_QUERIES").unwrap_or_else(|| mixtures(&rows, dim, dim, 40));
    if is_wanted("real") {
        Table::new("real", rows.clone(), dim, &queries).measure(&[Tier::Auto, Tier::I8]);
    }
    if is_wanted("outliers") {
        // A common mean of length 0.8, three components thirty times as large.
        let shift = |values: &[f32]| -> Vec<f32> {
            let mean: Vec<f32> = (0..dim).map(|i| if i % 2 == 0 { 0.8 } else { -0.8 } / (dim as f32).sqrt()).collect();
            let mut out = values.to_vec();
            for row in out.chunks_exact_mut(dim) {
                row.iter_mut().zip(&mean).for_each(|(x, m)| *x += m);
                [11, 150, 301].iter().for_each(|i| row[*i] *= 30.0);
            }
            out
        };
        Table::new("mean and outliers", shift(&rows), dim, &shift(&queries)).measure(&[Tier::Auto]);
        let mean: Vec<f32> =
            rows.chunks_exact(dim).flat_map(|row| row.iter().map(|x| x + 0.8 / (dim as f32).sqrt())).collect();
        let asked: Vec<f32> = queries.iter().map(|x| x + 0.8 / (dim as f32).sqrt()).collect();
        Table::new("mean", mean, dim, &asked).measure(&[Tier::Auto]);
    }
    if is_wanted("random") {
        let mut noise = Noise(5);
        let random: Vec<f32> = (0..100_000 * dim).map(|_| noise.normal()).collect();
        let asked: Vec<f32> = (0..20 * dim).map(|_| noise.normal()).collect();
        Table::new("random normal", random, dim, &asked).measure(&[Tier::Auto]);
    }
    if is_wanted("adversarial") {
        let mut noise = Noise(5);
        let count = 100_000;
        let equal: Vec<f32> = (0..count).flat_map(|_| rows[..dim].to_vec()).collect();
        Table::new("all equal", equal, dim, &queries).measure(&[Tier::Pca4, Tier::I8]);
        let tails: Vec<f32> = (0..count * dim).map(|_| noise.normal().powi(9)).collect();
        Table::new("heavy tails", tails, dim, &queries).measure(&[Tier::Pca4, Tier::I8]);
        let one_hot: Vec<f32> =
            (0..count).flat_map(|i| (0..dim).map(move |j| f32::from(u8::from(i % dim == j)))).collect();
        Table::new("one-hot", one_hot, dim, &queries).measure(&[Tier::Pca4]);
        let narrow: Vec<f32> = (0..count * 16).map(|_| noise.normal()).collect();
        Table::new("narrow", narrow, 16, &queries[..160]).measure(&[Tier::Auto, Tier::I8]);
    }
    if is_wanted("large") {
        Table::new("mixtures", mixtures(&rows, dim, dim, count), dim, &queries).measure(&[Tier::Auto]);
    }
    if is_wanted("wide") {
        let values = mixtures(&rows, dim, 2 * dim, count / 2);
        let asked = values[..20 * 2 * dim].to_vec();
        Table::new("wide mixtures", values, 2 * dim, &asked).measure(&[Tier::Auto]);
    }
}
