//! Types of values, one for each of SQLite's storage classes, and CAST between them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;

use super::evaluate;

/// Returns the type that values of a type have in SQLite: int64, float64, utf8, binary, or Null; a
/// bool is an integer. Returns `None` if SQLite has no such type.
pub(crate) fn canonical(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Null => DataType::Null,
        DataType::Boolean => DataType::Int64,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        integer if integer.is_integer() => DataType::Int64,
        number if number.is_numeric() => DataType::Float64,
        _ => return None,
    })
}

/// Computes `CAST(x AS INTEGER)`: of text its leading digits, 0 if there are none; of a real its
/// integer part. A value beyond 64 bits is clamped to the range.
pub(super) fn to_integer(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Utf8 => {
            let text = column.as_string::<i32>();
            Arc::new(text.iter().map(|text| text.map(first_integer)).collect::<Int64Array>())
        }
        DataType::Float64 => {
            // Rust's conversion saturates. A value that is not a number is NULL in SQLite.
            let reals = column.as_primitive::<Float64Type>().iter();
            let integer = |real: Option<f64>| real.filter(|real| !real.is_nan()).map(|real| real as i64);
            Arc::new(reals.map(integer).collect::<Int64Array>())
        }
        _ => cast(column, &DataType::Int64)?,
    })
}

/// Computes `CAST(x AS REAL)`: of text its leading number, 0.0 if there is none.
pub(super) fn to_real(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Utf8 => {
            evaluate::query("SELECT CAST(?1 AS REAL)", &[Arc::clone(column).into()], column.len(), &DataType::Float64)
        }
        _ => Ok(cast(column, &DataType::Float64)?),
    }
}

/// Computes `CAST(x AS TEXT)`: reals have a point or an exponent.
pub(super) fn to_text(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Float64 => reals_to_text(column),
        _ => Ok(cast(column, &DataType::Utf8)?),
    }
}

fn reals_to_text(column: &ArrayRef) -> Result<ArrayRef> {
    /// Bound below which an integral real has at most 15 digits, which are all written.
    const WHOLE: f64 = 1e15;
    let reals = column.as_primitive::<Float64Type>();
    let is_whole = |real: f64| real.fract() == 0.0 && real.abs() < WHOLE && !(real == 0.0 && real.is_sign_negative());
    if !reals.iter().flatten().all(is_whole) {
        let arguments: [ColumnarValue; 1] = [Arc::clone(column).into()];
        return evaluate::query("SELECT CAST(?1 AS TEXT)", &arguments, column.len(), &DataType::Utf8);
    }
    let mut text = StringBuilder::with_capacity(reals.len(), reals.len() * 8);
    for real in reals {
        text.append_option(real.map(|real| format!("{}.0", real as i64)));
    }
    Ok(Arc::new(text.finish()) as ArrayRef)
}

/// Converts arguments that a function reads as text.
pub(super) fn texts(column: &ArrayRef) -> Result<StringArray> {
    Ok(to_text(column)?.as_string::<i32>().clone())
}

/// Converts arguments that a function reads as integers.
pub(super) fn integers(column: &ArrayRef) -> Result<Int64Array> {
    Ok(to_integer(column)?.as_primitive::<Int64Type>().clone())
}

/// Converts arguments that a function reads as reals.
pub(super) fn reals(column: &ArrayRef) -> Result<Float64Array> {
    Ok(to_real(column)?.as_primitive::<Float64Type>().clone())
}

/// Returns true for SQLite's white space.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn first_integer(text: &str) -> i64 {
    let bytes = text.as_bytes();
    let start = bytes.iter().position(|byte| !is_space(*byte)).unwrap_or(bytes.len());
    let (is_negative, digits) = match bytes.get(start) {
        Some(b'-') => (true, &bytes[start + 1..]),
        Some(b'+') => (false, &bytes[start + 1..]),
        _ => (false, &bytes[start..]),
    };
    let mut number = 0_i64;
    for digit in digits.iter().take_while(|byte| byte.is_ascii_digit()) {
        let digit = i64::from(digit - b'0');
        // A saturated number stays saturated, because no step makes it smaller.
        let next = number.saturating_mul(10);
        number = if is_negative { next.saturating_sub(digit) } else { next.saturating_add(digit) };
    }
    number
}
