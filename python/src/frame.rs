//! `vexact._native.DataFrame`.

use arrow_pyarrow::ToPyArrow;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::runtime::{run, run_long};

/// The sections of an explain as HTML, with its style.
#[pyfunction]
pub fn explain_html(logical: String, physical: String, strategy: String) -> String {
    vexact::html::with_style(&vexact::html::explain(&vexact::sql::Explained { logical, physical, strategy }))
}

#[pyclass(frozen, module = "vexact._native")]
pub struct DataFrame(pub vexact::DataFrame);

#[pymethods]
impl DataFrame {
    /// The schema as a `pyarrow.Schema`.
    fn schema<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.schema().to_pyarrow(py)
    }

    /// All rows as a `pyarrow.Table`.
    fn to_arrow<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let frame = self.0.clone();
        let batches = match frame.batches() {
            Some(batches) => batches,
            None => run_long(py, async move { frame.collect().await })?,
        };
        let batches = batches.iter().map(|batch| batch.to_pyarrow(py)).collect::<PyResult<Vec<_>>>()?;
        let table = py.import("pyarrow")?.getattr("Table")?;
        table.call_method1("from_batches", (PyList::new(py, batches)?, self.schema(py)?))
    }

    fn count(&self, py: Python<'_>) -> PyResult<usize> {
        let frame = self.0.clone();
        run_long(py, async move { frame.count().await })
    }

    fn show(&self, py: Python<'_>, max_rows: usize) -> PyResult<String> {
        let frame = self.0.clone();
        run_long(py, async move { frame.show(max_rows).await })
    }

    fn to_html(&self, py: Python<'_>, max_rows: usize) -> PyResult<String> {
        let frame = self.0.clone();
        run_long(py, async move { frame.to_html(max_rows).await })
    }

    /// The sections (logical, physical, strategy).
    fn explain(&self, py: Python<'_>) -> PyResult<(String, String, String)> {
        let explained = run(py, self.0.explain())?;
        Ok((explained.logical, explained.physical, explained.strategy))
    }

    fn write_parquet(&self, py: Python<'_>, path: std::path::PathBuf) -> PyResult<()> {
        let frame = self.0.clone();
        run_long(py, async move { frame.write_parquet(path).await })
    }

    fn write_csv(&self, py: Python<'_>, path: std::path::PathBuf) -> PyResult<()> {
        let frame = self.0.clone();
        run_long(py, async move { frame.write_csv(path).await })
    }
}
