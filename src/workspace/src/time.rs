//! Times in the records of runs: UTC, ISO 8601, milliseconds. Their texts sort in the order of
//! time.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// Returns the current time.
pub(super) fn now() -> DateTime<Utc> {
    Utc::now()
}

/// Formats a time as `2026-01-31T12:00:00.000Z`.
pub(super) fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Formats a time as `20260131T120000Z`, the beginning of a run's id.
pub(super) fn compact(time: DateTime<Utc>) -> String {
    time.format("%Y%m%dT%H%M%SZ").to_string()
}

/// Returns the milliseconds from a text of [`text`] to a later time, at least 1; 0 if the text is
/// not valid.
pub(super) fn millis_since(start: &str, end: DateTime<Utc>) -> u64 {
    let Ok(start) = DateTime::parse_from_rfc3339(start) else { return 0 };
    // A clock may have been set back since.
    u64::try_from((end - start.with_timezone(&Utc)).num_milliseconds()).unwrap_or(0).max(1)
}

/// Adds a duration to a text of [`text`]. Returns a text that is not valid unchanged.
pub(super) fn after(start: &str, elapsed: Duration) -> String {
    let (parsed, elapsed) = (DateTime::parse_from_rfc3339(start), TimeDelta::from_std(elapsed).unwrap_or_default());
    parsed.map_or_else(|_| start.to_owned(), |parsed| text(parsed.with_timezone(&Utc) + elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_gives_no_negative_and_no_zero_duration() {
        let start = text(now() + TimeDelta::hours(1));
        assert_eq!(millis_since(&start, now()), 1);
        assert!(after(&start, Duration::from_millis(5)) > start);
    }
}
