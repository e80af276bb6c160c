//! Queries over files on many workers.
