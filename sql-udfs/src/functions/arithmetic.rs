//! `vector_add(a, b)`, `vector_sub(a, b)` and `l2_normalize(v)`: vectors from vectors.
//!
//! Each component is computed in `Float64` and rounded once to the element type of the result,
//! which is the wider one of the arguments'. The result is a `FixedSizeList` where an argument is
//! one. NULL and a NULL component give NULL.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, exec_err, utils::take_function_args};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::builder::VectorBuilder;
use super::distance::coerce_pair;
use super::rows::{VectorRows, argument_type};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Add,
    Subtract,
    Normalize,
}

impl Operation {
    pub const ALL: [Operation; 3] = [Operation::Add, Operation::Subtract, Operation::Normalize];

    fn name(self) -> &'static str {
        match self {
            Operation::Add => "vector_add",
            Operation::Subtract => "vector_sub",
            Operation::Normalize => "l2_normalize",
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Arithmetic {
    operation: Operation,
    signature: Signature,
}

impl Arithmetic {
    pub fn new(operation: Operation) -> Self {
        Self { operation, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        self.operation.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(result_type(arg_types))
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if self.operation == Operation::Normalize {
            let [vector] = take_function_args(self.name(), arg_types)?;
            return Ok(vec![argument_type(self.name(), vector)?]);
        }
        coerce_pair(self.name(), arg_types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let count = if is_constant { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|arg| arg.to_array(count)).collect::<Result<Vec<_>>>()?;
        let columns = arrays.iter().map(VectorRows::try_new).collect::<Result<Vec<_>>>()?;
        let mut vectors = VectorBuilder::new(self.name(), args.return_type());
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for row in 0..count {
            let mut is_valid = columns[0].read(row, &mut first);
            if let Some(other) = columns.get(1) {
                is_valid &= other.read(row, &mut second);
                if is_valid && first.len() != second.len() {
                    return exec_err!(
                        "{}: dimension mismatch: expected {} components, got {}",
                        self.name(),
                        first.len(),
                        second.len()
                    );
                }
            }
            if is_valid {
                match self.operation {
                    Operation::Add => first.iter_mut().zip(&second).for_each(|(x, y)| *x += y),
                    Operation::Subtract => first.iter_mut().zip(&second).for_each(|(x, y)| *x -= y),
                    Operation::Normalize => normalize(&mut first),
                }
            }
            vectors.push(is_valid.then_some(first.as_slice()))?;
        }
        let vectors = vectors.finish()?;
        Ok(if is_constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&vectors, 0)?)
        } else {
            ColumnarValue::Array(vectors)
        })
    }
}

/// Divides a vector by its length. A vector of length zero stays unchanged, as in pgvector.
fn normalize(vector: &mut [f64]) {
    let length = |vector: &[f64]| vector.iter().fold(0.0, |sum, x| sum + x * x).sqrt();
    let mut norm = length(vector);
    // Squares of huge and of tiny components leave the range of f64.
    if !(1e-140..=1e140).contains(&norm) {
        let largest = vector.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        if largest == 0.0 || !largest.is_finite() {
            if norm.is_nan() || largest.is_infinite() {
                vector.fill(f64::NAN);
            }
            return;
        }
        vector.iter_mut().for_each(|x| *x /= largest);
        norm = length(vector);
    }
    vector.iter_mut().for_each(|x| *x /= norm);
}

/// The list type that holds the results of arguments of these types.
fn result_type(arg_types: &[DataType]) -> DataType {
    let mut element = DataType::Float16;
    let (mut fixed, mut is_large) = (None, false);
    for data_type in arg_types {
        let item = match data_type {
            DataType::FixedSizeList(item, dim) => {
                fixed = Some(*dim);
                item.data_type()
            }
            DataType::List(item) => item.data_type(),
            DataType::LargeList(item) => {
                is_large = true;
                item.data_type()
            }
            _ => &DataType::Float64,
        };
        element = match (&element, item) {
            (DataType::Float64, _) | (_, DataType::Float64) => DataType::Float64,
            (DataType::Float32, _) | (_, DataType::Float32) => DataType::Float32,
            _ => DataType::Float16,
        };
    }
    let item = Arc::new(Field::new_list_field(element, true));
    match (fixed, is_large) {
        (Some(dim), _) => DataType::FixedSizeList(item, dim),
        (None, true) => DataType::LargeList(item),
        (None, false) => DataType::List(item),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn normalized_vectors_have_length_one_at_every_scale(
            direction in prop::collection::vec(-1.0..1.0_f64, 1..40), scale in -300..300_i32,
        ) {
            let mut vector: Vec<f64> = direction.iter().map(|x| x * 10f64.powi(scale)).collect();
            prop_assume!(vector.iter().any(|x| x.abs() > 1e-305));
            normalize(&mut vector);
            let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
            prop_assert!((length - 1.0).abs() < 1e-9, "{length}");
        }
    }

    #[test]
    fn vectors_without_a_direction_stay_or_are_nan() {
        let mut zero = [0.0, -0.0];
        normalize(&mut zero);
        assert_eq!(zero, [0.0, 0.0]);
        let mut infinite = [f64::INFINITY, 1.0];
        normalize(&mut infinite);
        assert!(infinite.iter().all(|x| x.is_nan()));
    }
}
