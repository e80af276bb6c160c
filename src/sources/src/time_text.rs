//! Parses text as dates and times. A text with more information than its type holds is rejected: a
//! time of day in a date, digits beyond the unit of a timestamp, an offset where there is no time
//! zone. A second 60 is rejected too, because it would become another second.

use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime, string_to_time_nanoseconds};
use arrow::datatypes::{Date32Type, TimeUnit};
use chrono::Utc;

/// Offsets from UTC that a timestamp may be written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offsets {
    /// No offset, or that of UTC.
    OfUtc,
    /// Any offset; a time without one has this default offset, in seconds.
    Any { default: i32 },
    /// Exactly this offset, in seconds, which has to be written.
    Exactly(i32),
}

/// Parses a day, in days since 1970-01-01.
pub(super) fn date(text: &str) -> Option<i32> {
    let is_day = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+'));
    if is_day { Date32Type::parse(text) } else { None }
}

/// Parses a time of day, in nanoseconds.
pub(super) fn time_of_day(text: &str) -> Option<i64> {
    const DAY: i64 = 86_400_000_000_000;

    let fraction =
        text.split_once('.').map_or("", |(_, fraction)| fraction.trim_end_matches([' ', 'A', 'P', 'M', 'a', 'p', 'm']));
    let is_whole = fraction.bytes().skip(9).all(|digit| digit == b'0');
    let is_leap = text.split(':').nth(2).is_some_and(|seconds| seconds.starts_with("60"));
    let time = string_to_time_nanoseconds(text).ok()?;
    (is_whole && !is_leap && time < DAY).then_some(time)
}

/// Parses a point in time, in units since 1970-01-01 (of UTC).
pub(super) fn timestamp(text: &str, unit: TimeUnit, offsets: Offsets) -> Option<i64> {
    let parts = Parts::of(text)?;
    let (digits, per_second) = match unit {
        TimeUnit::Second => (0, 1),
        TimeUnit::Millisecond => (3, 1_000),
        TimeUnit::Microsecond => (6, 1_000_000),
        TimeUnit::Nanosecond => (9, 1_000_000_000),
    };
    if parts.digits() > digits {
        return None;
    }
    let offset = match (parts.offset, offsets) {
        ("", Offsets::OfUtc) => 0,
        ("", Offsets::Any { default }) => default,
        ("", Offsets::Exactly(_)) => return None,
        (written, Offsets::OfUtc) => offset(written).filter(|seconds| *seconds == 0)?,
        (written, Offsets::Any { .. }) => offset(written)?,
        (written, Offsets::Exactly(expected)) => offset(written).filter(|seconds| *seconds == expected)?,
    };
    let local = string_to_datetime(&Utc, parts.local).ok()?;
    let seconds = local.timestamp().checked_sub(i64::from(offset))?;
    let within = i64::from(local.timestamp_subsec_nanos()) / (1_000_000_000 / per_second);
    // Before 1970, only the seconds of the first representable nanoseconds are out of range.
    match seconds.checked_mul(per_second) {
        Some(units) => units.checked_add(within),
        None => (seconds + 1).checked_mul(per_second)?.checked_add(within - per_second),
    }
}

/// Returns the unit that a timestamp needs and its offset in seconds, if one is written; `None` for
/// text without a time of day.
pub(super) fn unit_and_offset(text: &str) -> Option<(TimeUnit, Option<i32>)> {
    if text.len() == 10 {
        return None;
    }
    let parts = Parts::of(text)?;
    let unit = match parts.digits() {
        0 if parts.written_digits == 0 => TimeUnit::Second,
        _ => match parts.written_digits {
            1..=3 => TimeUnit::Millisecond,
            4..=6 => TimeUnit::Microsecond,
            7..=9 => TimeUnit::Nanosecond,
            _ => return None,
        },
    };
    let offset = if parts.offset.is_empty() { None } else { Some(offset(parts.offset)?) };
    Some((unit, offset))
}

/// Parses an offset from UTC, in seconds: `Z`, `UTC`, `+02`, `+02:00`, `-0930`.
pub(super) fn offset(text: &str) -> Option<i32> {
    if text.eq_ignore_ascii_case("z") || text.eq_ignore_ascii_case("utc") {
        return Some(0);
    }
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = match (rest.len(), rest.split_once(':')) {
        (2, None) => (rest, "00"),
        (4, None) if rest.is_ascii() => rest.split_at(2),
        (5, Some((hours, minutes))) => (hours, minutes),
        _ => return None,
    };
    let number = |text: &str, most: i32| -> Option<i32> {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| is_number && *number < most)
    };
    Some(sign * (number(hours, 24)? * 3600 + number(minutes, 60)? * 60))
}

/// Returns an offset in Arrow's notation.
pub(super) fn zone(offset: i32) -> String {
    match offset {
        0 => "UTC".into(),
        _ => {
            let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
            format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
        }
    }
}

/// A timestamp as it is written: `2024-01-31`, `2024-01-31 12:34:56.789`,
/// `2024-01-31T12:34:56+02:00`.
struct Parts<'a> {
    /// Text before the offset.
    local: &'a str,
    fraction: &'a str,
    written_digits: usize,
    offset: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() == 10 {
            return Some(Self { local: text, fraction: "", written_digits: 0, offset: "" });
        }
        let is_time = bytes.len() >= 19
            && text.is_ascii()
            && matches!(bytes[10], b'T' | b't' | b' ')
            && bytes[13] == b':'
            && bytes[16] == b':'
            && bytes[17] < b'6';
        if !is_time {
            return None;
        }
        let mut end = 19;
        if bytes.get(19) == Some(&b'.') {
            end = 20 + bytes[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if end == 20 {
                return None;
            }
        }
        let fraction = if end > 20 { &text[20..end] } else { "" };
        // Digits beyond nanoseconds are zeros, or the text is rejected.
        let local = &text[..end.min(29)];
        Some(Self { local, fraction, written_digits: fraction.len(), offset: text[end..].trim_start() })
    }

    /// Returns the number of significant digits of the fraction.
    fn digits(&self) -> usize {
        self.fraction.trim_end_matches('0').len()
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn offsets_are_kept_or_refused() {
        let at = |text, offsets| timestamp(text, TimeUnit::Second, offsets);
        let any = Offsets::Any { default: 3600 };
        for (text, offsets, expected) in [
            ("1970-01-01T01:00:00", Offsets::OfUtc, Some(3600)),
            ("1970-01-01T01:00:00Z", Offsets::OfUtc, Some(3600)),
            ("1970-01-01 01:00:00+00:00", Offsets::OfUtc, Some(3600)),
            ("1970-01-01 01:00:00 UTC", Offsets::OfUtc, Some(3600)),
            ("1970-01-01T01:00:00+01:00", Offsets::OfUtc, None),
            ("1970-01-01T01:00:00+01:00", any, Some(0)),
            ("1970-01-01T01:00:00-0130", any, Some(9000)),
            ("1970-01-01T01:00:00", any, Some(0)),
            ("1970-01-01T01:00:00+02", Offsets::Exactly(7200), Some(-3600)),
            ("1970-01-01T01:00:00+03", Offsets::Exactly(7200), None),
            ("1970-01-01T01:00:00", Offsets::Exactly(7200), None),
            ("1970-01-01 10:00:00 PM", Offsets::OfUtc, None),
            ("1970-01-01 10:00:00 started", Offsets::OfUtc, None),
            ("1970-01-01 10:00:00,123", Offsets::OfUtc, None),
            ("1970-01-01 23:59:60", Offsets::OfUtc, None),
            ("1970-01-01 24:00:00", Offsets::OfUtc, None),
            ("0000-00-00", Offsets::OfUtc, None),
        ] {
            assert_eq!(at(text, offsets), expected, "{text} {offsets:?}");
        }
        for (offset, name) in [(0, "UTC"), (7200, "+02:00"), (-34_200, "-09:30")] {
            assert_eq!(zone(offset), name);
            assert_eq!(super::offset(name), Some(offset));
        }
    }

    #[test]
    fn days_and_times_of_day_are_whole() {
        assert_eq!(date("1970-01-02"), Some(1));
        for text in ["1970-01-02 00:00:00", "1970-01-02T00", "1970-02-30", "0", "x"] {
            assert_eq!(date(text), None, "{text}");
        }
        assert_eq!(time_of_day("00:00:01.5"), Some(1_500_000_000));
        assert_eq!(time_of_day("12:00:00.5 AM"), Some(500_000_000));
        for text in ["23:59:60", "24:00:00", "1230", "00:00:00.1234567891", "1:2:3:4"] {
            assert_eq!(time_of_day(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_timestamp_is_that_of_chrono_or_none(
            nanos in any::<i64>(),
            minutes in -720_i32..=720,
            digits in 0_usize..=9,
        ) {
            let instant = DateTime::from_timestamp_nanos(nanos);
            let local = instant.naive_utc() + TimeDelta::minutes(i64::from(minutes));
            let nine = format!("{:09}", local.and_utc().timestamp_subsec_nanos());
            let fraction = if digits == 0 { String::new() } else { format!(".{}", &nine[..digits]) };
            let written = format!("{}{fraction}{}", local.format("%Y-%m-%dT%H:%M:%S"), zone(minutes * 60).replace("UTC", "Z"));
            let kept: i64 = nine[..digits].parse().unwrap_or(0);
            for (unit, places) in
                [(TimeUnit::Second, 0), (TimeUnit::Millisecond, 3), (TimeUnit::Microsecond, 6), (TimeUnit::Nanosecond, 9)]
            {
                let got = timestamp(&written, unit, Offsets::Any { default: 0 });
                let needed = nine[..digits].trim_end_matches('0').len();
                let expected = if needed > places {
                    None
                } else {
                    let within = i128::from(kept) * 10_i128.pow(9 - digits as u32) / 10_i128.pow(9 - places as u32);
                    i64::try_from(i128::from(instant.timestamp()) * 10_i128.pow(places as u32) + within).ok()
                };
                prop_assert_eq!(got, expected, "{} in {:?}", written, unit);
            }
        }
    }
}
