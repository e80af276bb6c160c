//! `vexact._native.DataFrame`.

use arrow_pyarrow::ToPyArrow;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::runtime::run;

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
        let batches = run(py, self.0.collect())?;
        let batches = batches.iter().map(|batch| batch.to_pyarrow(py)).collect::<PyResult<Vec<_>>>()?;
        let table = py.import("pyarrow")?.getattr("Table")?;
        table.call_method1("from_batches", (PyList::new(py, batches)?, self.schema(py)?))
    }

    fn count(&self, py: Python<'_>) -> PyResult<usize> {
        run(py, self.0.count())
    }

    fn show(&self, py: Python<'_>, max_rows: usize) -> PyResult<String> {
        run(py, self.0.show(max_rows))
    }

    fn to_html(&self, py: Python<'_>, max_rows: usize) -> PyResult<String> {
        run(py, self.0.to_html(max_rows))
    }

    /// The sections (logical, physical, strategy).
    fn explain(&self, py: Python<'_>) -> PyResult<(String, String, String)> {
        let explained = run(py, self.0.explain())?;
        Ok((explained.logical, explained.physical, explained.strategy))
    }

    fn write_parquet(&self, py: Python<'_>, path: std::path::PathBuf) -> PyResult<()> {
        run(py, self.0.write_parquet(path))
    }

    fn write_csv(&self, py: Python<'_>, path: std::path::PathBuf) -> PyResult<()> {
        run(py, self.0.write_csv(path))
    }
}
