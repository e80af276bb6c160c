//! A predicate that SQLite evaluates, row by row, on the values of a replica.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Column, DataFusionError, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use rusqlite::CachedStatement;
use vexact_core::error::Error;
use vexact_core::sql::{failed, ident};
use vexact_sql::Table;

use super::evaluator::Evaluator;
use crate::sqlite::{canonical, evaluate};

/// Prefix of the parameters that are columns; the ordinal of the column follows.
const COLUMN: &str = "$_vexact_column_";

/// A predicate on single rows, as a function of the columns that it names and of its parameters.
#[derive(Debug)]
struct SqlitePredicate {
    /// Selects one row if the predicate is true.
    sql: String,
    /// For each argument, the position of the parameter that it is bound to.
    places: Vec<usize>,
    evaluator: Arc<Evaluator>,
    signature: Signature,
}

/// Returns a predicate over a table's columns as an expression that SQLite evaluates; `None` if
/// SQLite does not understand it either.
pub(super) fn predicate(evaluator: &Arc<Evaluator>, table: &Table, filter: &str) -> Option<Expr> {
    let schema = table.schema();
    let lower = filter.to_ascii_lowercase();
    let mut columns = Vec::new();
    for (ordinal, field) in schema.fields().iter().enumerate() {
        // It may be named. A vector has no value in SQLite.
        if let Some(affinity) = affinity(field.data_type())
            && lower.contains(&field.name().to_ascii_lowercase())
        {
            columns.push(format!("CAST({COLUMN}{ordinal} AS {affinity}) AS {}", ident(field.name())));
        }
    }
    let columns = if columns.is_empty() { "1".to_owned() } else { columns.join(", ") };
    // A line of its own, so that a comment in the filter ends with it.
    let name = ident(table.reference.table());
    let sql = format!("SELECT 1 FROM (SELECT {columns}) AS {name} WHERE (\n{filter}\n)");
    let names = evaluator.with(|conn| {
        let statement = conn.prepare_cached(&sql).map_err(failed(|| "a filter"))?;
        let name = |place| (place, statement.parameter_name(place).map(str::to_owned));
        Ok((1..=statement.parameter_count()).map(name).collect::<Vec<_>>())
    });
    let (mut places, mut arguments) = (Vec::new(), Vec::new());
    for (place, name) in names.ok()? {
        // A parameter without a name cannot be told from the others.
        let name = name.filter(|name| !name.starts_with('?'))?;
        arguments.push(match name.strip_prefix(COLUMN) {
            Some(ordinal) => {
                let field = schema.fields().get(ordinal.parse::<usize>().ok()?)?;
                Expr::Column(Column::new(Some(table.reference.clone()), field.name()))
            }
            None => Expr::Placeholder(Placeholder::new_with_field(format!("${}", &name[1..]), None)),
        });
        places.push(place);
    }
    let signature = Signature::variadic_any(Volatility::Stable);
    let signature = if arguments.is_empty() { Signature::nullary(Volatility::Stable) } else { signature };
    let predicate = SqlitePredicate { sql, places, evaluator: Arc::clone(evaluator), signature };
    Some(ScalarUDF::from(predicate).call(arguments))
}

/// Returns the type of a CAST whose value has the affinity of a column of this type.
fn affinity(data_type: &DataType) -> Option<&'static str> {
    Some(match canonical(data_type)? {
        DataType::Int64 => "INTEGER",
        DataType::Float64 => "REAL",
        DataType::Utf8 => "TEXT",
        DataType::Binary => "BLOB",
        _ => return None,
    })
}

impl SqlitePredicate {
    fn evaluate(&self, arguments: &[ColumnarValue], rows: usize) -> Result<BooleanArray> {
        let mut columns: Vec<(usize, ArrayRef)> = Vec::new();
        let mut constants: Vec<(usize, ArrayRef)> = Vec::new();
        for (place, argument) in self.places.iter().zip(arguments) {
            let (values, into) = match argument {
                ColumnarValue::Array(column) => (Arc::clone(column), &mut columns),
                ColumnarValue::Scalar(value) => (value.to_array()?, &mut constants),
            };
            let Some(data_type) = canonical(values.data_type()) else {
                return internal_err!("a filter over {}", values.data_type());
            };
            into.push((place - 1, cast(&values, &data_type)?));
        }
        let evaluated = self.evaluator.with(|conn| {
            let mut statement = conn.prepare_cached(&self.sql).map_err(failed(|| "a filter"))?;
            Ok(run(&mut statement, &columns, &constants, rows))
        });
        evaluated.map_err(external)?
    }
}

fn run(
    statement: &mut CachedStatement<'_>,
    columns: &[(usize, ArrayRef)],
    constants: &[(usize, ArrayRef)],
    rows: usize,
) -> Result<BooleanArray> {
    for (place, value) in constants {
        evaluate::bind(statement, *place, value, 0)?;
    }
    let mut is_true = Vec::with_capacity(rows);
    for row in 0..rows {
        for (place, column) in columns {
            evaluate::bind(statement, *place, column, row)?;
        }
        let mut found = statement.raw_query();
        is_true.push(found.next().map_err(|error| DataFusionError::External(Box::new(error)))?.is_some());
    }
    Ok(BooleanArray::from(is_true))
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl PartialEq for SqlitePredicate {
    fn eq(&self, other: &Self) -> bool {
        self.sql == other.sql && Arc::ptr_eq(&self.evaluator, &other.evaluator)
    }
}

impl Eq for SqlitePredicate {}

impl Hash for SqlitePredicate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sql.hash(state);
    }
}

impl ScalarUDFImpl for SqlitePredicate {
    fn name(&self) -> &str {
        "sqlite_filter"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let is_true = self.evaluate(&args.args, rows)?;
        Ok(match is_constant {
            true => ColumnarValue::Scalar(ScalarValue::Boolean(Some(is_true.value(0)))),
            false => ColumnarValue::Array(Arc::new(is_true)),
        })
    }
}
