//! `VectorJoinExec`: for every row of one input its closest rows of another, searched as query
//! batches.

mod in_place;
pub(super) mod run;
pub(super) mod stream;

use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    apply_expression_roots,
};
use futures::stream::once;
use futures::{StreamExt, TryStreamExt};
use vexact_kernel::{Acceleration, FilterReport, Metric, RankedBy, Report, ScanInput, Tier};

use self::run::{QUERY_BLOCK, SearchState};
use crate::chunks;
use crate::config::VexactOptions;

/// Source of an output column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinColumn {
    /// A column of the queries' input.
    Query(usize),
    /// A column of the searched input.
    Found(usize),
    /// The ordinal of the row that was found in the searched input.
    Ordinal,
    /// 1 for the best row of a query.
    Rank,
    /// The score.
    Score,
}

/// A join of queries with their closest rows.
#[derive(Debug, Clone)]
pub struct Join {
    /// The distance function.
    pub metric: Metric,
    /// Ordinal of the vector column in the queries' input, and in the searched one.
    pub vectors: (usize, usize),
    /// Predicate that selects the rows to search, over the searched input's columns; `None` if all
    /// rows are searched.
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Number of rows for each query; `None` if all rows within the radius are returned.
    pub k: Option<usize>,
    /// The farthest score.
    pub radius: Option<f64>,
    /// The output's columns.
    pub columns: Vec<JoinColumn>,
}

/// Runs a [`Join`]. Rows of the queries' input that are no query (NULL, zero under cosine, not
/// finite) find nothing. One output partition, in the order of the queries, each with its rows best
/// first.
#[derive(Debug)]
pub struct VectorJoinExec {
    queries: Arc<dyn ExecutionPlan>,
    searched: Arc<dyn ExecutionPlan>,
    join: Arc<Join>,
    properties: Arc<PlanProperties>,
    executed: Arc<Mutex<Option<Report>>>,
}

impl VectorJoinExec {
    /// `schema`: that of the output.
    pub fn new(
        queries: Arc<dyn ExecutionPlan>,
        searched: Arc<dyn ExecutionPlan>,
        join: Join,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { queries, searched, join: Arc::new(join), properties: Arc::new(properties), executed: Arc::default() }
    }

    /// The specification of the join.
    pub fn join(&self) -> &Join {
        &self.join
    }

    /// Returns all rows of the queries' input, in the order of its partitions.
    ///
    /// # Errors
    /// A failure of the input; more rows than the session's memory limit permits.
    pub async fn query_rows(queries: &Arc<dyn ExecutionPlan>, context: &Arc<TaskContext>) -> Result<RecordBatch> {
        let memory = MemoryConsumer::new("VectorJoinExec").register(context.memory_pool());
        gather(queries, context, &memory).await
    }

    /// Returns the report of the last execution, which a join in parts sets.
    pub(super) fn executed(&self) -> &Arc<Mutex<Option<Report>>> {
        &self.executed
    }

    /// The strategy: as executed, or as planned for a tier.
    pub fn report(&self, tier: Tier) -> Report {
        let executed = self.executed.lock().ok().and_then(|report| report.clone());
        executed.unwrap_or_else(|| self.planned(tier))
    }

    fn planned(&self, tier: Tier) -> Report {
        let scan = chunks::in_place(&self.searched);
        let mut report = Report {
            queries: None,
            radius: self.join.radius,
            filter: self.join.predicate.as_ref().map(|_| FilterReport {
                input_rows: None,
                execution: super::run::FILTER,
                returned_rows: None,
            }),
            acceleration: match &scan {
                Some(_) => Acceleration::new(ScanInput::FlatBuffer, RankedBy::MatrixTopK),
                None => stream::ACCELERATION,
            },
            ..Report::planned(self.join.metric, None, self.join.k, tier)
        };
        if let Some(scan) = scan {
            // The number of queries is not known yet.
            scan.chunks.plan_sketch(scan.columns[self.join.vectors.1], tier, QUERY_BLOCK, &mut report);
        }
        report
    }
}

impl DisplayAs for VectorJoinExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let text = |value: Option<String>| value.unwrap_or_else(|| "none".into());
        let (k, radius) = (text(self.join.k.map(|k| k.to_string())), text(self.join.radius.map(|r| r.to_string())));
        if matches!(t, DisplayFormatType::TreeRender) {
            writeln!(f, "metric={}", self.join.metric)?;
            return writeln!(f, "k={k}");
        }
        write!(f, "VectorJoinExec: metric={}, k={k}, radius={radius}", self.join.metric)?;
        write!(f, ", acceleration={}", self.planned(Tier::F32).acceleration)
    }
}

impl ExecutionPlan for VectorJoinExec {
    fn name(&self) -> &str {
        "VectorJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.queries, &self.searched]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(&self.join.predicate, f)
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false, false]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([queries, searched]) = <[_; 2]>::try_from(children) else {
            return internal_err!("VectorJoinExec has two children");
        };
        Ok(Arc::new(Self {
            queries,
            searched,
            join: Arc::clone(&self.join),
            properties: Arc::clone(&self.properties),
            executed: Arc::default(),
        }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("VectorJoinExec has one partition, got {partition}");
        }
        if let Ok(mut executed) = self.executed.lock() {
            *executed = None;
        }
        let run = SearchState {
            join: Arc::clone(&self.join),
            schema: self.schema(),
            options: VexactOptions::of(context.session_config().options()),
            context: Arc::clone(&context),
            executed: Arc::clone(&self.executed),
        };
        let (queries, searched) = (Arc::clone(&self.queries), Arc::clone(&self.searched));
        let memory = MemoryConsumer::new("VectorJoinExec").register(context.memory_pool());
        let batches = async move {
            let batch = gather(&queries, &context, &memory).await?;
            Ok::<_, DataFusionError>(match chunks::in_place(&searched) {
                Some(scan) => in_place::run(run, scan, searched.schema(), batch)?.left_stream(),
                None => once(stream::run(run, searched, context, memory, batch)).right_stream(),
            })
        };
        let stream = once(batches).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), Box::pin(stream))))
    }
}

/// All rows of a plan, partition after partition.
async fn gather(
    plan: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
    memory: &MemoryReservation,
) -> Result<RecordBatch> {
    let mut batches = Vec::new();
    for partition in 0..plan.output_partitioning().partition_count() {
        let mut stream = plan.execute(partition, Arc::clone(context))?;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            memory.try_grow(batch.get_array_memory_size())?;
            batches.push(batch);
        }
    }
    Ok(concat_batches(&plan.schema(), &batches)?)
}
