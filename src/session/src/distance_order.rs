//! Sorts NULLs last in a sort by distance, even if other NULLs come first, as in SQLite: a row
//! without a vector is not the nearest one.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArgumentClause, FunctionArguments, NamedWindowExpr, OrderByExpr, OrderByKind, Query, Select,
    SelectItem, SetExpr, Value, Visit, VisitMut, Visitor, VisitorMut, WindowType,
};

use super::vector_syntax::{self, function_name};

/// Adds NULLS LAST to each ascending sort by a distance that does not specify the position of
/// NULLs. A column is a distance if it has such a name in the statement: `cosine_distance(v, $1) AS
/// d`.
pub(super) fn nulls_last(statement: &mut Statement) {
    match statement {
        Statement::Explain(explain) => nulls_last(&mut explain.statement),
        Statement::Statement(statement) => {
            let mut named = Named::default();
            // A name may refer to another one that is found later.
            loop {
                let known = named.0.len();
                let _ = Visit::visit(statement.as_ref(), &mut named);
                if named.0.len() == known {
                    break;
                }
            }
            let _ = VisitMut::visit(statement.as_mut(), &mut Sorts(named.0));
        }
        _ => {}
    }
}

fn is_score(expr: &Expr, named: &HashSet<String>) -> bool {
    struct Scores<'a>(&'a HashSet<String>);
    impl Visitor for Scores<'_> {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let is_named = |name: &str| self.0.contains(&name.to_ascii_lowercase());
            let is_score = match expr {
                Expr::Function(function) => function_name(&function.name).is_some_and(vector_syntax::is_score),
                Expr::Identifier(name) => is_named(&name.value),
                Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|name| is_named(&name.value)),
                _ => false,
            };
            if is_score { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    expr.visit(&mut Scores(named)).is_break()
}

/// The names that are given to distances, in lower case.
#[derive(Default)]
struct Named(HashSet<String>);

impl Visitor for Named {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { expr, alias } = item
                && is_score(expr, &self.0)
            {
                self.0.insert(alias.value.to_ascii_lowercase());
            }
        }
        ControlFlow::Continue(())
    }
}

struct Sorts(HashSet<String>);

impl Sorts {
    fn mark(&self, by: &mut [OrderByExpr], is_score: impl Fn(&Expr) -> bool) {
        for by in by {
            let options = &mut by.options;
            if options.nulls_first.is_none() && options.asc != Some(false) && is_score(&by.expr) {
                options.nulls_first = Some(false);
            }
        }
    }
}

impl VisitorMut for Sorts {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let Query { body, order_by, .. } = query;
        if let Some(OrderByKind::Expressions(by)) = order_by.as_mut().map(|order| &mut order.kind) {
            let results = first_select(body).map(|select| select.projection.as_slice()).unwrap_or_default();
            self.mark(by, |expr| match result(expr, results) {
                Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => is_score(expr, &self.0),
                _ => is_score(expr, &self.0),
            });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for window in &mut select.named_window {
            if let NamedWindowExpr::WindowSpec(window) = &mut window.1 {
                self.mark(&mut window.order_by, |expr| is_score(expr, &self.0));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            if let Some(WindowType::WindowSpec(window)) = &mut function.over {
                self.mark(&mut window.order_by, |expr| is_score(expr, &self.0));
            }
            self.mark(&mut function.within_group, |expr| is_score(expr, &self.0));
            if let FunctionArguments::List(list) = &mut function.args {
                for clause in &mut list.clauses {
                    if let FunctionArgumentClause::OrderBy(by) = clause {
                        self.mark(by, |expr| is_score(expr, &self.0));
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }
}

fn first_select(body: &SetExpr) -> Option<&Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::SetOperation { left, .. } => first_select(left),
        SetExpr::Query(query) => first_select(&query.body),
        _ => None,
    }
}

/// Returns the result column that `ORDER BY 2` refers to.
fn result<'a>(by: &Expr, results: &'a [SelectItem]) -> Option<&'a SelectItem> {
    let Expr::Value(value) = by else { return None };
    let Value::Number(number, _) = &value.value else { return None };
    results.get(number.to_string().parse::<usize>().ok()?.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn sorted(sql: &str) -> String {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        nulls_last(&mut statement);
        statement.to_string()
    }

    #[test]
    fn an_ascending_sort_by_a_distance_has_its_nulls_last() {
        for sql in [
            "SELECT id FROM t ORDER BY cosine_distance(v, $1)",
            "SELECT id, L2_Distance(v, $1) AS d FROM t ORDER BY D",
            "SELECT id, l2_distance(v, $1) FROM t ORDER BY 2",
            "SELECT id FROM t ORDER BY -inner_product(v, $1) LIMIT 3",
            "SELECT * FROM (SELECT id, 1 - cosine_similarity(v, $1) AS d FROM t) AS s ORDER BY s.d ASC",
            "WITH a AS (SELECT b.e AS f FROM (SELECT l2_distance(v, $1) AS e FROM t) AS b) SELECT f FROM a ORDER BY f",
            "SELECT id, l2_distance(v, $1) AS d FROM t UNION ALL SELECT id, 0 FROM u ORDER BY d",
        ] {
            let got = sorted(sql);
            assert_eq!(got.matches("NULLS LAST").count(), 1, "{got}");
        }
        let window = sorted("SELECT row_number() OVER (ORDER BY l2_distance(v, $1)) FROM t ORDER BY id");
        assert!(window.contains("$1) NULLS LAST)") && !window.contains("id NULLS"), "{window}");
        let explain = sorted("EXPLAIN SELECT id FROM t ORDER BY l2_distance(v, $1)");
        assert!(explain.ends_with("NULLS LAST"), "{explain}");
    }

    #[test]
    fn other_sorts_stay_as_they_are() {
        for sql in [
            "SELECT id FROM t ORDER BY weight",
            "SELECT id FROM t ORDER BY cosine_distance(v, $1) NULLS FIRST",
            "SELECT id FROM t ORDER BY cosine_similarity(v, $1) DESC",
            "SELECT id, cosine_distance(v, $1) AS d FROM t ORDER BY id",
            "SELECT id, 'cosine_distance(v, $1)' AS d FROM t ORDER BY d",
        ] {
            assert!(!sorted(sql).contains("NULLS LAST"), "{}", sorted(sql));
        }
    }
}
