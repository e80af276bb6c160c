//! The one place that builds a DataFusion context and its catalog.

mod as_of;
mod catalog;
mod copy;
mod corrections;
mod distance_order;
mod frame;
mod insert;
mod meaning;
mod memory;
mod named_windows;
mod no_rows;
mod one_zero;
mod plan;
mod prepared;
mod query;
#[cfg(test)]
mod replicas_again;
mod row_order;
mod search;
#[cfg(test)]
mod search_again;
mod search_request;
mod sqlite;
mod statement;
mod streams;
mod subqueries;
mod typing;
mod unloaded;
mod vector_literal;

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use vexact_core::error::{Error, Result};
use vexact_replica::Replicas;
use vexact_sources as sources;
use vexact_sources::line::{LineColumn, LineField, LineMode};
use vexact_sources::probe::{Format, Probe};
use vexact_sources::sql_type::VectorTypes;

use catalog::Views;
pub use frame::DataFrame;
use meaning::{SqliteNumbers, WideNumbers};
use no_rows::NullWithoutRows;
use one_zero::OneZero;
use prepared::PreparedPlans;
use row_order::KeepRowOrder;
pub use search_request::{QueryVectors, VectorSearch};
use subqueries::SubqueriesInProjections;
use unloaded::Unloaded;
pub use unloaded::UnloadedTable;
pub use vector_literal::as_parameter;

/// What a session may use.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Bytes that the operators of its queries and the groups of its streams may hold; `None`: no limit.
    pub memory_limit_bytes: Option<usize>,
    /// Partitions of a query, so threads of it; `None`: as many as the machine has cores.
    pub target_partitions: Option<usize>,
}

/// One isolated catalog over the native engine. Cheap to clone; clones share the catalog. Safe from several threads.
#[derive(Clone)]
pub struct Session {
    ctx: SessionContext,
    views: Arc<Views>,
    prepared: Arc<PreparedPlans<String>>,
    prepared_statements: Arc<PreparedPlans<SqlStatement>>,
    unloaded: Unloaded,
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
        // Text has one type, and a Parquet file is read with the types that it was written with.
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        config.options_mut().execution.parquet.schema_force_view_types = false;
        corrections::configure(&mut config);
        // A plan's nullability may be wrong, or known to be narrower by its operators than by its expressions
        // (apache/datafusion#24513).
        config.options_mut().execution.skip_physical_aggregate_schema_check = true;
        // The few rows that a filter is thought to leave are not spread over threads: waking them costs more.
        config.options_mut().execution.use_row_number_estimates_to_optimize_partitioning = true;
        if views.replicas().is_some() {
            config.options_mut().sql_parser.default_null_ordering = "nulls_min".into();
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
        let mut rules = corrections::physical_rules();
        rules.push(Arc::new(KeepRowOrder));
        let mut state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::new(runtime.build()?))
            .with_physical_optimizer_rules(rules);
        if views.replicas().is_some() {
            // Before DataFusion's own: the first that knows an expression plans it.
            state = state.with_expr_planners(vec![Arc::new(sqlite::Calls)]);
        }
        let state = state.with_default_features().with_type_planner(Arc::new(VectorTypes)).build();
        let ctx = SessionContext::new_with_state(state);
        if views.replicas().is_some() {
            // The sum of vectors is made beside it.
            ctx.register_udaf(sqlite::sum());
        }
        vexact_sql::register(&ctx)?;
        corrections::register(&ctx);
        ctx.add_analyzer_rule(Arc::new(NullWithoutRows));
        ctx.add_analyzer_rule(Arc::new(SubqueriesInProjections));
        let views = Arc::new(views);
        if let Some(replicas) = views.replicas() {
            ctx.state_ref().write().register_expr_planner(Arc::new(WideNumbers))?;
            ctx.add_analyzer_rule(Arc::new(OneZero));
            ctx.state_ref().write().register_function_rewrite(Arc::new(SqliteNumbers))?;
            ctx.state_ref().write().register_function_rewrite(Arc::new(sqlite::Casts))?;
            for function in sqlite::functions() {
                ctx.state_ref().write().register_udf(function)?;
            }
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
        Ok(Self {
            ctx,
            views,
            prepared: Arc::default(),
            prepared_statements: Arc::default(),
            unloaded: Unloaded::default(),
        })
    }

    /// DataFusion's context of this session. From then on each query is planned anew, as functions may be others.
    pub fn context(&self) -> &SessionContext {
        self.prepared.turn_off();
        self.prepared_statements.turn_off();
        &self.ctx
    }

    /// A name has been given: what was asked may mean something else.
    fn forget_plans(&self) {
        self.prepared.forget();
        self.prepared_statements.forget();
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
        let provider = sources::csv::open(path.as_ref(), delimiter).await?;
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
        let provider = sources::json::open(path.as_ref(), format).await?;
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

    /// An Arrow IPC file, in the file or the stream format, read as queries need it.
    ///
    /// # Errors
    /// A missing or empty file, or one that is neither; compressed buffers.
    pub async fn read_arrow_file(&self, path: impl AsRef<Path>) -> Result<DataFrame> {
        Ok(self.table_frame(sources::ipc::open(path.as_ref())?))
    }

    /// A file whose lines are rows, read as queries need it (see [`sources::line::open`]). A pattern with named groups needs no
    /// columns: they are these groups.
    ///
    /// # Errors
    /// A missing or empty file, columns that the mode cannot have. A bad line is an error of the query, with its number.
    pub async fn read_line_file(
        &self,
        path: impl AsRef<Path>,
        columns: Vec<LineColumn>,
        mode: LineMode,
        skip_empty_lines: bool,
    ) -> Result<DataFrame> {
        Ok(self.table_frame(sources::line::open(path.as_ref(), columns, mode, skip_empty_lines)?))
    }

    /// A file of text whose lines are the column `line`.
    pub async fn read_lines(&self, path: &Path) -> Result<DataFrame> {
        let line = LineColumn { name: "line".into(), field: LineField::Index(0), data_type: Some(DataType::Utf8) };
        // No line holds a line end: it is one field.
        self.read_line_file(path, vec![line], LineMode::Split("\n".into()), false).await
    }

    /// What a file is, by its content and name, and its columns.
    ///
    /// # Errors
    /// A missing or unreadable file. What is odd in it is a warning.
    pub fn probe(&self, path: impl AsRef<Path>) -> Result<Probe> {
        sources::probe::probe(path.as_ref())
    }

    /// A file by its content and name: Parquet, Arrow IPC, CSV, TSV, JSON lines, a JSON array, or lines of text, which are the
    /// column `line`.
    ///
    /// # Errors
    /// As the method that reads that form; a file of none of them, or an Excel sheet.
    pub async fn read(&self, path: impl AsRef<Path>) -> Result<DataFrame> {
        let path = path.as_ref();
        match sources::probe::detect(path)? {
            Format::Parquet => self.read_parquet(path).await,
            Format::Arrow { .. } => self.read_arrow_file(path).await,
            Format::Csv(delimiter) => self.read_csv(path, delimiter).await,
            Format::Json(format) => self.read_json(path, None, format).await,
            Format::Line => self.read_lines(path).await,
            Format::Excel => Err(Error::InvalidArgument(format!(
                "{}: expected another form than an Excel sheet, which Python reads (vexact.read_excel)",
                path.display()
            ))),
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
        self.name_table(name, frame.provider()?)
    }

    /// Names what SQL can read or write; what had the name before is let go.
    pub fn name_table(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        if name.is_empty() {
            return Err(Error::InvalidArgument("view name: expected a name, got an empty text".into()));
        }
        self.views.replace(name, table);
        self.forget_plans();
        Ok(())
    }

    /// The state of one query: of the replicas, it sees what is there now.
    pub fn state(&self) -> SessionState {
        let mut state = self.ctx.state();
        if let Some(replicas) = self.views.replicas() {
            state.config_mut().set_extension(replicas.snapshot());
        }
        state
    }

    /// The tables and views that are the session's own, and no replicas.
    pub fn own_tables(&self) -> Vec<String> {
        self.views.own_names()
    }
}
