//! Parameters of statements, for SQLite and for DataFusion.

use std::sync::Arc;

use arrow::array::{FixedSizeListArray, Float32Array};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{ParamValues, ScalarValue};
use rusqlite::types::Value;

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    /// NULL.
    Null,
    /// A boolean: 1 or 0 in SQLite.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Real(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A vector: in SQLite a BLOB of little-endian float32.
    Vector(Vec<f32>),
}

/// The argument for one placeholder.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// One value.
    Value(Param),
    /// The values of `IN (?)`, any number of them. No other placeholder takes a list.
    List(Vec<Param>),
}

impl From<Param> for Argument {
    fn from(param: Param) -> Self {
        Self::Value(param)
    }
}

/// The arguments of one statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Params {
    /// By position: in the order of `?`, or by the number of `?1` and `$1`.
    Positional(Vec<Argument>),
    /// By the name of `:name`, `@name` and `$name`. A name that does not occur in the statement is
    /// ignored, as in Python's `sqlite3`.
    Named(Vec<(String, Argument)>),
}

impl Params {
    /// The parameters of a statement without any.
    pub const NONE: Self = Self::Positional(Vec::new());
}

impl<A: Into<Argument>> From<Vec<A>> for Params {
    fn from(arguments: Vec<A>) -> Self {
        Self::Positional(arguments.into_iter().map(Into::into).collect())
    }
}

impl From<&Vec<Param>> for Params {
    fn from(params: &Vec<Param>) -> Self {
        params.clone().into()
    }
}

impl From<&[Param]> for Params {
    fn from(params: &[Param]) -> Self {
        params.to_vec().into()
    }
}

impl<const N: usize> From<&[Param; N]> for Params {
    fn from(params: &[Param; N]) -> Self {
        params.to_vec().into()
    }
}

/// One statement and its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Its text.
    pub sql: String,
    /// Its parameters.
    pub params: Params,
}

impl From<String> for Statement {
    fn from(sql: String) -> Self {
        Self { sql, params: Params::NONE }
    }
}

impl From<&str> for Statement {
    fn from(sql: &str) -> Self {
        sql.to_owned().into()
    }
}

impl<S: Into<String>, P: Into<Params>> From<(S, P)> for Statement {
    fn from((sql, params): (S, P)) -> Self {
        Self { sql: sql.into(), params: params.into() }
    }
}

impl Param {
    /// Returns the value as SQLite stores it.
    pub fn to_sqlite(&self) -> Value {
        match self {
            Param::Null => Value::Null,
            Param::Boolean(value) => Value::Integer(i64::from(*value)),
            Param::Integer(value) => Value::Integer(*value),
            Param::Real(value) => Value::Real(*value),
            Param::Text(text) => Value::Text(text.clone()),
            Param::Bytes(bytes) => Value::Blob(bytes.clone()),
            Param::Vector(vector) => vector_value(vector),
        }
    }

    fn to_olap(&self) -> ScalarValue {
        match self {
            Param::Null => ScalarValue::Null,
            Param::Boolean(value) => ScalarValue::Boolean(Some(*value)),
            Param::Integer(value) => ScalarValue::Int64(Some(*value)),
            Param::Real(value) => ScalarValue::Float64(Some(*value)),
            Param::Text(text) => ScalarValue::Utf8(Some(text.clone())),
            Param::Bytes(bytes) => ScalarValue::Binary(Some(bytes.clone())),
            Param::Vector(vector) => {
                let item = Arc::new(Field::new_list_field(DataType::Float32, true));
                let values = Arc::new(Float32Array::from(vector.clone()));
                ScalarValue::FixedSizeList(Arc::new(FixedSizeListArray::new(item, vector.len() as i32, values, None)))
            }
        }
    }
}

/// Returns parameters as SQLite stores them.
pub fn to_sqlite(params: &[Param]) -> Vec<Value> {
    params.iter().map(Param::to_sqlite).collect()
}

/// Returns parameters as DataFusion binds them by position, or `None` if there are none.
pub fn to_olap(params: &[Param]) -> Option<ParamValues> {
    (!params.is_empty()).then(|| ParamValues::from(params.iter().map(Param::to_olap).collect::<Vec<_>>()))
}

/// Returns a vector as SQLite stores it: a BLOB of little-endian float32.
pub fn vector_value(components: &[f32]) -> Value {
    Value::Blob(components.iter().flat_map(|component| component.to_le_bytes()).collect())
}
