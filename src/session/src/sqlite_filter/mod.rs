//! Filters of searches of replicas: what DataFusion cannot plan, SQLite evaluates on the values of
//! the replica's version.
//!
//! A filter is a conjunction; each part of it is planned by DataFusion, which prunes with it, or
//! otherwise by SQLite: JSON functions, GLOB, the app's own functions. So a search with such a filter
//! is at the same version as any other, also if the replica lags or follows PostgreSQL.

mod evaluator;
mod predicate;
mod text_match;

use std::sync::Arc;

use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, ScalarUDF};
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr as SqlExpr, ExprWithAlias};
use rusqlite::Connection;
use vexact_replica::ReplicaTable;
use vexact_sql::deep::{balance, on_stack, parse_expr, stack_of_text};
use vexact_sql::dialect::parse_expression;
use vexact_sql::{FilterPlanner, Table};

use crate::Session;
use evaluator::Evaluator;

/// Adds the planner of filters to the configuration of a session over replicas.
pub(crate) fn configure(config: &mut SessionConfig) {
    let evaluator = Arc::new(Evaluator::default());
    config.set_extension(Arc::clone(&evaluator));
    let plan = move |state: &SessionState, table: &Table, text: &str| plan(&evaluator, state, table, text);
    config.set_extension(Arc::new(FilterPlanner(Box::new(plan))));
}

/// Returns the function that a filter can call to select rows by their text.
pub(crate) fn text_match() -> ScalarUDF {
    ScalarUDF::from(text_match::TextMatch::new())
}

impl Session {
    /// Sets the source of the SQL functions of an app, which filters of searches of replicas can
    /// call: it installs on a connection those that were added after the first ones, and returns the
    /// number of all. It can be set only once.
    pub fn set_sqlite_functions(
        &self,
        install: impl Fn(&Connection, usize) -> vexact_core::Result<usize> + Send + Sync + 'static,
    ) {
        if let Some(evaluator) = self.ctx.state_ref().read().config().get_extension::<Evaluator>() {
            evaluator.set_functions(Box::new(install));
        }
    }
}

fn plan(evaluator: &Arc<Evaluator>, state: &SessionState, table: &Table, text: &str) -> Result<Expr> {
    let schema = table.df_schema()?;
    let planned = parse_expr(state, text, &schema);
    if !table.provider.is::<ReplicaTable>() {
        return planned;
    }
    let error = match planned {
        Ok(filter) if is_executable(&filter, &schema) => return text_match::resolve(state, table, filter),
        // Its error is reported later if SQLite cannot evaluate the filter either.
        Ok(filter) => Ok(filter),
        Err(error) => Err(error),
    };
    let parts = on_stack(stack_of_text(text), || in_parts(evaluator, state, table, text, &schema));
    match parts {
        Some(filter) => text_match::resolve(state, table, filter),
        None => error,
    }
}

/// Returns true if DataFusion can execute a planned predicate: it parses SQLite's operators on JSON,
/// but has no implementation of them.
fn is_executable(filter: &Expr, schema: &DFSchema) -> bool {
    let is_of_json = |expr: &Expr| {
        let is_arrow = |op: &Operator| matches!(op, Operator::Arrow | Operator::LongArrow);
        Ok(matches!(expr, Expr::BinaryExpr(BinaryExpr { op, .. }) if is_arrow(op)))
    };
    filter.get_type(schema).is_ok() && !filter.exists(is_of_json).unwrap_or(false)
}

/// Plans the parts of a conjunction, each on its side; `None` if a part is planned by neither.
fn in_parts(
    evaluator: &Arc<Evaluator>,
    state: &SessionState,
    table: &Table,
    text: &str,
    schema: &DFSchema,
) -> Option<Expr> {
    let Ok(parsed) = parse_expression(text, &state.config_options().sql_parser) else {
        return predicate::predicate(evaluator, table, text);
    };
    let mut parts = Vec::new();
    conjuncts(parsed.expr, &mut parts);
    let (mut by_datafusion, mut by_sqlite) = (Vec::new(), Vec::new());
    for mut part in parts {
        let text = part.to_string();
        balance(&mut part);
        match state.create_logical_expr_from_sql_expr(ExprWithAlias { expr: part, alias: None }, schema) {
            Ok(planned) if is_executable(&planned, schema) => by_datafusion.push(planned),
            _ => by_sqlite.push(predicate::predicate(evaluator, table, &text)?),
        }
    }
    // SQLite sees the rows that are left.
    by_datafusion.into_iter().chain(by_sqlite).reduce(Expr::and)
}

fn conjuncts(expr: SqlExpr, parts: &mut Vec<SqlExpr>) {
    match expr {
        SqlExpr::Nested(inner) => conjuncts(*inner, parts),
        SqlExpr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(*left, parts);
            conjuncts(*right, parts);
        }
        part => parts.push(part),
    }
}
