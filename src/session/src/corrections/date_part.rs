//! `extract(year FROM t) = 1` is not rewritten if no timestamp can have that year: DataFusion
//! rewrites it to an interval of timestamps, with NULL for an end that a timestamp of nanoseconds
//! cannot represent (apache/datafusion#25135).

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// DataFusion's function, whose intervals have two ends.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DatePart(Arc<ScalarUDF>);

/// Returns the call with this function instead of DataFusion's; `None` for a call of another
/// function.
pub(super) fn checked(call: &ScalarFunction) -> Option<Expr> {
    if call.func.name() != "date_part" || call.func.inner().is::<DatePart>() {
        return None;
    }
    Some(ScalarUDF::from(DatePart(Arc::clone(&call.func))).call(call.args.clone()))
}

impl ScalarUDFImpl for DatePart {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.0.return_type(args)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.0.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.0.invoke_with_args(args)
    }

    fn preimage(&self, args: &[Expr], constant: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        Ok(match self.0.preimage(args, constant, info)? {
            PreimageResult::Range { interval, .. } if interval.lower().is_null() || interval.upper().is_null() => {
                PreimageResult::None
            }
            other => other,
        })
    }
}
