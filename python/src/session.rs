//! `vexact._native.Session`.

use std::path::PathBuf;

use pyo3::prelude::*;
use vexact::SessionOptions;

use crate::convert;
use crate::errors::{exception, invalid};
use crate::frame::DataFrame;
use crate::runtime::{run, run_long};
use crate::search::{SearchArguments, Sections, sections};

#[pyclass(frozen, module = "vexact._native")]
pub struct Session(pub vexact::Session);

#[pymethods]
impl Session {
    #[new]
    fn new(
        py: Python<'_>,
        memory_limit_bytes: Option<&Bound<'_, PyAny>>,
        target_partitions: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let options = SessionOptions {
            memory_limit_bytes: convert::whole_number("memory_limit_bytes", memory_limit_bytes)?,
            target_partitions: convert::whole_number("target_partitions", target_partitions)?,
        };
        let session = vexact::Session::with_options(&options);
        session.map(Self).map_err(|error| exception(py, &error))
    }

    fn read_csv(&self, py: Python<'_>, path: PathBuf, delimiter: char) -> PyResult<DataFrame> {
        let session = self.0.clone();
        run_long(py, async move { session.read_csv(path, delimiter).await }).map(DataFrame)
    }

    fn read_json(
        &self,
        py: Python<'_>,
        path: PathBuf,
        columns: Option<Vec<String>>,
        format: &str,
    ) -> PyResult<DataFrame> {
        let format = format.parse().map_err(|error| exception(py, &error))?;
        let session = self.0.clone();
        run_long(py, async move { session.read_json(path, columns.as_deref(), format).await }).map(DataFrame)
    }

    fn read_parquet(&self, py: Python<'_>, path: PathBuf) -> PyResult<DataFrame> {
        run(py, self.0.read_parquet(path)).map(DataFrame)
    }

    fn read(&self, py: Python<'_>, path: PathBuf) -> PyResult<DataFrame> {
        let session = self.0.clone();
        run_long(py, async move { session.read(path).await }).map(DataFrame)
    }

    fn read_arrow(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<DataFrame> {
        let (schema, batches) = convert::batches(data)?;
        let frame = self.0.create_dataframe_from_arrow(schema, batches);
        frame.map(DataFrame).map_err(|error| exception(py, &error))
    }

    fn create_temp_view(&self, py: Python<'_>, name: &str, frame: &DataFrame) -> PyResult<()> {
        self.0.create_temp_view(name, &frame.0).map_err(|error| exception(py, &error))
    }

    fn sql(&self, py: Python<'_>, query: &str, params: Option<&Bound<'_, PyAny>>) -> PyResult<DataFrame> {
        let params = convert::parameters(params)?;
        run(py, self.0.sql(query, params)).map(DataFrame)
    }

    fn explain_sql(&self, py: Python<'_>, query: &str, params: Option<&Bound<'_, PyAny>>) -> PyResult<Sections> {
        let params = convert::parameters(params)?;
        run(py, self.0.explain_sql(query, params)).map(sections)
    }

    fn vector_search(&self, py: Python<'_>, arguments: SearchArguments<'_>) -> PyResult<DataFrame> {
        let search = arguments.search(py, "query_vector", invalid)?;
        run(py, self.0.vector_search(&search)).map(DataFrame)
    }

    fn explain_vector_search(&self, py: Python<'_>, arguments: SearchArguments<'_>) -> PyResult<Sections> {
        let search = arguments.search(py, "query_vector", invalid)?;
        run(py, self.0.explain_vector_search(&search)).map(sections)
    }

    fn hybrid_search(
        &self,
        py: Python<'_>,
        arguments: SearchArguments<'_>,
        score_threshold: Option<f64>,
    ) -> PyResult<DataFrame> {
        let search = arguments.search(py, "query_vector", invalid)?;
        run(py, self.0.hybrid_search(&search, score_threshold)).map(DataFrame)
    }

    fn explain_hybrid_search(
        &self,
        py: Python<'_>,
        arguments: SearchArguments<'_>,
        score_threshold: Option<f64>,
    ) -> PyResult<Sections> {
        let search = arguments.search(py, "query_vector", invalid)?;
        run(py, self.0.explain_hybrid_search(&search, score_threshold)).map(sections)
    }
}
