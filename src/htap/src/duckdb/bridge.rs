//! Converts arrays between our Arrow version and DuckDB's without copying: both share the same
//! reference-counted buffers.

/// Lists the types that both versions have.
macro_rules! types {
    ($of:expr, $from:ident, $to:ident: $($plain:ident)*) => {
        match $of {
            $($from::datatypes::DataType::$plain => $to::datatypes::DataType::$plain,)*
            $from::datatypes::DataType::FixedSizeBinary(width) => $to::datatypes::DataType::FixedSizeBinary(*width),
            $from::datatypes::DataType::Decimal128(digits, scale) => $to::datatypes::DataType::Decimal128(*digits, *scale),
            $from::datatypes::DataType::Time64(unit) => $to::datatypes::DataType::Time64(time_unit(unit)),
            $from::datatypes::DataType::Timestamp(unit, zone) => {
                $to::datatypes::DataType::Timestamp(time_unit(unit), zone.clone())
            }
            $from::datatypes::DataType::Interval($from::datatypes::IntervalUnit::MonthDayNano) => {
                $to::datatypes::DataType::Interval($to::datatypes::IntervalUnit::MonthDayNano)
            }
            $from::datatypes::DataType::List(item) => $to::datatypes::DataType::List(Arc::new(field(item)?)),
            $from::datatypes::DataType::LargeList(item) => $to::datatypes::DataType::LargeList(Arc::new(field(item)?)),
            $from::datatypes::DataType::FixedSizeList(item, length) => {
                $to::datatypes::DataType::FixedSizeList(Arc::new(field(item)?), *length)
            }
            $from::datatypes::DataType::Struct(fields) => {
                let fields: Vec<$to::datatypes::Field> = fields.iter().map(|of| field(of)).collect::<Result<_, _>>()?;
                $to::datatypes::DataType::Struct(fields.into())
            }
            $from::datatypes::DataType::Map(entry, is_sorted) => {
                $to::datatypes::DataType::Map(Arc::new(field(entry)?), *is_sorted)
            }
            other => return Err(format!("a column of type {other} cannot go between DuckDB and a replica")),
        }
    };
}

/// Defines the conversion from one version of Arrow to the other.
macro_rules! way {
    ($name:ident, $from:ident, $to:ident) => {
        pub(super) mod $name {
            use std::sync::Arc;

            use super::{ours, theirs};
            use bytes::Bytes;

            /// Owner that keeps a buffer alive while it is in use.
            struct Kept($from::buffer::Buffer);

            impl AsRef<[u8]> for Kept {
                fn as_ref(&self) -> &[u8] {
                    self.0.as_slice()
                }
            }

            fn buffer(of: &$from::buffer::Buffer) -> $to::buffer::Buffer {
                $to::buffer::Buffer::from(Bytes::from_owner(Kept(of.clone())))
            }

            fn time_unit(of: &$from::datatypes::TimeUnit) -> $to::datatypes::TimeUnit {
                match of {
                    $from::datatypes::TimeUnit::Second => $to::datatypes::TimeUnit::Second,
                    $from::datatypes::TimeUnit::Millisecond => $to::datatypes::TimeUnit::Millisecond,
                    $from::datatypes::TimeUnit::Microsecond => $to::datatypes::TimeUnit::Microsecond,
                    $from::datatypes::TimeUnit::Nanosecond => $to::datatypes::TimeUnit::Nanosecond,
                }
            }

            /// Converts a column's name, type and nullability.
            ///
            /// # Errors
            /// A type that neither side of an engine has.
            pub fn field(of: &$from::datatypes::Field) -> Result<$to::datatypes::Field, String> {
                Ok($to::datatypes::Field::new(of.name(), data_type(of.data_type())?, of.is_nullable()))
            }

            fn data_type(of: &$from::datatypes::DataType) -> Result<$to::datatypes::DataType, String> {
                Ok(types!(of, $from, $to: Null Boolean Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float16 Float32 Float64
                    Utf8 LargeUtf8 Utf8View Binary LargeBinary BinaryView Date32))
            }

            /// Converts an array, which shares the same memory.
            ///
            /// # Errors
            /// A type that neither side of an engine has; content that does not match its type.
            pub fn array(of: &dyn $from::array::Array) -> Result<$to::array::ArrayRef, String> {
                Ok($to::array::make_array(data(&of.to_data())?))
            }

            fn data(of: &$from::array::ArrayData) -> Result<$to::array::ArrayData, String> {
                let nulls = of.nulls().map(|nulls| {
                    let bits = $to::buffer::BooleanBuffer::new(buffer(nulls.buffer()), nulls.offset(), nulls.len());
                    $to::buffer::NullBuffer::new(bits)
                });
                $to::array::ArrayData::builder(data_type(of.data_type())?)
                    .len(of.len())
                    .offset(of.offset())
                    .nulls(nulls)
                    .buffers(of.buffers().iter().map(buffer).collect())
                    .child_data(of.child_data().iter().map(data).collect::<Result<_, _>>()?)
                    .build()
                    .map_err(|error| error.to_string())
            }
        }
    };
}

use ::arrow as ours;
use ::duckdb::arrow as theirs;

way!(to_duckdb, ours, theirs);
way!(from_duckdb, theirs, ours);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeListArray, Float32Array, Int64Array,
        ListArray, StringArray, StringViewArray, StructArray, UInt8Array,
    };
    use arrow::datatypes::{Field, Int32Type};

    use super::*;

    #[test]
    fn arrays_come_back_as_they_went_over_the_same_memory() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MIN), Some(4)]));
        let vectors = Float32Array::from(vec![1.0, f32::NAN, -0.0, 4.0]);
        let item = Arc::new(Field::new_list_field(vectors.data_type().clone(), true));
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
        let flags = BooleanArray::from(vec![Some(true), None, Some(false)]);
        let texts = vec![Some("é"), None, Some(""), Some("a longer text than a view holds")];
        let arrays: Vec<ArrayRef> = vec![
            Arc::clone(&numbers),
            numbers.slice(1, 2),
            Arc::new(flags.slice(1, 2)),
            Arc::new(StringArray::from(texts.clone()).slice(1, 3)),
            Arc::new(StringViewArray::from(texts)),
            Arc::new(BinaryArray::from(vec![Some(&[0u8, 255][..]), None])),
            Arc::new(FixedSizeListArray::new(item, 2, Arc::new(vectors), None).slice(1, 1)),
            Arc::new(lists),
            Arc::new(Decimal128Array::from(vec![Some(1i128 << 90), None]).with_precision_and_scale(38, 0).unwrap()),
            Arc::new(StructArray::from(vec![(Arc::new(Field::new("n", numbers.data_type().clone(), true)), numbers)])),
        ];
        for array in arrays {
            let there = to_duckdb::array(&array).unwrap();
            let back = from_duckdb::array(&there).unwrap();
            // NaN does not equal itself, so the arrays are compared as text.
            assert_eq!(format!("{back:?}"), format!("{array:?}"));
            let (first, last) = (array.to_data(), back.to_data());
            let places = |data: &arrow::array::ArrayData| {
                data.buffers().iter().map(|buffer| buffer.as_ptr()).collect::<Vec<_>>()
            };
            assert_eq!(places(&first), places(&last), "{}", array.data_type());
        }
    }

    #[test]
    fn what_the_other_side_lacks_is_named() {
        let array = arrow::array::DictionaryArray::<arrow::datatypes::UInt8Type>::new(
            UInt8Array::from(vec![0]),
            Arc::new(StringArray::from(vec!["a"])),
        );
        let error = to_duckdb::array(&array).unwrap_err();
        assert!(error.contains("Dictionary"), "{error}");
    }
}
