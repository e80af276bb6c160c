//! Immutable versions of columnar tables, and how the next version is made.
//!
//! A table is a list of segments of at most 65 536 rows, each with a delete bitmap, and an index
//! from key to row. A change batch adds a segment and copies the bitmaps that it touches; its cost
//! does not depend on the table's size. Small segments are merged in the background. Readers hold
//! versions and never wait. A [`Store`] makes them durable.

mod changes;
mod compaction;
mod destructive;
mod index;
mod key;
mod load;
mod outcome;
mod reconcile;
mod snapshot;
mod storage;
mod table;
mod temporal;
#[cfg(test)]
mod tests;
mod text;
mod version;
mod writer;

pub use changes::{Change, ChangeBatch, Counts, KeyState};
pub use reconcile::RowState;
pub use snapshot::{Replicas, Snapshot, TableSnapshot, Update};
pub use storage::{StorageFormat, Store, Stored, StoredTable};
pub use table::ReplicaTable;
pub use text::{TextColumn, TextMatches, Tokenizer};
pub use version::{Definition, OPERATION, SyncMode, TableVersion, VALID_FROM, VALID_TO};
