//! Functions with SQLite's semantics, for sessions over replicas: a query that runs on the replicas
//! returns the same answer as in SQLite.
//!
//! The most common functions are computed here over whole columns; SQLite itself computes the rest,
//! value by value.

mod arithmetic;
mod call;
mod convert;
pub(super) mod evaluate;
mod number;
mod sum;
mod text;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

pub(super) use arithmetic::{checked, checked_arithmetic, may_overflow};
pub(super) use call::{Calls, Casts};
pub(super) use convert::canonical;
pub(super) use sum::sum;

/// A function of SQLite. Unless stated otherwise, its result is NULL for a NULL argument.
struct Function {
    name: &'static str,
    /// Minimum and maximum number of arguments.
    arguments: (usize, usize),
    returns: DataType,
    body: Body,
}

#[derive(Clone, Copy)]
enum Body {
    /// Computed here over columns of one length, each of a type of [`canonical`].
    Columns(fn(&[ArrayRef]) -> Result<ArrayRef>),
    /// Computed by SQLite, because it may depend on the time and on the time zone.
    Sqlite,
}

const MANY: usize = 100;

const FUNCTIONS: [Function; 16] = [
    Function { name: "lower", arguments: (1, 1), returns: DataType::Utf8, body: Body::Columns(text::lower) },
    Function { name: "upper", arguments: (1, 1), returns: DataType::Utf8, body: Body::Columns(text::upper) },
    Function { name: "length", arguments: (1, 1), returns: DataType::Int32, body: Body::Columns(text::length) },
    Function { name: "substr", arguments: (2, 3), returns: DataType::Utf8, body: Body::Columns(text::substr) },
    Function { name: "replace", arguments: (3, 3), returns: DataType::Utf8, body: Body::Columns(text::replace) },
    Function { name: "round", arguments: (1, 2), returns: DataType::Float64, body: Body::Columns(number::round) },
    Function { name: "hex", arguments: (1, 1), returns: DataType::Utf8, body: Body::Sqlite },
    Function { name: "unicode", arguments: (1, 1), returns: DataType::Int64, body: Body::Sqlite },
    Function { name: "printf", arguments: (1, MANY), returns: DataType::Utf8, body: Body::Sqlite },
    Function { name: "format", arguments: (1, MANY), returns: DataType::Utf8, body: Body::Sqlite },
    Function { name: "date", arguments: (0, MANY), returns: DataType::Utf8, body: Body::Sqlite },
    Function { name: "time", arguments: (0, MANY), returns: DataType::Utf8, body: Body::Sqlite },
    Function { name: "datetime", arguments: (0, MANY), returns: DataType::Utf8, body: Body::Sqlite },
    Function { name: "julianday", arguments: (0, MANY), returns: DataType::Float64, body: Body::Sqlite },
    Function { name: "unixepoch", arguments: (0, MANY), returns: DataType::Int64, body: Body::Sqlite },
    Function { name: "strftime", arguments: (1, MANY), returns: DataType::Utf8, body: Body::Sqlite },
];

/// Returns all functions.
pub(super) fn functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    FUNCTIONS.iter().map(SqliteFunction::of)
}

/// One of [`FUNCTIONS`], as a function of DataFusion.
struct SqliteFunction {
    function: &'static Function,
    signature: Signature,
}

impl SqliteFunction {
    fn of(function: &'static Function) -> Arc<ScalarUDF> {
        let volatility = match function.body {
            Body::Columns(_) => Volatility::Immutable,
            Body::Sqlite => Volatility::Stable,
        };
        let signature = Signature::new(TypeSignature::UserDefined, volatility);
        Arc::new(ScalarUDF::from(Self { function, signature }))
    }
}

impl std::fmt::Debug for SqliteFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SqliteFunction({})", self.function.name)
    }
}

impl PartialEq for SqliteFunction {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for SqliteFunction {}

impl Hash for SqliteFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for SqliteFunction {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (name, (least, most)) = (self.function.name, self.function.arguments);
        if types.len() < least || types.len() > most {
            return plan_err!("{name}: expected {least} to {most} arguments, got {}", types.len());
        }
        let canonical = |data_type: &DataType| match canonical(data_type) {
            Some(canonical) => Ok(canonical),
            None => plan_err!("{name}: expected numbers, text, bools or BLOBs, got {data_type}"),
        };
        types.iter().map(canonical).collect()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.function.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let answer = match self.function.body {
            Body::Columns(body) => {
                let columns = args.args.into_iter().map(|arg| arg.into_array(rows));
                body(&columns.collect::<Result<Vec<_>>>()?)?
            }
            Body::Sqlite => evaluate::call(self.function.name, &args.args, rows, &self.function.returns)?,
        };
        Ok(match is_constant {
            true => ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&answer, 0)?),
            false => ColumnarValue::Array(answer),
        })
    }
}
