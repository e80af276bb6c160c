//! Queries: from a text, or a statement, to the frame of its plan.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::ParamValues;
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as ParsedStatement;
use vexact_core::entry::entry;
use vexact_core::error::{Error, Result};
use vexact_sources as sources;
use vexact_sql::Explained;
use vexact_sql::cooperative::ForegroundQuery;
use vexact_sql::deep::{balance_statement, check_plan, stack_of_text};
use vexact_sql::dialect::parse_statement;

use super::frame::within;
use super::insert::{keep_values, own_casts};
use super::named_windows::resolve_named_windows;
use super::plan_cache::{BoundPlan, CachedPlan, PlanCache, TEXT_BYTES};
use super::refusals::plannable;
use super::statement::{bound, refuse_changes};
use super::vector_literal::as_parameter;
use super::{DataFrame, Session, distance_order};

impl Session {
    /// One SQL statement. A SELECT runs when its rows are asked for, everything else now.
    ///
    /// `CREATE TABLE t [(column type, ...)] USING csv OPTIONS (path: 'file.csv')` names a file, in one of the formats of
    /// [`sources::table`]; `CREATE TABLE t (column type, ...)` and `CREATE TABLE t AS SELECT ...` are tables in memory.
    ///
    /// # Errors
    /// SQL that cannot be planned; a file that is not as it is declared; UPDATE, DELETE and MERGE, and INSERT where the format of
    /// the table takes none.
    pub async fn sql(&self, query: &str, params: Option<ParamValues>) -> Result<DataFrame> {
        let _arrival = ForegroundQuery::begin();
        let planned = async {
            let frame = match params {
                None => self.search_by_text(query).await,
                Some(_) => None,
            };
            match frame {
                Some(frame) => Ok(frame),
                None => self.sql_as_it_is(query, params).await,
            }
        };
        Ok(entry(self.stack_of(query), query, planned).await?.of_statement(query))
    }

    /// As [`Self::sql`], of a statement that may run for so long, whatever the session's `vexact.timeout` is: each time that its
    /// rows are asked for.
    ///
    /// # Errors
    /// As [`Self::sql`]; [`Error::TimedOut`].
    pub async fn sql_within(&self, query: &str, params: Option<ParamValues>, timeout: Duration) -> Result<DataFrame> {
        Ok(within(timeout, self.sql(query, params)).await?.with_timeout(timeout))
    }

    /// The stack that planning a text needs over the deepest view.
    pub(super) fn stack_of(&self, text: &str) -> usize {
        stack_of_text(text).max(self.views.stack())
    }

    /// A search whose query vector stands in the text, where it can be planned once for all vectors.
    async fn search_by_text(&self, query: &str) -> Option<DataFrame> {
        let (text, vector) = as_parameter(query)?;
        let frame = self.sql_as_it_is(&text, Some(vector)).await.ok()?;
        frame.is_search().await.then_some(frame)
    }

    async fn sql_as_it_is(&self, query: &str, params: Option<ParamValues>) -> Result<DataFrame> {
        if let Some(prepared) = self.prepared.find(&self.ctx, query).await {
            self.check_search_by_sql(query, &prepared.plan)?;
            return self.prepared_frame(prepared, params);
        }
        if let Some(create) = sources::create::parse(query)? {
            return self.create_file_table(&create).await;
        }
        let asked = (query.len() <= TEXT_BYTES).then(|| query.to_owned());
        self.planned_frame(&self.prepared, (query, asked), self.parse(query)?, params).await
    }

    pub(super) fn parse(&self, query: &str) -> Result<ParsedStatement> {
        let options = self.ctx.state_ref().read().config_options().sql_parser.clone();
        let mut statement = parse_statement(query, &options)?;
        balance_statement(&mut statement);
        refuse_changes(&statement)?;
        Ok(statement)
    }

    /// One statement that is parsed already, and known to be allowed. `text` is what it was parsed from.
    pub async fn statement(
        &self,
        text: &str,
        statement: ParsedStatement,
        params: Option<ParamValues>,
    ) -> Result<DataFrame> {
        let asked = match &statement {
            ParsedStatement::Statement(statement) if text.len() <= TEXT_BYTES => Some(statement.as_ref().clone()),
            _ => None,
        };
        let planned = async {
            let prepared = match &asked {
                Some(asked) => self.prepared_statements.find(&self.ctx, asked).await,
                None => None,
            };
            match prepared {
                Some(prepared) => {
                    self.check_search_by_sql(text, &prepared.plan)?;
                    self.prepared_frame(prepared, params)
                }
                None => self.planned_frame(&self.prepared_statements, (text, asked), statement, params).await,
            }
        };
        Ok(entry(self.stack_of(text), text, planned).await?.of_statement(text))
    }

    /// The frame of a plan that is kept.
    fn prepared_frame(&self, prepared: Arc<CachedPlan>, params: Option<ParamValues>) -> Result<DataFrame> {
        let state = prepared.state.clone().unwrap_or_else(|| Arc::new(self.state()));
        match params {
            Some(params) => DataFrame::of_kept(BoundPlan::new(prepared, state, params)),
            None => Ok(DataFrame::of_plan(state, LogicalPlan::clone(&prepared.plan))),
        }
    }

    /// Plans a statement, and keeps its plan as that of what was `asked`.
    async fn planned_frame<K: Eq + Hash>(
        &self,
        plans: &PlanCache<K>,
        (text, asked): (&str, Option<K>),
        statement: ParsedStatement,
        params: Option<ParamValues>,
    ) -> Result<DataFrame> {
        let names = || self.ctx.state_ref().read().resolve_table_references(&statement);
        let asked = asked.map(|asked| Ok::<_, Error>((asked, names()?))).transpose()?;
        let (state, plan) = self.planned(statement).await?;
        self.check_search_by_sql(text, &plan)?;
        if let Some((asked, names)) = asked
            && let Some(prepared) = plans.keep(&self.ctx, asked, names, &plan, &state).await
            && let Some(params) = &params
        {
            return DataFrame::of_kept(BoundPlan::new(prepared, state, params.clone()));
        }
        self.run_statement(state, bound(plan, params)?).await
    }

    async fn planned(&self, mut statement: ParsedStatement) -> Result<(Arc<SessionState>, LogicalPlan)> {
        resolve_named_windows(&mut statement);
        plannable(&mut statement)?;
        let state = Arc::new(self.state());
        if state.config_options().sql_parser.default_null_ordering == "nulls_min" {
            distance_order::nulls_last(&mut statement);
        }
        let own = own_casts(&statement);
        let plan = state.statement_to_plan(statement).await.map_err(|error| self.with_hint(error.into()))?;
        let plan = keep_values(plan, &own)?;
        SQLOptions::new().verify_plan(&plan)?;
        check_plan(&plan)?;
        Ok((state, plan))
    }

    /// Says how a table is named whose name has upper case: SQL reads names without quotes in lower case.
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

    /// The three sections of a statement's explain, without running it.
    ///
    /// # Errors
    /// As [`Self::sql`]; a statement that has no plan, as CREATE and SET.
    pub async fn explain_sql(&self, query: &str, params: Option<ParamValues>) -> Result<Explained> {
        let explained = async {
            if sources::create::parse(query)?.is_none() {
                let (state, plan) = self.planned(self.parse(query)?).await?;
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
