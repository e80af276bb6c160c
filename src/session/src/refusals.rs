//! Handles statements at which DataFusion's planner panics: those without a meaning are rejected,
//! the others are rewritten.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, OrderByKind, Query, SetExpr, VisitMut, VisitorMut};
use vexact_core::error::{Error, Result};

/// Rewrites a statement so that it can be planned.
///
/// # Errors
/// A subquery without columns as a value.
pub(super) fn plannable(statement: &mut Statement) -> Result<()> {
    match statement {
        Statement::Statement(inner) => match inner.visit(&mut Plannable) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(problem) => Err(Error::InvalidArgument(problem.into())),
        },
        Statement::Explain(explain) => plannable(&mut explain.statement),
        Statement::CopyTo(_) | Statement::CreateExternalTable(_) | Statement::Reset(_) => Ok(()),
    }
}

struct Plannable;

impl VisitorMut for Plannable {
    type Break = &'static str;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        let subquery = match expr {
            Expr::Subquery(query) => query,
            Expr::InSubquery { subquery, .. } => subquery,
            _ => return ControlFlow::Continue(()),
        };
        match has_no_column(&subquery.body) {
            true => ControlFlow::Break("a subquery as a value: expected one column, got none"),
            false => ControlFlow::Continue(()),
        }
    }

    /// Removes duplicate keys from ORDER BY: they have no effect on the order, and DISTINCT ON
    /// miscounts them.
    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        if let Some(order) = &mut query.order_by
            && let OrderByKind::Expressions(keys) = &mut order.kind
        {
            let mut before: Vec<Expr> = Vec::new();
            keys.retain(|key| {
                let is_new = !before.contains(&key.expr);
                before.push(key.expr.clone());
                is_new || key.with_fill.is_some()
            });
        }
        ControlFlow::Continue(())
    }
}

fn has_no_column(mut body: &SetExpr) -> bool {
    loop {
        match body {
            SetExpr::Select(select) => return select.projection.is_empty(),
            SetExpr::Query(query) => body = &query.body,
            SetExpr::SetOperation { left, .. } => body = left,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn written(sql: &str) -> Result<String> {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        plannable(&mut statement)?;
        Ok(statement.to_string())
    }

    #[test]
    fn a_key_stands_once_in_order_by() {
        for (sql, expected) in [
            ("SELECT a FROM t ORDER BY a, b, a DESC, b", "SELECT a FROM t ORDER BY a, b"),
            ("SELECT a FROM t ORDER BY a + 1, a", "SELECT a FROM t ORDER BY a + 1, a"),
        ] {
            assert_eq!(written(sql).unwrap(), expected);
        }
    }

    #[test]
    fn a_value_has_a_column() {
        for sql in
            ["SELECT (SELECT FROM t)", "SELECT 1 IN (SELECT FROM t)", "EXPLAIN SELECT (SELECT FROM t UNION SELECT 1)"]
        {
            assert!(written(sql).unwrap_err().to_string().contains("expected one column, got none"), "{sql}");
        }
        assert!(written("SELECT EXISTS (SELECT FROM t)").is_ok());
    }
}
