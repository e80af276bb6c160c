//! Distances of vectors of bits: `hamming_distance` and `jaccard_distance`.
//!
//! A vector of bits is a BLOB, the least significant bit of each byte first. One of the two may also
//! be text or a list, of a 0 or 1 for each bit. NULL gives NULL.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err, utils::take_function_args};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use vexact_kernel::{KernelError, Metric, reference};

use super::rows::{VectorRows, fixed_dim, type_of_rows};
use crate::exec::external;
use crate::vector::{VectorError, is_bits, is_element};

/// Returns the argument types of a metric of bits; rejects BLOBs of different lengths, and two
/// arguments of which neither is a BLOB.
pub(super) fn coerce_bits(name: &str, metric: Metric, arg_types: &[DataType]) -> Result<Vec<DataType>> {
    let [a, b] = take_function_args(name, arg_types)?;
    let types = vec![bits_type(name, a)?, bits_type(name, b)?];
    if !types.iter().any(|data_type| is_bits(data_type) || data_type.is_null()) {
        return plan_err!("{name}: metric {metric} compares bits: expected a BLOB, got {a} and {b}");
    }
    let dim = |data_type: &DataType| match data_type {
        DataType::FixedSizeBinary(bytes) => Some(8 * bytes),
        other => fixed_dim(other),
    };
    if let (Some(expected), Some(got)) = (dim(&types[0]), dim(&types[1]))
        && expected != got
    {
        return plan_err!("{name}: dimension mismatch: expected {expected} components, got {got}");
    }
    Ok(types)
}

fn bits_type(name: &str, data_type: &DataType) -> Result<DataType> {
    match data_type {
        DataType::FixedSizeBinary(_) => Ok(data_type.clone()),
        DataType::Dictionary(_, value) => bits_type(name, value),
        binary if is_bits(binary) => Ok(DataType::LargeBinary),
        other => match type_of_rows(name, other, is_element) {
            Ok(numbers) => Ok(numbers),
            Err(_) => plan_err!("{name}: expected bits (a BLOB, or a list or text of 0 and 1), got {other}"),
        },
    }
}

/// The bits of an argument, row by row.
enum BitRows {
    Blobs(ArrayRef),
    Components(VectorRows),
}

impl BitRows {
    fn try_new(array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::FixedSizeBinary(_) => Self::Blobs(cast(array, &DataType::LargeBinary)?),
            DataType::LargeBinary => Self::Blobs(Arc::clone(array)),
            _ => Self::Components(VectorRows::try_new(array)?),
        })
    }

    /// A row and the number of its bits; `None` where it is NULL or holds one.
    ///
    /// # Errors
    /// A component that is neither 0 nor 1.
    fn row(&self, row: usize) -> Result<Option<(Cow<'_, [u8]>, usize)>> {
        let numbers = match self {
            Self::Blobs(blobs) => {
                let bytes = blobs.is_valid(row).then(|| blobs.as_binary::<i64>().value(row));
                return Ok(bytes.map(|bytes| (Cow::Borrowed(bytes), 8 * bytes.len())));
            }
            Self::Components(rows) => rows,
        };
        let mut components = Vec::new();
        if !numbers.read(row, &mut components) {
            return Ok(None);
        }
        if let Some(position) = components.iter().position(|x| *x != 0.0 && *x != 1.0) {
            return Err(external(KernelError::NotABit { position, value: components[position] }));
        }
        Ok(Some((Cow::Owned(reference::packed(&components)), components.len())))
    }
}

/// Evaluates a metric of bits row by row.
///
/// # Errors
/// Rows of different numbers of bits; a component that is no bit.
pub(super) fn evaluate_bits(name: &str, metric: Metric, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
    let is_scalar = |arg: &ColumnarValue| matches!(arg, ColumnarValue::Scalar(_));
    let constants: Vec<bool> = args.args.iter().map(is_scalar).collect();
    let is_constant = constants.iter().all(|is_constant| *is_constant);
    // The column is named in errors: the first argument that is one.
    let column = constants.iter().position(|is_constant| !is_constant).unwrap_or(0);
    let column_name = args.arg_fields.get(column).map(|field| field.name().clone()).unwrap_or_default();
    let count = if is_constant { 1 } else { args.number_rows };
    let rows = |arg: &ColumnarValue| -> Result<BitRows> {
        let array = match arg {
            ColumnarValue::Scalar(value) => value.to_array()?,
            ColumnarValue::Array(array) => Arc::clone(array),
        };
        BitRows::try_new(&array)
    };
    let [a, b] = take_function_args(name, args.args)?;
    let (a, b) = (rows(&a)?, rows(&b)?);
    let (a, b) =
        if column == 0 { ((a, constants[0]), (b, constants[1])) } else { ((b, constants[1]), (a, constants[0])) };
    let constant = if b.1 { Some(b.0.row(0)?) } else { None };
    let value = |row: usize| -> Result<Option<f64>> {
        let Some((x, expected)) = a.0.row(if a.1 { 0 } else { row })? else { return Ok(None) };
        let own;
        let other = match &constant {
            Some(constant) => constant,
            None => {
                own = b.0.row(row)?;
                &own
            }
        };
        let Some((q, got)) = other else { return Ok(None) };
        if expected != *got {
            let (function, column) = (name.to_owned(), column_name.clone());
            return Err(VectorError::Dimension { function, column, expected, got: *got }.into());
        }
        Ok(reference::distance_of_bits(metric, &x, q))
    };
    let values: ArrayRef = Arc::new((0..count).map(value).collect::<Result<Float64Array>>()?);
    Ok(if is_constant {
        ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)
    } else {
        ColumnarValue::Array(values)
    })
}
