//! `VectorTopKExec`: the first k rows in the order of a distance, without computing most of the distances.

use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, CardinalityEffect, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    apply_expression_roots,
};
use futures::stream::once;
use vexact_kernel::{FilterReport, KernelError, Metric, Report, to_fixed_size_list};

use super::ranked::{Entry, Ranker, external};
use super::{in_place, stream};
use crate::chunks;
use crate::config::VexactOptions;
use crate::functions::Function;
use crate::rewrite::check_query;
use crate::vector::{scalar_of_vector, vector_of_scalar, vector_type};

/// What orders the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// A search's score: rows that cannot be compared are left out, a bad query is an error.
    Search(Metric),
    /// A SQL function's value, as plain evaluation gives it: NULL and NaN are rows like others.
    Sql(SqlFunction),
}

/// One of the distance functions of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlFunction(pub(crate) Function);

impl Scoring {
    pub(crate) fn metric(self) -> Metric {
        match self {
            Scoring::Search(metric) => metric,
            Scoring::Sql(function) => function.0.metric(),
        }
    }

    /// The value where the metric's is `distance`.
    pub(crate) fn value(self, distance: f64) -> f64 {
        match self {
            Scoring::Search(_) => distance,
            Scoring::Sql(function) => function.0.of_distance(distance),
        }
    }
}

/// A top-k over the rows of an input.
#[derive(Debug, Clone)]
pub struct TopK {
    /// Rows to search, over the input's columns. `None`: all.
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Ordinal of the vector column in the input.
    pub vector: usize,
    /// The query: an expression without columns, evaluated once.
    pub query: Arc<dyn PhysicalExpr>,
    /// What orders the rows.
    pub scoring: Scoring,
    /// Whether a NaN with a negative sign comes first, and one with a positive sign last; else the other way round. (In
    /// Arrow's total order the one is the smallest number, the other the largest.)
    pub negative_nans_first: bool,
    /// Whether rows whose value is NULL come first.
    pub nulls_first: bool,
    /// How many rows.
    pub k: usize,
    /// Columns of the input that the output needs.
    pub columns: Vec<usize>,
    /// The output, over `columns` and two more: the value (`Float64`) and the row's ordinal in the input (`UInt64`).
    pub output: Vec<ProjectionExpr>,
}

impl TopK {
    /// What `output` is evaluated over.
    pub fn gathered_schema(&self, input: &Schema) -> Result<SchemaRef> {
        let mut fields: Vec<_> = input.project(&self.columns)?.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("value", DataType::Float64, true)));
        fields.push(Arc::new(Field::new("ordinal", DataType::UInt64, false)));
        Ok(Arc::new(Schema::new(fields)))
    }

    /// The query's value, where it is a literal.
    pub(crate) fn literal(&self) -> Option<&ScalarValue> {
        let expr: &dyn PhysicalExpr = self.query.as_ref();
        expr.downcast_ref::<Literal>().map(|literal| literal.value())
    }
}

/// Runs a [`TopK`]. A scan that can hand its vector chunks over is searched in place, in parallel, and other columns are
/// fetched for the k winners only; any other input is searched batch by batch, holding k rows. One output partition.
#[derive(Debug)]
pub struct VectorTopKExec {
    input: Arc<dyn ExecutionPlan>,
    top_k: Arc<TopK>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    executed: Arc<Mutex<Option<Report>>>,
}

impl VectorTopKExec {
    /// `schema`: that of the output; `ordering`: the order of the output, over that schema.
    ///
    /// # Errors
    /// An input without end, and a column that holds no vectors.
    pub fn try_new(
        input: Arc<dyn ExecutionPlan>,
        top_k: TopK,
        schema: SchemaRef,
        ordering: Option<LexOrdering>,
    ) -> Result<Self> {
        if input.boundedness().is_unbounded() {
            return plan_err!("a vector search needs a bounded input, got an unbounded {}", input.name());
        }
        let column = input.schema().field(top_k.vector).clone();
        if vector_type(column.data_type()).is_none() {
            return plan_err!(
                "column {:?}: expected vectors (FixedSizeList, List or LargeList of floats), got {}",
                column.name(),
                column.data_type()
            );
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, ordering),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self {
            input,
            top_k: Arc::new(top_k),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
            executed: Arc::default(),
        })
    }

    /// What is searched.
    pub fn top_k(&self) -> &TopK {
        &self.top_k
    }

    /// The same search with another query. `None`: the query is to be refused.
    pub(crate) fn with_query(&self, query: &[f64]) -> Option<Self> {
        let column = self.input.schema().field(self.top_k.vector).clone();
        check_query(self.top_k.scoring, query, column.data_type()).ok()?;
        let query = Arc::new(Literal::new(scalar_of_vector(query.to_vec())));
        Some(self.of(Arc::clone(&self.input), Arc::new(TopK { query, ..TopK::clone(&self.top_k) })))
    }

    /// A search that has not run, of the same properties.
    fn of(&self, input: Arc<dyn ExecutionPlan>, top_k: Arc<TopK>) -> Self {
        let properties = Arc::clone(&self.properties);
        Self { input, top_k, properties, metrics: ExecutionPlanMetricsSet::new(), executed: Arc::default() }
    }

    /// The strategy: as executed, or as planned where it has not run.
    pub fn report(&self) -> Report {
        let executed = self.executed.lock().ok().and_then(|report| report.clone());
        executed.unwrap_or_else(|| self.planned())
    }

    fn planned(&self) -> Report {
        let column = self.input.schema().field(self.top_k.vector).clone();
        let literal = self.top_k.literal().and_then(|value| vector_of_scalar(value).ok().flatten());
        let dim = vector_type(column.data_type()).flatten().or_else(|| literal.map(|query| query.len()));
        let mut report = Report::planned(self.top_k.scoring.metric(), dim, Some(self.top_k.k), Default::default());
        let rows = chunks::in_place(&self.input).map(|scan| scan.chunks.live_rows() as u64);
        if rows.is_none() {
            report.acceleration = stream::ACCELERATION;
        }
        match self.top_k.predicate {
            Some(_) => report.filter = Some(FilterReport { input_rows: rows, execution: FILTER, returned_rows: None }),
            None => report.candidate_rows = rows,
        }
        report
    }

    fn column_name(&self) -> String {
        self.input.schema().field(self.top_k.vector).name().clone()
    }
}

/// How a predicate is evaluated.
pub(super) const FILTER: &str = "vectorized-predicate-to-selection-bitmap";

/// What one execution needs.
pub(super) struct Run {
    pub input: Arc<dyn ExecutionPlan>,
    pub top_k: Arc<TopK>,
    pub schema: SchemaRef,
    pub context: Arc<TaskContext>,
    column: String,
    /// Microseconds spent on the predicate, and on the winners' columns.
    pub filter_us: Count,
    pub fetch_us: Count,
    /// Chunks that the predicate ruled out by their bounds.
    pub chunks_pruned: Count,
    metrics: ExecutionPlanMetricsSet,
    executed: Arc<Mutex<Option<Report>>>,
}

impl Run {
    async fn run(self) -> Result<RecordBatch> {
        let options = VexactOptions::of(self.context.session_config().options());
        let ranker = Ranker {
            scoring: self.top_k.scoring,
            query: vector_of_scalar(&constant(&self.top_k.query)?)?,
            k: self.top_k.k,
            negative_nans_first: self.top_k.negative_nans_first,
            nulls_first: self.top_k.nulls_first,
            tier: options.tier,
            threads: options.threads,
            column: self.column.clone(),
        };
        // A bad query is refused even where there are no rows.
        ranker.search(None)?;
        match chunks::in_place(&self.input) {
            Some(scan) => in_place::run(self, scan, ranker).await,
            None => stream::run(self, ranker).await,
        }
    }

    /// The output rows from the winners' needed columns.
    pub fn output(
        &self,
        columns: Vec<ArrayRef>,
        entries: &[Entry],
        ordinal: impl Fn(u64) -> u64,
    ) -> Result<RecordBatch> {
        let value = |entry: &Entry| entry.distance.map(|distance| self.top_k.scoring.value(distance));
        let values: Float64Array = entries.iter().map(value).collect();
        let ordinals: UInt64Array = entries.iter().map(|entry| Some(ordinal(entry.position))).collect();
        let mut arrays = columns;
        arrays.push(Arc::new(values));
        arrays.push(Arc::new(ordinals));
        let options = RecordBatchOptions::new().with_row_count(Some(entries.len()));
        let gathered = self.top_k.gathered_schema(&self.input.schema())?;
        let gathered = RecordBatch::try_new_with_options(gathered, arrays, &options)?;
        let output = self.top_k.output.iter().map(|output| output.expr.evaluate(&gathered)?.into_array(entries.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), output.collect::<Result<_>>()?, &options)?)
    }

    /// Publishes what was done: for EXPLAIN ANALYZE as metrics, for `report` as a whole.
    pub fn publish(&self, report: Option<Report>, output_rows: usize) {
        let count = |name: &'static str, n: u64| MetricBuilder::new(&self.metrics).counter(name, 0).add(n as usize);
        MetricBuilder::new(&self.metrics).output_rows(0).add(output_rows);
        if let Some(execution) = report.as_ref().and_then(|report| report.execution) {
            count("rows_scanned", execution.rows_scanned);
            count("rows_pruned", execution.pruned);
            count("rows_refined", execution.refined);
            count("bytes_read", execution.bytes_read);
            count("scan_us", execution.scan_us);
            count("refine_us", execution.refine_us);
        }
        if let Some(skipped) = report.as_ref().and_then(|report| report.skipped_rows) {
            count("rows_skipped", skipped);
        }
        if let Ok(mut executed) = self.executed.lock() {
            *executed = report;
        }
    }
}

/// The value of an expression without columns.
fn constant(expr: &Arc<dyn PhysicalExpr>) -> Result<ScalarValue> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
    match expr.evaluate(&row)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(values) => ScalarValue::try_from_array(&values, 0),
    }
}

impl DisplayAs for VectorTopKExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let report = self.planned();
        let (column, k) = (self.column_name(), self.top_k.k);
        if matches!(t, DisplayFormatType::TreeRender) {
            writeln!(f, "column={column}")?;
            writeln!(f, "k={k}")?;
            return writeln!(f, "metric={}", report.metric);
        }
        write!(f, "VectorTopKExec: metric={}, column={column}, k={k}", report.metric)?;
        match self.top_k.literal().and_then(|value| vector_of_scalar(value).ok().flatten()) {
            Some(query) => write!(f, ", query=[{} components]", query.len())?,
            None => write!(f, ", query={}", self.top_k.query)?,
        }
        if let Some(predicate) = &self.top_k.predicate {
            write!(f, ", filter={predicate}")?;
        }
        let names: Vec<&str> = self.top_k.output.iter().map(|output| output.alias.as_str()).collect();
        write!(f, ", output=[{}], acceleration={}", names.join(", "), report.acceleration)
    }
}

impl ExecutionPlan for VectorTopKExec {
    fn name(&self) -> &str {
        "VectorTopKExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let output = self.top_k.output.iter().map(|output| &output.expr);
        apply_expression_roots([&self.top_k.query].into_iter().chain(&self.top_k.predicate).chain(output), f)
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([input]) = <[_; 1]>::try_from(children) else {
            return internal_err!("VectorTopKExec has one child");
        };
        Ok(Arc::new(self.of(input, Arc::clone(&self.top_k))))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("VectorTopKExec has one partition, got {partition}");
        }
        let run = Run {
            input: Arc::clone(&self.input),
            top_k: Arc::clone(&self.top_k),
            schema: self.schema(),
            context,
            column: self.column_name(),
            filter_us: MetricBuilder::new(&self.metrics).counter("filter_us", 0),
            fetch_us: MetricBuilder::new(&self.metrics).counter("fetch_us", 0),
            chunks_pruned: MetricBuilder::new(&self.metrics).counter("chunks_pruned", 0),
            metrics: self.metrics.clone(),
            executed: Arc::clone(&self.executed),
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), once(run.run()))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn fetch(&self) -> Option<usize> {
        Some(self.top_k.k)
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }
}

/// An array of vectors as the kernel takes it. Rows that are not selected may have any length.
pub(super) fn vectors(
    array: &ArrayRef,
    column: &str,
    query: Option<&[f64]>,
    selection: Option<&BooleanBuffer>,
) -> Result<ArrayRef> {
    if matches!(array.data_type(), DataType::FixedSizeList(..)) {
        return Ok(Arc::clone(array));
    }
    let masked = match selection {
        Some(selection) => nullif(array, &BooleanArray::new(!selection, None))?,
        None => Arc::clone(array),
    };
    let list = match to_fixed_size_list(&masked, query.map(<[f64]>::len)) {
        // Either the query is the odd one, or a row is.
        Err(KernelError::RaggedRows { .. }) => to_fixed_size_list(&masked, None),
        list => list,
    };
    Ok(Arc::new(list.map_err(|error| on_column(column, external(error)))?))
}

/// An error with the column that it is about.
pub(super) fn on_column(column: &str, error: DataFusionError) -> DataFusionError {
    error.context(format!("vector search on column {column:?}"))
}
