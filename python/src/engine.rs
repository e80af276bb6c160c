//! `vexact._native.HtapEngine`: each method blocks, without the GIL.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_pyarrow::ToPyArrow;
use pyo3::prelude::*;
use vexact::htap::{Blobs, FunctionDefinition, HtapConfig, HtapEngine as Engine, bind_filter};
use vexact::replication::{SyncResult, SyncStatus};
use vexact::sidecar::{DeleteDetection, SidecarConfig, TimestampTableConfig};
use vexact::{ColumnType, QueryVectors, TableSchema, VectorSearch};

use crate::arguments;
use crate::callbacks;
use crate::errors::engine_exception;
use crate::process::OfProcess;
use crate::runtime::{enter, run_engine};
use crate::search::{SearchArguments, Sections, sections};
use crate::session::Session;
use crate::text::{FusionArguments, TextArguments};

#[pyclass(frozen, module = "vexact._native")]
pub struct HtapEngine(OfProcess<Arc<Engine>>);

/// `(events, inserted, updated, deleted, pruned)`.
type Synced = (u64, u64, u64, u64, Option<u64>);

/// `(table, [(column, type, is_certain, reason)], key)`.
type Inferred = (String, Vec<(String, String, bool, String)>, Vec<String>);

fn synced(result: SyncResult) -> Synced {
    let SyncResult { events_processed, rows_inserted, rows_updated, rows_deleted, pruned_count } = result;
    (events_processed, rows_inserted, rows_updated, rows_deleted, pruned_count)
}

fn batches<'py>(py: Python<'py>, batches: &[RecordBatch]) -> PyResult<Vec<Bound<'py, PyAny>>> {
    batches.iter().map(|batch| batch.to_pyarrow(py)).collect()
}

/// The attributes of `vexact.HtapConfig`. Enumerations are texts in Python.
#[derive(FromPyObject)]
pub struct Config {
    oltp_path: PathBuf,
    sync_mode: String,
    olap_backend: String,
    storage_mode: String,
    storage_path: Option<PathBuf>,
    prune_after_sync: bool,
    log_limit: Option<u64>,
    sync_batch_size: u64,
    read_pool_size: u32,
    tier: String,
    sidecar_source: Option<String>,
    sidecar_tables: Option<Vec<TableConfig>>,
    sidecar_poll_batch_size: u32,
    sidecar_delete_detection: String,
    sidecar_enable_oltp: bool,
}

/// The attributes of `vexact.TimestampTableConfig`.
#[derive(FromPyObject)]
pub struct TableConfig {
    table_name: String,
    primary_key: Vec<String>,
    created_at_column: String,
    updated_at_column: String,
    columns: Vec<String>,
    column_types: Vec<(String, String)>,
}

impl TryFrom<TableConfig> for TimestampTableConfig {
    type Error = vexact::Error;

    fn try_from(table: TableConfig) -> vexact::Result<Self> {
        let TableConfig { table_name, primary_key, created_at_column, updated_at_column, columns, column_types } =
            table;
        let typed = column_types.into_iter().map(|(name, data_type)| match ColumnType::parse(&data_type) {
            Ok(column_type) => Ok((name, column_type)),
            Err(error) => Err(vexact::Error::InvalidArgument(format!(
                "sidecar_tables: table {table_name:?}: column_types: column {name:?}: {error}"
            ))),
        });
        let column_types = typed.collect::<vexact::Result<_>>()?;
        Ok(Self { table_name, primary_key, created_at_column, updated_at_column, columns, column_types })
    }
}

/// Converts the sidecar's settings. Settings that need a source are rejected without one.
fn sidecar(
    source: Option<String>,
    tables: Option<Vec<TableConfig>>,
    poll_batch_size: u32,
    delete_detection: &str,
    enable_oltp: bool,
) -> vexact::Result<Option<SidecarConfig>> {
    let delete_detection = DeleteDetection::parse(delete_detection)?;
    let tables: Vec<TimestampTableConfig> =
        tables.unwrap_or_default().into_iter().map(TryInto::try_into).collect::<vexact::Result<_>>()?;
    let refused = |problem: &str| Err(vexact::Error::InvalidArgument(problem.to_owned()));
    match source {
        Some(source) => Ok(Some(SidecarConfig {
            poll_batch_size,
            delete_detection,
            enable_oltp,
            ..SidecarConfig::new(source, tables)
        })),
        None if !tables.is_empty() => refused("sidecar_tables: expected none without sidecar_source, got some"),
        None if delete_detection != DeleteDetection::Disabled => {
            refused("sidecar_delete_detection: expected \"disabled\" without sidecar_source")
        }
        None if enable_oltp => refused("sidecar_enable_oltp: expected False without sidecar_source"),
        None => Ok(None),
    }
}

impl Config {
    fn checked(self, py: Python<'_>) -> PyResult<HtapConfig> {
        let config = || {
            let config = HtapConfig {
                oltp_path: self.oltp_path,
                sync_mode: HtapConfig::parse_sync_mode(&self.sync_mode)?,
                olap_backend: HtapConfig::parse_olap_backend(&self.olap_backend)?,
                storage_mode: HtapConfig::parse_storage_mode(&self.storage_mode)?,
                storage_path: self.storage_path,
                prune_after_sync: self.prune_after_sync,
                log_limit: self.log_limit,
                sync_batch_size: self.sync_batch_size,
                read_pool_size: self.read_pool_size,
                tier: HtapConfig::parse_tier(&self.tier)?,
                sidecar: sidecar(
                    self.sidecar_source,
                    self.sidecar_tables,
                    self.sidecar_poll_batch_size,
                    &self.sidecar_delete_detection,
                    self.sidecar_enable_oltp,
                )?,
            };
            config.check().map(|()| config)
        };
        config().map_err(|error| crate::errors::exception(py, &error))
    }
}

/// Returns true if Python's own SQLite may open an engine's files in this process.
#[pyfunction]
pub fn has_isolated_locks() -> bool {
    vexact::locks::are_isolated()
}

/// Checks the settings.
#[pyfunction]
pub fn check_config(py: Python<'_>, config: Config) -> PyResult<()> {
    config.checked(py).map(drop)
}

/// Checks a table's columns `(name, type)` and key; returns the columns with their types in
/// canonical spelling.
#[pyfunction]
pub fn check_table_schema(
    py: Python<'_>,
    name: &str,
    columns: Vec<(String, String)>,
    key: Vec<String>,
) -> PyResult<Vec<(String, String)>> {
    let schema = TableSchema::try_new(name, &columns, &key).map_err(|error| crate::errors::exception(py, &error))?;
    Ok(schema.columns().iter().map(|column| (column.name.clone(), column.column_type.to_string())).collect())
}

/// Removes from a SQLite file the triggers and tables that were made in it for replication; returns
/// their names.
#[pyfunction]
pub fn uninstall(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    run_engine(py, vexact::htap::uninstall(path))
}

#[pymethods]
impl HtapEngine {
    #[new]
    fn new(py: Python<'_>, config: Config) -> PyResult<Self> {
        let config = config.checked(py)?;
        Ok(Self(Arc::new(run_engine(py, Engine::open(config))?).into()))
    }

    fn execute(&self, py: Python<'_>, sql: &str, params: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
        let params = arguments::arguments(sql, params)?;
        run_engine(py, self.0.execute(sql, params))
    }

    fn execute_batch(&self, py: Python<'_>, statements: Vec<(String, Option<Bound<'_, PyAny>>)>) -> PyResult<()> {
        let statements = arguments::statements(statements)?;
        run_engine(py, self.0.execute_batch(statements)).map(drop)
    }

    fn execute_returning<'py>(
        &self,
        py: Python<'py>,
        sql: &str,
        params: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let params = arguments::arguments(sql, params)?;
        batches(py, &run_engine(py, self.0.execute_returning(sql, params))?)
    }

    fn create_function(
        &self,
        py: Python<'_>,
        name: String,
        arguments: Option<u8>,
        call: Py<PyAny>,
        is_deterministic: bool,
    ) -> PyResult<()> {
        let function = FunctionDefinition { name, arguments, is_deterministic, call: callbacks::function(call) };
        run_engine(py, self.0.create_function(function))
    }

    fn create_collation(&self, py: Python<'_>, name: String, compare: Py<PyAny>) -> PyResult<()> {
        self.0.create_collation(name, callbacks::collation(compare)).map_err(|error| engine_exception(py, &error))
    }

    fn last_insert_rowid(&self, py: Python<'_>) -> PyResult<i64> {
        self.0.last_insert_rowid().map_err(|error| engine_exception(py, &error))
    }

    fn execute_many(&self, py: Python<'_>, sql: &str, rows: &Bound<'_, PyAny>) -> PyResult<u64> {
        let rows = arguments::rows(sql, rows)?;
        run_engine(py, self.0.execute_many(sql, rows))
    }

    fn query<'py>(
        &self,
        py: Python<'py>,
        sql: &str,
        params: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let params = arguments::arguments(sql, params)?;
        batches(py, &run_engine(py, self.0.query(sql, params))?)
    }

    fn query_olap<'py>(
        &self,
        py: Python<'py>,
        sql: &str,
        params: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let params = arguments::arguments(sql, params)?;
        batches(py, &run_engine(py, self.0.query_olap(sql, params))?)
    }

    fn export(&self, py: Python<'_>, table: &str, path: PathBuf) -> PyResult<()> {
        run_engine(py, self.0.export(table, &path))
    }

    /// `(side, reason)`.
    fn route(&self, py: Python<'_>, sql: &str) -> PyResult<(&'static str, String)> {
        let route = run_engine(py, self.0.route(sql))?;
        let side = match route.side {
            vexact::router::Side::Sqlite => "sqlite",
            vexact::router::Side::Olap => "olap",
        };
        Ok((side, route.reason.to_string()))
    }

    /// Returns the table's name, its columns `(name, type, is_certain, reason)` and its key. `vectors`: the dimension of BLOB
    /// columns, `None` for bytes.
    fn infer_schema(&self, py: Python<'_>, table: &str, vectors: Vec<(String, Option<usize>)>) -> PyResult<Inferred> {
        let blobs = vectors.into_iter().map(|(column, dim)| (column, dim.map_or(Blobs::Bytes, Blobs::Vectors)));
        let inferred = run_engine(py, self.0.infer_table(table, blobs.collect()))?;
        let columns = inferred
            .columns
            .into_iter()
            .map(|column| (column.name, column.column_type.to_string(), column.is_certain, column.reason));
        Ok((inferred.name, columns.collect(), inferred.key))
    }

    /// Returns the number of rows that the table has and the replica lacks.
    fn register_table(
        &self,
        py: Python<'_>,
        name: &str,
        columns: Vec<(String, String)>,
        key: Vec<String>,
        initial_sync: bool,
    ) -> PyResult<u64> {
        let schema =
            TableSchema::try_new(name, &columns, &key).map_err(|error| crate::errors::exception(py, &error))?;
        Ok(run_engine(py, self.0.register_table(schema, initial_sync))?.unloaded_rows)
    }

    fn unregister_table(&self, py: Python<'_>, table: &str) -> PyResult<()> {
        run_engine(py, self.0.unregister_table(table))
    }

    fn sync_now(&self, py: Python<'_>) -> PyResult<Synced> {
        run_engine(py, self.0.sync_now()).map(synced)
    }

    fn sync_all(&self, py: Python<'_>) -> PyResult<Synced> {
        run_engine(py, self.0.sync_all()).map(synced)
    }

    /// `(lag, last_synced_seq, last_error, [(name, rows, lag, state, last_error, warning)], log_rows, [(id, applied_seq, lag, folder, is_running)])`.
    #[allow(clippy::type_complexity)]
    fn sync_status(
        &self,
        py: Python<'_>,
    ) -> PyResult<(
        u64,
        Option<i64>,
        Option<String>,
        Vec<(String, u64, u64, String, Option<String>, Option<String>)>,
        u64,
        Vec<(String, i64, u64, Option<String>, bool)>,
    )> {
        let SyncStatus { lag, last_synced_seq, last_error, tables, log_rows, positions } =
            run_engine(py, self.0.sync_status())?;
        let tables = tables
            .into_iter()
            .map(|table| {
                let (error, warning) = (table.last_error().map(str::to_owned), table.warning());
                (table.name, table.rows, table.lag, table.state.to_string(), error, warning)
            })
            .collect();
        let positions = positions
            .into_iter()
            .map(|position| (position.id, position.applied_seq, position.lag, position.folder, position.is_running))
            .collect();
        Ok((lag, last_synced_seq, last_error, tables, log_rows, positions))
    }

    /// Returns the warning from opening the file.
    fn warning(&self) -> Option<String> {
        self.0.warning().map(str::to_owned)
    }

    fn drop_position(&self, py: Python<'_>, id: &str) -> PyResult<u64> {
        run_engine(py, self.0.drop_position(id))
    }

    fn initial_sync(&self, py: Python<'_>, table: &str) -> PyResult<u64> {
        run_engine(py, self.0.initial_sync(table))
    }

    fn add_column(&self, py: Python<'_>, table: &str, column: &str, data_type: &str) -> PyResult<()> {
        let column_type = ColumnType::parse(data_type).map_err(|error| crate::errors::exception(py, &error))?;
        run_engine(py, self.0.add_column(table, column, column_type))
    }

    fn drop_column(&self, py: Python<'_>, table: &str, column: &str) -> PyResult<()> {
        run_engine(py, self.0.drop_column(table, column))
    }

    fn vector_search<'py>(
        &self,
        py: Python<'py>,
        arguments: SearchArguments<'_>,
        fresh: bool,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let search = one(py, arguments)?;
        batches(py, &run_engine(py, self.0.vector_search(&search, fresh))?)
    }

    fn explain_vector_search(&self, py: Python<'_>, arguments: SearchArguments<'_>, fresh: bool) -> PyResult<Sections> {
        let search = one(py, arguments)?;
        run_engine(py, self.0.explain_vector_search(&search, fresh)).map(sections)
    }

    fn hybrid_search<'py>(
        &self,
        py: Python<'py>,
        arguments: SearchArguments<'_>,
        text: FusionArguments,
        fresh: bool,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let search = text.search(py, one(py, arguments)?)?;
        batches(py, &run_engine(py, self.0.hybrid_search(&search, fresh))?)
    }

    fn text_search<'py>(
        &self,
        py: Python<'py>,
        arguments: TextArguments<'_>,
        fresh: bool,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let search = arguments.of_engine(py, unusable)?;
        batches(py, &run_engine(py, self.0.text_search(&search, fresh))?)
    }

    fn register_text(&self, py: Python<'_>, table: &str, columns: Vec<String>, tokenizer: &str) -> PyResult<()> {
        let tokenizer = tokenizer.parse().map_err(|error: vexact::Error| crate::errors::exception(py, &error))?;
        run_engine(py, self.0.register_text(table, &columns, tokenizer))
    }

    fn unregister_text(&self, py: Python<'_>, table: &str, columns: Vec<String>) -> PyResult<()> {
        run_engine(py, self.0.unregister_text(table, &columns))
    }

    /// `[(table, column, tokenizer)]`.
    fn text_columns(&self) -> Vec<(String, String, &'static str)> {
        let columns = self.0.text_columns().into_iter();
        columns.map(|column| (column.table, column.column, column.tokenizer.name())).collect()
    }

    fn start_sync(&self, interval_seconds: f64) -> PyResult<()> {
        let _runtime = enter()?;
        self.0.start_sync(Duration::from_secs_f64(interval_seconds));
        Ok(())
    }

    fn stop_sync(&self) {
        self.0.stop_sync();
    }

    fn session(&self) -> Session {
        Session(self.0.session().clone().into())
    }

    fn shutdown(&self, py: Python<'_>) -> PyResult<()> {
        run_engine(py, async {
            self.0.shutdown().await;
            Ok(())
        })
    }
}

impl HtapEngine {
    /// Returns the engine, for objects that outlive the call.
    pub fn shared(&self) -> Arc<Engine> {
        Arc::clone(&self.0)
    }
}

fn unusable(py: Python<'_>, problem: String) -> PyErr {
    engine_exception(py, &vexact::Error::InvalidArgument(problem))
}

/// Converts the arguments of a search for a single query.
fn one(py: Python<'_>, mut given: SearchArguments<'_>) -> PyResult<VectorSearch> {
    let params = given.take_params();
    let search = given.search(py, "query", unusable)?;
    if let QueryVectors::Many(_) = search.query {
        return Err(unusable(py, "query: expected one query vector, got a query batch".to_owned()));
    }
    let Some(params) = params else { return Ok(search) };
    let params = arguments::arguments(search.filter.as_deref().unwrap_or_default(), Some(&params))?;
    bind_filter(search, params).map_err(|error| engine_exception(py, &error))
}
