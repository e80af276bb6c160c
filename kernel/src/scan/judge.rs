//! One query against some rows in `f32`: approximate, reject by the threshold, keep the rest as
//! candidates.

use super::rows::Staging;
use super::{Job, PartialResult};
use crate::arch::{QUERY_PADDING, Rows};
use crate::candidates::{Candidate, Candidates, SharedThreshold};
use crate::column::VectorColumn;
use crate::query::Query;
use crate::tier::{Approximation, F32, Form, Limits};

/// Rows between two looks at the shared threshold.
pub(super) const BLOCK: usize = 64;

/// Computes the values and squares of up to [`BLOCK`] rows of a chunk, in the form of one query.
#[inline]
pub(super) fn approximate(
    job: &Job<'_>,
    (form, padded): (Form, &[f32]),
    (chunk, ids): (&VectorColumn<'_>, &[u32]),
    staging: &mut Staging,
    (values, squares): (&mut [f32; BLOCK], &mut [f32; BLOCK]),
) {
    let len = ids.len();
    let (floats, local) = staging.stage(chunk, ids);
    let rows = Rows::new(floats, chunk.dim(), local);
    let (kernels, values, squares) = (job.kernels, &mut values[..len], &mut squares[..len]);
    match form {
        Form::DotAndSquare => return kernels.dot_and_square(rows, padded, values, squares),
        Form::AbsoluteDifferences => kernels.l1(rows, padded, squares),
        Form::Differences => kernels.l2_squared(rows, padded, squares),
    }
    for (value, square) in values.iter_mut().zip(squares) {
        *value = -*square;
    }
}

/// A query as the kernels read it.
pub(super) fn padded(query: &Query) -> Vec<f32> {
    let mut padded = query.rounded.clone();
    padded.resize(padded.len().next_multiple_of(QUERY_PADDING), 0.0);
    padded
}

/// One thread's candidates of one query, and the query as the kernels read it.
pub(super) struct Judge<'j> {
    job: &'j Job<'j>,
    query: usize,
    form: Form,
    bound: F32<'j>,
    limits: Limits,
    padded: Vec<f32>,
    shared: &'j SharedThreshold,
    candidates: Candidates,
}

impl<'j> Judge<'j> {
    pub fn new(job: &'j Job<'j>, query: usize, shared: &'j SharedThreshold, candidates: Candidates) -> Self {
        let form = job.one_query_form();
        let bound = job.bound(query, form);
        let padded = padded(&job.queries[query]);
        let limits = bound.limits(candidates.threshold());
        Self { job, query, form, bound, limits, padded, shared, candidates }
    }

    /// Keys above it cannot be in the result, as far as all threads know.
    pub fn threshold(&mut self) -> f64 {
        if self.candidates.learn(self.shared.get()) {
            self.limits = self.bound.limits(self.candidates.threshold());
        }
        self.candidates.threshold()
    }

    /// Narrows the candidates, so that the threshold is that of the k-th of them.
    pub fn settle(&mut self, partial: &mut PartialResult) {
        let (job, query) = (self.job, self.query);
        let exact = |position| {
            partial.counts.refined += 1;
            job.exact(query, position)
        };
        if self.candidates.settle(exact) {
            self.lower();
        }
    }

    fn lower(&mut self) {
        self.shared.lower(self.candidates.threshold());
        self.limits = self.bound.limits(self.candidates.threshold());
    }

    /// Keeps a row by an interval of its key.
    pub fn keep(&mut self, candidate: Candidate, partial: &mut PartialResult) {
        partial.counts.survivors += 1;
        let (job, query) = (self.job, self.query);
        let exact = |position| {
            partial.counts.refined += 1;
            job.exact(query, position)
        };
        if self.candidates.push(candidate, exact) {
            self.lower();
        }
    }

    /// Judges up to [`BLOCK`] rows of a chunk; `start` is the position of its first row.
    #[inline]
    pub fn block(
        &mut self,
        chunk: &VectorColumn<'_>,
        start: u64,
        ids: &[u32],
        staging: &mut Staging,
        partial: &mut PartialResult,
    ) {
        self.threshold();
        let (mut values, mut squares) = ([0.0_f32; BLOCK], [0.0_f32; BLOCK]);
        let mut is_rejected = [false; BLOCK];
        let len = ids.len();
        approximate(self.job, (self.form, &self.padded), (chunk, ids), staging, (&mut values, &mut squares));
        let (form, limits) = (self.form, self.limits);
        for ((is_rejected, &value), &square) in is_rejected.iter_mut().zip(&values).zip(&squares) {
            *is_rejected = form.is_ordinary(square) & limits.reject(value, square);
        }
        for i in (0..len).filter(|i| !is_rejected[*i]) {
            let position = start + u64::from(ids[i]);
            let interval = self.bound.interval(values[i], squares[i]).or_else(|| {
                partial.counts.refined += 1;
                let key = self.job.exact(self.query, position);
                if let Some(key) = key.filter(|key| !key.is_nan()) {
                    return Some((key, key));
                }
                // A row counts once as skipped, by the first query.
                if self.query == 0 {
                    self.job.set_aside(partial, position, key);
                }
                None
            });
            let Some(interval) = interval else { continue };
            let Some((low, high)) = self.job.outside(self.query, interval, position, partial) else { continue };
            self.keep(Candidate { low, high, position }, partial);
        }
    }

    pub fn into_candidates(self) -> Candidates {
        self.candidates
    }
}
