//! Effect of a batch of changes: rows to add, and the index entries that change.

use arrow::array::RecordBatch;

use super::changes::Counts;
use super::index::Location;

/// A row that is its key's current one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    /// In [`WriteResult::rows`].
    pub row: u32,
    pub hash: u64,
    /// The previous location of the key's row.
    pub before: Option<Location>,
}

/// Effect of a batch of changes.
#[derive(Debug)]
pub(super) struct WriteResult {
    /// New rows, of the stored schema.
    pub rows: RecordBatch,
    /// Those of them that are current.
    pub current: Vec<Current>,
    /// Hashes of keys that have no row any more, with the previous location of the row.
    pub forgotten: Vec<(u64, Location)>,
    pub counts: Counts,
}
