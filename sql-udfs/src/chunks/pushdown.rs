//! Pushes filters and sort orders from above into a scan of chunks.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::ScalarValue;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{DynamicFilterTracking, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPhase;

use super::pruning::Piece;
use super::scan::ChunkScanExec;

impl ChunkScanExec {
    /// Returns the scan without the chunks that filters over its columns prune; returns `None` if
    /// nothing changes.
    pub(super) fn with_filters(&self, phase: FilterPushdownPhase, filters: Vec<Arc<dyn PhysicalExpr>>) -> Option<Self> {
        let mut pruning = self.pruning.clone();
        let pruner = self.pruner();
        for filter in &filters {
            let is_known = !DynamicFilterTracking::classify(filter).contains_dynamic_filter();
            match phase {
                // In later phases the partitions must not change, because other operators were
                // planned for them.
                FilterPushdownPhase::Pre if is_known => match pruner.kept(filter) {
                    Ok(kept) => {
                        pruning.is_filtered = true;
                        kept.into_iter().for_each(|kept| pruning.and(kept));
                    }
                    // It may have a subquery, whose value is not known yet.
                    Err(_) => pruning.later.push(Arc::clone(filter)),
                },
                FilterPushdownPhase::Pre => {}
                _ if !is_known => pruning.later.push(Arc::clone(filter)),
                _ => {}
            }
        }
        let scan = Self { pruning, ..self.clone() };
        (!filters.is_empty()).then(|| match phase {
            FilterPushdownPhase::Pre => scan.with_partitions(self.partitions.len()),
            _ => scan,
        })
    }

    /// The scan with those chunks first that have the first rows of an order by a column; so a top
    /// k can prune the others early. Returns `None` if nothing changes.
    pub(super) fn with_order(&self, order: &[PhysicalSortExpr]) -> Option<Self> {
        let PhysicalSortExpr { expr, options } = order.first()?;
        let column = self.columns[expr.downcast_ref::<Column>()?.index()];
        let SortOptions { descending, .. } = *options;
        let ends: Vec<Option<&ScalarValue>> = (0..self.chunks.batches.len())
            .map(|chunk| {
                let bounds = self.chunks.bounds(chunk, column);
                if descending { bounds.max.value() } else { bounds.min.value() }
            })
            .collect();
        let before = |a: &Piece, b: &Piece| match (ends[a.batch], ends[b.batch]) {
            (Some(a), Some(b)) if descending => b.partial_cmp(a).unwrap_or(Ordering::Equal),
            (Some(a), Some(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            // Chunks without bounds come last.
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        let mut partitions = self.partitions.clone();
        partitions.iter_mut().for_each(|pieces| pieces.sort_by(before));
        let is_other = |(a, b): (&Vec<Piece>, &Vec<Piece>)| a.iter().map(|p| p.batch).ne(b.iter().map(|p| p.batch));
        let is_changed = partitions.iter().zip(&self.partitions).any(is_other);
        is_changed.then(|| Self { partitions, ..self.clone() })
    }
}
