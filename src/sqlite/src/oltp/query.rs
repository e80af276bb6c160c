//! Runs queries on SQLite, and returns their results as typed Arrow batches.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, Statement};
use vexact_core::error::{Error, Result};
use vexact_core::schema::{ColumnType, TableSchema, declared};
use vexact_core::sql::{excerpt, failed, keyword};

use super::connection::Opened;
use super::dynamic::Values;
use super::like;
use super::statement::{bind, prepare_one};

/// Known types of a result's columns.
#[derive(Clone, Default)]
pub struct ResultTypes {
    /// The registered schema of a table: its columns have these types, and its key is not nullable.
    pub registered: Option<Lookup>,
    /// By position: the expected type of a result column. If it is missing or `None`, the type is
    /// that of the underlying table column, or else the values decide.
    pub expressions: Vec<Option<ColumnType>>,
}

/// Finds the schema of a table by its name, as SQLite spells it.
pub type Lookup = Arc<dyn Fn(&str) -> Option<Arc<TableSchema>> + Send + Sync>;

/// Runs one reading statement.
pub(super) fn query(opened: &Opened, sql: &str, params: &[Value], types: &ResultTypes) -> Result<Vec<RecordBatch>> {
    opened.guard.watch(|| {
        let (mut statement, names) = prepare(&opened.conn, sql)?;
        bind(&mut statement, sql, params)?;
        read(&opened.conn, &mut statement, &names, sql, types, &|error| failed(|| excerpt(sql))(error))
    })
}

fn prepare<'conn>(conn: &'conn Connection, sql: &str) -> Result<NamedStatement<'conn>> {
    let refused = || {
        Err(Error::Engine(format!(
            "query takes statements that only read (execute writes, execute_returning gives the rows of RETURNING), got: {}",
            excerpt(sql)
        )))
    };
    if keyword(sql).is_empty() && !sql.trim_start().starts_with('(') {
        return refused();
    }
    let (statement, names) = prepare_case_sensitive(conn, sql)?;
    if !statement.readonly() || statement.column_count() == 0 {
        return refused();
    }
    Ok((statement, names))
}

/// A query in which LIKE is case-sensitive, as on the OLAP side, and the names of its columns if
/// its own text has others.
type NamedStatement<'conn> = (CachedStatement<'conn>, Vec<String>);

fn prepare_case_sensitive<'conn>(conn: &'conn Connection, sql: &str) -> Result<NamedStatement<'conn>> {
    let prepare = |sql: &str| prepare_one(conn, sql, "query takes one");
    match like::case_sensitive(sql) {
        Some(Cow::Borrowed(sql)) => Ok((prepare(sql)?, Vec::new())),
        // Errors and names are those of the original query.
        Some(Cow::Owned(text)) => {
            let names = prepare(sql)?.column_names().map(str::to_owned).collect();
            Ok((prepare(&text)?, names))
        }
        None => prepare(sql).and_then(|_| {
            let problem = "LIKE: expected a pattern in parentheses, as it cannot be told where this one ends";
            Err(Error::Engine(format!("{problem}: {}", excerpt(sql))))
        }),
    }
}

struct ResultColumn {
    name: String,
    is_nullable: bool,
    values: Values,
}

/// Returns the rows of a statement whose parameters are bound; `refused` makes the error of a step.
pub(super) fn read(
    conn: &Connection,
    statement: &mut Statement<'_>,
    names: &[String],
    sql: &str,
    types: &ResultTypes,
    refused: &dyn Fn(rusqlite::Error) -> Error,
) -> Result<Vec<RecordBatch>> {
    let described = |statement: &Statement<'_>| -> Result<Vec<ResultColumn>> {
        let mut columns = result_columns(conn, statement, types).map_err(failed(|| excerpt(sql)))?;
        if names.len() == columns.len() {
            columns.iter_mut().zip(names).for_each(|(column, name)| column.name.clone_from(name));
        }
        Ok(columns)
    };
    let mut columns = None;
    let mut rows = statement.raw_query();
    let mut count = 0;
    while let Some(row) = rows.next().map_err(refused)? {
        count += 1;
        // The columns are read after the first step: SQLite prepares the statement again there if
        // another program changed the schema.
        let columns = match &mut columns {
            Some(columns) => columns,
            none => none.insert(described(row.as_ref())?),
        };
        for (at, column) in columns.iter_mut().enumerate() {
            let value = row.get_ref(at).map_err(failed(|| excerpt(sql)))?;
            column.values.append(value).map_err(|problem| {
                Error::Engine(format!("column {:?}, row {count} of the result: {problem}", column.name))
            })?;
        }
    }
    drop(rows);
    let columns: Vec<ResultColumn> = columns.map_or_else(|| described(statement), Ok)?;
    let mut fields = Vec::with_capacity(columns.len());
    let mut arrays = Vec::with_capacity(columns.len());
    for column in columns {
        let array = column.values.finish();
        // A set operation has NULLs from its other queries.
        let is_nullable = column.is_nullable || array.null_count() > 0;
        fields.push(Field::new(column.name, array.data_type().clone(), is_nullable));
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options);
    Ok(vec![batch.map_err(|error| Error::Engine(format!("{}: {error}", excerpt(sql))))?])
}

fn result_columns(
    conn: &Connection,
    statement: &Statement<'_>,
    types: &ResultTypes,
) -> rusqlite::Result<Vec<ResultColumn>> {
    let column = |(at, column): (usize, rusqlite::ColumnMetadata<'_>)| {
        let mut is_nullable = true;
        let origin = column.table_name().zip(column.origin_name());
        let column_type = match (types.expressions.get(at).copied().flatten(), origin) {
            // For a set operation, SQLite reports the columns of the first query.
            (Some(known), _) => Some(known),
            (None, None) => None,
            (None, Some((table, origin))) => {
                let schema = types.registered.as_ref().and_then(|lookup| lookup(table));
                match schema.and_then(|schema| schema.position(origin).map(|at| (schema, at))) {
                    Some((schema, at)) => {
                        is_nullable = !schema.key().contains(&at);
                        Some(schema.columns()[at].column_type)
                    }
                    // SQLite has no metadata of its table-valued functions.
                    None => conn
                        .column_metadata(column.database_name(), table, origin)
                        .ok()
                        .and_then(|known| declared(known.0.and_then(|declaration| declaration.to_str().ok()))),
                }
            }
        };
        Ok(ResultColumn { name: column.name().into(), is_nullable, values: Values::new(column_type) })
    };
    statement.columns_with_metadata().enumerate().map(column).collect()
}
