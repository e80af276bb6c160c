//! Evaluates functions with SQLite itself, value by value, on a connection without tables that each
//! thread has.

use std::cell::RefCell;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{DataFusionError, Result, exec_err, internal_err};
use datafusion::logical_expr::ColumnarValue;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement, ToSql};

thread_local! {
    static SQLITE: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

/// Number of prepared statements that a thread caches.
const STATEMENTS: usize = 64;

/// Evaluates a function of SQLite over columns and constants.
pub(super) fn call(name: &str, arguments: &[ColumnarValue], rows: usize, returns: &DataType) -> Result<ArrayRef> {
    let places = (1..=arguments.len()).map(|at| format!("?{at}")).collect::<Vec<_>>();
    query(&format!("SELECT {name}({})", places.join(", ")), arguments, rows, returns)
}

/// Evaluates a query of one value for each row of its parameters.
///
/// # Errors
/// An error of SQLite.
pub(super) fn query(sql: &str, parameters: &[ColumnarValue], rows: usize, returns: &DataType) -> Result<ArrayRef> {
    SQLITE.with_borrow_mut(|connection| {
        let connection = match connection {
            Some(connection) => connection,
            None => {
                let opened = vexact_locks::open_in_memory().map_err(failed)?;
                opened.set_prepared_statement_cache_capacity(STATEMENTS);
                connection.insert(opened)
            }
        };
        let mut statement = connection.prepare_cached(sql).map_err(failed)?;
        // Constants stay bound.
        for (at, parameter) in parameters.iter().enumerate() {
            if let ColumnarValue::Scalar(value) = parameter {
                bind(&mut statement, at, &value.to_array()?, 0)?;
            }
        }
        let mut values = Values::with_capacity(returns, rows)?;
        for row in 0..rows {
            for (at, parameter) in parameters.iter().enumerate() {
                if let ColumnarValue::Array(column) = parameter {
                    bind(&mut statement, at, column, row)?;
                }
            }
            let mut answer = statement.raw_query();
            match answer.next().map_err(failed)? {
                Some(answer) => values.push(answer.get_ref(0).map_err(failed)?)?,
                None => return internal_err!("{sql} gave no row"),
            }
        }
        Ok(values.finish())
    })
}

fn failed(error: rusqlite::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// A value in the form in which SQLite binds it.
struct Bound<'a>(ValueRef<'a>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

pub(crate) fn bind(statement: &mut Statement<'_>, at: usize, column: &ArrayRef, row: usize) -> Result<()> {
    let value = match column.data_type() {
        _ if column.is_null(row) => ValueRef::Null,
        DataType::Null => ValueRef::Null,
        DataType::Int64 => ValueRef::Integer(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => ValueRef::Real(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => ValueRef::Text(column.as_string::<i32>().value(row).as_bytes()),
        DataType::Binary => ValueRef::Blob(column.as_binary::<i32>().value(row)),
        other => return internal_err!("a parameter of {other}"),
    };
    statement.raw_bind_parameter(at + 1, Bound(value)).map_err(failed)
}

/// The answers, of one type.
enum Values {
    Integers(Int64Builder),
    Reals(Float64Builder),
    Texts(StringBuilder),
    Blobs(BinaryBuilder),
}

impl Values {
    fn with_capacity(data_type: &DataType, rows: usize) -> Result<Self> {
        Ok(match data_type {
            DataType::Int64 => Self::Integers(Int64Builder::with_capacity(rows)),
            DataType::Float64 => Self::Reals(Float64Builder::with_capacity(rows)),
            DataType::Utf8 => Self::Texts(StringBuilder::with_capacity(rows, rows * 8)),
            DataType::Binary => Self::Blobs(BinaryBuilder::with_capacity(rows, rows * 8)),
            other => return internal_err!("answers of {other}"),
        })
    }

    fn push(&mut self, value: ValueRef<'_>) -> Result<()> {
        match (self, value) {
            (Self::Integers(values), ValueRef::Integer(value)) => values.append_value(value),
            (Self::Integers(values), ValueRef::Null) => values.append_null(),
            (Self::Reals(values), ValueRef::Real(value)) => values.append_value(value),
            (Self::Reals(values), ValueRef::Null) => values.append_null(),
            (Self::Texts(values), ValueRef::Null) => values.append_null(),
            (Self::Texts(values), ValueRef::Text(text)) => match std::str::from_utf8(text) {
                Ok(text) => values.append_value(text),
                Err(_) => return exec_err!("expected UTF-8, got the bytes {text:?}"),
            },
            (Self::Blobs(values), ValueRef::Blob(value)) => values.append_value(value),
            (Self::Blobs(values), ValueRef::Null) => values.append_null(),
            (_, other) => return internal_err!("an answer of {}", other.data_type()),
        }
        Ok(())
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Integers(mut values) => Arc::new(values.finish()),
            Self::Reals(mut values) => Arc::new(values.finish()),
            Self::Texts(mut values) => Arc::new(values.finish()),
            Self::Blobs(mut values) => Arc::new(values.finish()),
        }
    }
}
