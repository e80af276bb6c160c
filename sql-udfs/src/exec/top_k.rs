//! `VectorTopKExec`: the first k rows in the order of a distance, without computing most of the
//! distances.

use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, CardinalityEffect, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::stream::once;
use vexact_kernel::{FilterReport, Report, Tier};

use super::ranked::{GROUPED, Ranker};
use super::run::{FILTER, SearchState};
use super::spec::TopK;
use super::{in_place, stream};
use crate::chunks;
use crate::config::VexactOptions;
use crate::strategy::SearchStrategy;
use crate::vector::{is_integer_search, scalar_of_vector, vector_of_scalar, vector_type};

/// Runs a [`TopK`]. A scan of chunks in memory is searched in place, in parallel, and other columns
/// are fetched only for the k rows of the result; any other input is searched batch by batch,
/// holding k rows. One output partition.
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
    /// An unbounded input; a column that holds no vectors.
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

    /// The specification of the search.
    pub fn top_k(&self) -> &TopK {
        &self.top_k
    }

    /// Returns the same search with another input of the same columns and another query. Returns
    /// `None` if the query is invalid.
    pub(crate) fn with_query(&self, query: &[f64], input: Arc<dyn ExecutionPlan>) -> Option<Self> {
        let column = self.input.schema().field(self.top_k.vector).clone();
        self.top_k.scoring.check_query(query, column.data_type()).ok()?;
        let query = Arc::new(Literal::new(scalar_of_vector(query.to_vec())));
        Some(self.of(input, Arc::new(TopK { query, ..TopK::clone(&self.top_k) })))
    }

    /// Returns a search with the same properties that has not run.
    fn of(&self, input: Arc<dyn ExecutionPlan>, top_k: Arc<TopK>) -> Self {
        let properties = Arc::clone(&self.properties);
        Self { input, top_k, properties, metrics: ExecutionPlanMetricsSet::new(), executed: Arc::default() }
    }

    /// Returns the strategy: as executed, or as planned for a tier if the search has not run.
    pub fn report(&self, tier: Tier) -> Report {
        let executed = self.executed.lock().ok().and_then(|report| report.clone());
        executed.unwrap_or_else(|| self.planned(tier))
    }

    /// Returns the report of the last execution, which a search in parts sets.
    pub(super) fn executed(&self) -> &Arc<Mutex<Option<Report>>> {
        &self.executed
    }

    pub(super) fn planned(&self, tier: Tier) -> Report {
        let column = self.input.schema().field(self.top_k.vector).clone();
        let literal = self.top_k.literal().and_then(|value| vector_of_scalar(value).ok().flatten());
        let is_integer = is_integer_search(column.data_type(), literal.as_deref());
        let dim = vector_type(column.data_type()).flatten().or_else(|| literal.map(|query| query.len()));
        let mut report = Report::planned(self.top_k.scoring.metric(), dim, Some(self.top_k.k), tier);
        if is_integer {
            report.tier = Tier::Integer;
            report.reason = "sums of whole numbers are exact".into();
        }
        let scan = chunks::in_place(&self.input);
        let rows = scan.as_ref().map(|scan| scan.chunks.live_rows() as u64);
        report.acceleration = match (rows.is_some(), self.top_k.group_by.is_some()) {
            (true, false) => report.acceleration,
            (true, true) => GROUPED,
            (false, false) => stream::ACCELERATION,
            (false, true) => stream::GROUPED,
        };
        report.radius = self.top_k.bounds.as_ref().and_then(|bounds| bounds.radius);
        match self.top_k.selecting() {
            Some(_) => report.filter = Some(FilterReport { input_rows: rows, execution: FILTER, returned_rows: None }),
            None => report.candidate_rows = rows,
        }
        if let Some(scan) = scan.filter(|_| self.top_k.group_by.is_none()) {
            scan.chunks.plan_sketch(scan.columns[self.top_k.vector], tier, 1, &mut report);
        }
        report
    }

    /// The strategy: the report, as executed or as planned for a tier, and the column of the groups.
    pub(crate) fn strategy(&self, tier: Tier) -> SearchStrategy {
        SearchStrategy { group_by: self.group_name(), ..self.report(tier).into() }
    }

    fn group_name(&self) -> Option<String> {
        self.top_k.group_by.map(|column| self.input.schema().field(column).name().clone())
    }

    fn column_name(&self) -> String {
        self.input.schema().field(self.top_k.vector).name().clone()
    }
}

impl DisplayAs for VectorTopKExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let report = self.planned(Tier::F32);
        let (column, k) = (self.column_name(), self.top_k.k);
        if matches!(t, DisplayFormatType::TreeRender) {
            writeln!(f, "column={column}")?;
            writeln!(f, "k={k}")?;
            if let Some(group) = self.group_name() {
                writeln!(f, "group_by={group}")?;
            }
            return writeln!(f, "metric={}", report.metric);
        }
        write!(f, "VectorTopKExec: metric={}, column={column}, k={k}", report.metric)?;
        match self.top_k.literal().and_then(|value| vector_of_scalar(value).ok().flatten()) {
            Some(query) => write!(f, ", query=[{} components]", query.len())?,
            None => write!(f, ", query={}", self.top_k.query)?,
        }
        if let Some(group) = self.group_name() {
            write!(f, ", group_by={group}")?;
        }
        if let Some(predicate) = &self.top_k.predicate {
            write!(f, ", filter={predicate}")?;
        }
        let names: Vec<&str> = self.top_k.output.iter().map(|output| output.alias.as_str()).collect();
        write!(f, ", output=[{}], acceleration={}", names.join(", "), report.acceleration)
    }
}

impl ExecutionPlan for VectorTopKExec {
    crate::one_child_plan!(
        VectorTopKExec,
        input,
        |self, input| self.of(input, Arc::clone(&self.top_k)),
        [&self.top_k.query]
            .into_iter()
            .chain(&self.top_k.predicate)
            .chain(self.top_k.output.iter().map(|output| &output.expr))
    );

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("VectorTopKExec has one partition, got {partition}");
        }
        let run = SearchState {
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
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), once(execute(run)))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn fetch(&self) -> Option<usize> {
        self.top_k.group_by.is_none().then_some(self.top_k.k)
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }
}

/// Searches the input in place if it is a scan of chunks in memory, else batch by batch.
async fn execute(run: SearchState) -> Result<RecordBatch> {
    let ranker = ranker(&run)?;
    match chunks::in_place(&run.input) {
        Some(scan) => in_place::run(run, scan, ranker).await,
        None => stream::run(run, ranker).await,
    }
}

/// Returns the ranking of a search, whose query is valid.
pub(super) fn ranker(run: &SearchState) -> Result<Ranker> {
    let options = VexactOptions::of(run.context.session_config().options());
    let ranker = Ranker {
        scoring: run.top_k.scoring,
        query: vector_of_scalar(&constant(&run.top_k.query)?)?,
        k: run.top_k.k,
        bounds: run.top_k.bounds.clone(),
        negative_nans_first: run.top_k.negative_nans_first,
        nulls_first: run.top_k.nulls_first,
        tier: options.tier,
        threads: options.threads,
        column: run.column.clone(),
    };
    // An invalid query is rejected even if there are no rows.
    ranker.search(None)?;
    Ok(ranker)
}

/// The value of an expression without columns.
pub(super) fn constant(expr: &Arc<dyn PhysicalExpr>) -> Result<ScalarValue> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
    match expr.evaluate(&row)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(values) => ScalarValue::try_from_array(&values, 0),
    }
}
