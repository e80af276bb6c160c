//! `vexact._native.Session`.

use std::path::PathBuf;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use vexact::sql::Explained;
use vexact::{SessionOptions, VectorSearch};

use crate::convert;
use crate::errors::{exception, invalid};
use crate::frame::DataFrame;
use crate::runtime::{run, run_long};

type Sections = (String, String, String);

fn sections(explained: Explained) -> Sections {
    (explained.logical, explained.physical, explained.strategy)
}

#[pyclass(frozen, module = "vexact._native")]
pub struct Session(pub vexact::Session);

#[allow(clippy::too_many_arguments)]
fn search(
    py: Python<'_>,
    table: String,
    column: String,
    query: &Bound<'_, PyAny>,
    top_k: &Bound<'_, PyAny>,
    metric: &str,
    filter: Option<String>,
    columns: Vec<String>,
) -> PyResult<VectorSearch> {
    let metric = metric.parse().map_err(|error: vexact::kernel::KernelError| invalid(py, error.to_string()))?;
    // A whole number of any size: what is beyond all tables asks for all rows.
    if !top_k.hasattr("__index__")? {
        return Err(PyTypeError::new_err(format!("top_k: expected an int, got {}", top_k.get_type().name()?)));
    }
    let top_k = top_k.call_method0("__index__")?;
    if top_k.lt(1)? {
        let problem = format!("invalid top_k: expected a whole number of at least 1, got {}", top_k.repr()?);
        return Err(invalid(py, problem));
    }
    let top_k = top_k.extract::<usize>().unwrap_or(usize::MAX);
    Ok(VectorSearch { table, column, query: convert::query("query_vector", query)?, top_k, metric, filter, columns })
}

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

    #[allow(clippy::too_many_arguments)]
    fn vector_search(
        &self,
        py: Python<'_>,
        table: String,
        column: String,
        query: &Bound<'_, PyAny>,
        top_k: &Bound<'_, PyAny>,
        metric: &str,
        filter: Option<String>,
        columns: Vec<String>,
    ) -> PyResult<DataFrame> {
        let search = search(py, table, column, query, top_k, metric, filter, columns)?;
        run(py, self.0.vector_search(&search)).map(DataFrame)
    }

    #[allow(clippy::too_many_arguments)]
    fn explain_vector_search(
        &self,
        py: Python<'_>,
        table: String,
        column: String,
        query: &Bound<'_, PyAny>,
        top_k: &Bound<'_, PyAny>,
        metric: &str,
        filter: Option<String>,
        columns: Vec<String>,
    ) -> PyResult<Sections> {
        let search = search(py, table, column, query, top_k, metric, filter, columns)?;
        run(py, self.0.explain_vector_search(&search)).map(sections)
    }

    #[allow(clippy::too_many_arguments)]
    fn hybrid_search(
        &self,
        py: Python<'_>,
        table: String,
        column: String,
        query: &Bound<'_, PyAny>,
        top_k: &Bound<'_, PyAny>,
        metric: &str,
        score_threshold: Option<f64>,
        filter: Option<String>,
    ) -> PyResult<DataFrame> {
        let search = search(py, table, column, query, top_k, metric, filter, vec![])?;
        run(py, self.0.hybrid_search(&search, score_threshold)).map(DataFrame)
    }

    #[allow(clippy::too_many_arguments)]
    fn explain_hybrid_search(
        &self,
        py: Python<'_>,
        table: String,
        column: String,
        query: &Bound<'_, PyAny>,
        top_k: &Bound<'_, PyAny>,
        metric: &str,
        score_threshold: Option<f64>,
        filter: Option<String>,
    ) -> PyResult<Sections> {
        let search = search(py, table, column, query, top_k, metric, filter, vec![])?;
        run(py, self.0.explain_hybrid_search(&search, score_threshold)).map(sections)
    }
}
