//! Preimage of a constant under a cast: the interval of values that the cast maps to it. With it,
//! comparisons of the cast become comparisons of the value, so that row groups can be pruned by
//! their bounds.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::interval_arithmetic::Interval;

use super::opaque::integer;

/// Returns the values of a type that a cast maps to `value`: the first one, and the first one after
/// them that is mapped to another value. If there are no such values, both ends are the first value
/// whose cast is greater. Returns `None` if the cast is not known to preserve the order, if an end
/// is outside the type, or, for `is_try`, if the cast of some values is NULL.
pub(super) fn preimage(from: &DataType, value: &ScalarValue, is_try: bool) -> Option<Interval> {
    let cast = Monotone::of(from, &value.data_type())?;
    if is_try && cast.may_overflow {
        return None;
    }
    let target = Target::of(value)?;
    let (least, greatest) = domain(from)?;
    // The first value for which it holds; it holds for all that come after.
    let first = |holds: &dyn Fn(i128) -> bool| {
        if !holds(greatest) {
            return None;
        }
        let (mut before, mut first) = (least - 1, greatest);
        while first - before > 1 {
            let middle = before + (first - before) / 2;
            if holds(middle) { first = middle } else { before = middle }
        }
        Some(first)
    };
    let lower = first(&|x| !target.is_greater_than(&cast, x))?;
    let upper = first(&|x| target.is_less_than(&cast, x))?;
    Interval::try_new(scalar(from, lower)?, scalar(from, upper)?).ok()
}

/// A cast of integers to integers or floats that preserves their order.
struct Monotone {
    multiplier: i128,
    divisor: i128,
    rounding: Rounding,
    may_overflow: bool,
}

enum Rounding {
    /// Rounds toward zero, as Arrow casts timestamps to coarser ones.
    Truncated,
    /// Rounds toward the past, as Arrow finds the day of a timestamp.
    Floor,
}

const DAY_SECONDS: i128 = 86_400;

impl Monotone {
    fn of(from: &DataType, to: &DataType) -> Option<Self> {
        use DataType::{Date32, Timestamp};

        let exact = |multiplier, may_overflow| Self { multiplier, divisor: 1, rounding: Rounding::Floor, may_overflow };
        Some(match (from, to) {
            (Timestamp(from, from_zone), Timestamp(to, to_zone)) if from_zone.is_some() == to_zone.is_some() => {
                let (from, to) = (per_second(*from), per_second(*to));
                match from > to {
                    true => {
                        Self { multiplier: 1, divisor: from / to, rounding: Rounding::Truncated, may_overflow: false }
                    }
                    false => exact(to / from, to > from),
                }
            }
            (Timestamp(from, None), Date32) => Self {
                multiplier: 1,
                divisor: per_second(*from) * DAY_SECONDS,
                rounding: Rounding::Floor,
                // Arrow's calendar ends before the timestamps of whole seconds do.
                may_overflow: matches!(from, TimeUnit::Second | TimeUnit::Millisecond),
            },
            (Date32, Timestamp(to, None)) => exact(per_second(*to) * DAY_SECONDS, true),
            (from, DataType::Float32 | DataType::Float64) if from.is_integer() => exact(1, false),
            _ => return None,
        })
    }

    fn apply(&self, x: i128) -> i128 {
        match self.rounding {
            Rounding::Truncated => x * self.multiplier / self.divisor,
            Rounding::Floor => (x * self.multiplier).div_euclid(self.divisor),
        }
    }
}

fn per_second(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// The constant.
enum Target {
    Whole(i128),
    Single(f32),
    Double(f64),
}

impl Target {
    fn of(value: &ScalarValue) -> Option<Self> {
        use ScalarValue::{
            Date32, Float32, Float64, TimestampMicrosecond, TimestampMillisecond, TimestampNanosecond, TimestampSecond,
        };

        Some(match value {
            Date32(Some(x)) => Self::Whole((*x).into()),
            TimestampSecond(Some(x), _)
            | TimestampMillisecond(Some(x), _)
            | TimestampMicrosecond(Some(x), _)
            | TimestampNanosecond(Some(x), _) => Self::Whole((*x).into()),
            Float32(Some(x)) if x.is_finite() => Self::Single(*x),
            Float64(Some(x)) if x.is_finite() => Self::Double(*x),
            _ => return None,
        })
    }

    fn is_less_than(&self, cast: &Monotone, x: i128) -> bool {
        match self {
            Self::Whole(value) => *value < cast.apply(x),
            Self::Single(value) => *value < x as f32,
            Self::Double(value) => *value < x as f64,
        }
    }

    fn is_greater_than(&self, cast: &Monotone, x: i128) -> bool {
        match self {
            Self::Whole(value) => *value > cast.apply(x),
            Self::Single(value) => *value > x as f32,
            Self::Double(value) => *value > x as f64,
        }
    }
}

fn domain(from: &DataType) -> Option<(i128, i128)> {
    match from {
        DataType::Date32 => Some((i32::MIN.into(), i32::MAX.into())),
        DataType::Timestamp(..) => Some((i64::MIN.into(), i64::MAX.into())),
        other => other.is_integer().then(|| integer(other)),
    }
}

fn scalar(of: &DataType, x: i128) -> Option<ScalarValue> {
    let whole = i64::try_from(x).ok();
    Some(match of {
        DataType::Date32 => ScalarValue::Date32(Some(i32::try_from(x).ok()?)),
        DataType::Timestamp(TimeUnit::Second, zone) => ScalarValue::TimestampSecond(Some(whole?), zone.clone()),
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            ScalarValue::TimestampMillisecond(Some(whole?), zone.clone())
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            ScalarValue::TimestampMicrosecond(Some(whole?), zone.clone())
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => ScalarValue::TimestampNanosecond(Some(whole?), zone.clone()),
        DataType::UInt64 => ScalarValue::UInt64(Some(u64::try_from(x).ok()?)),
        other => ScalarValue::Int64(Some(whole?)).cast_to(other).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Every pair of types, at values around the ends, against Arrow's own cast.
    #[test]
    fn a_value_is_within_the_preimage_of_a_constant_if_its_cast_is_the_constant() {
        let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
        let stamps = units.map(|unit| DataType::Timestamp(unit, None));
        let zoned = units.map(|unit| DataType::Timestamp(unit, Some(Arc::from("+02:00"))));
        let mut pairs = Vec::new();
        for from in &stamps {
            pairs.extend(stamps.iter().filter(|to| *to != from).map(|to| (from.clone(), to.clone())));
            pairs.push((from.clone(), DataType::Date32));
            pairs.push((DataType::Date32, from.clone()));
        }
        pairs.extend(zoned.iter().skip(1).map(|to| (zoned[0].clone(), to.clone())));
        let integers = [DataType::Int64, DataType::UInt64, DataType::Int32];
        pairs.extend(integers.iter().map(|from| (from.clone(), DataType::Float64)));
        pairs.extend(integers.iter().map(|from| (from.clone(), DataType::Float32)));
        let around: Vec<i128> = [0, 1 << 24, 1 << 53, 86_400, 86_400_000, 1_000_000_000, 946_684_800_000_000, 20_000]
            .into_iter()
            .flat_map(|x: i128| [-x - 1, -x, -x + 1, x - 1, x, x + 1, x + 500_000])
            .collect();
        let mut compared = 0;
        for (from, to) in pairs {
            let values = around.iter().filter_map(|x| scalar(&from, *x));
            let cast: Vec<(ScalarValue, ScalarValue)> =
                values.filter_map(|x| Some((x.clone(), x.cast_to(&to).ok()?))).collect();
            let odd = around.iter().filter_map(|x| ScalarValue::Int64(Some(*x as i64)).cast_to(&to).ok());
            let constants: Vec<ScalarValue> = cast.iter().map(|(_, cast)| cast.clone()).chain(odd).collect();
            for constant in &constants {
                let Some(interval) = preimage(&from, constant, false) else { continue };
                for (x, cast) in &cast {
                    let is_within = x >= interval.lower() && x < interval.upper();
                    assert_eq!(is_within, cast == constant, "{from} {x} as {to} = {constant}: {interval}");
                    assert_eq!(x < interval.lower(), cast < constant, "{from} {x} as {to} < {constant}: {interval}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 10_000, "{compared}");
    }
}
