//! Bound parameters: rows of Arrow data, as the parameters of a session or of an engine.

use std::sync::Arc;

use adbc_core::error::Result;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, RecordBatch, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type, TimeUnit, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::{ParamValues, ScalarValue};
use vexact::htap::{Argument, Param, Params};
use vexact::router::InLists;

use super::status::{converted, error, invalid};

/// Rows of parameters of one statement.
pub struct Bound {
    pub batches: Vec<RecordBatch>,
    /// True if the columns' names are the parameters' names.
    pub by_name: bool,
}

impl Bound {
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Returns each row as the parameters of a session's statement.
    pub fn of_session(&self) -> Result<Vec<ParamValues>> {
        let mut rows = Vec::with_capacity(self.rows());
        for batch in &self.batches {
            let columns = batch.columns().iter().map(session_column).collect::<Result<Vec<_>>>()?;
            for row in 0..batch.num_rows() {
                let values = columns.iter().map(|column| session_value(column, row)).collect::<Result<Vec<_>>>()?;
                let values = values.into_iter().map(ScalarAndMetadata::from);
                rows.push(match self.by_name {
                    false => ParamValues::List(values.collect()),
                    true => {
                        let schema = batch.schema();
                        let names = schema.fields().iter().map(|field| bare_name(field.name()));
                        ParamValues::Map(names.zip(values).collect())
                    }
                });
            }
        }
        Ok(rows)
    }

    /// Returns each row as the parameters of an engine's statement. A list in `IN (?)` is a list of
    /// values, elsewhere a vector.
    pub fn of_engine(&self, sql: &str) -> Result<Vec<Params>> {
        let lists = InLists::of(sql);
        let mut rows = Vec::with_capacity(self.rows());
        for batch in &self.batches {
            let schema = batch.schema();
            let columns = schema.fields().iter().zip(batch.columns()).enumerate();
            let columns = columns.map(|(at, (field, column))| {
                let name = bare_name(field.name());
                let takes_list = if self.by_name { lists.has_name(&name) } else { lists.has_position(at + 1) };
                let place = if self.by_name { format!("parameter {name:?}") } else { format!("parameter {}", at + 1) };
                Ok((name, Column::new(place, column, takes_list)?))
            });
            let columns = columns.collect::<Result<Vec<_>>>()?;
            for row in 0..batch.num_rows() {
                rows.push(match self.by_name {
                    false => Params::Positional(
                        columns.iter().map(|(_, column)| column.argument(row)).collect::<Result<_>>()?,
                    ),
                    true => Params::Named(
                        columns
                            .iter()
                            .map(|(name, column)| Ok((name.clone(), column.argument(row)?)))
                            .collect::<Result<_>>()?,
                    ),
                });
            }
        }
        Ok(rows)
    }
}

/// Returns a parameter's name without the sign before it.
fn bare_name(name: &str) -> String {
    name.strip_prefix([':', '@', '$']).unwrap_or(name).to_owned()
}

/// Returns a column without its dictionary or run ends.
fn plain(column: &ArrayRef) -> Result<ArrayRef> {
    let plain = match column.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        DataType::RunEndEncoded(_, values) => values.data_type(),
        _ => return Ok(Arc::clone(column)),
    };
    Ok(cast(column, plain)?)
}

/// Returns the items of a list's row, if the column is a list.
fn items(column: &dyn Array, row: usize) -> Option<ArrayRef> {
    match column.data_type() {
        DataType::List(_) => Some(column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => Some(column.as_list::<i64>().value(row)),
        DataType::ListView(_) => Some(column.as_list_view::<i32>().value(row)),
        DataType::LargeListView(_) => Some(column.as_list_view::<i64>().value(row)),
        DataType::FixedSizeList(..) => Some(column.as_fixed_size_list().value(row)),
        _ => None,
    }
}

fn item_type(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => Some(item.data_type()),
        _ => None,
    }
}

fn session_column(column: &ArrayRef) -> Result<ArrayRef> {
    plain(column)
}

/// Returns one parameter of a session. A list of numbers is a vector.
fn session_value(column: &ArrayRef, row: usize) -> Result<ScalarValue> {
    let is_vector = item_type(column.data_type()).is_some_and(DataType::is_numeric);
    if !is_vector || column.is_null(row) {
        return ScalarValue::try_from_array(column, row).map_err(|source| converted(&source.into()));
    }
    let Some(found) = items(column.as_ref(), row) else { return Ok(ScalarValue::Null) };
    let item = match found.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => found.data_type().clone(),
        _ => DataType::Float64,
    };
    let values = cast(&found, &item)?;
    let dim = i32::try_from(values.len()).map_err(|_| invalid("a vector: expected fewer components"))?;
    let vector = FixedSizeListArray::try_new(Arc::new(Field::new_list_field(item, true)), dim, values, None)?;
    Ok(ScalarValue::FixedSizeList(Arc::new(vector)))
}

/// A column of parameters of an engine, in the types of [`Param`].
struct Column {
    /// The parameter, for messages.
    place: String,
    values: Values,
    takes_list: bool,
}

enum Values {
    Null,
    Boolean(BooleanArray),
    Integer(ArrayRef),
    Unsigned(ArrayRef),
    Real(Float64Array),
    Text(StringArray),
    Bytes(ArrayRef),
    /// Lists: vectors, or the values of `IN (?)`.
    Lists(ArrayRef),
}

impl Column {
    fn new(place: String, column: &ArrayRef, takes_list: bool) -> Result<Self> {
        let column = plain(column)?;
        let values = match column.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Boolean(column.as_boolean().clone()),
            DataType::UInt64 => Values::Unsigned(column),
            integer if integer.is_integer() => Values::Integer(cast(&column, &DataType::Int64)?),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Values::Real(cast(&column, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Values::Text(cast(&column, &DataType::Utf8)?.as_string::<i32>().clone())
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Values::Bytes(cast(&column, &DataType::LargeBinary)?)
            }
            DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..)
            | DataType::Date32
            | DataType::Date64
            | DataType::Time32(_)
            | DataType::Time64(_)
            | DataType::Timestamp(..) => Values::Text(texts(&column)?),
            lists if item_type(lists).is_some() => Values::Lists(column),
            other => {
                let expected = "NULL, booleans, numbers, text, bytes, dates, times, decimals or vectors";
                return Err(invalid(format!("{place}: expected {expected}, got {other}")));
            }
        };
        Ok(Self { place, values, takes_list })
    }

    fn argument(&self, row: usize) -> Result<Argument> {
        if let (Values::Lists(lists), true) = (&self.values, self.takes_list)
            && lists.is_valid(row)
            && let Some(found) = items(lists.as_ref(), row)
        {
            let values = Self::new(self.place.clone(), &found, false)?;
            return Ok(Argument::List((0..found.len()).map(|item| values.param(item)).collect::<Result<_>>()?));
        }
        self.param(row).map(Argument::Value)
    }

    fn param(&self, row: usize) -> Result<Param> {
        let or_null =
            |array: &dyn Array, value: &dyn Fn() -> Param| Ok(if array.is_null(row) { Param::Null } else { value() });
        match &self.values {
            Values::Null => Ok(Param::Null),
            Values::Boolean(values) => or_null(values, &|| Param::Boolean(values.value(row))),
            Values::Integer(values) => {
                or_null(values, &|| Param::Integer(values.as_primitive::<Int64Type>().value(row)))
            }
            // SQLite has no larger integers; a NUMERIC column keeps such a text.
            Values::Unsigned(values) => or_null(values, &|| {
                let value = values.as_primitive::<UInt64Type>().value(row);
                i64::try_from(value).map_or_else(|_| Param::Text(value.to_string()), Param::Integer)
            }),
            Values::Real(values) => or_null(values, &|| Param::Real(values.value(row))),
            Values::Text(values) => or_null(values, &|| Param::Text(values.value(row).to_owned())),
            Values::Bytes(values) => or_null(values, &|| Param::Bytes(values.as_binary::<i64>().value(row).to_vec())),
            Values::Lists(lists) if lists.is_null(row) => Ok(Param::Null),
            Values::Lists(lists) => self.vector(lists, row),
        }
    }

    fn vector(&self, lists: &ArrayRef, row: usize) -> Result<Param> {
        let refused = |problem: String| Err(invalid(format!("{}: {problem}", self.place)));
        let Some(found) = items(lists.as_ref(), row) else { return Ok(Param::Null) };
        if !found.data_type().is_numeric() {
            return refused(format!("expected a vector of numbers, got a list of {}", found.data_type()));
        }
        if found.is_empty() {
            return refused("expected a vector, got no components".into());
        }
        if let Some(at) = (0..found.len()).find(|at| found.is_null(*at)) {
            return refused(format!("component {at}: expected a number, got NULL"));
        }
        let wide = cast(&found, &DataType::Float64)?;
        let narrow = cast(&found, &DataType::Float32)?;
        let (wide, narrow): (&Float64Array, &Float32Array) =
            (wide.as_primitive::<Float64Type>(), narrow.as_primitive::<Float32Type>());
        let mut both = wide.values().iter().zip(narrow.values());
        match both.position(|(x, narrowed)| x.is_finite() && !narrowed.is_finite()) {
            Some(at) => refused(format!("component {at}: expected a number within float32, got {:e}", wide.value(at))),
            None => Ok(Param::Vector(narrow.values().to_vec())),
        }
    }
}

/// Returns dates, times and decimals as text, as Python's `sqlite3` writes them: a date and a time
/// with a space between them, and six digits of a second if it has a fraction.
fn texts(column: &ArrayRef) -> Result<StringArray> {
    let column = match column.data_type() {
        DataType::Timestamp(_, zone) => cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?,
        DataType::Time32(_) | DataType::Time64(_) => cast(column, &DataType::Time64(TimeUnit::Microsecond))?,
        DataType::Date64 => cast(column, &DataType::Date32)?,
        _ => Arc::clone(column),
    };
    let formatter = |fraction: &'static str, zoned: &'static str, time: &'static str| {
        let options = FormatOptions::new()
            .with_timestamp_format(Some(fraction))
            .with_timestamp_tz_format(Some(zoned))
            .with_time_format(Some(time));
        ArrayFormatter::try_new(column.as_ref(), &options)
            .map(|formatter| (0..column.len()).map(|row| formatter.value(row).to_string()).collect::<Vec<_>>())
    };
    let whole = formatter("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S%:z", "%H:%M:%S")?;
    let exact = formatter("%Y-%m-%d %H:%M:%S%.6f", "%Y-%m-%d %H:%M:%S%.6f%:z", "%H:%M:%S%.6f")?;
    let micros = match column.data_type() {
        DataType::Timestamp(..) | DataType::Time64(_) => Some(cast(&column, &DataType::Int64)?),
        _ => None,
    };
    let has_fraction = |row: usize| {
        micros.as_ref().is_some_and(|micros| micros.as_primitive::<Int64Type>().value(row) % 1_000_000 != 0)
    };
    let text = |row: usize| {
        let text = if has_fraction(row) { &exact[row] } else { &whole[row] };
        column.is_valid(row).then(|| text.clone())
    };
    Ok((0..column.len()).map(text).collect())
}

/// Reads all rows of a bound stream.
pub fn read_all(
    reader: impl Iterator<Item = std::result::Result<RecordBatch, arrow::error::ArrowError>>,
) -> Result<Vec<RecordBatch>> {
    let read: std::result::Result<Vec<_>, _> = reader.collect();
    read.map_err(|source| error(adbc_core::error::Status::IO, format!("the bound rows: {source}")))
}
