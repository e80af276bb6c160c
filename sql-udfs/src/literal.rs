//! Array literals of numbers, folded while SQL is being planned. Left to the optimizer, each of a
//! query vector's hundreds of components is an expression that every pass visits.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult};

/// Shorter literals are left to DataFusion, with the column names that it gives them.
const FOLDED_LEN: usize = 16;

/// Plans `[0.1, 0.2, ...]` as one literal.
#[derive(Debug)]
pub(crate) struct NumberArrays;

impl ExprPlanner for NumberArrays {
    fn plan_array_literal(&self, exprs: Vec<Expr>, _: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        if exprs.len() < FOLDED_LEN {
            return Ok(PlannerResult::Original(exprs));
        }
        let mut are_integers = true;
        let numbers: Option<Vec<f64>> = exprs
            .iter()
            .map(|expr| match expr {
                Expr::Literal(ScalarValue::Float64(Some(x)), _) => {
                    are_integers = false;
                    Some(*x)
                }
                // Exact in f64, so that the order of the elements' types does not matter.
                Expr::Literal(ScalarValue::Int64(Some(x)), _) if x.unsigned_abs() <= 1 << 53 => Some(*x as f64),
                _ => None,
            })
            .collect();
        Ok(match numbers {
            Some(numbers) if !are_integers => {
                let values: Vec<ScalarValue> = numbers.into_iter().map(ScalarValue::from).collect();
                let list = ScalarValue::new_list_nullable(&values, &DataType::Float64);
                PlannerResult::Planned(Expr::Literal(ScalarValue::List(Arc::clone(&list)), None))
            }
            _ => PlannerResult::Original(exprs),
        })
    }
}
