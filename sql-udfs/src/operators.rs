//! pgvector's operators on vectors: `a <-> b` is `l2_distance(a, b)`, `a <=> b` is
//! `cosine_distance(a, b)`, `a <#> b` is `-inner_product(a, b)`.

use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::dialect::{L2, NEGATIVE_INNER_PRODUCT};
use crate::functions::{Distance, Function};
use crate::vector::is_list_of_numbers;

/// Plans the operators as calls of the distance functions.
#[derive(Debug)]
pub(crate) struct VectorOperators;

impl ExprPlanner for VectorOperators {
    /// `<=>` is SQL's comparison that knows NULL, unless a side of it is a list of numbers: a
    /// comparison of vectors for equality would sort by a bool where pgvector's users expect a
    /// distance.
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let is_vector = |side: &Expr| side.get_type(schema).is_ok_and(|data_type| is_list_of_numbers(&data_type));
        let (function, is_negated) = match &expr.op {
            BinaryOperator::LtDashGt => (Function::L2Distance, false),
            BinaryOperator::Custom(name) if name == L2 => (Function::L2Distance, false),
            BinaryOperator::Custom(name) if name == NEGATIVE_INNER_PRODUCT => (Function::InnerProduct, true),
            BinaryOperator::Spaceship if is_vector(&expr.left) || is_vector(&expr.right) => {
                (Function::CosineDistance, false)
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let distance = ScalarUDF::from(Distance::new(function)).call(vec![expr.left, expr.right]);
        Ok(PlannerResult::Planned(if is_negated { Expr::Negative(Box::new(distance)) } else { distance }))
    }
}
