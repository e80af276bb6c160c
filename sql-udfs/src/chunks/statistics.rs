//! Statistics of a scan for the optimizer.

use arrow::array::Array;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};

use super::bounds::{Bound, ColumnBounds};
use super::{ChunkScanExec, Chunks};

impl ChunkScanExec {
    /// Returns the statistics of one partition, or of all if `partition` is `None`. A bound is
    /// exact if a live row has the value, so that `min` and `max` are answered without a scan; it
    /// is inexact if only a deleted row may have it.
    pub(super) fn statistics(&self, partition: Option<usize>) -> Statistics {
        let rows = Precision::Exact(self.rows(partition));
        let mut statistics = Statistics {
            num_rows: rows,
            total_byte_size: Precision::Absent,
            column_statistics: self.columns.iter().map(|column| self.chunks.column_statistics(*column)).collect(),
        };
        if partition.is_some() || self.omits_rows() {
            statistics = statistics.to_inexact();
        }
        // Chunks that are already pruned are not counted.
        Statistics { num_rows: if self.pruning.later.is_empty() { rows } else { rows.to_inexact() }, ..statistics }
    }
}

impl Chunks {
    fn column_statistics(&self, column: usize) -> ColumnStatistics {
        match self.statistics.get(column) {
            Some(known) => known.get_or_init(|| self.find_column_statistics(column)).clone(),
            None => ColumnStatistics::new_unknown(),
        }
    }

    fn find_column_statistics(&self, column: usize) -> ColumnStatistics {
        let chunks = 0..self.batches.len();
        let nulls = chunks.map(|chunk| self.live_nulls(chunk, column)).sum();
        ColumnStatistics {
            null_count: Precision::Exact(nulls),
            min_value: self.end(column, |bounds| &bounds.min, |a, b| a < b),
            max_value: self.end(column, |bounds| &bounds.max, |a, b| a > b),
            ..ColumnStatistics::new_unknown()
        }
    }

    /// NULLs among the live rows of a chunk.
    fn live_nulls(&self, chunk: usize, column: usize) -> usize {
        let nulls = self.bounds(chunk, column).nulls;
        match &self.live[chunk] {
            Some(live) if nulls == self.batches[chunk].num_rows() => live.count_set_bits(),
            Some(live) if nulls > 0 => match self.batches[chunk].column(column).logical_nulls() {
                Some(valid) => live.count_set_bits() - (live & valid.inner()).count_set_bits(),
                None => 0,
            },
            _ => nulls,
        }
    }

    /// The least or greatest value of all chunks, by what is beyond what.
    fn end(
        &self,
        column: usize,
        of: impl Fn(&ColumnBounds) -> &Bound,
        is_beyond: impl Fn(&ScalarValue, &ScalarValue) -> bool,
    ) -> Precision<ScalarValue> {
        let mut end: Option<(&ScalarValue, bool)> = None;
        for chunk in 0..self.batches.len() {
            let bound = of(self.bounds(chunk, column));
            let (value, is_exact) = match bound {
                Bound::Nothing => continue,
                Bound::Unknown => return Precision::Absent,
                // A deleted row may have had the value. In a chunk of the same bound without
                // deleted rows, a live row has it.
                Bound::Exact(value) => (value, self.live[chunk].is_none()),
                Bound::Beyond(value) => (value, false),
            };
            end = match end {
                Some((known, was_exact)) if known == value => Some((known, was_exact || is_exact)),
                Some((known, was_exact)) if !is_beyond(value, known) => Some((known, was_exact)),
                _ => Some((value, is_exact)),
            };
        }
        match end {
            Some((value, true)) => Precision::Exact(value.clone()),
            Some((value, false)) => Precision::Inexact(value.clone()),
            None => Precision::Absent,
        }
    }
}
