//! The `k` of `vector_search` if it is a parameter: it is checked when its value is known. The
//! function has no name in SQL.

use arrow::datatypes::DataType;
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

#[derive(Debug, PartialEq, Eq, Hash)]
struct RowLimit {
    signature: Signature,
}

impl ScalarUDFImpl for RowLimit {
    fn name(&self) -> &str {
        "vector_search_k"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let [k] = take_function_args(self.name(), args)?;
        match k {
            Expr::Literal(value, _) => {
                Ok(ExprSimplifyResult::Simplified(lit(k_argument("vector_search", &value)? as i64)))
            }
            unbound => Ok(ExprSimplifyResult::Original(vec![unbound])),
        }
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("k is known before execution")
    }
}

/// A number of rows of at least 1.
pub(crate) fn k_argument(function: &str, value: &ScalarValue) -> Result<usize> {
    match value {
        // More than any table has.
        ScalarValue::UInt64(Some(k)) if *k > i64::MAX as u64 => return Ok(i64::MAX as usize),
        _ => {}
    }
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(Some(k))) if k >= 1 && value.data_type().is_integer() => Ok(k as usize),
        _ => plan_err!("{function}: k: expected a whole number of at least 1, got {value}"),
    }
}

/// A limit of `k` rows; an error at run time if `k` is no whole number of at least 1.
pub(crate) fn row_limit(k: Expr) -> Expr {
    ScalarUDF::from(RowLimit { signature: Signature::user_defined(Volatility::Immutable) }).call(vec![k])
}
