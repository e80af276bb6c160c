//! Statements: SQL with bound rows of parameters, or the ingestion of rows into a table.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use adbc_core::error::{Result, Status};
use adbc_core::options::{IngestMode, OptionStatement, OptionValue};
use adbc_core::{CancelHandle, Optionable, PartitionedResult};
use arrow::array::{AsArray, RecordBatch, RecordBatchReader};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::common::ParamValues;
use futures::TryStreamExt;
use vexact::htap::{HtapEngine, Param, Params};
use vexact::router::all_by_number;

use super::bind::{Bound, read_all};
use super::connection::State;
use super::database::{Shared, Source};
use super::ingest;
use super::options::{TIMEOUT, boolean, not_found, seconds, text, unknown};
use super::reader::{Reader, Rows, nullable};
use super::running::{Cancellation, Deadline};
use super::sql_text::{Kind, as_table, kind, parameters};
use super::status::{error, invalid, unsupported};

const BY_NAME: &str = "adbc.statement.bind_by_name";
/// The number of rows that the last execution changed; -1 if it is not known.
const ROWS_AFFECTED: &str = "vexact.rows_affected";

/// A statement of the driver.
pub struct Statement {
    shared: Arc<Shared>,
    state: Arc<State>,
    cancellation: Cancellation,
    sql: Option<String>,
    bound: Option<(SchemaRef, Vec<RecordBatch>)>,
    by_name: bool,
    timeout: Option<Duration>,
    target: ingest::Target,
    rows_affected: Option<u64>,
}

impl Statement {
    pub fn new(shared: Arc<Shared>, state: Arc<State>) -> Self {
        let timeout = shared.timeout;
        Self {
            shared,
            state,
            cancellation: Cancellation::default(),
            sql: None,
            bound: None,
            by_name: false,
            timeout,
            target: ingest::Target::default(),
            rows_affected: None,
        }
    }

    fn sql(&self) -> Result<&str> {
        self.sql.as_deref().ok_or_else(|| error(Status::InvalidState, "the statement has no SQL: set the query first"))
    }

    fn take_bound(&mut self) -> Option<Bound> {
        self.bound.take().map(|(_, batches)| Bound { batches, by_name: self.by_name })
    }

    /// Runs a future under the statement's deadline and cancellation.
    fn run<T: Send + 'static>(
        &self,
        deadline: Option<Deadline>,
        future: impl Future<Output = vexact::Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.shared.threads.run(&self.cancellation, deadline, future)
    }

    /// Runs the statement, and returns the rows and the number of changed rows.
    fn run_statement(&mut self, deadline: Option<Deadline>) -> Result<(Rows, Option<u64>)> {
        self.cancellation.reset();
        self.rows_affected = None;
        if let Some(table) = self.target.table.clone() {
            self.state.check_writable("ingestion")?;
            let (schema, rows) = self
                .bound
                .take()
                .ok_or_else(|| error(Status::InvalidState, "ingestion: expected bound rows, got none"))?;
            let ingestion = ingest::Ingestion { table, mode: self.target.mode, schema, rows };
            let affected = ingestion.run(&self.shared, |future| self.run(deadline, future))?;
            return Ok((Rows::none(), Some(affected)));
        }
        let sql = self.sql()?.to_owned();
        let kind = kind(&sql);
        if matches!(kind, Kind::Write | Kind::Returning) {
            self.state.check_writable("a statement that writes")?;
        }
        let bound = self.take_bound();
        if bound.as_ref().is_some_and(|bound| bound.rows() == 0) {
            return Ok((Rows::none(), Some(0)));
        }
        let shared = Arc::clone(&self.shared);
        match &shared.source {
            Source::Session(session) => {
                let rows = bound.as_ref().map(Bound::of_session).transpose()?;
                let sql = match &rows {
                    Some(rows) => numbered(&sql, rows.first())?,
                    None => sql,
                };
                let params = rows.map_or_else(|| vec![None], |rows| rows.into_iter().map(Some).collect());
                let session = session.clone();
                let is_write = kind == Kind::Write;
                self.run(deadline, async move { on_session(&session, &sql, params, is_write).await })
            }
            Source::Engine(engine) => {
                let params = bound.as_ref().map(|bound| bound.of_engine(&sql)).transpose()?;
                let (engine, is_fresh) = (Arc::clone(engine), shared.is_fresh);
                self.run(deadline, async move { on_engine(&engine, &sql, kind, params, is_fresh).await })
            }
        }
    }
}

/// Rewrites `?` to `$1`, which the parser of sessions numbers.
fn numbered(sql: &str, params: Option<&ParamValues>) -> Result<String> {
    let Some(ParamValues::List(values)) = params.filter(|_| sql.contains('?')) else { return Ok(sql.to_owned()) };
    let values = vec![Param::Null; values.len()];
    Ok(all_by_number(sql, Params::from(values)).map_err(|error| super::status::converted(&error))?.0)
}

/// Runs a statement on a session, once for each row of parameters. The rows of one query are
/// streamed, those of several are collected.
async fn on_session(
    session: &vexact::Session,
    sql: &str,
    mut params: Vec<Option<ParamValues>>,
    is_write: bool,
) -> vexact::Result<(Rows, Option<u64>)> {
    if params.len() == 1 {
        let frame = session.sql(sql, params.remove(0)).await?;
        let schema = nullable(&frame.schema());
        if is_write {
            let batches = frame.collect().await?;
            return Ok((Rows::of(&schema, batches.clone()), changed(&batches)));
        }
        if let Some(batches) = frame.batches() {
            return Ok((Rows::of(&schema, batches), None));
        }
        let mut rest = frame.stream().await?;
        // Most failures of a query happen before its first rows; they are the call's own then.
        let first = rest.try_next().await?;
        let batches = first.into_iter().collect();
        return Ok((Rows { schema, batches, rest: Some(rest) }, None));
    }
    let (mut schema, mut all, mut total) = (None, Vec::new(), None);
    for params in params {
        let frame = session.sql(sql, params).await?;
        schema.get_or_insert_with(|| nullable(&frame.schema()));
        let batches = frame.collect().await?;
        if let Some(count) = changed(&batches).filter(|_| is_write) {
            *total.get_or_insert(0) += count;
        }
        all.extend(batches);
    }
    let schema = schema.unwrap_or_else(|| Arc::new(Schema::empty()));
    Ok((Rows::of(&schema, all), total))
}

/// Returns the number of rows that INSERT reports.
fn changed(batches: &[RecordBatch]) -> Option<u64> {
    let [batch] = batches else { return None };
    let counts = batch.column_by_name("count")?.as_primitive_opt::<UInt64Type>()?;
    (batch.num_rows() == 1).then(|| counts.value(0))
}

/// Runs a statement on an engine, once for each row of parameters. A change with several rows is
/// one transaction.
async fn on_engine(
    engine: &HtapEngine,
    sql: &str,
    kind: Kind,
    params: Option<Vec<Params>>,
    is_fresh: bool,
) -> vexact::Result<(Rows, Option<u64>)> {
    if kind == Kind::Write {
        let affected = match params {
            None => engine.execute(sql, Params::NONE).await?,
            Some(mut rows) if rows.len() == 1 => engine.execute(sql, rows.remove(0)).await?,
            Some(rows) => engine.execute_many(sql, rows).await?,
        };
        return Ok((Rows::none(), Some(affected)));
    }
    if is_fresh && kind == Kind::Query {
        engine.sync_all().await?;
    }
    let mut all: Vec<RecordBatch> = Vec::new();
    for params in params.unwrap_or_else(|| vec![Params::NONE]) {
        let found = match kind {
            Kind::Returning => engine.execute_returning(sql, params).await?,
            Kind::Pragma => match engine.query(sql, params.clone()).await {
                Ok(found) => found,
                // A PRAGMA that sets: the engine refuses the ones that it does not allow.
                Err(_) => {
                    engine.execute(sql, params).await?;
                    return Ok((Rows::none(), Some(0)));
                }
            },
            _ => engine.query(sql, params).await?,
        };
        all.extend(found);
    }
    let affected = (kind == Kind::Returning).then(|| all.iter().map(RecordBatch::num_rows).sum::<usize>() as u64);
    let schema = all.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    Ok((Rows::of(&schema, all), affected))
}

impl Optionable for Statement {
    type Option = OptionStatement;

    fn set_option(&mut self, key: OptionStatement, value: OptionValue) -> Result<()> {
        let name = key.as_ref().to_owned();
        match &key {
            OptionStatement::TargetTable => {
                self.target.table = Some(text(&name, value)?);
                self.sql = None;
            }
            OptionStatement::IngestMode => self.target.mode = IngestMode::try_from(&value)?,
            OptionStatement::TargetCatalog | OptionStatement::TargetDbSchema => {
                let (catalog, schema) = super::catalog::names(&self.shared);
                let expected = if matches!(key, OptionStatement::TargetCatalog) { catalog } else { schema };
                let got = text(&name, value)?;
                if got != expected {
                    return Err(invalid(format!("option {name}: expected {expected:?}, got {got:?}")));
                }
            }
            OptionStatement::Temporary => {
                if boolean(&name, value)? {
                    return Err(unsupported("ingestion into a temporary table: expected a table of the database"));
                }
            }
            OptionStatement::Other(key) if key == BY_NAME => self.by_name = boolean(&name, value)?,
            OptionStatement::Other(key) if key == TIMEOUT => self.timeout = Some(seconds(&name, value)?),
            _ => {
                let known = format!("the options of ingestion, {BY_NAME} or {TIMEOUT}");
                return Err(unknown("statement", &name, &known));
            }
        }
        Ok(())
    }

    fn get_option_string(&self, key: OptionStatement) -> Result<String> {
        match &key {
            OptionStatement::TargetTable if let Some(table) = &self.target.table => Ok(table.clone()),
            OptionStatement::IngestMode => Ok(self.target.mode.into()),
            OptionStatement::Other(key) if key == BY_NAME => Ok(self.by_name.to_string()),
            _ => Err(not_found("statement", key.as_ref())),
        }
    }

    fn get_option_bytes(&self, key: OptionStatement) -> Result<Vec<u8>> {
        self.get_option_string(key).map(String::into_bytes)
    }

    fn get_option_int(&self, key: OptionStatement) -> Result<i64> {
        match key.as_ref() {
            ROWS_AFFECTED => Ok(self.rows_affected.map_or(-1, |rows| rows as i64)),
            key => Err(not_found("statement", key)),
        }
    }

    fn get_option_double(&self, key: OptionStatement) -> Result<f64> {
        match (key.as_ref(), self.timeout) {
            (TIMEOUT, Some(timeout)) => Ok(timeout.as_secs_f64()),
            (key, _) => Err(not_found("statement", key)),
        }
    }
}

impl adbc_core::Statement for Statement {
    fn bind(&mut self, batch: RecordBatch) -> Result<()> {
        self.bound = Some((batch.schema(), vec![batch]));
        Ok(())
    }

    fn bind_stream(&mut self, reader: Box<dyn RecordBatchReader + Send>) -> Result<()> {
        let schema = reader.schema();
        self.bound = Some((schema, read_all(reader)?));
        Ok(())
    }

    fn execute(&mut self) -> Result<Box<dyn RecordBatchReader + Send + 'static>> {
        let deadline = self.timeout.map(Deadline::after);
        let (rows, affected) = self.run_statement(deadline)?;
        self.rows_affected = affected;
        Ok(Box::new(Reader::new(Arc::clone(&self.shared), self.cancellation.clone(), deadline, rows)))
    }

    fn execute_update(&mut self) -> Result<Option<i64>> {
        let deadline = self.timeout.map(Deadline::after);
        let (rows, affected) = self.run_statement(deadline)?;
        self.rows_affected = affected;
        if rows.rest.is_some() {
            // A query whose rows nobody reads: its failures are reported all the same.
            let reader = Reader::new(Arc::clone(&self.shared), self.cancellation.clone(), deadline, rows);
            read_all(reader)?;
        }
        Ok(affected.map(|rows| rows as i64))
    }

    fn execute_schema(&mut self) -> Result<Schema> {
        self.cancellation.reset();
        let sql = self.sql()?.to_owned();
        let kind = kind(&sql);
        if kind != Kind::Query {
            return match kind {
                Kind::Write => Ok(Schema::empty()),
                _ => Err(unsupported("the columns of a PRAGMA or of RETURNING before it is run")),
            };
        }
        let deadline = self.timeout.map(Deadline::after);
        match &self.shared.source {
            Source::Session(session) => {
                let session = session.clone();
                let schema = async move { Ok(nullable(&session.sql(&sql, None).await?.schema())) };
                Ok(self.run(deadline, schema)?.as_ref().clone())
            }
            Source::Engine(engine) => {
                let (engine, count) = (Arc::clone(engine), parameters(&sql).len());
                let schema = async move {
                    let none = Params::from(vec![Param::Null; count]);
                    let empty = engine.query(&format!("SELECT * FROM {} LIMIT 0", as_table(&sql)), none).await;
                    let found = match empty {
                        Ok(found) => found,
                        // EXPLAIN and SHOW are no tables.
                        Err(_) => engine.query(&sql, Params::from(vec![Param::Null; count])).await?,
                    };
                    Ok(found.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema))
                };
                Ok(nullable(&self.run(deadline, schema)?).as_ref().clone())
            }
        }
    }

    fn execute_partitions(&mut self) -> Result<PartitionedResult> {
        Err(unsupported("results in partitions: expected execute"))
    }

    fn get_parameter_schema(&self) -> Result<Schema> {
        let fields = parameters(self.sql()?).into_iter().map(|name| Field::new(name, DataType::Null, true));
        Ok(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn prepare(&mut self) -> Result<()> {
        // Plans are cached by their text; there is nothing to keep here.
        self.sql().map(drop)
    }

    fn set_sql_query(&mut self, query: impl AsRef<str>) -> Result<()> {
        self.sql = Some(query.as_ref().to_owned());
        self.target = ingest::Target::default();
        Ok(())
    }

    fn set_substrait_plan(&mut self, _: impl AsRef<[u8]>) -> Result<()> {
        Err(unsupported("Substrait plans: expected SQL"))
    }

    fn get_cancel_handle(&self) -> Box<dyn CancelHandle> {
        Box::new(self.cancellation.clone())
    }
}
