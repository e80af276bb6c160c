//! Lazy DataFrame: a query that has not run, or rows in memory.

mod output;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::dataframe::DataFrame as DataFusionFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use tokio::sync::mpsc::Sender;
use vexact_cooperative::Scheduler;
use vexact_core::entry::{EntryStream, enter, entry};
use vexact_core::error::Result;
use vexact_core::rows::conform;
use vexact_core::sql::excerpt;
use vexact_replica::Snapshot;
use vexact_sql::chunks::ChunkTable;
use vexact_sql::deep::{Deep, on_stack};
use vexact_sql::{Explained, explain_plan};

use super::plan_cache::BoundPlan;
use super::time_limit::{timed, timeout, within};
use super::{row_order, workers};

/// Rows in memory, or the query that produces them. A query runs only when its rows are read; each
/// read runs it again.
#[derive(Clone)]
pub struct DataFrame {
    source: Deep<Source>,
    /// Statement of the frame, for errors.
    statement: Arc<str>,
    /// Time limit of the query; `None` for the session's limit.
    timeout: Option<Duration>,
}

#[derive(Clone)]
enum Source {
    Query(Arc<SessionState>, LogicalPlan),
    /// A query whose plan is cached, with its columns.
    Cached(BoundPlan, SchemaRef),
    /// A whole table: a view of it is that table, so that searches find it.
    Table(SessionContext, Arc<dyn TableProvider>),
}

/// A frame whose query is planned.
pub struct PlannedFrame {
    statement: Arc<str>,
    plans: Deep<Plans>,
    context: Arc<TaskContext>,
}

struct Plans {
    logical: LogicalPlan,
    physical: Arc<dyn ExecutionPlan>,
}

impl PlannedFrame {
    /// Runs the query and returns its rows as a stream of batches.
    pub fn stream(&self) -> Result<SendableRecordBatchStream> {
        streamed(self.plans.stack(), &self.statement, &self.plans.physical, &self.context)
    }

    /// Explains how the query ran or, if it has not run yet, how it will run.
    pub fn explained(&self) -> Explained {
        on_stack(self.plans.stack(), || {
            let config = self.context.session_config();
            let mut explained = explain_plan(&self.plans.logical, &self.plans.physical, config.options());
            workers::explain(config, &self.plans.physical, &mut explained);
            explained
        })
    }
}

impl std::fmt::Debug for DataFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataFrame({})", self.schema())
    }
}

impl DataFrame {
    /// Returns a query of DataFusion as a frame.
    pub fn of_query(query: DataFusionFrame) -> Self {
        let (state, plan) = query.into_parts();
        Self::of_plan(Arc::new(state), plan)
    }

    /// Creates a frame of a plan; `state` is the session state that the plan was made with.
    pub fn of_plan(state: Arc<SessionState>, plan: LogicalPlan) -> Self {
        let stack = Deep::of_plan(&plan, ()).stack();
        Self::new(stack, Source::Query(state, plan))
    }

    /// Returns a query whose plan is cached.
    ///
    /// # Errors
    /// Values that are not parameters of the statement.
    pub(super) fn of_cached(cached: BoundPlan) -> Result<Self> {
        let stack = cached.stack();
        if let Some(schema) = cached.search_schema() {
            return Ok(Self::new(stack, Source::Cached(cached, schema)));
        }
        let plan = cached.logical()?;
        let source = match cached.is_planned() {
            true => Source::Query(Arc::clone(cached.state()), plan),
            false => {
                let schema = settled_or_written(cached.state(), &plan);
                Source::Cached(cached, schema)
            }
        };
        Ok(Self::new(stack, source))
    }

    /// Returns true if the query is a search that needs no more planning.
    pub async fn is_search(&self) -> bool {
        let Source::Cached(cached, _) = &*self.source else { return false };
        (cached.is_planned() || self.planned().await.is_ok()) && cached.search_schema().is_some()
    }

    /// Returns a table as a frame.
    pub fn of_table(ctx: &SessionContext, table: Arc<dyn TableProvider>) -> Self {
        Self::new(0, Source::Table(ctx.clone(), table))
    }

    fn new(stack: usize, source: Source) -> Self {
        Self { source: Deep::new(stack, source), statement: "a frame".into(), timeout: None }
    }

    /// Sets the statement of the frame, which errors name.
    pub(super) fn of_statement(self, text: &str) -> Self {
        Self { statement: excerpt(text).into(), ..self }
    }

    /// Returns the table provider that a view of this frame scans.
    ///
    /// # Errors
    /// As [`Self::of_cached`].
    pub fn provider(&self) -> Result<Arc<dyn TableProvider>> {
        match &*self.source {
            Source::Table(_, table) => Ok(Arc::clone(table)),
            _ => self.enter(|| Ok(self.query()?.into_view())),
        }
    }

    /// Runs what recurses through the plan and waits for nothing.
    pub(super) fn enter<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        enter(self.source.stack(), &self.statement, work)
    }

    /// Runs asynchronous work that recurses through the plan.
    async fn entry<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let work = entry(self.source.stack(), &self.statement, work);
        match self.timeout() {
            Some(limit) => within(limit, work).await,
            None => work.await,
        }
    }

    /// Returns the object stores of its session.
    fn object_stores(&self) -> Arc<dyn ObjectStoreRegistry> {
        let runtime = match &*self.source {
            Source::Query(state, _) => Arc::clone(state.runtime_env()),
            Source::Cached(cached, _) => Arc::clone(cached.state().runtime_env()),
            Source::Table(ctx, _) => ctx.runtime_env(),
        };
        Arc::clone(&runtime.object_store_registry)
    }

    /// Returns the time limit of the query.
    fn timeout(&self) -> Option<Duration> {
        self.timeout.or_else(|| match &*self.source {
            Source::Query(state, _) => timeout(state),
            Source::Cached(cached, _) => timeout(cached.state()),
            Source::Table(ctx, _) => timeout(&ctx.state_ref().read()),
        })
    }

    /// Returns the same frame with this time limit instead of the session's `vexact.timeout`.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    pub(super) fn query(&self) -> Result<DataFusionFrame> {
        let (state, plan) = match &*self.source {
            Source::Query(state, plan) => (state, plan.clone()),
            Source::Cached(cached, _) => (cached.state(), cached.logical()?),
            Source::Table(ctx, table) => return Ok(ctx.read_table(Arc::clone(table))?),
        };
        Ok(DataFusionFrame::new(state.as_ref().clone(), plan))
    }

    /// Returns the plan to run, and the part of the session that its operators need. The functions
    /// are in the plan.
    pub async fn planned(&self) -> Result<PlannedFrame> {
        let planned = async {
            let (state, plan) = match &*self.source {
                Source::Query(state, plan) => (Arc::clone(state), plan.clone()),
                Source::Cached(cached, _) => (Arc::clone(cached.state()), cached.logical()?),
                Source::Table(..) => {
                    let (state, plan) = self.query()?.into_parts();
                    (Arc::new(state), plan)
                }
            };
            let (logical, physical) = vexact_sql::create_physical_plan(&state, &plan).await?;
            if let Source::Cached(cached, schema) = &*self.source {
                cached.cache_search(&physical, schema);
            }
            let physical = workers::distributed(state.config(), physical)?;
            let plans = Deep::new(self.source.stack(), Plans { logical, physical });
            Ok(PlannedFrame { statement: Arc::clone(&self.statement), plans, context: context(&state) })
        };
        self.entry(planned).await
    }

    /// As [`Self::planned`], without a logical plan if none is needed.
    async fn executable(&self) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>)> {
        if let Source::Cached(cached, _) = &*self.source
            && let Some(search) = cached.search()
        {
            return Ok((search, context(cached.state())));
        }
        let PlannedFrame { plans, context, .. } = self.planned().await?;
        Ok((Arc::clone(&plans.physical), context))
    }

    /// Returns the unoptimized plan of a query; `None` for a whole table.
    pub fn plan(&self) -> Option<LogicalPlan> {
        on_stack(self.source.stack(), || match &*self.source {
            Source::Query(_, plan) => Some(plan.clone()),
            Source::Cached(cached, _) => cached.logical().ok(),
            Source::Table(..) => None,
        })
    }

    /// Returns the snapshot of the replicas that the query reads; `None` for a whole table.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let state = match &*self.source {
            Source::Query(state, _) => state,
            Source::Cached(cached, _) => cached.state(),
            Source::Table(..) => return None,
        };
        state.config().get_extension::<Snapshot>()
    }

    /// Returns the columns of the result: unresolved types are coerced as for running the query.
    ///
    /// # Errors
    /// Types that do not fit together.
    pub fn result_schema(&self) -> Result<SchemaRef> {
        self.enter(|| match &*self.source {
            Source::Query(state, plan) => settled(state, plan.clone()),
            Source::Cached(cached, _) => settled(cached.state(), cached.logical()?),
            Source::Table(_, table) => Ok(table.schema()),
        })
    }

    /// The columns' names and types; where these do not go together, and the query fails, as it is
    /// written.
    pub fn schema(&self) -> SchemaRef {
        match &*self.source {
            Source::Query(state, plan) => on_stack(self.source.stack(), || settled_or_written(state, plan)),
            Source::Cached(_, schema) => Arc::clone(schema),
            Source::Table(_, table) => table.schema(),
        }
    }

    /// Returns the rows if they are already in memory.
    pub fn batches(&self) -> Option<Vec<RecordBatch>> {
        match &*self.source {
            Source::Query(..) | Source::Cached(..) => None,
            Source::Table(_, table) => Some(table.downcast_ref::<ChunkTable>()?.batches().to_vec()),
        }
    }

    /// Runs the query and collects all rows in memory.
    ///
    /// # Errors
    /// A failure of the query.
    pub async fn collect(&self) -> Result<Vec<RecordBatch>> {
        if let Some(batches) = self.batches() {
            return Ok(batches);
        }
        let _foreground = self.scheduler().map(|scheduler| scheduler.begin_query());
        self.collect_counting(|_| ()).await
    }

    /// Returns the scheduler of its session.
    fn scheduler(&self) -> Option<Arc<Scheduler>> {
        match &*self.source {
            Source::Query(state, _) => state.config().get_extension(),
            Source::Cached(cached, _) => cached.state().config().get_extension(),
            Source::Table(context, _) => context.state_ref().read().config().get_extension(),
        }
    }

    /// Casts batches to the reported schema.
    fn as_told(&self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let Some(first) = batches.first() else { return Ok(batches) };
        let told = match &*self.source {
            // Usually the plan has this schema already, and need not be analyzed again.
            Source::Query(_, plan) => match nullable(plan.schema().inner()) {
                written if written.contains(first.schema_ref()) => written,
                _ => self.schema(),
            },
            _ => self.schema(),
        };
        as_schema(batches, &told)
    }

    /// As [`Self::collect`]; `count` is called with the number of rows of each batch as it arrives.
    ///
    /// # Errors
    /// A failure of the query.
    pub async fn collect_counting(&self, count: impl Fn(usize)) -> Result<Vec<RecordBatch>> {
        let collected = async {
            let (physical, context) = self.executable().await?;
            self.as_told(row_order::collect(physical, context, count).await?)
        };
        self.entry(collected).await
    }

    /// Runs the query and returns its rows as a stream of batches.
    ///
    /// # Errors
    /// A failure before the first batch.
    pub async fn stream(&self) -> Result<SendableRecordBatchStream> {
        let (physical, context) = self.executable().await?;
        streamed(self.source.stack(), &self.statement, &physical, &context)
    }

    /// Returns the columns of [`Self::send_batches`].
    pub fn stream_schema(&self) -> SchemaRef {
        nullable(&self.schema())
    }

    /// Runs the query and sends each batch of rows once it is computed, until the receiver is
    /// dropped. Waiting for the receiver does not count as time of the query.
    ///
    /// # Errors
    /// A failure of the query.
    pub async fn send_batches(&self, to: &Sender<RecordBatch>) -> Result<()> {
        let (schema, limit) = (self.stream_schema(), self.timeout());
        let mut spent = Duration::ZERO;
        let mut rows = timed(limit, &mut spent, self.stream()).await?;
        while let Some(batch) = timed(limit, &mut spent, async { Ok(rows.try_next().await?) }).await? {
            for batch in as_schema(vec![batch], &schema)? {
                if to.send(batch).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Returns true if the plan is a statement, such as EXPLAIN, on which no query can be built.
    fn is_statement(&self) -> bool {
        use LogicalPlan::{Analyze, Copy, DescribeTable, Dml, Explain};
        let Source::Query(_, plan) = &*self.source else { return false };
        matches!(plan, Explain(_) | Analyze(_) | DescribeTable(_) | Dml(_) | Copy(_))
    }

    /// Explains the query without running it, in three sections.
    ///
    /// # Errors
    /// A failure of planning.
    pub async fn explain(&self) -> Result<Explained> {
        Ok(self.planned().await?.explained())
    }
}

/// Returns the batches under a schema of the same types.
fn as_schema(batches: Vec<RecordBatch>, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let as_told = |batch| Ok(conform(batch, schema).map_err(DataFusionError::from)?);
    batches.into_iter().map(as_told).collect()
}

/// Runs a plan and returns its rows as a stream of batches.
fn streamed(
    stack: usize,
    statement: &Arc<str>,
    physical: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let started = || Ok(row_order::stream(Arc::clone(physical), Arc::clone(context))?);
    Ok(Box::pin(EntryStream::new(stack, statement, enter(stack, statement, started)?)))
}

/// Returns the schema with nullable columns. What a plan says of NULL is an estimate, which other
/// plans of the query may lack, and which may be wrong (apache/datafusion#24513, #24968).
fn nullable(schema: &SchemaRef) -> SchemaRef {
    if schema.fields().iter().all(|field| field.is_nullable()) {
        return Arc::clone(schema);
    }
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// Returns the task context that the operators of a plan need.
fn context(state: &SessionState) -> Arc<TaskContext> {
    let none = (HashMap::new(), HashMap::new(), HashMap::new(), HashMap::new());
    let (id, config, runtime) =
        (state.session_id().to_owned(), state.config().clone(), Arc::clone(state.runtime_env()));
    Arc::new(TaskContext::new(None, id, config, none.0, none.1, none.2, none.3, runtime))
}

/// Returns the columns of a plan after type coercion, or before it if the types do not fit
/// together.
fn settled_or_written(state: &SessionState, plan: &LogicalPlan) -> SchemaRef {
    settled(state, plan.clone()).unwrap_or_else(|_| nullable(plan.schema().inner()))
}

/// Returns the columns of a plan after type coercion. Each may have NULL.
pub(super) fn settled(state: &SessionState, plan: LogicalPlan) -> Result<SchemaRef> {
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
    Ok(nullable(plan.schema().inner()))
}
