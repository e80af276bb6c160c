//! Checks arguments in a query's text that are sizes, and rejects those whose allocation would be
//! too large.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;
use vexact_sources::sql_type::MAX_DIMENSION;

/// Centroids of a digest of percentiles.
const MAX_CENTROIDS: i128 = 100_000;

/// Rejects casts to lists of a fixed length that no vector has, and digests of percentiles that are
/// larger than their input.
#[derive(Debug)]
pub(super) struct ArgumentBounds;

impl AnalyzerRule for ArgumentBounds {
    fn name(&self) -> &str {
        "vexact_argument_bounds"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    check(expr)?;
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(plan)
    }
}

fn check(expr: &Expr) -> Result<()> {
    match expr {
        Expr::Cast(cast) => check_type(cast.field.data_type()),
        Expr::TryCast(cast) => check_type(cast.field.data_type()),
        Expr::AggregateFunction(call) if call.func.name().starts_with("approx_percentile_cont") => {
            // The number of centroids is the last argument, after one that is between 0 and 1.
            let centroids = call.params.args.last().and_then(integer);
            match centroids.filter(|count| *count > MAX_CENTROIDS) {
                Some(count) => plan_err!(
                    "{}: number of centroids: expected at most {MAX_CENTROIDS}, got {count}",
                    call.func.name()
                ),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Returns the integer value of an expression.
fn integer(expr: &Expr) -> Option<i128> {
    let value = match expr {
        Expr::Literal(value, _) => value,
        Expr::Cast(cast) => return integer(&cast.expr),
        _ => return None,
    };
    match value {
        ScalarValue::UInt64(Some(value)) => Some(i128::from(*value)),
        other if other.data_type().is_integer() => match other.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(value))) => Some(i128::from(value)),
            _ => None,
        },
        _ => None,
    }
}

/// Rejects a type if one value of it could not be allocated.
pub(super) fn check_type(data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::FixedSizeList(item, length) => {
            if *length > MAX_DIMENSION {
                return plan_err!("expected a list of at most {MAX_DIMENSION} components, got one of {length}");
            }
            check_type(item.data_type())
        }
        DataType::List(item) | DataType::LargeList(item) => check_type(item.data_type()),
        _ => Ok(()),
    }
}
