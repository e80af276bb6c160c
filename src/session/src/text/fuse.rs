//! `Fuse`: reciprocal rank fusion of a vector list and a text list.
//!
//! The score of a row is `2 w / (rrf_k + vector_rank) + 2 (1 - w) / (rrf_k + text_rank)`, without
//! the term of a list that lacks the row; `w` is the weight of the vector list. With `w = 0.5` it is
//! the sum of the reciprocal ranks. Ranks start at 1; rows of equal score in a list, and in the
//! result, are in the order of the key.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef, Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, Partitioning, PlanProperties,
    execute_stream,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::{TryStreamExt, future, stream};

use super::hybrid::NAME;
use super::node::argument;

/// Names and types of the added columns.
fn added() -> [Field; 5] {
    [
        Field::new("score", DataType::Float64, false),
        Field::new("vector_rank", DataType::Int64, true),
        Field::new("vector_score", DataType::Float64, true),
        Field::new("text_rank", DataType::Int64, true),
        Field::new("text_score", DataType::Float64, true),
    ]
}

/// Parameters of the fusion. The numbers are bits of floats, which have equality.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Fusion {
    /// Ordinals of the columns that identify a row.
    pub key: Vec<usize>,
    pub rrf_k: u64,
    pub weight: u64,
    /// True if a larger vector score is better.
    pub is_larger_closer: bool,
}

/// The columns of the table, the fused score, and rank and score in each list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Fuse {
    /// The table's columns and `score`.
    vectors: LogicalPlan,
    /// The table's columns, `text_score` and `text_rank`.
    text: LogicalPlan,
    k: Expr,
    fusion: Fusion,
    schema: DFSchemaRef,
}

impl Fuse {
    /// Returns the operator as a plan.
    ///
    /// # Errors
    /// A column of the table that has the name of an added one.
    pub fn plan(vectors: LogicalPlan, text: LogicalPlan, k: Expr, fusion: Fusion) -> Result<LogicalPlan> {
        let node = Self::try_new(vectors, text, k, fusion)?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    fn try_new(vectors: LogicalPlan, text: LogicalPlan, k: Expr, fusion: Fusion) -> Result<Self> {
        let columns = vectors.schema().fields().len() - 1;
        let own = vectors.schema().iter().take(columns);
        let mut fields: Vec<_> = own.map(|(table, field)| (table.cloned(), Arc::clone(field))).collect();
        for field in added() {
            if fields.iter().any(|(_, own)| own.name() == field.name()) {
                return plan_err!(
                    "{NAME}: the table has a column {:?}, which {NAME} adds: expected another name (rename it in a view)",
                    field.name()
                );
            }
            fields.push((None, Arc::new(field)));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, vectors.schema().metadata().clone())?);
        Ok(Self { vectors, text, k, fusion, schema })
    }
}

/// Two operators have no order but that of equality.
impl PartialOrd for Fuse {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for Fuse {
    fn name(&self) -> &str {
        "Fuse"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.vectors, &self.text]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.k.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Fusion { rrf_k, weight, .. } = &self.fusion;
        write!(f, "Fuse: k={}, rrf_k={}, weight={}", self.k, f64::from_bits(*rrf_k), f64::from_bits(*weight))
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (exprs.pop(), <[_; 2]>::try_from(inputs)) {
            (Some(k), Ok([vectors, text])) => Self::try_new(vectors, text, k, self.fusion.clone()),
            _ => internal_err!("Fuse has one expression and two inputs"),
        }
    }
}

/// Plans [`Fuse`].
pub(super) struct FusePlanner;

#[async_trait]
impl ExtensionPlanner for FusePlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<Fuse>() else { return Ok(None) };
        let [vectors, text] = physical_inputs else { return internal_err!("Fuse has two inputs") };
        let k = match argument(&node.k) {
            Expr::Literal(value, _) => match value.cast_to(&DataType::Int64) {
                Ok(ScalarValue::Int64(Some(k))) if k >= 1 && value.data_type().is_integer() => k as usize,
                _ => return plan_err!("{NAME}: k: expected a whole number of at least 1, got {value}"),
            },
            other => return plan_err!("{NAME}: k: expected a whole number of at least 1, got {other}"),
        };
        let inputs = [Arc::clone(vectors), Arc::clone(text)];
        Ok(Some(Arc::new(FuseExec::new(inputs, k, node.fusion.clone(), Arc::clone(node.schema.inner())))))
    }
}

/// Reads both lists and merges them.
#[derive(Debug, Clone)]
pub(super) struct FuseExec {
    /// The vector list and the text list.
    inputs: [Arc<dyn ExecutionPlan>; 2],
    k: usize,
    fusion: Fusion,
    properties: Arc<PlanProperties>,
}

/// A row of a list, or of both.
#[derive(Debug, Clone, Copy, Default)]
struct Fused {
    /// Row and rank in the vector list, in the text list.
    lists: [Option<(usize, usize)>; 2],
    score: f64,
}

/// The order of two rows of a list, by their numbers.
type Order<'o> = &'o dyn Fn(usize, usize) -> Ordering;

impl FuseExec {
    fn new(inputs: [Arc<dyn ExecutionPlan>; 2], k: usize, fusion: Fusion, schema: SchemaRef) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { inputs, k, fusion, properties }
    }

    fn fuse(&self, vectors: &RecordBatch, text: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.schema().fields().len() - added().len();
        let scores = vectors.column(columns).as_primitive::<Float64Type>();
        let order = |a: f64, b: f64| if self.fusion.is_larger_closer { b.total_cmp(&a) } else { a.total_cmp(&b) };
        // Both zeros are one score.
        let by_score = |a: usize, b: usize| order(scores.value(a) + 0.0, scores.value(b) + 0.0);
        let ranks = text.column(columns + 1).as_primitive::<Int64Type>();
        let by_rank = |a: usize, b: usize| ranks.value(a).cmp(&ranks.value(b));
        let lists: [(&RecordBatch, Order); 2] = [(vectors, &by_score), (text, &by_rank)];

        let fields = self.fusion.key.iter().map(|column| SortField::new(vectors.column(*column).data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        let (rrf_k, weight) = (f64::from_bits(self.fusion.rrf_k), f64::from_bits(self.fusion.weight));
        let mut rows: HashMap<OwnedRow, Fused> = HashMap::new();
        for (list, (batch, order)) in lists.into_iter().enumerate() {
            let keys = self.keys(&converter, batch)?;
            let mut sorted: Vec<usize> = (0..batch.num_rows()).collect();
            sorted.sort_by(|a, b| order(*a, *b).then_with(|| keys.row(*a).cmp(&keys.row(*b))));
            let weight = if list == 0 { weight } else { 1.0 - weight };
            for (rank, row) in sorted.into_iter().enumerate() {
                let fused = rows.entry(keys.row(row).owned()).or_default();
                if fused.lists[list].replace((row, rank + 1)).is_some() {
                    return exec_err!("{NAME}: expected a key that no two rows share, got rows with the same key");
                }
                fused.score += 2.0 * weight / (rrf_k + (rank + 1) as f64);
            }
        }
        let mut rows: Vec<(OwnedRow, Fused)> = rows.into_iter().collect();
        rows.sort_by(|(a, one), (b, other)| other.score.total_cmp(&one.score).then_with(|| a.cmp(b)));
        rows.truncate(self.k);
        let rows: Vec<Fused> = rows.into_iter().map(|(_, fused)| fused).collect();
        self.output(&rows, vectors, text)
    }

    fn keys(&self, converter: &RowConverter, batch: &RecordBatch) -> Result<Rows> {
        let key: Vec<ArrayRef> = self.fusion.key.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        Ok(converter.convert_columns(&key)?)
    }

    /// Returns the rows of the result: the table's columns from either list, then the added ones.
    fn output(&self, rows: &[Fused], vectors: &RecordBatch, text: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.schema().fields().len() - added().len();
        let table: Vec<usize> = (0..columns).collect();
        let (own, other) = (vectors.project(&table)?, text.project(&table)?);
        let place = |fused: &Fused| match fused.lists {
            [Some((row, _)), _] => (0, row),
            [None, Some((row, _))] => (1, row),
            [None, None] => (0, 0),
        };
        let places: Vec<(usize, usize)> = rows.iter().map(place).collect();
        let mut output = match places.is_empty() {
            true => own.slice(0, 0).columns().to_vec(),
            false => interleave_record_batch(&[&own, &other], &places)?.columns().to_vec(),
        };
        let rank = |list: usize| rows.iter().map(move |fused| fused.lists[list].map(|(_, rank)| rank as i64));
        let score = |batch: &RecordBatch, list: usize| -> ArrayRef {
            let scores = batch.column(columns).as_primitive::<Float64Type>();
            let of_row = |fused: &Fused| fused.lists[list].map(|(row, _)| scores.value(row));
            Arc::new(rows.iter().map(of_row).collect::<Float64Array>())
        };
        let added: [ArrayRef; 5] = [
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|fused| fused.score))),
            Arc::new(rank(0).collect::<Int64Array>()),
            score(vectors, 0),
            Arc::new(rank(1).collect::<Int64Array>()),
            score(text, 1),
        ];
        output.extend(added);
        Ok(RecordBatch::try_new(self.schema(), output)?)
    }
}

impl DisplayAs for FuseExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let Fusion { rrf_k, weight, .. } = &self.fusion;
        write!(f, "FuseExec: k={}, rrf_k={}, weight={}", self.k, f64::from_bits(*rrf_k), f64::from_bits(*weight))
    }
}

impl ExecutionPlan for FuseExec {
    fn name(&self) -> &str {
        "FuseExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition; 2])
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
        match <[_; 2]>::try_from(children) {
            Ok(inputs) => Ok(Arc::new(Self { inputs, ..Self::clone(&self) })),
            Err(children) => internal_err!("FuseExec has two children, got {}", children.len()),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let exec = self.clone();
        let fused = async move {
            let [vectors, text] = exec.inputs.clone();
            let collect = |plan: Arc<dyn ExecutionPlan>| {
                let context = Arc::clone(&context);
                async move {
                    let schema = plan.schema();
                    let batches: Vec<RecordBatch> = execute_stream(plan, context)?.try_collect().await?;
                    Ok::<_, datafusion::error::DataFusionError>(concat_batches(&schema, &batches)?)
                }
            };
            let (vectors, text) = future::try_join(collect(vectors), collect(text)).await?;
            exec.fuse(&vectors, &text)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::once(fused))))
    }
}
