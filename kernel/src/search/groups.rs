//! Searches by group.

use super::{One, Search};
use crate::column::ChunkedColumn;
use crate::error::{KernelError, Result};
use crate::report::Report;
use crate::scan::grouped::Groups;

/// A row found by a search by group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupedRow {
    /// Number of the group.
    pub group: u32,
    /// Position in the column, NULL rows counted.
    pub row: u64,
    /// The distance, or the inner product under `dot`.
    pub score: f64,
}

/// The result of a search by group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupedHits {
    /// The rows in the order of their groups, each group best first, ties by position.
    pub rows: Vec<GroupedRow>,
    /// The strategy as executed.
    pub report: Report,
}

impl Search<One> {
    /// Searches each group of a column's rows for its `top_k` best rows, in one scan. `groups` has
    /// the number of each row's group; numbers should be small, because memory is proportional to
    /// the largest. With `has_ties`, all rows of a group that are tied with its k-th are found.
    ///
    /// Scores are those of a search; [SQL's distances](Search::sql_distances) are not supported.
    ///
    /// # Errors
    /// As [`Search::run`], and another number of groups than rows.
    pub fn run_groups<'a>(
        &self,
        column: impl Into<ChunkedColumn<'a>>,
        groups: &[u32],
        has_ties: bool,
    ) -> Result<GroupedHits> {
        let column = column.into();
        if groups.len() != column.len() {
            return Err(KernelError::GroupsLength { expected: column.len(), got: groups.len() });
        }
        let mut job = self.job(&column)?;
        job.is_sql = false;
        job.is_rows_only = false;
        let (found, result) = job.run_grouped(Groups { of_row: groups, has_ties });
        let report = self.describe(&column, &result, found.len() as u64)?;
        let row = |(group, item): (u32, crate::candidates::Candidate)| GroupedRow {
            group,
            row: item.position,
            score: self.metric.key(item.low),
        };
        Ok(GroupedHits { rows: found.into_iter().map(row).collect(), report })
    }
}
