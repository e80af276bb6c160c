//! Compares intervals by their length.
//!
//! Arrow compares the months of two intervals, then their days, then their nanoseconds, so that
//! `t2 - t1 > INTERVAL '1 day'` is false for 25 hours. As in PostgreSQL and DuckDB, a day has 24
//! hours and a month 30 days here.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, cast,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::SessionContext;

use super::rewrite::{compared, compared_mut, rewrite_exprs};

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// Replaces the intervals of comparisons by their lengths. It runs after type coercion.
#[derive(Debug)]
pub(super) struct IntervalsByLength;

impl AnalyzerRule for IntervalsByLength {
    fn name(&self) -> &str {
        "vexact_intervals_by_length"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_exprs(
            plan,
            |expr| !compared(expr).is_empty(),
            |mut expr, schema| {
                let mut is_changed = false;
                for value in compared_mut(&mut expr).into_iter().filter(|value| is_interval(value, schema)) {
                    *value = length(std::mem::take(value));
                    is_changed = true;
                }
                Ok(if is_changed { Transformed::yes(expr) } else { Transformed::no(expr) })
            },
        )
    }
}

fn is_interval(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| matches!(data_type, DataType::Interval(_)))
}

/// Returns the length of an interval in nanoseconds.
fn length(interval: Expr) -> Expr {
    function().call(vec![cast(interval, INTERVAL)])
}

fn function() -> ScalarUDF {
    ScalarUDF::from(Length { signature: Signature::exact(vec![INTERVAL], Volatility::Immutable) })
}

/// Registers the function, by whose name workers find it.
pub(super) fn register(ctx: &SessionContext) {
    ctx.register_udf(function());
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Length {
    signature: Signature,
}

impl ScalarUDFImpl for Length {
    fn name(&self) -> &str {
        "interval_length"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(38, 0))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [intervals] = &args.args[..] else { return internal_err!("interval_length has one argument") };
        let is_scalar = matches!(intervals, ColumnarValue::Scalar(_));
        let intervals = intervals.cast_to(&INTERVAL, None)?.into_array(if is_scalar { 1 } else { args.number_rows })?;
        let nanoseconds = |months: i32, days: i32, nanoseconds: i64| {
            const DAY: i128 = 86_400_000_000_000;
            (i128::from(months) * 30 + i128::from(days)) * DAY + i128::from(nanoseconds)
        };
        let lengths: Decimal128Array = intervals
            .as_primitive::<IntervalMonthDayNanoType>()
            .iter()
            .map(|interval| interval.map(|of| nanoseconds(of.months, of.days, of.nanoseconds)))
            .collect();
        let lengths: ArrayRef = Arc::new(lengths.with_precision_and_scale(38, 0)?);
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&lengths, 0)?),
            false => ColumnarValue::Array(lengths),
        })
    }
}
