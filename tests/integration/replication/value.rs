//! Values: drawn at random for a type, as SQL literals, and as the replica must have them, to the
//! bit.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use rusqlite::types::Value;

use super::random::Random;

/// A value of the replica, compared by its bits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cell {
    Null,
    Integer(i128),
    Half(u16),
    Single(u32),
    Double(u64),
    Text(String),
    Blob(Vec<u8>),
    Boolean(bool),
    Singles(Vec<u32>),
    Halves(Vec<u16>),
}

pub type Row = Vec<Cell>;

/// The types that a column can have; the first eleven can be keys.
pub const TYPES: [&str; 16] = [
    "int64",
    "utf8",
    "binary",
    "bool",
    "int32",
    "int8",
    "uint64",
    "uint8",
    "float64",
    "int16",
    "uint16",
    "uint32",
    "float32",
    "float16",
    "vector(2)",
    "float16[2]",
];
pub const KEY_TYPES: usize = 12;

/// Rounds to the nearest number of `bits` binary digits and least exponent `least`, ties to even;
/// exact in float64.
fn rounded(value: f64, bits: i32, least: i32) -> f64 {
    if value == 0.0 || value.is_infinite() {
        return value;
    }
    let raw = ((value.to_bits() >> 52) & 0x7FF) as i32;
    let exponent = if raw == 0 { -1022 } else { raw - 1023 };
    let unit = 2f64.powi(exponent.max(least) - bits + 1);
    // A division by a power of two is exact, unless it underflows to a value that rounds to zero in
    // any case.
    (value / unit).round_ties_even() * unit
}

fn half_bits(value: f64) -> u16 {
    let rounded = rounded(value, 11, -14);
    let sign = if rounded.is_sign_negative() { 0x8000 } else { 0 };
    let size = rounded.abs();
    sign | if size.is_infinite() || size > 65504.0 {
        0x7C00
    } else if size < 2f64.powi(-14) {
        (size * 2f64.powi(24)) as u16
    } else {
        let exponent = ((size.to_bits() >> 52) as i32) - 1023;
        (((exponent + 15) as u16) << 10) + (((size.to_bits() >> 42) & 0x3FF) as u16)
    }
}

fn singles(blob: &[u8]) -> Vec<f32> {
    blob.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
}

/// A rounded NaN is a NaN; its bits are not part of any contract.
fn half_of_single(value: f32) -> u16 {
    if value.is_nan() { 0x7E00 } else { half_bits(value.into()) }
}

/// Returns the replica's value for a value of SQLite.
pub fn expected(column_type: &str, value: Value) -> Cell {
    let real = |value: &Value| match value {
        Value::Integer(integer) => *integer as f64,
        Value::Real(real) => *real,
        other => panic!("{column_type}: SQLite has {other:?}"),
    };
    match (column_type, value) {
        (_, Value::Null) => Cell::Null,
        ("float64", value) => Cell::Double(real(&value).to_bits()),
        ("float32", value) => Cell::Single((real(&value) as f32).to_bits()),
        ("float16", value) => Cell::Half(half_bits(real(&value))),
        ("bool", Value::Integer(integer)) => Cell::Boolean(integer == 1),
        (_, Value::Integer(integer)) => Cell::Integer(integer.into()),
        (_, Value::Text(text)) => Cell::Text(text),
        ("vector(2)", Value::Blob(blob)) => Cell::Singles(singles(&blob).into_iter().map(f32::to_bits).collect()),
        ("float16[2]", Value::Blob(blob)) => Cell::Halves(singles(&blob).into_iter().map(half_of_single).collect()),
        (_, Value::Blob(blob)) => Cell::Blob(blob),
        (_, value) => panic!("{column_type}: SQLite has {value:?}"),
    }
}

/// Returns the replica's value in a row.
pub fn actual(array: &ArrayRef, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Null;
    }
    macro_rules! integer {
        ($kind:ty) => {
            Cell::Integer(array.as_primitive::<$kind>().value(row).into())
        };
    }
    match array.data_type() {
        DataType::Int8 => integer!(Int8Type),
        DataType::Int16 => integer!(Int16Type),
        DataType::Int32 => integer!(Int32Type),
        DataType::Int64 => integer!(Int64Type),
        DataType::UInt8 => integer!(UInt8Type),
        DataType::UInt16 => integer!(UInt16Type),
        DataType::UInt32 => integer!(UInt32Type),
        DataType::UInt64 => integer!(UInt64Type),
        DataType::Float16 => Cell::Half(array.as_primitive::<Float16Type>().value(row).to_bits()),
        DataType::Float32 => Cell::Single(array.as_primitive::<Float32Type>().value(row).to_bits()),
        DataType::Float64 => Cell::Double(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Boolean => Cell::Boolean(array.as_boolean().value(row)),
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row).into()),
        DataType::Binary => Cell::Blob(array.as_binary::<i32>().value(row).into()),
        DataType::FixedSizeList(item, _) => {
            let items = array.as_fixed_size_list().value(row);
            match item.data_type() {
                DataType::Float32 => {
                    Cell::Singles(items.as_primitive::<Float32Type>().values().iter().map(|x| x.to_bits()).collect())
                }
                _ => {
                    let halves = items.as_primitive::<Float16Type>();
                    Cell::Halves(
                        halves.values().iter().map(|x| if x.is_nan() { 0x7E00 } else { x.to_bits() }).collect(),
                    )
                }
            }
        }
        other => panic!("the replica has a column of {other}"),
    }
}

fn blob(components: [f32; 2]) -> Value {
    Value::Blob(components.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// Returns a value that fits the type, from a small set, so that equal values occur. Not NULL.
pub fn fitting(random: &mut Random, column_type: &str) -> Value {
    let least = |random: &mut Random, edges: &[i64]| {
        Value::Integer(if random.chance(85) { random.below(6) as i64 } else { *random.pick(edges) })
    };
    let real = |random: &mut Random, edges: &[f64]| {
        if random.chance(60) {
            Value::Real(*random.pick(&[0.0, 1.0, 2.0, 0.5, -1.5, 3.0]))
        } else {
            Value::Real(*random.pick(edges))
        }
    };
    match column_type {
        "int8" => least(random, &[i8::MIN.into(), -1, i8::MAX.into()]),
        "int16" => least(random, &[i16::MIN.into(), -1, i16::MAX.into()]),
        "int32" => least(random, &[i32::MIN.into(), -1, i32::MAX.into()]),
        "int64" => least(random, &[i64::MIN, -1, i64::MAX, 1 << 53]),
        "uint8" => least(random, &[7, u8::MAX.into()]),
        "uint16" => least(random, &[7, u16::MAX.into()]),
        "uint32" => least(random, &[7, u32::MAX.into()]),
        "uint64" => least(random, &[7, i64::MAX]),
        "bool" => Value::Integer(random.below(2) as i64),
        "float64" => real(random, &[-0.0, 0.1, 1e300, 5e-324, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1.0]),
        "float32" => real(random, &[-0.0, 0.1, 1e-50, -1e-40, f64::INFINITY, 16777217.0, 3.4028235677973362e38]),
        // Values that are ties only in float32, and the greatest number that does not round up to
        // infinity.
        "float16" => {
            let near = [1.00048828125f64.next_up(), 1.00146484375f64.next_down(), 65520f64.next_down()];
            real(random, &[-0.0, 0.1, 1e-8, -3e-8, 65519.99, 2049.0, f64::NEG_INFINITY, near[0], near[1], near[2]])
        }
        "utf8" => {
            let edges = ["", "it's", "\"", "ß", "日本\u{1F600}", "a\0b", "x'41'", "Ä", " a", "a "];
            let text =
                if random.chance(80) { *random.pick(&["a", "A", "b", "B", "c", "d"]) } else { random.pick(&edges) };
            Value::Text(text.into())
        }
        "binary" => Value::Blob(random.pick(&[&b""[..], b"\0", b"a", b"A", b"\xff\xfe", b"\0\x01\0", b"b"]).to_vec()),
        "vector(2)" | "float16[2]" => {
            let nan = f32::from_bits(0x7FC0_0000);
            let pool = [0.0, 1.0, -0.0, 0.1, 65504.0, nan, f32::INFINITY, 1e-8, 1.0004883f32.next_up()];
            blob([*random.pick(&pool), *random.pick(&pool)])
        }
        other => panic!("no values for {other}"),
    }
}

/// Returns a value that the type cannot hold.
pub fn unfit(column_type: &str) -> Value {
    match column_type {
        "utf8" => Value::Blob(vec![1]),
        "binary" => Value::Real(0.5),
        "float16" => Value::Real(65520.0),
        "float32" => Value::Real(1e39),
        "bool" => Value::Integer(2),
        _ => Value::Blob(vec![1, 2, 3]),
    }
}

/// Returns the value as a SQL literal.
pub fn literal(value: &Value) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match value {
        Value::Null => "NULL".into(),
        Value::Integer(i64::MIN) => "(-9223372036854775807 - 1)".into(),
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) if real.is_infinite() => if *real > 0.0 { "9e999" } else { "-9e999" }.into(),
        Value::Real(real) => format!("{real:?}"),
        Value::Text(text) if text.contains('\0') => format!("CAST(x'{}' AS TEXT)", hex(text.as_bytes())),
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Blob(blob) => format!("x'{}'", hex(blob)),
    }
}

/// Returns true if the type can hold a value.
pub fn fits(column_type: &str, value: &Value) -> bool {
    let within = |least: i64, greatest: i64| matches!(value, Value::Integer(x) if (least..=greatest).contains(x));
    let real = |end: f64| match value {
        Value::Integer(integer) => integer.unsigned_abs() <= 1 << 53 && (*integer as f64).abs() < end,
        Value::Real(real) => real.is_infinite() || real.abs() < end,
        _ => false,
    };
    match column_type {
        _ if *value == Value::Null => true,
        "int8" => within(i8::MIN.into(), i8::MAX.into()),
        "int16" => within(i16::MIN.into(), i16::MAX.into()),
        "int32" => within(i32::MIN.into(), i32::MAX.into()),
        "int64" => within(i64::MIN, i64::MAX),
        "uint8" => within(0, u8::MAX.into()),
        "uint16" => within(0, u16::MAX.into()),
        "uint32" => within(0, u32::MAX.into()),
        "uint64" => within(0, i64::MAX),
        "bool" => within(0, 1),
        "float64" => real(f64::INFINITY),
        "float32" => real(2f64.powi(128) - 2f64.powi(103)),
        "float16" => real(65520.0),
        "utf8" => matches!(value, Value::Text(_)),
        "binary" => matches!(value, Value::Blob(_)),
        _ => matches!(value, Value::Blob(blob) if blob.len() == 8),
    }
}
