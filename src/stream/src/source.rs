//! Sources: origins of the rows of a stream.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use vexact_core::error::{Error, Result};

/// Position in a source, in a form that the source defines. A checkpoint stores it and returns it
/// to the source.
pub type Offset = serde_json::Value;

/// Boundaries of one micro-batch: everything after `from`, up to and including `to`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OffsetRange {
    /// Start of the micro-batch: the `to` of the previous one, or [`Source::start`].
    pub from: Offset,
    /// Offset after the micro-batch.
    pub to: Offset,
}

/// An open source: one reader of it, in one query.
///
/// The engine requests the boundaries of the next micro-batch, may log them, and then requests its
/// rows: `next_range` → `read` → `next_range` → `read` … A micro-batch may have no rows.
///
/// - **Order.** Ranges follow each other without a gap: each begins where the one before ended.
/// - **Replay.** If [`Self::can_replay`] is true, `read` of a range that this or an earlier reader
///   (also of another process) has returned yields the same rows in the same order, after
///   [`Self::restore`] to its beginning. Boundaries must therefore determine the rows completely.
///   If it is false, `read` is called once for each range, right after the range was returned.
/// - **Waiting.** `next_range` waits for input without polling. Its future may be dropped at any
///   await, and a new call loses nothing. The future of `read` is dropped only when the query ends.
/// - **Errors** end the query.
#[async_trait]
pub trait Source: Debug + Send {
    /// Returns the schema of every micro-batch. A mismatch with the actual rows is an error when
    /// the source is opened, or of the `read` that finds it.
    fn schema(&self) -> SchemaRef;

    /// Returns true if the source is finite: `next_range` returns `None` eventually.
    fn is_bounded(&self) -> bool;

    /// Returns true if a range can be read again with identical rows. Delivery `exactly-once`
    /// requires it.
    fn can_replay(&self) -> bool {
        false
    }

    /// Returns the offset before the first micro-batch.
    fn start(&self) -> Offset {
        Offset::from(0)
    }

    /// Waits for input and returns the boundaries of the next micro-batch; `None` at the end, also
    /// in later calls.
    async fn next_range(&mut self) -> Result<Option<OffsetRange>>;

    /// Returns the rows of a range, as one [`RecordBatch`] of [`Self::schema`].
    async fn read(&mut self, range: &OffsetRange) -> Result<RecordBatch>;

    /// Returns evidence that distinguishes the input up to the last range that was read from
    /// another input, for [`Self::verify`]. A checkpoint stores it.
    fn evidence(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Detects a change of the input before a restored offset. Called after [`Self::restore`].
    ///
    /// # Errors
    /// Input that differs from the input that was read.
    async fn verify(&mut self, evidence: &serde_json::Value) -> Result<()> {
        let _ = evidence;
        Ok(())
    }

    /// Resumes after `offset`, the `to` of a range that an earlier reader returned (or
    /// [`Self::start`]). Called only before the first `next_range`.
    ///
    /// # Errors
    /// An offset that is not of this source; a source that cannot go back.
    async fn restore(&mut self, offset: &Offset) -> Result<()> {
        Err(Error::InvalidArgument(format!("the source cannot go on after offset {offset}: it keeps no input")))
    }
}

/// A named source in a session's catalog, which each query opens for itself.
#[async_trait]
pub trait SourceTable: Debug + Send + Sync {
    /// Returns the columns of the rows.
    fn schema(&self) -> SchemaRef;

    /// As [`Source::is_bounded`].
    fn is_bounded(&self) -> bool;

    /// As [`Source::can_replay`].
    fn can_replay(&self) -> bool {
        false
    }

    /// Returns the identity of the source, such as its path: the checkpoint of a query resumes only
    /// with the same source. A source without a name of its own is identified by its kind and its
    /// columns.
    fn identity(&self) -> String {
        format!("a source of ({})", columns(&self.schema()))
    }

    /// Opens the source for one query.
    ///
    /// # Errors
    /// Input without the columns of [`Self::schema`]: the error has the names and types, expected
    /// and got. A source that only one query may read, and that one reads already.
    async fn open(&self) -> Result<Box<dyn Source>>;
}

/// Formats column names and types for messages: `a Int64, b Utf8`.
pub fn columns(schema: &Schema) -> String {
    let column = |field: &FieldRef| format!("{} {}", field.name(), field.data_type());
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}

/// Converts a batch to `schema`: the same columns by name and type, in any order. Nothing is
/// copied. `what` is the batch's name in the message.
///
/// # Errors
/// Other columns: expected and got.
pub fn conform(batch: RecordBatch, schema: &SchemaRef, what: &str) -> Result<RecordBatch> {
    let got = batch.schema();
    if got.fields() == schema.fields() {
        return Ok(batch);
    }
    let mismatch = |problem: &str| {
        let (expected, got) = (columns(schema), columns(&got));
        Error::InvalidArgument(format!("{what} does not match its stream: {problem}expected ({expected}), got ({got})"))
    };
    let place = |field: &FieldRef| {
        let place = got.index_of(field.name()).ok();
        place.filter(|place| got.field(*place).data_type() == field.data_type())
    };
    let places: Option<Vec<usize>> = schema.fields().iter().map(place).collect();
    match places.filter(|_| got.fields().len() == schema.fields().len()) {
        Some(places) => {
            let arrays = places.iter().map(|place| Arc::clone(batch.column(*place))).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let conformed = RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options);
            // The types agree, so the error is a NULL that is not allowed.
            conformed.map_err(|error| mismatch(&format!("{error}; ")))
        }
        None => Err(mismatch("")),
    }
}

/// A placeholder for a source that was moved out.
#[derive(Debug)]
pub(super) struct Taken(pub SchemaRef);

#[async_trait]
impl Source for Taken {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }

    fn is_bounded(&self) -> bool {
        true
    }

    async fn next_range(&mut self) -> Result<Option<OffsetRange>> {
        Ok(None)
    }

    async fn read(&mut self, range: &OffsetRange) -> Result<RecordBatch> {
        Err(Error::InvalidArgument(format!("the source was given away before offset {}", range.to)))
    }
}
