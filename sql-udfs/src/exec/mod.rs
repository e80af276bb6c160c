//! The operators.

mod groups;
mod in_place;
mod join;
mod max_sim;
mod one_child;
mod ranked;
mod run;
mod spec;
mod split;
mod stored_sketch;
mod stream;
mod tie_break;
mod ties;
mod top_k;

pub use groups::check_group_type;
pub use join::{Join, JoinColumn, VectorJoinExec};
pub(crate) use max_sim::MaxSimTopK;
pub use max_sim::MaxSimTopKExec;
pub(crate) use ranked::external;
pub use spec::{ScoreBounds, Scoring, SqlFunction, TopK};
pub use split::{MergeJoinExec, MergeTopKExec, PartialJoinExec, PartialTopKExec, TaskIndex};
pub(crate) use tie_break::TieBreak;
pub use tie_break::TieBreakExec;
pub use top_k::VectorTopKExec;
