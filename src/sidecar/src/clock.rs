//! Converts the values of a source's clock column to microseconds since the Unix epoch.
//!
//! A column keeps one kind: numbers of one unit, or ISO-8601 text. The kind is detected from the
//! first values that are read, the newest ones.

use rusqlite::types::Value;
use serde::{Deserialize, Serialize};
use vexact_sqlite::oltp::column::described;

use super::calendar::{Civil, DAY, SECOND, parse};

/// Reals in this range are Julian days, as SQLite's `auto` modifier has it: the years 0 to 9999.
const JULIAN_DAYS: std::ops::Range<f64> = 1_721_059.5..5_373_484.5;
/// The Julian day of the Unix epoch.
const JULIAN_EPOCH: f64 = 2_440_587.5;

/// Unit of a numeric clock. All units but Julian days count from the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
    JulianDays,
}

/// The kind of a clock column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    Number(Unit),
    Text {
        /// Some have a `T` between date and time.
        has_t: bool,
        /// Some are not in UTC, so that their order as texts is not that of time.
        has_offset: bool,
    },
}

/// Reads a clock column, and learns what kind it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clock {
    pub kind: Option<Kind>,
}

/// A condition that all rows from a time on meet, and few others: at least a value, or between two
/// others (the first excluded).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bound {
    pub at_least: Value,
    pub or_between: Option<(Value, Value)>,
}

impl Unit {
    /// The unit of a number, by its size: seconds up to the year 5138, then what is finer.
    fn of(value: &Value) -> Option<Self> {
        let size = match value {
            Value::Integer(integer) => integer.unsigned_abs() as f64,
            Value::Real(real) if JULIAN_DAYS.contains(real) => return Some(Unit::JulianDays),
            Value::Real(real) => real.abs(),
            _ => return None,
        };
        Some(match size {
            size if size < 1e11 => Unit::Seconds,
            size if size < 1e14 => Unit::Milliseconds,
            size if size < 1e17 => Unit::Microseconds,
            _ => Unit::Nanoseconds,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "seconds",
            Unit::Milliseconds => "milliseconds",
            Unit::Microseconds => "microseconds",
            Unit::Nanoseconds => "nanoseconds",
            Unit::JulianDays => "Julian days",
        }
    }

    fn read(self, value: &Value) -> Option<i64> {
        match (value, self) {
            (Value::Integer(integer), Unit::Seconds) => integer.checked_mul(SECOND),
            (Value::Integer(integer), Unit::Milliseconds) => integer.checked_mul(1_000),
            (Value::Integer(integer), Unit::Microseconds) => Some(*integer),
            (Value::Integer(integer), Unit::Nanoseconds) => Some(integer.div_euclid(1_000)),
            (Value::Integer(integer), Unit::JulianDays) => Unit::JulianDays.read(&Value::Real(*integer as f64)),
            (Value::Real(real), unit) => {
                let micros = match unit {
                    Unit::Seconds => real * 1e6,
                    Unit::Milliseconds => real * 1e3,
                    Unit::Microseconds => *real,
                    Unit::Nanoseconds => real / 1e3,
                    Unit::JulianDays => (real - JULIAN_EPOCH) * 86_400e6,
                };
                (micros.abs() < 9.2e18).then(|| micros.floor() as i64)
            }
            _ => None,
        }
    }

    /// A number that is not after the time, and less than three of its own ticks before it.
    fn bound(self, time: i64) -> Value {
        match self {
            Unit::Seconds => Value::Integer(time.div_euclid(SECOND) - 1),
            Unit::Milliseconds => Value::Integer(time.div_euclid(1_000) - 1),
            Unit::Microseconds => Value::Integer(time.saturating_sub(1)),
            Unit::Nanoseconds => Value::Integer(time.saturating_sub(1).saturating_mul(1_000)),
            // A double has a Julian day to some 40 microseconds.
            Unit::JulianDays => Value::Real(time.saturating_sub(1_000) as f64 / 86_400e6 + JULIAN_EPOCH),
        }
    }
}

impl Clock {
    /// A column whose unit is known.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only a PostgreSQL source calls it"))]
    pub fn of(unit: Unit) -> Self {
        Self { kind: Some(Kind::Number(unit)) }
    }

    /// Returns the time of a value. NULL is rejected.
    ///
    /// # Errors
    /// Another kind of value than before; text that is no time: `expected .., got ..`.
    pub fn read(&mut self, value: &Value) -> Result<i64, String> {
        match (value, &mut self.kind) {
            (Value::Integer(_) | Value::Real(_), kind @ None) => {
                *kind = Unit::of(value).map(Kind::Number);
                self.read(value)
            }
            (Value::Integer(_) | Value::Real(_), Some(Kind::Number(unit))) => {
                let wrong =
                    || format!("expected {} as in the rows before, got {}", unit.name(), described(value.into()));
                unit.read(value).ok_or_else(wrong)
            }
            (Value::Text(text), kind @ (None | Some(Kind::Text { .. }))) => {
                let (had_t, had_offset) = match kind {
                    Some(Kind::Text { has_t, has_offset }) => (*has_t, *has_offset),
                    _ => (false, false),
                };
                let Some(parsed) = parse(text) else {
                    return Err(format!("expected an ISO-8601 time or a number, got {}", described(value.into())));
                };
                *kind = Some(Kind::Text {
                    has_t: had_t || text.trim_start().as_bytes().get(10).is_some_and(|c| c.eq_ignore_ascii_case(&b'T')),
                    has_offset: had_offset || parsed.has_offset,
                });
                Ok(parsed.micros)
            }
            (_, kind) => {
                let expected = match kind {
                    Some(Kind::Number(_)) => "a number as in the rows before",
                    Some(Kind::Text { .. }) => "ISO-8601 text as in the rows before",
                    None => "an ISO-8601 time or a number",
                };
                Err(format!("expected {expected}, got {}", described(value.into())))
            }
        }
    }

    /// A value for messages; a time of a server as a time.
    pub fn written(&self, value: &Value) -> String {
        match (self.kind, value) {
            (Some(Kind::Number(Unit::Microseconds)), Value::Integer(i64::MAX)) => "infinity".into(),
            (Some(Kind::Number(Unit::Microseconds)), Value::Integer(i64::MIN)) => "-infinity".into(),
            (_, value) => described(value.into()),
        }
    }

    /// Learns the kind that most of some values have, if it is not known.
    ///
    /// # Errors
    /// None of them is a time: as [`Self::read`] of the first.
    pub fn learn(&mut self, values: &[Value]) -> Result<(), String> {
        if self.kind.is_none() {
            let kinds: Vec<Clock> = values
                .iter()
                .filter_map(|value| {
                    let mut clock = Clock::default();
                    clock.read(value).is_ok().then_some(clock)
                })
                .collect();
            let votes = |kind: Option<Kind>| kinds.iter().filter(|known| is_alike(known.kind, kind)).count();
            // If kinds have equally many values, the kind of the first value wins, which is the
            // greatest.
            match kinds.iter().rev().max_by_key(|clock| votes(clock.kind)) {
                Some(clock) => *self = *clock,
                None => return values.first().map_or(Ok(()), |first| self.read(first).map(drop)),
            }
        }
        for value in values {
            // Each form of text extends the kind; a value of another kind is no time.
            let _ = self.read(value);
        }
        Ok(())
    }

    /// Returns a clock value that is greater than that of every time up to `time`. Returns `None`
    /// if the kind of the clock is not known yet.
    pub fn beyond(&self, time: i64) -> Option<Value> {
        match self.kind? {
            Kind::Number(unit) => Some(unit.bound(time.checked_add(DAY)?)),
            // Local times are less than a day off.
            Kind::Text { .. } => Some(Value::Text(Civil::of(time.checked_add(2 * DAY)?)?.date())),
        }
    }

    /// Returns a condition that all rows from `time` on meet; returns `None` if the kind of the
    /// clock is not known yet.
    pub fn bound(&self, time: i64) -> Option<Bound> {
        let text = |time: i64, form: fn(&Civil) -> String| Civil::of(time).map(|civil| Value::Text(form(&civil)));
        match self.kind? {
            Kind::Number(unit) => Some(Bound { at_least: unit.bound(time), or_between: None }),
            // Offsets reach to less than a day.
            Kind::Text { has_offset: true, .. } => {
                Some(Bound { at_least: text(time.checked_sub(DAY)?, Civil::date)?, or_between: None })
            }
            Kind::Text { has_t: false, .. } => {
                // A `T` sorts behind the space: times of that day that have one are among these.
                Some(Bound { at_least: text(time, |civil| civil.to_seconds(' '))?, or_between: None })
            }
            Kind::Text { has_t: true, .. } => Some(Bound {
                at_least: text(time, |civil| civil.to_seconds('T'))?,
                // Times of that day with a space.
                or_between: Some((
                    text(time, |civil| format!("{} ", civil.date()))?,
                    text(time, |civil| format!("{}!", civil.date()))?,
                )),
            }),
        }
    }
}

/// Returns true if both are texts, or numbers of one unit.
fn is_alike(a: Option<Kind>, b: Option<Kind>) -> bool {
    match (a, b) {
        (Some(Kind::Text { .. }), Some(Kind::Text { .. })) => true,
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_unit_of_their_size() {
        let now = 1_700_000_000_123_456;
        let read = |value: Value| Clock::default().read(&value).unwrap();
        assert_eq!(read(Value::Integer(1_700_000_000)), 1_700_000_000 * SECOND);
        assert_eq!(read(Value::Integer(1_700_000_000_123)), now / 1000 * 1000);
        assert_eq!(read(Value::Integer(now)), now);
        assert_eq!(read(Value::Integer(now * 1000 + 999)), now);
        assert_eq!(read(Value::Real(1_700_000_000.5)), 1_700_000_000_500_000);
        assert_eq!(read(Value::Real(2_440_588.5)), DAY);
        assert_eq!(read(Value::Integer(3)), 3 * SECOND);
    }

    #[test]
    fn a_column_keeps_its_kind() {
        let mut clock = Clock::default();
        assert_eq!(clock.read(&Value::Integer(1_700_000_000_000)), Ok(1_700_000_000_000_000));
        assert_eq!(clock.read(&Value::Integer(5)), Ok(5_000));
        let error = clock.read(&Value::Text("2024-01-01".into())).unwrap_err();
        assert_eq!(error, "expected a number as in the rows before, got text \"2024-01-01\"");
        let error = Clock::default().read(&Value::Text("soon".into())).unwrap_err();
        assert_eq!(error, "expected an ISO-8601 time or a number, got text \"soon\"");
        assert!(clock.read(&Value::Integer(i64::MAX)).unwrap_err().contains("expected milliseconds"));
    }

    /// The law of a bound: what is at or after the time meets it.
    #[test]
    fn bounds_let_through_all_that_is_later() {
        let meets = |bound: &Bound, value: &Value| {
            let at_least = |low: &Value| match (low, value) {
                (Value::Text(low), Value::Text(value)) => value >= low,
                (Value::Integer(low), Value::Integer(value)) => value >= low,
                (Value::Real(low), Value::Real(value)) => value >= low,
                (Value::Integer(low), Value::Real(value)) => *value >= *low as f64,
                other => panic!("{other:?}"),
            };
            at_least(&bound.at_least)
                || bound.or_between.as_ref().is_some_and(|(low, high)| match (low, high, value) {
                    (Value::Text(low), Value::Text(high), Value::Text(value)) => value > low && value < high,
                    other => panic!("{other:?}"),
                })
        };
        let texts = |texts: &[&str]| texts.iter().map(|text| Value::Text((*text).into())).collect::<Vec<_>>();
        let columns = [
            texts(&[
                "2024-05-05T10:00:00Z",
                "2024-05-05 09:59:58.5",
                "2024-05-04T23:00:00",
                "2024-05-05",
                "2024-05-06 00:00",
            ]),
            texts(&["2024-05-05 10:00:00", "2024-05-05 09:59:58.5", "2024-05-05T09:59:59"]),
            texts(&["2024-05-05T10:00:00+02:00", "2024-05-05T09:00:00-11:00", "2024-05-05T08:00:00Z"]),
            (0..9).map(|tick| Value::Integer(1_700_000_000 + tick)).collect(),
            (0..9).map(|tick| Value::Integer(1_700_000_000_000 + tick * 400)).collect(),
            (0..9).map(|tick| Value::Integer(1_700_000_000_000_000_000 + tick * 999)).collect(),
            (0..9).map(|tick| Value::Real(2_460_000.5 + f64::from(tick) / 86_400e3)).collect(),
            (0..9).map(|tick| Value::Real(1_700_000_000.0 + f64::from(tick) / 7.0)).collect(),
        ];
        for column in columns {
            let mut clock = Clock::default();
            let times: Vec<i64> = column.iter().map(|value| clock.read(value).unwrap()).collect();
            for from in &times {
                for (value, time) in column.iter().zip(&times).filter(|(_, time)| *time >= from) {
                    // As a sweep asks, see `OVERLAP_SLACK`.
                    let bound = clock.bound(from - SECOND).unwrap();
                    assert!(meets(&bound, value), "{value:?} at {time} from {from}: {bound:?}");
                }
            }
        }
    }
}
