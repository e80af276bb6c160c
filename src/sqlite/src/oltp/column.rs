//! Builds a typed Arrow column from SQLite's values. A value that does not fit is rejected, never
//! converted.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, FixedSizeBinaryArray, FixedSizeListArray, Float16Builder, Float32Builder,
    Float64Builder, Int8Builder, Int16Builder, Int32Builder, Int64Builder, NullBufferBuilder, PrimitiveArray,
    StringBuilder, UInt8Builder, UInt16Builder, UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{ArrowPrimitiveType, Field, Float16Type, Float32Type, Int8Type, UInt8Type};
use half::f16;
use rusqlite::types::ValueRef;
use vexact_core::schema::{ColumnType, VectorElement};

use super::components::Components;

/// The greatest integer up to which float64 represents every integer exactly.
pub(super) const EXACT_INTEGER: i64 = 1 << 53;

/// Collects the values of one column, in order.
pub struct ColumnBuilder {
    column_type: ColumnType,
    builder: Builder,
}

enum Builder {
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt8(UInt8Builder),
    UInt16(UInt16Builder),
    UInt32(UInt32Builder),
    UInt64(UInt64Builder),
    Float16(Float16Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Utf8(StringBuilder),
    Boolean(BooleanBuilder),
    Binary(BinaryBuilder),
    Vector {
        dim: usize,
        components: Components,
        validity: NullBufferBuilder,
    },
    HalfVector {
        dim: usize,
        components: Components,
        validity: NullBufferBuilder,
    },
    /// Vectors that are stored as they are in SQLite: of bytes or bits.
    ByteVector {
        dim: usize,
        components: Components,
        validity: NullBufferBuilder,
    },
}

/// Runs the same code for each kind of builder that has `append_null` and `finish`.
macro_rules! each {
    ($value:expr, $builder:ident => $plain:expr, $dim:ident $components:ident $validity:ident => $vector:expr) => {
        match $value {
            Builder::Int8($builder) => $plain,
            Builder::Int16($builder) => $plain,
            Builder::Int32($builder) => $plain,
            Builder::Int64($builder) => $plain,
            Builder::UInt8($builder) => $plain,
            Builder::UInt16($builder) => $plain,
            Builder::UInt32($builder) => $plain,
            Builder::UInt64($builder) => $plain,
            Builder::Float16($builder) => $plain,
            Builder::Float32($builder) => $plain,
            Builder::Float64($builder) => $plain,
            Builder::Utf8($builder) => $plain,
            Builder::Boolean($builder) => $plain,
            Builder::Binary($builder) => $plain,
            Builder::Vector { dim: $dim, components: $components, validity: $validity } => $vector,
            Builder::HalfVector { dim: $dim, components: $components, validity: $validity } => $vector,
            Builder::ByteVector { dim: $dim, components: $components, validity: $validity } => $vector,
        }
    };
}

impl ColumnBuilder {
    /// An empty column.
    pub fn new(column_type: ColumnType) -> Self {
        Self::with_capacity(column_type, 0)
    }

    /// Creates an empty column with capacity for the expected number of rows.
    pub fn with_capacity(column_type: ColumnType, rows: usize) -> Self {
        let validity = || NullBufferBuilder::new(0);
        let builder = match column_type {
            ColumnType::Int8 => Builder::Int8(Int8Builder::new()),
            ColumnType::Int16 => Builder::Int16(Int16Builder::new()),
            ColumnType::Int32 => Builder::Int32(Int32Builder::new()),
            ColumnType::Int64 => Builder::Int64(Int64Builder::new()),
            ColumnType::UInt8 => Builder::UInt8(UInt8Builder::new()),
            ColumnType::UInt16 => Builder::UInt16(UInt16Builder::new()),
            ColumnType::UInt32 => Builder::UInt32(UInt32Builder::new()),
            ColumnType::UInt64 => Builder::UInt64(UInt64Builder::new()),
            ColumnType::Float16 => Builder::Float16(Float16Builder::new()),
            ColumnType::Float32 => Builder::Float32(Float32Builder::new()),
            ColumnType::Float64 => Builder::Float64(Float64Builder::new()),
            ColumnType::Utf8 => Builder::Utf8(StringBuilder::new()),
            ColumnType::Boolean => Builder::Boolean(BooleanBuilder::new()),
            ColumnType::Binary => Builder::Binary(BinaryBuilder::new()),
            ColumnType::Vector { element: VectorElement::Float32, dim } => {
                Builder::Vector { dim, components: Components::new(4 * dim, rows), validity: validity() }
            }
            ColumnType::Vector { element: VectorElement::Float16, dim } => {
                Builder::HalfVector { dim, components: Components::new(2 * dim, rows), validity: validity() }
            }
            ColumnType::Vector { element, dim } => {
                let components = Components::new(element.stored_bytes(dim), rows);
                Builder::ByteVector { dim, components, validity: validity() }
            }
        };
        Self { column_type, builder }
    }

    /// The type of the column.
    pub fn column_type(&self) -> ColumnType {
        self.column_type
    }

    /// Appends NULL, whatever the type.
    pub fn append_null(&mut self) {
        each!(&mut self.builder, builder => builder.append_null(), _dim components validity => {
            components.next_row();
            validity.append_null();
        })
    }

    /// Appends a value.
    ///
    /// # Errors
    /// A value that the type cannot hold, text that is not UTF-8, more than 2 GiB in one column:
    /// `expected .., got ..`. The column is as before.
    pub fn append(&mut self, value: ValueRef<'_>) -> Result<(), String> {
        if value == ValueRef::Null {
            self.append_null();
            return Ok(());
        }
        let fits = match &mut self.builder {
            Builder::Utf8(builder) => return append_text(builder, value, self.column_type),
            Builder::Binary(builder) => match value {
                ValueRef::Blob(bytes) => {
                    within_offsets(builder.values_slice().len(), bytes.len())?;
                    builder.append_value(bytes);
                    Some(())
                }
                _ => None,
            },
            Builder::Float16(builder) => real(value).and_then(half).map(|half| builder.append_value(half)),
            Builder::Float32(builder) => real(value).and_then(single).map(|single| builder.append_value(single)),
            Builder::Float64(builder) => real(value).map(|real| builder.append_value(real)),
            Builder::Vector { dim, components, validity } => floats(value, *dim).map(|floats| {
                let row = components.next_row().as_chunks_mut().0.iter_mut();
                row.zip(floats).for_each(|(component, float)| *component = float.to_ne_bytes());
                validity.append_non_null();
            }),
            Builder::HalfVector { dim, components, validity } => floats(value, *dim).map(|floats| {
                let row = components.next_row().as_chunks_mut().0.iter_mut();
                row.zip(floats).for_each(|(component, float)| *component = f16::from_f32(float).to_ne_bytes());
                validity.append_non_null();
            }),
            Builder::ByteVector { components, validity, .. } => blob(value, self.column_type).map(|bytes| {
                components.next_row().copy_from_slice(bytes);
                validity.append_non_null();
            }),
            integers => integer(value, self.column_type).map(|integer| match integers {
                Builder::Int8(builder) => builder.append_value(integer as i8),
                Builder::Int16(builder) => builder.append_value(integer as i16),
                Builder::Int32(builder) => builder.append_value(integer as i32),
                Builder::UInt8(builder) => builder.append_value(integer as u8),
                Builder::UInt16(builder) => builder.append_value(integer as u16),
                Builder::UInt32(builder) => builder.append_value(integer as u32),
                Builder::UInt64(builder) => builder.append_value(integer as u64),
                Builder::Boolean(builder) => builder.append_value(integer == 1),
                Builder::Int64(builder) => builder.append_value(integer),
                _ => unreachable!("the other builders have arms of their own"),
            }),
        };
        fits.ok_or_else(|| format!("expected {}, got {}", self.column_type.expected(), described(value)))
    }

    /// The column, with [`ColumnType::arrow`]'s type.
    pub fn finish(self) -> ArrayRef {
        match self.builder {
            Builder::Vector { dim, components, validity } => list::<Float32Type>(dim, components, validity),
            Builder::HalfVector { dim, components, validity } => list::<Float16Type>(dim, components, validity),
            Builder::ByteVector { dim, components, mut validity } => match self.column_type {
                ColumnType::Vector { element: VectorElement::Int8, .. } => list::<Int8Type>(dim, components, validity),
                ColumnType::Vector { element: VectorElement::UInt8, .. } => {
                    list::<UInt8Type>(dim, components, validity)
                }
                _ => Arc::new(FixedSizeBinaryArray::new((dim / 8) as i32, components.finish(), validity.finish())),
            },
            mut plain => each!(&mut plain, builder => Arc::new(builder.finish()), _dim _components _validity => {
                unreachable!("vectors have arms of their own")
            }),
        }
    }
}

fn list<T: ArrowPrimitiveType>(dim: usize, components: Components, mut validity: NullBufferBuilder) -> ArrayRef {
    let components = Arc::new(PrimitiveArray::<T>::new(components.finish().into(), None));
    let item = Arc::new(Field::new_list_field(T::DATA_TYPE, true));
    Arc::new(FixedSizeListArray::new(item, dim as i32, components, validity.finish()))
}

fn integer(value: ValueRef<'_>, column_type: ColumnType) -> Option<i64> {
    let (least, greatest) = column_type.integer_range()?;
    match value {
        ValueRef::Integer(integer) if (least..=greatest).contains(&integer) => Some(integer),
        _ => None,
    }
}

fn real(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Real(real) => Some(real),
        ValueRef::Integer(integer) if (-EXACT_INTEGER..=EXACT_INTEGER).contains(&integer) => Some(integer as f64),
        _ => None,
    }
}

/// `None` where rounding would make a finite number infinite.
fn single(real: f64) -> Option<f32> {
    (!real.is_finite() || (real as f32).is_finite()).then_some(real as f32)
}

/// As [`single`]. Rounded once, to nearest, ties to even: `f16::from_f64` goes by a float32 that
/// may be a tie where the number is none. So the float32 is rounded to odd (Boldo and Melquiond,
/// "Emulation of FMA and correctly rounded sums", 2008): it keeps in its last bit that there was
/// more.
fn half(real: f64) -> Option<f16> {
    let nearest = real as f32;
    let odd = match f64::from(nearest) {
        exact if exact == real || exact.is_nan() => nearest,
        far if far.abs() > real.abs() => f32::from_bits((nearest.to_bits() - 1) | 1),
        _ => f32::from_bits(nearest.to_bits() | 1),
    };
    let half = f16::from_f32(odd);
    (real.is_infinite() || half.is_finite()).then_some(half)
}

fn floats(value: ValueRef<'_>, dim: usize) -> Option<impl Iterator<Item = f32>> {
    match value {
        ValueRef::Blob(bytes) if bytes.len() == 4 * dim => {
            Some(bytes.as_chunks::<4>().0.iter().map(|component| f32::from_le_bytes(*component)))
        }
        _ => None,
    }
}

/// The BLOB of a vector, if it has the length of the type.
fn blob<'v>(value: ValueRef<'v>, column_type: ColumnType) -> Option<&'v [u8]> {
    match (value, column_type) {
        (ValueRef::Blob(bytes), ColumnType::Vector { element, dim }) if bytes.len() == element.stored_bytes(dim) => {
            Some(bytes)
        }
        _ => None,
    }
}

fn append_text(builder: &mut StringBuilder, value: ValueRef<'_>, column_type: ColumnType) -> Result<(), String> {
    let text = match value {
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    let text = text.ok_or_else(|| format!("expected {}, got {}", column_type.expected(), described(value)))?;
    within_offsets(builder.values_slice().len(), text.len())?;
    builder.append_value(text);
    Ok(())
}

/// Arrow's builders panic where a column outgrows its 32-bit offsets.
pub(super) fn within_offsets(before: usize, added: usize) -> Result<(), String> {
    if before + added > i32::MAX as usize {
        return Err(format!("expected at most {} bytes in one column of one batch, got {}", i32::MAX, before + added));
    }
    Ok(())
}

/// Checks that a column of this type can hold the value. NULL fits.
///
/// # Errors
/// `expected .., got ..`.
pub fn check(column_type: ColumnType, value: ValueRef<'_>) -> Result<(), String> {
    let fits = match (column_type, value) {
        (_, ValueRef::Null) => true,
        (ColumnType::Utf8, ValueRef::Text(bytes)) => std::str::from_utf8(bytes).is_ok(),
        (ColumnType::Binary, ValueRef::Blob(_)) => true,
        (ColumnType::Vector { .. }, value) => blob(value, column_type).is_some(),
        (ColumnType::Float16, value) => real(value).and_then(half).is_some(),
        (ColumnType::Float32, value) => real(value).and_then(single).is_some(),
        (ColumnType::Float64, value) => real(value).is_some(),
        (integers, value) => integer(value, integers).is_some(),
    };
    if fits { Ok(()) } else { Err(format!("expected {}, got {}", column_type.expected(), described(value))) }
}

/// Returns a text for messages: the value's SQLite type, and the value if it is short.
pub fn described(value: ValueRef<'_>) -> String {
    const SHOWN: usize = 40;
    match value {
        ValueRef::Null => "NULL".into(),
        ValueRef::Integer(integer) => format!("integer {integer}"),
        ValueRef::Real(real) => format!("real {real:?}"),
        ValueRef::Blob(bytes) => format!("a BLOB of {} bytes", bytes.len()),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Err(_) => format!("text that is not UTF-8 ({} bytes)", bytes.len()),
            Ok(text) if text.chars().nth(SHOWN).is_some() => {
                format!("text {:?}...", text.chars().take(SHOWN).collect::<String>())
            }
            Ok(text) => format!("text {text:?}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;

    #[test]
    fn vectors_of_bytes_and_bits_are_the_bytes_of_sqlite() {
        let column = |text: &str, values: &[ValueRef<'_>]| -> Result<ArrayRef, String> {
            let mut builder = ColumnBuilder::new(ColumnType::parse(text).unwrap());
            values.iter().try_for_each(|value| builder.append(*value))?;
            Ok(builder.finish())
        };
        let values = [ValueRef::Blob(&[1, 128, 255]), ValueRef::Null, ValueRef::Blob(&[0, 127, 3])];
        let signed = column("int8[3]", &values).unwrap();
        assert_eq!(signed.as_fixed_size_list().values().as_primitive::<Int8Type>().values()[..3], [1, -128, -1]);
        assert_eq!((signed.data_type(), signed.null_count()), (&ColumnType::parse("int8[3]").unwrap().arrow(), 1));
        let unsigned = column("uint8[3]", &values).unwrap();
        assert_eq!(unsigned.as_fixed_size_list().values().as_primitive::<UInt8Type>().values()[..3], [1, 128, 255]);
        let bits = column("bit[24]", &values).unwrap();
        assert_eq!(bits.as_fixed_size_binary().value(2), [0, 127, 3]);
        assert_eq!((bits.data_type(), bits.null_count()), (&ColumnType::parse("bit[24]").unwrap().arrow(), 1));
        let refused = column("bit[24]", &[ValueRef::Blob(&[1, 2])]).unwrap_err();
        assert_eq!(refused, "expected bit[24] (a BLOB of 3 bytes), got a BLOB of 2 bytes");
        assert!(column("int8[3]", &[ValueRef::Integer(3)]).unwrap_err().contains("int8[3] (a BLOB of 3 bytes)"));
    }

    #[test]
    fn float16_is_rounded_once() {
        let bits = |real: f64| half(real).map(f16::to_bits);
        // 1 + 2^-11 lies between two halves; what is next to it does not.
        let tie = 1.0 + 2f64.powi(-11);
        assert_eq!([tie.next_down(), tie, tie.next_up()].map(bits), [Some(0x3C00), Some(0x3C00), Some(0x3C01)]);
        assert_eq!([-tie.next_up(), -tie, -tie.next_down()].map(bits), [Some(0xBC01), Some(0xBC00), Some(0xBC00)]);
        assert_eq!([65520f64.next_down(), 65520.0, f64::INFINITY].map(bits), [Some(0x7BFF), None, Some(0x7C00)]);
        // Half of the least float16 is a tie with zero; a value below the range of float32 is zero.
        let least = 2f64.powi(-25);
        assert_eq!([least, least.next_up(), 5e-324, -5e-324].map(bits), [Some(0), Some(1), Some(0), Some(0x8000)]);
    }
}
