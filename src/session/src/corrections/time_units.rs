//! Compares times of day of different units, for which DataFusion has no common type.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, cast};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite::{compared, compared_mut, rewrite_exprs};

/// Casts the times of such comparisons to nanoseconds. It runs before type coercion.
#[derive(Debug)]
pub(super) struct TimesOfOneUnit;

impl AnalyzerRule for TimesOfOneUnit {
    fn name(&self) -> &str {
        "vexact_times_of_one_unit"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_exprs(plan, |expr| !compared(expr).is_empty(), of_one_unit)
    }
}

fn of_one_unit(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let units: Vec<DataType> = compared(&expr).into_iter().filter_map(|value| time(value, schema)).collect();
    if units.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(Transformed::no(expr));
    }
    for value in compared_mut(&mut expr) {
        if time(value, schema).is_some() {
            *value = cast(std::mem::take(value), DataType::Time64(TimeUnit::Nanosecond));
        }
    }
    Ok(Transformed::yes(expr))
}

fn time(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    let is_time = |data_type: &DataType| matches!(data_type, DataType::Time32(_) | DataType::Time64(_));
    expr.get_type(schema).ok().filter(is_time)
}
