//! Batches of rows: their cells as text for people, and several batches as one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, new_empty_array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, DurationSecondType, Field, FieldRef, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::{Error, Result};

/// Returns the rows with cells that a person can read: long lists and texts are cut.
pub fn shortened(batch: &RecordBatch) -> Result<RecordBatch> {
    const CHARS: usize = 60;
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
    let mut fields = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let is_short =
            !has_calendar(field.data_type()) && !field.data_type().is_nested() && !field.data_type().is_string();
        if is_short {
            columns.push(Arc::clone(column));
            fields.push(field.as_ref().clone());
            continue;
        }
        let cell = |row| {
            let text = cell_text(column, row);
            match text.char_indices().nth(CHARS) {
                Some((end, _)) if !text.starts_with("ERROR: ") => format!("{}…", &text[..end]),
                _ => text,
            }
        };
        let cells: Vec<String> = (0..batch.num_rows()).map(cell).collect();
        columns.push(Arc::new(StringArray::from(cells)));
        fields.push(Field::new(field.name(), DataType::Utf8, true));
    }
    if columns.is_empty() {
        return Ok(batch.clone());
    }
    let schema = Arc::new(Schema::new(fields));
    RecordBatch::try_new(schema, columns).map_err(Error::arrow)
}

/// Returns a batch under a schema of the same names and types. Which columns may have NULL, and
/// which fields of structs, may differ: what a plan tells of it is an estimate.
///
/// # Errors
/// A NULL in a column that has none by the schema; columns of other types.
pub fn conform(batch: RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, ArrowError> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let conformed = |(column, field): (&ArrayRef, &FieldRef)| match field.data_type() {
        // These types differ at most in the nullability of their fields.
        other if other != column.data_type() && other.equals_datatype(column.data_type()) => cast(column, other),
        _ => Ok(Arc::clone(column)),
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(conformed);
    RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect::<std::result::Result<_, _>>()?, &rows)
}

/// Concatenates batches into one batch, which is empty if there are none.
pub fn concat(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    if batches.is_empty() {
        let columns = schema.fields().iter().map(|field| new_empty_array(field.data_type())).collect();
        return RecordBatch::try_new(Arc::clone(schema), columns).map_err(Error::arrow);
    }
    concat_batches(schema, batches).map_err(Error::arrow)
}

/// Returns a cell as text; NULL is `NULL`. A value that has no text, such as a date beyond the
/// calendar, is the text of the error.
pub fn cell_text(column: &ArrayRef, row: usize) -> String {
    if let Some(union) = column.as_union_opt() {
        return cell_text(union.child(union.type_id(row)), union.value_offset(row));
    }
    if let Some(text) = long_duration(column, row) {
        return text;
    }
    let options = FormatOptions::default().with_null("NULL").with_display_error(false);
    let text = ArrayFormatter::try_new(column, &options).and_then(|cells| cells.value(row).try_to_string());
    text.unwrap_or_else(|error| format!("ERROR: {error}"))
}

/// Formats a duration beyond the range of Arrow's formatter (ISO 8601, in seconds), which has 64
/// bits of milliseconds.
fn long_duration(column: &ArrayRef, row: usize) -> Option<String> {
    const LONGEST: u64 = i64::MAX as u64 / 1000;
    let DataType::Duration(TimeUnit::Second) = column.data_type() else { return None };
    let seconds = column.as_primitive::<DurationSecondType>();
    let seconds = (!seconds.is_null(row)).then(|| seconds.value(row))?;
    let sign = if seconds < 0 { "-" } else { "" };
    (seconds.unsigned_abs() > LONGEST).then(|| format!("{sign}PT{}S", seconds.unsigned_abs()))
}

/// Returns the positions of the first five cells that have no text, such as `column "d", row 3`.
pub fn unreadable_cells(batches: &[RecordBatch]) -> Vec<String> {
    const SHOWN: usize = 5;
    let mut found = Vec::new();
    let mut before = 0;
    for batch in batches {
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            // Values of other types have a text.
            if !has_calendar(field.data_type()) || is_within_calendar(column) {
                continue;
            }
            let is_unreadable = |row: &usize| !column.is_null(*row) && cell_text(column, *row).starts_with("ERROR: ");
            let places = (0..batch.num_rows()).filter(is_unreadable);
            found.extend(places.take(SHOWN).map(|row| format!("column {:?}, row {}", field.name(), before + row)));
            if found.len() >= SHOWN {
                found.truncate(SHOWN);
                return found;
            }
        }
        before += batch.num_rows();
    }
    found
}

/// Returns true if all values are known to be within the calendar, without formatting them.
fn is_within_calendar(column: &ArrayRef) -> bool {
    /// The calendar of chrono ends in the years 262142 before and after.
    const DAYS: i64 = 95_000_000;
    const DAY_SECONDS: i64 = 86_400;

    let per_second = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let days = |per_day: i64| {
        let ticks = cast(column, &DataType::Int64);
        let is_within = |tick: i64| (-DAYS..=DAYS).contains(&(tick / per_day));
        ticks.is_ok_and(|ticks| ticks.as_primitive::<Int64Type>().iter().flatten().all(is_within))
    };
    match column.data_type() {
        DataType::Date32 => days(1),
        DataType::Date64 => days(DAY_SECONDS * 1_000),
        DataType::Timestamp(unit, _) => days(DAY_SECONDS * per_second(unit)),
        _ => false,
    }
}

/// Returns true if values of a type are formatted by a calendar, which has a limited range.
fn has_calendar(data_type: &DataType) -> bool {
    match data_type {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) => {
            true
        }
        DataType::Dictionary(_, values) => has_calendar(values),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => has_calendar(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_calendar(field.data_type())),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| has_calendar(field.data_type())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date32Array, DurationSecondArray};

    use super::*;

    #[test]
    fn cells_without_text_are_named_and_long_durations_have_one() {
        let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(1), None, Some(i32::MIN)]));
        let spans: ArrayRef = Arc::new(DurationSecondArray::from(vec![i64::MAX, i64::MIN, 1]));
        assert_eq!(cell_text(&spans, 0), "PT9223372036854775807S");
        assert_eq!(cell_text(&spans, 1), "-PT9223372036854775808S");
        assert_eq!(cell_text(&spans, 2), "PT1S");
        let batch = RecordBatch::try_from_iter_with_nullable([("d", days, true), ("s", spans, false)]).unwrap();
        assert_eq!(unreadable_cells(&[batch.clone(), batch]), ["column \"d\", row 2", "column \"d\", row 5"]);
    }
}
