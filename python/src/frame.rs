//! `vexact._native.DataFrame`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatchReader;
use arrow_pyarrow::{IntoPyArrow, ToPyArrow};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::errors::exception;
use crate::lazy_reader::LazyReader;
use crate::process::OfProcess;
use crate::runtime::{run, run_long, run_telling};
use crate::search::{Sections, sections};

/// Callback with the number of rows so far, called while a query runs.
type Tell = Option<Py<PyAny>>;

fn tell(tell: &Tell, py: Python<'_>, rows: usize) -> PyResult<()> {
    match tell {
        Some(tell) => tell.call1(py, (rows,)).map(|_| ()),
        None => Ok(()),
    }
}

/// Returns the sections of an explain as HTML, with its style.
#[pyfunction]
pub fn explain_html(logical: &str, physical: &str, strategy: Vec<Vec<(String, String)>>, text: &str) -> String {
    let strategy =
        strategy.iter().map(|section| section.iter().map(|(key, value)| (&**key, &**value)).collect()).collect();
    vexact_html::with_style(&vexact_html::explain(&vexact_html::Explain { logical, physical, strategy, text }))
}

/// Removes the temporary files of this process. Called when the interpreter ends, which ends the
/// writers too.
#[pyfunction]
pub fn discard_unfinished() {
    vexact::discard_unfinished();
}

#[pyclass(frozen, module = "vexact._native")]
pub struct DataFrame(pub OfProcess<vexact::DataFrame>);

impl From<vexact::DataFrame> for DataFrame {
    fn from(frame: vexact::DataFrame) -> Self {
        Self(frame.into())
    }
}

#[pymethods]
impl DataFrame {
    /// Returns the schema as a `pyarrow.Schema`.
    fn schema<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.schema().to_pyarrow(py)
    }

    /// Returns all rows as a `pyarrow.Table`.
    #[pyo3(signature = (progress))]
    fn to_arrow<'py>(&self, py: Python<'py>, progress: Tell) -> PyResult<Bound<'py, PyAny>> {
        let frame = self.0.clone();
        let batches = match frame.batches() {
            Some(batches) => batches,
            None => {
                let rows = Arc::new(AtomicUsize::new(0));
                let counted = Arc::clone(&rows);
                let collect = async move {
                    let count = |more| {
                        counted.fetch_add(more, Ordering::Relaxed);
                    };
                    frame.collect_counting(count).await
                };
                run_telling(py, collect, &|py| tell(&progress, py, rows.load(Ordering::Relaxed)))?
            }
        };
        let schema = match batches.first() {
            Some(first) => first.schema().to_pyarrow(py)?,
            None => self.schema(py)?,
        };
        let batches = batches.iter().map(|batch| batch.to_pyarrow(py)).collect::<PyResult<Vec<_>>>()?;
        let table = py.import("pyarrow")?.getattr("Table")?;
        table.call_method1("from_batches", (PyList::new(py, batches)?, schema))
    }

    /// Starts the query and returns its rows as a `pyarrow.RecordBatchReader`, which computes them as they are read.
    fn to_reader<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let reader: Box<dyn RecordBatchReader + Send> = Box::new(LazyReader::start(self.0.clone())?);
        reader.into_pyarrow(py)
    }

    /// Returns true if the rows are in memory.
    fn is_in_memory(&self) -> bool {
        self.0.batches().is_some()
    }

    #[pyo3(signature = (progress))]
    fn count(&self, py: Python<'_>, progress: Tell) -> PyResult<usize> {
        let frame = self.0.clone();
        run_telling(py, async move { frame.count().await }, &|py| tell(&progress, py, 0))
    }

    fn show(&self, py: Python<'_>, max_rows: usize) -> PyResult<String> {
        let frame = self.0.clone();
        run_long(py, async move { frame.show(max_rows).await })
    }

    fn to_html(&self, py: Python<'_>, max_rows: usize) -> PyResult<String> {
        let frame = self.0.clone();
        run_long(py, async move { vexact_html::first_rows(&frame.head(max_rows).await?, max_rows) })
    }

    fn select(&self, py: Python<'_>, columns: Vec<String>) -> PyResult<DataFrame> {
        self.0.select(&columns).map(DataFrame::from).map_err(|error| exception(py, &error))
    }

    fn limit(&self, py: Python<'_>, rows: usize) -> PyResult<DataFrame> {
        self.0.limit(rows).map(DataFrame::from).map_err(|error| exception(py, &error))
    }

    #[pyo3(signature = (progress))]
    fn cache(&self, py: Python<'_>, progress: Tell) -> PyResult<DataFrame> {
        let frame = self.0.clone();
        run_telling(py, async move { frame.cache().await }, &|py| tell(&progress, py, 0)).map(DataFrame::from)
    }

    /// The sections (logical, physical, strategy).
    fn explain(&self, py: Python<'_>) -> PyResult<Sections> {
        run(py, self.0.explain()).map(sections)
    }

    #[pyo3(signature = (path, sketch, progress))]
    fn write_parquet(
        &self,
        py: Python<'_>,
        path: std::path::PathBuf,
        sketch: Vec<String>,
        progress: Tell,
    ) -> PyResult<()> {
        let frame = self.0.clone();
        let written = async move { frame.write_parquet_with_sketches(path, &sketch).await };
        run_telling(py, written, &|py| tell(&progress, py, 0))
    }

    #[pyo3(signature = (path, progress))]
    fn write_csv(&self, py: Python<'_>, path: std::path::PathBuf, progress: Tell) -> PyResult<()> {
        let frame = self.0.clone();
        run_telling(py, async move { frame.write_csv(path).await }, &|py| tell(&progress, py, 0))
    }
}
