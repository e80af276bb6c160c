//! Deep statements: parsing, planning, comparing, printing and dropping a tree recurse, and a
//! thread's stack is small.
//!
//! [`check`] bounds the depth of a text before it is parsed, [`balance`] makes trees of long
//! conditions shallow, [`check_relations`] and [`check_plan`] bound what queries and views that are
//! named several times add, and [`on_stack`] and [`Deep`] run the
//! recursion on a stack that is large enough.

mod balance;
mod bound;
mod plan;
mod relations;
mod stack;

use datafusion::common::{DFSchema, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;

use crate::dialect::parse_expression;

pub use balance::{balance, balance_statement};
pub use bound::check;
pub use plan::{PlanSize, check_plan, plan_size, stack_of_expr};
pub use relations::check_relations;
pub use stack::{Deep, THREAD_STACK, on_stack, stack_of_plan, stack_of_text};

/// The expression of a text over columns, its long conditions balanced.
///
/// # Errors
/// Text that is no expression of these columns, or whose tree would be too deep.
pub fn parse_expr(state: &SessionState, text: &str, schema: &DFSchema) -> Result<Expr> {
    on_stack(stack_of_text(text), || {
        let mut parsed = parse_expression(text, &state.config_options().sql_parser)?;
        balance(&mut parsed.expr);
        state.create_logical_expr_from_sql_expr(parsed, schema)
    })
}
