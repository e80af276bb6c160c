//! Stages that process a micro-batch: plans that run on it, windows that its rows are assigned to,
//! groups that it is merged into.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use futures::future::BoxFuture;
use vexact_core::error::{Error, Result};
use vexact_sql::{Explained, Facts, Strategy, explain_plan};

use super::aggregate::Aggregates;
use super::analysis::analyze;
use super::reserved::Reserved;
use super::run_plan::{RunPlan, concat};
use super::source::SourceTable;
use super::split::{split, stream_passes};
use super::sql::groups_by_window_only;
use super::state::GroupState;
use super::table::{Feed, Stream, StreamQuery, StreamRelation};
use super::window::WindowBy;

enum Stage {
    Plan(RunPlan),
    Window { window: WindowBy, schema: SchemaRef },
    Groups { state: Box<GroupState>, window: Option<(usize, WindowBy)> },
}

/// The stages of a query.
pub(super) struct Pipeline {
    pub source: Arc<dyn SourceTable>,
    stages: Vec<Stage>,
    /// Plan that runs on all rows at the end of the input, and the rows collected for it.
    tail: Option<(RunPlan, Vec<RecordBatch>)>,
    /// Reason why there is a tail.
    pub needs_end: Option<&'static str>,
    schema: SchemaRef,
    /// Names of the aggregates.
    pub aggregates: Option<String>,
    /// The newest event time, in milliseconds since the epoch.
    pub newest: Option<i64>,
    /// Number of rows whose windows were all closed.
    pub late_rows: u64,
    /// Time spent on groups since it was last read.
    state_time: Duration,
    /// Memory that the pipeline holds, reserved from its session's memory.
    reserved: Reserved,
    explained: Explained,
}

impl Pipeline {
    /// Builds the stages of a query, for micro-batches of at most `partitions` partitions.
    ///
    /// # Errors
    /// An operation that is not supported over a stream.
    pub fn build(query: &StreamQuery, partitions: usize) -> BoxFuture<'_, Result<Self>> {
        Box::pin(async move {
            let pool = &query.state.runtime_env().memory_pool;
            let mut pipeline = Self::of_relation(&query.input, partitions, pool).await?;
            let optimized = query.state.optimize(&query.plan)?;
            pipeline.extend(query, &optimized, partitions).await?;
            Ok(pipeline)
        })
    }

    async fn of_relation(relation: &StreamRelation, partitions: usize, pool: &Arc<dyn MemoryPool>) -> Result<Self> {
        let mut pipeline = match &relation.stream {
            Stream::Source(source) => Self {
                source: Arc::clone(source),
                stages: Vec::new(),
                tail: None,
                needs_end: None,
                schema: source.schema(),
                aggregates: None,
                newest: None,
                late_rows: 0,
                state_time: Duration::ZERO,
                reserved: Reserved::new(pool),
                explained: Explained::default(),
            },
            Stream::Query(query) => Self::build(query, partitions).await?,
        };
        if let Some(window) = &relation.window {
            if pipeline.window().is_some() {
                return Err(Error::InvalidArgument("WINDOW BY: the stream has windows already: expected one".into()));
            }
            let schema = relation.schema();
            pipeline.stages.push(Stage::Window { window: window.clone(), schema: Arc::clone(&schema) });
            pipeline.schema = schema;
        }
        Ok(pipeline)
    }

    /// Adds the stages of a plan after the existing stages.
    async fn extend(&mut self, query: &StreamQuery, optimized: &LogicalPlan, partitions: usize) -> Result<()> {
        let survey = analyze(optimized)?;
        if let Some(what) = survey.needs_end.filter(|_| !self.source.is_bounded()) {
            let problem = format!("{what} needs a bounded source: this stream has no end");
            return Err(Error::InvalidArgument(problem));
        }
        if let Some(what) = self.needs_end {
            return Err(Error::InvalidArgument(format!("a stream with {what} cannot be queried as a stream again")));
        }
        if survey.has_groups && self.aggregates.is_some() {
            let problem = "a streaming query cannot have an aggregate of aggregates, also of those of a view";
            return Err(Error::InvalidArgument(problem.into()));
        }
        let feed = Feed::new("MicroBatchExec", Arc::clone(&self.schema), partitions);
        let mut state = query.state.clone();
        state.config_mut().set_extension(Arc::clone(&feed));
        state.config_mut().options_mut().execution.target_partitions = partitions;
        let physical = state.query_planner().create_physical_plan(optimized, &state).await?;
        let physical = stream_passes(&physical)?;
        let parts = split(&physical, survey.has_groups && !survey.is_end_below_groups)?;
        let context = state.task_ctx();
        let mut plans = vec![Arc::clone(&parts.head)];

        self.schema = parts.head.schema();
        if let Some(groups) = parts.groups {
            let node: &dyn ExecutionPlan = parts.head.as_ref();
            let Some(partial) = node.downcast_ref::<AggregateExec>() else {
                return Err(Error::InvalidArgument("a streaming query cannot have this aggregate".into()));
            };
            let window = self.window_of_groups(partial, optimized)?;
            let aggregates = Aggregates::try_new(partial, Arc::clone(&groups.result_schema))?;
            self.aggregates = Some(aggregates.names());
            self.schema = groups.result_schema;
            let groups_state = GroupState::try_new(aggregates, window.as_ref().map(|(key, _)| *key))?;
            self.stages.push(Stage::Plan(RunPlan::new(parts.head, feed, &context)));
            self.stages.push(Stage::Groups { state: Box::new(groups_state), window });
            if let Some((rest, results)) = groups.rest {
                self.schema = rest.schema();
                plans.push(Arc::clone(&rest));
                self.stages.push(Stage::Plan(RunPlan::new(rest, results, &context)));
            }
        } else {
            self.stages.push(Stage::Plan(RunPlan::new(parts.head, feed, &context)));
        }
        if let Some((tail, rows)) = parts.tail {
            self.schema = tail.schema();
            plans.push(Arc::clone(&tail));
            self.tail = Some((RunPlan::new(tail, rows, &context), Vec::new()));
            self.needs_end = survey.needs_end;
        }
        self.explain(optimized, &plans, &state);
        Ok(())
    }

    /// Returns the index of the key that is the window, if the stream has windows.
    fn window_of_groups(
        &mut self,
        partial: &AggregateExec,
        optimized: &LogicalPlan,
    ) -> Result<Option<(usize, WindowBy)>> {
        let is_last = matches!(self.stages.last(), Some(Stage::Window { .. }));
        let Some(window) = self.window_mut() else { return Ok(None) };
        let is_window = |expr: &Arc<dyn datafusion::physical_plan::PhysicalExpr>| {
            expr.downcast_ref::<Column>().is_some_and(|column| column.name() == window.name)
        };
        let Some(key) = partial.group_expr().expr().iter().position(|(expr, _)| is_window(expr)) else {
            let name = &window.name;
            return Err(Error::InvalidArgument(format!(
                "WINDOW BY ... AS {name}: expected {name} in GROUP BY, got none"
            )));
        };
        window.is_by_pane = is_last && window.is_sliding() && groups_by_window_only(optimized, &window.name);
        Ok(Some((key, window.clone())))
    }

    fn window_mut(&mut self) -> Option<&mut WindowBy> {
        self.stages.iter_mut().find_map(|stage| match stage {
            Stage::Window { window, .. } => Some(window),
            _ => None,
        })
    }

    /// Returns the windows of the stream.
    pub fn window(&self) -> Option<&WindowBy> {
        self.stages.iter().find_map(|stage| match stage {
            Stage::Window { window, .. } => Some(window),
            _ => None,
        })
    }

    /// Returns the groups, if the query keeps any.
    pub fn groups(&self) -> Option<&GroupState> {
        self.stages.iter().find_map(|stage| match stage {
            Stage::Groups { state, .. } => Some(state.as_ref()),
            _ => None,
        })
    }

    /// Returns the time spent on groups since the last call.
    pub fn take_state_time(&mut self) -> Duration {
        std::mem::take(&mut self.state_time)
    }

    /// Returns the batches for a checkpoint. They never change, and each has its number.
    pub fn state(&self) -> Vec<(u64, RecordBatch)> {
        match (self.groups(), self.waiting()) {
            (Some(groups), _) => {
                groups.segments().iter().map(|segment| (segment.serial, segment.rows.clone())).collect()
            }
            (None, Some(rows)) => (0..).zip(rows.iter().cloned()).collect(),
            (None, None) => Vec::new(),
        }
    }

    /// Returns the rows that wait for the end of the input.
    fn waiting(&self) -> Option<&[RecordBatch]> {
        // Groups wait in their own state.
        let (_, rows) = self.tail.as_ref().filter(|_| self.groups().is_none())?;
        Some(rows)
    }

    /// Returns the columns of the output rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        let waiting = self.waiting().unwrap_or_default().iter().map(RecordBatch::get_array_memory_size);
        self.groups().map_or(0, GroupState::size_bytes) + waiting.sum::<usize>()
    }

    /// Reads the tables that the stream is joined with; later changes of them are not seen.
    pub async fn open(&mut self) -> Result<()> {
        for stage in &mut self.stages {
            if let Stage::Plan(plan) = stage {
                plan.open().await?;
            }
        }
        if let Some((tail, _)) = &mut self.tail {
            tail.open().await?;
        }
        Ok(())
    }

    /// Restores the state of a checkpoint.
    ///
    /// # Errors
    /// The state of another query; more than the session's memory.
    pub fn restore(&mut self, newest: Option<i64>, late_rows: u64, state: Vec<(u64, RecordBatch)>) -> Result<()> {
        self.put_back(newest, late_rows, state)?;
        self.reserved.resize(self.state_bytes())
    }

    fn put_back(&mut self, newest: Option<i64>, late_rows: u64, state: Vec<(u64, RecordBatch)>) -> Result<()> {
        (self.newest, self.late_rows) = (newest, late_rows);
        let has_tail = self.tail.is_some();
        for stage in &mut self.stages {
            if let Stage::Groups { state: groups, window } = stage {
                groups.restore(state)?;
                let horizon = window.as_ref().and_then(|(_, window)| window.horizon(newest)).filter(|_| !has_tail);
                return horizon.map_or(Ok(()), |horizon| groups.close(horizon));
            }
        }
        if let Some((tail, rows)) = &mut self.tail {
            for (_, batch) in state {
                let schema = Arc::clone(tail.input_schema());
                rows.push(RecordBatch::try_new(schema, batch.columns().to_vec()).map_err(Error::arrow)?);
            }
        }
        Ok(())
    }

    /// Runs a micro-batch, divided into `partitions` partitions, and returns the output rows.
    ///
    /// # Errors
    /// An error of an operator or an aggregate; state beyond the session's memory.
    pub async fn run(&mut self, batch: &RecordBatch, partitions: usize) -> Result<Vec<RecordBatch>> {
        let rows = self.pass(batch, partitions).await?;
        self.reserved.resize(self.state_bytes())?;
        Ok(rows)
    }

    async fn pass(&mut self, batch: &RecordBatch, partitions: usize) -> Result<Vec<RecordBatch>> {
        let mut rows = vec![batch.clone()];
        let before = self.newest;
        for stage in &mut self.stages {
            match stage {
                Stage::Plan(plan) => rows = plan.run(&rows, partitions).await?,
                Stage::Window { window, schema } => {
                    for batch in &mut rows {
                        let assigned = window.assign(schema, batch, before)?;
                        *batch = assigned.rows;
                        self.late_rows += assigned.late_rows;
                        self.newest = self.newest.max(assigned.newest);
                    }
                }
                Stage::Groups { state, window } => {
                    let started = Instant::now();
                    let mut partial = concat(rows, &state.aggregates().state_schema)?;
                    if let Some((key, window)) = window.as_ref().filter(|(_, window)| window.is_by_pane) {
                        partial = window.spread(&partial, *key, before)?;
                    }
                    if self.tail.is_some() {
                        // All results are read at the end.
                        state.take_in(&partial)?;
                        self.state_time += started.elapsed();
                        return Ok(Vec::new());
                    }
                    rows = vec![state.merge(&partial)?];
                    if let Some(horizon) = window.as_ref().and_then(|(_, window)| window.horizon(self.newest)) {
                        state.close(horizon)?;
                    }
                    self.state_time += started.elapsed();
                }
            }
        }
        match &mut self.tail {
            Some((_, waiting)) => {
                waiting.extend(rows.into_iter().filter(|batch| batch.num_rows() > 0));
                Ok(Vec::new())
            }
            None => Ok(rows),
        }
    }

    /// Returns the output rows of the end of the input.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn finish(&mut self) -> Result<Vec<RecordBatch>> {
        if self.tail.is_none() {
            return Ok(Vec::new());
        }
        if self.groups().is_some_and(|state| state.len() == 0) {
            // An aggregate without keys has a result even for no rows.
            self.run(&RecordBatch::new_empty(self.source.schema()), 1).await?;
        }
        let Some((tail, waiting)) = &mut self.tail else { return Ok(Vec::new()) };
        let mut rows = std::mem::take(waiting);
        let mut is_after_groups = false;
        for stage in &mut self.stages {
            match stage {
                Stage::Groups { state, .. } => {
                    rows = state.results()?;
                    is_after_groups = true;
                }
                Stage::Plan(plan) if is_after_groups => rows = plan.run(&rows, 1).await?,
                _ => {}
            }
        }
        tail.run(&rows, 1).await
    }

    /// Adds plans to the explain, in the order in which rows pass them.
    fn explain(&mut self, optimized: &LogicalPlan, plans: &[Arc<dyn ExecutionPlan>], state: &SessionState) {
        for (place, plan) in plans.iter().enumerate() {
            let explained = explain_plan(optimized, plan, state.config_options());
            let own = &mut self.explained;
            if place == 0 {
                own.logical = explained.logical + "\n" + &own.logical;
            }
            own.physical = explained.physical + &own.physical;
            own.strategy.sections.extend(explained.strategy.sections);
        }
    }

    /// Returns the three sections of the explain, with the facts of the stream.
    pub fn explained(&self, stream: Facts) -> Explained {
        let own = self.explained.clone();
        Explained { strategy: Strategy { stream: Some(stream), ..own.strategy }, ..own }
    }
}
