//! Ingestion: bound rows become rows of a table, all or none.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use adbc_core::error::{Result, Status};
use adbc_core::options::IngestMode;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use vexact::Session;
use vexact::htap::{Argument, HtapEngine, Params, Statement};

use super::bind::Bound;
use super::database::{Shared, Source};
use super::sql_text::quoted;
use super::status::{error, invalid};

/// The most parameters of one statement in SQLite.
const PARAMETERS: usize = 32_766;

/// The target of a statement's bound rows.
pub struct Target {
    /// The table; `None` if the statement is SQL.
    pub table: Option<String>,
    pub mode: IngestMode,
}

impl Default for Target {
    fn default() -> Self {
        Self { table: None, mode: IngestMode::Create }
    }
}

/// One ingestion.
pub struct Ingestion {
    pub table: String,
    pub mode: IngestMode,
    pub schema: SchemaRef,
    pub rows: Vec<RecordBatch>,
}

type Work<T> = Pin<Box<dyn Future<Output = vexact::Result<T>> + Send>>;

impl Ingestion {
    /// Writes the rows; `run` runs the engine's work. Returns the number of rows.
    pub fn run(self, shared: &Shared, run: impl Fn(Work<Option<u64>>) -> Result<Option<u64>>) -> Result<u64> {
        if self.schema.fields().is_empty() {
            return Err(invalid(format!("ingestion into table {:?}: expected columns, got none", self.table)));
        }
        let (table, mode) = (self.table.clone(), self.mode);
        let written = match &shared.source {
            Source::Session(session) => {
                let session = session.clone();
                run(Box::pin(async move { into_session(&session, self).await }))?
            }
            Source::Engine(engine) => {
                let engine = Arc::clone(engine);
                let create = self.create_table()?;
                let inserts = self.inserts()?;
                let count = self.rows.iter().map(|batch| batch.num_rows() as u64).sum();
                run(Box::pin(async move {
                    let is_done = into_engine(&engine, (&table, mode), create, inserts).await?;
                    Ok(is_done.then_some(count))
                }))?
            }
        };
        written.ok_or_else(|| match mode {
            IngestMode::Append => error(Status::NotFound, "ingestion: the table to append to does not exist"),
            _ => error(Status::AlreadyExists, "ingestion: the table to create exists already"),
        })
    }

    /// Returns the statement that creates the table in SQLite.
    fn create_table(&self) -> Result<String> {
        let column = |field: &Arc<arrow::datatypes::Field>| {
            let declared = declared_type(field.data_type()).ok_or_else(|| {
                invalid(format!("column {:?}: SQLite has no type for {}", field.name(), field.data_type()))
            })?;
            let null = if field.is_nullable() { "" } else { " NOT NULL" };
            Ok(format!("{} {declared}{null}", quoted(field.name())))
        };
        let columns = self.schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        Ok(format!("CREATE TABLE {} ({})", quoted(&self.table), columns.join(", ")))
    }

    /// Returns the statements that insert the rows, each with as many rows as its parameters allow.
    fn inserts(&self) -> Result<Vec<Statement>> {
        let columns = self.schema.fields().len();
        if columns > PARAMETERS {
            return Err(invalid(format!("ingestion: expected at most {PARAMETERS} columns, got {columns}")));
        }
        let names: Vec<_> = self.schema.fields().iter().map(|field| quoted(field.name())).collect();
        let into = format!("INSERT INTO {} ({}) VALUES ", quoted(&self.table), names.join(", "));
        let row = format!("({})", vec!["?"; columns].join(", "));
        let mut statements = Vec::new();
        for batch in &self.rows {
            let bound = Bound { batches: vec![batch.clone()], by_name: false };
            let mut values = bound.of_engine("")?;
            let most = (PARAMETERS / columns).min(1000);
            while !values.is_empty() {
                let rest = values.split_off(values.len().min(most));
                let sql = format!("{into}{}", vec![row.as_str(); values.len()].join(", "));
                let arguments = values.into_iter().flat_map(|row| match row {
                    Params::Positional(arguments) => arguments,
                    Params::Named(named) => named.into_iter().map(|(_, argument)| argument).collect(),
                });
                let arguments: Vec<Argument> = arguments.collect();
                statements.push(Statement { sql, params: Params::Positional(arguments) });
                values = rest;
            }
        }
        Ok(statements)
    }
}

/// Returns SQLite's declared type for an Arrow type. Vectors are declared as `F32_BLOB(n)`.
fn declared_type(data_type: &DataType) -> Option<String> {
    Some(match data_type {
        DataType::Boolean => "BOOLEAN".into(),
        integer if integer.is_integer() => "INTEGER".into(),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => "REAL".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => "TEXT".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "BLOB".into(),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            "NUMERIC".into()
        }
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Timestamp(..) => "TIMESTAMP".into(),
        DataType::Dictionary(_, values) => return declared_type(values),
        DataType::FixedSizeList(item, dim) if item.data_type().is_numeric() => format!("F32_BLOB({dim})"),
        DataType::List(item) | DataType::LargeList(item) if item.data_type().is_numeric() => "BLOB".into(),
        _ => return None,
    })
}

/// Creates the table as the mode says, and inserts the rows, in one transaction. Returns false if
/// the table must exist and does not, or must not and does.
async fn into_engine(
    engine: &HtapEngine,
    (table, mode): (&str, IngestMode),
    create: String,
    inserts: Vec<Statement>,
) -> vexact::Result<bool> {
    let name = vec![vexact::htap::Param::Text(table.to_owned())];
    let exists = "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE";
    let exists = engine.query(exists, name).await?.iter().any(|batch| batch.num_rows() > 0);
    let mut statements: Vec<Statement> = match (mode, exists) {
        (IngestMode::Create, true) | (IngestMode::Append, false) => return Ok(false),
        (IngestMode::Replace, true) => vec![format!("DROP TABLE {}", quoted(table)).into(), create.into()],
        (_, false) => vec![create.into()],
        (_, true) => Vec::new(),
    };
    statements.extend(inserts);
    engine.execute_batch(statements).await?;
    Ok(true)
}

/// As [`into_engine`], for a session, whose tables are in memory. Returns the number of rows.
async fn into_session(session: &Session, ingestion: Ingestion) -> vexact::Result<Option<u64>> {
    static COUNT: AtomicU64 = AtomicU64::new(0);

    let Ingestion { table, mode, schema, rows } = ingestion;
    let count = rows.iter().map(|batch| batch.num_rows() as u64).sum();
    let exists = session.tables().contains(&table);
    let name = quoted(&table);
    let source = format!("__adbc_ingestion_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let rows_of = format!("SELECT * FROM {}", quoted(&source));
    let statement = match (mode, exists) {
        (IngestMode::Create, true) | (IngestMode::Append, false) => return Ok(None),
        (IngestMode::Replace, true) => format!("CREATE OR REPLACE TABLE {name} AS {rows_of}"),
        (_, false) => format!("CREATE TABLE {name} AS {rows_of}"),
        (_, true) => format!("INSERT INTO {name} {rows_of}"),
    };
    session.create_temp_view(&source, &session.create_dataframe_from_arrow(schema, rows)?)?;
    let written = match session.sql(&statement, None).await {
        Ok(frame) => frame.collect().await.map(drop),
        Err(error) => Err(error),
    };
    session.sql(&format!("DROP TABLE IF EXISTS {}", quoted(&source)), None).await?;
    written.map(|()| Some(count))
}
