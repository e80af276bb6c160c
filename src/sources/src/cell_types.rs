//! Infers the type of a column from its cells: a type that represents every cell without loss, else
//! text.

use arrow::datatypes::{DataType, TimeUnit};

use super::cell::{self, CellRules, Cells};
use super::time_text;

/// Integers up to here are exact in float64.
const EXACT_IN_FLOAT: u64 = 1 << 53;

/// Infers the type of these cells; it is text if there are none. Integers beyond int64, numbers
/// with leading zeros, integers that a float64 would change, and times of several offsets are text.
pub(super) fn infer(cells: &impl Cells, rules: &CellRules) -> DataType {
    let mut seen = Seen::default();
    for row in 0..cells.len() {
        if let Some(cell) = cells.get(row) {
            seen.add(cell, rules);
            if seen.has_text {
                return DataType::Utf8;
            }
        }
    }
    let found = seen.data_type();
    // A day that is in no calendar, and a time outside the type's range, have the form of a date
    // and a time.
    let rules = CellRules { is_inferred: true, ..rules.clone() };
    if found != DataType::Utf8 && cell::column(cells, &found, &rules).is_err() { DataType::Utf8 } else { found }
}

#[derive(Debug, Default)]
struct Seen {
    has_bool: bool,
    has_integer: bool,
    /// True if a float64 would change one of the integers.
    has_large_integer: bool,
    has_float: bool,
    has_date: bool,
    /// Finest unit of the times.
    unit: Option<TimeUnit>,
    has_local_time: bool,
    offset: Option<i32>,
    has_text: bool,
}

impl Seen {
    fn add(&mut self, cell: &str, rules: &CellRules) {
        match Form::of(cell, rules) {
            Form::Bool => self.has_bool = true,
            Form::Integer { is_large } => {
                self.has_integer = true;
                self.has_large_integer |= is_large;
            }
            Form::Float => self.has_float = true,
            Form::Date => self.has_date = true,
            Form::Time(unit, offset) => {
                self.unit = self.unit.max(Some(unit));
                match (offset, self.offset) {
                    (None, _) => self.has_local_time = true,
                    (Some(offset), Some(other)) => self.has_text |= offset != other,
                    (offset, None) => self.offset = offset,
                }
            }
            Form::Text => self.has_text = true,
        }
    }

    fn data_type(&self) -> DataType {
        let has_number = self.has_integer || self.has_float;
        let has_time = self.has_date || self.unit.is_some();
        match (self.has_bool, has_number, has_time) {
            _ if self.has_text => DataType::Utf8,
            (true, false, false) => DataType::Boolean,
            (false, true, false) => match (self.has_float, self.has_large_integer) {
                (false, _) => DataType::Int64,
                (true, false) => DataType::Float64,
                (true, true) => DataType::Utf8,
            },
            (false, false, true) => match (self.unit, self.offset) {
                (None, _) => DataType::Date32,
                (Some(unit), None) => DataType::Timestamp(unit, None),
                (Some(_), Some(_)) if self.has_local_time || self.has_date => DataType::Utf8,
                (Some(unit), Some(offset)) => DataType::Timestamp(unit, Some(time_text::zone(offset).into())),
            },
            _ => DataType::Utf8,
        }
    }
}

/// Form of a cell's text.
enum Form {
    Bool,
    Integer { is_large: bool },
    Float,
    Date,
    Time(TimeUnit, Option<i32>),
    Text,
}

impl Form {
    fn of(cell: &str, rules: &CellRules) -> Self {
        match cell.as_bytes() {
            [b'-' | b'.' | b'0'..=b'9', ..] => Self::of_number_or_time(cell, rules),
            [byte, ..] if *byte == rules.decimal => Self::of_number_or_time(cell, rules),
            _ if cell.eq_ignore_ascii_case("true") || cell.eq_ignore_ascii_case("false") => Self::Bool,
            _ if matches!(cell, "NaN" | "nan" | "inf") => Self::Float,
            _ => Self::Text,
        }
    }

    fn of_number_or_time(cell: &str, rules: &CellRules) -> Self {
        let digits = cell.strip_prefix('-').unwrap_or(cell);
        if digits == "inf" {
            return Self::Float;
        }
        // A number with a leading zero is a code, and a number would lose the zero.
        let has_leading_zero = matches!(digits.as_bytes(), [b'0', b'0'..=b'9', ..]);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return match cell.parse::<i64>() {
                _ if has_leading_zero => Self::Text,
                // An integer would lose the sign.
                Ok(0) if cell.starts_with('-') => Self::Float,
                Ok(value) => Self::Integer { is_large: value.unsigned_abs() > EXACT_IN_FLOAT },
                Err(_) => Self::Text,
            };
        }
        if is_fractional(digits, rules.decimal) {
            return if has_leading_zero { Self::Text } else { Self::Float };
        }
        if cell.len() == 10 && time_text::date(cell).is_some() {
            return Self::Date;
        }
        match time_text::unit_and_offset(cell) {
            Some((unit, offset)) => Self::Time(unit, offset),
            None => Self::Text,
        }
    }
}

/// Returns true if a text is a number with a fraction or an exponent.
fn is_fractional(text: &str, decimal: u8) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (text, None),
    };
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_mantissa = match mantissa.split_once(char::from(decimal)) {
        Some((before, after)) => before.len() + after.len() > 0 && are_digits(before) && are_digits(after),
        None => exponent.is_some() && !mantissa.is_empty() && are_digits(mantissa),
    };
    is_mantissa && exponent.is_none_or(|exponent| !exponent.is_empty() && are_digits(exponent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(cells: &[&str]) -> DataType {
        infer(&cells, &CellRules::default())
    }

    #[test]
    fn a_type_holds_every_cell_whole() {
        use TimeUnit::{Microsecond, Millisecond, Second};

        let at = |unit, zone: Option<&str>| DataType::Timestamp(unit, zone.map(Into::into));
        for (cells, expected) in [
            (&["1", "", "-2"][..], DataType::Int64),
            (&["1", "2.5"], DataType::Float64),
            (&["9007199254740993", "2.5"], DataType::Utf8),
            (&["9223372036854775807"], DataType::Int64),
            (&["9223372036854775808"], DataType::Utf8),
            (&["007", "1"], DataType::Utf8),
            (&["0", "0.5", ".5", "5.", "1e3"], DataType::Float64),
            (&["-0", "1"], DataType::Float64),
            (&["1e400"], DataType::Utf8),
            (&["1e-400"], DataType::Utf8),
            (&["NaN", "-inf"], DataType::Float64),
            (&["true", "FALSE"], DataType::Boolean),
            (&["true", "1"], DataType::Utf8),
            (&["2024-01-01"], DataType::Date32),
            (&["2024-02-30"], DataType::Utf8),
            (&["0000-00-00"], DataType::Utf8),
            (&["2024-01-01", "2024-01-01 10:00:00"], at(Second, None)),
            (&["2024-01-01 10:00:00", "2024-01-01T10:00:00.5"], at(Millisecond, None)),
            (&["2024-01-01T10:00:00Z", "2024-01-01T10:00:00.123456+00:00"], at(Microsecond, Some("UTC"))),
            (&["2024-01-01T10:00:00+02:00"], at(Second, Some("+02:00"))),
            (&["2024-01-01T10:00:00+02:00", "2024-01-01T10:00:00Z"], DataType::Utf8),
            (&["2024-01-01T10:00:00Z", "2024-01-01T10:00:00"], DataType::Utf8),
            (&["2024-01-01T10:00:00Z", "2024-01-01"], DataType::Utf8),
            (&["2024-01-01 10:00:00 started"], DataType::Utf8),
            (&["2024-01-01 10:00:00 PM"], DataType::Utf8),
            (&["2024-01-01 24:00:00"], DataType::Utf8),
            (&["2024-01-01 10:00:00,123"], DataType::Utf8),
            (&["1600-01-01 00:00:00.123456789"], DataType::Utf8),
            (&["2024-01-01", "1"], DataType::Utf8),
            (&["", ""], DataType::Utf8),
            (&["1,5"], DataType::Utf8),
        ] {
            assert_eq!(of(cells), expected, "{cells:?}");
        }
        let comma = CellRules { decimal: b',', ..CellRules::default() };
        assert_eq!(infer(&["1,5", "2"].as_slice(), &comma), DataType::Float64);
        assert_eq!(infer(&["1.5"].as_slice(), &comma), DataType::Utf8);
    }

    proptest! {
        /// The cells that determined a type are readable in it, and are written back unchanged.
        #[test]
        fn a_type_never_makes_unreadable_the_cells_that_decided_it(
            cells in prop::collection::vec("(-?[0-9]{1,20}|[0-9.e-]{1,6}|true|[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,10})?(Z|\\+0[0-9]:00)?)?|x)", 0..5),
        ) {
            let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
            let data_type = of(&cells);
            let rules = CellRules { is_inferred: true, ..CellRules::default() };
            let values = cell::column(&cells.as_slice(), &data_type, &rules);
            prop_assert!(values.is_ok(), "{:?} as {}", cells, data_type);
            if data_type == DataType::Int64 {
                let text = arrow::compute::cast(&values.unwrap(), &DataType::Utf8).unwrap();
                let back: Vec<_> = arrow::array::AsArray::as_string::<i32>(&text).iter().flatten().collect();
                prop_assert_eq!(back, cells);
            }
        }
    }
}
