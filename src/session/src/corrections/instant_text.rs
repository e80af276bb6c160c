//! Instants as text, of any year.

use arrow::array::timezone::Tz;
use arrow::compute::kernels::cast_utils::string_to_datetime;

const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// Returns the nanoseconds since the epoch of a text of an instant, in `zone` if the text names no
/// zone. Returns `None` for other text.
///
/// The result is that of Arrow's cast, if the cast accepts the text. In addition, the year may have
/// a sign and up to six digits.
pub(super) fn parse_instant(text: &str, zone: &Tz) -> Option<i128> {
    let text = text.trim();
    if let Ok(instant) = string_to_datetime(zone, text) {
        return Some(i128::from(instant.timestamp()) * 1_000_000_000 + i128::from(instant.timestamp_subsec_nanos()));
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (year, rest) = digits.split_once('-')?;
    if !(4..=6).contains(&year.len()) || !year.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let year: i64 = sign * year.parse::<i64>().ok()?;
    if rest.starts_with("02-29") && !is_leap(year) {
        return None;
    }
    // This year has the same calendar.
    let same = if is_leap(year) { 2000 } else { 2001 };
    let instant = string_to_datetime(zone, &format!("{same}-{rest}")).ok()?;
    let days = i128::from(first_day(year) - first_day(same));
    let nanos = i128::from(instant.timestamp()) * 1_000_000_000 + i128::from(instant.timestamp_subsec_nanos());
    Some(nanos + days * NANOS_PER_DAY)
}

fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

/// Returns the days from January 1 of year 0 to January 1 of a year, in the proleptic Gregorian
/// calendar.
fn first_day(year: i64) -> i64 {
    let before = year - 1;
    365 * year + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<i128> {
        parse_instant(text, &"+00:00".parse().unwrap()).map(|nanos| nanos / 1_000_000_000)
    }

    #[test]
    fn texts_of_all_years_are_instants_and_others_are_not() {
        for (text, expected) in [
            ("1970-01-01", 0),
            ("2024-02-29T12:00:00Z", 1_709_208_000),
            ("0001-01-01", -62_135_596_800),
            ("9999-12-31 23:59:59", 253_402_300_799),
            ("10000-01-01", 253_402_300_800),
            ("0000-02-29", -62_162_121_600),
            ("-0001-12-31", -62_167_305_600),
            // The last second of 64 bits of microseconds.
            ("294247-01-10T04:00:54", 9_223_372_036_854),
            ("+294247-01-10T06:00:54+02:00", 9_223_372_036_854),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in
            ["", "10000", "10001-02-29", "10000-13-01", "1234567-01-01", "x0000-01-01", "--0001-01-01", "99-01-01"]
        {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert_eq!(seconds("10000-02-29").map(|x| x - seconds("10000-02-28").unwrap()), Some(86_400));
    }

    /// Days are counted one by one from a year that Arrow reads to one that it does not.
    #[test]
    fn a_year_follows_the_one_before() {
        for year in (-20_000..310_000).step_by(97) {
            let days = if is_leap(year) { 366 } else { 365 };
            assert_eq!(first_day(year + 1) - first_day(year), days, "{year}");
        }
    }
}
