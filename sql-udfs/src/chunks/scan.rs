//! The physical scan of chunks.

use std::fmt;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
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
use futures::{StreamExt, TryStreamExt, stream};
use vexact_cooperative::Scheduler;

use super::Chunks;
use super::prune::Pruner;
use super::pruning::{Piece, Pruning};
use super::range::{Range, RangeScan};

/// Maximum bytes of fixed-width values in one batch: a larger batch would not stay in a core's
/// cache, and would occupy a thread for long.
const BATCH_BYTES: usize = 1 << 20;

/// Scans the live rows of [`Chunks`] in order; several partitions are consecutive ranges of it.
/// Filters above it prune chunks by their bounds; a sort above it reorders the chunks so that its
/// first rows come early.
#[derive(Debug, Clone)]
pub struct ChunkScanExec {
    pub(super) chunks: Arc<Chunks>,
    pub(super) columns: Vec<usize>,
    pub(super) batch_rows: usize,
    pub(super) partitions: Vec<Vec<Piece>>,
    pub(super) properties: Arc<PlanProperties>,
    pub(super) pruning: Pruning,
    /// Leaves out the rows beyond the radius of a filter above.
    pub(super) range: Option<Arc<RangeScan>>,
    pub(super) metrics: ExecutionPlanMetricsSet,
}

impl ChunkScanExec {
    /// A scan of some columns of `schema`, that of the chunks, in one partition and in batches of
    /// at most `batch_rows`, fewer of vectors.
    ///
    /// # Errors
    /// A column that does not exist.
    pub fn try_new(schema: &Schema, chunks: Arc<Chunks>, columns: Vec<usize>, batch_rows: usize) -> Result<Self> {
        let schema = Arc::new(schema.project(&columns)?);
        let width: usize = schema.fields().iter().map(|field| fixed_width(field.data_type())).sum();
        let batch_rows = batch_rows.min(BATCH_BYTES / width.max(1)).max(1);
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
            range: None,
            metrics: ExecutionPlanMetricsSet::new(),
        };
        Ok(scan.with_partitions(1))
    }

    /// The chunks that are scanned.
    pub(crate) fn chunks(&self) -> &Arc<Chunks> {
        &self.chunks
    }

    /// Returns a scan of other chunks of the same schema, without any pruning yet.
    pub(crate) fn over(&self, chunks: Arc<Chunks>) -> Self {
        let (pruning, metrics) = (Pruning::default(), ExecutionPlanMetricsSet::new());
        let range = self.range.as_ref().map(|scan| Arc::new(RangeScan::new(scan.range.clone())));
        Self { chunks, pruning, range, metrics, ..self.clone() }.with_partitions(self.partitions.len())
    }

    /// Returns a scan that may leave out rows beyond a radius.
    pub(crate) fn within(&self, range: Range) -> Self {
        Self { range: Some(Arc::new(RangeScan::new(range))), ..self.clone() }
    }

    /// The range of a filter above, whose ordinal of the column is that in the chunks.
    pub(crate) fn range(&self) -> Option<&Range> {
        self.range.as_ref().map(|scan| &scan.range)
    }

    /// Returns true if the scan may omit live rows.
    pub(super) fn omits_rows(&self) -> bool {
        self.pruning.is_some() || self.range.is_some()
    }

    /// The ordinals of its columns in the chunks.
    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Returns the scan extended by the columns that order rows of equal distance, and their
    /// ordinals in it. Returns `None` if the position orders them.
    pub(crate) fn with_tie_columns(&self) -> Option<(Self, Vec<usize>)> {
        let order = self.chunks.tie_order();
        let all = self.chunks.batches.first()?.schema();
        if order.is_empty() {
            return None;
        }
        let mut columns = self.columns.clone();
        let mut fields = self.schema().fields().to_vec();
        let mut ordinals = Vec::with_capacity(order.len());
        for tie in order {
            let known = columns.iter().position(|column| column == tie);
            ordinals.push(known.unwrap_or(columns.len()));
            if known.is_none() {
                columns.push(*tie);
                fields.push(Arc::clone(&all.fields()[*tie]));
            }
        }
        let mut properties = PlanProperties::clone(&self.properties);
        properties.eq_properties = EquivalenceProperties::new(Arc::new(Schema::new(fields)));
        Some((Self { columns, properties: Arc::new(properties), ..self.clone() }, ordinals))
    }

    pub(super) fn pruner(&self) -> Pruner {
        Pruner { chunks: Arc::clone(&self.chunks), columns: self.columns.clone(), schema: self.schema() }
    }

    pub(super) fn with_partitions(&self, count: usize) -> Self {
        let mut pieces = Vec::new();
        let kept = (0..self.chunks.batches.len()).filter(|chunk| self.pruning.keeps(*chunk));
        for (batch, rows) in kept.map(|chunk| (chunk, self.chunks.batches[chunk].num_rows())) {
            let offsets = (0..rows).step_by(self.batch_rows);
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

    pub(super) fn rows(&self, partition: Option<usize>) -> usize {
        let partitions = self.partitions.iter().enumerate();
        let chosen = partitions.filter(|(ordinal, _)| partition.is_none_or(|partition| partition == *ordinal));
        let live = |piece: &Piece| {
            let live = self.chunks.live(piece.batch, piece.offset, piece.len);
            live.map_or(piece.len, |live| live.count_set_bits())
        };
        chosen.flat_map(|(_, pieces)| pieces).map(live).sum()
    }
}

/// Returns the size of a fixed-width value in bytes; returns 0 for other types.
fn fixed_width(data_type: &DataType) -> usize {
    match data_type {
        DataType::FixedSizeList(item, len) => *len as usize * fixed_width(item.data_type()),
        DataType::FixedSizeBinary(len) => *len as usize,
        other => other.primitive_width().unwrap_or(0),
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
        write!(f, "{}", self.pruning)?;
        match &self.range {
            Some(range) => write!(f, "{range}"),
            None => Ok(()),
        }
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

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (chunks, columns) = (Arc::clone(&self.chunks), self.columns.clone());
        let pieces = self.partitions[partition].clone();
        let mut known = self.pruning.begin(self.pruner(), &self.metrics, partition);
        let starts = self.range.as_ref().map(|_| chunks.starts()).unwrap_or_default();
        let next = move |piece: Piece, kept: Option<&BooleanBuffer>| -> Result<RecordBatch> {
            let batch = chunks.batches[piece.batch].slice(piece.offset, piece.len).project(&columns)?;
            let live = match kept {
                // Only live rows are kept.
                Some(kept) => Some(kept.slice(starts[piece.batch] + piece.offset, piece.len)),
                None => chunks.live(piece.batch, piece.offset, piece.len),
            };
            Ok(match live {
                Some(live) => filter_record_batch(&batch, &BooleanArray::new(live, None))?,
                None => batch,
            })
        };
        let work = context.session_config().get_extension::<Scheduler>().map(|scheduler| scheduler.query_work());
        // A scan is always ready. Without a yield, a thread would run a query over it to the end
        // while other queries wait for the thread.
        let scan = move |kept: Option<BooleanBuffer>| {
            stream::iter(pieces).filter_map(move |piece| {
                let batch = (!known.rules_out(piece)).then(|| next(piece, kept.as_ref()));
                if batch.is_some()
                    && let Some(work) = &work
                {
                    work.yield_to_foreground();
                }
                async move {
                    if batch.is_some() {
                        tokio::task::yield_now().await;
                    }
                    batch
                }
            })
        };
        let Some(range) = self.range.clone() else {
            return Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), scan(None))));
        };
        let chunks = Arc::clone(&self.chunks);
        let stream = stream::once(async move { range.kept(&chunks, &context).await.map(scan) }).try_flatten();
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
        // The filter stays in the plan, because some rows of a chunk that is not pruned may fail
        // it.
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

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn batches_of_vectors_are_short() {
        let vectors = DataType::FixedSizeList(Arc::new(Field::new_list_field(DataType::Float32, true)), 384);
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("v", vectors, true),
            Field::new("text", DataType::Utf8, true),
        ]));
        let columns: Vec<_> =
            schema.fields().iter().map(|field| arrow::array::new_null_array(field.data_type(), 20_000)).collect();
        let chunks = Arc::new(Chunks::new(vec![RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()]));
        let lengths = |columns: &[usize]| -> Vec<usize> {
            let scan = ChunkScanExec::try_new(&schema, Arc::clone(&chunks), columns.to_vec(), 8192).unwrap();
            scan.partitions[0].iter().map(|piece| piece.len).collect()
        };
        assert_eq!(lengths(&[0, 2]), [8192, 8192, 20_000 - 2 * 8192]);
        let wide = lengths(&[0, 1]);
        assert_eq!((wide[0], wide.iter().sum::<usize>()), (BATCH_BYTES / (8 + 384 * 4), 20_000));
    }
}
