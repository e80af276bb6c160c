//! A range search over all chunks, by which a scan leaves out the rows beyond the radius.
//!
//! Its filter stays in the plan and decides about the rows that are left, so the scan may do without
//! it, and does where most chunks have no sketch.

use std::fmt;
use std::sync::Arc;

use arrow::buffer::{BooleanBuffer, MutableBuffer};
use arrow::util::bit_util;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use tokio::sync::OnceCell;
use vexact_kernel::{Metric, Report, Search};

use super::Chunks;
use crate::config::VexactOptions;
use crate::sketches::column_of;

/// `metric(column, query)` within a radius, over the columns of chunks.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    pub column: usize,
    pub metric: Metric,
    pub query: Vec<f64>,
    /// The farthest value of the metric that is within.
    pub radius: f64,
}

/// A [`Range`] of a scan, and its result once a partition has begun: a bit for each position.
#[derive(Debug)]
pub(super) struct RangeScan {
    pub range: Range,
    kept: OnceCell<Option<BooleanBuffer>>,
}

impl fmt::Display for RangeScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { metric, query, radius, .. } = &self.range;
        write!(f, ", within_radius=({metric}, [{} components], {radius})", query.len())
    }
}

impl RangeScan {
    pub fn new(range: Range) -> Self {
        Self { range, kept: OnceCell::new() }
    }

    /// Returns the rows that may pass the filter. Returns `None` if all may, because there are no
    /// sketches.
    pub async fn kept(&self, chunks: &Arc<Chunks>, context: &Arc<TaskContext>) -> Result<Option<BooleanBuffer>> {
        let search = || async {
            let (chunks, range, context) = (Arc::clone(chunks), self.range.clone(), Arc::clone(context));
            let search = move || search(&chunks, &range, &context);
            let joined = SpawnedTask::spawn_blocking(search).join().await;
            joined.map_err(|error| DataFusionError::External(Box::new(error)))
        };
        self.kept.get_or_try_init(search).await.cloned()
    }
}

fn search(chunks: &Chunks, range: &Range, context: &TaskContext) -> Option<BooleanBuffer> {
    let options = VexactOptions::of(context.session_config().options());
    let sketches = chunks.sketches_of(range.column, options.tier);
    let rows = |has_sketch: bool| -> usize {
        let batches = chunks.batches().iter().zip(&sketches);
        batches.filter(|(_, sketch)| sketch.is_some() == has_sketch).map(|(batch, _)| batch.num_rows()).sum()
    };
    if rows(true) <= rows(false) {
        chunks.after_scan(range.column, options.tier, context);
        return None;
    }
    let arrays: Vec<_> = chunks.batches().iter().map(|batch| Arc::clone(batch.column(range.column))).collect();
    let column = column_of(&arrays, &sketches).ok()?;
    let mut search = Search::new(range.metric, &range.query).ok()?.sql_distances().radius(range.radius).rows_only();
    if let Some(live) = chunks.selection() {
        search = search.selection(&live);
    }
    // The filter reports what is wrong with the query.
    let hits = search.threads(options.threads).tier(options.tier).run(&column).ok()?;
    let mut report: Report = hits.report;
    chunks.after_search(range.column, options.tier, false, &mut report, context);
    let mut kept = MutableBuffer::from_len_zeroed(column.len().div_ceil(8));
    for row in hits.rows.iter().chain(&hits.nan_rows) {
        bit_util::set_bit(kept.as_slice_mut(), *row as usize);
    }
    Some(BooleanBuffer::new(kept.into(), 0, column.len()))
}
