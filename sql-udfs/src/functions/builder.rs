//! Arrays of vectors as results of functions.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float64Array, GenericListArray, OffsetSizeTrait};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, exec_err, plan_err};

/// Builds an array of vectors of one list type, rounding each component once to the list's element
/// type.
pub(super) struct VectorBuilder {
    function: String,
    data_type: DataType,
    components: Vec<f64>,
    lengths: Vec<usize>,
    is_valid: Vec<bool>,
}

impl VectorBuilder {
    /// `data_type`: a `List`, `LargeList` or `FixedSizeList` of floats.
    pub fn new(function: &str, data_type: &DataType) -> Self {
        let data_type = data_type.clone();
        Self { function: function.to_owned(), data_type, components: vec![], lengths: vec![], is_valid: vec![] }
    }

    /// # Errors
    /// A finite component that is beyond the element type, and a vector of another length than the
    /// type has.
    pub fn push(&mut self, vector: Option<&[f64]>) -> Result<()> {
        let fixed = match &self.data_type {
            DataType::FixedSizeList(_, dim) => Some(*dim as usize),
            _ => None,
        };
        if let (Some(expected), Some(vector)) = (fixed, vector)
            && expected != vector.len()
        {
            return exec_err!("{}: expected {expected} components, got {}", self.function, vector.len());
        }
        let largest = match self.data_type_of_element() {
            DataType::Float16 => f64::from(half_max()),
            DataType::Float32 => f64::from(f32::MAX),
            _ => f64::MAX,
        };
        if let Some((i, x)) =
            vector.and_then(|vector| vector.iter().enumerate().find(|(_, x)| x.is_finite() && x.abs() > largest))
        {
            return exec_err!(
                "{}: component {i}: expected a number within {}, got {x:e}",
                self.function,
                self.data_type_of_element()
            );
        }
        match vector {
            Some(vector) => self.components.extend(vector),
            None => self.components.resize(self.components.len() + fixed.unwrap_or(0), 0.0),
        }
        self.lengths.push(vector.map_or(fixed.unwrap_or(0), <[f64]>::len));
        self.is_valid.push(vector.is_some());
        Ok(())
    }

    fn data_type_of_element(&self) -> &DataType {
        match &self.data_type {
            DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => item.data_type(),
            other => other,
        }
    }

    /// # Errors
    /// More components than a `List` can address.
    pub fn finish(self) -> Result<ArrayRef> {
        let Self { function, data_type, components, lengths, is_valid } = self;
        let rows = is_valid.len();
        let nulls = Some(NullBuffer::from(is_valid)).filter(|nulls| nulls.null_count() > 0);
        let values = |item: &FieldRef| {
            let exact = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(&Float64Array::from(components), item.data_type(), &exact)
        };
        Ok(match &data_type {
            DataType::FixedSizeList(item, dim) => {
                let values = values(item)?;
                Arc::new(FixedSizeListArray::try_new_with_length(Arc::clone(item), *dim, values, nulls, rows)?)
            }
            DataType::List(item) => list::<i32>(item, lengths, values(item)?, nulls)?,
            DataType::LargeList(item) => list::<i64>(item, lengths, values(item)?, nulls)?,
            other => return plan_err!("{function}: expected a list of floats, got {other}"),
        })
    }
}

fn half_max() -> f32 {
    65504.0
}

fn list<Offset: OffsetSizeTrait>(
    item: &FieldRef,
    lengths: Vec<usize>,
    values: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    if Offset::from_usize(values.len()).is_none() {
        return exec_err!("expected at most {} components in a batch, got {}", i32::MAX, values.len());
    }
    let offsets = OffsetBuffer::<Offset>::from_lengths(lengths);
    Ok(Arc::new(GenericListArray::try_new(Arc::clone(item), offsets, values, nulls)?))
}
