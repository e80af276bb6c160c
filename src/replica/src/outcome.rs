//! What a batch of changes amounts to: rows to add, and the index entries that they move.

use arrow::array::RecordBatch;

use super::changes::Counts;
use super::index::Location;

/// A row that is its key's current one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    /// In [`WriteResult::rows`].
    pub row: u32,
    pub hash: u64,
    /// Where the key's row was.
    pub before: Option<Location>,
}

/// What a batch of changes amounts to.
#[derive(Debug)]
pub(super) struct WriteResult {
    /// New rows, of the stored schema.
    pub rows: RecordBatch,
    /// Those of them that are current.
    pub current: Vec<Current>,
    /// Keys that have no row any more, and where it was.
    pub forgotten: Vec<(u64, Location)>,
    pub counts: Counts,
}
