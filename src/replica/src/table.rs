//! A replica as a table of SQL.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use vexact_core::error::Error;
use vexact_sql::chunks::{BATCH_ROWS, ChunkScanExec, Chunks};

use super::snapshot::{Replicas, Snapshot};
use super::version::{SyncMode, TableVersion};

/// Maximum number of keys that one scan looks up in the index; for more keys the rows are scanned.
const LOOKED_UP_KEYS: usize = 1024;

/// A table of [`Replicas`]. A query reads the version in the [`Snapshot`] that its session's
/// configuration holds as an extension; without one, the newest.
#[derive(Debug, Clone)]
pub struct ReplicaTable {
    replicas: Arc<Replicas>,
    name: String,
    schema: SchemaRef,
}

impl ReplicaTable {
    /// The table of this name, as it is now.
    pub fn find(replicas: &Arc<Replicas>, name: &str) -> Option<Self> {
        let snapshot = replicas.snapshot();
        let state = snapshot.table(name)?;
        Some(Self {
            replicas: Arc::clone(replicas),
            name: state.version.definition().name.clone(),
            schema: Arc::clone(state.version.schema()),
        })
    }

    /// Its name, as it is registered.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A scan of some columns of the newest rows, in one partition.
    ///
    /// # Errors
    /// A table whose replication failed; a column that does not exist.
    pub fn scan_columns(&self, columns: Vec<usize>) -> Result<ChunkScanExec> {
        let version = self.version(&self.replicas.snapshot())?;
        let chunks = version.chunks().map_err(external)?;
        ChunkScanExec::try_new(&self.schema, chunks, columns, BATCH_ROWS)
    }

    /// As [`Self::scan_columns`], of the rows that a query of a session with this configuration
    /// sees.
    ///
    /// # Errors
    /// As [`Self::scan_columns`].
    pub fn scan_columns_at(&self, config: &SessionConfig, columns: Vec<usize>) -> Result<ChunkScanExec> {
        ChunkScanExec::try_new(&self.schema, self.chunks(config)?, columns, BATCH_ROWS)
    }

    /// Returns true if a plan for one table is also valid for the other.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.replicas, &other.replicas) && self.name == other.name && self.schema == other.schema
    }

    /// All rows that a query of a session with this configuration sees.
    ///
    /// # Errors
    /// A table whose replication failed; a table whose columns changed.
    pub fn chunks(&self, config: &SessionConfig) -> Result<Arc<Chunks>> {
        self.seen(config)?.chunks().map_err(external)
    }

    /// The version that a query of a session with this configuration sees.
    fn seen(&self, config: &SessionConfig) -> Result<Arc<TableVersion>> {
        Ok(self.seen_at(config)?.1)
    }

    /// Returns the snapshot and the version that a query of a session with this configuration sees.
    ///
    /// # Errors
    /// As [`Self::chunks`].
    pub fn seen_at(&self, config: &SessionConfig) -> Result<(Arc<Snapshot>, Arc<TableVersion>)> {
        let snapshot = config.get_extension::<Snapshot>().unwrap_or_else(|| self.replicas.snapshot());
        let version = self.version(&snapshot)?;
        Ok((snapshot, version))
    }

    /// Returns the ordinals of the key's columns; none if the table is no longer replicated.
    pub fn key(&self) -> Vec<usize> {
        let snapshot = self.replicas.snapshot();
        snapshot.table(&self.name).map_or_else(Vec::new, |state| state.version.definition().key.clone())
    }

    fn version(&self, snapshot: &Snapshot) -> Result<Arc<TableVersion>> {
        let Some(state) = snapshot.table(&self.name) else {
            return refused(format!("table {:?} is no longer replicated", self.name));
        };
        if let Some(error) = &state.failed {
            return refused(format!("table {:?} does not follow its source and is not read: {error}", self.name));
        }
        if state.version.schema() != &self.schema {
            return refused(format!(
                "table {:?} changed its columns while the query was planned: run it again",
                self.name
            ));
        }
        Ok(Arc::clone(&state.version))
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// An error of the engine itself, reported unchanged, because no fallback can answer the query.
fn refused<T>(problem: String) -> Result<T> {
    Err(external(Error::Engine(problem)))
}

#[async_trait]
impl TableProvider for ReplicaTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let version = self.seen(session.config())?;
        let chunks = match looked_up(&version, filters)? {
            Some(keys) => {
                let rows = version.rows_of(&keys).map_err(external)?;
                Arc::new(Chunks::new(vec![rows]).with_ties_by(version.definition().tie_order()))
            }
            None => version.chunks().map_err(external)?,
        };
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        Ok(Arc::new(ChunkScanExec::try_new(&self.schema, chunks, columns, session.config().batch_size())?))
    }
}

/// Returns the keys that filters select, if they list them: `a = 1 AND b = 2`, or `a IN (1, 2)` for
/// a key of one column. A history has more than one row for a key.
fn looked_up(version: &TableVersion, filters: &[Expr]) -> Result<Option<RecordBatch>> {
    let definition = version.definition();
    if definition.mode == SyncMode::Temporal {
        return Ok(None);
    }
    let fields: Vec<&Field> = definition.key.iter().map(|column| definition.schema.field(*column)).collect();
    let mut columns = Vec::with_capacity(fields.len());
    for field in &fields {
        let Some(mut values) = filters.iter().find_map(|filter| values_of(filter, field)) else { return Ok(None) };
        values.retain(|value| !value.is_null());
        if fields.len() > 1 && values.len() != 1 || values.len() > LOOKED_UP_KEYS {
            return Ok(None);
        }
        let mut unique: Vec<ScalarValue> = Vec::with_capacity(values.len());
        for value in values {
            if !unique.contains(&value) {
                unique.push(value);
            }
        }
        if unique.is_empty() {
            return Ok(None);
        }
        columns.push(ScalarValue::iter_to_array(unique)?);
    }
    let fields: Vec<Field> = fields.into_iter().cloned().collect();
    Ok(Some(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?))
}

/// The values that a predicate allows a column, of the column's type.
fn values_of(filter: &Expr, field: &Field) -> Option<Vec<ScalarValue>> {
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name() == field.name());
    let literal = |expr: &Expr| match expr {
        Expr::Literal(value, _) if &value.data_type() == field.data_type() => Some(value.clone()),
        _ => None,
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_column(left) => {
            Some(vec![literal(right)?])
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_column(right) => {
            Some(vec![literal(left)?])
        }
        Expr::InList(list) if !list.negated && is_column(&list.expr) => list.list.iter().map(literal).collect(),
        _ => None,
    }
}
