//! Effects of a statement besides returning rows: it creates tables, runs INSERT at once, and
//! rejects changes in place.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use datafusion::common::ParamValues;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    CreateMemoryTable, DdlStatement, LogicalPlan, LogicalPlanBuilder, Statement as PlanStatement,
};
use datafusion::sql::parser::Statement as ParsedStatement;
use datafusion::sql::sqlparser::ast::Statement;
use vexact_core::error::{Error, Result};
use vexact_sources as sources;
use vexact_sources::create::{CreateTable, TableKind};

use super::catalog;
use super::copy::{CopyTarget, query_of};
use super::limits::check_setting;
use super::memory::MemoryTable;
use super::{DataFrame, Session};

impl Session {
    /// Creates a table over a file, or a source or sink of streams. Its columns and its file are
    /// checked now.
    pub(super) async fn create_file_table(&self, create: &CreateTable) -> Result<DataFrame> {
        if self.is_to_create(&create.name, create.if_not_exists, create.or_replace)? {
            match create.kind {
                TableKind::Table => self.views.replace(&create.name, sources::table::open(&self.stores, create).await?),
                TableKind::Source | TableKind::Sink => {
                    self.name_table(&create.name, vexact_stream::stream_table(&self.ctx, create)?)?;
                }
            }
        }
        self.nothing()
    }

    /// Creates a table in memory, without rows or with the rows of a query.
    async fn create_memory_table(&self, create: CreateMemoryTable) -> Result<DataFrame> {
        let name = create.name.table();
        let refuse = |problem: &str| Err(Error::InvalidArgument(format!("CREATE TABLE {name}: {problem}")));
        if create.temporary {
            return refuse("every table ends with its session: expected CREATE TABLE");
        }
        if create.constraints.iter().next().is_some() {
            return refuse("expected no PRIMARY KEY and no UNIQUE, which nothing would check");
        }
        if self.is_to_create(name, create.if_not_exists, create.or_replace)? {
            let declared = match create.input.as_ref() {
                // Only columns that are declared, and not those of a query, are NOT NULL.
                LogicalPlan::EmptyRelation(columns) => Some(Arc::clone(columns.schema.inner())),
                _ => None,
            };
            let query = datafusion::dataframe::DataFrame::new(self.state(), Arc::unwrap_or_clone(create.input));
            let rows = DataFrame::of_query(query);
            // Lists that a query returns as vectors are converted, so that searches of them are as
            // fast as others.
            let schema = declared.unwrap_or_else(|| rows.schema());
            let (schema, batches) = sources::arrow::with_vectors(schema, rows.collect().await?)?;
            let table = MemoryTable::try_new(schema, batches, create.column_defaults.into_iter().collect())?;
            self.views.replace(name, Arc::new(table));
        }
        self.nothing()
    }

    /// Returns true if a table of this name has to be created.
    fn is_to_create(&self, name: &str, if_not_exists: bool, or_replace: bool) -> Result<bool> {
        use datafusion::catalog::SchemaProvider;

        match self.views.table_exist(name) {
            true if if_not_exists => Ok(false),
            true if or_replace && self.views.own_names().iter().any(|own| own == name) => Ok(true),
            true => Err(Error::InvalidArgument(format!("table {name:?} exists already: expected another name"))),
            false => Ok(true),
        }
    }

    /// Returns an empty frame, the result of a statement without rows.
    fn nothing(&self) -> Result<DataFrame> {
        let plan = LogicalPlanBuilder::empty(false).build()?;
        Ok(DataFrame::of_query(datafusion::dataframe::DataFrame::new(self.ctx.state(), plan)))
    }

    /// Runs a plan as far as its statement has effects.
    pub(super) async fn run_statement(&self, state: Arc<SessionState>, plan: LogicalPlan) -> Result<DataFrame> {
        if let LogicalPlan::Statement(PlanStatement::SetVariable(set)) = &plan {
            check_setting(&set.variable, &set.value)?;
        }
        if let LogicalPlan::Ddl(ddl) = &plan {
            self.refuse_drop_of_replica(ddl)?;
            self.plans.invalidate();
        }
        match plan {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) if self.is_own_schema(&create) => {
                self.create_memory_table(create).await
            }
            // Changes of the session are executed at once, by its context.
            LogicalPlan::Ddl(_) | LogicalPlan::Statement(_) => {
                Ok(DataFrame::of_query(self.ctx.execute_logical_plan(plan).await?))
            }
            // The copy runs once, and not each time that its count is read.
            LogicalPlan::Copy(copy) => {
                let target = CopyTarget::of(&copy)?;
                let schema = Arc::clone(copy.output_schema.inner());
                let count = target.write(&query_of(state, copy)).await?;
                let count: ArrayRef = Arc::new(UInt64Array::from(vec![count]));
                let rows = RecordBatch::try_new(Arc::clone(&schema), vec![count]).map_err(Error::arrow)?;
                Ok(self.table_frame(sources::arrow::as_it_is(schema, vec![rows])?))
            }
            plan @ LogicalPlan::Dml(_) => {
                let frame = DataFrame::of_plan(state, plan);
                let (schema, rows) = (frame.schema(), frame.collect().await?);
                Ok(self.table_frame(sources::arrow::as_it_is(schema, rows)?))
            }
            // A reading statement keeps the state that it was planned with.
            plan => Ok(DataFrame::of_plan(state, plan)),
        }
    }

    /// Rejects dropping a replica: with IF EXISTS, DataFusion would interpret the catalog's
    /// rejection as a missing table.
    fn refuse_drop_of_replica(&self, ddl: &DdlStatement) -> Result<()> {
        use datafusion::catalog::SchemaProvider;

        let name = match ddl {
            DdlStatement::DropTable(drop) => drop.name.table(),
            DdlStatement::DropView(drop) => drop.name.table(),
            DdlStatement::DropCatalogSchema(_) if self.views.replicas().is_some() => {
                return Err(Error::InvalidArgument("DROP SCHEMA is refused: it has the replicas of an engine".into()));
            }
            _ => return Ok(()),
        };
        let is_own = self.views.own_names().iter().any(|own| own == name);
        match !is_own && self.views.table_exist(name) {
            true => Err(Error::InvalidArgument(catalog::is_a_replica(name))),
            false => Ok(()),
        }
    }

    fn is_own_schema(&self, create: &CreateMemoryTable) -> bool {
        let state = self.ctx.state_ref();
        let state = state.read();
        let catalog = &state.config_options().catalog;
        let name = create.name.clone().resolve(&catalog.default_catalog, &catalog.default_schema);
        *name.catalog == *catalog.default_catalog && *name.schema == *catalog.default_schema
    }
}

/// Rejects more positional parameters than a statement has: a parameter is probably misplaced.
pub(super) fn refuse_surplus(plan: &LogicalPlan, params: &ParamValues) -> Result<()> {
    let ParamValues::List(values) = params else { return Ok(()) };
    let names = plan.get_parameter_names()?;
    let last = names.iter().filter_map(|name| name.trim_start_matches('$').parse::<usize>().ok()).max();
    let expected = last.unwrap_or(0);
    if values.len() > expected && names.len() <= expected {
        return Err(Error::InvalidArgument(format!("params: expected {expected} values, got {}", values.len())));
    }
    Ok(())
}

/// Rejects statements that change rows in place, also under EXPLAIN and PREPARE: the replication
/// engine is the place for live data.
pub(super) fn refuse_changes(statement: &ParsedStatement) -> Result<()> {
    let mut statement = match statement {
        ParsedStatement::Explain(explain) => return refuse_changes(&explain.statement),
        ParsedStatement::Statement(statement) => statement.as_ref(),
        _ => return Ok(()),
    };
    // A statement that is prepared here is executed later, by its name.
    while let Statement::Prepare { statement: inner, .. } | Statement::Explain { statement: inner, .. } = statement {
        statement = inner;
    }
    let name = match statement {
        Statement::Update { .. } => "UPDATE",
        Statement::Delete(_) => "DELETE",
        Statement::Merge { .. } => "MERGE",
        Statement::Truncate { .. } => "TRUNCATE",
        _ => return Ok(()),
    };
    Err(Error::InvalidArgument(format!(
        "{name} is refused: expected SELECT, INSERT, CREATE or SET; rows of live data are changed through the replication engine"
    )))
}

/// Returns a plan with its parameters.
pub(super) fn bound(plan: LogicalPlan, params: Option<ParamValues>) -> Result<LogicalPlan> {
    let Some(params) = params else { return Ok(plan) };
    refuse_surplus(&plan, &params)?;
    Ok(vexact_sql::bind_parameters(plan, &params)?.with_param_values(params)?)
}
