//! The operators.

mod in_place;
mod join;
mod ranked;
mod stream;
mod top_k;

pub use join::{Join, JoinColumn, VectorJoinExec};
pub use top_k::{Scoring, SqlFunction, TopK, VectorTopKExec};
