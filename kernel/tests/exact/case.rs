//! Random searches: rows of each element type, queries, filters and sketches, hostile ones among them.

use std::sync::Arc;

use arrow_array::{Array, FixedSizeListArray, Float16Array, Float32Array, Float64Array};
use arrow_buffer::NullBuffer;
use arrow_schema::Field;
use half::f16;
use proptest::prelude::*;
use vexact_kernel::{Element, Metric, Tier};

pub const METRICS: [Metric; 5] = [Metric::Cosine, Metric::Dot, Metric::L2, Metric::L2Squared, Metric::L1];

/// An element type that can be put into an Arrow array.
pub trait Stored: Element {
    fn round(x: f64) -> Self;
    fn array(values: Vec<Self>) -> Arc<dyn Array>;
}

impl Stored for f32 {
    fn round(x: f64) -> Self {
        x as f32
    }
    fn array(values: Vec<Self>) -> Arc<dyn Array> {
        Arc::new(Float32Array::from(values))
    }
}

impl Stored for f64 {
    fn round(x: f64) -> Self {
        x
    }
    fn array(values: Vec<Self>) -> Arc<dyn Array> {
        Arc::new(Float64Array::from(values))
    }
}

impl Stored for f16 {
    fn round(x: f64) -> Self {
        f16::from_f64(x)
    }
    fn array(values: Vec<Self>) -> Arc<dyn Array> {
        Arc::new(Float16Array::from(values))
    }
}

pub fn list<T: Stored>(dim: usize, rows: &[Option<Vec<T>>]) -> FixedSizeListArray {
    let zeros = vec![T::round(0.0); dim];
    let values: Vec<T> = rows.iter().flat_map(|row| row.as_ref().unwrap_or(&zeros)).copied().collect();
    let values = T::array(values);
    let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    FixedSizeListArray::new(item, dim as i32, values, Some(nulls))
}

/// A search and what it runs over.
#[derive(Debug, Clone)]
pub struct Case {
    pub dim: usize,
    pub rows: Vec<Option<Vec<f64>>>,
    pub queries: Vec<Vec<f64>>,
    pub selection: Option<Vec<bool>>,
    /// Rows of each chunk but the last.
    pub chunk_rows: usize,
    pub k: usize,
    pub metric: Metric,
    pub threads: usize,
    pub sketch: Option<Sketched>,
}

/// The sketches of a case.
#[derive(Debug, Clone, Copy)]
pub struct Sketched {
    pub form: Tier,
    /// True if the search must use them, however many rows they leave.
    pub is_forced: bool,
    /// True if only every second chunk has one.
    pub is_partial: bool,
}

/// Components: mostly ordinary, of few distinct values so that distances tie, some extreme, some
/// not numbers.
fn component() -> impl Strategy<Value = f64> {
    prop_oneof![
        20 => -1.0..1.0,
        10 => prop::sample::select(vec![-1.0, -0.5, 0.0, 0.5, 1.0]),
        1 => prop::sample::select(vec![1e-40, -1e-30, 1e-10, 1e18, 3e38, 65504.0, 1e-7, 1e300, 1e-300, 5e-324, -1e15]),
    ]
}

fn stored_component() -> impl Strategy<Value = f64> {
    prop_oneof![200 => component(), 1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY])]
}

fn vectors(dim: usize) -> impl Strategy<Value = Vec<Option<Vec<f64>>>> {
    let row = prop_oneof![
        20 => prop::collection::vec(stored_component(), dim).prop_map(Some),
        1 => Just(Some(vec![0.0; dim])),
        1 => Just(None),
    ];
    let seeded = (any::<u64>(), 0..300_usize, 0..FLAVOURS);
    // A few distinct rows, repeated: ties at every rank.
    prop_oneof![
        prop::collection::vec(row.clone(), 0..300),
        seeded.prop_map(move |(seed, rows, flavour)| structured(dim, rows, seed, flavour)),
        (prop::collection::vec(row, 1..6), prop::collection::vec(any::<prop::sample::Index>(), 0..300))
            .prop_map(|(rows, picks)| picks.iter().map(|pick| pick.get(&rows).clone()).collect()),
    ]
}

/// A small generator of numbers in [-1, 1).
pub fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / (1_u64 << 23) as f64 - 1.0
    }
}

const FLAVOURS: u32 = 8;

/// Rows as embeddings and worse: a few directions of falling variance, with what text models and
/// hostile tables add.
pub fn structured(dim: usize, rows: usize, seed: u64, flavour: u32) -> Vec<Option<Vec<f64>>> {
    let mut noise = noise(seed);
    let rank = (dim / 3).clamp(1, 24);
    let basis: Vec<Vec<f64>> = (0..rank).map(|_| (0..dim).map(|_| noise()).collect()).collect();
    let mean: Vec<f64> = (0..dim).map(|_| noise() * 0.8).collect();
    let mut row = |i: usize| -> Vec<f64> {
        let mut x = vec![0.0; dim];
        for (j, direction) in basis.iter().enumerate() {
            let factor = noise() / (1.0 + j as f64);
            x.iter_mut().zip(direction).for_each(|(x, d)| *x += factor * d);
        }
        x.iter_mut().for_each(|x| *x += 0.05 * noise());
        match flavour {
            0 => {}
            // A common mean, and three components of thirty times the size.
            1 => x.iter_mut().zip(&mean).for_each(|(x, m)| *x += m),
            2 => (0..dim.min(3)).for_each(|j| x[j * dim / 3] *= 30.0),
            // Norms of very different sizes, some beyond what the bounds take.
            3 => x.iter_mut().for_each(|x| *x *= [1e-25, 1e-6, 1.0, 1e3, 1e20][i % 5]),
            4 => x = (0..dim).map(|j| f64::from(u8::from(j == i % dim))).collect(),
            5 => x = vec![1.0; dim],
            // Far from the origin, close together.
            6 => x.iter_mut().for_each(|x| *x = 1000.0 + *x / 10.0),
            _ => x.iter_mut().for_each(|x| *x = x.powi(9) * 1e3),
        }
        x
    };
    (0..rows).map(|i| Some(row(i))).collect()
}

pub fn case() -> impl Strategy<Value = Case> {
    case_with(Just(None))
}

pub fn sketched_case() -> impl Strategy<Value = Case> {
    let sketch = (prop::sample::select(vec![Tier::I8, Tier::Pca4]), any::<bool>(), any::<bool>());
    case_with(sketch.prop_map(|(form, is_forced, is_partial)| Some(Sketched { form, is_forced, is_partial })))
}

fn case_with(sketch: impl Strategy<Value = Option<Sketched>> + Clone) -> impl Strategy<Value = Case> {
    let dims = prop_oneof![1..40_usize, Just(64), Just(96), Just(129)];
    dims.prop_flat_map(move |dim| {
        let query = prop::collection::vec(component(), dim);
        (
            vectors(dim),
            prop::collection::vec(query, 1..40),
            prop::option::of(prop::collection::vec(any::<bool>(), 300)),
            (1..120_usize, prop_oneof![1..20_usize, Just(usize::MAX)]),
            prop::sample::select(&METRICS[..]),
            1..4_usize,
            sketch.clone(),
        )
            .prop_map(move |(rows, queries, selection, (chunk_rows, k), metric, threads, sketch)| Case {
                dim,
                selection: selection.map(|bits| bits[..rows.len()].to_vec()),
                rows,
                queries,
                chunk_rows,
                k,
                metric,
                threads,
                sketch,
            })
    })
}
