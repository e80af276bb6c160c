//! `vexact._native.Session`.

use std::path::PathBuf;
use std::time::Duration;

use arrow::datatypes::DataType;
use arrow_pyarrow::{FromPyArrow, ToPyArrow};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vexact::SessionOptions;
use vexact::sources::csv::CsvOptions;
use vexact::sources::download;
use vexact::sources::line_columns::{LineColumn, LineField, LineMode};
use vexact::sources::object_stores::{StoreOptions, is_remote};
use vexact::sources::probe::Format;
use vexact_cluster::{Cluster, ClusterOptions, Secret};

use crate::convert;
use crate::errors::{exception, invalid};
use crate::frame::DataFrame;
use crate::process::OfProcess;
use crate::runtime::{run, run_long};
use crate::search::{SearchArguments, Sections, sections};
use crate::text::{FusionArguments, TextArguments};

#[pyclass(frozen, module = "vexact._native")]
pub struct Session(pub OfProcess<vexact::Session>);

/// Schema, delimiter, confidence, table name, warnings, and the candidates: kind, format, score and
/// reason.
type Probed<'py> = (
    Option<Bound<'py, PyAny>>,
    Option<char>,
    &'static str,
    String,
    Vec<String>,
    Vec<(&'static str, &'static str, u8, String)>,
);

/// `(column, field, type)`: the field is a number or a group's name, the type one of SQL's or None.
#[derive(FromPyObject)]
pub struct LineMapping<'py>(String, Bound<'py, PyAny>, Option<String>);

impl LineMapping<'_> {
    fn column(self, py: Python<'_>) -> PyResult<LineColumn> {
        let Self(name, field, data_type) = self;
        let field = match (field.extract::<usize>(), field.extract::<String>()) {
            (Ok(index), _) => LineField::Index(index),
            (_, Ok(group)) => LineField::Group(group),
            _ => {
                let got = field.repr()?;
                let problem =
                    format!("mappings: column {name:?}: expected a field's number or a group's name, got {got}");
                return Err(invalid(py, problem));
            }
        };
        let data_type = data_type.map(|text| vexact::sources::parse_type(&text)).transpose();
        let data_type = data_type.map_err(|problem| invalid(py, format!("mappings: column {name:?}: {problem}")))?;
        Ok(LineColumn { name, field, data_type })
    }
}

/// The options of a CSV file: a dict.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct CsvArguments<'py> {
    delimiter: char,
    header: bool,
    names: Option<Vec<String>>,
    /// Columns' names and types: a SQL type by its name, or a type of pyarrow.
    dtypes: Vec<(String, Bound<'py, PyAny>)>,
    null_values: Vec<String>,
    quote: Option<char>,
    escape: Option<char>,
    comment: Option<char>,
    skip_rows: usize,
    encoding: String,
    decimal: char,
}

impl CsvArguments<'_> {
    fn options(self, py: Python<'_>) -> PyResult<CsvOptions> {
        let refused = |error: vexact::Error| exception(py, &error);
        let byte = |name: &str, character: Option<char>| match character.map(u8::try_from) {
            None => Ok(None),
            Some(Ok(byte)) if byte.is_ascii() => Ok(Some(byte)),
            _ => {
                let got = character.unwrap_or_default();
                Err(invalid(py, format!("{name}: expected one ASCII character, got {got:?}")))
            }
        };
        let mut options = CsvOptions::delimited(self.delimiter).map_err(refused)?;
        options.has_header = self.header;
        options.names = self.names;
        options.dialect.quote = byte("quote", self.quote)?;
        options.dialect.escape = byte("escape", self.escape)?;
        options.dialect.comment = byte("comment", self.comment)?;
        options.rules.null_values = self.null_values;
        options.rules.decimal = byte("decimal", Some(self.decimal))?.unwrap_or(b'.');
        options.skip_rows = self.skip_rows;
        options.encoding = self.encoding.parse().map_err(refused)?;
        for (name, data_type) in self.dtypes {
            let data_type = match data_type.extract::<String>() {
                Ok(text) => vexact::sources::parse_type(&text)
                    .map_err(|problem| invalid(py, format!("dtypes: column {name:?}: {problem}")))?,
                Err(_) => DataType::from_pyarrow_bound(&data_type)?,
            };
            options.dtypes.push((name, data_type));
        }
        options.check().map_err(refused)?;
        Ok(options)
    }
}

#[pymethods]
impl Session {
    #[new]
    fn new(
        py: Python<'_>,
        memory_limit_bytes: Option<&Bound<'_, PyAny>>,
        target_partitions: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
        object_stores: Vec<(String, Vec<(String, String)>)>,
        tier: &str,
    ) -> PyResult<Self> {
        let mut stores = StoreOptions::default();
        for (url, options) in object_stores {
            stores.set(&url, options).map_err(|error| exception(py, &error))?;
        }
        let options = SessionOptions {
            memory_limit_bytes: convert::whole_number("memory_limit_bytes", memory_limit_bytes)?,
            target_partitions: convert::whole_number("target_partitions", target_partitions)?,
            timeout: timeout.map(Duration::from_secs_f64),
            tier: SessionOptions::parse_tier(tier).map_err(|error| exception(py, &error))?,
            object_stores: stores,
        };
        let session = vexact::Session::with_options(&options);
        session.map(|session| Self(session.into())).map_err(|error| exception(py, &error))
    }

    /// Runs the session's queries on workers from now on.
    fn use_workers(
        &self,
        py: Python<'_>,
        workers: Vec<String>,
        token: Option<&str>,
        tls_ca: Option<PathBuf>,
        retries: usize,
        ship_limit_bytes: usize,
    ) -> PyResult<()> {
        let attach = || {
            let token = token.map(Secret::try_new).transpose()?;
            let options =
                ClusterOptions { workers, token, tls_ca, retries, ship_limit_bytes, ..ClusterOptions::default() };
            Cluster::try_new(options)?.attach(&self.0);
            Ok(())
        };
        attach().map_err(|error| exception(py, &error))
    }

    fn read_csv(&self, py: Python<'_>, paths: Vec<PathBuf>, options: CsvArguments<'_>) -> PyResult<DataFrame> {
        let options = options.options(py)?;
        let session = self.0.clone();
        run_long(py, async move { session.read_csv_with(paths, options).await }).map(DataFrame::from)
    }

    fn read_json(
        &self,
        py: Python<'_>,
        paths: Vec<PathBuf>,
        columns: Option<Vec<String>>,
        format: &str,
    ) -> PyResult<DataFrame> {
        let format = format.parse().map_err(|error| exception(py, &error))?;
        let session = self.0.clone();
        run_long(py, async move { session.read_json(paths, columns.as_deref(), format).await }).map(DataFrame::from)
    }

    fn read_parquet(&self, py: Python<'_>, paths: Vec<PathBuf>) -> PyResult<DataFrame> {
        let session = self.0.clone();
        run_long(py, async move { session.read_parquet(paths).await }).map(DataFrame::from)
    }

    fn read_arrow_file(&self, py: Python<'_>, paths: Vec<PathBuf>) -> PyResult<DataFrame> {
        let session = self.0.clone();
        run_long(py, async move { session.read_arrow_file(paths).await }).map(DataFrame::from)
    }

    #[allow(clippy::too_many_arguments)]
    fn read_line_file(
        &self,
        py: Python<'_>,
        paths: Vec<PathBuf>,
        mappings: Vec<LineMapping<'_>>,
        mode: &str,
        split_delimiter: &str,
        regex_pattern: &str,
        skip_empty_lines: bool,
    ) -> PyResult<DataFrame> {
        let columns = mappings.into_iter().map(|mapping| mapping.column(py)).collect::<PyResult<_>>()?;
        let mode = LineMode::new(mode, split_delimiter, regex_pattern).map_err(|error| exception(py, &error))?;
        let session = self.0.clone();
        run_long(py, async move { session.read_line_file(paths, columns, mode, skip_empty_lines).await })
            .map(DataFrame::from)
    }

    fn probe<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Probed<'py>> {
        let session = self.0.clone();
        let probe = run_long(py, async move { session.probe(path).await })?;
        let schema = probe.schema.as_ref().map(|schema| schema.to_pyarrow(py)).transpose()?;
        let delimiter = match probe.candidates.first().map(|best| best.format) {
            Some(Format::Csv(delimiter)) => Some(delimiter),
            _ => None,
        };
        let confidence = probe.confidence();
        let candidates = probe
            .candidates
            .into_iter()
            .map(|candidate| (candidate.format.kind(), candidate.format.name(), candidate.score, candidate.reason));
        Ok((schema, delimiter, confidence, probe.suggested_table_name, probe.warnings, candidates.collect()))
    }

    /// Returns the bytes of one object of a store, or `None` for a path of this machine.
    fn object_bytes<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if !is_remote(&path) {
            return Ok(None);
        }
        let session = self.0.clone();
        let bytes = run_long(py, async move { download::bytes(session.object_stores(), &path).await })?;
        Ok(Some(PyBytes::new(py, &bytes)))
    }

    fn read(&self, py: Python<'_>, paths: Vec<PathBuf>) -> PyResult<DataFrame> {
        let session = self.0.clone();
        run_long(py, async move { session.read(paths).await }).map(DataFrame::from)
    }

    fn read_arrow(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<DataFrame> {
        let (schema, batches) = convert::batches(data)?;
        let frame = self.0.create_dataframe_from_arrow(schema, batches);
        frame.map(DataFrame::from).map_err(|error| exception(py, &error))
    }

    fn tables(&self) -> Vec<String> {
        self.0.tables()
    }

    fn create_temp_view(&self, py: Python<'_>, name: &str, frame: &DataFrame) -> PyResult<()> {
        self.0.create_temp_view(name, &frame.0).map_err(|error| exception(py, &error))
    }

    fn drop_view(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.0.drop_view(name).map_err(|error| exception(py, &error))
    }

    fn sql(
        &self,
        py: Python<'_>,
        query: &str,
        params: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<DataFrame> {
        let params = convert::parameters(params)?;
        let (session, query) = (self.0.clone(), query.to_owned());
        match timeout.map(Duration::from_secs_f64) {
            None => run_long(py, async move { session.sql(&query, params).await }).map(DataFrame::from),
            Some(timeout) => {
                run_long(py, async move { session.sql_within(&query, params, timeout).await }).map(DataFrame::from)
            }
        }
    }

    fn explain_sql(&self, py: Python<'_>, query: &str, params: Option<&Bound<'_, PyAny>>) -> PyResult<Sections> {
        let params = convert::parameters(params)?;
        run(py, self.0.explain_sql(query, params)).map(sections)
    }

    fn vector_search(&self, py: Python<'_>, arguments: SearchArguments<'_>) -> PyResult<DataFrame> {
        let search = arguments.search(py, "query_vector", invalid)?;
        run(py, self.0.vector_search(&search)).map(DataFrame::from)
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
        run(py, self.0.hybrid_search(&search, score_threshold)).map(DataFrame::from)
    }

    fn fused_search(
        &self,
        py: Python<'_>,
        arguments: SearchArguments<'_>,
        text: FusionArguments,
    ) -> PyResult<DataFrame> {
        let mut search = text.search(py, arguments.search(py, "query_vector", invalid)?)?;
        search.vector.columns = Vec::new();
        search.leading = vec!["*".into()];
        run(py, self.0.fused_search(&search)).map(DataFrame::from)
    }

    fn text_search(&self, py: Python<'_>, arguments: TextArguments<'_>) -> PyResult<DataFrame> {
        let search = arguments.of_session(py, invalid)?;
        run(py, self.0.text_search(&search)).map(DataFrame::from)
    }

    fn register_text(&self, py: Python<'_>, table: &str, columns: Vec<String>, tokenizer: &str) -> PyResult<()> {
        let tokenizer = tokenizer.parse().map_err(|error: vexact::Error| crate::errors::exception(py, &error))?;
        run(py, self.0.register_text(table, &columns, tokenizer))
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
