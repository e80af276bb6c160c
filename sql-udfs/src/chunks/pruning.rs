//! Pruning of a scan's chunks, before the scan begins and while it runs.

use std::fmt;
use std::sync::Arc;

use datafusion::physical_expr::{PhysicalExpr, conjunction};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, PruningMetrics};

use super::prune::{Pruner, RuntimePruner};

/// Some rows of one batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub batch: usize,
    pub offset: usize,
    pub len: usize,
}

/// The chunks that a scan prunes.
#[derive(Debug, Clone, Default)]
pub(super) struct Pruning {
    /// For each chunk, true if it is scanned; `None` if all chunks are scanned.
    kept: Option<Arc<[bool]>>,
    /// True if there was a filter that could prune chunks.
    pub is_filtered: bool,
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

    /// Returns true if the scan may omit live rows.
    pub fn is_some(&self) -> bool {
        self.kept.is_some() || !self.later.is_empty()
    }

    pub fn and(&mut self, kept: Vec<bool>) {
        self.kept = Some(kept.iter().enumerate().map(|(chunk, kept)| *kept && self.keeps(chunk)).collect());
    }

    /// Begins one execution of a partition, which prunes chunks and counts the pruned ones.
    pub fn begin(&self, pruner: Pruner, metrics: &ExecutionPlanMetricsSet, partition: usize) -> Execution {
        let metrics = || MetricBuilder::new(metrics).pruning_metrics("chunks_pruned", partition);
        let counted = (self.is_filtered || !self.later.is_empty()).then(metrics);
        if partition == 0
            && let Some(counted) = &counted
        {
            counted.add_pruned(self.pruned());
        }
        let later =
            (!self.later.is_empty()).then(|| RuntimePruner::new(pruner, conjunction(self.later.iter().cloned())));
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

/// Pruning state of the scan of one partition.
pub(super) struct Execution {
    later: Option<RuntimePruner>,
    counted: Option<PruningMetrics>,
    /// The chunk that is scanned.
    chunk: Option<usize>,
    is_out: bool,
}

impl Execution {
    /// Returns true if a piece need not be scanned. The pieces of a partition must be passed in
    /// order.
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
