//! One query: memory bandwidth is the limit, so each row is read once and judged while it is in cache.

use super::rows::{Morsel, Scan, Staging};
use super::{Harvest, Job};
use crate::arch::{QUERY_PADDING, Rows};
use crate::candidates::{Candidate, Candidates, SharedThreshold};
use crate::tier::{Approximation, Form};

/// Rows between two looks at the shared threshold.
const BLOCK: usize = 64;

/// One thread's share.
pub(super) fn scan<'s>(
    job: &Job<'_>,
    scan: &Scan<'_>,
    shared: &SharedThreshold,
    claim: impl Fn() -> Option<&'s Morsel>,
) -> Harvest {
    let query = &job.queries[0];
    let form = job.form();
    let bounds = job.bounds();
    let bound = &bounds[0];
    let mut padded = query.rounded.clone();
    padded.resize(padded.len().next_multiple_of(QUERY_PADDING), 0.0);

    let mut harvest = Harvest::default();
    let mut candidates = Candidates::new(job.k, shared.get());
    let mut limits = bound.limits(candidates.threshold());
    let mut staging = Staging::default();
    let (mut values, mut squares) = ([0.0_f32; BLOCK], [0.0_f32; BLOCK]);
    let mut is_rejected = [false; BLOCK];
    while let Some(morsel) = claim() {
        let chunk = scan.chunk(morsel);
        scan.for_each_block(morsel, BLOCK, |ids| {
            if candidates.learn(shared.get()) {
                limits = bound.limits(candidates.threshold());
            }
            let len = ids.len();
            harvest.counts.rows_scanned += len as u64;
            let (floats, local) = staging.stage(chunk, ids);
            let rows = Rows::new(floats, chunk.dim(), local);
            match form {
                Form::DotAndSquare => {
                    job.kernels.dot_and_square(rows, &padded, &mut values[..len], &mut squares[..len]);
                }
                Form::Differences => {
                    job.kernels.l2_squared(rows, &padded, &mut squares[..len]);
                    for (value, square) in values.iter_mut().zip(&squares) {
                        *value = -square;
                    }
                }
            }
            for ((is_rejected, &value), &square) in is_rejected.iter_mut().zip(&values).zip(&squares) {
                *is_rejected = form.is_ordinary(square) & limits.reject(value, square);
            }
            for i in (0..len).filter(|i| !is_rejected[*i]) {
                let position = scan.position(morsel, ids[i]);
                let interval = bound.interval(values[i], squares[i]).or_else(|| {
                    harvest.counts.refined += 1;
                    let key = job.exact(0, position);
                    if let Some(key) = key.filter(|key| !key.is_nan()) {
                        return Some((key, key));
                    }
                    job.set_aside(&mut harvest, position, key);
                    None
                });
                let Some((low, high)) = interval else { continue };
                harvest.counts.survivors += 1;
                let counts = &mut harvest.counts;
                let exact = |position| {
                    counts.refined += 1;
                    job.exact(0, position)
                };
                if candidates.push(Candidate { low, high, position }, exact) {
                    shared.lower(candidates.threshold());
                    limits = bound.limits(candidates.threshold());
                }
            }
        });
    }
    harvest.candidates.push(candidates.into_items());
    harvest
}
