//! Streams: SQL over input that goes on.
//!
//! A [`Source`] gives micro-batches, a query turns each into rows, a [`Sink`] takes them. docs/internals/streams.md says why it is
//! built so.

pub mod memory;
pub mod queue;
pub mod sink;
pub mod source;

pub use sink::{Position, Sink, SinkTable};
pub use source::{Offset, OffsetRange, Source, SourceTable};
