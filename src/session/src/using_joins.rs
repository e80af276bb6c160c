//! The columns that joins with USING and NATURAL joins merge.
//!
//! DataFusion takes the left side's column for the merged one, which is NULL in the rows of RIGHT
//! and FULL joins that have no left side (apache/datafusion#22881), and loses it in `SELECT *` of
//! several such joins. In WHERE and HAVING it calls the merged column ambiguous. So each such join
//! becomes one with ON, and each merged column the expression that SQL defines: the side that has
//! the row, or `coalesce` of both.

mod scope;

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::common::{Result, plan_err};
use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement as ParsedStatement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Cte, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    JoinConstraint, JoinOperator, ObjectName, OrderByKind, Query, Select, SelectItem, SetExpr, Statement, TableFactor,
    TableWithJoins, VisitMut, VisitorMut, WildcardAdditionalOptions, With, visit_expressions,
};

use scope::{Scope, spelled};

/// The columns of tables, by the query that has them all.
type Columns = HashMap<String, Vec<String>>;

/// Replaces such joins. A statement without them is unchanged.
///
/// # Errors
/// A merged column that no table or several tables have.
pub(super) async fn resolved(state: &SessionState, mut statement: ParsedStatement) -> Result<ParsedStatement> {
    let inner = match &mut statement {
        ParsedStatement::Statement(inner) => inner,
        ParsedStatement::Explain(explain) => match explain.statement.as_mut() {
            ParsedStatement::Statement(inner) => inner,
            _ => return Ok(statement),
        },
        _ => return Ok(statement),
    };
    if inner.visit(&mut Look).is_continue() {
        return Ok(statement);
    }
    let mut found = Visitor { task: Task::Find(HashMap::new()), ctes: vec![] };
    if let ControlFlow::Break(error) = inner.visit(&mut found) {
        return Err(*error);
    }
    let Task::Find(queries) = found.task else { return Ok(statement) };
    let mut columns = Columns::new();
    for (text, query) in queries {
        let plan = state.statement_to_plan(ParsedStatement::Statement(Box::new(Statement::Query(query)))).await?;
        let names = plan.schema().fields().iter().map(|field| field.name().clone());
        columns.insert(text, names.collect());
    }
    let mut replaced = Visitor { task: Task::Replace(columns), ctes: vec![] };
    match inner.visit(&mut replaced) {
        ControlFlow::Continue(()) => Ok(statement),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Looks for such joins.
struct Look;

impl VisitorMut for Look {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if has_merged_in(&query.body) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn has_merged_in(set: &SetExpr) -> bool {
    match set {
        SetExpr::Select(select) => has_merged_column(select),
        SetExpr::SetOperation { left, right, .. } => has_merged_in(left) || has_merged_in(right),
        _ => false,
    }
}

enum Task {
    /// Collects the queries of the tables whose columns are needed.
    Find(HashMap<String, Box<Query>>),
    /// Replaces the joins.
    Replace(Columns),
}

struct Visitor {
    task: Task,
    /// Named queries of the open queries, outermost first.
    ctes: Vec<Option<With>>,
}

impl VisitorMut for Visitor {
    type Break = Box<datafusion::error::DataFusionError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        self.ctes.push(query.with.clone());
        let (body, order) = (query.body.as_mut(), &mut query.order_by);
        let mut order: Vec<&mut Expr> = match order.as_mut().map(|order| &mut order.kind) {
            Some(OrderByKind::Expressions(keys)) => keys.iter_mut().map(|key| &mut key.expr).collect(),
            _ => vec![],
        };
        match self.set(body, &mut order) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.ctes.pop();
        ControlFlow::Continue(())
    }
}

impl Visitor {
    fn set(&mut self, set: &mut SetExpr, order: &mut [&mut Expr]) -> Result<()> {
        match set {
            SetExpr::Select(select) if has_merged_column(select) => self.select(select, order),
            SetExpr::SetOperation { left, right, .. } => {
                self.set(left, &mut [])?;
                self.set(right, &mut [])
            }
            _ => Ok(()),
        }
    }

    fn select(&mut self, select: &mut Select, order: &mut [&mut Expr]) -> Result<()> {
        let (ctes, task) = (&self.ctes, &mut self.task);
        let columns = match task {
            Task::Find(queries) => {
                for factor in select.from.iter().flat_map(factors) {
                    let query = query_of(factor, ctes)?;
                    queries.insert(query.to_string(), query);
                }
                return Ok(());
            }
            Task::Replace(columns) => columns,
        };
        let mut scope = Scope::default();
        for from in &mut select.from {
            let from = joined(from, &mut |factor: &TableFactor| {
                let query = query_of(factor, ctes)?;
                Ok(columns.get(&query.to_string()).cloned().unwrap_or_default())
            })?;
            scope.columns.extend(from.columns);
            scope.merged.extend(from.merged);
        }
        scope.replace_in(select, order)
    }
}

/// Returns true for a query with a merged column that DataFusion gets wrong.
fn has_merged_column(select: &Select) -> bool {
    select.from.iter().any(has_merged) || is_in_condition(select)
}

/// Returns true if a condition has a name that may be that of a merged column. Queries with tables
/// that have no name are left to DataFusion, as are those with options of `*`.
fn is_in_condition(select: &Select) -> bool {
    let joins = || select.from.iter().flat_map(|from| &from.joins);
    let mut names = vec![];
    let mut is_natural = false;
    for join in joins() {
        match constraint(&join.join_operator) {
            Some(JoinConstraint::Using(using)) => names.extend(using.iter().filter_map(|name| using_name(name).ok())),
            Some(JoinConstraint::Natural) => is_natural = true,
            _ => {}
        }
    }
    let is_planned = |item: &SelectItem| match item {
        SelectItem::Wildcard(options) => *options == WildcardAdditionalOptions::default(),
        _ => true,
    };
    let is_merged = |expr: &Expr| match expr {
        Expr::Identifier(name) if is_natural || names.contains(&spelled(name)) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let conditions = [&select.selection, &select.having, &select.qualify];
    (is_natural || !names.is_empty())
        && select.projection.iter().all(is_planned)
        && select.from.iter().flat_map(factors).all(|factor| qualifier(factor).is_some())
        && conditions.into_iter().flatten().any(|condition| visit_expressions(condition, is_merged).is_break())
}

/// Returns true for joins whose merged columns DataFusion gets wrong.
fn has_merged(from: &TableWithJoins) -> bool {
    use JoinOperator::{FullOuter, Right, RightOuter};

    let merging = from.joins.iter().filter(|join| {
        matches!(constraint(&join.join_operator), Some(JoinConstraint::Using(_) | JoinConstraint::Natural))
    });
    let is_outer = |operator: &JoinOperator| matches!(operator, Right(_) | RightOuter(_) | FullOuter(_));
    let nested = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => has_merged(table_with_joins),
        _ => false,
    };
    merging.clone().count() > 1
        || merging.clone().any(|join| is_outer(&join.join_operator))
        || nested(&from.relation)
        || from.joins.iter().any(|join| nested(&join.relation))
}

/// Returns the tables of joins, without those of a nested join that has no name of its own.
fn factors(from: &TableWithJoins) -> Vec<&TableFactor> {
    let relations = std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation));
    relations
        .flat_map(|factor| match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => factors(table_with_joins),
            other => vec![other],
        })
        .collect()
}

/// Returns the query of all columns of a table.
fn query_of(factor: &TableFactor, ctes: &[Option<With>]) -> Result<Box<Query>> {
    let parsed = vexact_sql::dialect::parse_statement("SELECT * FROM t", &Default::default())?;
    let ParsedStatement::Statement(statement) = parsed else { return plan_err!("expected a query") };
    let Statement::Query(mut query) = *statement else { return plan_err!("expected a query") };
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.from[0].relation = factor.clone();
    }
    let mut with: Option<With> = None;
    for outer in ctes.iter().flatten() {
        match &mut with {
            None => with = Some(outer.clone()),
            Some(with) => {
                with.recursive |= outer.recursive;
                let is_inner = |cte: &Cte| outer.cte_tables.iter().any(|inner| inner.alias.name == cte.alias.name);
                with.cte_tables.retain(|cte| !is_inner(cte));
                with.cte_tables.extend(outer.cte_tables.iter().cloned());
            }
        }
    }
    query.with = with;
    Ok(query)
}

/// Replaces the constraints of joins, and returns their columns.
fn joined(from: &mut TableWithJoins, columns: &mut impl FnMut(&TableFactor) -> Result<Vec<String>>) -> Result<Scope> {
    use JoinOperator::{Anti, LeftAnti, LeftSemi, RightAnti, RightSemi, Semi};

    let mut left = table(&mut from.relation, columns)?;
    for join in &mut from.joins {
        let right = table(&mut join.relation, columns)?;
        let operator = &mut join.join_operator;
        let names: Vec<String> = match constraint(operator) {
            Some(JoinConstraint::Using(names)) => names.iter().map(using_name).collect::<Result<_>>()?,
            Some(JoinConstraint::Natural) => {
                let is_common = |name: &String| right.columns.iter().any(|(other, _)| other == name);
                left.columns.iter().map(|(name, _)| name.clone()).filter(is_common).collect()
            }
            _ => vec![],
        };
        let mut condition: Option<Expr> = None;
        for name in &names {
            let (one, other) = (left.column(name)?, right.column(name)?);
            let merged = match operator {
                JoinOperator::Right(_) | JoinOperator::RightOuter(_) => other.clone(),
                JoinOperator::FullOuter(_) => coalesce(one.clone(), other.clone()),
                _ => one.clone(),
            };
            let equal = binary(one, BinaryOperator::Eq, other);
            condition = Some(match condition.take() {
                None => equal,
                Some(before) => binary(before, BinaryOperator::And, equal),
            });
            left.columns.iter_mut().filter(|(column, _)| column == name).for_each(|(_, value)| *value = merged.clone());
        }
        if let (Some(condition), Some(constraint)) = (condition, constraint_mut(operator)) {
            *constraint = JoinConstraint::On(condition);
        }
        match operator {
            Semi(_) | LeftSemi(_) | Anti(_) | LeftAnti(_) => {}
            RightSemi(_) | RightAnti(_) => left = right,
            _ => {
                left.columns.extend(right.columns.into_iter().filter(|(column, _)| !names.contains(column)));
                left.merged.extend(right.merged);
                left.merged.extend(names);
            }
        }
    }
    Ok(left)
}

fn table(factor: &mut TableFactor, columns: &mut impl FnMut(&TableFactor) -> Result<Vec<String>>) -> Result<Scope> {
    if let TableFactor::NestedJoin { table_with_joins, alias: None } = factor {
        return joined(table_with_joins, columns);
    }
    let Some(qualifier) = qualifier(factor) else {
        return plan_err!("{factor}: expected an alias, as it is joined with USING");
    };
    let column = |name: String| {
        let value = Expr::CompoundIdentifier(vec![qualifier.clone(), Ident::with_quote('"', name.as_str())]);
        (name, value)
    };
    Ok(Scope { columns: columns(&*factor)?.into_iter().map(column).collect(), merged: vec![] })
}

/// Returns the name of a table in a query.
fn qualifier(factor: &TableFactor) -> Option<Ident> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::TableFunction { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. }
        | TableFactor::NestedJoin { alias: Some(alias), .. } => Some(alias.name.clone()),
        TableFactor::Table { name, args: None, .. } => name.0.last()?.as_ident().cloned(),
        _ => None,
    }
}

fn using_name(name: &ObjectName) -> Result<String> {
    match name.0.last().and_then(|part| part.as_ident()) {
        Some(name) => Ok(spelled(name)),
        None => plan_err!("USING ({name}): expected the name of a column"),
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn coalesce(one: Expr, other: Expr) -> Expr {
    let args = [one, other].map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).into();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("coalesce")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    use JoinOperator::{
        Anti, CrossJoin, FullOuter, Inner, Join, Left, LeftAnti, LeftOuter, LeftSemi, Right, RightAnti, RightOuter,
        RightSemi, Semi,
    };

    match operator {
        Join(on) | Inner(on) | Left(on) | LeftOuter(on) | Right(on) | RightOuter(on) | FullOuter(on)
        | CrossJoin(on) | Semi(on) | LeftSemi(on) | RightSemi(on) | Anti(on) | LeftAnti(on) | RightAnti(on) => Some(on),
        _ => None,
    }
}

fn constraint_mut(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    use JoinOperator::{
        Anti, CrossJoin, FullOuter, Inner, Join, Left, LeftAnti, LeftOuter, LeftSemi, Right, RightAnti, RightOuter,
        RightSemi, Semi,
    };

    match operator {
        Join(on) | Inner(on) | Left(on) | LeftOuter(on) | Right(on) | RightOuter(on) | FullOuter(on)
        | CrossJoin(on) | Semi(on) | LeftSemi(on) | RightSemi(on) | Anti(on) | LeftAnti(on) | RightAnti(on) => Some(on),
        _ => None,
    }
}
