//! Plans the SQL statement of a streaming query.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::common::{Result as PlanResult, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::parser::Statement as ParsedStatement;
use datafusion::sql::sqlparser::ast::{Insert, Query, SetExpr, Statement, TableFactor, TableObject};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use vexact_core::error::{Error, Result};
use vexact_sql::deep;
use vexact_sql::dialect::statement_dialect;

use super::analysis::stream_of;
use super::clause::extract;
use super::table::{Stream, StreamQuery, StreamRelation};
use super::window::{WindowBy, WindowClause};

/// Optimizer rule that splits an aggregate with DISTINCT into two, although its state could be
/// kept.
const SPLITS_DISTINCT: &str = "single_distinct_aggregation_to_group_by";

/// A planned statement.
pub(super) struct Planned {
    /// Target of INSERT: its name, and its columns in the order of the query's columns.
    pub insert: Option<(TableReference, Vec<String>)>,
    pub query: StreamQuery,
}

/// Returns a session state with settings for plans that run on one micro-batch after another.
pub(super) fn stream_state(state: SessionState) -> SessionState {
    let rules = state.optimizers().iter().filter(|rule| rule.name() != SPLITS_DISTINCT).cloned().collect();
    let mut state = SessionStateBuilder::new_from_existing(state).with_optimizer_rules(rules).build();
    let options = state.config_mut().options_mut();
    // Rows stay in their partition, and so in their order; the tables of joins are kept completely.
    options.optimizer.enable_round_robin_repartition = false;
    options.optimizer.repartition_aggregations = false;
    options.optimizer.repartition_joins = false;
    options.optimizer.repartition_sorts = false;
    options.optimizer.repartition_windows = false;
    options.optimizer.prefer_hash_join = true;
    options.optimizer.hash_join_single_partition_threshold = usize::MAX;
    options.optimizer.hash_join_single_partition_threshold_rows = usize::MAX;
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    // Dynamic filters that an operator derives from one micro-batch are wrong for the next.
    options.optimizer.enable_dynamic_filter_pushdown = false;
    options.optimizer.enable_join_dynamic_filter_pushdown = false;
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    options.optimizer.enable_topk_aggregation = false;
    options.optimizer.enable_distinct_aggregation_soft_limit = false;
    state
}

/// Plans a SELECT over a stream, or an INSERT of one.
///
/// # Errors
/// SQL that cannot be planned; a query of no stream, or of several.
pub(super) async fn plan(state: SessionState, sql: &str) -> Result<Planned> {
    let Parsed { insert, query, clause } = parse(&state, sql)?;
    let mut state = stream_state(state);
    let window = clause.is_some();
    if let Some(clause) = clause {
        let planner = Windows::try_new(clause, &query, state.clone())?;
        state.register_relation_planner(Arc::new(planner))?;
    }
    let statement = ParsedStatement::Statement(Box::new(Statement::Query(query)));
    let plan = state.statement_to_plan(statement).await?;
    deep::check_plan(&plan)?;
    let input = stream_of(&plan)?;
    if window && input.window.is_none() {
        return Err(Error::InvalidArgument("WINDOW BY: expected a stream in FROM of the outer SELECT".into()));
    }
    Ok(Planned { insert, query: StreamQuery { input: Box::new(input), plan: plan.into(), state } })
}

/// The name of a sink, and the columns that an INSERT names.
type Named = (TableReference, Vec<String>);

/// A statement, and its window clause.
struct Parsed {
    insert: Option<Named>,
    query: Box<Query>,
    clause: Option<WindowClause>,
}

fn parse(state: &SessionState, sql: &str) -> Result<Parsed> {
    // No text has more tokens than bytes.
    let dialect = statement_dialect(state.config_options().sql_parser.dialect, sql.len())?;
    let (tokens, clause) = extract(sql, dialect.as_ref())?;
    deep::check(&tokens).map_err(|problem| Error::InvalidArgument(format!("SQL error: {problem}")))?;
    let syntax = |error| Error::InvalidArgument(format!("SQL error: {error}"));
    let mut parser = Parser::new(dialect.as_ref()).with_tokens_with_locations(tokens);
    let mut statement = parser.parse_statement().map_err(syntax)?;
    deep::balance(&mut statement);
    while parser.consume_token(&Token::SemiColon) {}
    let rest = parser.peek_token().token;
    if rest != Token::EOF {
        return Err(Error::InvalidArgument(format!("expected one statement, got more of it at {rest}")));
    }
    let (insert, query) = match statement {
        Statement::Query(query) => (None, query),
        Statement::Insert(insert) => {
            let (target, query) = target(insert)?;
            (Some(target), query)
        }
        other => {
            let text = other.to_string();
            let verb = text.split_whitespace().next().unwrap_or_default();
            let problem = format!("expected SELECT or INSERT INTO sink SELECT, got {verb}");
            return Err(Error::InvalidArgument(problem));
        }
    };
    Ok(Parsed { insert, query, clause })
}

/// Returns the target of an INSERT, and the query that it writes.
fn target(insert: Insert) -> Result<(Named, Box<Query>)> {
    let refused =
        |got: &str| Error::InvalidArgument(format!("expected INSERT INTO sink [(columns)] SELECT ..., got {got}"));
    let TableObject::TableName(name) = &insert.table else { return Err(refused("no name of a table")) };
    if insert.overwrite || insert.on.is_some() || insert.returning.is_some() || insert.replace_into {
        return Err(refused("another form of INSERT"));
    }
    let own = |part: &datafusion::sql::sqlparser::ast::Ident| match part.quote_style {
        Some(_) => part.value.clone(),
        None => part.value.to_lowercase(),
    };
    let parts = |name: &datafusion::sql::sqlparser::ast::ObjectName| {
        name.0.iter().filter_map(|part| part.as_ident().map(own)).collect::<Vec<_>>()
    };
    let name = match parts(name).as_slice() {
        [table] => TableReference::bare(table.clone()),
        [schema, table] => TableReference::partial(schema.clone(), table.clone()),
        [catalog, schema, table] => TableReference::full(catalog.clone(), schema.clone(), table.clone()),
        _ => return Err(refused("no name of a table")),
    };
    let columns = insert.columns.iter().filter_map(|column| parts(column).pop()).collect();
    let Some(query) = insert.source else { return Err(refused("no SELECT")) };
    Ok(((name, columns), query))
}

/// Adds the window column to the stream in FROM.
#[derive(Debug)]
struct Windows {
    clause: WindowClause,
    /// Relations in FROM of the outer SELECT.
    relations: Vec<TableFactor>,
    state: SessionState,
    is_busy: AtomicBool,
}

impl Windows {
    fn try_new(clause: WindowClause, query: &Query, state: SessionState) -> Result<Self> {
        let SetExpr::Select(select) = query.body.as_ref() else {
            return Err(Error::InvalidArgument("WINDOW BY: expected one SELECT, got several or none".into()));
        };
        let relations = select.from.iter().flat_map(|from| {
            std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)).cloned()
        });
        Ok(Self { clause, relations: relations.collect(), state, is_busy: AtomicBool::new(false) })
    }

    /// Returns the plan of a relation with its windows, if it is a stream.
    fn windowed(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let Ok(input) = stream_of(&plan) else { return Ok(plan) };
        let (name, inner) = match &plan {
            LogicalPlan::SubqueryAlias(alias) => (alias.alias.clone(), alias.input.as_ref()),
            LogicalPlan::TableScan(scan) => (scan.table_name.clone(), &plan),
            _ => (TableReference::bare("stream"), &plan),
        };
        if let [qualifier, _] = self.clause.time.as_slice()
            && qualifier != name.table()
        {
            let problem = format!("WINDOW BY: expected a column of {}, got one of {qualifier}", name.table());
            return Err(Error::InvalidArgument(problem));
        }
        let relation = match inner {
            LogicalPlan::TableScan(_) => input,
            _ => StreamRelation::new(Stream::Query(Arc::new(StreamQuery {
                input: Box::new(input),
                plan: inner.clone().into(),
                state: self.state.clone(),
            }))),
        };
        let schema = datafusion::catalog::TableProvider::schema(&relation);
        let windowed = relation.windowed(WindowBy::try_new(&self.clause, &schema)?);
        Ok(LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(windowed)), None)?.build()?)
    }
}

impl RelationPlanner for Windows {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        // The planner also calls this for the relations within this one.
        if !self.relations.contains(&relation) || self.is_busy.swap(true, Ordering::Relaxed) {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        let planned = context.plan(relation);
        self.is_busy.store(false, Ordering::Relaxed);
        let windowed = self.windowed(planned?).map_err(|error| match error {
            Error::Query(error) => error,
            other => datafusion::common::plan_datafusion_err!("{other}"),
        })?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(windowed, None))))
    }
}

/// Returns true if a query uses its window only to group by it: then the result for a row is the
/// same in all its windows.
pub(super) fn groups_by_window_only(plan: &LogicalPlan, window: &str) -> bool {
    let mentions = |expr: &Expr| expr.column_refs().iter().any(|column| column.name == window);
    let is_bare = |expr: &Expr| match expr {
        Expr::Column(_) => true,
        Expr::Alias(alias) => alias.name == window && matches!(alias.expr.as_ref(), Expr::Column(_)),
        _ => false,
    };
    fn below<'a>(plan: &'a LogicalPlan, nodes: &mut Vec<&'a LogicalPlan>) {
        nodes.push(plan);
        plan.inputs().into_iter().for_each(|input| below(input, nodes));
    }
    // Finds the lowest aggregate and the nodes below it.
    let mut nodes = Vec::new();
    below(plan, &mut nodes);
    let Some(LogicalPlan::Aggregate(aggregate)) =
        nodes.iter().rev().find(|node| matches!(node, LogicalPlan::Aggregate(_)) && stream_of(node).is_ok())
    else {
        return false;
    };
    let mut inner = Vec::new();
    below(&aggregate.input, &mut inner);
    let is_passed_on = |node: &&LogicalPlan| match node {
        LogicalPlan::Projection(projection) => projection.expr.iter().all(|expr| !mentions(expr) || is_bare(expr)),
        LogicalPlan::TableScan(_) | LogicalPlan::SubqueryAlias(_) => true,
        other => !other.expressions().iter().any(mentions),
    };
    let by_window = |expr: &&Expr| matches!(expr, Expr::Column(column) if column.name == window);
    aggregate.group_expr.iter().filter(by_window).count() == 1
        && aggregate.group_expr.iter().all(|expr| by_window(&expr) || !mentions(expr))
        && !aggregate.aggr_expr.iter().any(mentions)
        && inner.iter().all(is_passed_on)
}
