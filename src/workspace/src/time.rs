//! Times as runs name them: UTC, ISO 8601, milliseconds. Their texts sort as they do.

use chrono::{DateTime, SecondsFormat, Utc};

/// Now.
pub(super) fn now() -> DateTime<Utc> {
    Utc::now()
}

/// As `2026-01-31T12:00:00.000Z`.
pub(super) fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// As `20260131T120000Z`, which begins a run's id.
pub(super) fn compact(time: DateTime<Utc>) -> String {
    time.format("%Y%m%dT%H%M%SZ").to_string()
}

/// Milliseconds from a text of [`text`] to a later time; 0 where there is none.
pub(super) fn millis_since(start: &str, end: DateTime<Utc>) -> u64 {
    let start = DateTime::parse_from_rfc3339(start).map(|start| start.with_timezone(&Utc));
    start.ok().and_then(|start| u64::try_from((end - start).num_milliseconds()).ok()).unwrap_or(0)
}
