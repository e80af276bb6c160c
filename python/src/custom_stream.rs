//! Python iterables as sources of streams, and Python functions as their sinks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_pyarrow::{FromPyArrow, ToPyArrow};
use async_trait::async_trait;
use datafusion::error::DataFusionError;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyList};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use vexact::stream::source::conform;
use vexact::stream::{OffsetRange, Sink, SinkTable, Source, SourceTable};
use vexact::{Error, Result};

use crate::errors::exception;
use crate::session::Session;
use crate::stream::StreamFrame;

/// Converts a Python exception to the engine's error, which has it as its source.
fn raised(error: PyErr) -> Error {
    DataFusionError::External(Box::new(error)).into()
}

/// A `vexact.custom_stream.ArrowBatches`. One query reads it once; its batches cannot be read
/// again.
struct PySource {
    schema: SchemaRef,
    is_bounded: bool,
    batches: Mutex<Option<Py<PyAny>>>,
}

impl fmt::Debug for PySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PySource({})", self.schema)
    }
}

#[async_trait]
impl SourceTable for PySource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn is_bounded(&self) -> bool {
        self.is_bounded
    }

    async fn open(&self) -> Result<Box<dyn Source>> {
        let batches = self.batches.lock().take();
        let problem =
            "the custom source is read by another query, or was: expected one query, an iterable is read once";
        let batches = batches.ok_or_else(|| Error::InvalidArgument(problem.into()))?;
        let (schema, changed) = (Arc::clone(&self.schema), Arc::new(Notify::new()));
        Ok(Box::new(PyReader { schema, is_bounded: self.is_bounded, batches, changed, next: None, given: 0 }))
    }
}

struct PyReader {
    schema: SchemaRef,
    is_bounded: bool,
    batches: Py<PyAny>,
    /// Notified by the iterable's thread.
    changed: Arc<Notify>,
    /// The batch of the range that was returned last.
    next: Option<RecordBatch>,
    given: u64,
}

impl fmt::Debug for PyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PyReader({} batches)", self.given)
    }
}

/// Result of polling an iterable.
enum Polled {
    Batch(RecordBatch),
    /// No batch yet: to be polled again after this time, or on the next notification.
    Wait(Option<Duration>),
    End,
}

impl PyReader {
    fn poll(&self) -> Result<Polled> {
        let polled = Python::attach(|py| {
            let changed = Arc::clone(&self.changed);
            let wake = PyCFunction::new_closure(py, None, None, move |_, _| changed.notify_one())?;
            let polled = self.batches.bind(py).call_method1("poll", (wake,))?;
            if polled.is_none() {
                return Ok(Polled::End);
            }
            match polled.extract::<f64>() {
                Ok(seconds) => Ok(Polled::Wait(Duration::try_from_secs_f64(seconds).ok())),
                Err(_) => Ok(Polled::Batch(RecordBatch::from_pyarrow_bound(&polled)?)),
            }
        });
        polled.map_err(raised)
    }
}

impl Drop for PyReader {
    /// Closes the iterator, so that the iterable is read no further.
    fn drop(&mut self) {
        Python::attach(|py| {
            if let Err(error) = self.batches.bind(py).call_method0("close") {
                error.write_unraisable(py, None);
            }
        });
    }
}

#[async_trait]
impl Source for PyReader {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn is_bounded(&self) -> bool {
        self.is_bounded
    }

    async fn next_range(&mut self) -> Result<Option<OffsetRange>> {
        while self.next.is_none() {
            match self.poll()? {
                Polled::Batch(batch) => self.next = Some(conform(batch, &self.schema, "the batch")?),
                Polled::End => return Ok(None),
                Polled::Wait(None) => self.changed.notified().await,
                // The iterable is polled again after the notification and after the timeout.
                Polled::Wait(Some(time)) => drop(tokio::time::timeout(time, self.changed.notified()).await),
            }
        }
        Ok(Some(OffsetRange { from: self.given.into(), to: (self.given + 1).into() }))
    }

    async fn read(&mut self, range: &OffsetRange) -> Result<RecordBatch> {
        let problem =
            || Error::InvalidArgument(format!("the custom source keeps no input: batch {} is gone", range.to));
        let batch = self.next.take().ok_or_else(problem)?;
        self.given += 1;
        Ok(batch)
    }

    /// Continues with the next batch: earlier batches cannot be read again.
    async fn restore(&mut self, offset: &vexact::stream::Offset) -> Result<()> {
        self.given = offset.as_u64().unwrap_or(0);
        Ok(())
    }
}

/// A `vexact.CustomArrowStreamSink`.
struct PySink {
    on_emit: Arc<Py<PyAny>>,
    emit_rows: usize,
    /// `None` if rows are emitted by their number only.
    emit_interval: Option<Duration>,
}

impl PySink {
    fn try_new(sink: &Bound<'_, PyAny>) -> PyResult<Self> {
        let options = sink.getattr("options")?;
        let seconds: f64 = options.getattr("emit_interval_seconds")?.extract()?;
        Ok(Self {
            on_emit: Arc::new(sink.getattr("on_emit")?.unbind()),
            emit_rows: options.getattr("emit_rows")?.extract()?,
            emit_interval: Duration::try_from_secs_f64(seconds).ok(),
        })
    }
}

impl fmt::Debug for PySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PySink(emit_rows: {}, emit_interval: {:?})", self.emit_rows, self.emit_interval)
    }
}

#[async_trait]
impl SinkTable for PySink {
    fn schema(&self) -> Option<SchemaRef> {
        None
    }

    fn is_blocking(&self) -> bool {
        true
    }

    async fn open(&self, schema: SchemaRef, _is_restored: bool) -> Result<Box<dyn Sink>> {
        let gathered = Gathered {
            schema,
            on_emit: Arc::clone(&self.on_emit),
            emit_rows: self.emit_rows,
            waiting: Vec::new(),
            rows: 0,
            turn: 0,
            failed: None,
        };
        let gathered = Arc::new(tokio::sync::Mutex::new(gathered));
        Ok(Box::new(PyWriter { gathered, emit_interval: self.emit_interval, timer: None }))
    }
}

/// Rows that are buffered for a function.
struct Gathered {
    schema: SchemaRef,
    on_emit: Arc<Py<PyAny>>,
    emit_rows: usize,
    waiting: Vec<RecordBatch>,
    rows: usize,
    /// Number of emits so far.
    turn: u64,
    /// The exception of a call that the timer made.
    failed: Option<Error>,
}

impl Gathered {
    /// Emits rows in tables of `emit_rows`. The remaining rows are emitted if `takes_rest`, else
    /// they stay buffered.
    async fn emit(&mut self, takes_rest: bool) -> Result<()> {
        let whole = if takes_rest { self.rows } else { self.rows - self.rows % self.emit_rows };
        if whole == 0 {
            return Ok(());
        }
        let all = concat_batches(&self.schema, &self.waiting).map_err(DataFusionError::from)?;
        let pieces = (0..whole).step_by(self.emit_rows);
        let pieces: Vec<RecordBatch> = pieces.map(|at| all.slice(at, self.emit_rows.min(whole - at))).collect();
        self.waiting = if whole < self.rows { vec![all.slice(whole, self.rows - whole)] } else { Vec::new() };
        self.rows -= whole;
        self.turn += 1;
        let on_emit = Arc::clone(&self.on_emit);
        // The Python function may block.
        let called = tokio::task::spawn_blocking(move || {
            Python::attach(|py| {
                for piece in pieces {
                    let batches = PyList::new(py, [piece.to_pyarrow(py)?])?;
                    let table = py.import("pyarrow")?.getattr("Table")?.call_method1("from_batches", (batches,))?;
                    on_emit.bind(py).call1((table,))?;
                }
                Ok(())
            })
        });
        match called.await {
            Ok(called) => called.map_err(raised),
            Err(error) => Err(Error::Interrupted(error.to_string())),
        }
    }
}

struct PyWriter {
    gathered: Arc<tokio::sync::Mutex<Gathered>>,
    emit_interval: Option<Duration>,
    timer: Option<AbortHandle>,
}

impl fmt::Debug for PyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PyWriter(emit_interval: {:?})", self.emit_interval)
    }
}

impl PyWriter {
    /// Starts a timer that emits the buffered rows after the interval, unless they were emitted
    /// before.
    fn start_timer(&mut self, turn: u64) {
        let Some(interval) = self.emit_interval else { return };
        let gathered = Arc::clone(&self.gathered);
        let timer = tokio::spawn(async move {
            tokio::time::sleep(interval).await;
            let mut gathered = gathered.lock().await;
            if gathered.turn == turn {
                gathered.failed = gathered.emit(true).await.err();
            }
        });
        self.timer = Some(timer.abort_handle());
    }
}

impl Drop for PyWriter {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

#[async_trait]
impl Sink for PyWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let gathered = Arc::clone(&self.gathered);
        let mut gathered = gathered.lock().await;
        gathered.failed.take().map_or(Ok(()), Err)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let (before, turn) = (gathered.rows, gathered.turn);
        gathered.rows += batch.num_rows();
        gathered.waiting.push(batch);
        gathered.emit(false).await?;
        if gathered.rows > 0 && (before == 0 || gathered.turn != turn) {
            self.start_timer(gathered.turn);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let mut gathered = self.gathered.lock().await;
        gathered.failed.take().map_or(Ok(()), Err)?;
        gathered.emit(true).await
    }

    fn is_blocking(&self) -> bool {
        true
    }
}

/// Creates a stream of the rows of a `vexact.custom_stream.ArrowBatches`.
#[pyfunction]
fn stream_from_python(
    session: &Session,
    batches: Py<PyAny>,
    schema: &Bound<'_, PyAny>,
    is_bounded: bool,
) -> PyResult<StreamFrame> {
    let schema = Arc::new(Schema::from_pyarrow_bound(schema)?);
    let source = PySource { schema, is_bounded, batches: Mutex::new(Some(batches)) };
    Ok(session.0.stream(Arc::new(source)).into())
}

/// Registers a `vexact.CustomArrowStreamSink` under a name for INSERT.
#[pyfunction]
fn name_python_sink(py: Python<'_>, session: &Session, name: &str, sink: &Bound<'_, PyAny>) -> PyResult<()> {
    let sink = Arc::new(PySink::try_new(sink)?);
    session.0.create_sink(name, sink).map_err(|error| exception(py, &error))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(stream_from_python, module)?)?;
    module.add_function(wrap_pyfunction!(name_python_sink, module)?)
}
