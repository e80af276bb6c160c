//! Expressions of the corrections for another process, which evaluates them and does not optimize
//! them.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::opaque::plain;
use super::statistics::Unanalyzed;

/// Replaces the expressions that exist only in this process by those that they were made from.
///
/// # Errors
/// None at present.
pub fn portable(expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let replaced = vexact_sql::portable(expr)?.transform_up(|expr| {
        if let Some(unanalyzed) = expr.downcast_ref::<Unanalyzed>() {
            return Ok(Transformed::yes(Arc::clone(&unanalyzed.0)));
        }
        Ok(match expr.downcast_ref::<ScalarFunctionExpr>().and_then(plain) {
            Some(plain) => Transformed::yes(plain),
            None => Transformed::no(expr),
        })
    })?;
    Ok(replaced.data)
}
