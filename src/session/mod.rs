//! The one place that builds a DataFusion context and its catalog.

mod as_of;
mod catalog;
mod frame;
mod meaning;
mod plan;
mod prepared;
mod search;
mod typing;

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::ParamValues;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as ParsedStatement;
use datafusion::sql::sqlparser::ast::Statement;
use vexact_sql::Explained;

use crate::error::{Error, Result};
use crate::replica::Replicas;
use crate::sources;

use catalog::Views;
pub use frame::DataFrame;
pub(crate) use frame::{concat, shortened};
use meaning::{SqliteNumbers, WideNumbers};
use prepared::PreparedPlans;
pub use search::{QueryVectors, VectorSearch};

/// What a session may use.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Bytes that the operators of its queries may hold; `None`: no limit.
    pub memory_limit_bytes: Option<usize>,
    /// Partitions of a query, so threads of it; `None`: as many as the machine has cores.
    pub target_partitions: Option<usize>,
}

/// One isolated catalog over the native engine. Cheap to clone; clones share the catalog. Safe from several threads.
#[derive(Clone)]
pub struct Session {
    ctx: SessionContext,
    views: Arc<Views>,
    prepared: Arc<PreparedPlans>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.ctx.session_id())
    }
}

impl Session {
    /// An empty session without limits.
    ///
    /// # Errors
    /// Where the functions cannot be registered.
    pub fn new() -> Result<Self> {
        Self::with_options(&SessionOptions::default())
    }

    /// An empty session.
    ///
    /// # Errors
    /// A memory limit or a number of partitions of 0, or where the functions cannot be registered.
    pub fn with_options(options: &SessionOptions) -> Result<Self> {
        Self::build(options, Views::default())
    }

    /// A session on the replicas of a database, which sorts NULL first, as SQLite does. Each query sees one state of all of them.
    ///
    /// # Errors
    /// As [`Self::with_options`].
    pub fn over_replicas(options: &SessionOptions, replicas: Arc<Replicas>) -> Result<Self> {
        Self::build(options, Views::over(replicas))
    }

    fn build(options: &SessionOptions, views: Views) -> Result<Self> {
        let mut config = SessionConfig::new().with_information_schema(true);
        if views.replicas().is_some() {
            config.options_mut().sql_parser.default_null_ordering = "nulls_min".into();
            // Text has one type.
            config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        }
        if let Some(partitions) = options.target_partitions {
            if partitions == 0 {
                return Err(Error::InvalidArgument("target_partitions: expected at least 1, got 0".into()));
            }
            config = config.with_target_partitions(partitions);
        }
        let mut runtime = RuntimeEnvBuilder::new();
        if let Some(limit) = options.memory_limit_bytes {
            if limit == 0 {
                return Err(Error::InvalidArgument("memory_limit_bytes: expected at least 1 byte, got 0".into()));
            }
            runtime = runtime.with_memory_limit(limit, 1.0);
        }
        let ctx = SessionContext::new_with_config_rt(config, Arc::new(runtime.build()?));
        vexact_sql::register(&ctx)?;
        let views = Arc::new(views);
        if let Some(replicas) = views.replicas() {
            ctx.state_ref().write().register_expr_planner(Arc::new(WideNumbers))?;
            ctx.state_ref().write().register_function_rewrite(Arc::new(SqliteNumbers))?;
            // DataFusion does not fold the case of a table function's name.
            for name in ["as_of", "AS_OF"] {
                ctx.register_udtf(name, Arc::new(as_of::AsOf { replicas: Arc::clone(replicas) }));
            }
        }
        let state = ctx.state();
        let catalog = &state.config_options().catalog;
        if let Some(provider) = ctx.catalog(&catalog.default_catalog) {
            provider.register_schema(&catalog.default_schema, Arc::clone(&views) as _)?;
        }
        Ok(Self { ctx, views, prepared: Arc::default() })
    }

    /// DataFusion's context of this session. From then on each query is planned anew, as functions may be others.
    pub fn context(&self) -> &SessionContext {
        self.prepared.turn_off();
        &self.ctx
    }

    fn table_frame(&self, provider: Arc<dyn TableProvider>) -> DataFrame {
        DataFrame::of_table(&self.ctx, provider)
    }

    /// A delimited file with a header line. Cells `[1 2 3]` or `[1,2,3]` of one length become `FixedSizeList<Float32>`.
    ///
    /// # Errors
    /// A missing or empty file, a delimiter that is not one ASCII character, a vector cell of another length or that is none
    /// (with its line).
    pub async fn read_csv(&self, path: impl AsRef<Path>, delimiter: char) -> Result<DataFrame> {
        let provider = sources::csv::open(&self.ctx, path.as_ref(), delimiter).await?;
        Ok(self.table_frame(provider))
    }

    /// A JSON file: one object a line, or one array of objects. Lists of numbers of one length become vectors, those of whole
    /// numbers alone stay lists.
    ///
    /// # Errors
    /// A missing or empty file, or content that is not JSON of that form.
    pub async fn read_json(
        &self,
        path: impl AsRef<Path>,
        columns: Option<&[String]>,
        format: sources::json::JsonFormat,
    ) -> Result<DataFrame> {
        let provider = sources::json::open(&self.ctx, path.as_ref(), format).await?;
        let frame = self.table_frame(provider);
        match columns {
            None => Ok(frame),
            Some(columns) => frame.select(columns),
        }
    }

    /// A Parquet file, read as queries need it.
    ///
    /// # Errors
    /// A missing or empty file, or one that is not Parquet.
    pub async fn read_parquet(&self, path: impl AsRef<Path>) -> Result<DataFrame> {
        let provider = sources::parquet::open(&self.ctx, path.as_ref()).await?;
        Ok(self.table_frame(provider))
    }

    /// A file by its content and name: Parquet, CSV, TSV, JSON lines or a JSON array.
    ///
    /// # Errors
    /// As the method that reads that form; a file of none of them.
    pub async fn read(&self, path: impl AsRef<Path>) -> Result<DataFrame> {
        let path = path.as_ref();
        match sources::detect(path)? {
            sources::Format::Parquet => self.read_parquet(path).await,
            sources::Format::Csv(delimiter) => self.read_csv(path, delimiter).await,
            sources::Format::Json(format) => self.read_json(path, None, format).await,
        }
    }

    /// Arrow batches as a frame, without a copy. Lists of floats of one length become vectors.
    ///
    /// # Errors
    /// Two columns of one name, batches of different schemas.
    pub fn create_dataframe_from_arrow(&self, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<DataFrame> {
        Ok(self.table_frame(sources::arrow::open(schema, batches)?))
    }

    /// Names a frame; another view of this name is replaced.
    ///
    /// # Errors
    /// A name that cannot be registered.
    pub fn create_temp_view(&self, name: &str, frame: &DataFrame) -> Result<()> {
        self.name_table(name, frame.provider())
    }

    /// Names what SQL can read or write; what had the name before is let go.
    pub(crate) fn name_table(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        if name.is_empty() {
            return Err(Error::InvalidArgument("view name: expected a name, got an empty text".into()));
        }
        self.views.replace(name, table);
        Ok(())
    }

    /// The state of one query: of the replicas, it sees what is there now.
    pub(crate) fn state(&self) -> SessionState {
        let mut state = self.ctx.state();
        if let Some(replicas) = self.views.replicas() {
            state.config_mut().set_extension(replicas.snapshot());
        }
        state
    }

    /// The tables and views that are the session's own, and no replicas.
    pub(crate) fn own_tables(&self) -> Vec<String> {
        self.views.own_names()
    }

    /// One SQL statement. A SELECT runs when its rows are asked for.
    ///
    /// # Errors
    /// SQL that cannot be planned; UPDATE, DELETE and MERGE, which are refused.
    pub async fn sql(&self, query: &str, params: Option<ParamValues>) -> Result<DataFrame> {
        if let Some(prepared) = self.prepared.find(&self.ctx, query).await {
            return Ok(DataFrame::of_plan(prepared.state, bound(prepared.plan, params)?));
        }
        let state = self.ctx.state_ref();
        let dialect = state.read().config().options().sql_parser.dialect;
        let statement = state.read().sql_to_statement(query, &dialect)?;
        refuse_changes(&statement)?;
        // Each query of replicas has a state of its own, which holds what it sees of them.
        let is_kept = self.views.replicas().is_none();
        let names = is_kept.then(|| state.read().resolve_table_references(&statement)).transpose()?;
        let (state, plan) = self.planned(statement).await?;
        if let Some(names) = names {
            self.prepared.keep(&self.ctx, query, names, &plan, &state).await;
        }
        self.frame(state, bound(plan, params)?).await
    }

    /// One statement that is parsed already, and known to be allowed.
    pub(crate) async fn statement(&self, statement: ParsedStatement, params: Option<ParamValues>) -> Result<DataFrame> {
        let (state, plan) = self.planned(statement).await?;
        self.frame(state, bound(plan, params)?).await
    }

    async fn planned(&self, statement: ParsedStatement) -> Result<(Arc<SessionState>, LogicalPlan)> {
        let state = Arc::new(self.state());
        let plan = state.statement_to_plan(statement).await?;
        SQLOptions::new().verify_plan(&plan)?;
        Ok((state, plan))
    }

    async fn frame(&self, state: Arc<SessionState>, plan: LogicalPlan) -> Result<DataFrame> {
        // What changes the session is done now, by its context; what reads keeps the state that it was planned with.
        Ok(match plan {
            LogicalPlan::Ddl(_) | LogicalPlan::Statement(_) => {
                DataFrame::of_query(self.ctx.execute_logical_plan(plan).await?)
            }
            plan => DataFrame::of_plan(state, plan),
        })
    }

    /// The three sections of a statement's explain, without running it.
    ///
    /// # Errors
    /// As [`Self::sql`].
    pub async fn explain_sql(&self, query: &str, params: Option<ParamValues>) -> Result<Explained> {
        self.sql(query, params).await?.explain().await
    }
}

/// A plan with its parameters.
fn bound(plan: LogicalPlan, params: Option<ParamValues>) -> Result<LogicalPlan> {
    let Some(params) = params else { return Ok(plan) };
    refuse_surplus(&plan, &params)?;
    Ok(vexact_sql::bind_parameters(plan, &params)?.with_param_values(params)?)
}

/// Refuses more parameters by position than a statement has: something is not where it was meant to be.
fn refuse_surplus(plan: &LogicalPlan, params: &ParamValues) -> Result<()> {
    let ParamValues::List(values) = params else { return Ok(()) };
    let names = plan.get_parameter_names()?;
    let last = names.iter().filter_map(|name| name.trim_start_matches('$').parse::<usize>().ok()).max();
    let expected = last.unwrap_or(0);
    if values.len() > expected && names.len() <= expected {
        return Err(Error::InvalidArgument(format!("params: expected {expected} values, got {}", values.len())));
    }
    Ok(())
}

/// Refuses what changes rows in place, also under EXPLAIN and PREPARE: live data is what the replication engine is for.
fn refuse_changes(statement: &ParsedStatement) -> Result<()> {
    let mut statement = match statement {
        ParsedStatement::Explain(explain) => return refuse_changes(&explain.statement),
        ParsedStatement::Statement(statement) => statement.as_ref(),
        _ => return Ok(()),
    };
    // What is prepared here is executed by its name.
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
