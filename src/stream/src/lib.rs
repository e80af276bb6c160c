//! Streams: SQL over unbounded input.
//!
//! A [`Source`] yields micro-batches, a query turns each into rows, a [`Sink`] writes them.
//! docs/internals/streams.md explains the design.

mod aggregate;
mod analysis;
mod api;
mod checkpoint;
mod clause;
mod control;
mod create;
pub mod csv_dir;
pub mod file_sink;
pub mod memory;
mod options;
mod pipeline;
mod progress;
mod pull;
mod query;
pub mod queue;
mod reserved;
mod run;
mod run_plan;
pub mod sink;
pub mod source;
mod split;
mod sql;
mod state;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod window;
mod workers;

pub use api::{StreamFrame, explain_stream_sql, sink_table, start_stream_sql, start_stream_sql_into, stream_sql};
pub use create::stream_table;
pub use options::{Delivery, ExecutionMode, StreamOptions};
pub use progress::{Progress, Status};
pub use query::StreamingQuery;
pub use sink::{Position, Sink, SinkTable};
pub use source::{Offset, OffsetRange, Source, SourceTable};
