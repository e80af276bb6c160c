//! The scan: every selected row once, in parallel, each block of rows approximated, filtered by the
//! current threshold, and the survivors kept as candidates; then the survivors are computed
//! exactly.
//!
//! Threads claim morsels of rows from a counter, so that a slow core takes fewer; thresholds are
//! shared.

mod batch;
pub(crate) mod grouped;
mod integer;
mod judge;
pub(crate) mod max_sim;
mod rows;
mod single;
mod sketched;

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use arrow_buffer::BooleanBuffer;
use rayon::prelude::*;

use crate::arch::Kernels;
use crate::candidates::{Candidate, Candidates, SharedThreshold, narrow, resolve};
use crate::column::{ChunkedColumn, Components};
use crate::metric::Metric;
use crate::pool;
use crate::query::Query;
use crate::tier::{F32, Form, Tier};

use integer::IntegerQueries;
use sketched::Sketched;

/// Bytes that a thread claims at a time.
const MORSEL_BYTES: usize = 1 << 20;

/// Below this many bytes to read, waking a second thread costs more than it saves.
const BYTES_PER_THREAD: usize = 1 << 18;

/// What to scan, with everything validated.
pub(crate) struct Job<'a> {
    pub column: &'a ChunkedColumn<'a>,
    pub selection: Option<&'a BooleanBuffer>,
    pub metric: Metric,
    pub queries: &'a [Query],
    pub k: Option<usize>,
    /// The largest key that is in the result.
    pub radius: Option<f64>,
    /// The smallest key that is in the result; only of one query.
    pub inner: Option<f64>,
    /// SQL's distances instead of a search's scores: nothing clamped, infinities ranked, NaN and
    /// NULL reported apart.
    pub is_sql: bool,
    /// Positions instead of keys: rows that are certainly within the radius are not computed.
    pub is_rows_only: bool,
    pub tier: Tier,
    pub kernels: &'static Kernels,
    pub threads: usize,
}

/// The tier that a scan used, and why.
#[derive(Debug, Default)]
pub(crate) struct TierUse {
    pub tier: Tier,
    pub components: Option<usize>,
    pub reason: Option<String>,
    /// Bytes of one row's codes, for the rows that were judged by them.
    pub code_bytes: usize,
}

/// The rows found by a scan, and its counts and times.
#[derive(Default)]
pub(crate) struct ScanResult {
    /// For each query (key, position), sorted.
    pub rankings: Vec<Vec<Candidate>>,
    /// Positions whose distance is NaN, sorted (`is_sql`).
    pub nan: Vec<u64>,
    /// Positions that are not NULL and have no distance, sorted (`is_sql`).
    pub undefined: Vec<u64>,
    pub counts: Counts,
    pub tier: TierUse,
    /// Bytes of the codes, and of the vectors without a sketch, of the rows to read.
    pub bytes_planned: usize,
    pub threads: usize,
    pub scan_us: u64,
    pub refine_us: u64,
}

/// Counts of one thread, or of all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub rows_scanned: u64,
    /// Those of them that were judged by a sketch.
    pub rows_sketched: u64,
    /// Pairs of a row and a query that a sketch left over.
    pub rows_left: u64,
    /// Rows read that cannot be compared.
    pub rows_skipped: u64,
    /// Pairs of a row and a query that the bound left over.
    pub survivors: u64,
    pub refined: u64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.rows_scanned += other.rows_scanned;
        self.rows_sketched += other.rows_sketched;
        self.rows_left += other.rows_left;
        self.rows_skipped += other.rows_skipped;
        self.survivors += other.survivors;
        self.refined += other.refined;
    }
}

/// Per-thread partial result.
#[derive(Default)]
struct PartialResult {
    candidates: Vec<Vec<Candidate>>,
    nan: Vec<u64>,
    undefined: Vec<u64>,
    counts: Counts,
}

impl Job<'_> {
    /// How rows are computed for one query at a time.
    fn one_query_form(&self) -> Form {
        match self.metric {
            Metric::L2 | Metric::L2Squared => Form::Differences,
            Metric::L1 => Form::AbsoluteDifferences,
            Metric::Cosine | Metric::Dot | Metric::Hamming | Metric::Jaccard => Form::DotAndSquare,
        }
    }

    fn bound(&self, query: usize, form: Form) -> F32<'_> {
        let components = self.column.chunks().first().map(|chunk| chunk.components());
        let is_rounded = matches!(components, Some(Components::F64(_)));
        F32::new(self.metric, &self.queries[query], form, is_rounded, !self.is_sql)
    }

    /// One bound of a sketch for each query; `None` if one of them has none.
    fn sketch_bounds<'j, T: Send>(&'j self, bound: impl Fn(&'j Query) -> Option<T> + Send + Sync) -> Option<Vec<T>> {
        match self.queries.len() {
            1 => self.queries.iter().map(bound).collect(),
            _ => pool::in_pool(|| self.queries.par_iter().map(bound).collect()),
        }
    }

    /// The key of a row; NaN only where `is_sql`.
    fn exact(&self, query: usize, position: u64) -> Option<f64> {
        let (chunk, row) = self.column.locate(position);
        let (chunk, query) = (&self.column.chunks()[chunk], &self.queries[query].values);
        let score = if self.is_sql {
            chunk.stored_distance(self.metric, row, query)
        } else {
            chunk.stored_score(self.metric, row, query)
        };
        score.map(|score| self.metric.key(score))
    }

    /// Narrows the interval of a row's key where it contains the inner radius. Returns `None` for a
    /// row that is closer.
    fn outside(
        &self,
        query: usize,
        (low, high): (f64, f64),
        position: u64,
        partial: &mut PartialResult,
    ) -> Option<(f64, f64)> {
        let Some(inner) = self.inner.filter(|inner| low < *inner) else { return Some((low, high)) };
        if high < inner {
            return None;
        }
        partial.counts.refined += 1;
        let key = self.exact(query, position)?;
        (key >= inner).then_some((key, key))
    }

    /// Remembers a row that has no key.
    fn set_aside(&self, partial: &mut PartialResult, position: u64, key: Option<f64>) {
        partial.counts.rows_skipped += 1;
        if self.is_sql && key.is_some() {
            partial.nan.push(position);
        } else if self.is_sql {
            partial.undefined.push(position);
        }
    }

    /// The sketches that serve the search of so many groups, or the reason why none does.
    fn sketched(&self, rows: usize, groups: usize, threads: usize) -> (Option<Sketched<'_>>, Option<String>) {
        match self.tier {
            Tier::F32 => (None, None),
            _ if self.metric == Metric::L1 => (None, Some("sketches do not bound l1".into())),
            tier => match Sketched::new(self, tier, (rows, groups), threads) {
                Ok(sketched) => (Some(sketched), None),
                Err(reason) => (None, Some(reason)),
            },
        }
    }

    /// Runs the scan on up to `threads` threads, this one among them.
    pub fn run(&self) -> ScanResult {
        let started = Instant::now();
        let candidate_rows = self.selection.map_or(self.column.len(), BooleanBuffer::count_set_bits);
        let wanted = if self.threads == 0 { pool::threads() } else { self.threads };
        let integer = IntegerQueries::of(self);
        let (sketched, reason) = match integer.is_some() {
            true => (None, None),
            false => self.sketched(candidate_rows, 1, wanted),
        };
        let scan = rows::Scan::new(self.column, self.selection, sketched.as_ref());
        let work = scan.bytes.saturating_mul(self.queries.len());
        let parts = (scan.morsels.len() + scan.sketched.len()).max(1);
        let threads = wanted.min(work.div_ceil(BYTES_PER_THREAD)).clamp(1, parts);

        let thresholds: Vec<SharedThreshold> =
            self.queries.iter().map(|_| SharedThreshold::new(self.radius.unwrap_or(f64::INFINITY))).collect();
        let (next, next_sketched) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |pause: &dyn Fn()| {
            let claim_sketched = || {
                pause();
                scan.sketched.get(next_sketched.fetch_add(1, Ordering::Relaxed))
            };
            // The chunks without a sketch, and after them those whose sketch was left.
            let claim = || {
                pause();
                scan.morsels
                    .get(next.fetch_add(1, Ordering::Relaxed))
                    .or_else(|| scan.sketched.get(next_sketched.fetch_add(1, Ordering::Relaxed)))
            };
            let mut partial = PartialResult::default();
            let mut all: Vec<Candidates> =
                thresholds.iter().map(|threshold| Candidates::new(self.k, threshold.get())).collect();
            if let Some(queries) = &integer {
                integer::scan(self, queries, &scan, &thresholds, claim, &mut all, &mut partial);
                partial.candidates = all.into_iter().map(Candidates::into_items).collect();
                return partial;
            }
            if let Some(sketched) = &sketched {
                all = sketched::scan(self, sketched, &scan, &thresholds, claim_sketched, all, &mut partial);
            }
            let has_vectors = !scan.morsels.is_empty() || sketched.as_ref().is_some_and(Sketched::has_left);
            // A sum of absolute differences is no matrix product.
            let is_product = all.len() > 1 && self.metric != Metric::L1;
            if has_vectors && is_product {
                batch::scan(self, &scan, &thresholds, claim, &mut all, &mut partial);
            } else if has_vectors {
                all = single::scan(self, &scan, &thresholds, claim, all, &mut partial);
            }
            partial.candidates = all.into_iter().map(Candidates::into_items).collect();
            partial
        };
        let partials = in_parallel(threads, &work);
        let scan_us = started.elapsed().as_micros() as u64;

        let started = Instant::now();
        let tier = match &integer {
            Some(queries) => {
                TierUse { tier: Tier::Integer, reason: Some(queries.reason().into()), ..TierUse::default() }
            }
            None => tier_use(sketched.as_ref(), reason),
        };
        let mut result = ScanResult { tier, bytes_planned: scan.bytes, threads, scan_us, ..ScanResult::default() };
        let mut all: Vec<Vec<Candidate>> = vec![Vec::new(); self.queries.len()];
        for partial in partials {
            result.counts.add(partial.counts);
            result.nan.extend(partial.nan);
            result.undefined.extend(partial.undefined);
            for (all, own) in all.iter_mut().zip(partial.candidates) {
                all.extend(own);
            }
        }
        result.nan.sort_unstable();
        result.undefined.sort_unstable();
        let refine = |(query, items)| self.refine(query, items);
        let refined: Vec<(Vec<Candidate>, u64)> = if threads > 1 && all.len() > 1 {
            pool::in_pool(|| all.into_par_iter().enumerate().map(refine).collect())
        } else {
            all.into_iter().enumerate().map(refine).collect()
        };
        for (ranking, count) in refined {
            result.counts.refined += count;
            result.rankings.push(ranking);
        }
        result.refine_us = started.elapsed().as_micros() as u64;
        result
    }

    /// The k best of the candidates, exactly; and how many had to be computed.
    fn refine(&self, query: usize, items: Vec<Candidate>) -> (Vec<Candidate>, u64) {
        if self.is_rows_only {
            return self.refine_rows(query, items);
        }
        let items = narrow(items, self.k);
        let count = items.iter().filter(|candidate| candidate.low != candidate.high).count() as u64;
        let mut ranking = resolve(items, |position| self.exact(query, position));
        if let Some(radius) = self.radius {
            ranking.retain(|candidate| candidate.low <= radius);
        }
        ranking.truncate(self.k.unwrap_or(usize::MAX));
        (ranking, count)
    }
}

impl Job<'_> {
    /// The candidates within the radius by position, computing only those whose interval contains
    /// it.
    fn refine_rows(&self, query: usize, mut items: Vec<Candidate>) -> (Vec<Candidate>, u64) {
        let radius = self.radius.unwrap_or(f64::INFINITY);
        let mut count = 0;
        items.retain(|candidate| {
            let is_decided = candidate.high <= radius;
            count += u64::from(!is_decided);
            is_decided || self.exact(query, candidate.position).is_some_and(|key| key <= radius)
        });
        items.sort_unstable_by_key(|candidate| candidate.position);
        (items, count)
    }
}

/// The tier for the report. `reason` says why no sketch was used.
fn tier_use(sketched: Option<&Sketched<'_>>, reason: Option<String>) -> TierUse {
    let Some(sketched) = sketched else { return TierUse { tier: Tier::F32, reason, ..TierUse::default() } };
    let basis = sketched.basis();
    let reason = if sketched.has_left() {
        format!("the {} sketch left too many rows, so most were read as vectors", basis.tier())
    } else {
        basis.describe_reads(sketched.row_bytes(), sketched.uncovered())
    };
    TierUse {
        tier: basis.tier(),
        components: Some(basis.components()),
        reason: Some(reason),
        code_bytes: sketched.row_bytes(),
    }
}

/// Runs `work` on `threads` threads of the current rayon pool, the calling one among them. `work`
/// calls what it is given before each of its parts.
///
/// A thread that is woken may be put behind this one on the same core, while others that end their
/// work still keep the idle cores, and then stays there for milliseconds. So who has not begun by
/// the second part is called again: that wakes another thread.
pub(crate) fn in_parallel<T: Send>(threads: usize, work: &(impl Fn(&dyn Fn()) -> T + Sync)) -> Vec<T> {
    let results = Mutex::new(Vec::with_capacity(threads));
    let begun = AtomicUsize::new(1);
    let add = |result| results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
    let join = || {
        if begun.fetch_add(1, Ordering::Relaxed) < threads {
            add(work(&|| ()));
        }
    };
    pool::in_place_scope(|scope| {
        let call = || (begun.load(Ordering::Relaxed)..threads).for_each(|_| scope.spawn(|_| join()));
        let parts = Cell::new(0);
        add(work(&|| {
            if parts.replace(parts.get() + 1) < 2 {
                call();
            }
        }));
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}
