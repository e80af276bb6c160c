//! `TextMatches`: the logical operator of a text search, and its physical plan.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DFSchemaRef, Result, ScalarValue, internal_err, plan_err};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use vexact_replica::ReplicaTable;
use vexact_sql::{needed_of_input, with_added_columns};

use super::exec::{TextMatchesExec, TextRows};
use super::index::TextCache;
use super::{NAME, RANK, SCORE, TextRequest};

/// The columns of the input, `text_score` and `text_rank`: the rows whose text matches, best first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TextMatches {
    /// A scan of the searched table.
    input: LogicalPlan,
    /// Table and column, as the user named them, and the syntax of the words.
    request: TextRequest,
    /// Column of the input.
    text: Expr,
    words: Expr,
    k: Expr,
    /// Predicate on the input.
    filter: Expr,
    schema: DFSchemaRef,
}

/// Parameters of the operator besides its input.
pub(super) struct Search {
    pub request: TextRequest,
    pub text: Expr,
    pub words: Expr,
    /// NULL for all matches.
    pub k: Expr,
    pub filter: Option<Expr>,
}

impl TextMatches {
    /// Returns the operator as a plan.
    ///
    /// # Errors
    /// A column of the input that has the name of an added one.
    pub fn plan(input: LogicalPlan, search: Search) -> Result<LogicalPlan> {
        let Search { request, text, words, k, filter } = search;
        let node = Self::try_new(input, request, [text, words, k, filter.unwrap_or_else(|| lit(true))])?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    fn try_new(input: LogicalPlan, request: TextRequest, [text, words, k, filter]: [Expr; 4]) -> Result<Self> {
        let added = vec![Field::new(SCORE, DataType::Float64, false), Field::new(RANK, DataType::Int64, false)];
        let schema = with_added_columns(input.schema(), added)?;
        Ok(Self { input, request, text, words, k, filter, schema })
    }
}

/// Two operators have no order but that of equality.
impl PartialOrd for TextMatches {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for TextMatches {
    fn name(&self) -> &str {
        "TextMatches"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.text.clone(), self.words.clone(), self.k.clone(), self.filter.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { request, text, words, k, filter, .. } = self;
        write!(f, "TextMatches: column={text}, words={words}, syntax={}, k={k}, filter={filter}", request.syntax)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (<[_; 4]>::try_from(exprs), inputs.pop()) {
            (Ok(exprs), Some(input)) => Self::try_new(input, self.request.clone(), exprs),
            _ => internal_err!("TextMatches has four expressions and one input"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let own = self.text.column_refs().into_iter().chain(self.filter.column_refs());
        Some(vec![needed_of_input(self.input.schema(), output_columns, own)?])
    }
}

/// Plans [`TextMatches`].
pub(super) struct TextPlanner;

#[async_trait]
impl ExtensionPlanner for TextPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<TextMatches>() else { return Ok(None) };
        let [input] = physical_inputs else { return internal_err!("TextMatches has one input") };
        let words = words_of(&node.words)?;
        let k = k_of(&node.k)?;
        let query = node.request.syntax.query(&words);
        let schema = node.input.schema();
        let predicate = match &node.filter {
            Expr::Literal(ScalarValue::Boolean(Some(true)), _) => None,
            filter => Some(planner.create_physical_expr(filter, schema, session, context)?),
        };
        let rows = match replica_of(&node.input)? {
            Some((replica, columns)) => {
                let (snapshot, version) = replica.seen_at(session.config())?;
                let columns = columns.unwrap_or_else(|| (0..version.schema().fields().len()).collect());
                TextRows::Replica { snapshot, version, columns }
            }
            None => {
                let Some(cache) = session.config().get_extension::<TextCache>() else {
                    return internal_err!("{NAME} needs a session of vexact");
                };
                let Some(text) = node.text.try_as_col().and_then(|text| schema.maybe_index_of_column(text)) else {
                    return internal_err!("expected a column, got {}", node.text);
                };
                TextRows::Input { input: Arc::clone(input), text, cache }
            }
        };
        let schema = Arc::clone(node.schema.inner());
        let request = node.request.clone();
        Ok(Some(Arc::new(TextMatchesExec::new(rows, request, query, k, predicate, schema))))
    }
}

/// Returns an argument without the name that a bound parameter keeps.
pub(super) fn argument(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => argument(&alias.expr),
        expr => expr,
    }
}

fn words_of(words: &Expr) -> Result<String> {
    match argument(words) {
        Expr::Literal(value, _) if let Some(Some(words)) = value.try_as_str() => Ok(words.to_owned()),
        Expr::Placeholder(parameter) => plan_err!("{NAME}: words: expected a value for {}, got none", parameter.id),
        other => plan_err!("{NAME}: words: expected text, got {other}"),
    }
}

fn k_of(k: &Expr) -> Result<Option<usize>> {
    match argument(k) {
        Expr::Literal(value, _) if value.is_null() => Ok(None),
        Expr::Literal(value, _) => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(k))) if k >= 1 && value.data_type().is_integer() => Ok(Some(k as usize)),
            _ => plan_err!("{NAME}: k: expected a whole number of at least 1 or NULL, got {value}"),
        },
        Expr::Placeholder(parameter) => plan_err!("{NAME}: k: expected a value for {}, got none", parameter.id),
        other => plan_err!("{NAME}: k: expected a whole number of at least 1 or NULL, got {other}"),
    }
}

/// A replica, and the columns that are read; `None` for all.
type ScannedReplica = (Arc<ReplicaTable>, Option<Vec<usize>>);

/// Returns the replica that a plan scans; `None` if it reads something else.
fn replica_of(plan: &LogicalPlan) -> Result<Option<ScannedReplica>> {
    let LogicalPlan::TableScan(scan) = plan else { return Ok(None) };
    let provider = source_as_provider(&scan.source)?;
    let Some(replica) = provider.downcast_ref::<ReplicaTable>() else { return Ok(None) };
    Ok(Some((Arc::new(replica.clone()), scan.projection.clone())))
}
