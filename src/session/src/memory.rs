//! In-memory tables that INSERT appends to. A query sees all rows of a statement or none.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::datasource::sink::DataSink;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use futures::TryStreamExt;
use parking_lot::RwLock;
use vexact_core::rows::conform;
use vexact_sources::scan::insert;
use vexact_sql::chunks::{BATCH_ROWS, ChunkTable};

/// Rows that statements have inserted.
#[derive(Debug)]
pub(super) struct MemoryTable {
    rows: Arc<Rows>,
    defaults: HashMap<String, Expr>,
}

#[derive(Debug)]
struct Rows {
    schema: SchemaRef,
    current: RwLock<Arc<ChunkTable>>,
}

impl MemoryTable {
    /// Creates a table of these batches, with the default values of columns that an INSERT does not
    /// name.
    ///
    /// # Errors
    /// A batch of another schema.
    pub fn try_new(schema: SchemaRef, batches: Vec<RecordBatch>, defaults: HashMap<String, Expr>) -> Result<Self> {
        let current = RwLock::new(Arc::new(ChunkTable::try_new(Arc::clone(&schema), batches)?));
        Ok(Self { rows: Arc::new(Rows { schema, current }), defaults })
    }

    /// Returns the current rows.
    pub fn current(&self) -> Arc<ChunkTable> {
        Arc::clone(&self.rows.current.read())
    }
}

#[async_trait]
impl TableProvider for MemoryTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.rows.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.defaults.get(column)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.current().scan(state, projection, filters, limit).await
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        operation: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        insert(input, operation, Ok(Arc::clone(&self.rows) as _))
    }
}

impl DisplayAs for Rows {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryTable")
    }
}

#[async_trait]
impl DataSink for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(&self, rows: SendableRecordBatchStream, _: &Arc<TaskContext>) -> Result<u64> {
        let added: Vec<RecordBatch> = rows.try_collect().await?;
        let count = added.iter().map(|batch| batch.num_rows() as u64).sum();
        let mut current = self.current.write();
        let mut batches = current.batches().to_vec();
        for batch in added.into_iter().filter(|batch| batch.num_rows() > 0) {
            // The plan has checked that columns that are NOT NULL have no NULL, whatever it tells.
            let batch = conform(batch, &self.schema)?;
            // Rows of small statements are merged into one batch.
            match batches.last_mut().filter(|last| last.num_rows() + batch.num_rows() <= BATCH_ROWS) {
                Some(last) => *last = concat_batches(&self.schema, [&*last, &batch])?,
                None => batches.push(batch),
            }
        }
        *current = Arc::new(current.with_batches(batches)?);
        Ok(count)
    }
}
