//! Results: a reader that pulls the batches of a query one by one, as the caller asks for them.

use std::collections::VecDeque;
use std::sync::Arc;

use adbc_core::error::Result;
use arrow::array::{RecordBatch, RecordBatchOptions, RecordBatchReader};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use tokio::sync::Mutex;

use super::database::Shared;
use super::running::{Cancellation, Deadline};

/// The rows of a statement: those that are in memory, then those of a running query.
pub struct Rows {
    pub schema: SchemaRef,
    pub batches: VecDeque<RecordBatch>,
    pub rest: Option<SendableRecordBatchStream>,
}

impl Rows {
    /// Returns no rows and no columns: the result of a statement that writes.
    pub fn none() -> Self {
        Self { schema: Arc::new(Schema::empty()), batches: VecDeque::new(), rest: None }
    }

    /// Returns rows in memory, which have one schema.
    pub fn of(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { schema: nullable(schema), batches: batches.into(), rest: None }
    }
}

/// Returns the schema with nullable columns: the optimizer may lose or find that a column has no
/// NULL, and a reader has one schema.
pub fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// Reader of [`Rows`]. It keeps the database open.
pub struct Reader {
    shared: Arc<Shared>,
    cancellation: Cancellation,
    deadline: Option<Deadline>,
    schema: SchemaRef,
    batches: VecDeque<RecordBatch>,
    rest: Option<Arc<Mutex<SendableRecordBatchStream>>>,
}

impl Reader {
    pub fn new(shared: Arc<Shared>, cancellation: Cancellation, deadline: Option<Deadline>, rows: Rows) -> Self {
        let Rows { schema, batches, rest } = rows;
        let rest = rest.map(|rest| Arc::new(Mutex::new(rest)));
        Self { shared, cancellation, deadline, schema, batches, rest }
    }

    fn pull(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(batch) = self.batches.pop_front() {
            return Ok(Some(batch));
        }
        let Some(rest) = &self.rest else { return Ok(None) };
        let rest = Arc::clone(rest);
        let next = async move { Ok(rest.lock().await.try_next().await?) };
        self.shared.threads.run(&self.cancellation, self.deadline, next)
    }
}

impl Iterator for Reader {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.pull() {
            Ok(Some(batch)) => Some(with_schema(&batch, &self.schema)),
            Ok(None) => {
                self.rest = None;
                None
            }
            Err(error) => {
                (self.rest, self.batches) = (None, VecDeque::new());
                Some(Err(ArrowError::ExternalError(error.message.into())))
            }
        }
    }
}

impl RecordBatchReader for Reader {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The streams of a query end on a thread that knows the runtime.
        let _runtime = self.shared.threads.enter();
        self.rest = None;
    }
}

/// Returns a batch under a schema of the same types.
pub fn with_schema(batch: &RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, ArrowError> {
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &rows)
}

/// A reader of batches in memory.
pub fn in_memory(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Box<dyn RecordBatchReader + Send + 'static> {
    let batches = batches.into_iter().map(Ok);
    Box::new(arrow::array::RecordBatchIterator::new(batches, Arc::clone(schema)))
}
