//! How replicas are stored: a folder of immutable files, and a manifest that says which of them are the state.
//!
//! ```text
//! lock                      held by the one who has the folder open
//! manifest.json             the state: tables, their segments and bitmaps by file, position, checksums; replaced as one
//! segment-00000012.arrow    the rows of one segment (or .parquet), never changed
//! live-00000013.bits        the delete bitmaps that one save found changed
//! *.tmp                     a file that is being written
//! ```
//!
//! A save writes what is new under temporary names, makes it durable, renames it, makes the names durable, and only then replaces the
//! manifest in the same way. Files that the manifest no longer names are removed after that. So a stop at any point leaves a whole
//! state, and at most some files too many, which the next save removes.

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
