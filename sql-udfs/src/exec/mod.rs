//! The operators.

mod in_place;
mod join;
mod ranked;
mod run;
mod spec;
mod stream;
mod ties;
mod top_k;

pub use join::{Join, JoinColumn, VectorJoinExec};
pub use spec::{Scoring, SqlFunction, TopK};
pub use top_k::VectorTopKExec;
