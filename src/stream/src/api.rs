//! Streams in SQL: runs queries over streams and writes their results.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use vexact_core::error::{Error, Result};
use vexact_sql::Explained;

use super::options::{ExecutionMode, StreamOptions};
use super::pipeline::Pipeline;
use super::query::{StreamingQuery, threads};
use super::run::{StreamDriver, aggregate_facts};
use super::sink::SinkTable;
use super::source::SourceTable;
use super::sql::{Planned, plan, stream_state};
use super::table::{SinkRelation, Stream, StreamQuery, StreamRelation};
use super::target::Target;
use super::workers::Workers;

/// An unbounded sequence of rows: a source, or a SELECT over one that no query runs yet.
#[derive(Clone)]
pub struct StreamFrame {
    context: SessionContext,
    relation: StreamRelation,
    /// SQL text of the query.
    text: String,
}

impl std::fmt::Debug for StreamFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamFrame({})", self.schema())
    }
}

/// Wraps a sink as a table of a catalog, the target of `INSERT INTO`.
pub fn sink_table(sink: Arc<dyn SinkTable>) -> Arc<dyn TableProvider> {
    Arc::new(SinkRelation::new(sink))
}

/// Plans a SELECT over a stream: a view, a source table, or another such SELECT. It runs when it is
/// written to a sink. `state` is the session state of this query.
///
/// # Errors
/// SQL that cannot be planned; an operation that is not supported over a stream, with the reason.
pub async fn stream_sql(context: &SessionContext, state: SessionState, sql: &str) -> Result<StreamFrame> {
    let Planned { insert, query } = plan(state, sql).await?;
    if insert.is_some() {
        return Err(Error::InvalidArgument("expected SELECT, got INSERT: start_stream_sql runs it".into()));
    }
    // Building the pipeline rejects now what would be rejected when the query runs.
    Pipeline::build(&query, 1).await?;
    let relation = StreamRelation::new(Stream::Query(Arc::new(query)));
    Ok(StreamFrame { context: context.clone(), relation, text: one_line(sql) })
}

/// Opens `INSERT INTO sink SELECT ...` over a stream as a query, without starting it. Its source,
/// sink and checkpoint have been opened and checked.
///
/// # Errors
/// SQL that cannot be planned; an operation that is not supported over a stream; columns that do
/// not fit, with names and types; a delivery mode that the source or the sink does not support; a
/// checkpoint of another query.
pub async fn start_stream_sql(state: SessionState, sql: &str, options: StreamOptions) -> Result<StreamingQuery> {
    let Planned { insert, query } = plan(state.clone(), sql).await?;
    let Some((name, columns)) = insert else {
        let problem = "expected INSERT INTO sink SELECT, got SELECT: stream_sql takes it, and a sink its rows";
        return Err(Error::InvalidArgument(problem.into()));
    };
    let target = target(&state, &name, columns).await?;
    open(&query, &target, one_line(sql), options).await
}

/// As [`start_stream_sql`], with the explain of the query; a SELECT is written to the sink
/// `default`.
///
/// # Errors
/// As [`start_stream_sql`].
pub async fn start_stream_sql_into(
    state: SessionState,
    default: &str,
    sql: &str,
    options: StreamOptions,
) -> Result<(StreamingQuery, Explained)> {
    let Planned { insert, query } = plan(state.clone(), sql).await?;
    let (name, columns) = insert.unwrap_or_else(|| (TableReference::bare(default), Vec::new()));
    let target = target(&state, &name, columns).await?;
    let explained = explain(&query, Some(&target), &options).await?;
    Ok((open(&query, &target, one_line(sql), options).await?, explained))
}

/// Explains a streaming query, SELECT or INSERT, without running it, in three sections.
///
/// # Errors
/// As [`start_stream_sql`].
pub async fn explain_stream_sql(state: SessionState, sql: &str, options: &StreamOptions) -> Result<Explained> {
    let Planned { insert, query } = plan(state.clone(), sql).await?;
    let target = match insert {
        Some((name, columns)) => Some(target(&state, &name, columns).await?),
        None => None,
    };
    explain(&query, target.as_ref(), options).await
}

async fn target(state: &SessionState, name: &TableReference, columns: Vec<String>) -> Result<Target> {
    let found = match state.schema_for_ref(name.clone()) {
        Ok(schema) => schema.table(name.table()).await?,
        Err(_) => None,
    };
    let Some(provider) = found else {
        return Err(Error::InvalidArgument(format!("sink {name} not found: expected the name of a sink")));
    };
    let provider: &dyn TableProvider = provider.as_ref();
    if provider.downcast_ref::<StreamRelation>().is_some() {
        return Err(Error::InvalidArgument(format!("{name} is a source, which cannot be written to: expected a sink")));
    }
    match provider.downcast_ref::<SinkRelation>() {
        Some(sink) => Ok(Target { sink: Arc::clone(&sink.sink), name: name.to_string(), columns }),
        None => Err(Error::InvalidArgument(format!(
            "{name} is a table, which a streaming query does not write to: expected a sink"
        ))),
    }
}

impl StreamFrame {
    /// Creates a frame of a source.
    pub fn of_source(context: &SessionContext, source: Arc<dyn SourceTable>) -> Self {
        let relation = StreamRelation::new(Stream::Source(source));
        Self { context: context.clone(), relation, text: "source".into() }
    }

    /// Returns the table provider that a view of this frame scans, for streaming SQL.
    pub fn provider(&self) -> Arc<dyn TableProvider> {
        Arc::new(self.relation.clone())
    }

    /// Returns the columns' names and types.
    pub fn schema(&self) -> SchemaRef {
        self.relation.schema()
    }

    /// Returns true if the input is finite.
    pub fn is_bounded(&self) -> bool {
        self.relation.stream.source().is_bounded()
    }

    /// Writes the rows to a sink, as a query that is opened and not started.
    ///
    /// # Errors
    /// As [`start_stream_sql`].
    pub async fn write(&self, sink: Arc<dyn SinkTable>, options: StreamOptions) -> Result<StreamingQuery> {
        let target = Target { sink, name: "of the query".into(), columns: Vec::new() };
        open(&self.query()?, &target, self.text.clone(), options).await
    }

    /// Explains the query without running it, in three sections.
    ///
    /// # Errors
    /// As [`start_stream_sql`].
    pub async fn explain(&self, options: &StreamOptions) -> Result<Explained> {
        explain(&self.query()?, None, options).await
    }

    /// Returns the query of all rows.
    fn query(&self) -> Result<StreamQuery> {
        use datafusion::datasource::provider_as_source;
        use datafusion::logical_expr::LogicalPlanBuilder;

        if let Stream::Query(query) = &self.relation.stream {
            return Ok(StreamQuery {
                input: query.input.clone(),
                plan: query.plan.clone(),
                state: query.state.clone(),
            });
        }
        let source = provider_as_source(Arc::new(self.relation.clone()));
        let plan = LogicalPlanBuilder::scan("source", source, None)?.build()?;
        let state = stream_state(self.context.state());
        Ok(StreamQuery { input: Box::new(self.relation.clone()), plan: plan.into(), state })
    }
}

/// Normalizes the white space of SQL, for comparisons.
fn one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn workers(options: &StreamOptions) -> Workers {
    Workers::new(options, threads(), options.delivery == super::Delivery::ExactlyOnce)
}

async fn open(query: &StreamQuery, target: &Target, text: String, options: StreamOptions) -> Result<StreamingQuery> {
    options.check()?;
    let workers = workers(&options);
    let pipeline = Pipeline::build(query, workers.partitions).await?;
    let (run, progress) = StreamDriver::open(pipeline, target, text, options, workers).await?;
    Ok(StreamingQuery::new(run, progress))
}

async fn explain(query: &StreamQuery, target: Option<&Target>, options: &StreamOptions) -> Result<Explained> {
    options.check()?;
    let workers = workers(options);
    let pipeline = Pipeline::build(query, workers.partitions).await?;
    let mut lines = vec![("mode", "stream".to_owned())];
    lines.push(("source", if pipeline.source.is_bounded() { "bounded" } else { "unbounded" }.into()));
    if let Some(target) = target {
        target.schema(pipeline.schema())?;
        lines.push(("sink", target.name.clone()));
    }
    let (implementation, reason) = aggregate_facts(&pipeline);
    lines.push(("aggregate_impl", implementation.into()));
    lines.push(("aggregate_reason", reason));
    if let Some(window) = pipeline.window() {
        let lateness = window.lateness_ms.map_or("none: windows stay open".into(), |lateness| format!("{lateness} ms"));
        lines.push(("window", format!("{} every {} ms, slide {} ms", window.time, window.every_ms, window.slide_ms)));
        lines.push(("window_lateness", lateness));
        lines.push(("window_rows", if window.is_by_pane { "by pane" } else { "by window" }.into()));
    }
    if let Some(what) = pipeline.needs_end {
        lines.push(("runs_at_end", what.into()));
    }
    let (mode, reason) = workers.mode();
    lines.push(("execution_mode", mode.into()));
    lines.push(("execution_reason", reason.into()));
    if options.execution == ExecutionMode::LocalWorkers {
        lines.push(("partitions", workers.partitions.to_string()));
    }
    lines.push(("checkpoint_delivery_mode", options.delivery.name().into()));
    Ok(pipeline.explained(lines))
}
