//! Input of a replica: the states of keys, in the order of the change log.

use arrow::array::RecordBatch;

/// Changes of one table, in the order of the log.
#[derive(Debug)]
pub struct ChangeBatch {
    /// Rows, of the registered schema.
    pub rows: RecordBatch,
    /// Keys of deleted rows: the key's columns, in the key's order.
    pub gone: RecordBatch,
    /// The changes, in order.
    pub changes: Vec<Change>,
}

/// One change. It holds a state and not an operation, so that applying it twice is harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Microseconds since the epoch.
    pub time: i64,
    /// The new state of the key.
    pub state: KeyState,
}

/// The state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// This row of [`ChangeBatch::rows`].
    Row(u32),
    /// Deleted: the key is this row of [`ChangeBatch::gone`].
    Gone(u32),
}

/// Rows that really changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Number of keys that were added.
    pub inserted: u64,
    /// Number of new rows of existing keys.
    pub updated: u64,
    /// Number of keys that were removed.
    pub deleted: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
    }
}
