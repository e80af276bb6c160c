//! The rows of a query as an Arrow stream: batches are computed while the consumer reads, at most
//! a few ahead.

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use pyo3::prelude::*;
use tokio::sync::mpsc;
use vexact::DataFrame;

use crate::runtime::{Spawned, run, spawn};

/// Batches that are computed before the consumer asks for them.
const BATCHES_AHEAD: usize = 2;

pub struct LazyReader {
    schema: SchemaRef,
    batches: mpsc::Receiver<RecordBatch>,
    /// The running query; `None` once its end is reported. Dropping it cancels the query.
    query: Option<Spawned<()>>,
}

impl LazyReader {
    /// Starts the query.
    pub fn start(frame: DataFrame) -> PyResult<Self> {
        let schema = frame.stream_schema();
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let query = spawn(async move { frame.send_batches(&sender).await })?;
        Ok(Self { schema, batches, query: Some(query) })
    }
}

impl Iterator for LazyReader {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { batches, query, .. } = self;
        let next = async {
            match (batches.recv().await, query.as_mut()) {
                (Some(batch), _) => Ok(Some(batch)),
                (None, Some(ended)) => ended.end().await.map(|()| None),
                (None, None) => Ok(None),
            }
        };
        // The consumer may hold the GIL or not; the query may need it.
        let next = Python::attach(|py| run(py, next));
        if !matches!(next, Ok(Some(_))) {
            self.query = None;
        }
        next.map_err(|error| ArrowError::ExternalError(Box::new(error))).transpose()
    }
}

impl RecordBatchReader for LazyReader {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}
