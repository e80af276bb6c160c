//! Chunks with a sketch: every row is judged by its codes, and only those that are left are read.
//!
//! A row whose estimate reaches the threshold is judged at once, because it may lower the
//! threshold. One that only its bound keeps waits: most of those fall once the threshold has its
//! final value.

use std::sync::atomic::{AtomicBool, Ordering};

use super::judge::{BLOCK, Judge};
use super::rows::{Morsel, Scan, Staging};
use super::{Job, PartialResult};
use crate::arch::codes::{CodeKernels, CodeLimits, CodeTile, CodeWeights};
use crate::candidates::{Candidate, Candidates, SharedThreshold};
use crate::sketch::bound::SketchBound;
use crate::sketch::{Sketch, SketchBasis};
use crate::tier::Tier;

/// Rows judged at a time: their sums stay in the first cache, for a batch their codes too.
const ROWS_OF_ONE: usize = 1024;
const ROWS_OF_BATCH: usize = 256;

/// Rows whose codes a thread claims at a time. Those of a batch that is left are few, because the
/// rest of a morsel is judged row by row.
const MORSEL_OF_ONE: usize = 4096;
const MORSEL_OF_BATCH: usize = 2 * ROWS_OF_BATCH;

/// Rows that wait, for one query of one thread, before they are judged after all.
const PENDING_MAX: usize = 1 << 14;

/// Vectors prefetched at a time: more would drive each other out of the first caches.
const PREFETCHED_MAX: usize = 32;

/// The cost of judging one vector by itself, in terms of one that is read in order; for a batch, of
/// one cell of its matrix product.
const JUDGED_OF_ONE: f64 = 2.0;
const JUDGED_OF_BATCH: f64 = 40.0;

/// The time of judging a row by its code, in terms of a vector that is read in order.
const CODED_OF_ONE: f64 = 0.25;

/// The share of a batch's waiting rows that counts: the threshold will reject most of them.
const WAITING_OF_BATCH: f64 = 0.25;

/// The loss at which a sketch is left, as a share of the time to read all vectors.
const LOSS_MAX: f64 = 0.04;

/// How many times the expected rows may be left before they count as a loss: early in a scan more
/// are, because the threshold is not final.
const EXPECTED_MAX: f64 = 2.0;

/// The queries of a search in the terms of each basis of the column's sketches.
pub(super) struct Sketched<'j> {
    kernels: &'static CodeKernels,
    bases: Vec<(&'j SketchBasis, Vec<SketchBound<'j>>)>,
    /// For each chunk its basis, `None` to read its vectors.
    of_chunk: Vec<Option<usize>>,
    is_forced: bool,
    /// Rows whose time one thread may lose.
    loss_max: f64,
    /// Rows that each thread may leave without a loss, for each query.
    expected: f64,
    has_left: AtomicBool,
}

impl<'j> Sketched<'j> {
    /// Finds the chunks whose sketches serve the search of `rows` in `groups`; otherwise gives the
    /// reason.
    pub fn new(job: &'j Job<'j>, tier: Tier, (rows, groups): (usize, usize), threads: usize) -> Result<Self, String> {
        let chunks = job.column.chunks();
        let fits = |sketch: &&Sketch| tier == Tier::Auto || tier == sketch.basis().tier();
        let sketches: Vec<Option<&Sketch>> = chunks.iter().map(|chunk| chunk.sketch().filter(fits)).collect();
        let Some(first) = sketches.iter().flatten().next() else {
            return Err("no sketch, so the vectors themselves".into());
        };
        let is_forced = tier != Tier::Auto;
        let kernels = CodeKernels::of(job.kernels.backend);
        let (basis, queries) = (first.basis(), job.queries.len());
        if !is_forced {
            basis.check_search_by(kernels, job.k, rows / groups.max(1), queries)?;
        }
        let left = groups as f64 * basis.expected_left(job.k, rows / groups.max(1));
        let mut bases: Vec<(&SketchBasis, Vec<SketchBound<'j>>)> = Vec::new();
        let mut of_chunk = Vec::new();
        for sketch in sketches {
            let Some(basis) = sketch.map(|sketch| &**sketch.basis()) else {
                of_chunk.push(None);
                continue;
            };
            let known = bases.iter().position(|(other, _)| std::ptr::eq(*other, basis));
            if known.is_none() {
                let bound = |query| SketchBound::new(basis, kernels, job.metric, query, !job.is_sql);
                let bounds: Option<Vec<_>> = job.sketch_bounds(bound);
                bases.push((basis, bounds.ok_or("the bounds of sketches do not hold for the query")?));
            }
            of_chunk.push(known.or(Some(bases.len() - 1)));
        }
        let loss_max = LOSS_MAX * rows as f64 / threads as f64;
        Ok(Self {
            kernels,
            bases,
            of_chunk,
            is_forced,
            loss_max,
            expected: EXPECTED_MAX * left,
            has_left: AtomicBool::new(false),
        })
    }

    pub fn kernels(&self) -> &'static CodeKernels {
        self.kernels
    }

    /// The bound of the basis with an ordinal, for the first query.
    pub fn bound_of(&self, basis: usize) -> &SketchBound<'j> {
        &self.bases[basis].1[0]
    }

    /// Number of bases.
    pub fn bases(&self) -> usize {
        self.bases.len()
    }

    /// Ordinal of a chunk's basis.
    pub fn basis_of(&self, chunk: usize) -> usize {
        self.of_chunk[chunk].unwrap_or(0)
    }

    /// Returns true if one thread lost more than it may by judging `left` of the `rows` whose codes
    /// it read.
    pub fn does_not_pay(&self, left: usize, rows: usize) -> bool {
        let gain = (1.0 - CODED_OF_ONE) * rows as f64;
        let loss = JUDGED_OF_ONE * (left as f64 - self.expected).max(0.0) - gain;
        !self.is_forced && loss > self.loss_max
    }

    /// Leaves the sketches: the rest is read as vectors.
    pub fn leave(&self) {
        self.has_left.store(true, Ordering::Relaxed);
    }

    fn bound(&self, chunk: u32, query: usize) -> &SketchBound<'j> {
        let basis = self.of_chunk[chunk as usize].unwrap_or(0);
        &self.bases[basis].1[query]
    }

    pub fn covers(&self, chunk: usize) -> bool {
        self.of_chunk[chunk].is_some()
    }

    /// Chunks without a sketch, and all chunks.
    pub fn uncovered(&self) -> (usize, usize) {
        (self.of_chunk.iter().filter(|basis| basis.is_none()).count(), self.of_chunk.len())
    }

    /// The first basis.
    pub fn basis(&self) -> &SketchBasis {
        self.bases[0].0
    }

    /// Returns true if too many rows were left, so that the rest was read as vectors.
    pub fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }

    /// Rows that a thread claims at a time.
    pub fn morsel_rows(&self) -> usize {
        if self.bases[0].1.len() == 1 { MORSEL_OF_ONE } else { MORSEL_OF_BATCH }
    }

    /// Bytes of a row that the scan reads.
    pub fn row_bytes(&self) -> usize {
        let norm = if self.bases[0].1[0].needs_norms() { size_of::<f32>() } else { 0 };
        self.basis().row_bytes() + norm
    }
}

/// A row that only its bound keeps.
struct Pending {
    chunk: u32,
    id: u32,
    value: f32,
}

/// One query of one thread.
struct Lane<'j> {
    judge: Judge<'j>,
    /// Rows of `soon_chunk` whose vectors are on their way to the cache, to be judged with the next
    /// block.
    soon: Vec<u32>,
    soon_chunk: u32,
    pending: Vec<Pending>,
    /// Rows that were judged as vectors.
    judged: usize,
}

/// The codes and norms of one block of rows.
struct Block<'b> {
    chunk: u32,
    ids: &'b [u32],
    words: &'b [u32],
    norms: &'b [f32],
    /// Rows of the tile from which the sums of all queries were computed.
    tile_rows: Option<usize>,
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    sums: Vec<i32>,
    values: Vec<f32>,
    survivors: Vec<u32>,
    tile: CodeTile,
    /// For each query of a batch, the sums of the rows of the tile.
    tile_sums: Vec<i32>,
    staging: Staging,
}

/// One thread's share.
struct Worker<'j, 's> {
    job: &'j Job<'j>,
    sketched: &'s Sketched<'j>,
    scan: &'s Scan<'s>,
    scratch: Scratch,
    /// Rows whose codes were read.
    rows: usize,
}

impl<'j> Worker<'j, '_> {
    fn judge(&mut self, lane: &mut Lane<'j>, chunk: u32, ids: &[u32], partial: &mut PartialResult) {
        let column = &self.job.column.chunks()[chunk as usize];
        let start = self.job.column.start(chunk as usize) as u64;
        lane.judged += ids.len();
        partial.counts.rows_left += ids.len() as u64;
        for ids in ids.chunks(BLOCK) {
            lane.judge.block(column, start, ids, &mut self.scratch.staging, partial);
        }
    }

    /// Judges the rows that were prefetched.
    fn judge_soon(&mut self, lane: &mut Lane<'j>, partial: &mut PartialResult) {
        if !lane.soon.is_empty() {
            let ids = std::mem::take(&mut lane.soon);
            self.judge(lane, lane.soon_chunk, &ids, partial);
            lane.soon = ids;
            lane.soon.clear();
        }
    }

    fn prefetch(&self, chunk: u32, ids: impl Iterator<Item = u32>) {
        let column = &self.job.column.chunks()[chunk as usize];
        ids.for_each(|id| column.prefetch(id as usize));
    }

    /// Judges the best rows of a block by estimate, so that there is a threshold. Returns the
    /// limits under it.
    fn seed(
        &mut self,
        lane: &mut Lane<'j>,
        query: usize,
        block: &Block<'_>,
        limits: CodeLimits,
        partial: &mut PartialResult,
    ) -> CodeLimits {
        let count = self.job.k.map_or(usize::MAX, |k| k.saturating_add(k.max(16)));
        if limits.limit != f32::NEG_INFINITY || count >= block.ids.len() {
            return limits;
        }
        let mut order: Vec<u32> = (0..block.ids.len() as u32).collect();
        let values = &self.scratch.values;
        // Unknown rows last: they say nothing of the threshold.
        let rank = |i: &u32| if values[*i as usize].is_finite() { -values[*i as usize] } else { f32::INFINITY };
        order.select_nth_unstable_by(count, |a, b| rank(a).total_cmp(&rank(b)));
        order.truncate(count);
        let ids: Vec<u32> = order.iter().map(|i| block.ids[*i as usize]).collect();
        order.iter().for_each(|i| self.scratch.values[*i as usize] = f32::NEG_INFINITY);
        self.prefetch(block.chunk, ids.iter().copied());
        self.judge(lane, block.chunk, &ids, partial);
        self.sketched.bound(block.chunk, query).limits(lane.judge.threshold())
    }

    fn block(&mut self, lane: &mut Lane<'j>, query: usize, block: &Block<'_>, partial: &mut PartialResult) {
        let sketched = self.sketched;
        let Some(sketch) = self.job.column.chunks()[block.chunk as usize].sketch() else { return };
        let bound = sketched.bound(block.chunk, query);
        let mut limits = bound.limits(lane.judge.threshold());
        let len = block.ids.len();
        self.scratch.sums.resize(len, 0);
        self.scratch.values.resize(len, 0.0);
        match block.tile_rows {
            Some(rows) => self.scratch.sums.copy_from_slice(&self.scratch.tile_sums[query * rows..][..len]),
            None => sketched.kernels.sums(sketch.codes(), &bound.weights, block.ids, &mut self.scratch.sums),
        }
        let norms = bound.needs_norms().then_some(block.norms);
        sketched.kernels.values(&self.scratch.sums, block.words, norms, &limits, &mut self.scratch.values);
        limits = self.seed(lane, query, block, limits, partial);
        if !lane.soon.is_empty() {
            self.judge_soon(lane, partial);
            limits = bound.limits(lane.judge.threshold());
        }

        let mut survivors = std::mem::take(&mut self.scratch.survivors);
        survivors.clear();
        lane.soon_chunk = block.chunk;
        sketched.kernels.survivors(&self.scratch.values, limits.limit, &mut survivors);
        for &i in &survivors {
            let (i, value) = (i as usize, self.scratch.values[i as usize]);
            if value == f32::NEG_INFINITY {
                // A seed, judged already.
                continue;
            }
            let (id, norm) = (block.ids[i], block.norms.get(i).copied().unwrap_or(1.0));
            let sum = self.scratch.sums[i];
            if self.job.is_rows_only {
                let radius = self.job.radius.unwrap_or(f64::INFINITY);
                let inside = bound.interval(sum, block.words[i], norm).filter(|(_, high)| *high <= radius);
                if let Some((low, high)) = inside {
                    let position = (self.job.column.start(block.chunk as usize) + id as usize) as u64;
                    lane.judge.keep(Candidate { low, high, position }, partial);
                    continue;
                }
            }
            // Certainly closer than the inner radius.
            if let Some(inner) = self.job.inner
                && bound.interval(sum, block.words[i], norm).is_some_and(|(_, high)| high < inner)
            {
                continue;
            }
            let waits =
                value.is_finite() && self.job.k.is_some() && bound.estimate(sum, norm) < f64::from(limits.limit);
            if waits {
                lane.pending.push(Pending { chunk: block.chunk, id, value });
            } else {
                lane.soon.push(id);
            }
        }
        self.scratch.survivors = survivors;
        self.prefetch(block.chunk, lane.soon.iter().take(PREFETCHED_MAX).copied());
        if lane.pending.len() > PENDING_MAX {
            self.flush(lane, query, partial);
        }
    }

    /// The limit under the threshold of now, for each basis.
    fn limits(&self, lane: &mut Lane<'j>, query: usize) -> Vec<f32> {
        let threshold = lane.judge.threshold();
        self.sketched.bases.iter().map(|(_, bounds)| bounds[query].limits(threshold).limit).collect()
    }

    fn limit(&self, limits: &[f32], pending: &Pending) -> f32 {
        limits[self.sketched.of_chunk[pending.chunk as usize].unwrap_or(0)]
    }

    /// Drops the waiting rows that the threshold rejects by now.
    fn prune(&self, lane: &mut Lane<'j>, query: usize) {
        let limits = self.limits(lane, query);
        lane.pending.retain(|pending| pending.value >= self.limit(&limits, pending));
    }

    /// Judges the waiting rows, best first, until the threshold rejects the rest. While one group
    /// is judged, the next one comes to the cache.
    fn flush(&mut self, lane: &mut Lane<'j>, query: usize, partial: &mut PartialResult) {
        self.judge_soon(lane, partial);
        lane.judge.settle(partial);
        self.prune(lane, query);
        lane.pending.sort_unstable_by(|a, b| a.value.total_cmp(&b.value));
        let mut group = self.next_group(lane);
        while !group.is_empty() {
            let next = self.next_group(lane);
            for group in group.chunk_by(|a, b| a.chunk == b.chunk) {
                let ids: Vec<u32> = group.iter().map(|pending| pending.id).collect();
                self.judge(lane, group[0].chunk, &ids, partial);
            }
            group = next;
            let limits = self.limits(lane, query);
            if group.iter().all(|pending| pending.value < self.limit(&limits, pending)) {
                lane.pending.clear();
                group.clear();
            }
        }
    }

    /// Takes the best waiting rows and prefetches them.
    fn next_group(&self, lane: &mut Lane<'j>) -> Vec<Pending> {
        let mut group = lane.pending.split_off(lane.pending.len().saturating_sub(PREFETCHED_MAX));
        group.sort_unstable_by_key(|pending| (pending.chunk, pending.id));
        group.iter().for_each(|pending| self.prefetch(pending.chunk, [pending.id].into_iter()));
        group
    }

    fn morsel(&mut self, morsel: &Morsel, lanes: &mut [Lane<'j>], partial: &mut PartialResult) {
        let column = self.scan.chunk(morsel);
        let Some(sketch) = column.sketch() else { return };
        let chunk = morsel.chunk as u32;
        let size = if lanes.len() == 1 { ROWS_OF_ONE } else { ROWS_OF_BATCH };
        let needs_norms = self.sketched.bound(chunk, 0).needs_norms();
        let (mut words, mut norms) = (Vec::new(), Vec::new());
        // Of a batch all queries at once, where the instruction set has tiles.
        let has_tile = lanes.len() > 1 && self.sketched.kernels.has_tile();
        let queries = if has_tile { 0..lanes.len() } else { 0..0 };
        let sketched = self.sketched;
        let weights: Vec<&CodeWeights> = queries.map(|query| &sketched.bound(chunk, query).weights).collect();
        self.scan.for_each_block_in_order(morsel, size, |ids| {
            partial.counts.rows_scanned += ids.len() as u64;
            partial.counts.rows_sketched += ids.len() as u64;
            self.rows += ids.len();
            let first = ids[0] as usize;
            let is_run = ids[ids.len() - 1] as usize - first == ids.len() - 1;
            let (words, norms): (&[u32], &[f32]) = if is_run {
                let norms = if needs_norms { &sketch.norms()[first..][..ids.len()] } else { &[] };
                (&sketch.residuals()[first..][..ids.len()], norms)
            } else {
                words.clear();
                words.extend(ids.iter().map(|id| sketch.residuals()[*id as usize]));
                norms.clear();
                if needs_norms {
                    norms.extend(ids.iter().map(|id| sketch.norms()[*id as usize]));
                }
                (&words, &norms)
            };
            let has_left = self.sketched.has_left();
            let tile_rows = (!weights.is_empty() && !has_left).then(|| {
                let Scratch { tile, tile_sums, .. } = &mut self.scratch;
                tile.fill(sketch.codes(), sketch.basis().form(), ids);
                tile_sums.resize(weights.len() * tile.rows(), 0);
                self.sketched.kernels.tile(tile, &weights, tile_sums);
                tile.rows()
            });
            let block = Block { chunk, ids, words, norms, tile_rows };
            for (query, lane) in lanes.iter_mut().enumerate() {
                if has_left {
                    self.judge(lane, chunk, ids, partial);
                } else {
                    self.block(lane, query, &block, partial);
                }
            }
            if !has_left && !self.sketched.is_forced && self.does_not_pay(lanes) {
                self.sketched.has_left.store(true, Ordering::Relaxed);
            }
        });
    }

    /// Returns true if the search is slower than without a sketch by more than may be lost.
    fn does_not_pay(&self, lanes: &mut [Lane<'j>]) -> bool {
        let (cost, waits, coded) = match lanes.len() {
            1 => (JUDGED_OF_ONE, 1.0, CODED_OF_ONE),
            _ => (JUDGED_OF_BATCH, WAITING_OF_BATCH, 0.0),
        };
        let loss = |lanes: &[Lane<'j>]| {
            let sum = |count: fn(&Lane<'j>) -> usize| lanes.iter().map(count).sum::<usize>() as f64;
            let left = sum(|lane| lane.soon.len() + lane.judged) + waits * sum(|lane| lane.pending.len());
            cost * (left / lanes.len() as f64 - self.sketched.expected).max(0.0) - (1.0 - coded) * self.rows as f64
        };
        if loss(lanes) <= self.sketched.loss_max {
            return false;
        }
        for (query, lane) in lanes.iter_mut().enumerate() {
            self.prune(lane, query);
        }
        loss(lanes) > self.sketched.loss_max
    }
}

/// One thread's share; returns its candidates of each query.
pub(super) fn scan<'j, 's>(
    job: &'j Job<'j>,
    sketched: &'s Sketched<'j>,
    scan: &'s Scan<'s>,
    shared: &'j [SharedThreshold],
    claim: impl Fn() -> Option<&'s Morsel>,
    all: Vec<Candidates>,
    partial: &mut PartialResult,
) -> Vec<Candidates> {
    let lane = |(query, candidates)| Lane {
        judge: Judge::new(job, query, &shared[query], candidates),
        soon: Vec::new(),
        soon_chunk: 0,
        pending: Vec::new(),
        judged: 0,
    };
    let mut lanes: Vec<Lane<'j>> = all.into_iter().enumerate().map(lane).collect();
    let mut worker = Worker { job, sketched, scan, scratch: Scratch::default(), rows: 0 };
    while !sketched.has_left() {
        let Some(morsel) = claim() else { break };
        worker.morsel(morsel, &mut lanes, partial);
    }
    for (query, lane) in lanes.iter_mut().enumerate() {
        worker.flush(lane, query, partial);
    }
    lanes.into_iter().map(|lane| lane.judge.into_candidates()).collect()
}
