use std::sync::Arc;

use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type, TimeUnit};
use proptest::prelude::*;

use super::*;

fn keep(array: impl Array + 'static, to: &DataType) -> Result<ArrayRef, String> {
    kept(&(Arc::new(array) as ArrayRef), to)
}

fn timestamp(unit: TimeUnit) -> DataType {
    DataType::Timestamp(unit, None)
}

#[test]
fn a_value_is_kept_whole_or_refused_by_its_text() {
    let vector = |dim| DataType::FixedSizeList(Arc::new(Field::new_list_field(DataType::Float32, true)), dim);
    let list = |values: &[f64]| {
        let values = values.iter().map(|value| Some(*value)).collect::<Vec<_>>();
        ListArray::from_iter_primitive::<Float64Type, _, _>([Some(values), None])
    };
    let zoned = TimestampSecondArray::from(vec![0]).with_timezone("+02:00");
    let millis = |value| TimestampMillisecondArray::from(vec![Some(value), None]);
    let text = |value: &str| StringArray::from(vec![Some(value), None]);
    for (name, got, refused) in [
        ("fraction", keep(Float64Array::from(vec![1.5]), &DataType::Int32), Some("1.5")),
        ("whole float", keep(Float64Array::from(vec![-0.0, 2.0]), &DataType::Int32), None),
        ("not a number", keep(Float64Array::from(vec![f64::NAN]), &DataType::Int32), Some("NaN")),
        ("overflow", keep(Int64Array::from(vec![1 << 40]), &DataType::Int32), Some("1099511627776")),
        ("digits", keep(Int64Array::from(vec![(1 << 53) + 1]), &DataType::Float64), Some("9007199254740993")),
        ("largest", keep(Int64Array::from(vec![i64::MAX]), &DataType::Float64), Some("9223372036854775807")),
        ("sign", keep(Int64Array::from(vec![-1]), &DataType::UInt64), Some("-1")),
        ("beyond float32", keep(Float64Array::from(vec![1e300]), &DataType::Float32), Some("1e300")),
        ("nearest float32", keep(Float64Array::from(vec![0.1, f64::INFINITY]), &DataType::Float32), None),
        ("time of day", keep(millis(1), &DataType::Date32), Some("1970-01-01T00:00:00.001")),
        ("midnight", keep(millis(86_400_000), &DataType::Date32), None),
        ("second's fraction", keep(millis(999), &timestamp(TimeUnit::Second)), Some("00:00:00.999")),
        ("finer unit", keep(millis(999), &timestamp(TimeUnit::Nanosecond)), None),
        ("far", keep(TimestampSecondArray::from(vec![i64::MAX]), &timestamp(TimeUnit::Nanosecond)), Some("expected")),
        ("far date", keep(Date32Array::from(vec![i32::MAX]), &timestamp(TimeUnit::Nanosecond)), Some("expected")),
        ("date gone", keep(millis(1), &DataType::Time64(TimeUnit::Nanosecond)), Some("expected Time64")),
        ("offset", keep(zoned, &timestamp(TimeUnit::Second)), Some("no offset")),
        ("text with offset", keep(text("2024-01-01T00:00:00+02:00"), &timestamp(TimeUnit::Second)), Some("+02:00")),
        ("text with fraction", keep(text("2024-01-01 00:00:00.5"), &timestamp(TimeUnit::Second)), Some(".5")),
        ("text with zeros", keep(text("2024-01-01 00:00:00.500"), &timestamp(TimeUnit::Millisecond)), None),
        ("text with time", keep(text("2024-01-01 23:00:00"), &DataType::Date32), Some("23:00:00")),
        ("text of a date", keep(text("2024-01-01"), &DataType::Date32), None),
        ("code", keep(text("007"), &DataType::Int64), Some("007")),
        ("text of a number", keep(text("-12"), &DataType::Int64), None),
        ("text beyond floats", keep(text("1e999"), &DataType::Float64), Some("1e999")),
        ("text of infinity", keep(text("inf"), &DataType::Float64), None),
        ("no number", keep(text("x"), &DataType::Int64), Some("'x'")),
        ("vector", keep(list(&[0.1, 0.2]), &vector(2)), None),
        ("component", keep(list(&[0.1, 0.2]), &vector(3)), Some("expected")),
        ("component beyond", keep(list(&[0.1, 1e300]), &vector(2)), Some("1e300")),
        ("boolean", keep(Int32Array::from(vec![2]), &DataType::Boolean), Some("2")),
    ] {
        match (got, refused) {
            (Ok(_), None) => {}
            (Err(problem), Some(value)) => assert!(problem.contains(value), "{name}: {problem}"),
            (got, _) => panic!("{name}: {got:?}"),
        }
    }
}

#[test]
fn decimals_round_as_a_cast_does() {
    let decimals: ArrayRef =
        Arc::new(Decimal128Array::from(vec![1999, -1999, 1995]).with_precision_and_scale(10, 3).unwrap());
    let to = DataType::Decimal128(10, 2);
    assert_eq!(&kept(&decimals, &to).unwrap(), &cast(&decimals, &to).unwrap());
    assert!(kept(&decimals, &DataType::Decimal128(2, 2)).is_err());
    assert!(kept(&decimals, &DataType::Int64).unwrap_err().contains("1.999"));
}

#[test]
fn no_field_of_a_struct_is_left_out() {
    let field = |name: &str, kind| Arc::new(Field::new(name, kind, true));
    let column = |value: i64| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
    let pair: ArrayRef = Arc::new(StructArray::from(vec![
        (field("a", DataType::Int64), column(1)),
        (field("b", DataType::Int64), column(2)),
    ]));
    let to = |names: &[&str]| {
        DataType::Struct(names.iter().map(|name| Field::new(*name, DataType::Int32, true)).collect::<Vec<_>>().into())
    };
    assert!(kept(&pair, &to(&["a", "b"])).is_ok());
    for names in [&["a"][..], &["b", "a"], &["a", "b", "c"]] {
        assert!(kept(&pair, &to(names)).unwrap_err().contains("(a, b)"), "{names:?}");
    }
}

proptest! {
    /// An accepted value is the same number in both types; a value that differs is rejected.
    #[test]
    fn kept_numbers_are_the_numbers(value in prop_oneof![any::<i64>(), -300_i64..300], real in any::<f64>()) {
        let whole: ArrayRef = Arc::new(Int64Array::from(vec![value]));
        for (to, fits) in [
            (DataType::Int8, i8::try_from(value).is_ok()),
            (DataType::UInt16, u16::try_from(value).is_ok()),
            (DataType::Int32, i32::try_from(value).is_ok()),
            (DataType::Float64, value as f64 as i128 == i128::from(value)),
            (DataType::Float32, value as f32 as i128 == i128::from(value)),
        ] {
            let got = kept(&whole, &to);
            prop_assert_eq!(got.is_ok(), fits, "{} as {}", value, to);
            if let Ok(got) = got {
                prop_assert_eq!(cast(&got, &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(0), value);
            }
        }
        let float: ArrayRef = Arc::new(Float64Array::from(vec![real]));
        let got = kept(&float, &DataType::Int64);
        prop_assert_eq!(got.is_ok(), real.fract() == 0.0 && real >= -(2f64.powi(63)) && real < 2f64.powi(63));
        if let Ok(got) = kept(&float, &DataType::Float32) {
            let got = got.as_primitive::<Float32Type>().value(0);
            prop_assert!(got == real as f32 || real.is_nan() && got.is_nan());
        }
    }
}
