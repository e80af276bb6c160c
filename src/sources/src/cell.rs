//! Converts cells of text to values of a type. A cell is stored without loss or rejected: no
//! fraction, time of day, offset or digit is dropped, and a text that overflows is not a value.
//! Decimals round as CAST does.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, Date32Array, Decimal128Array, PrimitiveArray, StringBuilder,
    Time64NanosecondArray,
};
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};

use super::csv_vectors::VectorColumn;
use super::decimal_text;
use super::describe;
use super::time_text::{self, Offsets};

/// A cell that is not a value of its column's type.
#[derive(Debug)]
pub(super) struct BadCell {
    pub row: usize,
    pub problem: String,
}

/// Rules for reading cells: NULL texts and the decimal separator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellRules {
    /// Texts that stand for NULL, besides the empty one.
    pub null_values: Vec<String>,
    /// Decimal separator.
    pub decimal: u8,
    /// True if the types were inferred: then all times of a column have the same offset.
    pub(super) is_inferred: bool,
}

impl Default for CellRules {
    fn default() -> Self {
        Self { null_values: Vec::new(), decimal: b'.', is_inferred: false }
    }
}

impl CellRules {
    /// Returns true if a cell is NULL.
    pub(super) fn is_null(&self, cell: &str) -> bool {
        cell.is_empty() || !self.null_values.is_empty() && self.null_values.iter().any(|null| null == cell)
    }

    /// Returns true if a cell of two quotes is NULL too.
    pub(super) fn is_quoted_null(&self) -> bool {
        self.null_values.iter().any(String::is_empty)
    }

    /// Calls a parser with a number that has a decimal point.
    pub(super) fn with_point<T>(&self, cell: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        if self.decimal == b'.' {
            return parse(cell);
        }
        // With another decimal separator, a point is not part of a number.
        let comma = char::from(self.decimal);
        if cell.contains('.') { None } else { parse(&cell.replacen(comma, ".", 1)) }
    }
}

/// The cells of one column.
pub(super) trait Cells {
    fn len(&self) -> usize;

    /// Returns the cell of a row; `None` if it is NULL.
    fn get(&self, row: usize) -> Option<&str>;

    /// Returns the cell of a column of texts, in which a text may be empty.
    fn text(&self, row: usize) -> Option<&str> {
        self.get(row)
    }
}

/// Returns true if cells can hold values of a type.
pub(super) fn is_readable(data_type: &DataType) -> bool {
    use DataType as T;

    match data_type {
        T::FixedSizeList(item, _) => *item.data_type() == T::Float32,
        T::Timestamp(_, zone) => zone.as_deref().is_none_or(|zone| time_text::offset(zone).is_some()),
        T::Boolean | T::Utf8 | T::Float32 | T::Float64 | T::Date32 | T::Decimal128(..) => true,
        T::Time64(unit) => *unit == TimeUnit::Nanosecond,
        other => other.is_integer(),
    }
}

/// Parses the values of a column.
///
/// # Errors
/// The first cell that is not a value of the type.
pub(super) fn column(cells: &impl Cells, data_type: &DataType, rules: &CellRules) -> Result<ArrayRef, BadCell> {
    use DataType as T;

    let column = Column { cells, data_type };
    match data_type {
        T::Utf8 => Ok(text(cells)),
        T::Boolean => Ok(Arc::new(column.collect::<bool, BooleanArray>(boolean)?)),
        T::Int8 => column.integers::<Int8Type>(),
        T::Int16 => column.integers::<Int16Type>(),
        T::Int32 => column.integers::<Int32Type>(),
        T::Int64 if rules.is_inferred => column.primitive::<Int64Type>(plain_int64),
        T::Int64 => column.integers::<Int64Type>(),
        T::UInt8 => column.integers::<UInt8Type>(),
        T::UInt16 => column.integers::<UInt16Type>(),
        T::UInt32 => column.integers::<UInt32Type>(),
        T::UInt64 => column.integers::<UInt64Type>(),
        T::Float32 => column.primitive::<Float32Type>(|cell| rules.with_point(cell, float32)),
        T::Float64 => {
            let parse: fn(&str) -> Option<f64> = if rules.is_inferred { exact_float64 } else { float64 };
            column.primitive::<Float64Type>(|cell| rules.with_point(cell, parse))
        }
        T::Decimal128(precision, scale) => {
            let parse = |cell: &str| rules.with_point(cell, |cell| decimal_text::parse(cell, *precision, *scale));
            let values: Decimal128Array = column.collect(parse)?;
            let typed = values.with_precision_and_scale(*precision, *scale);
            Ok(Arc::new(typed.map_err(|error| BadCell { row: 0, problem: error.to_string() })?))
        }
        T::Date32 => {
            // Only this form of a date was accepted when the type was inferred.
            let is_plain = |cell: &str| !rules.is_inferred || cell.len() == "2024-01-01".len();
            let parse = |cell: &str| time_text::date(cell).filter(|_| is_plain(cell));
            Ok(Arc::new(column.collect::<i32, Date32Array>(parse)?))
        }
        T::Time64(TimeUnit::Nanosecond) => {
            Ok(Arc::new(column.collect::<i64, Time64NanosecondArray>(time_text::time_of_day)?))
        }
        T::Timestamp(unit, zone) => {
            let offsets = match zone.as_deref().map(time_text::offset) {
                None => Offsets::OfUtc,
                Some(offset) if rules.is_inferred => Offsets::Exactly(offset.unwrap_or_default()),
                Some(offset) => Offsets::Any { default: offset.unwrap_or_default() },
            };
            let parse = |cell: &str| time_text::timestamp(cell, *unit, offsets);
            let zone = zone.clone();
            Ok(match unit {
                TimeUnit::Second => Arc::new(column.array::<TimestampSecondType>(parse)?.with_timezone_opt(zone)),
                TimeUnit::Millisecond => {
                    Arc::new(column.array::<TimestampMillisecondType>(parse)?.with_timezone_opt(zone))
                }
                TimeUnit::Microsecond => {
                    Arc::new(column.array::<TimestampMicrosecondType>(parse)?.with_timezone_opt(zone))
                }
                TimeUnit::Nanosecond => {
                    Arc::new(column.array::<TimestampNanosecondType>(parse)?.with_timezone_opt(zone))
                }
            })
        }
        T::FixedSizeList(_, dim) => VectorColumn { dim: *dim as usize }.parse(cells),
        other => Err(BadCell { row: 0, problem: format!("expected a type that text has, got {other}") }),
    }
}

/// Returns the cells of a column unchanged.
fn text(cells: &impl Cells) -> ArrayRef {
    let bytes = (0..cells.len()).filter_map(|row| cells.text(row)).map(str::len).sum();
    let mut texts = StringBuilder::with_capacity(cells.len(), bytes);
    for row in 0..cells.len() {
        texts.append_option(cells.text(row));
    }
    Arc::new(texts.finish())
}

struct Column<'a, C> {
    cells: &'a C,
    data_type: &'a DataType,
}

impl<C: Cells> Column<'_, C> {
    fn collect<T, A: FromIterator<Option<T>>>(&self, parse: impl Fn(&str) -> Option<T>) -> Result<A, BadCell> {
        let value = |row| match self.cells.get(row) {
            None => Ok(None),
            Some(cell) => match parse(cell) {
                Some(value) => Ok(Some(value)),
                None => Err(self.bad(row, cell)),
            },
        };
        (0..self.cells.len()).map(value).collect()
    }

    fn array<T: ArrowPrimitiveType>(
        &self,
        parse: impl Fn(&str) -> Option<T::Native>,
    ) -> Result<PrimitiveArray<T>, BadCell> {
        let mut values = PrimitiveArray::<T>::builder(self.cells.len());
        for row in 0..self.cells.len() {
            match self.cells.get(row) {
                None => values.append_null(),
                Some(cell) => values.append_value(parse(cell).ok_or_else(|| self.bad(row, cell))?),
            }
        }
        Ok(values.finish())
    }

    fn primitive<T: ArrowPrimitiveType>(&self, parse: impl Fn(&str) -> Option<T::Native>) -> Result<ArrayRef, BadCell> {
        Ok(Arc::new(self.array::<T>(parse)?))
    }

    fn integers<T: ArrowPrimitiveType + Parser>(&self) -> Result<ArrayRef, BadCell> {
        self.primitive::<T>(T::parse)
    }

    fn bad(&self, row: usize, cell: &str) -> BadCell {
        let (expected, got) = (self.data_type, describe::shown(cell.as_bytes()));
        BadCell { row, problem: format!("expected {expected}, got {got}") }
    }
}

fn boolean(cell: &str) -> Option<bool> {
    match cell {
        _ if cell.eq_ignore_ascii_case("true") => Some(true),
        _ if cell.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Parses a number within the range of float64: it must not become infinite, or zero.
pub(super) fn float64(cell: &str) -> Option<f64> {
    let value: f64 = cell.parse().ok()?;
    is_whole(cell, value.is_infinite(), value == 0.0).then_some(value)
}

/// Parses an integer in its canonical form: any other form would lose zeros or a sign.
fn plain_int64(cell: &str) -> Option<i64> {
    let is_plain = match cell.strip_prefix('-').unwrap_or(cell).as_bytes() {
        [b'0'] => cell.len() == 1,
        [b'1'..=b'9', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if is_plain { Int64Type::parse(cell) } else { None }
}

/// As [`float64`]; an integer must be exact in float64, and a number must not have leading zeros.
fn exact_float64(cell: &str) -> Option<f64> {
    if matches!(cell.strip_prefix('-').unwrap_or(cell).as_bytes(), [b'0', b'0'..=b'9', ..] | [b'+', ..]) {
        return None;
    }
    let is_short = cell.len() < 16 || cell.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    float64(cell).filter(|value| is_short || cell.parse::<i128>().is_ok_and(|integer| integer == *value as i128))
}

/// Parses a number within the range of float32: it must not become infinite, or zero.
pub(super) fn float32(cell: &str) -> Option<f32> {
    let value: f32 = cell.parse().ok()?;
    is_whole(cell, value.is_infinite(), value == 0.0).then_some(value)
}

fn is_whole(cell: &str, is_infinite: bool, is_zero: bool) -> bool {
    match (is_infinite, is_zero) {
        // A number that is infinite is written as a word.
        (true, _) => !cell.bytes().any(|byte| byte.is_ascii_digit()),
        (_, true) => {
            let mantissa = cell.split(['e', 'E']).next().unwrap_or_default();
            !mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Cells for &[&str] {
        fn len(&self) -> usize {
            <[&str]>::len(self)
        }

        fn get(&self, row: usize) -> Option<&str> {
            Some(self[row]).filter(|cell| !cell.is_empty())
        }
    }

    fn is_value(cell: &str, data_type: &DataType) -> bool {
        column(&[cell].as_slice(), data_type, &CellRules::default()).is_ok()
    }

    #[test]
    fn what_would_not_decide_on_a_type_is_no_value_of_an_inferred_one() {
        let rules = CellRules { is_inferred: true, ..CellRules::default() };
        for (data_type, whole, refused) in [
            (
                DataType::Int64,
                &["0", "-7", "9223372036854775807"][..],
                &["007", "-0", "+7", " 7", "7 ", "00", "--1", "-"][..],
            ),
            (
                DataType::Float64,
                &["0", "-7", ".5", "0.5", "-0", "1e3", "inf"],
                &["007.5", "-00.5", "+1.5", " 1.5", "01"],
            ),
            (DataType::Date32, &["2024-01-01"], &["2024-1-1", "20240101", "+2024-01-01"]),
            (DataType::Boolean, &["true", "FALSE"], &["t", "1", "True "]),
        ] {
            for cell in whole {
                assert!(column(&[*cell].as_slice(), &data_type, &rules).is_ok(), "{cell:?} as {data_type}");
            }
            for cell in refused {
                assert!(column(&[*cell].as_slice(), &data_type, &rules).is_err(), "{cell:?} as {data_type}");
            }
        }
    }

    #[test]
    fn a_cell_is_whole_or_refused() {
        let at = |unit| DataType::Timestamp(unit, None);
        for (data_type, whole, refused) in [
            (DataType::Boolean, &["true", "FALSE"][..], &["1", "yes", "t", " true"][..]),
            (DataType::Int32, &["7", "-2147483648"], &["1.0", "2147483648", "1e3", "x"]),
            (DataType::UInt64, &["18446744073709551615"], &["-1", "18446744073709551616"]),
            (DataType::Float32, &["0.1", "1e38", "NaN", "-inf", "0e99", "16777217"], &["1e39", "1e-60", "0x1"]),
            (DataType::Float64, &["1e308", "inf", "-0.0", "5e-324"], &["1e400", "-1e400", "1e-400", "1,5"]),
            (DataType::Date32, &["2024-02-29", "0001-01-01"], &["2024-02-30", "2024-01-01 00:00:00", "2024-01-01T10"]),
            (at(TimeUnit::Second), &["2024-01-01 00:00:00", "2024-01-01"], &["2024-01-01 00:00:00.9", "24:00:00"]),
            (at(TimeUnit::Millisecond), &["2024-01-01 00:00:00.120"], &["2024-01-01 00:00:00.1239999"]),
            (
                at(TimeUnit::Nanosecond),
                &["2024-01-01 00:00:00.123456789"],
                &["2024-01-01 00:00:00.1234567891", "1600-01-01"],
            ),
        ] {
            for cell in whole {
                assert!(is_value(cell, &data_type), "{cell:?} as {data_type}");
            }
            for cell in refused {
                assert!(!is_value(cell, &data_type), "{cell:?} as {data_type}");
            }
        }
    }
}
