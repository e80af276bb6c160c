//! Tables held as Arrow batches, whose scan can hand them over whole: a vector search reads the vectors in place and
//! fetches other columns only for the rows that won.

mod bounds;
mod prune;
mod pushdown;
mod statistics;

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::{BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Result, Statistics, internal_err};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SortOrderPushdownResult,
    apply_expression_roots,
};
use futures::{StreamExt, stream};

pub use bounds::Bounds;
pub(crate) use prune::Pruner;

use bounds::ColumnBounds;
use pushdown::Pruning;

/// Rows of the batches that a scan gives where no session says otherwise.
pub const BATCH_ROWS: usize = 8192;

/// Arrow batches in a fixed order, some of whose rows may be dead. A row's position counts the rows of the batches before its
/// own, dead ones included; searches break ties by it.
#[derive(Debug, Default)]
pub struct Chunks {
    batches: Vec<RecordBatch>,
    live: Vec<Option<BooleanBuffer>>,
    bounds: Vec<Arc<Bounds>>,
    /// Of all live rows, by column, where they were asked for.
    statistics: Vec<OnceLock<ColumnStatistics>>,
}

impl Chunks {
    /// Batches of one schema, all of whose rows are live.
    pub fn new(batches: Vec<RecordBatch>) -> Self {
        let bounds = batches.iter().map(|batch| Arc::new(Bounds::new(batch.num_columns()))).collect();
        Self::of_parts(batches, None, bounds)
    }

    /// Batches of one schema, each with its live rows (`None`: all) and its own bounds, which other chunks may share.
    ///
    /// # Errors
    /// A bitmap of another length than its batch.
    pub fn with_live(
        chunks: impl IntoIterator<Item = (RecordBatch, Option<BooleanBuffer>, Arc<Bounds>)>,
    ) -> Result<Self> {
        let (mut batches, mut live, mut bounds) = (Vec::new(), Vec::new(), Vec::new());
        for (batch, rows, known) in chunks {
            if let Some(rows) = rows.as_ref().filter(|rows| rows.len() != batch.num_rows()) {
                return internal_err!("a bitmap of {} rows for a batch of {}", rows.len(), batch.num_rows());
            }
            batches.push(batch);
            live.push(rows);
            bounds.push(known);
        }
        Ok(Self::of_parts(batches, Some(live), bounds))
    }

    fn of_parts(batches: Vec<RecordBatch>, live: Option<Vec<Option<BooleanBuffer>>>, bounds: Vec<Arc<Bounds>>) -> Self {
        let columns = batches.first().map_or(0, RecordBatch::num_columns);
        Self {
            live: live.unwrap_or_else(|| vec![None; batches.len()]),
            statistics: std::iter::repeat_with(OnceLock::new).take(columns).collect(),
            batches,
            bounds,
        }
    }

    fn bounds(&self, batch: usize, column: usize) -> &ColumnBounds {
        self.bounds[batch].column(&self.batches[batch], column)
    }

    /// The batches, in order.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// Live rows of a batch's range; `None`: all.
    pub fn live(&self, batch: usize, offset: usize, len: usize) -> Option<BooleanBuffer> {
        self.live[batch].as_ref().map(|live| live.slice(offset, len))
    }

    /// Live rows.
    pub(crate) fn live_rows(&self) -> usize {
        let rows = |(batch, live): (&RecordBatch, &Option<BooleanBuffer>)| {
            live.as_ref().map_or(batch.num_rows(), BooleanBuffer::count_set_bits)
        };
        self.batches.iter().zip(&self.live).map(rows).sum()
    }

    /// The live rows over all positions; `None`: all.
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

    /// A scan of some columns, in one partition.
    ///
    /// # Errors
    /// A column that is not there.
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

/// Some rows of one batch.
#[derive(Debug, Clone, Copy)]
struct Piece {
    batch: usize,
    offset: usize,
    len: usize,
}

/// Scans the live rows of [`Chunks`] in order; several partitions are consecutive ranges of it. Chunks that the filters above
/// it rule out by their bounds are left out; a sort above it has the chunks first that matter most to it.
#[derive(Debug, Clone)]
pub struct ChunkScanExec {
    chunks: Arc<Chunks>,
    columns: Vec<usize>,
    batch_rows: usize,
    partitions: Vec<Vec<Piece>>,
    properties: Arc<PlanProperties>,
    pruning: Pruning,
    metrics: ExecutionPlanMetricsSet,
}

impl ChunkScanExec {
    /// A scan of some columns of `schema`, that of the chunks, in one partition and in batches of at most `batch_rows`.
    ///
    /// # Errors
    /// A column that is not there.
    pub fn try_new(schema: &Schema, chunks: Arc<Chunks>, columns: Vec<usize>, batch_rows: usize) -> Result<Self> {
        let schema = Arc::new(schema.project(&columns)?);
        let scan = Self {
            chunks,
            columns,
            batch_rows,
            partitions: Vec::new(),
            properties: Arc::new(PlanProperties::new(
                EquivalenceProperties::new(schema),
                Partitioning::UnknownPartitioning(1),
                EmissionType::Incremental,
                Boundedness::Bounded,
            )),
            pruning: Pruning::default(),
            metrics: ExecutionPlanMetricsSet::new(),
        };
        Ok(scan.with_partitions(1))
    }

    fn pruner(&self) -> Pruner {
        Pruner { chunks: Arc::clone(&self.chunks), columns: self.columns.clone(), schema: self.schema() }
    }

    fn with_partitions(&self, count: usize) -> Self {
        let mut pieces = Vec::new();
        let kept = (0..self.chunks.batches.len()).filter(|chunk| self.pruning.keeps(*chunk));
        for (batch, rows) in kept.map(|chunk| (chunk, self.chunks.batches[chunk].num_rows())) {
            let offsets = (0..rows).step_by(self.batch_rows.max(1));
            pieces.extend(offsets.map(|offset| Piece { batch, offset, len: self.batch_rows.min(rows - offset) }));
        }
        let count = count.clamp(1, pieces.len().max(1));
        let each = pieces.len().div_ceil(count).max(1);
        let mut partitions: Vec<Vec<Piece>> = pieces.chunks(each).map(<[Piece]>::to_vec).collect();
        partitions.resize(partitions.len().max(1), Vec::new());
        let mut properties = PlanProperties::clone(&self.properties);
        properties.partitioning = Partitioning::UnknownPartitioning(partitions.len());
        Self { partitions, properties: Arc::new(properties), ..self.clone() }
    }

    fn rows(&self, partition: Option<usize>) -> usize {
        let partitions = self.partitions.iter().enumerate();
        let chosen = partitions.filter(|(ordinal, _)| partition.is_none_or(|partition| partition == *ordinal));
        let live = |piece: &Piece| {
            let live = self.chunks.live(piece.batch, piece.offset, piece.len);
            live.map_or(piece.len, |live| live.count_set_bits())
        };
        chosen.flat_map(|(_, pieces)| pieces).map(live).sum()
    }
}

impl DisplayAs for ChunkScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let schema = self.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(
            f,
            "ChunkScanExec: columns=[{}], chunks={}, rows={}, partitions={}",
            names.join(", "),
            self.chunks.batches.len(),
            self.rows(None),
            self.partitions.len()
        )?;
        write!(f, "{}", self.pruning)
    }
}

impl ExecutionPlan for ChunkScanExec {
    fn name(&self) -> &str {
        "ChunkScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(&self.pruning.later, f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !children.is_empty() {
            return internal_err!("ChunkScanExec has no children, got {}", children.len());
        }
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn repartitioned(&self, target: usize, _: &ConfigOptions) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let scan = self.with_partitions(target);
        Ok((scan.partitions.len() > self.partitions.len()).then(|| Arc::new(scan) as _))
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (chunks, columns) = (Arc::clone(&self.chunks), self.columns.clone());
        let pieces = self.partitions[partition].clone();
        let mut known = self.pruning.begin(self, partition);
        let next = move |piece: Piece| {
            let batch = chunks.batches[piece.batch].slice(piece.offset, piece.len).project(&columns)?;
            Ok(match chunks.live(piece.batch, piece.offset, piece.len) {
                Some(live) => filter_record_batch(&batch, &BooleanArray::new(live, None))?,
                None => batch,
            })
        };
        // A scan is always ready, so that a thread would run a query over it to the end while others wait for the thread.
        let stream = stream::iter(pieces).filter_map(move |piece| {
            let batch = (!known.rules_out(piece)).then(|| next(piece));
            async move {
                if batch.is_some() {
                    tokio::task::yield_now().await;
                }
                batch
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::new(self.statistics(args.partition())))
    }

    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        filters: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let filters: Vec<_> = filters.parent_filters.into_iter().map(|filter| filter.filter).collect();
        // A filter stays where it is: some rows of a chunk that is kept may fail it.
        let propagation = FilterPushdownPropagation::with_parent_pushdown_result(vec![PushedDown::No; filters.len()]);
        Ok(match self.with_filters(phase, filters) {
            Some(scan) => propagation.with_updated_node(Arc::new(scan)),
            None => propagation,
        })
    }

    fn try_pushdown_sort(&self, order: &[PhysicalSortExpr]) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        Ok(match self.with_order(order) {
            Some(scan) => SortOrderPushdownResult::Inexact { inner: Arc::new(scan) },
            None => SortOrderPushdownResult::Unsupported,
        })
    }
}

/// The chunks behind a scan, and for each column of the scan its ordinal in them.
pub(crate) struct InPlace {
    pub chunks: Arc<Chunks>,
    pub columns: Vec<usize>,
}

/// What a scan can hand over whole: that of a [`ChunkTable`] or of DataFusion's `MemTable`.
pub(crate) fn in_place(plan: &Arc<dyn ExecutionPlan>) -> Option<InPlace> {
    let plan: &dyn ExecutionPlan = plan.as_ref();
    if let Some(cooperative) = plan.downcast_ref::<CooperativeExec>() {
        return in_place(cooperative.input());
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
