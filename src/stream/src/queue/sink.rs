//! A queue as the sink of a query.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use vexact_core::error::{Error, Result};

use super::{BatchQueue, Watermarks};
use crate::sink::{Sink, SinkTable};

/// A queue as a sink: one batch for each micro-batch; those without rows are skipped.
#[derive(Debug, Clone)]
pub struct QueueSink {
    queue: BatchQueue,
}

impl QueueSink {
    /// Creates an empty queue for the rows of any query.
    ///
    /// # Errors
    /// Invalid watermarks.
    pub fn try_new(watermarks: Watermarks) -> Result<Self> {
        Ok(Self { queue: BatchQueue::try_new(watermarks)? })
    }

    /// Returns the queue.
    pub fn queue(&self) -> &BatchQueue {
        &self.queue
    }
}

#[async_trait]
impl SinkTable for QueueSink {
    fn schema(&self) -> Option<SchemaRef> {
        None
    }

    fn is_blocking(&self) -> bool {
        true
    }

    async fn open(&self, _schema: SchemaRef, _is_restored: bool) -> Result<Box<dyn Sink>> {
        if self.queue.is_closed() {
            return Err(Error::InvalidArgument("the realtime sink is closed: expected a new one".into()));
        }
        Ok(Box::new(QueueWriter { queue: self.queue.clone() }))
    }
}

#[derive(Debug)]
struct QueueWriter {
    queue: BatchQueue,
}

#[async_trait]
impl Sink for QueueWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        match batch.num_rows() {
            0 => Ok(()),
            _ => self.queue.push(batch).await,
        }
    }

    fn is_blocking(&self) -> bool {
        true
    }
}

/// The readers are notified even if the query fails.
impl Drop for QueueWriter {
    fn drop(&mut self) {
        self.queue.close();
    }
}
