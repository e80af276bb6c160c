//! `-x` as a function. DataFusion's own expression reports no order if its argument has no known
//! bounds, so that a sort by `-abs(x)` fails DataFusion's check of the plan, and it computes bounds
//! that overflow integers. It has no name in SQL.

use arrow::compute::kernels::numeric::neg_wrapping;
use arrow::datatypes::DataType;
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Negate {
    pub(super) signature: Signature,
}

/// `-expr`, a number.
pub fn negate(expr: Expr) -> Expr {
    ScalarUDF::from(Negate { signature: Signature::any(1, Volatility::Immutable) }).call(vec![expr])
}

impl ScalarUDFImpl for Negate {
    fn name(&self) -> &str {
        "negate"
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.first().map_or_else(String::new, |number| format!("(- {number})")))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.first().map_or_else(String::new, |number| format!("(- {})", number.schema_name())))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        let [number] = take_function_args(self.name(), args)?;
        Ok(number.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [number] = take_function_args(self.name(), args.args)?;
        Ok(match number {
            ColumnarValue::Array(array) => ColumnarValue::Array(neg_wrapping(array.as_ref())?),
            ColumnarValue::Scalar(value) => {
                let negative = neg_wrapping(value.to_array()?.as_ref())?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&negative, 0)?)
            }
        })
    }
}
