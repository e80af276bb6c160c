//! `vector_dims(vector)`: the number of components, `Int64`. NULL for NULL.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, utils::take_function_args};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::rows::{VectorRows, argument_type};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct VectorDims {
    signature: Signature,
}

impl VectorDims {
    pub fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for VectorDims {
    fn name(&self) -> &str {
        "vector_dims"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [vector] = take_function_args(self.name(), arg_types)?;
        Ok(vec![argument_type(self.name(), vector)?])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [vector] = take_function_args(self.name(), args.args)?;
        let is_constant = matches!(vector, ColumnarValue::Scalar(_));
        let array = vector.to_array(if is_constant { 1 } else { args.number_rows })?;
        let rows = VectorRows::try_new(&array)?;
        let dims: ArrayRef =
            Arc::new((0..array.len()).map(|row| rows.range(row).map(|(_, dim)| dim as i64)).collect::<Int64Array>());
        Ok(if is_constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&dims, 0)?)
        } else {
            ColumnarValue::Array(dims)
        })
    }
}
