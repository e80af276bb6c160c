//! Converts result columns of SQLite, whose values may be of any type, to Arrow columns.
//!
//! A column has its expected type if each value fits it. Otherwise the values decide: integers make
//! int64, numbers float64, text utf8, BLOBs binary, and values that share none of these types make
//! a dense union of the four.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, Float64Builder, Int64Builder, NullArray, StringBuilder, UnionArray,
};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int8Type, Int64Type, UInt8Type, UnionFields};
use rusqlite::types::ValueRef;
use vexact_core::schema::ColumnType;

use super::column::{ColumnBuilder, EXACT_INTEGER, check, described, within_offsets};

/// The values of one result column.
pub(super) enum Values {
    /// Values of the expected type.
    Expected(ColumnBuilder),
    /// Values of the type that the values before them chose.
    Chosen(ColumnBuilder),
    /// This many NULLs and nothing else yet.
    Untyped(usize),
    /// Values that share no type.
    Mixed(Box<MixedBuilder>),
}

impl Values {
    /// Creates an empty column; if the type is `None`, the values decide it.
    pub fn new(expected: Option<ColumnType>) -> Self {
        expected.map_or(Self::Untyped(0), |expected| Self::Expected(ColumnBuilder::new(expected)))
    }

    /// Appends a value.
    ///
    /// # Errors
    /// Text that is not UTF-8, more than 2 GiB in one column.
    pub fn append(&mut self, value: ValueRef<'_>) -> Result<(), String> {
        match self {
            Self::Expected(builder) | Self::Chosen(builder) => match builder.append(value) {
                Err(problem) if check(builder.column_type(), value).is_ok() => Err(problem),
                Err(_) => {
                    *self = std::mem::replace(self, Self::Untyped(0)).widened_for(value)?;
                    self.append(value)
                }
                appended => appended,
            },
            Self::Untyped(nulls) => {
                let chosen = match value {
                    ValueRef::Null => {
                        *nulls += 1;
                        return Ok(());
                    }
                    ValueRef::Integer(_) => ColumnType::Int64,
                    ValueRef::Real(_) => ColumnType::Float64,
                    ValueRef::Text(_) => ColumnType::Utf8,
                    ValueRef::Blob(_) => ColumnType::Binary,
                };
                let mut builder = ColumnBuilder::new(chosen);
                (0..*nulls).for_each(|_| builder.append_null());
                *self = Self::Chosen(builder);
                self.append(value)
            }
            Self::Mixed(builder) => builder.append(value),
        }
    }

    /// The same values in a column that takes one more, which does not fit this one.
    fn widened_for(self, value: ValueRef<'_>) -> Result<Self, String> {
        let (before, mut wider) = match self {
            Self::Expected(builder) => (builder.finish(), Self::Untyped(0)),
            Self::Chosen(builder) => {
                let before = builder.finish();
                let is_number = matches!(value, ValueRef::Real(_)) && is_exact_as_real(&before);
                let wider = match is_number {
                    true => Self::Chosen(ColumnBuilder::new(ColumnType::Float64)),
                    false => Self::Mixed(Box::default()),
                };
                (before, wider)
            }
            other => return Ok(other),
        };
        for_each_value(&before, |value| wider.append(value))?;
        Ok(wider)
    }

    /// The column.
    pub fn finish(self) -> ArrayRef {
        match self {
            Self::Expected(builder) | Self::Chosen(builder) => builder.finish(),
            Self::Untyped(nulls) => Arc::new(NullArray::new(nulls)),
            Self::Mixed(builder) => builder.finish(),
        }
    }
}

fn unfit(value: ValueRef<'_>) -> String {
    format!("expected text in UTF-8, got {}", described(value))
}

/// Returns true if float64 represents each of these integers exactly.
fn is_exact_as_real(column: &ArrayRef) -> bool {
    let exact = EXACT_INTEGER.unsigned_abs();
    column
        .as_primitive_opt::<Int64Type>()
        .is_some_and(|integers| integers.iter().flatten().all(|integer| integer.unsigned_abs() <= exact))
}

/// Calls a function with each value of a column, as SQLite has it.
fn for_each_value(column: &ArrayRef, mut call: impl FnMut(ValueRef<'_>) -> Result<(), String>) -> Result<(), String> {
    let vectors = column.as_fixed_size_list_opt();
    let plain = match column.data_type() {
        DataType::FixedSizeList(item, _) if matches!(item.data_type(), DataType::Int8 | DataType::UInt8) => {
            Ok(Arc::clone(column))
        }
        DataType::FixedSizeList(item, dim) if item.data_type() != &DataType::Float32 => {
            let floats = Arc::new(Field::new_list_field(DataType::Float32, true));
            cast(column, &DataType::FixedSizeList(floats, *dim))
        }
        DataType::Float16 | DataType::Float32 => cast(column, &DataType::Float64),
        DataType::Boolean => cast(column, &DataType::Int64),
        integers if integers.is_integer() => cast(column, &DataType::Int64),
        _ => Ok(Arc::clone(column)),
    };
    let plain = plain.map_err(|error| error.to_string())?;
    for row in 0..plain.len() {
        if plain.is_null(row) {
            call(ValueRef::Null)?;
            continue;
        }
        match plain.data_type() {
            DataType::Int64 => call(ValueRef::Integer(plain.as_primitive::<Int64Type>().value(row)))?,
            DataType::Float64 => call(ValueRef::Real(plain.as_primitive::<Float64Type>().value(row)))?,
            DataType::Utf8 => call(ValueRef::Text(plain.as_string::<i32>().value(row).as_bytes()))?,
            DataType::Binary => call(ValueRef::Blob(plain.as_binary::<i32>().value(row)))?,
            DataType::FixedSizeBinary(_) => call(ValueRef::Blob(plain.as_fixed_size_binary().value(row)))?,
            DataType::FixedSizeList(item, _) if item.data_type() == &DataType::Int8 => {
                let components = plain.as_fixed_size_list().value(row);
                let components = components.as_primitive::<Int8Type>().values();
                call(ValueRef::Blob(&components.iter().map(|component| *component as u8).collect::<Vec<u8>>()))?;
            }
            DataType::FixedSizeList(item, _) if item.data_type() == &DataType::UInt8 => {
                let components = plain.as_fixed_size_list().value(row);
                call(ValueRef::Blob(components.as_primitive::<UInt8Type>().values()))?;
            }
            _ if vectors.is_some() => {
                let components = plain.as_fixed_size_list().value(row);
                let components = components.as_primitive::<Float32Type>().values();
                let bytes: Vec<u8> = components.iter().flat_map(|component| component.to_le_bytes()).collect();
                call(ValueRef::Blob(&bytes))?;
            }
            other => return Err(format!("expected a column of SQLite's types, got {other}")),
        }
    }
    Ok(())
}

/// Values of SQLite's four types in one column; NULL is a NULL among the integers.
#[derive(Default)]
pub(super) struct MixedBuilder {
    types: Vec<i8>,
    offsets: Vec<i32>,
    integers: Int64Builder,
    reals: Float64Builder,
    texts: StringBuilder,
    blobs: BinaryBuilder,
}

/// The type of a column whose values share none: a dense union.
fn mixed_fields() -> UnionFields {
    let members = [
        ("integer", DataType::Int64),
        ("real", DataType::Float64),
        ("text", DataType::Utf8),
        ("blob", DataType::Binary),
    ];
    (0..).zip(members).map(|(id, (name, data_type))| (id, Arc::new(Field::new(name, data_type, true)))).collect()
}

impl MixedBuilder {
    fn append(&mut self, value: ValueRef<'_>) -> Result<(), String> {
        let (id, at) = match value {
            ValueRef::Null => {
                self.integers.append_null();
                (0, self.integers.values_slice().len())
            }
            ValueRef::Integer(integer) => {
                self.integers.append_value(integer);
                (0, self.integers.values_slice().len())
            }
            ValueRef::Real(real) => {
                self.reals.append_value(real);
                (1, self.reals.values_slice().len())
            }
            ValueRef::Text(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| unfit(value))?;
                within_offsets(self.texts.values_slice().len(), text.len())?;
                self.texts.append_value(text);
                (2, self.texts.offsets_slice().len() - 1)
            }
            ValueRef::Blob(bytes) => {
                within_offsets(self.blobs.values_slice().len(), bytes.len())?;
                self.blobs.append_value(bytes);
                (3, self.blobs.offsets_slice().len() - 1)
            }
        };
        self.types.push(id);
        self.offsets.push(at as i32 - 1);
        Ok(())
    }

    fn finish(mut self) -> ArrayRef {
        let children: Vec<ArrayRef> = vec![
            Arc::new(self.integers.finish()),
            Arc::new(self.reals.finish()),
            Arc::new(self.texts.finish()),
            Arc::new(self.blobs.finish()),
        ];
        let (types, offsets) = (ScalarBuffer::from(self.types), ScalarBuffer::from(self.offsets));
        let column = UnionArray::try_new(mixed_fields(), types, Some(offsets), children);
        Arc::new(column.expect("each type has its child, each offset is of a value that was appended"))
    }
}
