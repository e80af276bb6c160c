//! Bounds what `coalesce` becomes.
//!
//! DataFusion replaces `coalesce(a, b)` by `CASE WHEN a IS NOT NULL THEN a ELSE b END`. So calls
//! within first arguments double at each level, and a volatile argument is evaluated twice: a value
//! that was not NULL may be NULL then.

use arrow::array::Array;
use arrow::compute::is_not_null;
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::functions::core::coalesce::CoalesceFunc;
use datafusion::functions::core::nvl::NVLFunc;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite::rewrite_exprs;

/// Maximum number of terms of an expression once its calls of `coalesce` are replaced.
const MAX_TERMS: usize = 50_000;

/// Makes one call of nested ones, and rejects what would be too large. It runs after type coercion.
#[derive(Debug)]
pub(super) struct BoundedCoalesce;

impl AnalyzerRule for BoundedCoalesce {
    fn name(&self) -> &str {
        "vexact_bounded_coalesce"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_exprs(
            plan,
            |expr| coalesce(expr).is_some(),
            |expr, _| {
                if coalesce(&expr).is_none() {
                    return Ok(Transformed::no(expr));
                }
                let flat = flattened(expr);
                let terms = terms(&flat)?;
                if terms > MAX_TERMS {
                    return plan_err!(
                        "coalesce: expected calls within its first arguments that become at most {MAX_TERMS} terms, \
                         got {terms}"
                    );
                }
                Ok(Transformed::yes(flat))
            },
        )
    }
}

/// A call of `coalesce`, or of `nvl`, which becomes the same.
fn coalesce(expr: &Expr) -> Option<&ScalarFunction> {
    match expr {
        Expr::ScalarFunction(call) if is_coalesce(call) => Some(call),
        _ => None,
    }
}

fn is_coalesce(call: &ScalarFunction) -> bool {
    let function = call.func.inner();
    function.is::<CoalesceFunc>() || function.is::<NVLFunc>()
}

/// `coalesce(coalesce(a, b), c)` as `coalesce(a, b, c)`. Its arguments are flat already.
fn flattened(expr: Expr) -> Expr {
    let Expr::ScalarFunction(ScalarFunction { args, .. }) = expr else { return expr };
    let mut flat = Vec::with_capacity(args.len());
    for argument in args {
        match argument {
            Expr::ScalarFunction(inner) if is_coalesce(&inner) => flat.extend(inner.args),
            other => flat.push(other),
        }
    }
    let is_twice = flat.split_last().is_some_and(|(_, tested)| tested.iter().any(Expr::is_volatile));
    match is_twice {
        true => ScalarUDF::from(EagerCoalesce { signature: Signature::variadic_any(Volatility::Volatile) }).call(flat),
        false => datafusion::functions::core::coalesce().call(flat),
    }
}

/// The terms of an expression once DataFusion has replaced its calls of `coalesce`.
fn terms(expr: &Expr) -> Result<usize> {
    let mut sum = 1_usize;
    let tested = coalesce(expr).map_or(0, |call| call.args.len().saturating_sub(1));
    let mut at = 0;
    expr.apply_children(|child| {
        let of_child = terms(child)?;
        sum = sum.saturating_add(of_child.saturating_mul(if at < tested { 2 } else { 1 }));
        at += 1;
        // Large enough to be rejected.
        Ok(if sum > MAX_TERMS { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(sum)
}

/// `coalesce` that evaluates each of its arguments once, for all rows.
#[derive(Debug, PartialEq, Eq, Hash)]
struct EagerCoalesce {
    signature: Signature,
}

impl ScalarUDFImpl for EagerCoalesce {
    fn name(&self) -> &str {
        "coalesce"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type depends on the arguments")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        CoalesceFunc::new().return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let mut arrays = args.args.iter().map(|argument| argument.to_array(rows));
        let mut found = match arrays.next() {
            Some(first) => first?,
            None => return internal_err!("coalesce has an argument"),
        };
        for array in arrays {
            if found.logical_null_count() == 0 {
                break;
            }
            found = zip(&is_not_null(&found)?, &found, &array?)?;
        }
        Ok(ColumnarValue::Array(found))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::functions::core::expr_fn::coalesce;
    use datafusion::logical_expr::{col, lit};
    use datafusion::prelude::random;

    use super::*;

    #[test]
    fn nested_calls_become_one() {
        let mut nested = col("a");
        for at in 0..100 {
            nested = flattened(coalesce(vec![nested, lit(at)]));
        }
        assert_eq!(terms(&nested).unwrap(), 1 + 2 * 100 + 1);
    }

    #[test]
    fn calls_within_other_functions_double() {
        let mut nested = col("a");
        for _ in 0..10 {
            nested = coalesce(vec![-nested, lit(1)]);
        }
        let expected = (0..10).fold(1, |terms, _| 1 + 2 * (terms + 1) + 1);
        assert_eq!(terms(&nested).unwrap(), expected);
        for _ in 0..90 {
            nested = coalesce(vec![-nested, lit(1)]);
        }
        assert!(terms(&nested).unwrap() > MAX_TERMS);
    }

    #[test]
    fn a_volatile_argument_is_evaluated_once() {
        let Expr::ScalarFunction(call) = flattened(coalesce(vec![random(), lit(1.0)])) else { panic!() };
        assert!(call.func.inner().is::<EagerCoalesce>());
        let Expr::ScalarFunction(call) = flattened(coalesce(vec![col("a"), random()])) else { panic!() };
        assert!(call.func.inner().is::<CoalesceFunc>());
    }
}
