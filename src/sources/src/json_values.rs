//! Converts the values of a JSON column. A value is stored without loss or rejected: no text
//! becomes a number, no fraction, time of day, offset or digit is dropped, and a value that
//! overflows is rejected. Decimals round as CAST does.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, FixedSizeListArray, ListArray, NullArray,
    NullBufferBuilder, PrimitiveBuilder, StringBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, FieldRef, Fields, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type, i256,
};
use vexact_core::error::{Error, Result};

use super::cell::{float32, float64};
use super::decimal_text;
use super::json_columns::{Members, members};
use super::json_scan::{Cursor, Kind, Raw};
use super::time_text::{self, Offsets};

/// Builder of a column's values.
pub(super) trait Column: Send {
    /// Adds the next value, which is not null; returns `None` if it is not of the type, or not
    /// valid JSON.
    fn push(&mut self, cursor: &mut Cursor<'_>) -> Option<()>;

    fn push_null(&mut self);

    /// Returns the values so far, and clears them.
    fn finish(&mut self) -> ArrayRef;
}

/// Adds the next value to a column.
pub(super) fn push(column: &mut dyn Column, cursor: &mut Cursor<'_>) -> Option<()> {
    if cursor.first()? == b'n' {
        let value = cursor.value()?;
        column.push_null();
        return (value.kind == Kind::Null).then_some(());
    }
    column.push(cursor)
}

/// Returns true if JSON has values of a type.
pub(super) fn is_readable(data_type: &DataType) -> bool {
    column(data_type).is_ok()
}

/// Creates an empty column.
pub(super) fn column(data_type: &DataType) -> Result<Box<dyn Column>> {
    use DataType as T;

    fn primitive<T: ArrowPrimitiveType>(
        data_type: &DataType,
        parse: impl Fn(&Raw<'_>) -> Option<T::Native> + Send + 'static,
    ) -> Result<Box<dyn Column>> {
        let values = PrimitiveBuilder::<T>::new().with_data_type(data_type.clone());
        Ok(Box::new(Primitive { values, parse }))
    }

    fn integers<T: ArrowPrimitiveType>(data_type: &DataType) -> Result<Box<dyn Column>>
    where
        T::Native: FromStr + TryFrom<i128>,
    {
        primitive::<T>(data_type, |value| match value.kind {
            Kind::Integer => value.text.parse().ok(),
            Kind::Float => decimal_text::integer(value.text).and_then(|whole| whole.try_into().ok()),
            _ => None,
        })
    }

    fn timestamps<T: ArrowPrimitiveType<Native = i64>>(
        data_type: &DataType,
        unit: TimeUnit,
        zone: Option<i32>,
    ) -> Result<Box<dyn Column>> {
        let offsets = zone.map_or(Offsets::OfUtc, |default| Offsets::Any { default });
        primitive::<T>(data_type, move |value| time_text::timestamp(&value.string()?, unit, offsets))
    }

    let unreadable = || {
        let expected = "expected a type that JSON has (numbers, text, times, lists, objects)";
        Err(Error::InvalidArgument(format!("{expected}, got {data_type}")))
    };
    match data_type {
        T::Null => Ok(Box::new(Nulls(0))),
        T::Boolean => Ok(Box::new(Booleans(BooleanBuilder::new()))),
        T::Int8 => integers::<Int8Type>(data_type),
        T::Int16 => integers::<Int16Type>(data_type),
        T::Int32 => integers::<Int32Type>(data_type),
        T::Int64 => integers::<Int64Type>(data_type),
        T::UInt8 => integers::<UInt8Type>(data_type),
        T::UInt16 => integers::<UInt16Type>(data_type),
        T::UInt32 => integers::<UInt32Type>(data_type),
        T::UInt64 => integers::<UInt64Type>(data_type),
        T::Float32 => primitive::<Float32Type>(data_type, |value| number(value, float32)),
        T::Float64 => primitive::<Float64Type>(data_type, |value| number(value, float64)),
        T::Decimal128(precision, scale) => {
            let (precision, scale) = (*precision, *scale);
            primitive::<Decimal128Type>(data_type, move |value| match value.kind {
                Kind::Integer | Kind::Float => decimal_text::parse(value.text, precision, scale),
                // JSON with exact decimals has them as text.
                _ => decimal_text::parse(&value.string()?, precision, scale),
            })
        }
        T::Decimal256(_, 0) => primitive::<Decimal256Type>(data_type, |value| match value.kind {
            Kind::Integer => i256::from_string(value.text),
            _ => None,
        }),
        T::Date32 => primitive::<Date32Type>(data_type, |value| time_text::date(&value.string()?)),
        T::Time64(TimeUnit::Nanosecond) => {
            primitive::<Time64NanosecondType>(data_type, |value| time_text::time_of_day(&value.string()?))
        }
        T::Timestamp(unit, zone) => {
            let offset = match zone.as_deref().map(time_text::offset) {
                Some(None) => return unreadable(),
                offset => offset.flatten(),
            };
            match unit {
                TimeUnit::Second => timestamps::<TimestampSecondType>(data_type, *unit, offset),
                TimeUnit::Millisecond => timestamps::<TimestampMillisecondType>(data_type, *unit, offset),
                TimeUnit::Microsecond => timestamps::<TimestampMicrosecondType>(data_type, *unit, offset),
                TimeUnit::Nanosecond => timestamps::<TimestampNanosecondType>(data_type, *unit, offset),
            }
        }
        T::Utf8 => Ok(Box::new(Texts(StringBuilder::new()))),
        T::Binary => Ok(Box::new(Bytes(BinaryBuilder::new()))),
        T::List(item) => Ok(Box::new(Lists {
            items: column(item.data_type())?,
            item: Arc::clone(item),
            ends: vec![0],
            count: 0,
            valid: NullBufferBuilder::new(0),
        })),
        T::FixedSizeList(item, dim) => Ok(Box::new(Vectors {
            items: column(item.data_type())?,
            item: Arc::clone(item),
            dim: *dim,
            valid: NullBufferBuilder::new(0),
        })),
        T::Struct(fields) => Ok(Box::new(Structs {
            members: members(fields, false)?,
            fields: fields.clone(),
            valid: NullBufferBuilder::new(0),
        })),
        _ => unreadable(),
    }
}

/// Parses a number, or the words for values that JSON numbers cannot express.
fn number<T: From<f32>>(value: &Raw<'_>, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    match value.kind {
        Kind::Integer | Kind::Float => parse(value.text),
        _ => match value.text {
            "\"NaN\"" => Some(f32::NAN.into()),
            "\"Infinity\"" => Some(f32::INFINITY.into()),
            "\"-Infinity\"" => Some(f32::NEG_INFINITY.into()),
            _ => None,
        },
    }
}

struct Primitive<T: ArrowPrimitiveType, F> {
    values: PrimitiveBuilder<T>,
    parse: F,
}

impl<T: ArrowPrimitiveType, F: Fn(&Raw<'_>) -> Option<T::Native> + Send> Column for Primitive<T, F> {
    fn push(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        self.values.append_value((self.parse)(&cursor.value()?)?);
        Some(())
    }

    fn push_null(&mut self) {
        self.values.append_null();
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(self.values.finish())
    }
}

struct Nulls(usize);

impl Column for Nulls {
    fn push(&mut self, _: &mut Cursor<'_>) -> Option<()> {
        None
    }

    fn push_null(&mut self) {
        self.0 += 1;
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(NullArray::new(std::mem::take(&mut self.0)))
    }
}

struct Booleans(BooleanBuilder);

impl Column for Booleans {
    fn push(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let value = cursor.value()?;
        let is_bool = value.kind == Kind::Bool;
        is_bool.then(|| self.0.append_value(value.text == "true"))
    }

    fn push_null(&mut self) {
        self.0.append_null();
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

/// Builder of texts; any other value is stored as it is written.
struct Texts(StringBuilder);

impl Column for Texts {
    fn push(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let value = cursor.value()?;
        match value.kind {
            Kind::Text { .. } => self.0.append_value(value.string()?),
            _ => self.0.append_value(value.text),
        }
        Some(())
    }

    fn push_null(&mut self) {
        self.0.append_null();
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

/// Builder of bytes from hexadecimal text.
struct Bytes(BinaryBuilder);

impl Column for Bytes {
    fn push(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let value = cursor.value()?;
        let text = value.string()?;
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        self.0.append_value(pairs.collect::<Option<Vec<u8>>>()?);
        Some(())
    }

    fn push_null(&mut self) {
        self.0.append_null();
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

/// Adds the items of the next list, and returns their number.
fn push_items(items: &mut dyn Column, cursor: &mut Cursor<'_>) -> Option<i32> {
    cursor.open(b'[')?;
    let (mut is_first, mut count) = (true, 0_i32);
    while cursor.has_next(&mut is_first, b']')? {
        push(items, cursor)?;
        count = count.checked_add(1)?;
    }
    Some(count)
}

struct Lists {
    items: Box<dyn Column>,
    item: FieldRef,
    ends: Vec<i32>,
    count: i32,
    valid: NullBufferBuilder,
}

impl Column for Lists {
    fn push(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        self.count = self.count.checked_add(push_items(self.items.as_mut(), cursor)?)?;
        self.ends.push(self.count);
        self.valid.append_non_null();
        Some(())
    }

    fn push_null(&mut self) {
        self.ends.push(self.count);
        self.valid.append_null();
    }

    fn finish(&mut self) -> ArrayRef {
        let ends = OffsetBuffer::new(std::mem::replace(&mut self.ends, vec![0]).into());
        self.count = 0;
        Arc::new(ListArray::new(Arc::clone(&self.item), ends, self.items.finish(), self.valid.finish()))
    }
}

struct Vectors {
    items: Box<dyn Column>,
    item: FieldRef,
    dim: i32,
    valid: NullBufferBuilder,
}

impl Column for Vectors {
    fn push(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let count = push_items(self.items.as_mut(), cursor)?;
        self.valid.append_non_null();
        (count == self.dim).then_some(())
    }

    fn push_null(&mut self) {
        (0..self.dim).for_each(|_| self.items.push_null());
        self.valid.append_null();
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(FixedSizeListArray::new(Arc::clone(&self.item), self.dim, self.items.finish(), self.valid.finish()))
    }
}

struct Structs {
    members: Members,
    fields: Fields,
    valid: NullBufferBuilder,
}

impl Column for Structs {
    fn push(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        self.valid.append_non_null();
        self.members.push(cursor).ok()
    }

    fn push_null(&mut self) {
        self.members.columns.iter_mut().for_each(|column| column.push_null());
        self.valid.append_null();
    }

    fn finish(&mut self) -> ArrayRef {
        let columns = self.members.columns.iter_mut().map(|column| column.finish()).collect();
        Arc::new(StructArray::new(self.fields.clone(), columns, self.valid.finish()))
    }
}
