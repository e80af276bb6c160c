//! Orders rows of equal distance by columns of the table. In a replica a row's position changes,
//! but its key does not.

use arrow::array::{Array, ArrayRef};
use arrow::compute::{SortColumn, interleave, lexsort_to_indices};
use datafusion::common::Result;
use vexact_kernel::ChunkedColumn;

use crate::chunks::Chunks;

/// Orders the tied rows of a search over chunks.
pub(super) struct Ties<'c> {
    chunks: &'c Chunks,
    column: &'c ChunkedColumn<'c>,
}

impl<'c> Ties<'c> {
    /// Returns `None` if tied rows are ordered by position, as the kernel returns them.
    pub fn of(chunks: &'c Chunks, column: &'c ChunkedColumn<'c>) -> Option<Self> {
        (!chunks.tie_order().is_empty()).then_some(Self { chunks, column })
    }

    /// Returns the first `k` rows, or all if `k` is `None`, of those that a search for `k + 1` rows
    /// found. If the additional row is tied with the last one, all rows tied with it are ordered:
    /// `all_tied` finds them, in any order, perhaps with others.
    pub fn first<T: Copy>(
        &self,
        k: Option<usize>,
        mut rows: Vec<T>,
        is_tied: impl Fn(&T, &T) -> bool,
        position: impl Fn(&T) -> u64,
        all_tied: impl FnOnce(&T) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let k = k.unwrap_or(usize::MAX);
        if let Some([last, beyond]) = k.checked_sub(1).and_then(|last| rows.get(last..=k))
            && is_tied(last, beyond)
        {
            let last = *last;
            let tied = all_tied(&last)?;
            rows.retain(|row| !is_tied(row, &last));
            rows.extend(tied.into_iter().filter(|row| is_tied(row, &last)));
        }
        for group in rows.chunk_by_mut(is_tied).filter(|group| group.len() > 1) {
            self.sort(group, &position)?;
        }
        rows.truncate(k);
        Ok(rows)
    }

    fn sort<T: Copy>(&self, group: &mut [T], position: impl Fn(&T) -> u64) -> Result<()> {
        let places: Vec<(usize, usize)> = group.iter().map(|row| self.column.locate(position(row))).collect();
        let values = |column: &usize| -> Result<ArrayRef> {
            let arrays: Vec<&dyn Array> =
                self.chunks.batches().iter().map(|batch| batch.column(*column).as_ref()).collect();
            Ok(interleave(&arrays, &places)?)
        };
        let columns =
            self.chunks.tie_order().iter().map(|column| Ok(SortColumn { values: values(column)?, options: None }));
        let order = lexsort_to_indices(&columns.collect::<Result<Vec<_>>>()?, None)?;
        let before = group.to_vec();
        for (row, from) in group.iter_mut().zip(order.values()) {
            *row = before[*from as usize];
        }
        Ok(())
    }
}
