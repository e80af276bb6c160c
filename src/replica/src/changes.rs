//! What a replica is told: the states of keys, in the order of the change log.

use arrow::array::RecordBatch;

/// Changes of one table, in the order of the log.
#[derive(Debug)]
pub struct ChangeBatch {
    /// Rows, of the registered schema.
    pub rows: RecordBatch,
    /// Keys of rows that are gone: the key's columns, in the key's order.
    pub gone: RecordBatch,
    /// What happened, in order.
    pub changes: Vec<Change>,
}

/// One change. It tells a state and not an operation, so that hearing it twice is harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Microseconds since the epoch.
    pub time: i64,
    /// What is now.
    pub state: KeyState,
}

/// The state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// This row of [`ChangeBatch::rows`].
    Row(u32),
    /// Gone: the key is this row of [`ChangeBatch::gone`].
    Gone(u32),
}

/// Rows that really changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys that came.
    pub inserted: u64,
    /// Rows of keys that were there.
    pub updated: u64,
    /// Keys that went.
    pub deleted: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
    }
}
