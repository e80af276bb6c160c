//! Statements whose planning doubles at each level of nesting: DataFusion computes the type of an
//! aliased expression twice, and that of a lambda's body twice.

use std::ops::ControlFlow;

use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Ident, ObjectNamePart, VisitMut, VisitorMut};
use vexact_core::error::{Error, Result};

/// Calls within each other from which on they take the function's own name. DataFusion gives a
/// call by another name of the function (`pow` for `power`) an alias.
const ALIASED_CALLS: usize = 8;

/// Maximum number of lambdas within each other.
const MAX_LAMBDAS: usize = 12;

/// Bounds the work of planning a statement.
///
/// # Errors
/// More lambdas within each other than the limit.
pub(super) fn bound_nested_calls(statement: &mut Statement, state: &SessionState) -> Result<()> {
    match statement {
        Statement::Statement(inner) => {
            let mut nested = Nested { state, calls: 0, lambdas: 0 };
            match inner.visit(&mut nested) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(lambdas) => Err(Error::InvalidArgument(format!(
                    "expected at most {MAX_LAMBDAS} lambdas within each other, got {lambdas}"
                ))),
            }
        }
        Statement::Explain(explain) => bound_nested_calls(&mut explain.statement, state),
        Statement::CopyTo(_) | Statement::CreateExternalTable(_) | Statement::Reset(_) => Ok(()),
    }
}

struct Nested<'s> {
    state: &'s SessionState,
    /// Calls around the current expression, itself included.
    calls: usize,
    lambdas: usize,
}

impl VisitorMut for Nested<'_> {
    type Break = usize;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<usize> {
        match expr {
            Expr::Function(call) => {
                self.calls += 1;
                if self.calls > ALIASED_CALLS
                    && let [ObjectNamePart::Identifier(name)] = &mut call.name.0[..]
                {
                    self.use_own_name(name);
                }
            }
            Expr::Lambda(_) => {
                self.lambdas += 1;
                if self.lambdas > MAX_LAMBDAS {
                    return ControlFlow::Break(self.lambdas);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<usize> {
        match expr {
            Expr::Function(_) => self.calls -= 1,
            Expr::Lambda(_) => self.lambdas -= 1,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Nested<'_> {
    fn use_own_name(&self, name: &mut Ident) {
        let functions = self.state.scalar_functions();
        let called = match name.quote_style {
            Some(_) => name.value.clone(),
            None => name.value.to_ascii_lowercase(),
        };
        if let Some(function) = functions.get(&called)
            && function.name() != called
            && functions.get(function.name()) == Some(function)
        {
            *name = Ident::with_quote('"', function.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;
    use vexact_sql::dialect::parse_statement;

    use super::*;

    fn bounded(sql: &str) -> Result<String> {
        let mut statement = parse_statement(sql, &Default::default()).unwrap();
        bound_nested_calls(&mut statement, &SessionContext::new().state())?;
        Ok(statement.to_string())
    }

    #[test]
    fn inner_calls_take_the_own_name_of_their_function() {
        let pow = |depth: usize| format!("SELECT {}x{} FROM t", "pow(".repeat(depth), ", 2)".repeat(depth));
        assert_eq!(bounded(&pow(8)).unwrap(), pow(8));
        let expected = pow(10).replacen(&"pow(".repeat(10), &("pow(".repeat(8) + &"\"power\"(".repeat(2)), 1);
        assert_eq!(bounded(&pow(10)).unwrap(), expected);
        let other = format!("SELECT {}x{} FROM t", "unknown(".repeat(10), ")".repeat(10));
        assert_eq!(bounded(&other).unwrap(), other);
    }

    #[test]
    fn too_many_lambdas_are_rejected() {
        let nested =
            |depth: usize| format!("SELECT {}1{}", "array_transform([1], x -> ".repeat(depth), ")".repeat(depth));
        assert!(bounded(&nested(12)).is_ok());
        let problem = bounded(&nested(13)).unwrap_err().to_string();
        assert!(problem.contains("expected at most 12 lambdas within each other, got 13"), "{problem}");
    }
}
