//! DuckDB as the engine of analytical queries: an empty in-memory database that reads the replicas
//! in place.
//!
//! Each query has a connection of its own. Its tables are temporary views over one version of each
//! table, which is immutable while the query runs. DuckDB writes nothing and accesses no files. Its
//! answers get the types that DataFusion gives the same query.

mod bridge;
mod scan;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, VisitMut, VisitorMut};
use duckdb::types::Value;
use duckdb::{Config, Connection, InterruptHandle, params_from_iter};
use parking_lot::Mutex;
use vexact_core::error::{Error, Result};
use vexact_core::sql::ident;
use vexact_replica::TableVersion;

use crate::Param;

use bridge::from_duckdb;
use scan::{ReplicaScan, Ticket};

/// Settings that make every query agree with SQLite and DataFusion, and operations that are
/// forbidden to all queries.
const SETTINGS: &str = "SET GLOBAL default_null_order = 'nulls_first_on_asc_last_on_desc';
    SET GLOBAL integer_division = true;
    SET GLOBAL preserve_insertion_order = false;
    SET GLOBAL temp_directory = '';
    SET GLOBAL enable_external_access = false;
    SET GLOBAL lock_configuration = true";

/// The schema that the router may put before a table's name.
const SCHEMA: &str = "public";

/// A DuckDB instance. Its methods need a tokio runtime and never block its threads.
pub struct DuckDb {
    database: Mutex<Connection>,
}

impl std::fmt::Debug for DuckDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DuckDb")
    }
}

/// One query with its parameters and tables.
#[derive(Debug)]
pub struct Query {
    /// Statement that only reads, in the spelling of the OLAP side.
    pub statement: Statement,
    /// Values of the statement's parameters.
    pub params: Vec<Param>,
    /// Tables that the query reads, by name.
    pub tables: Vec<(String, Arc<TableVersion>)>,
    /// Columns of the answer; `None` for those that DuckDB returns.
    pub schema: Option<SchemaRef>,
}

/// Interrupts a query when its caller is dropped.
struct Waiting(Arc<InterruptHandle>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

impl DuckDb {
    /// Starts DuckDB. Blocks.
    ///
    /// # Errors
    /// Errors of DuckDB.
    pub fn open() -> Result<Self> {
        let config = Config::default().enable_autoload_extension(false).map_err(failed)?;
        let database = Connection::open_in_memory_with_flags(config).map_err(failed)?;
        database.register_table_function::<ReplicaScan>(scan::NAME).map_err(failed)?;
        database.execute_batch(SETTINGS).map_err(failed)?;
        Ok(Self { database: Mutex::new(database) })
    }

    /// Runs a query; an empty answer keeps its schema. A query whose caller is cancelled is
    /// interrupted.
    ///
    /// # Errors
    /// Errors of DuckDB; a column that the expected type cannot hold.
    pub async fn query(&self, query: Query) -> Result<Vec<RecordBatch>> {
        let connection = self.database.lock().try_clone().map_err(failed)?;
        let _waiting = Waiting(connection.interrupt_handle());
        let ended = |error| Err(Error::Engine(format!("a query ended: {error}")));
        tokio::task::spawn_blocking(move || run(&connection, query)).await.unwrap_or_else(ended)
    }
}

fn run(connection: &Connection, query: Query) -> Result<Vec<RecordBatch>> {
    let Query { mut statement, params, tables, schema } = query;
    if let Statement::Statement(statement) = &mut statement {
        let ControlFlow::Continue(()) = statement.visit(&mut Temporary);
    }
    let mut tickets = Vec::with_capacity(tables.len());
    for (name, version) in &tables {
        let ticket = Ticket::of(version)?;
        let (name, number) = (ident(name), ticket.number());
        connection
            .execute_batch(&format!("CREATE TEMP VIEW {name} AS SELECT * FROM {}({number}::UBIGINT)", scan::NAME))
            .map_err(failed)?;
        tickets.push(ticket);
    }
    let mut prepared = connection.prepare(&statement.to_string()).map_err(failed)?;
    let values = params.iter().map(parameter).collect::<Result<Vec<Value>>>()?;
    let answer = prepared.query_arrow(params_from_iter(values)).map_err(failed)?;
    let there = answer.get_schema();
    let columns = there.fields().iter().map(|field| from_duckdb::field(field)).collect::<Result<Vec<Field>, _>>();
    let found = Arc::new(Schema::new(columns.map_err(refused)?));
    let schema = match schema {
        Some(expected) if expected.fields().len() != found.fields().len() => {
            let (expected, got) = (expected.fields().len(), found.fields().len());
            return Err(refused(format!("expected {expected} columns, got {got}")));
        }
        Some(expected) => expected,
        None => found,
    };
    let mut batches = Vec::new();
    for batch in answer {
        let columns: Vec<ArrayRef> = batch
            .columns()
            .iter()
            .map(|column| from_duckdb::array(column))
            .collect::<Result<_, _>>()
            .map_err(refused)?;
        batches.push(typed(&schema, columns, batch.num_rows())?);
    }
    Ok(if batches.is_empty() { vec![RecordBatch::new_empty(schema)] } else { batches })
}

fn failed(source: duckdb::Error) -> Error {
    Error::DuckDb(Box::new(source))
}

fn refused(problem: String) -> Error {
    Error::Engine(format!("DuckDB: {problem}"))
}

/// Casts rows to the types of a schema.
fn typed(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    let cast = |(column, field): (ArrayRef, &Arc<Field>)| match field.data_type() {
        same if same == column.data_type() => Ok(column),
        // DuckDB returns values without a type as integers.
        DataType::Null if column.null_count() == rows => Ok(new_null_array(&DataType::Null, rows)),
        _ => cast_with_options(&column, field.data_type(), &exact)
            .map_err(|error| refused(format!("column {:?}: expected {}: {error}", field.name(), field.data_type()))),
    };
    let columns = columns.into_iter().zip(schema.fields()).map(cast).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(Error::arrow)
}

fn parameter(param: &Param) -> Result<Value> {
    Ok(match param {
        Param::Null => Value::Null,
        Param::Boolean(value) => Value::Boolean(*value),
        Param::Integer(value) => Value::BigInt(*value),
        Param::Real(value) => Value::Double(*value),
        Param::Text(text) => Value::Text(text.clone()),
        Param::Bytes(bytes) => Value::Blob(bytes.clone()),
        Param::Vector(_) => {
            return Err(refused(
                "a vector as a parameter: expected it with a vector function, which DataFusion runs".into(),
            ));
        }
    })
}

/// Names the temporary views in the catalog that contains them.
struct Temporary;

impl VisitorMut for Temporary {
    type Break = std::convert::Infallible;

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Self::Break> {
        let parts: Option<Vec<Ident>> = relation.0.iter().map(|part| part.as_ident().cloned()).collect();
        if let Some([schema, table]) = parts.as_deref()
            && schema.value == SCHEMA
        {
            *relation = ObjectName::from(vec![Ident::new("temp"), table.clone()]);
        }
        ControlFlow::Continue(())
    }
}
