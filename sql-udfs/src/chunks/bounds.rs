//! Cached bounds of a batch's columns: the least value, the greatest value, and the number of
//! NULLs.

use std::sync::OnceLock;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::Accumulator;

/// Maximum length of a text or binary bound, in bytes.
const BOUND_BYTES: usize = 64;

/// The bounds of the columns of one batch. Each bound is computed at its first use and then cached.
/// It stays valid when rows are deleted.
#[derive(Debug)]
pub struct Bounds {
    columns: Box<[OnceLock<ColumnBounds>]>,
    /// For each column, true if a text contains a NUL.
    nuls: Box<[OnceLock<bool>]>,
}

impl Bounds {
    /// Creates empty bounds for a batch with `columns` columns; computes nothing yet.
    pub fn new(columns: usize) -> Self {
        Self {
            columns: std::iter::repeat_with(OnceLock::new).take(columns).collect(),
            nuls: std::iter::repeat_with(OnceLock::new).take(columns).collect(),
        }
    }

    pub(super) fn column(&self, batch: &RecordBatch, column: usize) -> &ColumnBounds {
        self.columns[column].get_or_init(|| ColumnBounds::of(batch.column(column)))
    }
}

impl Bounds {
    /// The greatest absolute value of a column of numbers; 0 for another column.
    pub(super) fn greatest_magnitude(&self, batch: &RecordBatch, column: usize) -> f64 {
        let data_type = batch.column(column).data_type();
        if !data_type.is_floating() && !data_type.is_integer() {
            return 0.0;
        }
        let ColumnBounds { min, max, .. } = self.column(batch, column);
        let magnitude = |bound: &Bound| match bound {
            Bound::Nothing => 0.0,
            Bound::Exact(value) => match value.cast_to(&DataType::Float64) {
                Ok(ScalarValue::Float64(Some(value))) => value.abs(),
                _ => f64::INFINITY,
            },
            Bound::Beyond(_) | Bound::Unknown => f64::INFINITY,
        };
        magnitude(min).max(magnitude(max))
    }

    /// Returns true if a text column may contain a NUL, deleted rows included.
    pub(super) fn may_have_nul(&self, batch: &RecordBatch, column: usize) -> bool {
        *self.nuls[column].get_or_init(|| {
            let column = batch.column(column);
            match column.data_type() {
                DataType::Utf8 => {
                    let text = column.as_string::<i32>();
                    let offsets = text.value_offsets();
                    let (first, last) = (offsets[0] as usize, offsets[text.len()] as usize);
                    text.value_data()[first..last].contains(&0)
                }
                other => other.is_string(),
            }
        })
    }
}

/// The bounds of one column of one batch.
#[derive(Debug)]
pub(super) struct ColumnBounds {
    pub min: Bound,
    pub max: Bound,
    pub nulls: usize,
}

/// One end of the values, in Arrow's order, where -0 is less than 0.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Bound {
    /// A value of the column.
    Exact(ScalarValue),
    /// A limit that no value exceeds; it need not be a value of the column.
    Beyond(ScalarValue),
    /// All values are NULL, or there are none.
    Nothing,
    /// The type has no order that is used here, there is a NaN, or the bound would be too long.
    Unknown,
}

impl Bound {
    pub fn value(&self) -> Option<&ScalarValue> {
        match self {
            Self::Exact(value) | Self::Beyond(value) => Some(value),
            Self::Nothing | Self::Unknown => None,
        }
    }
}

impl ColumnBounds {
    fn of(column: &ArrayRef) -> Self {
        let nulls = column.logical_null_count();
        if nulls == column.len() {
            return Self { min: Bound::Nothing, max: Bound::Nothing, nulls };
        }
        if !is_ordered(column.data_type()) || has_nan(column) {
            return Self { min: Bound::Unknown, max: Bound::Unknown, nulls };
        }
        let min = MinAccumulator::try_new(column.data_type()).and_then(|min| result(min, column));
        let max = MaxAccumulator::try_new(column.data_type()).and_then(|max| result(max, column));
        let bound = |value: Result<ScalarValue>, end| value.map_or(Bound::Unknown, |value| bound(value, end));
        Self { min: bound(min, End::Least), max: bound(max, End::Greatest), nulls }
    }
}

/// Computes SQL's `min` or `max` of the column.
fn result(mut accumulator: impl Accumulator, column: &ArrayRef) -> Result<ScalarValue> {
    accumulator.update_batch(std::slice::from_ref(column))?;
    accumulator.evaluate()
}

/// Returns true if the type has an order for bounds: booleans, text, binary, and primitive types
/// except intervals.
fn is_ordered(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => true,
        DataType::Interval(_) => false,
        other => other.is_primitive(),
    }
}

/// Arrow's comparisons order NaN differently from its `min` and `max`.
fn has_nan(column: &ArrayRef) -> bool {
    match column.data_type() {
        DataType::Float16 => column.as_primitive::<Float16Type>().iter().flatten().any(|value| value.is_nan()),
        DataType::Float32 => column.as_primitive::<Float32Type>().values().iter().any(|value| value.is_nan()),
        DataType::Float64 => column.as_primitive::<Float64Type>().values().iter().any(|value| value.is_nan()),
        _ => false,
    }
}

#[derive(Debug, Clone, Copy)]
enum End {
    Least,
    Greatest,
}

fn bound(value: ScalarValue, end: End) -> Bound {
    let beyond = |value: Option<ScalarValue>| value.map_or(Bound::Unknown, Bound::Beyond);
    let text = |text: &str| text_bound(text, end);
    let bytes = |bytes: &[u8]| bytes_bound(bytes, end);
    match &value {
        ScalarValue::Utf8(Some(long)) if long.len() > BOUND_BYTES => {
            beyond(text(long).map(|text| ScalarValue::Utf8(Some(text))))
        }
        ScalarValue::LargeUtf8(Some(long)) if long.len() > BOUND_BYTES => {
            beyond(text(long).map(|text| ScalarValue::LargeUtf8(Some(text))))
        }
        ScalarValue::Utf8View(Some(long)) if long.len() > BOUND_BYTES => {
            beyond(text(long).map(|text| ScalarValue::Utf8View(Some(text))))
        }
        ScalarValue::Binary(Some(long)) if long.len() > BOUND_BYTES => {
            beyond(bytes(long).map(|bytes| ScalarValue::Binary(Some(bytes))))
        }
        ScalarValue::LargeBinary(Some(long)) if long.len() > BOUND_BYTES => {
            beyond(bytes(long).map(|bytes| ScalarValue::LargeBinary(Some(bytes))))
        }
        ScalarValue::BinaryView(Some(long)) if long.len() > BOUND_BYTES => {
            beyond(bytes(long).map(|bytes| ScalarValue::BinaryView(Some(bytes))))
        }
        value if value.is_null() => Bound::Nothing,
        _ => Bound::Exact(value),
    }
}

/// A short text that is not greater, or not less, than a long one.
fn text_bound(long: &str, end: End) -> Option<String> {
    let mut start = long[..long.floor_char_boundary(BOUND_BYTES)].to_owned();
    match end {
        End::Least => Some(start),
        End::Greatest => loop {
            // Incrementing the last letter of a prefix gives a text that is greater than every text
            // with this prefix.
            let next = char::from_u32(u32::from(start.pop()?) + 1);
            if let Some(next) = next {
                start.push(next);
                return Some(start);
            }
        },
    }
}

/// As [`text_bound`], for bytes.
fn bytes_bound(long: &[u8], end: End) -> Option<Vec<u8>> {
    let mut start = long[..BOUND_BYTES].to_vec();
    match end {
        End::Least => Some(start),
        End::Greatest => loop {
            if let Some(next) = start.pop()?.checked_add(1) {
                start.push(next);
                return Some(start);
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, Float64Array, Int64Array, StringArray};

    use super::*;

    fn of(column: impl Array + 'static) -> ColumnBounds {
        ColumnBounds::of(&(Arc::new(column) as ArrayRef))
    }

    #[test]
    fn bounds_are_values_of_the_column() {
        let bounds = of(Int64Array::from(vec![Some(3), None, Some(-7)]));
        assert_eq!((bounds.min, bounds.max), (Bound::Exact((-7i64).into()), Bound::Exact(3i64.into())));
        assert_eq!(bounds.nulls, 1);
    }

    #[test]
    fn nothing_but_null_has_no_bounds() {
        for column in [vec![None, None], vec![]] {
            let nulls = column.len();
            let bounds = of(Int64Array::from(column));
            assert_eq!((bounds.min, bounds.max, bounds.nulls), (Bound::Nothing, Bound::Nothing, nulls));
        }
    }

    #[test]
    fn the_zeros_have_an_order_and_nan_has_none() {
        let bounds = of(Float64Array::from(vec![0.0, -0.0]));
        let Bound::Exact(ScalarValue::Float64(Some(min))) = bounds.min else { panic!("{bounds:?}") };
        assert!(min == 0.0 && min.is_sign_negative());
        for nan in [f64::NAN, -f64::NAN] {
            let bounds = of(Float64Array::from(vec![1.0, nan, f64::INFINITY]));
            assert_eq!((bounds.min, bounds.max), (Bound::Unknown, Bound::Unknown));
        }
    }

    #[test]
    fn magnitudes_and_nuls_are_those_of_the_values() {
        let batch = |column: ArrayRef| RecordBatch::try_from_iter([("c", column)]).unwrap();
        for (values, expected) in [
            (vec![Some(1.0), None, Some(-7.5)], 7.5),
            (vec![None], 0.0),
            (vec![Some(f64::NEG_INFINITY), Some(1.0)], f64::INFINITY),
            (vec![Some(f64::NAN)], f64::INFINITY),
        ] {
            let batch = batch(Arc::new(Float64Array::from(values.clone())));
            assert_eq!(Bounds::new(1).greatest_magnitude(&batch, 0), expected, "{values:?}");
        }
        let integers = batch(Arc::new(Int64Array::from(vec![3, i64::MIN])));
        assert_eq!(Bounds::new(1).greatest_magnitude(&integers, 0), 2f64.powi(63));
        let text = batch(Arc::new(StringArray::from(vec!["a", "b\0c", "d"])));
        let bounds = |text: &RecordBatch| Bounds::new(1).may_have_nul(text, 0);
        assert!(bounds(&text));
        assert!(!bounds(&text.slice(2, 1)));
        assert_eq!(Bounds::new(1).greatest_magnitude(&text, 0), 0.0);
        assert!(!bounds(&batch(Arc::new(Int64Array::from(vec![0])))));
    }

    #[test]
    fn long_text_is_bounded_by_short_text() {
        let long = "ü".repeat(100);
        let bounds = of(StringArray::from(vec![long.as_str()]));
        let (Bound::Beyond(ScalarValue::Utf8(Some(min))), Bound::Beyond(ScalarValue::Utf8(Some(max)))) =
            (bounds.min, bounds.max)
        else {
            panic!("expected bounds that are no values")
        };
        assert!(min.len() <= BOUND_BYTES && max.len() <= BOUND_BYTES && min < long && long < max, "{min} {max}");
    }

    #[test]
    fn the_greatest_text_and_bytes_have_no_upper_bound() {
        let greatest = "\u{10FFFF}".repeat(40);
        assert_eq!(of(StringArray::from(vec![greatest.as_str()])).max, Bound::Unknown);
        assert_eq!(of(BinaryArray::from(vec![[0xFF; 70].as_slice()])).max, Bound::Unknown);
        let before_surrogates = format!("{}\u{D7FF}", "a".repeat(61));
        let long = format!("{before_surrogates}zzz");
        let Bound::Beyond(ScalarValue::Utf8(Some(max))) = of(StringArray::from(vec![long.as_str()])).max else {
            panic!("expected a bound")
        };
        assert!(max > long, "{max}");
        let mut bytes = vec![7; 63];
        bytes.extend([0xFF; 9]);
        let Bound::Beyond(ScalarValue::Binary(Some(max))) = of(BinaryArray::from(vec![bytes.as_slice()])).max else {
            panic!("expected a bound")
        };
        assert!(max > bytes && max.len() <= BOUND_BYTES, "{max:?}");
    }
}
