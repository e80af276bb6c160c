//! Storage of replicas: a folder of immutable files, and a manifest that lists the files of the
//! current state.
//!
//! ```text
//! lock                      held by the one who has the folder open
//! manifest.json             the state: tables, their segments and bitmaps by file, position, checksums; replaced as one
//! segment-00000012.arrow    the rows of one segment (or .parquet), never changed
//! live-00000013.bits        the delete bitmaps that one save found changed
//! *.tmp                     a file that is being written
//! ```
//!
//! A save writes new files under temporary names, syncs and renames them, syncs the folder, and
//! only then replaces the manifest in the same way. Files that the manifest no longer names are
//! removed after that. So a crash at any point leaves a complete state, and at most some
//! superfluous files, which the next save removes.

mod bitmaps;
mod format;
mod load;
mod manifest;
mod parallel;
mod store;
#[cfg(test)]
mod tests;

pub use format::StorageFormat;
pub use load::{Stored, StoredTable};
pub use store::Store;
