//! Stages of a query in a session: parse it, plan it or take the cached plan, and run statements
//! that have effects.

use std::sync::Arc;
use std::time::Duration;

use datafusion::common::{DataFusionError, ParamValues};
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as ParsedStatement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use vexact_core::entry::entry;
use vexact_core::error::{Error, Result};
use vexact_replica::Snapshot;
use vexact_sources as sources;
use vexact_sql::Explained;
use vexact_sql::deep::{balance_statement, check_plan, check_relations, stack_of_text};
use vexact_sql::dialect::parse_statement;

use super::insert::{keep_values, own_casts};
use super::lifted_vector::lift;
use super::named_windows::resolve_named_windows;
use super::nested_calls::bound_nested_calls;
use super::plan_cache::{BoundPlan, TEXT_BYTES};
use super::refusals::plannable;
use super::statement::{bound, refuse_changes};
use super::time_limit::within;
use super::{DataFrame, Session, column_case, distance_order, using_joins, wide_select};

impl Session {
    /// Runs one SQL statement. A SELECT runs when its rows are read, everything else at once.
    ///
    /// `CREATE TABLE t [(column type, ...)] USING csv OPTIONS (path: 'file.csv')` registers a file,
    /// in one of the formats of [`sources::table`]; `CREATE TABLE t (column type, ...)` and `CREATE
    /// TABLE t AS SELECT ...` create tables in memory.
    ///
    /// # Errors
    /// SQL that cannot be planned; a file that differs from its declaration; UPDATE, DELETE and
    /// MERGE, and INSERT if the format of the table does not support it.
    pub async fn sql(&self, query: &str, params: Option<ParamValues>) -> Result<DataFrame> {
        let _foreground = self.scheduler.begin_query();
        let planned = async {
            match sources::create::parse(query)? {
                Some(create) => self.create_file_table(&create).await,
                None => self.frame(self.parse(query)?, params, query.len(), None).await,
            }
        };
        Ok(entry(self.stack_of(query), query, planned).await?.of_statement(query))
    }

    /// As [`Self::sql`], with this time limit instead of the session's `vexact.timeout`. The limit
    /// applies to each read of the rows.
    ///
    /// # Errors
    /// As [`Self::sql`]; [`Error::TimedOut`].
    pub async fn sql_within(&self, query: &str, params: Option<ParamValues>, timeout: Duration) -> Result<DataFrame> {
        Ok(within(timeout, self.sql(query, params)).await?.with_timeout(timeout))
    }

    /// Returns the stack size that planning a text over the deepest view needs.
    pub(super) fn stack_of(&self, text: &str) -> usize {
        stack_of_text(text).max(self.views.stack())
    }

    pub(super) fn parse(&self, query: &str) -> Result<ParsedStatement> {
        let options = self.ctx.state_ref().read().config_options().sql_parser.clone();
        let mut statement = parse_statement(query, &options)?;
        balance_statement(&mut statement);
        check_relations(&statement)?;
        refuse_changes(&statement)?;
        Ok(statement)
    }

    /// Runs one parsed statement that is known to be allowed. `text` is its source, for messages;
    /// over replicas, the query sees `snapshot`.
    ///
    /// # Errors
    /// As [`Self::sql`].
    pub async fn statement(
        &self,
        text: &str,
        statement: ParsedStatement,
        params: Option<ParamValues>,
        snapshot: Option<Arc<Snapshot>>,
    ) -> Result<DataFrame> {
        let planned = self.frame(statement, params, text.len(), snapshot);
        Ok(entry(self.stack_of(text), text, planned).await?.of_statement(text))
    }

    /// Creates the frame of a statement whose text has `bytes` bytes. A search with a long vector
    /// literal is planned once for all vectors.
    async fn frame(
        &self,
        statement: ParsedStatement,
        params: Option<ParamValues>,
        bytes: usize,
        snapshot: Option<Arc<Snapshot>>,
    ) -> Result<DataFrame> {
        let snapshot = snapshot.as_ref();
        if params.is_none()
            && let ParsedStatement::Statement(inner) = &statement
            && let Some(lifted) = lift(inner)
            && bytes - lifted.bytes <= TEXT_BYTES
            && let Ok(frame) = self.cached_frame(&lifted.statement, Some(lifted.params), snapshot).await
            && frame.is_search().await
        {
            return Ok(frame);
        }
        match &statement {
            ParsedStatement::Statement(inner) if bytes <= TEXT_BYTES => {
                self.cached_frame(inner, params, snapshot).await
            }
            _ => {
                let (search, state) = (self.search_syntax(&statement), self.state_at(snapshot));
                let plan = self.logical_plan(statement, &state).await?;
                self.check_search_by_sql(search.as_ref(), &plan)?;
                self.run_statement(state, bound(plan, params)?).await
            }
        }
    }

    /// Returns the frame of a statement's cached plan, or of a new plan, which is cached if it is
    /// reusable.
    async fn cached_frame(
        &self,
        statement: &SqlStatement,
        params: Option<ParamValues>,
        snapshot: Option<&Arc<Snapshot>>,
    ) -> Result<DataFrame> {
        let search = self.search_syntax_of(statement);
        let (cached, state) = match self.plans.find(&self.ctx, statement).await {
            Some(cached) => {
                self.check_search_by_sql(search.as_ref(), &cached.plan)?;
                let state = cached.state.clone().unwrap_or_else(|| self.state_at(snapshot));
                (cached, state)
            }
            None => {
                let parsed = ParsedStatement::Statement(Box::new(statement.clone()));
                let names = self.ctx.state_ref().read().resolve_table_references(&parsed)?;
                let state = self.state_at(snapshot);
                let plan = self.logical_plan(parsed, &state).await?;
                self.check_search_by_sql(search.as_ref(), &plan)?;
                match self.plans.cache(&self.ctx, statement.clone(), names, &plan, &state).await {
                    Some(cached) => (cached, state),
                    None => return self.run_statement(state, bound(plan, params)?).await,
                }
            }
        };
        match params {
            Some(params) => DataFrame::of_cached(BoundPlan::new(cached, state, params)),
            None => Ok(DataFrame::of_plan(state, LogicalPlan::clone(&cached.plan))),
        }
    }

    /// Plans a statement, its parameters unbound.
    async fn logical_plan(&self, mut statement: ParsedStatement, state: &SessionState) -> Result<LogicalPlan> {
        resolve_named_windows(&mut statement);
        plannable(&mut statement)?;
        bound_nested_calls(&mut statement, state)?;
        if state.config_options().sql_parser.default_null_ordering == "nulls_min" {
            distance_order::nulls_last(&mut statement);
        }
        let own = own_casts(&statement);
        let again = self.views.has_upper_case().then(|| statement.clone());
        let plan = match self.plan_as_spelled(state, statement).await {
            Ok(plan) => plan,
            Err(error) => {
                self.plan_spelled(state, again, &error).await.ok_or_else(|| self.with_hint(shown(error).into()))?
            }
        };
        let plan = keep_values(plan, &own)?;
        SQLOptions::new().verify_plan(&plan)?;
        check_plan(&plan)?;
        Ok(plan)
    }

    /// Plans a statement that failed with `error` for a missing column, with columns of pandas and
    /// Excel under names without quotes. Returns `None` if that does not help.
    async fn plan_spelled(
        &self,
        state: &SessionState,
        statement: Option<ParsedStatement>,
        error: &DataFusionError,
    ) -> Option<LogicalPlan> {
        let mut statement = statement.filter(|_| column_case::is_missing_column(error))?;
        let tables = state.resolve_table_references(&statement).ok()?;
        let mut names: Vec<String> = tables.iter().map(|table| table.table().to_owned()).collect();
        if names.is_empty() {
            names = self.views.own_names();
        }
        let schemas: Vec<_> = names.iter().filter_map(|name| Some(self.views.own_table(name)?.1)).collect();
        if !column_case::spell_columns(&mut statement, schemas.iter().map(AsRef::as_ref)) {
            return None;
        }
        self.plan_as_spelled(state, statement).await.ok()
    }

    /// Plans a statement with the names as they are.
    async fn plan_as_spelled(
        &self,
        state: &SessionState,
        statement: ParsedStatement,
    ) -> datafusion::common::Result<LogicalPlan> {
        let statement = match self.views.replicas() {
            // The router finds joins by their USING, and leaves those with merged columns to SQLite.
            Some(_) => statement,
            None => using_joins::resolved(state, statement).await?,
        };
        wide_select::plan(state, statement).await
    }

    /// Adds a hint about table names with upper case: SQL reads names without quotes in lower case.
    fn with_hint(&self, error: Error) -> Error {
        let message = error.to_string();
        let missing = message.split_once("table '").and_then(|(_, rest)| rest.split_once("' not found"));
        let missing = missing.map(|(name, _)| name.rsplit('.').next().unwrap_or(name));
        let is_meant = |own: &&String| missing.is_some_and(|missing| own.to_lowercase() == missing && *own != missing);
        match self.views.own_names().iter().find(is_meant) {
            Some(own) => Error::InvalidArgument(format!("{message}. Did you mean \"{own}\", in double quotes?")),
            None => error,
        }
    }

    /// Explains a statement without running it, in three sections.
    ///
    /// # Errors
    /// As [`Self::sql`]; a statement without a plan, such as CREATE and SET.
    pub async fn explain_sql(&self, query: &str, params: Option<ParamValues>) -> Result<Explained> {
        let explained = async {
            if sources::create::parse(query)?.is_none() {
                let state = self.state_at(None);
                let plan = self.logical_plan(self.parse(query)?, &state).await?;
                if !matches!(plan, LogicalPlan::Ddl(_) | LogicalPlan::Statement(_)) {
                    if params.is_none()
                        && let Some(name) = plan.get_parameter_names()?.into_iter().min()
                    {
                        return Err(Error::InvalidArgument(format!("params: expected a value for {name}, got none")));
                    }
                    return DataFrame::of_plan(state, bound(plan, params)?).of_statement(query).explain().await;
                }
            }
            let problem = "explain_sql: expected a query or INSERT, got a statement without a plan";
            Err(Error::InvalidArgument(problem.into()))
        };
        entry(self.stack_of(query), query, explained).await
    }
}

/// Replaces the syntax tree in an error of the planner by the kind of expression.
fn shown(error: DataFusionError) -> DataFusionError {
    const PREFIX: &str = "Unsupported ast node in sqltorel: ";

    let DataFusionError::NotImplemented(message) = error.find_root() else { return error };
    let Some((kind, _)) = message.strip_prefix(PREFIX).and_then(|tree| tree.split_once(['(', ' ', '{'])) else {
        return error;
    };
    let problem = match kind {
        "Lambda" => {
            "a lambda (x -> ...): expected it as an argument of a function of lists that takes one, as in \
             array_transform(list, x -> x + 1), got it elsewhere; `->` is no operator on JSON"
        }
        kind => return DataFusionError::NotImplemented(format!("an expression of the kind {kind} is not supported")),
    };
    DataFusionError::Plan(problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_names_the_kind_of_an_expression_and_not_its_syntax_tree() {
        let session = Session::new().unwrap();
        for sql in
            ["SELECT e -> 'a'", "SELECT upper(x -> x)", "SELECT 1 WHERE (x, y) -> x = y", "SELECT (SELECT x -> 1)"]
        {
            let error = session.sql(sql, None).await.unwrap_err().to_string();
            assert!(
                error.contains("lambda") && error.contains("array_transform") && !error.contains("Span"),
                "{error}"
            );
        }
    }
}
