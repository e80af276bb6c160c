//! Gives `round` of decimals the same type during planning and execution.
//!
//! DataFusion gives the result the scale of the second argument if that is a literal, and it may
//! become a literal, or stop being one, during type coercion and simplification. So the number of
//! places is stored in the function.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err};
use datafusion::functions::math::round::RoundFunc;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite::rewrite_exprs;

/// Stores the number of places in the function. It runs before type coercion.
#[derive(Debug)]
pub(super) struct RoundToPlaces;

impl AnalyzerRule for RoundToPlaces {
    fn name(&self) -> &str {
        "vexact_round_to_places"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let is_candidate = |expr: &Expr| matches!(expr, Expr::ScalarFunction(call) if is_round(call));
        rewrite_exprs(plan, is_candidate, |expr, schema| {
            Ok(match expr {
                Expr::ScalarFunction(call) if is_round(&call) && is_of_decimal(&call, schema) => {
                    Transformed::yes(RoundTo::of(call))
                }
                other => Transformed::no(other),
            })
        })
    }
}

fn is_round(call: &ScalarFunction) -> bool {
    call.args.len() == 2 && call.func.inner().is::<RoundFunc>()
}

fn is_of_decimal(call: &ScalarFunction, schema: &DFSchema) -> bool {
    call.args[0].get_type(schema).is_ok_and(|number| number.is_decimal())
}

/// `round` to a fixed number of places.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RoundTo {
    /// Number of decimal places; `None` if the second argument gives it for each row.
    places: Option<i32>,
    round: Arc<ScalarUDF>,
}

impl RoundTo {
    fn of(call: ScalarFunction) -> Expr {
        let ScalarFunction { func, mut args } = call;
        let places = match &args[1] {
            Expr::Literal(value, _) => match value.cast_to(&DataType::Int32) {
                Ok(ScalarValue::Int32(places)) => places,
                _ => None,
            },
            _ => None,
        };
        if places.is_some() {
            args.truncate(1);
        }
        ScalarUDF::from(Self { places, round: func }).call(args)
    }
}

impl ScalarUDFImpl for RoundTo {
    fn name(&self) -> &str {
        self.round.name()
    }

    fn signature(&self) -> &Signature {
        self.round.signature()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type depends on the arguments")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let value = self.places.map(|places| ScalarValue::Int32(Some(places)));
        let places: FieldRef = Arc::new(Field::new("places", DataType::Int32, false));
        let fields = [Arc::clone(&args.arg_fields[0]), args.arg_fields.get(1).map_or(places, Arc::clone)];
        self.round.return_field_from_args(ReturnFieldArgs {
            arg_fields: &fields,
            scalar_arguments: &[args.scalar_arguments[0], value.as_ref()],
        })
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        match self.places {
            Some(places) => {
                args.args.push(ColumnarValue::Scalar(ScalarValue::Int32(Some(places))));
                args.arg_fields.push(Arc::new(Field::new("places", DataType::Int32, false)));
            }
            // With an array, the scale does not change.
            None => {
                let arrays = args.args.iter().map(|argument| argument.to_array(rows).map(ColumnarValue::Array));
                args.args = arrays.collect::<Result<_>>()?;
            }
        }
        self.round.invoke_with_args(args)
    }
}
