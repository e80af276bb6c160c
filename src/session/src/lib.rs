//! Sessions: the only place that builds a DataFusion context and its catalog.

mod argument_bounds;
mod as_of;
mod catalog;
mod checked_sum;
mod column_case;
mod copy;
mod corrections;
mod date_functions;
mod date_trunc;
mod distance_order;
mod file_pruning;
mod frame;
mod frame_shape;
mod insert;
mod lifted_vector;
mod limits;
mod memory;
mod named_windows;
mod nested_calls;
mod no_rows;
mod one_zero;
mod operator_chain;
mod plan;
mod plan_cache;
#[cfg(test)]
mod plan_cache_replica_tests;
#[cfg(test)]
mod plan_cache_search_tests;
mod query;
mod read;
mod refusals;
mod row_order;
mod search;
mod search_filter;
mod search_request;
mod sized_functions;
mod sqlite;
mod sqlite_filter;
mod sqlite_semantics;
mod statement;
mod stop_points;
mod streams;
mod subqueries;
mod text;
mod time_limit;
mod typing;
mod unloaded;
mod using_joins;
mod vector_syntax;
mod wide_select;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::logical_expr::AggregateUDF;
use datafusion::prelude::{SessionConfig, SessionContext};
use vexact_cooperative::Scheduler;
use vexact_core::entry::enter;
use vexact_core::error::{Error, Result};
use vexact_replica::{Replicas, Snapshot};
use vexact_sources as sources;
use vexact_sources::object_stores::{LocalFooters, ObjectStores, StoreOptions};
use vexact_sources::parquet_sketch::ParquetSketches;
use vexact_sources::sql_type::VectorTypes;
use vexact_sql::deep::stack_of_text;
use vexact_sql::sketches::SketchPool;
use vexact_sql::sketches::files::FileSketches;

use argument_bounds::ArgumentBounds;
use catalog::Views;
use checked_sum::CheckedSum;
pub use corrections::portable;
pub use frame::DataFrame;
use no_rows::NullWithoutRows;
use one_zero::OneZero;
use operator_chain::OperatorChains;
use plan_cache::PlanCache;
use row_order::KeepRowOrder;
pub use row_order::OrderedMergeExec;
pub use search_request::{QueryVectors, VectorSearch};
use sized_functions::bound_functions;
use sqlite_semantics::{SqliteNumbers, WideNumbers};
use stop_points::StopPoints;
use subqueries::SubqueriesInProjections;
pub use text::{HybridSearch, QuerySyntax, TextSearch};
use unloaded::Unloaded;
pub use unloaded::UnloadedTable;
pub use vexact_kernel::Tier;
pub use workers::Distribute;

/// Options and resource limits of a session.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Maximum memory, in bytes, of the operators of its queries, their results and the groups of
    /// its streams; `None` for three quarters of the machine's memory, or of its control group's.
    pub memory_limit_bytes: Option<usize>,
    /// Number of partitions, and so of threads, of a query; `None` for the number of the machine's
    /// cores.
    pub target_partitions: Option<usize>,
    /// Time limit of a query; `None` for no limit. The setting is `vexact.timeout`.
    pub timeout: Option<Duration>,
    /// Form of the vectors that searches read first. The setting is `vexact.tier`.
    pub tier: Tier,
    /// Options of object stores, such as credentials; a store without options takes them from the
    /// environment.
    pub object_stores: StoreOptions,
}

impl SessionOptions {
    /// Parses `tier`.
    ///
    /// # Errors
    /// Another text than `auto`, `off`, `f32`, `i8` or `pca4`.
    pub fn parse_tier(text: &str) -> Result<Tier> {
        text.parse().map_err(|error| Error::InvalidArgument(format!("tier: {error}")))
    }
}

/// One isolated catalog over the native engine. Cheap to clone; clones share the catalog. Safe from
/// several threads.
#[derive(Clone)]
pub struct Session {
    ctx: SessionContext,
    views: Arc<Views>,
    plans: Arc<PlanCache>,
    scheduler: Scheduler,
    unloaded: Unloaded,
    stores: Arc<ObjectStores>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.ctx.session_id())
    }
}

impl Session {
    /// Returns an empty session without limits.
    ///
    /// # Errors
    /// Functions that cannot be registered.
    pub fn new() -> Result<Self> {
        Self::with_options(&SessionOptions::default())
    }

    /// Returns an empty session.
    ///
    /// # Errors
    /// A memory limit or a number of partitions of 0, or functions that cannot be registered.
    pub fn with_options(options: &SessionOptions) -> Result<Self> {
        Self::build(options, Views::default())
    }

    /// Creates a session on the replicas of a database, which sorts NULL first, as SQLite does.
    /// Each query sees one snapshot of all of them.
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
        // With this option, the types of other programs and the index of a table would be lost.
        config.options_mut().execution.parquet.skip_metadata = false;
        corrections::configure(&mut config);
        text::configure(&mut config);
        if views.replicas().is_some() {
            sqlite_filter::configure(&mut config);
        }
        // A plan's nullability may be wrong, or the operators may know a narrower one than the
        // expressions do (apache/datafusion#24513).
        config.options_mut().execution.skip_physical_aggregate_schema_check = true;
        // If a filter is estimated to return few rows, they are not spread over threads: waking the
        // threads costs more.
        config.options_mut().execution.use_row_number_estimates_to_optimize_partitioning = true;
        if views.replicas().is_some() {
            config.options_mut().sql_parser.default_null_ordering = "nulls_min".into();
        }
        let scheduler = Scheduler::default();
        config.set_extension(Arc::new(scheduler.clone()));
        if let Some(partitions) = options.target_partitions {
            if partitions == 0 {
                return Err(Error::InvalidArgument("target_partitions: expected at least 1, got 0".into()));
            }
            if partitions > limits::MAX_PARTITIONS {
                let most = limits::MAX_PARTITIONS;
                let problem = format!("target_partitions: expected at most {most}, got {partitions}");
                return Err(Error::InvalidArgument(problem));
            }
            config = config.with_target_partitions(partitions);
        }
        if options.memory_limit_bytes == Some(0) {
            return Err(Error::InvalidArgument("memory_limit_bytes: expected at least 1 byte, got 0".into()));
        }
        let stores = Arc::new(ObjectStores::new(options.object_stores.clone()));
        config.set_extension(Arc::clone(&stores));
        config.set_extension(Arc::new(FileSketches(Arc::new(ParquetSketches::new(Arc::clone(&stores))))));
        let mut runtime = RuntimeEnvBuilder::new()
            .with_object_store_registry(Arc::clone(&stores) as _)
            .with_cache_manager(LocalFooters::caches());
        let memory = options.memory_limit_bytes.or_else(limits::default_memory);
        if let Some(limit) = memory {
            // As `with_memory_limit` does, and sketches yield to queries.
            runtime = runtime.with_memory_limit(limit, 1.0);
            if let Some(pool) = runtime.memory_pool.take() {
                runtime = runtime.with_memory_pool(Arc::new(SketchPool::new(pool)));
            }
        }
        let mut rules = corrections::physical_rules(&stores);
        rules.push(Arc::new(KeepRowOrder));
        rules.push(Arc::new(StopPoints));
        let mut state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::new(runtime.build()?))
            .with_analyzer_rules(corrections::analyzer_rules())
            .with_physical_optimizer_rules(rules);
        // This planner precedes DataFusion's own: the first that supports an expression plans it.
        let chains = OperatorChains { is_of_sqlite: views.replicas().is_some() };
        state = match views.replicas() {
            Some(_) => state.with_expr_planners(vec![Arc::new(sqlite::Calls), Arc::new(chains)]),
            None => state.with_expr_planners(vec![Arc::new(chains)]),
        };
        let state = state.with_default_features().with_type_planner(Arc::new(VectorTypes)).build();
        let ctx = SessionContext::new_with_state(state);
        // The sum of vectors is registered with it.
        ctx.register_udaf(match views.replicas() {
            Some(_) => sqlite::sum(),
            None => AggregateUDF::from(CheckedSum::new()),
        });
        vexact_sql::register(&ctx)?;
        text::register(&ctx)?;
        if views.replicas().is_some() {
            ctx.register_udf(sqlite_filter::text_match());
        }
        if let Some(timeout) = options.timeout {
            let options = ctx.state_ref();
            let mut state = options.write();
            state.config_mut().options_mut().set("vexact.timeout", &format!("{}us", timeout.as_micros()))?;
        }
        if options.tier != Tier::Auto {
            let state = ctx.state_ref();
            state.write().config_mut().options_mut().set("vexact.tier", &options.tier.to_string())?;
        }
        corrections::register(&ctx);
        ctx.add_analyzer_rule(Arc::new(NullWithoutRows));
        ctx.add_analyzer_rule(Arc::new(SubqueriesInProjections));
        ctx.add_analyzer_rule(Arc::new(ArgumentBounds));
        if views.replicas().is_none() {
            // SQLite has none of these functions: over its tables they would work on only one
            // route.
            date_functions::functions().for_each(|function| ctx.register_udf(function));
            let date_trunc = ctx.udf("date_trunc")?;
            ctx.register_udf(date_trunc::function(date_trunc));
        }
        let views = Arc::new(views.with_stores(&stores));
        if let Some(replicas) = views.replicas() {
            replicas.set_memory(&ctx.runtime_env().memory_pool);
            ctx.state_ref().write().register_expr_planner(Arc::new(WideNumbers))?;
            ctx.add_analyzer_rule(Arc::new(OneZero));
            ctx.state_ref().write().register_function_rewrite(Arc::new(SqliteNumbers))?;
            ctx.state_ref().write().register_function_rewrite(Arc::new(sqlite::Casts))?;
            for function in sqlite::functions() {
                ctx.state_ref().write().register_udf(function)?;
            }
            // DataFusion does not fold the case of table function names.
            for name in ["as_of", "AS_OF"] {
                ctx.register_udtf(name, Arc::new(as_of::AsOf { replicas: Arc::clone(replicas) }));
            }
        }
        bound_functions(&mut *ctx.state_ref().write(), memory.unwrap_or(usize::MAX))?;
        let state = ctx.state();
        let catalog = &state.config_options().catalog;
        if let Some(provider) = ctx.catalog(&catalog.default_catalog) {
            provider.register_schema(&catalog.default_schema, Arc::clone(&views) as _)?;
        }
        Ok(Self { ctx, views, plans: Arc::default(), scheduler, unloaded: Unloaded::default(), stores })
    }

    /// Returns DataFusion's context of this session. From then on each query is planned anew,
    /// because functions may be replaced.
    pub fn context(&self) -> &SessionContext {
        self.plans.turn_off();
        &self.ctx
    }

    fn table_frame(&self, provider: Arc<dyn TableProvider>) -> DataFrame {
        DataFrame::of_table(&self.ctx, provider)
    }

    /// Creates a frame of Arrow batches, without copying them. Lists of floats of one length become
    /// vectors.
    ///
    /// # Errors
    /// Two columns of one name, batches of different schemas.
    pub fn create_dataframe_from_arrow(&self, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<DataFrame> {
        let open = || sources::arrow::open(schema, batches);
        Ok(self.table_frame(enter(stack_of_text(""), "reading Arrow data", open)?))
    }

    /// Registers a frame as a view, and replaces a view of the same name.
    ///
    /// # Errors
    /// A name that cannot be registered.
    pub fn create_temp_view(&self, name: &str, frame: &DataFrame) -> Result<()> {
        self.name_table(name, frame.provider()?)
    }

    /// Registers a table that SQL can read or write, and releases the table that had the name
    /// before.
    pub fn name_table(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        if name.is_empty() {
            return Err(Error::InvalidArgument("view name: expected a name, got an empty text".into()));
        }
        self.views.replace(name, table);
        self.plans.invalidate();
        Ok(())
    }

    /// Removes the name of a view or a table of the session's own, unless it has none.
    ///
    /// # Errors
    /// The name of a replica.
    pub fn drop_view(&self, name: &str) -> Result<()> {
        use datafusion::catalog::SchemaProvider;

        let removed = self.views.deregister_table(name)?;
        self.plans.invalidate();
        drop(removed);
        Ok(())
    }

    /// Returns the state of one query, which sees the current snapshot of the replicas.
    pub fn state(&self) -> SessionState {
        let mut state = self.ctx.state();
        if let Some(replicas) = self.views.replicas() {
            state.config_mut().set_extension(replicas.snapshot());
        }
        state
    }

    /// Returns the state of one query that sees `snapshot`, or the current snapshot of the
    /// replicas.
    fn state_at(&self, snapshot: Option<&Arc<Snapshot>>) -> Arc<SessionState> {
        let mut state = self.state();
        if let Some(snapshot) = snapshot {
            state.config_mut().set_extension(Arc::clone(snapshot));
        }
        Arc::new(state)
    }

    /// Returns true if a plan is cached.
    pub fn has_cached_plans(&self) -> bool {
        !self.plans.is_empty()
    }

    /// Returns the object stores that its queries read and write.
    pub fn object_stores(&self) -> &Arc<ObjectStores> {
        &self.stores
    }

    /// Returns the scheduler of its queries.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Returns true if SQL has a function of this name, which is in lower case.
    pub fn has_function(&self, name: &str) -> bool {
        let state = self.ctx.state_ref();
        let state = state.read();
        state.scalar_functions().contains_key(name)
            || state.aggregate_functions().contains_key(name)
            || state.window_functions().contains_key(name)
    }

    /// Returns the name and columns of the session's own table that has this name in any case.
    pub fn own_table(&self, name: &str) -> Option<(String, SchemaRef)> {
        self.views.own_table(name)
    }

    /// The names of its tables and views, and of the replicas, in order.
    pub fn tables(&self) -> Vec<String> {
        use datafusion::catalog::SchemaProvider;

        self.views.table_names()
    }
}
