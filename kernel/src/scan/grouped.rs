//! The k best rows of each group in one scan: every row is judged under the threshold of its own
//! group, and only the rows that are left are computed exactly.

mod best;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use arrow_buffer::BooleanBuffer;
use rayon::prelude::*;

use super::integer::IntegerQueries;
use super::judge::{BLOCK, approximate, padded};
use super::rows::{Morsel, Scan, Staging};
use super::sketched::Sketched;
use super::{BYTES_PER_THREAD, Counts, Job, PartialResult, ScanResult, in_parallel, tier_use};
use crate::candidates::{Candidate, narrow, resolve};
use crate::pool;
use crate::tier::{Approximation, F32, Form, Limits, Tier};

use best::{Best, keep_tied};

/// Rows whose codes are judged at a time.
const CODED: usize = 1024;

/// Rows that wait, of one thread, before they are judged after all.
const PENDING_MAX: usize = 1 << 15;

/// Vectors prefetched before they are judged.
const PREFETCHED: usize = 32;

/// The groups of a search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Groups<'g> {
    /// The group of each position.
    pub of_row: &'g [u32],
    /// True if the rows of a group that are tied with its k-th are kept too.
    pub has_ties: bool,
}

/// A row of the result: its group, and its exact key.
pub(crate) type GroupedCandidate = (u32, Candidate);

/// State that the threads of a scan share.
struct Shared<'s> {
    job: &'s Job<'s>,
    groups: Groups<'s>,
    scan: &'s Scan<'s>,
    sketched: Option<&'s Sketched<'s>>,
    best: &'s [Mutex<Best>],
    k: usize,
    is_integer: bool,
}

/// A row that only the bound of its code keeps.
struct Pending {
    chunk: u32,
    id: u32,
    value: f32,
}

/// One thread's share, with the thresholds that it knows as limits of each group.
struct Worker<'s> {
    shared: &'s Shared<'s>,
    form: Form,
    bound: F32<'s>,
    padded: Vec<f32>,
    limits: Vec<Limits>,
    /// For each basis, the limit of each group.
    code_limits: Vec<Vec<f32>>,
    staging: Staging,
    pending: Vec<Pending>,
    judged: usize,
    coded: usize,
    partial: PartialResult,
}

impl<'s> Worker<'s> {
    fn new(shared: &'s Shared<'s>) -> Self {
        let job = shared.job;
        let form = job.one_query_form();
        let bound = job.bound(0, form);
        let threshold = job.radius.unwrap_or(f64::INFINITY);
        let limits = vec![bound.limits(threshold); shared.best.len()];
        let code_limits = shared.sketched.map_or_else(Vec::new, |sketched| {
            let limit = |basis| sketched.bound_of(basis).limits(threshold).limit;
            (0..sketched.bases()).map(|basis| vec![limit(basis); shared.best.len()]).collect()
        });
        Self {
            shared,
            form,
            bound,
            padded: padded(&job.queries[0]),
            limits,
            code_limits,
            staging: Staging::default(),
            pending: Vec::new(),
            judged: 0,
            coded: 0,
            partial: PartialResult::default(),
        }
    }

    fn group(&self, chunk: usize, id: u32) -> usize {
        self.shared.groups.of_row[self.shared.job.column.start(chunk) + id as usize] as usize
    }

    /// Adds a row to its group and learns the group's threshold.
    fn keep(&mut self, group: usize, candidate: Candidate) {
        let Shared { job, groups, best, k, sketched, .. } = *self.shared;
        self.partial.counts.survivors += 1;
        let refined = &mut self.partial.counts.refined;
        let exact = |position| {
            *refined += 1;
            job.exact(0, position)
        };
        let threshold = {
            let mut best = best[group].lock().unwrap_or_else(PoisonError::into_inner);
            best.push(candidate, k, groups.has_ties, exact);
            best.threshold
        };
        self.limits[group] = self.bound.limits(threshold);
        for (basis, limits) in self.code_limits.iter_mut().enumerate() {
            if let Some(sketched) = sketched {
                limits[group] = sketched.bound_of(basis).limits(threshold).limit;
            }
        }
    }

    /// Judges rows of a chunk by their vectors.
    fn judge(&mut self, chunk: usize, ids: &[u32]) {
        let job = self.shared.job;
        let column = &job.column.chunks()[chunk];
        let start = job.column.start(chunk) as u64;
        for ids in ids.chunks(BLOCK) {
            let (mut values, mut squares) = ([0.0_f32; BLOCK], [0.0_f32; BLOCK]);
            if !self.shared.is_integer {
                let query = (self.form, &self.padded[..]);
                approximate(job, query, (column, ids), &mut self.staging, (&mut values, &mut squares));
            }
            for (i, &id) in ids.iter().enumerate() {
                let (group, position) = (self.group(chunk, id), start + u64::from(id));
                let interval = if self.shared.is_integer {
                    None
                } else if self.form.is_ordinary(squares[i]) && self.limits[group].reject(values[i], squares[i]) {
                    continue;
                } else {
                    self.bound.interval(values[i], squares[i])
                };
                let interval = interval.or_else(|| {
                    self.partial.counts.refined += 1;
                    let key = job.exact(0, position).filter(|key| !key.is_nan());
                    if key.is_none() {
                        job.set_aside(&mut self.partial, position, None);
                    }
                    key.map(|key| (key, key))
                });
                let Some(interval) = interval else { continue };
                if let Some((low, high)) = job.outside(0, interval, position, &mut self.partial) {
                    self.keep(group, Candidate { low, high, position });
                }
            }
        }
    }

    /// Judges the rows that a sketch left.
    fn judge_left(&mut self, chunk: usize, ids: &[u32]) {
        self.judged += ids.len();
        self.partial.counts.rows_left += ids.len() as u64;
        self.judge(chunk, ids);
    }

    /// Judges a morsel by its codes.
    fn by_codes(&mut self, sketched: &Sketched<'s>, morsel: &Morsel) {
        let (job, chunk) = (self.shared.job, morsel.chunk);
        let column = self.shared.scan.chunk(morsel);
        let Some(sketch) = column.sketch() else { return };
        let basis = sketched.basis_of(chunk);
        let bound = sketched.bound_of(basis);
        let limits = bound.limits(f64::INFINITY);
        let (mut sums, mut values) = (Vec::new(), Vec::new());
        let (mut words, mut norms) = (Vec::new(), Vec::new());
        let (mut left, mut next): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        self.shared.scan.for_each_block_in_order(morsel, CODED, |ids| {
            let counts = &mut self.partial.counts;
            counts.rows_scanned += ids.len() as u64;
            counts.rows_sketched += ids.len() as u64;
            self.coded += ids.len();
            sums.resize(ids.len(), 0);
            values.resize(ids.len(), 0.0);
            words.clear();
            words.extend(ids.iter().map(|id| sketch.residuals()[*id as usize]));
            norms.clear();
            norms.extend(ids.iter().map(|id| sketch.norms()[*id as usize]));
            let kernels = sketched.kernels();
            kernels.sums(sketch.codes(), &bound.weights, ids, &mut sums);
            let scaled = bound.needs_norms().then_some(&norms[..]);
            kernels.values(&sums, &words, scaled, &limits, &mut values);
            // The rows of the block before, whose vectors have arrived by now.
            self.judge_left(chunk, &left);
            next.clear();
            for (i, &id) in ids.iter().enumerate() {
                let limit = self.code_limits[basis][self.group(chunk, id)];
                // NaN is not rejected.
                if values[i] < limit {
                    continue;
                }
                let interval = job.inner.and_then(|_| bound.interval(sums[i], words[i], norms[i]));
                if job.inner.zip(interval).is_some_and(|(inner, (_, high))| high < inner) {
                    continue;
                }
                if values[i].is_finite() && bound.estimate(sums[i], norms[i]) < f64::from(limit) {
                    self.pending.push(Pending { chunk: chunk as u32, id, value: values[i] });
                } else {
                    next.push(id);
                }
            }
            next.iter().take(PREFETCHED).for_each(|id| column.prefetch(*id as usize));
            std::mem::swap(&mut left, &mut next);
        });
        self.judge_left(chunk, &left);
        if self.pending.len() > PENDING_MAX {
            self.flush(sketched);
        }
        if sketched.does_not_pay(self.judged + self.pending.len(), self.coded) {
            self.prune(sketched);
            if sketched.does_not_pay(self.judged + self.pending.len(), self.coded) {
                sketched.leave();
            }
        }
    }

    fn is_rejected(&self, sketched: &Sketched<'s>, pending: &Pending) -> bool {
        let chunk = pending.chunk as usize;
        pending.value < self.code_limits[sketched.basis_of(chunk)][self.group(chunk, pending.id)]
    }

    /// Drops the waiting rows that the thresholds reject by now.
    fn prune(&mut self, sketched: &Sketched<'s>) {
        let mut pending = std::mem::take(&mut self.pending);
        pending.retain(|pending| !self.is_rejected(sketched, pending));
        self.pending = pending;
    }

    /// Judges the waiting rows.
    fn flush(&mut self, sketched: &Sketched<'s>) {
        let pending = std::mem::take(&mut self.pending);
        let column = self.shared.job.column;
        let mut ids = Vec::with_capacity(PREFETCHED);
        for of_chunk in pending.chunk_by(|a, b| a.chunk == b.chunk) {
            let chunk = of_chunk[0].chunk as usize;
            for group in of_chunk.chunks(PREFETCHED) {
                ids.clear();
                ids.extend(group.iter().filter(|pending| !self.is_rejected(sketched, pending)).map(|p| p.id));
                ids.iter().for_each(|id| column.chunks()[chunk].prefetch(*id as usize));
                self.judge_left(chunk, &ids);
            }
        }
    }

    fn run<'m>(mut self, sketched: impl Fn() -> Option<&'m Morsel>, rest: impl Fn() -> Option<&'m Morsel>) -> Self {
        if let Some(by_codes) = self.shared.sketched {
            while !by_codes.has_left() {
                let Some(morsel) = sketched() else { break };
                self.by_codes(by_codes, morsel);
            }
            self.flush(by_codes);
        }
        while let Some(morsel) = rest() {
            let scan = self.shared.scan;
            scan.for_each_block(morsel, BLOCK, |ids| {
                self.partial.counts.rows_scanned += ids.len() as u64;
                self.judge(morsel.chunk, ids);
            });
        }
        self
    }
}

impl Job<'_> {
    /// The k best rows of each group, in the order of groups, each group best first.
    pub fn run_grouped(&self, groups: Groups<'_>) -> (Vec<GroupedCandidate>, ScanResult) {
        let started = Instant::now();
        let k = self.k.unwrap_or(usize::MAX);
        let count = groups.of_row.iter().max().map_or(0, |group| *group as usize + 1);
        let rows = self.selection.map_or(self.column.len(), BooleanBuffer::count_set_bits);
        let wanted = if self.threads == 0 { pool::threads() } else { self.threads };
        let integer = IntegerQueries::of(self);
        let (sketched, reason) = match integer.is_some() {
            true => (None, None),
            false => self.sketched(rows, count, wanted),
        };
        let scan = Scan::new(self.column, self.selection, sketched.as_ref());
        let parts = (scan.morsels.len() + scan.sketched.len()).max(1);
        let threads = wanted.min(scan.bytes.div_ceil(BYTES_PER_THREAD)).clamp(1, parts);
        let threshold = self.radius.unwrap_or(f64::INFINITY);
        let empty = || Mutex::new(Best::new(k, threshold));
        let best: Vec<Mutex<Best>> = std::iter::repeat_with(empty).take(count).collect();
        let shared = Shared {
            job: self,
            groups,
            scan: &scan,
            sketched: sketched.as_ref(),
            best: &best,
            k,
            is_integer: integer.is_some(),
        };
        let (next, next_sketched) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let partials = in_parallel(threads, &|pause: &dyn Fn()| {
            let by_codes = || {
                pause();
                scan.sketched.get(next_sketched.fetch_add(1, Ordering::Relaxed))
            };
            // The chunks without a sketch, and after them those whose sketch was left.
            let rest = || {
                pause();
                let morsel = scan.morsels.get(next.fetch_add(1, Ordering::Relaxed));
                morsel.or_else(|| scan.sketched.get(next_sketched.fetch_add(1, Ordering::Relaxed)))
            };
            Worker::new(&shared).run(by_codes, rest).partial.counts
        });
        let scan_us = started.elapsed().as_micros() as u64;

        let started = Instant::now();
        let mut counts = Counts::default();
        partials.into_iter().for_each(|partial| counts.add(partial));
        let refine = |(group, best): (usize, Mutex<Best>)| {
            self.refine_group(
                group as u32,
                best.into_inner().unwrap_or_else(PoisonError::into_inner),
                k,
                groups.has_ties,
            )
        };
        let refined: Vec<(Vec<GroupedCandidate>, u64)> = if threads > 1 {
            pool::in_pool(|| best.into_par_iter().enumerate().map(refine).collect())
        } else {
            best.into_iter().enumerate().map(refine).collect()
        };
        counts.refined += refined.iter().map(|(_, count)| count).sum::<u64>();
        let tier = match &integer {
            Some(queries) => {
                super::TierUse { tier: Tier::Integer, reason: Some(queries.reason().into()), ..Default::default() }
            }
            None => tier_use(sketched.as_ref(), reason),
        };
        let result = ScanResult {
            tier,
            counts,
            bytes_planned: scan.bytes,
            threads,
            scan_us,
            refine_us: started.elapsed().as_micros() as u64,
            ..ScanResult::default()
        };
        (refined.into_iter().flat_map(|(rows, _)| rows).collect(), result)
    }

    /// The rows of one group that are in the result, and how many had to be computed.
    fn refine_group(&self, group: u32, best: Best, k: usize, has_ties: bool) -> (Vec<GroupedCandidate>, u64) {
        let items = narrow(best.items, Some(k));
        let count = items.iter().filter(|item| item.low != item.high).count() as u64;
        let mut items = resolve(items, |position| self.exact(0, position));
        if let Some(radius) = self.radius {
            items.retain(|item| item.low <= radius);
        }
        match has_ties {
            true => keep_tied(&mut items, k),
            false => items.truncate(k),
        }
        (items.into_iter().map(|item| (group, item)).collect(), count)
    }
}
