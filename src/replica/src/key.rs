//! The key of a row, hashed and compared in place, without a copy.

use std::hash::{BuildHasher, Hash, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use half::f16;
use vexact_core::error::{Error, Result};

/// The key columns of some rows. NULL does not occur: capture rejects it.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    columns: Vec<KeyColumn>,
}

#[derive(Debug, Clone)]
enum KeyColumn {
    Int8(ScalarBuffer<i8>),
    Int16(ScalarBuffer<i16>),
    Int32(ScalarBuffer<i32>),
    Int64(ScalarBuffer<i64>),
    UInt8(ScalarBuffer<u8>),
    UInt16(ScalarBuffer<u16>),
    UInt32(ScalarBuffer<u32>),
    UInt64(ScalarBuffer<u64>),
    Float16(ScalarBuffer<f16>),
    Float32(ScalarBuffer<f32>),
    Float64(ScalarBuffer<f64>),
    Boolean(BooleanBuffer),
    Bytes(OffsetBuffer<i32>, Buffer),
}

/// One component of a key.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Component<'k> {
    Bits(u64),
    Bytes(&'k [u8]),
}

impl KeyColumn {
    fn try_new(array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Int8 => Self::Int8(array.as_primitive::<Int8Type>().values().clone()),
            DataType::Int16 => Self::Int16(array.as_primitive::<Int16Type>().values().clone()),
            DataType::Int32 => Self::Int32(array.as_primitive::<Int32Type>().values().clone()),
            DataType::Int64 => Self::Int64(array.as_primitive::<Int64Type>().values().clone()),
            DataType::UInt8 => Self::UInt8(array.as_primitive::<UInt8Type>().values().clone()),
            DataType::UInt16 => Self::UInt16(array.as_primitive::<UInt16Type>().values().clone()),
            DataType::UInt32 => Self::UInt32(array.as_primitive::<UInt32Type>().values().clone()),
            DataType::UInt64 => Self::UInt64(array.as_primitive::<UInt64Type>().values().clone()),
            DataType::Float16 => Self::Float16(array.as_primitive::<Float16Type>().values().clone()),
            DataType::Float32 => Self::Float32(array.as_primitive::<Float32Type>().values().clone()),
            DataType::Float64 => Self::Float64(array.as_primitive::<Float64Type>().values().clone()),
            DataType::Boolean => Self::Boolean(array.as_boolean().values().clone()),
            DataType::Utf8 => {
                let texts = array.as_string::<i32>();
                Self::Bytes(texts.offsets().clone(), texts.values().clone())
            }
            DataType::Binary => {
                let blobs = array.as_binary::<i32>();
                Self::Bytes(blobs.offsets().clone(), blobs.values().clone())
            }
            other => {
                return Err(Error::InvalidArgument(format!(
                    "a key column of {other}: expected integers, floats, bool, utf8 or binary"
                )));
            }
        })
    }

    #[inline]
    fn component(&self, row: usize) -> Component<'_> {
        Component::Bits(match self {
            Self::Int8(values) => values[row] as u64,
            Self::Int16(values) => values[row] as u64,
            Self::Int32(values) => values[row] as u64,
            Self::Int64(values) => values[row] as u64,
            Self::UInt8(values) => u64::from(values[row]),
            Self::UInt16(values) => u64::from(values[row]),
            Self::UInt32(values) => u64::from(values[row]),
            Self::UInt64(values) => values[row],
            Self::Float16(values) => u64::from(values[row].to_bits()),
            Self::Float32(values) => u64::from(values[row].to_bits()),
            // SQLite has one zero: a row whose key becomes -0.0 keeps its key.
            Self::Float64(values) => (values[row] + 0.0).to_bits(),
            Self::Boolean(values) => u64::from(values.value(row)),
            Self::Bytes(offsets, values) => {
                return Component::Bytes(&values[offsets[row] as usize..offsets[row + 1] as usize]);
            }
        })
    }
}

impl Keys {
    /// The keys of a batch, whose key columns these are.
    ///
    /// # Errors
    /// A column of a type that is no key.
    pub fn try_new(batch: &RecordBatch, columns: &[usize]) -> Result<Self> {
        let columns = columns.iter().map(|column| KeyColumn::try_new(batch.column(*column))).collect::<Result<_>>()?;
        Ok(Self { columns })
    }

    /// The hash of a row's key, the same for equal keys of any batch.
    #[inline]
    pub fn hash(&self, row: usize, hasher: &impl BuildHasher) -> u64 {
        let mut state = hasher.build_hasher();
        for column in &self.columns {
            match column.component(row) {
                Component::Bits(bits) => state.write_u64(bits),
                bytes @ Component::Bytes(_) => bytes.hash(&mut state),
            }
        }
        state.finish()
    }

    /// Returns true if a row has the same key as a row of another batch.
    #[inline]
    pub fn equal(&self, row: usize, other: &Keys, other_row: usize) -> bool {
        let mut columns = self.columns.iter().zip(&other.columns);
        columns.all(|(a, b)| a.component(row) == b.component(other_row))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, Float64Array, Int64Array, StringArray};
    use hashbrown::DefaultHashBuilder;

    use super::*;

    #[test]
    fn equal_keys_of_different_batches_have_one_hash() {
        let batch = |texts: Vec<&str>, numbers: Vec<i64>| {
            let texts: ArrayRef = Arc::new(StringArray::from(texts));
            let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
            RecordBatch::try_from_iter([("t", texts), ("n", numbers)]).unwrap()
        };
        let a = Keys::try_new(&batch(vec!["x", "yy"], vec![1, -2]), &[0, 1]).unwrap();
        let b = Keys::try_new(&batch(vec!["yy", "yy", "x"], vec![-2, 2, 1]).slice(0, 3), &[0, 1]).unwrap();
        let hasher = DefaultHashBuilder::default();
        assert!(a.equal(1, &b, 0) && a.hash(1, &hasher) == b.hash(0, &hasher));
        assert!(!a.equal(1, &b, 1) && !a.equal(0, &b, 0));
        assert!(a.equal(0, &b, 2) && a.hash(0, &hasher) == b.hash(2, &hasher));
    }

    #[test]
    fn slices_are_read_at_their_offset() {
        let blobs: ArrayRef = Arc::new(BinaryArray::from(vec![b"a".as_slice(), b"", b"bc"]));
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, -0.5]));
        let batch = RecordBatch::try_from_iter([("b", blobs), ("f", floats)]).unwrap();
        let whole = Keys::try_new(&batch, &[0, 1]).unwrap();
        let part = Keys::try_new(&batch.slice(1, 2), &[0, 1]).unwrap();
        assert!(part.equal(0, &whole, 1) && part.equal(1, &whole, 2) && !part.equal(0, &whole, 0));
    }

    #[test]
    fn there_is_one_zero() {
        let batch = |floats: Vec<f64>| {
            RecordBatch::try_from_iter([("f", Arc::new(Float64Array::from(floats)) as ArrayRef)]).unwrap()
        };
        let zeros = Keys::try_new(&batch(vec![0.0, -0.0, 5e-324]), &[0]).unwrap();
        let hasher = DefaultHashBuilder::default();
        assert!(zeros.equal(0, &zeros, 1) && zeros.hash(0, &hasher) == zeros.hash(1, &hasher));
        assert!(!zeros.equal(1, &zeros, 2));
    }

    #[test]
    fn a_vector_is_no_key() {
        let list =
            arrow::array::FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vec![Some(vec![Some(1.0)])], 1);
        let batch = RecordBatch::try_from_iter([("v", Arc::new(list) as ArrayRef)]).unwrap();
        let error = Keys::try_new(&batch, &[0]).unwrap_err().to_string();
        assert!(error.contains("expected integers, floats, bool, utf8 or binary"), "{error}");
    }
}
