//! The law of the bounds: the key of a row lies in its interval, and a threshold that the key
//! reaches rejects it never. Checked with queries that make the Cauchy-Schwarz inequalities
//! equalities, so that a bound that is 1 % too small is seen.

use super::bound::SketchBound;
use super::*;
use crate::arch::Backend;
use crate::arch::codes::CodeKernels;
use crate::column::ChunkedColumn;
use crate::metric::Metric;
use crate::query::Query;
use crate::tier::Tier;

const METRICS: [Metric; 4] = [Metric::Cosine, Metric::Dot, Metric::L2, Metric::L2Squared];

fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / (1_u64 << 23) as f64 - 1.0
    }
}

/// Rows of falling spectrum; a mean, outlier components, sizes or single components by flavour.
pub(super) fn rows(flavour: usize, count: usize, dim: usize) -> Vec<f32> {
    let mut noise = noise(flavour as u64 + 1);
    let mut out = Vec::new();
    for i in 0..count {
        for j in 0..dim {
            let x = (noise() + noise()) / (1.0 + j as f64 / 8.0);
            out.push(match flavour {
                0 => x,
                1 => x + 0.8,
                2 if j < 3 => 30.0 * x,
                3 => x * [1e-6, 1.0, 1e9][i % 3],
                4 => f64::from(u8::from(i % dim == j)),
                5 => x.powi(9) * 1e6,
                6 => 1000.0 + x,
                _ => noise(),
            } as f32);
        }
    }
    out
}

/// How much of the law holds: rows checked, and rows that break it.
#[derive(Debug, Default)]
struct Law {
    checked: usize,
    broken: usize,
}

struct Fixture<'f> {
    column: VectorColumn<'f>,
    sketch: Sketch,
    kernels: &'static CodeKernels,
}

impl Fixture<'_> {
    /// The query for which the bound of a row is least slack: along its residual, weighted as the
    /// bound is.
    fn worst_query(&self, row: usize, sign: f64) -> Vec<f64> {
        let basis = self.sketch.basis();
        let (dim, count) = (basis.dim, basis.components.len());
        let mut x = vec![0.0; dim];
        self.column.widen(row, &mut x);
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.iter_mut().for_each(|x| *x /= norm);
        let entry = |i: usize, j: usize| match basis.matrix.is_empty() {
            true => f64::from(u8::from(i == j)),
            false => f64::from(basis.matrix[i * count + j]),
        };
        let mut query = x.clone();
        let p: Vec<f64> = (0..count).map(|j| (0..dim).map(|i| x[i] * entry(i, j)).sum()).collect();
        // The tail of the row, and along the components the weighted residual.
        let mut along = vec![0.0; dim];
        for (j, component) in basis.components.iter().enumerate() {
            let residual = (p[j] - component.code(p[j]).1) * f64::from(component.weight).powi(2);
            for i in 0..dim {
                query[i] -= p[j] * entry(i, j);
                along[i] += residual * entry(i, j);
            }
        }
        query.iter_mut().zip(along).for_each(|(tail, along)| *tail = sign * (*tail + along));
        query
    }

    fn check(&self, metric: Metric, query: &[f64], only: Option<usize>, factor: f64, law: &mut Law) {
        // The worst query is to leave nothing unused of the bound, so that it is hardly rounded.
        let loss = if only.is_some() { 0.0 } else { 0.1 };
        let Ok(query) = Query::try_new(metric, query) else { return };
        let basis = self.sketch.basis();
        let Some(mut bound) = SketchBound::with_loss(basis, self.kernels, metric, &query, true, loss) else { return };
        bound.factor = factor;
        let rows = self.sketch.len();
        let ids: Vec<u32> = (0..rows as u32).collect();
        let mut sums = vec![0; rows];
        self.kernels.sums(self.sketch.codes(), &bound.weights, &ids, &mut sums);
        for row in only.map_or(0..rows, |row| row..row + 1) {
            let Some(score) = self.column.score(metric, row, &query.values) else { continue };
            let key = metric.key(score);
            let (word, norm) = (self.sketch.residuals()[row], self.sketch.norms()[row]);
            let limits = bound.limits(key);
            let mut value = [0.0];
            let norms = [norm];
            let norms = bound.needs_norms().then_some(&norms[..]);
            self.kernels.values(&[sums[row]], &[word], norms, &limits, &mut value);
            let is_inside = bound.interval(sums[row], word, norm).is_none_or(|(low, high)| low <= key && key <= high);
            law.checked += 1;
            law.broken += usize::from(value[0] < limits.limit || !is_inside);
        }
    }
}

fn for_each_fixture(mut check: impl FnMut(&Fixture<'_>)) {
    for flavour in 0..8 {
        for dim in [1, 7, 64, 129] {
            let floats = rows(flavour, 160, dim);
            let column = VectorColumn::of_floats(&floats, dim);
            for tier in [Tier::I8, Tier::Pca4] {
                let basis = SketchBasis::train(&ChunkedColumn::from(&column), tier).basis.unwrap();
                let sketch = basis.encode(&column).unwrap();
                for backend in Backend::available() {
                    let kernels = CodeKernels::of(backend);
                    check(&Fixture { column: column.clone(), sketch: sketch.clone(), kernels });
                }
            }
        }
    }
}

#[test]
fn keys_lie_within_their_bounds() {
    let mut law = Law::default();
    for_each_fixture(|fixture| {
        let mut noise = noise(99);
        let dim = fixture.column.dim();
        for metric in METRICS {
            for scale in [1.0, 1e-7, 1e12] {
                let query: Vec<f64> = (0..dim).map(|_| scale * noise()).collect();
                fixture.check(metric, &query, None, 1.0, &mut law);
            }
            let mut own = vec![0.0; dim];
            fixture.column.widen(17, &mut own);
            fixture.check(metric, &own, None, 1.0, &mut law);
            for row in (0..fixture.sketch.len()).step_by(11) {
                for sign in [1.0, -1.0] {
                    fixture.check(metric, &fixture.worst_query(row, sign), Some(row), 1.0, &mut law);
                }
            }
        }
    });
    assert!(law.checked > 500_000 && law.broken == 0, "{law:?}");
}

#[test]
fn a_bound_that_is_one_percent_too_small_is_seen() {
    for tier in [Tier::I8, Tier::Pca4] {
        for metric in METRICS {
            let (mut sound, mut unsound) = (Law::default(), Law::default());
            for_each_fixture(|fixture| {
                if fixture.sketch.basis().tier() == tier {
                    for row in 0..fixture.sketch.len() {
                        let query = fixture.worst_query(row, 1.0);
                        fixture.check(metric, &query, Some(row), 1.0, &mut sound);
                        fixture.check(metric, &query, Some(row), 0.99, &mut unsound);
                    }
                }
            });
            assert_eq!(sound.broken, 0, "{tier} {metric}: {sound:?}");
            assert!(unsound.broken * 20 > unsound.checked, "{tier} {metric}: {unsound:?}");
        }
    }
}

#[test]
fn rows_that_no_bound_can_judge_are_marked() {
    let values = [0.0, f32::NAN, f32::INFINITY, 1e-20, 1e30, 1.0].map(|x| vec![x; 40]).concat();
    let column = VectorColumn::of_floats(&values, 40);
    for tier in [Tier::I8, Tier::Pca4] {
        let basis = SketchBasis::train(&ChunkedColumn::from(&column), tier).basis.unwrap();
        let sketch = basis.encode(&column).unwrap();
        let judged: Vec<bool> = sketch.residuals().iter().map(|word| f32::from_bits(*word).is_finite()).collect();
        assert_eq!(judged, [false, false, false, false, false, true], "{tier}");
    }
}

#[test]
fn a_sketch_that_grows_equals_one_made_at_once() {
    let floats = rows(0, 700, 64);
    let column = VectorColumn::of_floats(&floats, 64);
    let basis = SketchBasis::train(&ChunkedColumn::from(&column), Tier::Pca4).basis.unwrap();
    let mut grown = basis.encode(&VectorColumn::of_floats(&floats[..64 * 123], 64)).unwrap();
    grown.append(&VectorColumn::of_floats(&floats[64 * 123..64 * 500], 64)).unwrap();
    grown.append(&VectorColumn::of_floats(&floats[64 * 500..], 64)).unwrap();
    assert_eq!(grown, basis.encode(&column).unwrap());
    let message = grown.append(&VectorColumn::of_floats(&floats, 32)).unwrap_err().to_string();
    assert_eq!(message, "sketch does not match the column: expected vectors of 64 components, got 32 components");
}

#[test]
fn a_mean_and_outliers_do_not_defeat_a_sketch() {
    let count = 20_000;
    for flavour in [0, 1, 2] {
        let floats = rows(flavour, count, 128);
        let column = VectorColumn::of_floats(&floats, 128);
        let training = SketchBasis::train(&ChunkedColumn::from(&column), Tier::Auto);
        let basis = training.basis.unwrap_or_else(|| panic!("{flavour}: {}", training.reason));
        let sketch = basis.encode(&column).unwrap();
        let with = column.clone().with_sketch(&sketch).unwrap();
        for metric in METRICS {
            let query = &floats[128 * 77..128 * 78];
            let search = crate::Search::new(metric, query).unwrap().top_k(10).threads(1);
            let (plain, own) = (search.run(&column).unwrap(), search.run(&with).unwrap());
            assert_eq!((plain.rows, plain.scores), (own.rows, own.scores));
            let report = own.report;
            let left = report.execution.unwrap().rows_left.unwrap();
            assert!(
                left < count as u64 / 10,
                "{flavour} {metric}: {left} left: {}, {}",
                training.reason,
                report.reason
            );
            assert!(report.execution.unwrap().bytes_read * 2 < count as u64 * 512, "{report}");
        }
    }
}

#[test]
fn a_sketch_that_does_not_prune_is_left() {
    let dim = 256;
    let floats: Vec<f32> = rows(0, 1, dim).repeat(20_000);
    let column = VectorColumn::of_floats(&floats, dim);
    let basis = SketchBasis::train(&ChunkedColumn::from(&column), Tier::Pca4).basis.unwrap();
    let mut basis = basis.as_ref().clone();
    basis.left = super::basis::Left { of_sample: 1.0, sample_rows: 1.0, growth: 0.0 };
    let sketch = Arc::new(basis).encode(&column).unwrap();
    let with = column.clone().with_sketch(&sketch).unwrap();
    for queries in [1, 5] {
        let batch: Vec<&[f32]> = (0..queries).map(|i| &floats[i * dim..][..dim]).collect();
        let hits = crate::Search::batch(Metric::L2, &batch).unwrap().top_k(3).threads(1).run(&with).unwrap();
        assert_eq!(hits.rankings[0].rows, [0, 1, 2]);
        match hits.report.execution.unwrap().rows_left {
            Some(left) => {
                assert!(left < 6_000 * queries as u64, "{left}");
                assert!(hits.report.reason.contains("left too many rows"), "{}", hits.report.reason);
            }
            // Without integer tiles.
            None => assert!(queries > 1 && hits.report.reason.contains("matrix product"), "{}", hits.report.reason),
        }
    }
}
