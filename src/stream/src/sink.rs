//! Sinks: destinations of the rows of a streaming query.

use std::fmt::Debug;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use vexact_core::error::{Error, Result};

/// Position of a sink, in a form that the sink defines (such as bytes of a file). A checkpoint
/// stores it and returns it to the sink.
pub type Position = serde_json::Value;

/// An open sink: one writer of it, in one query.
///
/// The engine calls `write` for each micro-batch in the order of the input, one call at a time;
/// `flush` and then `position` before each checkpoint; `truncate` at most once, before the first
/// `write`; `finish` at the end of bounded input, and when the query is stopped.
///
/// - **Durability.** Rows that were written before `flush` returned survive a crash of the process
///   and of the machine, if the sink is a file.
/// - **Duplicates.** After a crash, rows since the last checkpoint are written again, unless the
///   sink was truncated to its position.
/// - **Errors** end the query.
#[async_trait]
pub trait Sink: Debug + Send {
    /// Writes the rows of one micro-batch, of the schema that [`SinkTable::open`] received. May
    /// wait for room: then [`Self::is_blocking`] is true. Its future is dropped only when the query
    /// ends.
    async fn write(&mut self, batch: RecordBatch) -> Result<()>;

    /// Makes the written rows durable.
    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// Returns the sink's position after [`Self::flush`]; `None` for a sink that cannot be
    /// truncated.
    fn position(&self) -> Option<Position> {
        None
    }

    /// Removes everything that was written after `position`, also by an earlier writer that
    /// crashed. The result is byte for byte the output at the time when `position` was taken.
    ///
    /// # Errors
    /// A position that is not of this sink; a sink that cannot be truncated.
    async fn truncate(&mut self, position: &Position) -> Result<()> {
        Err(Error::InvalidArgument(format!("the sink cannot be cut back to position {position}")))
    }

    /// Completes the output: the end that a reader needs is written, and everything is durable.
    async fn finish(&mut self) -> Result<()> {
        self.flush().await
    }

    /// Returns true if a slow reader can block the query.
    fn is_blocking(&self) -> bool {
        false
    }
}

/// A named sink in a session's catalog, which each query opens for itself.
#[async_trait]
pub trait SinkTable: Debug + Send + Sync {
    /// Returns the declared columns; `None` if it accepts any.
    fn schema(&self) -> Option<SchemaRef>;

    /// Returns true if [`Sink::truncate`] is supported. Delivery `exactly-once` requires it.
    fn can_truncate(&self) -> bool {
        false
    }

    /// As [`Sink::is_blocking`].
    fn is_blocking(&self) -> bool {
        false
    }

    /// Returns the identity of the sink, such as its path: the checkpoint of a query resumes only
    /// with the same sink. A sink without a name of its own is identified by its kind.
    fn identity(&self) -> String {
        "a sink without a name".into()
    }

    /// Opens the sink for one query, whose rows have `schema`: the declared columns by name and
    /// type, if there are any.
    ///
    /// A new query (`is_restored` is false) starts the output anew, once it has rows: the old
    /// output stays until then. A query that resumes from a checkpoint keeps the output;
    /// [`Sink::truncate`] truncates it if the delivery mode requires that.
    ///
    /// # Errors
    /// Columns that the sink cannot hold; a file that cannot be written.
    async fn open(&self, schema: SchemaRef, is_restored: bool) -> Result<Box<dyn Sink>>;
}
