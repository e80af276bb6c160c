//! Expressions that another process can evaluate.

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::functions::BoundDistance;
use crate::rewrite::WithinRadius;

/// Replaces the expressions that exist only in this process by those that they were made from: a
/// distance with a bound query by the distance to a literal, a range search by its comparison.
///
/// # Errors
/// None at present.
pub fn portable(expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let replaced = expr.transform_down(|expr| {
        if let Some(within) = expr.downcast_ref::<WithinRadius>() {
            return Ok(Transformed::yes(Arc::clone(within.original())));
        }
        let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() else { return Ok(Transformed::no(expr)) };
        let Some(bound) = call.fun().inner().downcast_ref::<BoundDistance>() else { return Ok(Transformed::no(expr)) };
        let mut args = call.args().to_vec();
        args.push(Arc::new(Literal::new(bound.query.clone())));
        let function = Arc::clone(&bound.function);
        let name = function.name().to_owned();
        let field = Arc::new(Field::new(&name, call.return_type().clone(), call.nullable()));
        let options = Arc::new(call.config_options().clone());
        Ok(Transformed::yes(Arc::new(ScalarFunctionExpr::new(&name, function, args, field, options))))
    })?;
    Ok(replaced.data)
}
