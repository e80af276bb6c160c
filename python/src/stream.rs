//! Streams: `vexact._native`'s part of `vexact.stream`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::Schema;
use arrow_pyarrow::{FromPyArrow, ToPyArrow};
use pyo3::prelude::*;
use vexact::stream::queue::{QueueSink, QueueSource, Watermarks};
use vexact::stream::{SourceTable, StreamOptions};

use crate::convert;
use crate::errors::{exception, invalid};
use crate::process::OfProcess;
use crate::runtime::{enter, run, run_long};
use crate::search::{Sections, sections};
use crate::session::Session;

/// Trigger interval in ms, checkpoint path, delivery mode, execution mode, number of workers,
/// maximum number of partitions at a time.
type Options<'a> = (f64, Option<PathBuf>, &'a str, &'a str, usize, usize);

fn options(
    py: Python<'_>,
    (interval_ms, checkpoint_path, delivery, execution, workers, inflight): Options<'_>,
) -> PyResult<StreamOptions> {
    let interval = Duration::try_from_secs_f64(interval_ms / 1e3).map_err(|_| {
        invalid(py, format!("trigger_interval_ms: expected a number of milliseconds, at least 0, got {interval_ms}"))
    })?;
    Ok(StreamOptions {
        trigger_interval: interval,
        checkpoint_path: checkpoint_path.filter(|path| !path.as_os_str().is_empty()),
        delivery: delivery.parse().map_err(|error| exception(py, &error))?,
        execution: execution.parse().map_err(|error| exception(py, &error))?,
        local_workers: workers,
        max_inflight_partitions: inflight,
    })
}

fn watermarks(high: usize, low: Option<usize>) -> Watermarks {
    Watermarks { high, low: low.unwrap_or(high / 2) }
}

#[pyclass(frozen, module = "vexact._native")]
pub struct StreamFrame(pub OfProcess<vexact::StreamFrame>);

impl From<vexact::StreamFrame> for StreamFrame {
    fn from(frame: vexact::StreamFrame) -> Self {
        Self(frame.into())
    }
}

#[pymethods]
impl StreamFrame {
    fn schema<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.schema().to_pyarrow(py)
    }

    fn is_bounded(&self) -> bool {
        self.0.is_bounded()
    }

    fn explain(&self, py: Python<'_>, options: Options<'_>) -> PyResult<Sections> {
        let options = self::options(py, options)?;
        run(py, self.0.explain(&options)).map(sections)
    }

    fn write(&self, py: Python<'_>, sink: &RealtimeSink, options: Options<'_>) -> PyResult<StreamingQuery> {
        let (frame, sink, options) = (self.0.clone(), Arc::new(sink.0.clone()), self::options(py, options)?);
        run_long(py, async move { frame.write(sink, options).await }).map(StreamingQuery::from)
    }
}

#[pyclass(frozen, module = "vexact._native")]
pub struct StreamingQuery(OfProcess<vexact::StreamingQuery>);

impl From<vexact::StreamingQuery> for StreamingQuery {
    fn from(query: vexact::StreamingQuery) -> Self {
        Self(query.into())
    }
}

#[pymethods]
impl StreamingQuery {
    fn start(&self) -> PyResult<()> {
        let _runtime = enter()?;
        self.0.start();
        Ok(())
    }

    fn await_termination(&self, py: Python<'_>, max_batches: u64) -> PyResult<u64> {
        run(py, self.0.await_termination(max_batches))
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn snapshot_json(&self) -> String {
        self.0.snapshot_json()
    }
}

#[pyclass(frozen, module = "vexact._native")]
pub struct RealtimeSource(OfProcess<QueueSource>);

#[pymethods]
impl RealtimeSource {
    #[new]
    fn new(py: Python<'_>, schema: &Bound<'_, PyAny>, high: usize, low: Option<usize>) -> PyResult<Self> {
        let schema = Arc::new(Schema::from_pyarrow_bound(schema)?);
        QueueSource::try_new(schema, watermarks(high, low))
            .map(|queue| Self(queue.into()))
            .map_err(|error| exception(py, &error))
    }

    fn schema<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.schema().to_pyarrow(py)
    }

    /// Pushes a batch, which becomes a micro-batch. Waits while the queue is full.
    fn push(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let (_, batches) = convert::batches(data)?;
        run(py, async {
            for batch in batches {
                self.0.push(batch).await?;
            }
            Ok(())
        })
    }

    fn close(&self) {
        self.0.queue().close();
    }

    fn is_closed(&self) -> bool {
        self.0.queue().is_closed()
    }

    fn __len__(&self) -> usize {
        self.0.queue().len()
    }
}

#[pyclass(frozen, module = "vexact._native")]
pub struct RealtimeSink(OfProcess<QueueSink>);

#[pymethods]
impl RealtimeSink {
    #[new]
    fn new(py: Python<'_>, high: usize, low: Option<usize>) -> PyResult<Self> {
        QueueSink::try_new(watermarks(high, low)).map(|queue| Self(queue.into())).map_err(|error| exception(py, &error))
    }

    /// Returns the next batch. Returns `None` after `timeout_seconds` without one, and once the
    /// queue is closed and empty. A timeout of `None` is unlimited.
    fn poll<'py>(&self, py: Python<'py>, timeout_seconds: Option<f64>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let timeout = timeout_seconds.map(Duration::try_from_secs_f64).transpose().map_err(|_| {
            invalid(py, format!("timeout_seconds: expected at least 0, got {}", timeout_seconds.unwrap_or_default()))
        })?;
        let batch = match self.0.queue().try_pop() {
            None if timeout != Some(Duration::ZERO) => run(py, async { Ok(self.0.queue().pop(timeout).await) })?,
            batch => batch,
        };
        batch.map(|batch| batch.to_pyarrow(py)).transpose()
    }

    fn close(&self) {
        self.0.queue().close();
    }

    fn is_drained(&self) -> bool {
        self.0.queue().is_drained()
    }

    fn __len__(&self) -> usize {
        self.0.queue().len()
    }
}

/// Creates a bounded stream of Arrow batches.
#[pyfunction]
fn stream_from_arrow(py: Python<'_>, session: &Session, data: &Bound<'_, PyAny>) -> PyResult<StreamFrame> {
    let (schema, batches) = convert::batches(data)?;
    let frame = session.0.create_stream_from_arrow(schema, batches);
    frame.map(StreamFrame::from).map_err(|error| exception(py, &error))
}

/// Creates a stream of a folder of CSV files.
#[pyfunction]
fn read_stream_csv_dir(py: Python<'_>, session: &Session, path: PathBuf, delimiter: char) -> PyResult<StreamFrame> {
    py.detach(|| session.0.read_stream_csv_dir(path, delimiter))
        .map(StreamFrame::from)
        .map_err(|error| exception(py, &error))
}

#[pyfunction]
fn stream_of_source(session: &Session, source: &RealtimeSource) -> StreamFrame {
    session.0.stream(Arc::new(source.0.clone())).into()
}

#[pyfunction]
fn name_stream(py: Python<'_>, session: &Session, name: &str, frame: &StreamFrame) -> PyResult<()> {
    session.0.create_stream_view(name, &frame.0).map_err(|error| exception(py, &error))
}

#[pyfunction]
fn name_sink(py: Python<'_>, session: &Session, name: &str, sink: &RealtimeSink) -> PyResult<()> {
    session.0.create_sink(name, Arc::new(sink.0.clone())).map_err(|error| exception(py, &error))
}

#[pyfunction]
fn stream_sql(py: Python<'_>, session: &Session, query: &str) -> PyResult<StreamFrame> {
    run(py, session.0.stream_sql(query)).map(StreamFrame::from)
}

#[pyfunction]
fn start_stream_sql(py: Python<'_>, session: &Session, sql: String, options: Options<'_>) -> PyResult<StreamingQuery> {
    let (session, options) = (session.0.clone(), self::options(py, options)?);
    run_long(py, async move { session.start_stream_sql(&sql, options).await }).map(StreamingQuery::from)
}

#[pyfunction]
fn explain_stream_sql(py: Python<'_>, session: &Session, sql: &str, options: Options<'_>) -> PyResult<Sections> {
    let options = self::options(py, options)?;
    run(py, session.0.explain_stream_sql(sql, &options)).map(sections)
}

/// Returns the Arrow type of a type's name: `int64`, `utf8`, `vector(3)`, ...
#[pyfunction]
fn column_type<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let parsed = vexact::ColumnType::parse(name).map_err(|error| exception(py, &error))?;
    parsed.arrow().to_pyarrow(py)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<StreamFrame>()?;
    module.add_class::<StreamingQuery>()?;
    module.add_class::<RealtimeSource>()?;
    module.add_class::<RealtimeSink>()?;
    module.add_function(wrap_pyfunction!(stream_from_arrow, module)?)?;
    module.add_function(wrap_pyfunction!(read_stream_csv_dir, module)?)?;
    module.add_function(wrap_pyfunction!(stream_of_source, module)?)?;
    module.add_function(wrap_pyfunction!(name_stream, module)?)?;
    module.add_function(wrap_pyfunction!(name_sink, module)?)?;
    module.add_function(wrap_pyfunction!(stream_sql, module)?)?;
    module.add_function(wrap_pyfunction!(start_stream_sql, module)?)?;
    module.add_function(wrap_pyfunction!(explain_stream_sql, module)?)?;
    module.add_function(wrap_pyfunction!(column_type, module)?)?;
    Ok(())
}
