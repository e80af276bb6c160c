//! The scan of late interaction: each row's tokens times the query's as a matrix product in `f32`,
//! with the bound of every inner product; an interval of the row's sum follows, and the rows whose
//! best case reaches the threshold are computed in `f64`.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::batch::panels;
use super::rows::Staging;
use super::{BYTES_PER_THREAD, MORSEL_BYTES, in_parallel};
use crate::arch::{Kernels, QUERY_PADDING, Rows};
use crate::candidates::{Candidate, Candidates, SharedThreshold, narrow, resolve};
use crate::column::{Components, VectorColumn};
use crate::max_sim::{MaxSim, MaxSimHits, TokenColumn};
use crate::metric::Metric;
use crate::pool;
use crate::query::Query;
use crate::reference::Element;
use crate::tier::{F32, Form};

/// Tokens of a row that are multiplied at a time.
const BLOCK: usize = 64;

/// Query tokens whose sums in `f64` are made side by side.
const LANES: usize = 8;

/// One rounding of an `f64` operation, relative.
const U64: f64 = 1.0 / (1_u64 << 53) as f64;

/// The query's tokens in `f64`, transposed in panels of [`LANES`]: the sums of a panel do not wait
/// for each other, and each is made in the order of the reference.
#[derive(Debug, Clone)]
pub(crate) struct PanelsF64 {
    count: usize,
    dim: usize,
    lines: Vec<[f64; LANES]>,
}

impl PanelsF64 {
    pub fn new(queries: &[Query]) -> Self {
        let dim = queries.first().map_or(0, |query| query.values.len());
        let line = |panel: &[Query], i: usize| std::array::from_fn(|lane| panel.get(lane).map_or(0.0, |q| q.values[i]));
        let lines = queries.chunks(LANES).flat_map(|panel| (0..dim).map(move |i| line(panel, i))).collect();
        Self { count: queries.len(), dim, lines }
    }

    /// [`crate::reference::max_sim`] of some tokens.
    pub fn max_sim(&self, tokens: &VectorColumn<'_>, range: Range<usize>) -> Option<f64> {
        let values = range.start * self.dim..range.end * self.dim;
        match tokens.components() {
            Components::F16(x) => self.of(&x[values]),
            Components::F32(x) => self.of(&x[values]),
            Components::F64(x) => self.of(&x[values]),
            Components::I8(x) => self.of(&x[values]),
            Components::U8(x) => self.of(&x[values]),
            Components::Bits(_) => None,
        }
    }

    fn of<T: Element>(&self, tokens: &[T]) -> Option<f64> {
        if !tokens.iter().all(|x| x.to_f64().is_finite()) {
            return None;
        }
        let mut sum = 0.0;
        for (ordinal, panel) in self.lines.chunks(self.dim).enumerate() {
            let lanes = LANES.min(self.count - ordinal * LANES);
            let mut largest = [f64::NEG_INFINITY; LANES];
            for token in tokens.chunks(self.dim) {
                let mut dots = [0.0; LANES];
                for (x, q) in token.iter().zip(panel) {
                    let x = x.to_f64();
                    for (dot, q) in dots.iter_mut().zip(q) {
                        *dot += x * q;
                    }
                }
                if dots[..lanes].iter().any(|dot| dot.is_nan()) {
                    return None;
                }
                largest.iter_mut().zip(dots).for_each(|(largest, dot)| *largest = largest.max(dot));
            }
            for largest in &largest[..lanes] {
                sum += largest;
            }
        }
        (!f64::is_nan(sum)).then_some(sum)
    }
}

/// Rows of one chunk that a thread claims at once.
struct Morsel {
    chunk: usize,
    rows: Range<usize>,
}

/// Cuts the rows into morsels of about [`MORSEL_BYTES`]; also the bytes of all tokens.
fn morsels(chunks: &[TokenColumn<'_>]) -> (Vec<Morsel>, usize) {
    let (mut morsels, mut total) = (Vec::new(), 0);
    for (chunk, column) in chunks.iter().enumerate() {
        let (mut start, mut bytes) = (0, 0);
        for row in 0..column.len() {
            bytes += column.range(row).map_or(0, |range| range.len() * column.tokens().row_bytes());
            if bytes >= MORSEL_BYTES || row + 1 == column.len() {
                morsels.push(Morsel { chunk, rows: start..row + 1 });
                total += bytes;
                (start, bytes) = (row + 1, 0);
            }
        }
    }
    (morsels, total)
}

/// One thread's share.
struct Partial {
    items: Vec<Candidate>,
    skipped: u64,
    refined: u64,
}

/// Searches chunks of rows.
pub(crate) fn scan(search: &MaxSim, chunks: &[TokenColumn<'_>], kernels: &'static Kernels) -> MaxSimHits {
    let mut starts = vec![0];
    for chunk in chunks {
        starts.push(starts[starts.len() - 1] + chunk.len());
    }
    let (morsels, bytes) = morsels(chunks);
    let wanted = if search.threads == 0 { pool::threads() } else { search.threads };
    let work = bytes.saturating_mul(search.queries.len());
    let threads = wanted.min(work.div_ceil(BYTES_PER_THREAD)).clamp(1, morsels.len().max(1));
    let shared = SharedThreshold::new(f64::INFINITY);
    let next = AtomicUsize::new(0);
    let exact = |position: u64| {
        let chunk = starts.partition_point(|start| *start <= position as usize) - 1;
        let row = position as usize - starts[chunk];
        search.score(&chunks[chunk], row).map(|score| -score)
    };
    let work = |pause: &dyn Fn()| {
        let mut bounds = Bounds::new(search, chunks, kernels);
        let mut candidates = Candidates::new(search.top_k, f64::INFINITY);
        let mut partial = Partial { items: Vec::new(), skipped: 0, refined: 0 };
        loop {
            pause();
            let Some(morsel) = morsels.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let (column, start) = (&chunks[morsel.chunk], starts[morsel.chunk]);
            for row in morsel.rows.clone() {
                if search.selection.as_ref().is_some_and(|bits| !bits.value(start + row)) {
                    continue;
                }
                let position = (start + row) as u64;
                candidates.learn(shared.get());
                let interval = column.range(row).and_then(|range| {
                    bounds.interval(column.tokens(), range).or_else(|| {
                        partial.refined += 1;
                        exact(position).map(|key| (key, key))
                    })
                });
                let Some((low, high)) = interval else {
                    partial.skipped += 1;
                    continue;
                };
                let refined = &mut partial.refined;
                let counted = |position| {
                    *refined += 1;
                    exact(position)
                };
                if candidates.push(Candidate { low, high, position }, counted) {
                    shared.lower(candidates.threshold());
                }
            }
        }
        partial.items = candidates.into_items();
        partial
    };
    let (mut items, mut skipped, mut refined) = (Vec::new(), 0, 0);
    for partial in in_parallel(threads, &work) {
        items.extend(partial.items);
        skipped += partial.skipped;
        refined += partial.refined;
    }
    let mut ranking = resolve(narrow(items, search.top_k), |position| {
        refined += 1;
        exact(position)
    });
    ranking.truncate(search.top_k.unwrap_or(usize::MAX));
    MaxSimHits {
        rows: ranking.iter().map(|candidate| candidate.position).collect(),
        scores: ranking.iter().map(|candidate| -candidate.low).collect(),
        skipped_rows: skipped,
        refined_rows: refined,
        backend: kernels.backend,
    }
}

/// The intervals of one thread.
struct Bounds<'s> {
    search: &'s MaxSim,
    kernels: &'static Kernels,
    panels: Vec<super::batch::QueryPanel>,
    /// The slack of each query token: a multiple of a token's norm, and an absolute part.
    slack: Vec<(f32, f64)>,
    has_bounds: bool,
    staging: Staging,
    ids: Vec<u32>,
    zeros: Vec<f32>,
    squares: Vec<f32>,
    cells: Vec<f32>,
    low: Vec<f32>,
    high: Vec<f32>,
}

impl<'s> Bounds<'s> {
    fn new(search: &'s MaxSim, chunks: &[TokenColumn<'_>], kernels: &'static Kernels) -> Self {
        let is_rounded = matches!(chunks.first().map(|chunk| chunk.tokens().components()), Some(Components::F64(_)));
        let slack = |query| F32::new(Metric::Dot, query, Form::DotAndSquare, is_rounded, true).dot_slack();
        let count = search.queries.len();
        Self {
            search,
            kernels,
            panels: panels(kernels, &search.queries),
            slack: search.queries.iter().map(slack).collect(),
            has_bounds: !search.queries.iter().any(Query::is_extreme),
            staging: Staging::default(),
            ids: Vec::new(),
            zeros: vec![0.0; search.dim().next_multiple_of(QUERY_PADDING)],
            squares: Vec::new(),
            cells: Vec::new(),
            low: vec![0.0; count],
            high: vec![0.0; count],
        }
    }

    /// An interval that holds the negated score of a row; `None` where nothing can be said.
    fn interval(&mut self, tokens: &VectorColumn<'_>, range: Range<usize>) -> Option<(f64, f64)> {
        if !self.has_bounds {
            return None;
        }
        self.low.fill(f32::NEG_INFINITY);
        self.high.fill(f32::NEG_INFINITY);
        for first in range.clone().step_by(BLOCK) {
            self.ids.clear();
            self.ids.extend(first as u32..range.end.min(first + BLOCK) as u32);
            self.add_block(tokens)?;
        }
        let (mut low, mut high, mut magnitude) = (0.0, 0.0, 0.0);
        for (i, query) in self.search.queries.iter().enumerate() {
            let absolute = self.slack[i].1;
            let (a, b) = (f64::from(self.low[i]) - absolute, f64::from(self.high[i]) + absolute);
            let (a, b) = (query.unscale(a), query.unscale(b));
            low += a;
            high += b;
            magnitude += a.abs().max(b.abs());
        }
        // The sums' own rounding, and the reference's.
        let rounding = 4.0 * (self.search.queries.len() as f64 + 2.0) * U64 * magnitude;
        let interval = (-(high + rounding), -(low - rounding));
        (interval.0.is_finite() && interval.1.is_finite()).then_some(interval)
    }

    /// Takes the largest products of the tokens `ids` into account; `None` if a bound cannot judge
    /// one of them.
    fn add_block(&mut self, tokens: &VectorColumn<'_>) -> Option<()> {
        let dim = tokens.dim();
        let (floats, local) = self.staging.stage(tokens, &self.ids);
        let rows = Rows::new(floats, dim, local);
        self.squares.resize(local.len(), 0.0);
        self.kernels.l2_squared(rows, &self.zeros, &mut self.squares);
        if !self.squares.iter().all(|square| Form::DotAndSquare.is_ordinary(*square)) {
            return None;
        }
        for panel in &self.panels {
            self.cells.resize(local.len() * panel.width, 0.0);
            let cells = &mut self.cells[..local.len() * panel.width];
            self.kernels.tile(rows, panel.panel(), cells);
            let lanes = panel.first..panel.first + panel.count;
            let slack = &self.slack[lanes.clone()];
            let (low, high) = (&mut self.low[lanes.clone()], &mut self.high[lanes]);
            for (line, square) in cells.chunks(panel.width).zip(&self.squares) {
                let norm = square.sqrt();
                for (((cell, slack), low), high) in line.iter().zip(slack).zip(&mut *low).zip(&mut *high) {
                    let error = slack.0 * norm;
                    *low = low.max(cell - error);
                    *high = high.max(cell + error);
                }
            }
        }
        Some(())
    }
}
