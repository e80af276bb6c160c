//! Vectors of bytes: whole numbers and bits. Their sums are exact, so a row's key is known as soon
//! as it has been read, and no row is computed again.

use super::rows::{Morsel, Scan};
use super::{Job, PartialResult};
use crate::arch::bytes::{ByteKernels, ByteRows, GROUP, Sign, WordQuery, bytes_of};
use crate::candidates::{Candidate, Candidates, SharedThreshold};
use crate::column::Components;
use crate::metric::Metric;
use crate::reference::{jaccard, packed};
use crate::tier::Tier;

/// Rows between two looks at the shared thresholds.
const BLOCK: usize = 64;

/// The queries of a search in the form of the column's bytes.
pub(super) enum IntegerQueries {
    /// Whole numbers in the range of the column's, and the squares of their lengths.
    Words(Sign, Vec<(WordQuery, f64)>),
    /// Bits, packed as the rows are.
    Bits(Vec<Vec<u8>>),
}

impl IntegerQueries {
    /// Returns `None` if the column holds floats, or numbers of which a query is not one.
    pub fn of(job: &Job<'_>) -> Option<Self> {
        let sign = match job.column.chunks().first()?.components() {
            Components::I8(_) => Sign::Signed,
            Components::U8(_) => Sign::Unsigned,
            Components::Bits(_) => {
                return Some(Self::Bits(job.queries.iter().map(|query| packed(&query.values)).collect()));
            }
            _ => return None,
        };
        // Forced by a test: the stored numbers as floats.
        if job.tier == Tier::F32 {
            return None;
        }
        let words = |query: &crate::query::Query| {
            let square = query.values.iter().map(|q| q * q).sum();
            Some((WordQuery::new(&query.values, sign)?, square))
        };
        Some(Self::Words(sign, job.queries.iter().map(words).collect::<Option<_>>()?))
    }

    /// Why no bounds are needed, for the report.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Words(..) => "sums of whole numbers are exact",
            Self::Bits(_) => "counts of bits are exact",
        }
    }
}

/// Keys of a block of rows, one line of `BLOCK` for each query of a group.
struct Keys {
    sums: [f64; GROUP * BLOCK],
    squares: [f64; BLOCK],
    keys: [f64; GROUP * BLOCK],
}

impl Keys {
    /// Computes the keys of up to [`GROUP`] queries, from `first` on, whose candidates are `all`. A
    /// row without a distance has NaN, one that is certainly above the threshold infinity. Returns
    /// the number of queries.
    fn compute(
        &mut self,
        job: &Job<'_>,
        queries: &IntegerQueries,
        (rows, len): (ByteRows<'_>, usize),
        all: &[Candidates],
        first: usize,
    ) -> usize {
        let kernels = ByteKernels::of(job.kernels.backend);
        match queries {
            IntegerQueries::Words(sign, words) if job.metric == Metric::L1 => {
                kernels.l1(rows, *sign, &words[first].0, &mut self.keys[..len]);
                1
            }
            IntegerQueries::Words(sign, words) => {
                let group = &words[first..words.len().min(first + GROUP)];
                let mut of_group: [&WordQuery; GROUP] = [&group[0].0; GROUP];
                of_group.iter_mut().zip(group).for_each(|(query, (words, _))| *query = words);
                // The squares of the first group serve the others.
                let squares = (job.metric != Metric::Dot && first == 0).then_some(&mut self.squares[..len]);
                let dots = &mut self.sums[..group.len() * len];
                kernels.products(rows, *sign, &of_group[..group.len()], dots, squares);
                if job.metric == Metric::Cosine && first == 0 {
                    self.squares[..len].iter_mut().for_each(|square| *square = square.sqrt());
                }
                let lines = self.sums.chunks(len).zip(self.keys.chunks_mut(len));
                for (((dots, keys), (_, square)), candidates) in lines.zip(group).zip(&all[first..]) {
                    match job.metric {
                        Metric::Cosine => {
                            let threshold = candidates.threshold();
                            cosines(dots, &self.squares[..len], square.sqrt(), (threshold, !job.is_sql), keys);
                        }
                        metric => distances(metric, dots, &self.squares[..len], *square, keys),
                    }
                }
                group.len()
            }
            IntegerQueries::Bits(bits) => {
                let keys = &mut self.keys[..len];
                if job.metric == Metric::Hamming {
                    kernels.differing(rows, &bits[first], keys);
                } else {
                    let either = &mut self.squares[..len];
                    kernels.common(rows, &bits[first], keys, either);
                    keys.iter_mut().zip(either).for_each(|(key, either)| *key = jaccard(*key, *either));
                }
                1
            }
        }
    }
}

/// Keys of rows under cosine from whole numbers and the lengths of the rows, in the arithmetic of
/// [`crate::reference::distance`]. Few rows are divided: the quotient and the difference are off by
/// less than 1e-15, so a row beyond the threshold by ten times that is rejected by its product.
fn cosines(dots: &[f64], lengths: &[f64], norm: f64, (threshold, is_clamped): (f64, bool), keys: &mut [f64]) {
    let least = (1.0 - threshold - 1e-14) * norm;
    for ((key, dot), length) in keys.iter_mut().zip(dots).zip(lengths) {
        *key = if *dot < least * length {
            f64::INFINITY
        } else {
            // A row of zeros gives 0/0.
            let key = 1.0 - dot / (length * norm);
            if is_clamped { key.clamp(0.0, 2.0) } else { key }
        };
    }
}

/// Keys of rows from whole numbers, in the arithmetic of [`crate::reference::distance`]: its sums
/// are the same numbers, because those are exact in `f64` too.
fn distances(metric: Metric, dots: &[f64], squares: &[f64], square: f64, keys: &mut [f64]) {
    let rows = keys.iter_mut().zip(dots.iter().zip(squares));
    match metric {
        Metric::L2 => rows.for_each(|(key, (dot, x))| *key = (x - 2.0 * dot + square).sqrt()),
        Metric::L2Squared => rows.for_each(|(key, (dot, x))| *key = x - 2.0 * dot + square),
        _ => rows.for_each(|(key, (dot, _))| *key = -dot),
    }
}

/// One thread's share: adds to its candidates of each query.
pub(super) fn scan<'s>(
    job: &Job<'_>,
    queries: &IntegerQueries,
    scan: &Scan<'_>,
    shared: &[SharedThreshold],
    claim: impl Fn() -> Option<&'s Morsel>,
    all: &mut [Candidates],
    partial: &mut PartialResult,
) {
    let mut keys = Keys { sums: [0.0; GROUP * BLOCK], squares: [0.0; BLOCK], keys: [0.0; GROUP * BLOCK] };
    while let Some(morsel) = claim() {
        let chunk = scan.chunk(morsel);
        let start = scan.position(morsel, 0);
        let bytes = match chunk.components() {
            Components::I8(numbers) => bytes_of(numbers),
            Components::U8(bytes) | Components::Bits(bytes) => bytes,
            _ => continue,
        };
        scan.for_each_block_in_order(morsel, BLOCK, |ids| {
            partial.counts.rows_scanned += ids.len() as u64;
            let rows = ByteRows::new(bytes, chunk.row_bytes(), ids);
            let mut first = 0;
            while first < all.len() {
                let count = keys.compute(job, queries, (rows, ids.len()), all, first);
                for (query, keys) in (first..first + count).zip(keys.keys.chunks(ids.len())) {
                    all[query].learn(shared[query].get());
                    judge(job, query, &shared[query], (start, ids, keys), &mut all[query], partial);
                }
                first += count;
            }
        });
    }
}

/// Keeps the rows of a block that may be among the best of a query.
fn judge(
    job: &Job<'_>,
    query: usize,
    shared: &SharedThreshold,
    (start, ids, keys): (u64, &[u32], &[f64]),
    candidates: &mut Candidates,
    partial: &mut PartialResult,
) {
    for (&id, &key) in ids.iter().zip(keys) {
        if key > candidates.threshold() {
            continue;
        }
        let position = start + u64::from(id);
        if key.is_nan() {
            // A row counts once as skipped, by the first query.
            if query == 0 {
                job.set_aside(partial, position, None);
            }
            continue;
        }
        if job.inner.is_some_and(|inner| key < inner) {
            continue;
        }
        partial.counts.survivors += 1;
        if candidates.push(Candidate { low: key, high: key, position }, |_| Some(key)) {
            shared.lower(candidates.threshold());
        }
    }
}
