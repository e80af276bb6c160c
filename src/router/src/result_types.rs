//! Builds statements that return the types of a query's columns, for a query that DataFusion cannot
//! plan.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Query, SelectItem, SetExpr, Statement as SqlStatement, Value, VisitMut, VisitorMut,
};

/// Returns the statement without LIMIT and OFFSET, which do not affect types: DataFusion rejects
/// negative ones.
pub fn without_limits(mut statement: Statement) -> Statement {
    if let Statement::Statement(statement) = &mut statement {
        let _ = statement.visit(&mut Limits);
    }
    statement
}

struct Limits;

impl VisitorMut for Limits {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        (query.limit_clause, query.fetch) = (None, None);
        ControlFlow::Continue(())
    }
}

/// Returns one statement for each column of a SELECT, in which the other columns are NULL: a column
/// that DataFusion cannot compute does not affect the types of the others. `None` stands for plain
/// columns and literals, whose types SQLite and the values determine. The result is empty if the
/// query is not a SELECT of only expressions.
pub fn column_by_column(statement: &Statement) -> Vec<Option<Statement>> {
    let Some(items) = projection(statement) else { return Vec::new() };
    let is_named = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
    if !items.iter().all(is_named) {
        return Vec::new();
    }
    (0..items.len()).map(|at| alone(statement, at)).collect()
}

fn alone(statement: &Statement, wanted: usize) -> Option<Statement> {
    let mut statement = statement.clone();
    let Statement::Statement(inner) = &mut statement else { return None };
    let SqlStatement::Query(query) = &mut **inner else { return None };
    query.order_by = None;
    let SetExpr::Select(select) = &mut *query.body else { return None };
    (select.selection, select.having, select.qualify, select.distinct) = (None, None, None, None);
    for (at, item) in select.projection.iter_mut().enumerate() {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { return None };
        match expr {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) if at == wanted => return None,
            _ if at == wanted => {}
            other => *other = Expr::Value(Value::Null.into()),
        }
    }
    Some(statement)
}

fn projection(statement: &Statement) -> Option<&[SelectItem]> {
    let Statement::Statement(statement) = statement else { return None };
    let SqlStatement::Query(query) = &**statement else { return None };
    match &*query.body {
        SetExpr::Select(select) => Some(&select.projection),
        _ => None,
    }
}
