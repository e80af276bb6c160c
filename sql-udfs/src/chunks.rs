//! Tables of Arrow batches in memory. A vector search reads their vectors in place and fetches the
//! other columns only for the rows of the result.

mod bounds;
mod memory_rows;
mod prune;
mod pruning;
mod pushdown;
mod range;
mod scan;
mod statistics;

use std::sync::{Arc, OnceLock};

use arrow::array::{BooleanBufferBuilder, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{ColumnStatistics, Result, internal_err};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::projection::ProjectionExec;

pub use bounds::Bounds;
pub use memory_rows::MemoryRows;
pub(crate) use prune::Pruner;
pub(crate) use range::Range;
pub use scan::ChunkScanExec;

use bounds::ColumnBounds;

use crate::sketches::{BatchSketches, Sketches, TableSketches};

/// Default number of rows in the batches of a scan, if no session sets it.
pub const BATCH_ROWS: usize = 8192;

/// Arrow batches in a fixed order, some of whose rows may be deleted. A row's position counts the
/// rows of the batches before its own, deleted ones included; searches break ties by it, or by the
/// columns of the tie order.
#[derive(Debug, Default)]
pub struct Chunks {
    batches: Vec<RecordBatch>,
    live: Vec<Option<BooleanBuffer>>,
    bounds: Vec<Arc<Bounds>>,
    pub(crate) sketches: Sketches,
    /// Cached statistics of each column over all live rows; empty until the first use.
    statistics: Vec<OnceLock<ColumnStatistics>>,
    tie_order: Vec<usize>,
}

impl Chunks {
    /// Batches of one schema, all of whose rows are live.
    pub fn new(batches: Vec<RecordBatch>) -> Self {
        let bounds = batches.iter().map(|batch| Arc::new(Bounds::new(batch.num_columns()))).collect();
        Self::of_parts(batches, None, bounds)
    }

    /// Makes chunks from batches of one schema, each with a bitmap of its live rows (`None` if all
    /// are live), its own bounds and its own sketches, which other chunks may share.
    ///
    /// # Errors
    /// A bitmap of another length than its batch.
    pub fn with_live(
        chunks: impl IntoIterator<Item = (RecordBatch, Option<BooleanBuffer>, Arc<Bounds>, Arc<BatchSketches>)>,
    ) -> Result<Self> {
        let (mut batches, mut live, mut bounds, mut sketches) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (batch, rows, known, sketched) in chunks {
            if let Some(rows) = rows.as_ref().filter(|rows| rows.len() != batch.num_rows()) {
                return internal_err!("a bitmap of {} rows for a batch of {}", rows.len(), batch.num_rows());
            }
            batches.push(batch);
            live.push(rows);
            bounds.push(known);
            sketches.push(sketched);
        }
        let chunks = Self::of_parts(batches, Some(live), bounds);
        Ok(Self { sketches: Sketches { batches: sketches, table: Arc::default() }, ..chunks })
    }

    fn of_parts(batches: Vec<RecordBatch>, live: Option<Vec<Option<BooleanBuffer>>>, bounds: Vec<Arc<Bounds>>) -> Self {
        let columns = batches.first().map_or(0, RecordBatch::num_columns);
        Self {
            live: live.unwrap_or_else(|| vec![None; batches.len()]),
            sketches: Sketches::empty(batches.len()),
            statistics: std::iter::repeat_with(OnceLock::new).take(columns).collect(),
            batches,
            bounds,
            tie_order: Vec::new(),
        }
    }

    /// Returns the chunks with a tie order: of rows of equal distance, those with the least values
    /// of these columns come first, the first column being the most significant.
    #[must_use]
    pub fn with_ties_by(mut self, columns: Vec<usize>) -> Self {
        self.tie_order = columns;
        self
    }

    /// Returns the chunks with the sketches of their table, which other versions of it share.
    #[must_use]
    pub fn with_table_sketches(mut self, table: Arc<TableSketches>) -> Self {
        self.sketches.table = table;
        self
    }

    /// Returns the columns that order rows of equal distance; if there are none, the position
    /// orders them.
    pub(crate) fn tie_order(&self) -> &[usize] {
        &self.tie_order
    }

    /// The greatest absolute value of a column of numbers; 0 for another column.
    pub fn greatest_magnitude(&self, column: usize) -> f64 {
        let batches = self.batches.iter().zip(&self.bounds);
        batches.map(|(batch, bounds)| bounds.greatest_magnitude(batch, column)).fold(0.0, f64::max)
    }

    /// Returns true if a text of the column may contain a NUL.
    pub fn may_have_nul(&self, column: usize) -> bool {
        self.batches.iter().zip(&self.bounds).any(|(batch, bounds)| bounds.may_have_nul(batch, column))
    }

    fn bounds(&self, batch: usize, column: usize) -> &ColumnBounds {
        self.bounds[batch].column(&self.batches[batch], column)
    }

    /// The batches, in order.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// Returns the live rows of a range of a batch; returns `None` if the batch has no deleted
    /// rows.
    pub fn live(&self, batch: usize, offset: usize, len: usize) -> Option<BooleanBuffer> {
        self.live[batch].as_ref().map(|live| live.slice(offset, len))
    }

    /// Position of the first row of each batch.
    pub(crate) fn starts(&self) -> Vec<usize> {
        let next = |start: &mut usize, batch: &RecordBatch| {
            *start += batch.num_rows();
            Some(*start - batch.num_rows())
        };
        self.batches.iter().scan(0, next).collect()
    }

    /// Live rows.
    pub(crate) fn live_rows(&self) -> usize {
        let rows = |(batch, live): (&RecordBatch, &Option<BooleanBuffer>)| {
            live.as_ref().map_or(batch.num_rows(), BooleanBuffer::count_set_bits)
        };
        self.batches.iter().zip(&self.live).map(rows).sum()
    }

    /// Returns the live rows over all positions; returns `None` if all rows are live.
    pub(crate) fn selection(&self) -> Option<BooleanBuffer> {
        self.live.iter().any(Option::is_some).then(|| {
            let mut all = BooleanBufferBuilder::new(self.batches.iter().map(RecordBatch::num_rows).sum());
            for (batch, live) in self.batches.iter().zip(&self.live) {
                match live {
                    Some(live) => all.append_buffer(live),
                    None => all.append_n(batch.num_rows(), true),
                }
            }
            all.finish()
        })
    }
}

/// A read-only table of [`Chunks`].
#[derive(Debug)]
pub struct ChunkTable {
    schema: SchemaRef,
    chunks: Arc<Chunks>,
}

impl ChunkTable {
    /// A table of these batches. Nothing is copied.
    ///
    /// # Errors
    /// A batch of another schema.
    pub fn try_new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Self> {
        if let Some(batch) = batches.iter().find(|batch| batch.schema().fields() != schema.fields()) {
            return datafusion::common::plan_err!(
                "a batch does not match its table: expected {}, got {}",
                schema,
                batch.schema()
            );
        }
        Ok(Self { schema, chunks: Arc::new(Chunks::new(batches)) })
    }

    /// A table of other batches of the same schema, which keeps what is known of the batches that
    /// both have at the same ordinal.
    ///
    /// # Errors
    /// As [`Self::try_new`].
    pub fn with_batches(&self, batches: Vec<RecordBatch>) -> Result<Self> {
        let table = Self::try_new(Arc::clone(&self.schema), batches)?;
        let mut chunks = Arc::into_inner(table.chunks).unwrap_or_default();
        chunks.sketches.table = Arc::clone(&self.chunks.sketches.table);
        let same = |old: &RecordBatch, new: &RecordBatch| {
            old.num_rows() == new.num_rows()
                && old.columns().iter().zip(new.columns()).all(|(old, new)| Arc::ptr_eq(old, new))
        };
        for (ordinal, old) in self.batches().iter().enumerate() {
            if chunks.batches.get(ordinal).is_some_and(|new| same(old, new)) {
                chunks.bounds[ordinal] = Arc::clone(&self.chunks.bounds[ordinal]);
                chunks.sketches.batches[ordinal] = Arc::clone(&self.chunks.sketches.batches[ordinal]);
            }
        }
        Ok(Self { schema: table.schema, chunks: Arc::new(chunks) })
    }

    /// The chunks.
    pub fn chunks(&self) -> &Arc<Chunks> {
        &self.chunks
    }

    /// A scan of some columns, in one partition.
    ///
    /// # Errors
    /// A column that does not exist.
    pub fn scan_columns(&self, columns: Vec<usize>) -> Result<ChunkScanExec> {
        ChunkScanExec::try_new(&self.schema, Arc::clone(&self.chunks), columns, BATCH_ROWS)
    }

    /// The batches, in order.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.chunks.batches
    }
}

#[async_trait]
impl TableProvider for ChunkTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let batch_rows = state.config().batch_size();
        Ok(Arc::new(ChunkScanExec::try_new(&self.schema, Arc::clone(&self.chunks), columns, batch_rows)?))
    }
}

/// The chunks behind a scan, and for each column of the scan its ordinal in them.
pub(crate) struct InPlace {
    pub chunks: Arc<Chunks>,
    pub columns: Vec<usize>,
}

/// Returns the chunks behind a plan if the plan scans a [`ChunkTable`] or DataFusion's `MemTable`,
/// with no operator above the scan but projections of plain columns. Otherwise returns `None`.
pub(crate) fn in_place(plan: &Arc<dyn ExecutionPlan>) -> Option<InPlace> {
    let plan: &dyn ExecutionPlan = plan.as_ref();
    if let Some(cooperative) = plan.downcast_ref::<CooperativeExec>() {
        return in_place(cooperative.input());
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let scan = in_place(projection.input())?;
        let column = |projected: &ProjectionExpr| Some(scan.columns[projected.expr.downcast_ref::<Column>()?.index()]);
        let columns = projection.expr().iter().map(column).collect::<Option<_>>()?;
        return Some(InPlace { columns, ..scan });
    }
    if let Some(scan) = plan.downcast_ref::<ChunkScanExec>() {
        return Some(InPlace { chunks: Arc::clone(&scan.chunks), columns: scan.columns.clone() });
    }
    let source = plan.downcast_ref::<DataSourceExec>()?;
    let memory = source.data_source().downcast_ref::<MemorySourceConfig>()?;
    if plan.fetch().is_some() {
        return None;
    }
    let all = || (0..memory.original_schema().fields().len()).collect();
    Some(InPlace {
        chunks: Arc::new(Chunks::new(memory.partitions().iter().flatten().cloned().collect())),
        columns: memory.projection().clone().unwrap_or_else(all),
    })
}
