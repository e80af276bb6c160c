//! Streams and sinks in a session's catalog, and the leaf of a plan that reads the current
//! micro-batch.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err, plan_err};
use datafusion::datasource::TableType;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::stream;
use parking_lot::Mutex;
use vexact_sql::deep::Deep;

use super::sink::SinkTable;
use super::source::SourceTable;
use super::window::WindowBy;

/// An unbounded sequence of rows: a source, or a query over one.
#[derive(Clone, Debug)]
pub(super) enum Stream {
    Source(Arc<dyn SourceTable>),
    Query(Arc<StreamQuery>),
}

/// A planned SELECT over a stream.
pub(super) struct StreamQuery {
    /// The stream that the query reads.
    pub input: Box<StreamRelation>,
    /// Logical plan before optimization.
    pub plan: Deep<LogicalPlan>,
    /// Session state that the query was planned with.
    pub state: SessionState,
}

impl fmt::Debug for StreamQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamQuery({})", self.plan.display())
    }
}

impl Stream {
    pub fn schema(&self) -> SchemaRef {
        match self {
            Self::Source(table) => table.schema(),
            Self::Query(query) => Arc::clone(query.plan.schema().inner()),
        }
    }

    /// Returns the source at the bottom of the plan.
    pub fn source(&self) -> &Arc<dyn SourceTable> {
        match self {
            Self::Source(table) => table,
            Self::Query(query) => query.input.stream.source(),
        }
    }
}

/// A stream as a relation of SQL. Only a streaming query can be planned over it.
#[derive(Clone, Debug)]
pub(crate) struct StreamRelation {
    pub(super) stream: Stream,
    /// Window whose column is added at the end.
    pub(super) window: Option<WindowBy>,
    schema: SchemaRef,
}

impl StreamRelation {
    pub(super) fn new(stream: Stream) -> Self {
        Self { schema: stream.schema(), stream, window: None }
    }

    /// Returns the relation with the column of a window.
    pub(super) fn windowed(&self, window: WindowBy) -> Self {
        let mut fields: Vec<_> = self.schema.fields().iter().cloned().collect();
        fields.push(Arc::new(window.field()));
        let schema = Arc::new(Schema::new(fields));
        Self { stream: self.stream.clone(), window: Some(window), schema }
    }
}

/// Current micro-batch, for the plan that runs on it. As an extension of a session's configuration,
/// it enables planning over streams.
#[derive(Debug)]
pub(super) struct Feed {
    schema: SchemaRef,
    partitions: Mutex<Vec<Vec<RecordBatch>>>,
    count: usize,
    /// Name in EXPLAIN.
    name: &'static str,
}

impl Feed {
    pub fn new(name: &'static str, schema: SchemaRef, count: usize) -> Arc<Self> {
        Arc::new(Self { schema, partitions: Mutex::default(), count, name })
    }

    pub fn partitions(&self) -> usize {
        self.count
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Sets the rows: consecutive ranges of them, one for each partition.
    pub fn fill(&self, batches: &[RecordBatch], partitions: usize, batch_rows: usize) {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let each = rows.div_ceil(partitions.clamp(1, self.count)).max(1);
        let mut filled = vec![Vec::new(); self.count];
        let mut place = 0;
        for batch in batches {
            let mut offset = 0;
            while offset < batch.num_rows() {
                let room = each - place % each;
                let len = room.min(batch_rows).min(batch.num_rows() - offset);
                filled[place / each].push(batch.slice(offset, len));
                offset += len;
                place += len;
            }
        }
        *self.partitions.lock() = filled;
    }

    /// Releases the rows.
    pub fn clear(&self) {
        self.partitions.lock().clear();
    }
}

#[async_trait]
impl TableProvider for StreamRelation {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(feed) = state.config().get_extension::<Feed>() else {
            return plan_err!("a stream has no end to wait for: expected stream_sql or start_stream_sql to query it");
        };
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        Ok(Arc::new(FeedExec::try_new(feed, columns)?))
    }

    async fn insert_into(
        &self,
        _: &dyn Session,
        _: Arc<dyn ExecutionPlan>,
        _: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!("a source cannot be written to: expected a sink")
    }
}

/// A sink in a catalog: a streaming query can write to it, and no query can read it.
#[derive(Clone, Debug)]
pub(crate) struct SinkRelation {
    pub(super) sink: Arc<dyn SinkTable>,
    schema: SchemaRef,
}

impl SinkRelation {
    pub(super) fn new(sink: Arc<dyn SinkTable>) -> Self {
        Self { schema: sink.schema().unwrap_or_else(|| Arc::new(Schema::empty())), sink }
    }
}

#[async_trait]
impl TableProvider for SinkRelation {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!("a sink cannot be read: expected a table or a source")
    }

    async fn insert_into(
        &self,
        _: &dyn Session,
        _: Arc<dyn ExecutionPlan>,
        _: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!("a sink is written to by a streaming query: expected start_stream_sql")
    }
}

/// Operator that reads a [`Feed`].
#[derive(Debug, Clone)]
pub(super) struct FeedExec {
    feed: Arc<Feed>,
    columns: Vec<usize>,
    properties: Arc<PlanProperties>,
}

impl FeedExec {
    pub fn try_new(feed: Arc<Feed>, columns: Vec<usize>) -> Result<Self> {
        let schema = Arc::new(feed.schema.project(&columns)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(feed.count),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self { feed, columns, properties: Arc::new(properties) })
    }

    /// Creates an operator that reads all columns.
    pub fn all(feed: Arc<Feed>) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = (0..feed.schema.fields().len()).collect();
        Ok(Arc::new(Self::try_new(feed, columns)?))
    }
}

impl DisplayAs for FeedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let schema = self.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "{}: columns=[{}], partitions={}", self.feed.name, names.join(", "), self.feed.count)
    }
}

impl ExecutionPlan for FeedExec {
    fn name(&self) -> &str {
        self.feed.name
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !children.is_empty() {
            return internal_err!("{} has no children, got {}", self.feed.name, children.len());
        }
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let partitions = self.feed.partitions.lock();
        let batches = partitions.get(partition).cloned().unwrap_or_default();
        let columns = self.columns.clone();
        let projected = batches.into_iter().map(move |batch| Ok(batch.project(&columns)?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::iter(projected))))
    }

    /// Claims more rows than any table, so that joins build on the table and stream the other
    /// input.
    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = Precision::Inexact(1 << 50);
        Ok(Arc::new(statistics))
    }
}
