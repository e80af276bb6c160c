//! `BestOfEachGroup`: the logical operator of `vector_search(..., group_by => column)`, and its
//! physical plan.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DFSchemaRef, Result, internal_err, plan_err};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use vexact_kernel::Metric;

use super::added_columns::{needed_of_input, with_added_columns};
use crate::exec::{Scoring, TopK, VectorTopKExec, check_group_type};
use crate::functions::k_argument;
use crate::rewrite::{below_filters, with_score_bounds};

/// The columns of the input and `score`: of each group of rows the k best, best first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct BestOfEachGroup {
    input: LogicalPlan,
    metric: Metric,
    /// Columns of the input.
    vector: Expr,
    group: Expr,
    query: Expr,
    k: Expr,
    score: &'static str,
    schema: DFSchemaRef,
}

/// The operator over `input`, whose columns are the vectors and the groups.
///
/// # Errors
/// A column `score` of the input.
pub fn best_of_each_group(
    input: LogicalPlan,
    metric: Metric,
    (vector, group): (Expr, Expr),
    (query, k): (Expr, Expr),
    score: &'static str,
) -> Result<LogicalPlan> {
    let best = BestOfEachGroup::try_new(input, metric, (vector, group), (query, k), score)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(best) }))
}

impl BestOfEachGroup {
    fn try_new(
        input: LogicalPlan,
        metric: Metric,
        (vector, group): (Expr, Expr),
        (query, k): (Expr, Expr),
        score: &'static str,
    ) -> Result<Self> {
        let schema = with_added_columns(input.schema(), vec![Field::new(score, DataType::Float64, true)])?;
        Ok(Self { input, metric, vector, group, query, k, score, schema })
    }
}

/// Two operators have no order but that of equality.
impl PartialOrd for BestOfEachGroup {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for BestOfEachGroup {
    fn name(&self) -> &str {
        "BestOfEachGroup"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.vector.clone(), self.group.clone(), self.query.clone(), self.k.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { metric, vector, group, query, k, .. } = self;
        write!(f, "BestOfEachGroup: metric={metric}, column={vector}, query={query}, k={k}, group_by={group}")
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (<[_; 4]>::try_from(exprs), inputs.pop()) {
            (Ok([vector, group, query, k]), Some(input)) => {
                Self::try_new(input, self.metric, (vector, group), (query, k), self.score)
            }
            _ => internal_err!("BestOfEachGroup has four expressions and one input"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let own = [self.vector.try_as_col()?, self.group.try_as_col()?];
        Some(vec![needed_of_input(self.input.schema(), output_columns, own)?])
    }
}

/// Plans [`BestOfEachGroup`].
pub(crate) struct GroupPlanner;

#[async_trait]
impl ExtensionPlanner for GroupPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<BestOfEachGroup>() else { return Ok(None) };
        let [input] = physical_inputs else { return internal_err!("BestOfEachGroup has one input") };
        let k = match &node.k {
            Expr::Literal(value, _) => k_argument("vector_search", value)?,
            other => return plan_err!("vector_search: k: expected a whole number of at least 1, got {other}"),
        };
        let logical = node.input.schema();
        let ordinal = |expr: &Expr| match expr.try_as_col() {
            Some(column) => logical.index_of_column(column),
            None => internal_err!("expected a column, got {expr}"),
        };
        let query = planner.create_physical_expr(&node.query, &DFSchema::empty(), session, context)?;
        let (vector, group) = (ordinal(&node.vector)?, ordinal(&node.group)?);
        let field = logical.field(group);
        check_group_type(field.name(), field.data_type())?;
        let mut found = below_filters(input, vector, group)?;
        let value = found.columns.len();
        let schema = Arc::clone(node.schema.inner());
        found.output.push(ProjectionExpr { expr: Arc::new(Column::new("value", value)), alias: node.score.into() });
        let top_k = TopK {
            predicate: found.predicate,
            bounds: None,
            vector: found.vector,
            query,
            scoring: Scoring::Search(node.metric),
            negative_nans_first: false,
            nulls_first: false,
            k,
            group_by: Some(found.group),
            columns: found.columns,
            output: found.output,
        };
        let top_k = with_score_bounds(top_k, &found.input.schema())?;
        let best_first = best_first(&schema, node.metric);
        Ok(Some(Arc::new(VectorTopKExec::try_new(found.input, top_k, schema, best_first)?)))
    }
}

/// The order by the last column, the score.
fn best_first(schema: &Schema, metric: Metric) -> Option<LexOrdering> {
    let score = schema.fields().len() - 1;
    let column = Arc::new(Column::new(schema.field(score).name(), score));
    let options = SortOptions { descending: metric.is_larger_closer(), nulls_first: false };
    LexOrdering::new([PhysicalSortExpr { expr: column, options }])
}
