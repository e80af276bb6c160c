//! Lossless cast ([`super::keep`]) as an expression of a plan.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::keep::cast_kept;
use super::scan::external;

/// A cast to the type of a table's column that preserves each value or fails.
#[derive(Debug, PartialEq, Eq, Hash)]
struct KeepCast {
    column: String,
    to: DataType,
    signature: Signature,
}

/// Returns the cast of a value for a column of this name and type.
pub fn keep_cast(column: &str, to: &DataType) -> Arc<ScalarUDF> {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::from(KeepCast { column: column.into(), to: to.clone(), signature }))
}

/// Returns an expression cast for a column of this name and type.
pub fn keep_cast_expr(expr: Expr, column: &str, to: &DataType) -> Expr {
    keep_cast(column, to).call(vec![expr])
}

impl ScalarUDFImpl for KeepCast {
    fn name(&self) -> &str {
        "keep_cast"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let is_nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.to.clone(), is_nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let cast = |array| cast_kept(&self.column, array, &self.to).map_err(external);
        match args.args.as_slice() {
            [ColumnarValue::Array(array)] => Ok(ColumnarValue::Array(cast(array)?)),
            [ColumnarValue::Scalar(value)] => {
                let one = cast(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&one, 0)?))
            }
            other => internal_err!("keep_cast: expected one argument, got {}", other.len()),
        }
    }
}
