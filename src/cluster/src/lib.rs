//! Queries over Parquet files on many workers, with the answers of one process.
//!
//! A session plans a query as without workers. When the query runs, each scan of Parquet files in
//! the plan, with the filters, the search or the partial aggregation above it, becomes a part that
//! runs in several tasks ([`cut`]); everything else runs in the session's process, the coordinator.
//! A task has a contiguous range of the files, and its partitions follow those of the task before
//! it, so that rows keep their order and ties are broken as without workers.
//!
//! A table in memory over which a query computes is sent with the plans, up to a limit ([`sent`]).
//!
//! The transport, the worker's service and the lifetime of tasks are those of
//! `datafusion-distributed`. It decides by itself which operators may run in several tasks; here only
//! the operators that are known to be right in several tasks get there.

mod address;
mod channel;
mod cluster;
mod codec;
mod cut;
mod errors;
mod exec;
mod explain;
mod portable;
mod route;
mod run;
mod scan;
mod sent;
mod settings;
mod status;
mod task;
#[cfg(test)]
mod tests;
mod traffic;
mod worker;

pub use address::{ClusterOptions, Secret};
pub use cluster::Cluster;
pub use status::{WorkerInfo, WorkerStatus};
pub use worker::{Listening, WorkerOptions, serve};
