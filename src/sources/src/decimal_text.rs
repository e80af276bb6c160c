//! Parses text as decimals. Digits beyond the scale are rounded half away from zero, as CAST does
//! (arrow's readers of text truncate them, apache/arrow-rs#9410); a text with too many digits
//! before the point is rejected.

/// Parses a decimal, in units of its last digit.
pub(super) fn parse(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let scaled = Scaled::of(text, scale)?;
    let value = scaled.value.checked_add(i128::from(scaled.rounds_up))?;
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    (value < limit).then_some(if scaled.is_negative { -value } else { value })
}

/// Parses a number without a fraction, as `12`, `1.20e1`.
pub(super) fn integer(text: &str) -> Option<i128> {
    let scaled = Scaled::of(text, 0).filter(|scaled| scaled.is_exact)?;
    Some(if scaled.is_negative { -scaled.value } else { scaled.value })
}

/// A number in units of a digit after the point, truncated there.
struct Scaled {
    is_negative: bool,
    value: i128,
    /// True if the dropped digits are at least a half.
    rounds_up: bool,
    /// True if the dropped digits are all 0.
    is_exact: bool,
}

impl Scaled {
    fn of(text: &str, scale: i8) -> Option<Self> {
        let (is_negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if before.is_empty() && after.is_empty() {
            return None;
        }
        // Number of digits to keep: those before the point, and as many after it as exponent and
        // scale require.
        let kept = i64::try_from(before.len()).ok()? + i64::from(exponent) + i64::from(scale);
        let mut scaled = Self { is_negative, value: 0, rounds_up: false, is_exact: true };
        for (place, digit) in (0_i64..).zip(before.bytes().chain(after.bytes())) {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            if place < kept {
                scaled.value = scaled.value.checked_mul(10)?.checked_add(i128::from(digit))?;
            } else {
                scaled.rounds_up |= place == kept && digit >= 5;
                scaled.is_exact &= digit == 0;
            }
        }
        let given = i64::try_from(before.len() + after.len()).ok()?;
        if scaled.value != 0 && kept > given {
            let zeros = u32::try_from(kept - given).ok()?;
            scaled.value = scaled.value.checked_mul(10_i128.checked_pow(zeros)?)?;
        }
        Some(scaled)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, StringArray};
    use arrow::compute::{CastOptions, cast_with_options};
    use arrow::datatypes::{DataType, Decimal128Type};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_beyond_the_scale_are_rounded_and_not_cut() {
        for (text, precision, scale, expected) in [
            ("1.999", 10, 2, Some(200)),
            ("-1.999", 10, 2, Some(-200)),
            ("1.9", 5, 0, Some(2)),
            ("1.25", 10, 1, Some(13)),
            ("-.005", 3, 2, Some(-1)),
            ("1e3", 10, 2, Some(100_000)),
            ("12345e-4", 10, 2, Some(123)),
            ("5e-1", 3, 0, Some(1)),
            ("4e-1", 3, 0, Some(0)),
            ("1e-99", 3, 2, Some(0)),
            ("0e999", 3, 2, Some(0)),
            ("9.995", 3, 2, None),
            ("10", 3, 2, None),
            ("1e99", 38, 0, None),
            ("", 3, 2, None),
            (".", 3, 2, None),
            ("1.2.3", 9, 2, None),
            ("1x", 9, 2, None),
            ("NaN", 9, 2, None),
        ] {
            assert_eq!(parse(text, precision, scale), expected, "{text}");
        }
    }

    #[test]
    fn an_integer_has_no_fraction() {
        for (text, expected) in [
            ("1.0", Some(1)),
            ("-1.20e1", Some(-12)),
            ("1e3", Some(1000)),
            ("1.5", None),
            ("1.00000000000000000001", None),
            ("1e99", None),
        ] {
            assert_eq!(integer(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn decimals_are_those_of_cast(text in "-?[0-9]{1,12}(\\.[0-9]{1,12})?", precision in 1_u8..=38, scale in 0_i8..=12) {
            prop_assume!(scale <= precision as i8);
            let data_type = DataType::Decimal128(precision, scale);
            let options = CastOptions { safe: true, ..CastOptions::default() };
            let cast = cast_with_options(&StringArray::from(vec![text.as_str()]), &data_type, &options).unwrap();
            let cast = cast.as_primitive::<Decimal128Type>();
            prop_assert_eq!(parse(&text, precision, scale), cast.is_valid(0).then(|| cast.value(0)));
        }
    }
}
