//! Arguments of vector functions: the accepted types, and their rows as slices.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Builder, ListBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float16Type, Float32Type, Float64Type, Int8Type, UInt8Type};
use datafusion::common::{DataFusionError, Result, plan_err};
use vexact_kernel::Element;

use crate::vector::{VectorError, parse_vector};

/// The type that an argument is given to a vector function as: lists of floats and text as they
/// are, lists of other numbers as lists of `Float64`, list views as lists, dictionaries as their
/// values.
pub(super) fn argument_type(function: &str, data_type: &DataType) -> Result<DataType> {
    type_of_rows(function, data_type, DataType::is_floating)
}

/// As [`argument_type`], but lists of numbers that `is_kept` stay as they are.
pub(super) fn type_of_rows(function: &str, data_type: &DataType, is_kept: fn(&DataType) -> bool) -> Result<DataType> {
    let is_text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null);
    let widened = |item: &Arc<Field>| match item.data_type() {
        kept if is_kept(kept) => Some(Arc::clone(item)),
        number if number.is_numeric() || number.is_null() => {
            Some(Arc::new(Field::new_list_field(DataType::Float64, true)))
        }
        _ => None,
    };
    let widened = match data_type {
        _ if is_text => Some(data_type.clone()),
        DataType::List(item) | DataType::ListView(item) => widened(item).map(DataType::List),
        DataType::LargeList(item) | DataType::LargeListView(item) => widened(item).map(DataType::LargeList),
        DataType::Dictionary(_, value) => type_of_rows(function, value, is_kept).ok(),
        DataType::FixedSizeList(item, dim) => widened(item).map(|item| DataType::FixedSizeList(item, *dim)),
        _ => None,
    };
    match widened {
        Some(data_type) => Ok(data_type),
        None => plan_err!("{function}: expected a vector (a list of numbers or text '[1 2 3]'), got {data_type}"),
    }
}

/// Components of a type whose rows all have the same number.
pub(super) fn fixed_dim(data_type: &DataType) -> Option<i32> {
    match data_type {
        DataType::FixedSizeList(_, dim) => Some(*dim),
        _ => None,
    }
}

/// An array of vectors, row by row.
pub(super) struct VectorRows {
    list: ArrayRef,
    values: ArrayRef,
}

impl VectorRows {
    /// # Errors
    /// Text that is no vector, with its row.
    pub fn try_new(array: &ArrayRef) -> Result<Self> {
        let list = match array.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => parse_rows(array)?,
            DataType::Null => cast(array, &DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true))))?,
            _ => Arc::clone(array),
        };
        let values = match list.data_type() {
            DataType::List(_) => Arc::clone(list.as_list::<i32>().values()),
            DataType::LargeList(_) => Arc::clone(list.as_list::<i64>().values()),
            _ => Arc::clone(list.as_fixed_size_list().values()),
        };
        Ok(Self { list, values })
    }

    /// Start and length of a row within the values; `None` for a NULL row.
    pub fn range(&self, row: usize) -> Option<(usize, usize)> {
        self.list.is_valid(row).then(|| match self.list.data_type() {
            DataType::List(_) => {
                let offsets = self.list.as_list::<i32>().value_offsets();
                (offsets[row] as usize, (offsets[row + 1] - offsets[row]) as usize)
            }
            DataType::LargeList(_) => {
                let offsets = self.list.as_list::<i64>().value_offsets();
                (offsets[row] as usize, (offsets[row + 1] - offsets[row]) as usize)
            }
            _ => {
                let list = self.list.as_fixed_size_list();
                (list.value_offset(row) as usize, list.value_length() as usize)
            }
        })
    }

    /// Returns true if a row has a NULL component.
    pub fn has_null(&self, (start, len): (usize, usize)) -> bool {
        self.values.nulls().is_some_and(|nulls| nulls.slice(start, len).null_count() > 0)
    }

    /// Reads a row, widened; false for a NULL row and one with a NULL component.
    pub fn read(&self, row: usize, into: &mut Vec<f64>) -> bool {
        let range = self.range(row).filter(|range| !self.has_null(*range));
        if let Some(range) = range {
            self.widened(range, into);
        }
        range.is_some()
    }

    /// Calls `each` with the values, whichever element type they have.
    pub fn visit<V: VisitRows>(&self, each: V) -> V::Output {
        match self.values.data_type() {
            DataType::Float16 => each.visit(self.values.as_primitive::<Float16Type>().values()),
            DataType::Float32 => each.visit(self.values.as_primitive::<Float32Type>().values()),
            DataType::Int8 => each.visit(self.values.as_primitive::<Int8Type>().values()),
            DataType::UInt8 => each.visit(self.values.as_primitive::<UInt8Type>().values()),
            _ => each.visit(self.values.as_primitive::<Float64Type>().values()),
        }
    }

    /// A row, widened.
    pub fn widened(&self, range: (usize, usize), into: &mut Vec<f64>) {
        struct Widen<'v>((usize, usize), &'v mut Vec<f64>);
        impl VisitRows for Widen<'_> {
            type Output = ();
            fn visit<T: Element>(self, values: &[T]) {
                self.1.extend(values[self.0.0..][..self.0.1].iter().map(|x| x.to_f64()));
            }
        }
        into.clear();
        self.visit(Widen(range, into));
    }
}

/// A computation over components of any element type.
pub(super) trait VisitRows {
    type Output;
    fn visit<T: Element>(self, values: &[T]) -> Self::Output;
}

fn parse_rows(texts: &ArrayRef) -> Result<ArrayRef> {
    let texts = cast(texts, &DataType::Utf8)?;
    let mut lists = ListBuilder::new(Float64Builder::new());
    for (row, text) in texts.as_string::<i32>().iter().enumerate() {
        if let Some(text) = text {
            let vector = parse_vector(text).map_err(|error| with_row(row, error))?;
            lists.values().append_slice(&vector);
        }
        lists.append(text.is_some());
    }
    Ok(Arc::new(lists.finish()))
}

fn with_row(row: usize, error: VectorError) -> DataFusionError {
    DataFusionError::from(error).context(format!("row {row} of the batch"))
}
