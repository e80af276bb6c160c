//! `year(x)` and similar functions, which are common names for calls of `date_part`, and
//! `unix_timestamp(x)`.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, plan_err};
use datafusion::functions::datetime::expr_fn::{date_part, now};
use datafusion::functions::math::expr_fn::floor;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast, lit,
};

/// Function names with their parts of `date_part`.
const PARTS: [(&str, &str); 10] = [
    ("year", "year"),
    ("quarter", "quarter"),
    ("month", "month"),
    ("day", "day"),
    ("hour", "hour"),
    ("minute", "minute"),
    ("second", "second"),
    ("week", "week"),
    ("iso_week", "week"),
    ("iso_year", "isoyear"),
];

/// Returns all date functions.
pub(crate) fn functions() -> impl Iterator<Item = ScalarUDF> {
    let parts = PARTS.into_iter().map(|(name, part)| DateFunction { name, part: Some(part), signature: signature() });
    let unix = DateFunction { name: "unix_timestamp", part: None, signature: signature() };
    parts.chain([unix]).map(ScalarUDF::from)
}

fn signature() -> Signature {
    Signature::user_defined(Volatility::Stable)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateFunction {
    name: &'static str,
    /// Part of `date_part` to extract; `None` for the seconds since 1970.
    part: Option<&'static str>,
    signature: Signature,
}

impl ScalarUDFImpl for DateFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let as_time = |data_type: &DataType| match data_type {
            DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Some(DataType::Timestamp(TimeUnit::Nanosecond, None))
            }
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => Some(data_type.clone()),
            DataType::Time32(_) | DataType::Time64(_) if matches!(self.name, "hour" | "minute" | "second") => {
                Some(data_type.clone())
            }
            _ => None,
        };
        match (arguments, self.part) {
            ([], None) => Ok(Vec::new()),
            ([argument], _) if let Some(time) = as_time(argument) => Ok(vec![time]),
            ([argument], _) => plan_err!("{}: expected a date, a time or text of one, got {argument}", self.name),
            (others, _) => plan_err!("{}: expected one argument, got {}", self.name, others.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.part.is_some() { DataType::Int32 } else { DataType::Int64 })
    }

    fn simplify(&self, arguments: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let time = arguments.into_iter().next().unwrap_or_else(now);
        Ok(ExprSimplifyResult::Simplified(match self.part {
            Some(part) => date_part(lit(part), time),
            None => cast(floor(date_part(lit("epoch"), time)), DataType::Int64),
        }))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        plan_err!("{}: expected a plan that was simplified", self.name)
    }
}
