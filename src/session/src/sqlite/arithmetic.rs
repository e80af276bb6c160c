//! `+`, `-` and `*` of integers that fail on overflow beyond 64 bits, where DataFusion's operators
//! wrap around. SQLite returns a real there, so a query that fails falls back to SQLite.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Datum};
use arrow::compute::kernels::numeric;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::common::Result;
use datafusion::common::utils::take_function_args;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, binary_expr,
};
use datafusion::physical_expr_common::datum::apply;

/// One operator.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    name: &'static str,
    operator: Operator,
    signature: Signature,
}

impl Checked {
    fn function(name: &'static str, operator: Operator) -> Arc<ScalarUDF> {
        let signature = Signature::exact(vec![DataType::Int64, DataType::Int64], Volatility::Immutable);
        Arc::new(ScalarUDF::from(Self { name, operator, signature }))
    }
}

/// Returns the function of an operator on int64; `None` for an operator that cannot overflow 64
/// bits.
fn function(operator: Operator) -> Option<&'static Arc<ScalarUDF>> {
    static ADD: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Checked::function("integer_add", Operator::Plus));
    static SUBTRACT: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Checked::function("integer_subtract", Operator::Minus));
    static MULTIPLY: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Checked::function("integer_multiply", Operator::Multiply));
    match operator {
        Operator::Plus => Some(&ADD),
        Operator::Minus => Some(&SUBTRACT),
        Operator::Multiply => Some(&MULTIPLY),
        _ => None,
    }
}

/// Returns true if an operator of two int64 may overflow 64 bits: [`checked`] computes it.
pub(crate) fn may_overflow(operator: Operator) -> bool {
    function(operator).is_some()
}

/// Builds an operation of two int64, which fails on overflow.
pub(crate) fn checked(left: Expr, operator: Operator, right: Expr) -> Expr {
    match function(operator) {
        Some(function) => Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), vec![left, right])),
        None => binary_expr(left, operator, right),
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = take_function_args(self.name, args.args)?;
        checked_arithmetic(self.operator, &left, &right)
    }
}

/// Computes with two int64.
///
/// # Errors
/// A result that overflows 64 bits.
pub(crate) fn checked_arithmetic(
    operator: Operator,
    left: &ColumnarValue,
    right: &ColumnarValue,
) -> Result<ColumnarValue> {
    let operate: fn(&dyn Datum, &dyn Datum) -> std::result::Result<ArrayRef, ArrowError> = match operator {
        Operator::Plus => numeric::add,
        Operator::Minus => numeric::sub,
        _ => numeric::mul,
    };
    apply(left, right, operate)
}
