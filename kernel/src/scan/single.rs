//! Query by query: memory bandwidth is the limit of one query, so each row is read once and judged
//! while it is in cache. Several queries, where their distances are no matrix product, each judge
//! the rows of a block before the next block is read.

use super::judge::{BLOCK, Judge};
use super::rows::{Morsel, Scan, Staging};
use super::{Job, PartialResult};
use crate::candidates::{Candidates, SharedThreshold};

/// One thread's share; returns its candidates of each query.
pub(super) fn scan<'s>(
    job: &Job<'_>,
    scan: &Scan<'_>,
    shared: &[SharedThreshold],
    claim: impl Fn() -> Option<&'s Morsel>,
    all: Vec<Candidates>,
    partial: &mut PartialResult,
) -> Vec<Candidates> {
    let judge = |(query, candidates)| Judge::new(job, query, &shared[query], candidates);
    let mut judges: Vec<Judge> = all.into_iter().enumerate().map(judge).collect();
    let mut staging = Staging::default();
    while let Some(morsel) = claim() {
        let chunk = scan.chunk(morsel);
        let start = scan.position(morsel, 0);
        scan.for_each_block(morsel, BLOCK, |ids| {
            partial.counts.rows_scanned += ids.len() as u64;
            for judge in &mut judges {
                judge.block(chunk, start, ids, &mut staging, partial);
            }
        });
    }
    judges.into_iter().map(Judge::into_candidates).collect()
}
