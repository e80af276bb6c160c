//! One query: memory bandwidth is the limit, so each row is read once and judged while it is in
//! cache.

use super::judge::{BLOCK, Judge};
use super::rows::{Morsel, Scan, Staging};
use super::{Job, PartialResult};
use crate::candidates::{Candidates, SharedThreshold};

/// One thread's share; returns its candidates.
pub(super) fn scan<'s>(
    job: &Job<'_>,
    scan: &Scan<'_>,
    shared: &SharedThreshold,
    claim: impl Fn() -> Option<&'s Morsel>,
    candidates: Candidates,
    partial: &mut PartialResult,
) -> Candidates {
    let mut judge = Judge::new(job, 0, shared, candidates);
    let mut staging = Staging::default();
    while let Some(morsel) = claim() {
        let chunk = scan.chunk(morsel);
        let start = scan.position(morsel, 0);
        scan.for_each_block(morsel, BLOCK, |ids| {
            partial.counts.rows_scanned += ids.len() as u64;
            judge.block(chunk, start, ids, &mut staging, partial);
        });
    }
    judge.into_candidates()
}
