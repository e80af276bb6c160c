//! A queue as the source of a query.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use vexact_core::error::{Error, Result};

use super::{BatchQueue, Watermarks};
use crate::source::{Offset, OffsetRange, Source, SourceTable, conform};

/// A queue as a source: one micro-batch for each batch. It ends when it is closed. Rows that were
/// taken are not retained: after a crash, a query resumes with the next rows.
#[derive(Debug, Clone)]
pub struct QueueSource {
    schema: SchemaRef,
    queue: BatchQueue,
}

impl QueueSource {
    /// Creates an empty queue for rows of these columns.
    ///
    /// # Errors
    /// Invalid watermarks.
    pub fn try_new(schema: SchemaRef, watermarks: Watermarks) -> Result<Self> {
        Ok(Self { schema, queue: BatchQueue::try_new(watermarks)? })
    }

    /// Appends rows, after waiting for room.
    ///
    /// # Errors
    /// Other columns than the source's; a closed queue.
    pub async fn push(&self, batch: RecordBatch) -> Result<()> {
        let batch = conform(batch, &self.schema, "the batch")?;
        self.queue.push(batch).await
    }

    /// Returns the queue.
    pub fn queue(&self) -> &BatchQueue {
        &self.queue
    }
}

#[async_trait]
impl SourceTable for QueueSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn is_bounded(&self) -> bool {
        false
    }

    async fn open(&self) -> Result<Box<dyn Source>> {
        let mut state = self.queue.state();
        if std::mem::replace(&mut state.has_reader, true) {
            let problem = "the realtime source is read by another query: expected one query at a time";
            return Err(Error::InvalidArgument(problem.into()));
        }
        Ok(Box::new(QueueReader { source: self.clone() }))
    }
}

#[derive(Debug)]
struct QueueReader {
    source: QueueSource,
}

impl Drop for QueueReader {
    fn drop(&mut self) {
        self.source.queue.state().has_reader = false;
    }
}

#[async_trait]
impl Source for QueueReader {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.source.schema)
    }

    fn is_bounded(&self) -> bool {
        false
    }

    async fn next_range(&mut self) -> Result<Option<OffsetRange>> {
        if !self.source.queue.wait_filled().await {
            return Ok(None);
        }
        let taken = self.source.queue.state().taken;
        Ok(Some(OffsetRange { from: taken.into(), to: (taken + 1).into() }))
    }

    async fn read(&mut self, range: &OffsetRange) -> Result<RecordBatch> {
        self.source.queue.try_pop().ok_or_else(|| {
            Error::InvalidArgument(format!("the realtime source keeps no input: batch {} is gone", range.to))
        })
    }

    /// Rows that were taken are lost: the query resumes with the next rows.
    async fn restore(&mut self, _offset: &Offset) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use futures::FutureExt;

    use super::*;

    fn batch(value: i64) -> RecordBatch {
        RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(vec![value])) as ArrayRef)]).unwrap()
    }

    #[tokio::test]
    async fn a_source_has_one_reader_and_takes_its_columns_only() {
        let source = QueueSource::try_new(batch(0).schema(), Watermarks::default()).unwrap();
        let mut reader = source.open().await.unwrap();
        assert!(source.open().await.is_err());
        let other = RecordBatch::try_from_iter([("y", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        let error = source.push(other).await.unwrap_err().to_string();
        assert!(error.contains("x Int64") && error.contains("y Int64"), "{error}");
        source.push(batch(7)).await.unwrap();
        // A repeated call of `next_range` loses nothing.
        assert!(reader.next_range().now_or_never().is_some());
        let range = reader.next_range().await.unwrap().unwrap();
        assert_eq!(reader.read(&range).await.unwrap(), batch(7));
        source.queue().close();
        assert_eq!(reader.next_range().await.unwrap(), None);
        drop(reader);
        assert!(source.open().await.is_ok());
    }
}
