//! What a scan of chunks makes of the filters and sorts above it.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::ScalarValue;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{DynamicFilterTracking, PhysicalExpr, PhysicalSortExpr, conjunction};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPhase;
use datafusion::physical_plan::metrics::{MetricBuilder, PruningMetrics};

use super::prune::RuntimePruner;
use super::scan::{ChunkScanExec, Piece};

/// Which chunks a scan leaves out.
#[derive(Debug, Clone, Default)]
pub(super) struct Pruning {
    /// Of each chunk, whether it is scanned; `None`: all are.
    kept: Option<Arc<[bool]>>,
    /// Whether there was a filter that might have ruled out some.
    is_filtered: bool,
    /// Filters that are known only while the scan runs.
    pub later: Vec<Arc<dyn PhysicalExpr>>,
}

impl Pruning {
    pub fn keeps(&self, chunk: usize) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept[chunk])
    }

    fn pruned(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.iter().filter(|kept| !**kept).count())
    }

    /// Whether a scan may have less than all live rows.
    pub fn is_some(&self) -> bool {
        self.kept.is_some() || !self.later.is_empty()
    }

    fn and(&mut self, kept: Vec<bool>) {
        self.kept = Some(kept.iter().enumerate().map(|(chunk, kept)| *kept && self.keeps(chunk)).collect());
    }

    /// What one execution of a partition leaves out, and counts.
    pub fn begin(&self, scan: &ChunkScanExec, partition: usize) -> Execution {
        let metrics = || MetricBuilder::new(&scan.metrics).pruning_metrics("chunks_pruned", partition);
        let counted = (self.is_filtered || !self.later.is_empty()).then(metrics);
        if partition == 0
            && let Some(counted) = &counted
        {
            counted.add_pruned(self.pruned());
        }
        let later = (!self.later.is_empty())
            .then(|| RuntimePruner::new(scan.pruner(), conjunction(self.later.iter().cloned())));
        Execution { later, counted, chunk: None, is_out: false }
    }
}

/// `, pruned=14`, where there was a filter.
impl fmt::Display for Pruning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_filtered {
            write!(f, ", pruned={}", self.pruned())?;
        }
        if let Some((first, others)) = self.later.split_first() {
            write!(f, ", pruned_by=[{first}")?;
            others.iter().try_for_each(|filter| write!(f, ", {filter}"))?;
            f.write_str("]")?;
        }
        Ok(())
    }
}

/// What is left out while one partition is scanned.
pub(super) struct Execution {
    later: Option<RuntimePruner>,
    counted: Option<PruningMetrics>,
    /// The chunk that is scanned.
    chunk: Option<usize>,
    is_out: bool,
}

impl Execution {
    /// Whether a piece, one of those of a partition in their order, need not be scanned.
    pub fn rules_out(&mut self, piece: Piece) -> bool {
        if self.chunk.replace(piece.batch) != Some(piece.batch) {
            self.is_out = self.later.as_mut().is_some_and(|later| later.rules_out(piece.batch));
            // A chunk that two partitions share is counted where it begins.
            if let Some(counted) = self.counted.as_ref().filter(|_| piece.offset == 0) {
                if self.is_out { counted.add_pruned(1) } else { counted.add_matched(1) }
            }
        }
        self.is_out
    }
}

impl ChunkScanExec {
    /// The scan without the chunks that filters over its columns rule out; `None`: nothing changes.
    pub(super) fn with_filters(&self, phase: FilterPushdownPhase, filters: Vec<Arc<dyn PhysicalExpr>>) -> Option<Self> {
        let mut pruning = self.pruning.clone();
        let pruner = self.pruner();
        for filter in &filters {
            let is_known = !DynamicFilterTracking::classify(filter).contains_dynamic_filter();
            match phase {
                // Later the partitions are what other operators were planned for.
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

    /// The scan with those chunks first that have the first rows of an order by a column; so a top k soon knows what it can do
    /// without. `None`: nothing changes.
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
            // What is not known comes last.
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        let mut partitions = self.partitions.clone();
        partitions.iter_mut().for_each(|pieces| pieces.sort_by(before));
        let is_other = |(a, b): (&Vec<Piece>, &Vec<Piece>)| a.iter().map(|p| p.batch).ne(b.iter().map(|p| p.batch));
        let is_changed = partitions.iter().zip(&self.partitions).any(is_other);
        is_changed.then(|| Self { partitions, ..self.clone() })
    }
}
