//! Resolves names in ORDER BY. There, SQLite interprets a name alone as the result's alias, and a
//! name in an expression as the table's column; DataFusion prefers the alias in both.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Ident, OrderByKind, Query, SelectItem, SetExpr, VisitMut, VisitorMut};

use super::names::OlapTable;

/// Qualifies the columns in expressions of ORDER BY that an alias of the SELECT hides.
pub(super) fn qualify_hidden_columns(query: &mut Query, tables: &[(String, OlapTable)]) {
    let (SetExpr::Select(select), Some(order)) = (query.body.as_ref(), query.order_by.as_mut()) else { return };
    let OrderByKind::Expressions(by) = &mut order.kind else { return };
    let hidden: Vec<(Ident, Vec<Ident>)> =
        select.projection.iter().filter_map(|item| hidden_by(item, tables)).collect();
    if hidden.is_empty() {
        return;
    }
    let mut qualifier = Qualifier { hidden, open_queries: 0 };
    for by in by.iter_mut().filter(|by| !matches!(by.expr, Expr::Identifier(_))) {
        let ControlFlow::Continue(()) = by.expr.visit(&mut qualifier);
    }
}

struct Qualifier {
    /// Aliases, with the columns that they hide.
    hidden: Vec<(Ident, Vec<Ident>)>,
    /// A subquery has names of its own.
    open_queries: usize,
}

impl VisitorMut for Qualifier {
    type Break = std::convert::Infallible;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.open_queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.open_queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if let (Expr::Identifier(ident), 0) = (&*expr, self.open_queries)
            && let Some((_, column)) =
                self.hidden.iter().find(|(alias, _)| alias.value.eq_ignore_ascii_case(&ident.value))
        {
            *expr = Expr::CompoundIdentifier(column.clone());
        }
        ControlFlow::Continue(())
    }
}

/// Returns the alias of an item and the qualified column that it hides, if exactly one table has
/// such a column.
fn hidden_by(item: &SelectItem, tables: &[(String, OlapTable)]) -> Option<(Ident, Vec<Ident>)> {
    let SelectItem::ExprWithAlias { expr, alias } = item else { return None };
    let is_itself = match expr {
        Expr::Identifier(ident) => ident.value.eq_ignore_ascii_case(&alias.value),
        Expr::CompoundIdentifier(parts) => {
            parts.last().is_some_and(|ident| ident.value.eq_ignore_ascii_case(&alias.value))
        }
        _ => false,
    };
    let mut columns = tables.iter().filter_map(|(name, table)| Some((name, table.column(&alias.value)?)));
    match (is_itself, columns.next(), columns.next()) {
        (false, Some((table, column)), None) => {
            Some((alias.clone(), vec![Ident::with_quote('"', table), Ident::with_quote('"', column)]))
        }
        _ => None,
    }
}
