//! Training: a basis from a sample of a table's vectors, and the choice of its form by the bytes
//! that searches of the sample would read.

use std::sync::Arc;

use super::basis::{Component, Left, SketchBasis};
use super::bound::{DIM_MAX, SketchBound};
use super::eigen::Symmetric;
use super::encode::{Projection, normalize};
use super::slots::{Direction, spend};
use crate::arch::codes::{CodeForm, CodeKernels};
use crate::arch::{Backend, Kernels, QUERY_PADDING, Rows};
use crate::column::{ChunkedColumn, VectorColumn};
use crate::metric::Metric;
use crate::query::Query;
use crate::tier::Tier;

/// The choice of training, and its reason.
#[derive(Debug, Clone)]
pub struct Training {
    /// The basis; `None` where a sketch would not save enough.
    pub basis: Option<Arc<SketchBasis>>,
    /// The reason, with the figures that decided.
    pub reason: String,
}

/// Most dimensions whose principal components are computed.
const PCA_DIM_MAX: usize = 4096;

/// Most components.
const COMPONENTS_MAX: usize = 512;

/// Rows of the sample that serve as queries.
const QUERIES: usize = 32;

/// The k that a basis is chosen for.
const K: usize = 10;

/// The cost of a vector that is left over, in times its bytes: it is read out of order, and queries
/// that are no rows of the table leave more than those of the sample.
const RANDOM_READ: f64 = 6.0;

/// A sketch that saves less than this factor of the bytes is not worth its memory.
const SAVING_MIN: f64 = 1.5;

impl SketchBasis {
    /// Trains on a sample of a column's rows. [`Tier::Auto`] chooses the form and the number of
    /// digits that read the fewest bytes for the 10 best of this many rows, refinement included, or
    /// none if that saves less than 1.5 times; [`Tier::I8`] and [`Tier::Pca4`] force a form
    /// wherever it exists.
    pub fn train(column: &ChunkedColumn<'_>, tier: Tier) -> Training {
        let none = |reason: String| Training { basis: None, reason };
        let Some(dim) = column.dim().filter(|dim| *dim <= DIM_MAX && tier != Tier::F32) else {
            return none(format!("no sketch is made for {} components", column.dim().unwrap_or(0)));
        };
        if column.chunks().first().is_some_and(VectorColumn::is_of_bytes) {
            return none("vectors of bytes are searched by integer arithmetic".into());
        }
        let (sample, others) = Sample::pair(column, dim);
        if sample.rows() == 0 {
            return none("no row has a direction".into());
        }
        let row_bytes = column.chunks().first().map_or(0, VectorColumn::row_bytes) as f64;
        // On rows that the basis was not trained with, which it suits less.
        let judge = Judgement::new(if others.rows() < APART_MIN { &sample } else { &others });
        let rows = column.len() as f64;
        let cost = |mut basis: SketchBasis| {
            basis.left = judge.left(&basis);
            let bytes =
                rows * basis.row_bytes() as f64 + basis.rows_left(column.len()) * K as f64 * RANDOM_READ * row_bytes;
            (bytes, basis)
        };
        let mut best = (tier != Tier::Pca4).then(|| cost(sample.stored_basis()));
        if tier != Tier::I8 && dim <= PCA_DIM_MAX {
            // The bytes fall with the digits and rise again, so the rest is not tried.
            let mut worse = 0;
            for basis in sample.pca_bases() {
                let candidate = cost(basis);
                match &best {
                    Some(best) if best.0 <= candidate.0 => worse += 1,
                    _ => (best, worse) = (Some(candidate), 0),
                }
                if worse == WORSE_MAX {
                    break;
                }
            }
        }
        let Some((bytes, basis)) = best else { return none(format!("no {tier} sketch is made for {dim} components")) };
        let saving = rows * row_bytes / bytes;
        let figures = format!(
            "{} of {} components reads {} of {row_bytes} bytes a row and leaves {:.1} rows for each of the k best",
            basis.tier(),
            basis.components(),
            basis.row_bytes(),
            basis.rows_left(column.len())
        );
        if tier == Tier::Auto && saving < SAVING_MIN {
            return none(format!("{figures}: it would read {saving:.1}x fewer bytes, less than {SAVING_MIN}x"));
        }
        Training { basis: Some(Arc::new(basis)), reason: format!("{figures}: {saving:.1}x fewer bytes") }
    }
}

/// Rows of a sample from which on forms are judged on a sample of its own.
const APART_MIN: usize = 1024;

/// Directions of some rows, spread evenly over the column.
struct Sample {
    dim: usize,
    directions: Vec<f32>,
}

impl Sample {
    /// Two samples without a common row; of a small table one of all rows, and an empty one.
    fn pair(column: &ChunkedColumn<'_>, dim: usize) -> (Self, Self) {
        let wanted = (16 * dim).clamp(8192, 24_576).min(column.len());
        let mut samples = [Self { dim, directions: Vec::new() }, Self { dim, directions: Vec::new() }];
        let count = if wanted < 2 * APART_MIN { 1 } else { 2 };
        let mut row = vec![0.0; dim];
        for i in 0..wanted {
            let position = (i as u128 * column.len() as u128 / wanted as u128) as u64;
            let (ordinal, id) = column.locate(position);
            let chunk = &column.chunks()[ordinal];
            if chunk.valid().is_some_and(|valid| !valid.value(id)) {
                continue;
            }
            chunk.widen(id, &mut row);
            if normalize(&mut row).is_some() {
                samples[i % count].directions.extend(row.iter().map(|x| *x as f32));
            }
        }
        samples.into()
    }

    fn rows(&self) -> usize {
        self.directions.len() / self.dim
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.directions[i * self.dim..][..self.dim]
    }

    /// One byte for each stored component.
    fn stored_basis(&self) -> SketchBasis {
        let component = |i: usize| {
            let values = self.directions.iter().skip(i).step_by(self.dim).copied().collect();
            Direction::new(values).component(2)
        };
        let components = (0..self.dim).map(component).collect();
        SketchBasis::assemble(self.dim, CodeForm::Bytes, Vec::new(), components, Left::UNKNOWN)
    }

    /// Digits along the principal components, for several numbers of digits.
    fn pca_bases(&self) -> impl Iterator<Item = SketchBasis> + '_ {
        let dim = self.dim;
        let kernels = CodeKernels::of(Backend::fastest());
        // The second moments, not the covariance: a common mean is a direction too, of much length
        // and little spread.
        let mut moments = vec![0.0; dim * dim];
        self.directions.chunks(8 * dim).for_each(|rows| kernels.add_outer(rows, dim, &mut moments));
        let count = dim.min(COMPONENTS_MAX);
        let start = || {
            let rows = (0..count).map(|i| self.row(i * self.rows() / count));
            rows.flat_map(|row| row.iter().map(|x| f64::from(*x))).collect()
        };
        let vectors = Symmetric::from_upper(dim, moments).leading(count, start);
        let directions = self.coordinates(&vectors);
        let basis = move |slots: usize| {
            let digits = spend(&directions, slots);
            let chosen: Vec<usize> = (0..directions.len()).filter(|i| digits[*i] > 0).collect();
            if chosen.is_empty() {
                return None;
            }
            let components: Vec<Component> = chosen.iter().map(|i| directions[*i].component(digits[*i])).collect();
            let matrix = self.matrix(&vectors, &chosen);
            Some(SketchBasis::assemble(dim, CodeForm::Nibbles, matrix, components, Left::UNKNOWN))
        };
        let tried = SLOTS.iter().position(|slots| *slots >= 2 * dim).map_or(SLOTS.len(), |last| last + 1);
        SLOTS[..tried].iter().map_while(move |slots| basis(*slots))
    }

    /// Chosen vectors as the columns of a matrix.
    fn matrix(&self, vectors: &[f64], chosen: &[usize]) -> Vec<f32> {
        (0..self.dim).flat_map(|i| chosen.iter().map(move |j| vectors[j * self.dim + i] as f32)).collect()
    }

    /// The coordinates of the sample along vectors.
    fn coordinates(&self, vectors: &[f64]) -> Vec<Direction> {
        let all: Vec<usize> = (0..vectors.len() / self.dim).collect();
        let component = Component { centre: 0.0, step: 1.0, weight: 1.0, digits: 1 };
        let matrix = self.matrix(vectors, &all);
        let basis =
            SketchBasis::assemble(self.dim, CodeForm::Nibbles, matrix, vec![component; all.len()], Left::UNKNOWN);
        let projection = Projection::new(&basis, Kernels::fastest());
        let mut coordinates = vec![Vec::with_capacity(self.rows()); all.len()];
        projection.for_each_row(&self.directions, |row| {
            coordinates.iter_mut().zip(row).for_each(|(out, x)| out.push(*x as f32));
        });
        coordinates.into_iter().map(Direction::new).collect()
    }
}

/// Numbers of digits in turn that are worse than the best, after which no more are tried. More than
/// those that leave nearly all rows.
const WORSE_MAX: usize = 3;

/// Numbers of digits that are tried.
const SLOTS: [usize; 9] = [64, 128, 192, 256, 320, 384, 512, 768, 1024];

/// Rows of the sample as queries, with the score of their k-th neighbour among all rows and among a
/// part of them.
struct Judgement<'s> {
    sample: &'s Sample,
    queries: Vec<(Query, [f64; 2])>,
}

/// Growth slows with size: this share of the exponent between the part and the whole fits tables of
/// 80 thousand to a million rows, structured and random ones.
const SLOWING: f64 = 0.7;

/// One row of so many is in the part, from which the growth of the rows left with the size of the
/// table is known.
const PART: usize = 4;

impl<'s> Judgement<'s> {
    fn new(sample: &'s Sample) -> Self {
        let rows = sample.rows();
        let ids: Vec<u32> = (0..rows as u32).collect();
        let queries = (0..QUERIES.min(rows)).filter_map(|i| {
            let row = sample.row((2 * i + 1) * rows / (2 * QUERIES.min(rows)));
            let query = Query::try_new(Metric::Dot, row).ok()?;
            let mut padded = row.to_vec();
            padded.resize(sample.dim.next_multiple_of(QUERY_PADDING), 0.0);
            let (mut dots, mut squares) = (vec![0.0; rows], vec![0.0; rows]);
            let all = Rows::new(&sample.directions, sample.dim, &ids);
            Kernels::fastest().dot_and_square(all, &padded, &mut dots, &mut squares);
            // The first neighbour of a row is the row.
            let nearest = |mut dots: Vec<f32>| {
                let k = K.min(dots.len() - 1);
                f64::from(*dots.select_nth_unstable_by(k, |a, b| b.total_cmp(a)).1)
            };
            let part = nearest(dots.iter().copied().step_by(PART).collect());
            Some((query, [nearest(dots), part]))
        });
        Self { sample, queries: queries.collect() }
    }

    /// The rows that the bound of a basis leaves, and how they grow with the rows of a table.
    fn left(&self, basis: &SketchBasis) -> Left {
        let kernels = CodeKernels::of(Backend::fastest());
        let column = VectorColumn::of_floats(&self.sample.directions, self.sample.dim);
        let Ok(sketch) = Arc::new(basis.clone()).encode(&column) else { return Left::UNKNOWN };
        let rows = sketch.len();
        let ids: Vec<u32> = (0..rows as u32).collect();
        let (mut sums, mut values, mut survivors) = (vec![0; rows], vec![0.0; rows], Vec::new());
        let (mut of_all, mut of_part) = (0, 0);
        for (query, [score, part_score]) in &self.queries {
            let Some(bound) = SketchBound::new(basis, kernels, Metric::Dot, query, false) else { continue };
            let limits = bound.limits(-score);
            kernels.sums(sketch.codes(), &bound.weights, &ids, &mut sums);
            kernels.values(&sums, sketch.residuals(), None, &limits, &mut values);
            survivors.clear();
            kernels.survivors(&values, limits.limit, &mut survivors);
            of_all += survivors.len();
            survivors.clear();
            kernels.survivors(&values, bound.limits(-part_score).limit, &mut survivors);
            of_part += survivors.iter().filter(|i| (**i as usize).is_multiple_of(PART)).count();
        }
        let growth = (of_all.max(1) as f64 / of_part.max(1) as f64).ln() / (PART as f64).ln();
        Left {
            of_sample: of_all as f64 / (self.queries.len().max(1) * K) as f64,
            sample_rows: rows as f64,
            growth: SLOWING * growth.clamp(0.0, 1.0),
        }
    }
}
