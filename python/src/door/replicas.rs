//! The replicas of an engine as tables of a host: the newest version of one, or all at one version.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow_pyarrow::ToPyArrow;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, Session, TableProvider};
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::datasource::TableType;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use datafusion_ffi::catalog_provider::FFI_CatalogProvider;
use datafusion_ffi::schema_provider::FFI_SchemaProvider;
use datafusion_ffi::table_provider::FFI_TableProvider;
use futures::FutureExt;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use vexact::htap::HtapEngine as Engine;

use super::capsule::codec;
use crate::engine::HtapEngine;
use crate::errors::engine_exception;
use crate::runtime::{run_long, runtime};

/// The name of the schema of a snapshot, as a session's own.
const SCHEMA: &str = "public";

/// The session of an engine that reads replicas, at one version or at the newest.
#[derive(Clone)]
struct Replicas {
    engine: Arc<Engine>,
    /// The state of a session that sees one version; `None` for the newest at each scan.
    at: Option<Arc<SessionState>>,
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.at.is_some() { "one version" } else { "the newest version" })
    }
}

impl Replicas {
    fn state(&self) -> Arc<SessionState> {
        self.at.clone().unwrap_or_else(|| Arc::new(self.engine.session().state()))
    }

    /// Finds a table of the engine. A replica that lacks rows of its table is refused.
    fn find(&self, name: &str) -> Result<Option<ReplicaTable>> {
        let state = self.state();
        let names = &state.config_options().catalog;
        let catalog = state.catalog_list().catalog(&names.default_catalog);
        let Some(schema) = catalog.and_then(|catalog| catalog.schema(&names.default_schema)) else { return Ok(None) };
        let Some(table) = schema.table(name).now_or_never().transpose()?.flatten() else { return Ok(None) };
        self.engine.check_loaded(name).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(Some(ReplicaTable { table, replicas: self.clone() }))
    }
}

/// A replica as a table of a host.
#[derive(Debug)]
struct ReplicaTable {
    table: Arc<dyn TableProvider>,
    replicas: Replicas,
}

#[async_trait]
impl TableProvider for ReplicaTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        self.table.table_type()
    }

    fn statistics(&self) -> Option<Statistics> {
        self.table.statistics()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.table.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // The version is in the engine's session, which a host's session does not have.
        self.table.scan(self.replicas.state().as_ref(), projection, filters, limit).await
    }
}

/// All replicas at one version: a schema, and a catalog of this schema.
#[derive(Debug, Clone)]
struct SnapshotSchema(Replicas);

#[async_trait]
impl SchemaProvider for SnapshotSchema {
    fn table_names(&self) -> Vec<String> {
        self.0.engine.session().tables()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.0.find(name)?.map(|table| Arc::new(table) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

impl CatalogProvider for SnapshotSchema {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.into()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == SCHEMA).then(|| Arc::new(self.clone()) as Arc<dyn SchemaProvider>)
    }
}

/// One replica, for a host and for Arrow.
#[pyclass(frozen, module = "vexact._native")]
pub struct ReplicaProvider(Arc<ReplicaTable>);

#[pymethods]
impl ReplicaProvider {
    fn schema<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.schema().to_pyarrow(py)
    }

    /// Returns the rows as batches.
    fn batches<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let table = Arc::clone(&self.0);
        let read = async move {
            let context = SessionContext::new_with_state(table.replicas.state().as_ref().clone());
            Ok(context.read_table(table)?.collect().await?)
        };
        run_long(py, read)?.iter().map(|batch| batch.to_pyarrow(py)).collect()
    }

    fn __datafusion_table_provider__<'py>(
        &self,
        py: Python<'py>,
        session: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let runtime = Some(runtime()?.handle().clone());
        let table: Arc<dyn TableProvider> = Arc::clone(&self.0) as _;
        let table = FFI_TableProvider::new_with_ffi_codec(table, true, runtime, codec(session)?);
        PyCapsule::new_with_value(py, table, c"datafusion_table_provider")
    }
}

/// All replicas of an engine at one version.
#[pyclass(frozen, module = "vexact._native")]
pub struct ReplicaCatalog(SnapshotSchema);

#[pymethods]
impl ReplicaCatalog {
    fn names(&self) -> Vec<String> {
        self.0.table_names()
    }

    fn table(&self, py: Python<'_>, name: &str) -> PyResult<ReplicaProvider> {
        found(py, &self.0.0, name)
    }

    fn __datafusion_catalog_provider__<'py>(
        &self,
        py: Python<'py>,
        session: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let runtime = Some(runtime()?.handle().clone());
        let catalog = FFI_CatalogProvider::new_with_ffi_codec(Arc::new(self.0.clone()), runtime, codec(session)?);
        PyCapsule::new_with_value(py, catalog, c"datafusion_catalog_provider")
    }

    fn __datafusion_schema_provider__<'py>(
        &self,
        py: Python<'py>,
        session: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let runtime = Some(runtime()?.handle().clone());
        let schema = FFI_SchemaProvider::new_with_ffi_codec(Arc::new(self.0.clone()), runtime, codec(session)?);
        PyCapsule::new_with_value(py, schema, c"datafusion_schema_provider")
    }
}

fn found(py: Python<'_>, replicas: &Replicas, name: &str) -> PyResult<ReplicaProvider> {
    let missing = || {
        let names = replicas.engine.session().tables().join(", ");
        vexact::Error::InvalidArgument(format!("table {name:?} not found: expected one of [{names}]"))
    };
    let table = replicas.find(name).map_err(|error| engine_exception(py, &error.into()))?;
    let table = table.ok_or_else(|| engine_exception(py, &missing()))?;
    Ok(ReplicaProvider(Arc::new(table)))
}

/// Returns a replica whose newest version each scan reads.
#[pyfunction]
pub fn replica_table(py: Python<'_>, engine: &HtapEngine, name: &str) -> PyResult<ReplicaProvider> {
    found(py, &Replicas { engine: engine.shared(), at: None }, name)
}

/// Returns all replicas at the newest version.
#[pyfunction]
pub fn replica_snapshot(engine: &HtapEngine) -> ReplicaCatalog {
    let engine = engine.shared();
    let at = Some(Arc::new(engine.session().state()));
    ReplicaCatalog(SnapshotSchema(Replicas { engine, at }))
}
