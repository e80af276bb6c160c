//! Functions whose arguments determine the size of their result: they check it before they allocate
//! memory for it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, resources_datafusion_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};

use super::argument_bounds::check_type;

/// An upper bound of the bytes of one row's result, by the values of the arguments in it.
type RowSize = fn(&[Value<'_>]) -> u128;

/// Lets the functions of a session whose result can be of any size check it.
///
/// # Errors
/// Functions that cannot be registered.
pub(super) fn bound_functions(registry: &mut dyn FunctionRegistry, limit: usize) -> Result<()> {
    for (name, size) in SIZED {
        // A missing name belongs to a feature that is disabled.
        let Ok(inner) = registry.udf(name) else { continue };
        registry.register_udf(Arc::new(ScalarUDF::new_from_impl(Bounded { inner, size: *size, limit })))?;
    }
    Ok(())
}

const SIZED: &[(&str, RowSize)] = &[
    ("repeat", |row| text(row, 0) * count(row, 1)),
    ("lpad", padded),
    ("rpad", padded),
    ("replace", replaced),
    ("array_repeat", |row| count(row, 1) * width(row, 0)),
    ("array_resize", |row| count(row, 1) * 16 + width(row, 0)),
    ("range", series),
    ("generate_series", series),
    // Their text names a type.
    ("arrow_cast", |_| 0),
    ("arrow_try_cast", |_| 0),
];

/// The value of an argument in a row.
struct Value<'a> {
    array: &'a ArrayRef,
    row: usize,
}

impl Value<'_> {
    fn row(&self) -> usize {
        if self.array.len() == 1 { 0 } else { self.row }
    }

    fn integer(&self) -> Option<i128> {
        let row = self.row();
        if self.array.is_null(row) {
            return None;
        }
        match self.array.data_type() {
            DataType::Int64 => Some(i128::from(self.array.as_primitive::<Int64Type>().value(row))),
            DataType::UInt64 => Some(i128::from(self.array.as_primitive::<arrow::datatypes::UInt64Type>().value(row))),
            other if other.is_integer() => {
                let value = cast(&self.array.slice(row, 1), &DataType::Int64).ok()?;
                Some(i128::from(value.as_primitive::<Int64Type>().value(0)))
            }
            _ => None,
        }
    }

    fn text(&self) -> Option<&str> {
        let row = self.row();
        if self.array.is_null(row) {
            return None;
        }
        match self.array.data_type() {
            DataType::Utf8 => Some(self.array.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => Some(self.array.as_string::<i64>().value(row)),
            DataType::Utf8View => Some(self.array.as_string_view().value(row)),
            _ => None,
        }
    }

    /// Nanoseconds of a time, a date or an interval.
    fn nanoseconds(&self) -> Option<i128> {
        const DAY: i128 = 86_400_000_000_000;
        let value = ScalarValue::try_from_array(self.array, self.row()).ok()?;
        Some(match value {
            ScalarValue::Date32(Some(days)) => i128::from(days) * DAY,
            ScalarValue::IntervalMonthDayNano(Some(step)) => {
                (i128::from(step.months) * 28 + i128::from(step.days)) * DAY + i128::from(step.nanoseconds)
            }
            ScalarValue::TimestampSecond(Some(at), _) => i128::from(at) * 1_000_000_000,
            ScalarValue::TimestampMillisecond(Some(at), _) => i128::from(at) * 1_000_000,
            ScalarValue::TimestampMicrosecond(Some(at), _) => i128::from(at) * 1000,
            ScalarValue::TimestampNanosecond(Some(at), _) => i128::from(at),
            _ => return None,
        })
    }
}

fn text(row: &[Value<'_>], at: usize) -> u128 {
    row.get(at).and_then(Value::text).map_or(0, |text| text.len() as u128)
}

fn count(row: &[Value<'_>], at: usize) -> u128 {
    row.get(at).and_then(Value::integer).map_or(0, |count| count.max(0).unsigned_abs())
}

/// Returns the size of a value as an item of a list, in bytes.
fn width(row: &[Value<'_>], at: usize) -> u128 {
    let Some(value) = row.get(at) else { return 0 };
    let bytes = value.array.slice(value.row(), 1).to_data().get_slice_memory_size().unwrap_or(0);
    (bytes as u128).max(1)
}

fn padded(row: &[Value<'_>]) -> u128 {
    let fill = row.get(2).and_then(Value::text).unwrap_or(" ");
    let widest = fill.chars().map(char::len_utf8).max().unwrap_or(1);
    count(row, 1) * widest as u128
}

fn replaced(row: &[Value<'_>]) -> u128 {
    let (Some(text), Some(from), Some(to)) =
        (row.first().and_then(Value::text), row.get(1).and_then(Value::text), row.get(2).and_then(Value::text))
    else {
        return 0;
    };
    // Most replacements are no longer than the replaced text; the others are counted.
    match to.len() > from.len() && !text.is_empty() {
        true => text.matches(from).count() as u128 * to.len() as u128 + text.len() as u128,
        false => text.len() as u128,
    }
}

fn series(row: &[Value<'_>]) -> u128 {
    let span = |start: i128, stop: i128, step: i128| match step {
        0 => 0,
        step => (stop.saturating_sub(start) / step).max(0).unsigned_abs() * 8,
    };
    match row {
        [stop] => span(0, stop.integer().unwrap_or(0), 1),
        [start, stop, step @ ..] => match (start.integer(), stop.integer()) {
            (Some(start), Some(stop)) => span(start, stop, step.first().map_or(Some(1), Value::integer).unwrap_or(1)),
            _ => match (start.nanoseconds(), stop.nanoseconds(), step.first().and_then(Value::nanoseconds)) {
                (Some(start), Some(stop), Some(step)) => span(start, stop, step),
                _ => 0,
            },
        },
        [] => 0,
    }
}

/// A function that checks the size of its result.
#[derive(Debug, Clone)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    size: RowSize,
    limit: usize,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner && self.limit == other.limit
    }
}

impl Eq for Bounded {}

impl std::hash::Hash for Bounded {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl Bounded {
    fn check(&self, arguments: &ScalarFunctionArgs) -> Result<()> {
        // Only arguments of one length can be combined; a constant is checked once.
        let is_constant = arguments.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let arrays: Vec<ArrayRef> = arguments
            .args
            .iter()
            .map(|argument| match argument {
                ColumnarValue::Scalar(value) => value.to_array_of_size(1),
                ColumnarValue::Array(array) => Ok(Arc::clone(array)),
            })
            .collect::<Result<_>>()?;
        let rows = if is_constant { 1 } else { arguments.number_rows };
        let (mut bytes, limit) = (0_u128, self.limit as u128);
        for row in 0..rows {
            let values: Vec<Value<'_>> = arrays.iter().map(|array| Value { array, row }).collect();
            bytes = bytes.saturating_add((self.size)(&values));
            if bytes > limit {
                let name = self.inner.name();
                return Err(resources_datafusion_err!(
                    "{name}: expected results of at most {limit} bytes, the memory limit of the session, got {bytes} or more"
                ));
            }
        }
        Ok(())
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.inner().aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.inner().schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.inner().signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = self.inner.inner().return_field_from_args(args)?;
        check_type(field.data_type())?;
        Ok(field)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = Arc::new(self.inner.inner().with_updated_config(config)?);
        Some(ScalarUDF::new_from_impl(Self { inner, ..self.clone() }))
    }

    fn is_strict(&self) -> bool {
        self.inner.inner().is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args)?;
        self.inner.inner().invoke_with_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.inner().simplify(args, info)
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        self.inner.inner().preimage(args, literal, info)
    }

    fn short_circuits(&self) -> bool {
        self.inner.inner().short_circuits()
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.inner().conditional_arguments(args)
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.inner.inner().evaluate_bounds(inputs)
    }

    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.inner.inner().propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.inner().output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.inner().preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.inner().strictly_order_preserving(inputs)
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.inner.inner().placement(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.inner().documentation()
    }
}
