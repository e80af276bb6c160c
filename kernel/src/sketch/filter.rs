//! Searches over sketches whose vectors are elsewhere: finds the rows that have to be read.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use arrow_buffer::BooleanBuffer;

use super::Sketch;
use super::bound::SketchBound;
use crate::arch::Backend;
use crate::arch::codes::CodeKernels;
use crate::metric::Metric;
use crate::query::Query;

/// Rows judged at a time.
const BLOCK: usize = 1024;

/// The rows of which sketches leave open whether a search returns them. Sketches are
/// [added](Self::add) one after the other and need not stay in memory.
///
/// A row is left out only if it is certainly farther than the radius, or than k rows that were
/// added: the answer is then among the other rows, ties included.
#[derive(Debug)]
pub struct SketchFilter {
    metric: Metric,
    query: Query,
    is_clamped: bool,
    k: Option<usize>,
    /// Keys above it are not in the answer.
    threshold: f64,
    /// The k smallest upper ends of intervals.
    highs: BinaryHeap<High>,
    open: Vec<Open>,
    rows: u64,
}

/// A row by the sketch it is in, and its position there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SketchedRow {
    /// The number that was given with the sketch.
    pub sketch: usize,
    /// Position in the sketch.
    pub row: usize,
}

/// An open row, and an interval that holds its key.
#[derive(Debug, Clone, Copy)]
struct Open {
    low: f64,
    high: f64,
    row: SketchedRow,
}

impl Open {
    /// Returns false if the key is certainly above a threshold. An end that is NaN is no bound.
    fn may_reach(&self, threshold: f64) -> bool {
        self.low.is_nan() || self.low <= threshold
    }
}

/// The upper end of an interval, in the order of numbers.
#[derive(Debug, PartialEq)]
struct High(f64);

impl Eq for High {}

impl PartialOrd for High {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for High {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl SketchFilter {
    pub(crate) fn new(metric: Metric, query: Query, is_clamped: bool, k: Option<usize>, radius: Option<f64>) -> Self {
        let threshold = radius.map_or(f64::INFINITY, |radius| metric.key(radius));
        let (highs, open) = (BinaryHeap::new(), Vec::new());
        Self { metric, query, is_clamped, k, threshold, highs, open, rows: 0 }
    }

    /// Judges the rows of a sketch that are selected. Returns false if the bounds of its basis do
    /// not hold for the query, so that all of its rows have to be read; nothing is added then.
    ///
    /// # Panics
    /// If the selection has another length than the sketch.
    pub fn add(&mut self, number: usize, sketch: &Sketch, selection: Option<&BooleanBuffer>) -> bool {
        assert!(selection.is_none_or(|bits| bits.len() == sketch.len()), "a bit for each row");
        let basis = sketch.basis();
        let (query, kernels) = (self.query.clone(), CodeKernels::of(Backend::fastest()));
        if basis.dim() != query.values.len() {
            return false;
        }
        let Some(bound) = SketchBound::new(basis, kernels, self.metric, &query, self.is_clamped) else {
            return false;
        };
        let (mut sums, mut values, mut survivors) = (Vec::new(), Vec::new(), Vec::new());
        let (mut words, mut norms, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for start in (0..sketch.len()).step_by(BLOCK) {
            let end = sketch.len().min(start + BLOCK);
            ids.clear();
            ids.extend((start..end).filter(|row| selection.is_none_or(|bits| bits.value(*row))).map(|row| row as u32));
            if ids.is_empty() {
                continue;
            }
            self.rows += ids.len() as u64;
            words.clear();
            words.extend(ids.iter().map(|id| sketch.residuals()[*id as usize]));
            norms.clear();
            norms.extend(ids.iter().map(|id| sketch.norms()[*id as usize]));
            sums.resize(ids.len(), 0);
            values.resize(ids.len(), 0.0);
            let limits = bound.limits(self.threshold);
            kernels.sums(sketch.codes(), &bound.weights, &ids, &mut sums);
            let row_norms = bound.needs_norms().then_some(&norms[..]);
            kernels.values(&sums, &words, row_norms, &limits, &mut values);
            survivors.clear();
            kernels.survivors(&values, limits.limit, &mut survivors);
            for &i in &survivors {
                let i = i as usize;
                let row = SketchedRow { sketch: number, row: ids[i] as usize };
                let interval = bound.interval(sums[i], words[i], norms[i]);
                let (low, high) = interval.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
                self.push(Open { low, high, row });
            }
        }
        self.settle();
        true
    }

    fn push(&mut self, open: Open) {
        if !open.may_reach(self.threshold) {
            return;
        }
        self.open.push(open);
        let Some(k) = self.k else { return };
        if open.high < f64::INFINITY {
            self.highs.push(High(open.high));
            if self.highs.len() > k {
                self.highs.pop();
            }
        }
        if self.highs.len() == k
            && let Some(High(worst)) = self.highs.peek()
        {
            self.threshold = self.threshold.min(*worst);
        }
    }

    fn settle(&mut self) {
        let threshold = self.threshold;
        self.open.retain(|open| open.may_reach(threshold));
    }

    /// Rows that were judged.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the `count` open rows that are closest by their intervals, in order. Their vectors are
    /// read first, because the k-th of them bounds the others well.
    pub fn take_closest(&mut self, count: usize) -> Vec<SketchedRow> {
        let middle = |open: &Open| if open.high < f64::INFINITY { open.low + open.high } else { f64::INFINITY };
        if count < self.open.len() {
            self.open.select_nth_unstable_by(count, |a, b| middle(a).total_cmp(&middle(b)));
        }
        let mut closest: Vec<SketchedRow> =
            self.open.drain(..count.min(self.open.len())).map(|open| open.row).collect();
        closest.sort_unstable();
        closest
    }

    /// Leaves out the rows that are certainly farther than `score`, which k rows are known to
    /// reach.
    pub fn bound_by(&mut self, score: f64) {
        let key = self.metric.key(score);
        if key < self.threshold {
            self.threshold = key;
            self.settle();
        }
    }

    /// The open rows, in order.
    pub fn into_open(self) -> Vec<SketchedRow> {
        let mut rows: Vec<SketchedRow> = self.open.into_iter().map(|open| open.row).collect();
        rows.sort_unstable();
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::SketchBasis;
    use super::super::tests::rows;
    use super::*;
    use crate::column::{ChunkedColumn, VectorColumn};
    use crate::search::Search;
    use crate::tier::Tier;

    const METRICS: [Metric; 4] = [Metric::Cosine, Metric::Dot, Metric::L2, Metric::L2Squared];

    /// The filter over two parts of a column, of which the second is judged row by row selected.
    fn open(search: &Search, column: (&Sketch, &Sketch), selection: Option<&BooleanBuffer>, k: usize) -> Vec<usize> {
        let mut filter = search.sketch_filter();
        let (first, second) = column;
        let part = |start: usize, len: usize| selection.map(|bits| bits.slice(start, len));
        assert!(filter.add(0, first, part(0, first.len()).as_ref()));
        assert!(filter.add(1, second, part(first.len(), second.len()).as_ref()));
        let place = |row: &SketchedRow| row.sketch * first.len() + row.row;
        let closest = filter.take_closest(k);
        let open = filter.into_open();
        let mut all: Vec<usize> = closest.iter().chain(&open).map(place).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|two| two[0] < two[1]), "no row twice");
        all
    }

    #[test]
    fn the_answer_is_among_the_open_rows() {
        let dim = 48;
        for flavour in 0..8 {
            let floats = rows(flavour, 700, dim);
            let column = VectorColumn::of_floats(&floats, dim);
            for tier in [Tier::I8, Tier::Pca4] {
                let basis = SketchBasis::train(&ChunkedColumn::from(&column), tier).basis.unwrap();
                let sketches = (
                    basis.encode(&VectorColumn::of_floats(&floats[..300 * dim], dim)).unwrap(),
                    basis.encode(&VectorColumn::of_floats(&floats[300 * dim..], dim)).unwrap(),
                );
                let selection = BooleanBuffer::collect_bool(700, |row| row % 3 != 0);
                for (metric, selection) in METRICS.into_iter().flat_map(|m| [(m, None), (m, Some(&selection))]) {
                    let query = &floats[17 * dim..18 * dim];
                    let Ok(search) = Search::new(metric, query) else { continue };
                    let search = search.top_k(5);
                    let reference = match selection {
                        Some(bits) => search.clone().selection(bits).run(&column).unwrap(),
                        None => search.run(&column).unwrap(),
                    };
                    let open = open(&search, (&sketches.0, &sketches.1), selection, 5);
                    let is_open = |row: &u64| open.binary_search(&(*row as usize)).is_ok();
                    assert!(reference.rows.iter().all(is_open), "{flavour} {tier} {metric}");
                    assert!(open.iter().all(|row| selection.is_none_or(|bits| bits.value(*row))));
                    let Some(radius) = reference.scores.last().filter(|score| score.is_finite()) else { continue };
                    let within = Search::new(metric, query).unwrap().radius(*radius);
                    let found = within.run(&column).unwrap();
                    let mut filter = within.sketch_filter();
                    assert!(filter.add(0, &basis.encode(&column).unwrap(), None));
                    let open: Vec<u64> = filter.into_open().iter().map(|row| row.row as u64).collect();
                    assert!(found.rows.iter().all(|row| open.binary_search(row).is_ok()), "{flavour} {tier} {metric}");
                }
            }
        }
    }

    #[test]
    fn a_threshold_leaves_few_rows_open() {
        let dim = 64;
        let floats = rows(0, 5000, dim);
        let column = VectorColumn::of_floats(&floats, dim);
        let basis = SketchBasis::train(&ChunkedColumn::from(&column), Tier::I8).basis.unwrap();
        let sketch = basis.encode(&column).unwrap();
        let search = Search::new(Metric::L2, &floats[..dim]).unwrap().top_k(3);
        let worst = *search.run(&column).unwrap().scores.last().unwrap();
        let mut filter = search.sketch_filter();
        assert!(filter.add(0, &sketch, None));
        assert_eq!(filter.rows(), 5000);
        assert_eq!(filter.take_closest(3)[0], SketchedRow { sketch: 0, row: 0 });
        filter.bound_by(worst);
        let left = filter.into_open().len();
        assert!(left < 100, "{left}");
    }

    #[test]
    fn a_query_of_another_dim_is_not_judged() {
        let floats = rows(0, 100, 64);
        let column = VectorColumn::of_floats(&floats, 64);
        let basis = SketchBasis::train(&ChunkedColumn::from(&column), Tier::I8).basis.unwrap();
        let mut filter = Search::new(Metric::L2, &[1.0_f32; 32]).unwrap().top_k(3).sketch_filter();
        assert!(!filter.add(0, &basis.encode(&column).unwrap(), None));
        assert_eq!(filter.rows(), 0);
    }
}
