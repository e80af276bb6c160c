//! `l2_norm(vector)`: the Euclidean length, `Float64`, summed in component order. NULL for NULL or
//! a NULL component.

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, utils::take_function_args};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};

use super::rows::{VectorRows, argument_type};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct L2Norm {
    signature: Signature,
}

impl L2Norm {
    pub fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for L2Norm {
    fn name(&self) -> &str {
        "l2_norm"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
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
        let mut components = Vec::new();
        let norm = |row| {
            let range = rows.range(row).filter(|range| !rows.has_null(*range))?;
            rows.widened(range, &mut components);
            Some(components.iter().fold(0.0, |sum, x| sum + x * x).sqrt())
        };
        let norms: ArrayRef = Arc::new((0..array.len()).map(norm).collect::<Float64Array>());
        Ok(if is_constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&norms, 0)?)
        } else {
            ColumnarValue::Array(norms)
        })
    }
}
