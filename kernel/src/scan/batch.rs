//! A query batch: arithmetic is the limit, so a block of rows stays in cache while all queries pass
//! over it as a matrix product, and a whole register of (row, query) cells is rejected at once.

use super::rows::{Morsel, Scan, Staging};
use super::{Job, PartialResult};
use crate::arch::{Kernels, Panel, PanelLimits, QUERY_PADDING, Rows};
use crate::candidates::{Candidate, Candidates, SharedThreshold};
use crate::query::Query;
use crate::tier::{Approximation, F32, Form, Limits};

/// Row blocks are this many times the rows of one matrix tile.
const TILES_PER_BLOCK: usize = 4;

/// Some queries, transposed, and one thread's limits for them.
pub(super) struct QueryPanel {
    pub first: usize,
    pub count: usize,
    pub width: usize,
    components: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
    t: Vec<f32>,
}

impl QueryPanel {
    fn new(queries: &[Query], first: usize, width: usize) -> Self {
        let count = width.min(queries.len() - first);
        let dim = queries[first].rounded.len();
        let mut components = vec![0.0; dim * width];
        for (lane, query) in queries[first..first + count].iter().enumerate() {
            for (i, &x) in query.rounded.iter().enumerate() {
                components[i * width + lane] = x;
            }
        }
        // The lanes without a query reject everything.
        let (a, b, t) = (vec![0.0; width], vec![0.0; width], vec![f32::INFINITY; width]);
        Self { first, count, width, components, a, b, t }
    }

    fn set(&mut self, lane: usize, limits: Limits) {
        (self.a[lane], self.b[lane], self.t[lane]) = (limits.a, limits.b, limits.t);
    }

    pub fn panel(&self) -> Panel<'_> {
        Panel { components: &self.components, width: self.width }
    }

    fn limits(&self) -> PanelLimits<'_> {
        PanelLimits { a: &self.a, b: &self.b, t: &self.t }
    }
}

/// Cuts the queries into panels: the widest, and for the rest the narrowest that holds it.
pub(super) fn panels(kernels: &Kernels, queries: &[Query]) -> Vec<QueryPanel> {
    let widest = kernels.panel_widths[0];
    let mut panels = Vec::new();
    let mut first = 0;
    while first < queries.len() {
        let rest = queries.len() - first;
        let fits = kernels.panel_widths.iter().rev().find(|width| **width >= rest);
        let width = *fits.unwrap_or(&widest);
        panels.push(QueryPanel::new(queries, first, width));
        first += width;
    }
    panels
}

/// One thread's share: adds to its candidates of each query.
pub(super) fn scan<'s>(
    job: &Job<'_>,
    scan: &Scan<'_>,
    shared: &[SharedThreshold],
    claim: impl Fn() -> Option<&'s Morsel>,
    all: &mut [Candidates],
    partial: &mut PartialResult,
) {
    let form = Form::DotAndSquare;
    let bounds: Vec<F32<'_>> = (0..job.queries.len()).map(|query| job.bound(query, form)).collect();
    let block = job.kernels.tile_rows * TILES_PER_BLOCK;
    let mut panels = panels(job.kernels, job.queries);
    for panel in &mut panels {
        for lane in 0..panel.count {
            let query = panel.first + lane;
            panel.set(lane, bounds[query].limits(all[query].threshold()));
        }
    }

    let mut staging = Staging::default();
    let zeros = vec![0.0; job.queries[0].values.len().next_multiple_of(QUERY_PADDING)];
    let mut squares = vec![0.0; block];
    let mut ordinary: Vec<u32> = Vec::with_capacity(block);
    let mut positions: Vec<u64> = Vec::with_capacity(block);
    let mut tile = vec![0.0; block * job.kernels.panel_widths[0]];
    let mut survivors = Vec::new();
    while let Some(morsel) = claim() {
        let chunk = scan.chunk(morsel);
        scan.for_each_block(morsel, block, |ids| {
            partial.counts.rows_scanned += ids.len() as u64;
            let (floats, local) = staging.stage(chunk, ids);
            squares.resize(ids.len(), 0.0);
            job.kernels.l2_squared(Rows::new(floats, chunk.dim(), local), &zeros, &mut squares);

            ordinary.clear();
            positions.clear();
            for (i, &id) in ids.iter().enumerate() {
                let position = scan.position(morsel, id);
                if form.is_ordinary(squares[i]) {
                    squares[ordinary.len()] = squares[i];
                    ordinary.push(local[i]);
                    positions.push(position);
                } else {
                    judge_exactly(job, position, all, partial);
                }
            }
            squares.truncate(ordinary.len());
            let rows = Rows::new(floats, chunk.dim(), &ordinary);

            for panel in &mut panels {
                for lane in 0..panel.count {
                    let query = panel.first + lane;
                    if all[query].learn(shared[query].get()) {
                        panel.set(lane, bounds[query].limits(all[query].threshold()));
                    }
                }
                let cells = &mut tile[..ordinary.len() * panel.width];
                job.kernels.tile(rows, panel.panel(), cells);
                survivors.clear();
                job.kernels.survivors(cells, panel.width, &squares, panel.limits(), &mut survivors);
                for &(row, lane) in &survivors {
                    let (row, lane) = (row as usize, lane as usize);
                    if lane >= panel.count {
                        continue;
                    }
                    let query = panel.first + lane;
                    let position = positions[row];
                    let mut refined = 0;
                    let mut exact = |position| {
                        refined += 1;
                        job.exact(query, position)
                    };
                    let interval = bounds[query]
                        .interval(cells[row * panel.width + lane], squares[row])
                        .or_else(|| exact(position).filter(|key| !key.is_nan()).map(|key| (key, key)));
                    let Some((low, high)) = interval else { continue };
                    if all[query].push(Candidate { low, high, position }, &mut exact) {
                        shared[query].lower(all[query].threshold());
                        panel.set(lane, bounds[query].limits(all[query].threshold()));
                    }
                    partial.counts.survivors += 1;
                    partial.counts.refined += refined;
                }
            }
        });
    }
}

/// A row that no bound can judge, against every query. It counts as skipped if the first cannot be
/// compared with it.
fn judge_exactly(job: &Job<'_>, position: u64, all: &mut [Candidates], partial: &mut PartialResult) {
    for (query, candidates) in all.iter_mut().enumerate() {
        partial.counts.refined += 1;
        let key = job.exact(query, position);
        match key.filter(|key| !key.is_nan()) {
            Some(key) => {
                candidates.push(Candidate { low: key, high: key, position }, |other| job.exact(query, other));
            }
            None if query == 0 => job.set_aside(partial, position, key),
            None => {}
        }
    }
}
