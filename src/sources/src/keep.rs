//! Lossless casts, for values that are written into columns of declared types: they preserve each
//! value or reject it.
//!
//! A cast of SQL may truncate: a fraction, a time of day, an offset, digits. Here a value that its
//! new type cannot convert back is an error. Two roundings belong to the types and are allowed: a
//! float becomes the nearest one of a narrower type, and a decimal is rounded to the scale of its
//! column.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray, make_comparator, new_null_array};
use arrow::compute::{CastOptions, SortOptions, can_cast_types, cast_with_options, filter, is_not_null};
use arrow::datatypes::{DataType, Field, Float64Type, TimeUnit};
use vexact_core::error::{Error, Result};
use vexact_core::rows::cell_text;

const STRICT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new().with_display_error(false) };

/// Casts the values of a column to another type, or rejects them.
///
/// # Errors
/// A value that the type cannot hold without loss, with the column, the type and the value.
pub fn cast_kept(column: &str, array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    kept(array, to).map_err(|problem| Error::InvalidArgument(format!("column {column:?}: {problem}")))
}

/// As [`cast_kept`]; the error does not name the column.
///
/// # Errors
/// A value that the type cannot hold without loss, with the type.
pub fn kept(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    use DataType::{Dictionary, FixedSizeList, LargeList, LargeListView, List, ListView, Null, RunEndEncoded, Struct};

    match (array.data_type(), to) {
        (from, to) if from == to => Ok(Arc::clone(array)),
        (Null, _) => Ok(new_null_array(to, array.len())),
        (Dictionary(_, values), _) => kept(&cast(array, values)?, to),
        (RunEndEncoded(_, values), _) => kept(&cast(array, values.data_type())?, to),
        (_, Dictionary(_, values)) => cast(&kept(array, values)?, to),
        (_, RunEndEncoded(_, values)) => cast(&kept(array, values.data_type())?, to),
        (ListView(item), _) => kept(&cast(array, &List(Arc::clone(item)))?, to),
        (LargeListView(item), _) => kept(&cast(array, &LargeList(Arc::clone(item)))?, to),
        (List(_) | LargeList(_) | FixedSizeList(..), List(item) | LargeList(item) | FixedSizeList(item, _)) => {
            lists(array, to, item)
        }
        (Struct(_), Struct(fields)) => structs(array.as_struct(), fields),
        _ => leaves(array, to),
    }
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    let cast = cast_with_options(array, to, &STRICT).map_err(|error| format!("expected {to}: {error}"))?;
    if cast.logical_null_count() != array.logical_null_count() {
        return Err(lost(array, to, |row| cast.is_null(row)));
    }
    Ok(cast)
}

/// Returns the error of the first value for which `is_lost` is true.
fn lost(array: &ArrayRef, to: &DataType, is_lost: impl Fn(usize) -> bool) -> String {
    let row = (0..array.len()).find(|row| array.is_valid(*row) && is_lost(*row));
    let got = row.map_or_else(|| array.data_type().to_string(), |row| cell_text(array, row));
    format!("expected a value that {to} holds whole, got {got}")
}

/// Casts lists without changing their lengths.
fn lists(array: &ArrayRef, to: &DataType, item: &Arc<Field>) -> Result<ArrayRef, String> {
    let made = cast(array, to)?;
    // The bytes under a NULL are not a value.
    let there = is_not_null(array).and_then(|there| filter(array, &there)).map_err(|error| error.to_string())?;
    let items = match there.data_type() {
        DataType::List(_) => flat(there.as_list::<i32>()),
        DataType::LargeList(_) => flat(there.as_list::<i64>()),
        _ => Arc::clone(there.as_fixed_size_list().values()),
    };
    kept(&items, item.data_type())?;
    Ok(made)
}

fn flat<O: arrow::array::OffsetSizeTrait>(lists: &arrow::array::GenericListArray<O>) -> ArrayRef {
    let offsets = lists.value_offsets();
    let (first, last) = (offsets[0].as_usize(), offsets[lists.len()].as_usize());
    lists.values().slice(first, last - first)
}

/// Casts structs field by field; no field may be missing.
fn structs(array: &StructArray, fields: &arrow::datatypes::Fields) -> Result<ArrayRef, String> {
    let names = |fields: &arrow::datatypes::Fields| fields.iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    if names(array.fields()) != names(fields) {
        let (expected, got) = (names(fields).join(", "), names(array.fields()).join(", "));
        return Err(format!("expected a struct of ({expected}), got one of ({got})"));
    }
    let columns = array.columns().iter().zip(fields).map(|(column, field)| {
        kept(column, field.data_type()).map_err(|problem| format!("field {:?}: {problem}", field.name()))
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    match columns.is_empty() {
        true => Ok(Arc::new(array.clone())),
        false => StructArray::try_new(fields.clone(), columns, array.nulls().cloned())
            .map(|made| Arc::new(made) as ArrayRef)
            .map_err(|error| error.to_string()),
    }
}

fn leaves(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    use DataType::{Date32, Date64, Time32, Time64, Timestamp};

    let from = array.data_type();
    if !can_cast_types(from, to) {
        return Err(format!("expected {to}, got {from}"));
    }
    if matches!(from, Timestamp(_, Some(_)))
        && matches!(to, Timestamp(_, None) | Date32 | Date64 | Time32(_) | Time64(_))
    {
        return Err(format!("expected {to}, which has no offset, got {from}"));
    }
    if from.is_string() {
        return texts(array, to);
    }
    let made = cast(array, to)?;
    if to.is_string() || to.is_binary() || to.is_decimal() && (from.is_decimal() || from.is_floating()) {
        return Ok(made);
    }
    if from.is_floating() {
        return floats(array, made, to);
    }
    if !can_cast_types(to, from) {
        return Err(format!("expected {to}, got {from}"));
    }
    let back = cast_with_options(&made, from, &STRICT).map_err(|_| lost(array, to, |_| true))?;
    let order = make_comparator(array, &back, SortOptions::default()).map_err(|error| error.to_string())?;
    match (0..array.len()).any(|row| order(row, row).is_ne()) {
        true => Err(lost(array, to, |row| order(row, row).is_ne())),
        false => Ok(made),
    }
}

/// Casts floats, which are compared as numbers: zero has two signs, NaN many bit patterns.
fn floats(array: &ArrayRef, made: ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    let wide = |array: &ArrayRef| cast(array, &DataType::Float64);
    let (before, after) = (wide(array)?, wide(&made)?);
    let (before, after) = (before.as_primitive::<Float64Type>(), after.as_primitive::<Float64Type>());
    let is_lost = |row: usize| {
        let (before, after) = (before.value(row), after.value(row));
        match to.is_floating() {
            // The result is the nearest float of the type; outside its range there is none.
            true => before.is_finite() != after.is_finite(),
            false => before != after,
        }
    };
    match (0..array.len()).any(|row| array.is_valid(row) && is_lost(row)) {
        true => Err(lost(array, to, is_lost)),
        false => Ok(made),
    }
}

fn texts(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    if to.is_string() || to.is_binary() {
        return cast(array, to);
    }
    let made = cast(array, to).map_err(|problem| match problem.contains("expected") {
        true => problem,
        false => format!("expected {to}: {problem}"),
    })?;
    let plain = cast(array, &DataType::LargeUtf8)?;
    let plain = plain.as_string::<i64>();
    let back = if to.is_integer() { Some(cast(&made, &DataType::LargeUtf8)?) } else { None };
    let is_lost = |row: usize| match &back {
        // No digit of a code such as 007 may be lost.
        Some(back) => back.as_string::<i64>().value(row) != plain.value(row).trim(),
        None => !holds_text(to, plain.value(row), &made, row),
    };
    match (0..array.len()).any(|row| array.is_valid(row) && is_lost(row)) {
        true => Err(lost(array, to, is_lost)),
        false => Ok(made),
    }
}

/// Returns true if a type holds all information of a text, which was read as the value `made`.
fn holds_text(to: &DataType, text: &str, made: &ArrayRef, row: usize) -> bool {
    match to {
        DataType::Timestamp(unit, zone) => {
            fraction_digits(text) <= unit_digits(*unit) && (zone.is_some() || !has_offset(text))
        }
        DataType::Time32(unit) | DataType::Time64(unit) => fraction_digits(text) <= unit_digits(*unit),
        DataType::Date32 | DataType::Date64 => {
            let time = text.trim().split_once(['T', 't', ' ']).map_or("", |(_, time)| time);
            !has_offset(text) && time.bytes().all(|byte| matches!(byte, b'0' | b':' | b'.'))
        }
        float if float.is_floating() => {
            let is_infinite = cast(made, &DataType::Float64)
                .is_ok_and(|wide| wide.as_primitive::<Float64Type>().value(row).is_infinite());
            !is_infinite || !text.bytes().any(|byte| byte.is_ascii_digit())
        }
        _ => true,
    }
}

/// Returns the number of significant digits of a second's fraction.
fn fraction_digits(text: &str) -> usize {
    let time = text.find(':').map_or("", |at| &text[at..]);
    let fraction = time.split_once(['.', ',']).map_or("", |(_, fraction)| fraction);
    let digits: &str = &fraction[..fraction.bytes().take_while(u8::is_ascii_digit).count()];
    digits.trim_end_matches('0').len()
}

fn unit_digits(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// Returns true if a time's text ends in an offset or the name of a zone.
fn has_offset(text: &str) -> bool {
    let time = text.find(':').map_or("", |at| &text[at..]);
    time.bytes().any(|byte| matches!(byte, b'+' | b'-') || byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests;
