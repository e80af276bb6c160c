//! The columns of a SELECT over joins with USING, and their values.

use std::ops::ControlFlow;

use datafusion::common::{Result, not_impl_err, plan_err};
use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, Query, Select, SelectItem, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

/// The columns of joins.
#[derive(Default)]
pub(super) struct Scope {
    /// The columns of `*`, each with its value.
    pub columns: Vec<(String, Expr)>,
    /// Names of merged columns.
    pub merged: Vec<String>,
}

impl Scope {
    /// Returns the value of the only column of a name.
    ///
    /// # Errors
    /// None or several of that name.
    pub fn column(&self, name: &str) -> Result<Expr> {
        let mut found = self.columns.iter().filter(|(column, _)| column == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(value.clone()),
            (None, _) => plan_err!("column {name:?} of USING: expected a column of both sides, got none of that name"),
            (Some(_), Some(_)) => plan_err!("column {name:?} of USING is ambiguous: expected one on each side"),
        }
    }

    /// Returns the value of a merged column; `None` for any other name.
    fn merged(&self, name: &Ident) -> Option<Expr> {
        let name = spelled(name);
        self.merged.contains(&name).then(|| self.column(&name).ok()).flatten()
    }

    /// Replaces the merged columns, and `*`, in a SELECT and the keys of its ORDER BY.
    ///
    /// # Errors
    /// `*` with options.
    pub fn replace_in(&self, select: &mut Select, order: &mut [&mut Expr]) -> Result<()> {
        let mut projection = vec![];
        for item in std::mem::take(&mut select.projection) {
            match item {
                SelectItem::Wildcard(options) if options == WildcardAdditionalOptions::default() => {
                    projection.extend(self.columns.iter().map(|(name, value)| self.item(name, value)));
                }
                SelectItem::Wildcard(_) => {
                    return not_impl_err!("* with options over a join with USING is not planned: name the columns");
                }
                SelectItem::UnnamedExpr(Expr::Identifier(name)) if self.merged(&name).is_some() => {
                    let alias = Ident::with_quote('"', spelled(&name));
                    let expr = self.merged(&name).unwrap_or(Expr::Identifier(name));
                    projection.push(SelectItem::ExprWithAlias { expr, alias });
                }
                SelectItem::UnnamedExpr(mut expr) => {
                    let written = expr.to_string();
                    projection.push(match self.replace(&mut expr) {
                        true => SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', written) },
                        false => SelectItem::UnnamedExpr(expr),
                    });
                }
                mut other => {
                    self.replace(&mut other);
                    projection.push(other);
                }
            }
        }
        let is_output = |name: &Ident| {
            projection.iter().any(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => spelled(alias) == spelled(name),
                _ => false,
            })
        };
        for key in order {
            // A name of the result precedes one of the tables.
            if !matches!(&**key, Expr::Identifier(name) if is_output(name)) {
                self.replace(&mut **key);
            }
        }
        select.projection = projection;
        for expr in [&mut select.selection, &mut select.having, &mut select.qualify].into_iter().flatten() {
            self.replace(expr);
        }
        if let Some(Distinct::On(keys)) = &mut select.distinct {
            for key in keys {
                self.replace(key);
            }
        }
        if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
            for key in keys {
                self.replace(key);
            }
        }
        for window in &mut select.named_window {
            self.replace(window);
        }
        Ok(())
    }

    fn item(&self, name: &str, value: &Expr) -> SelectItem {
        match self.merged.iter().any(|merged| merged == name) {
            true => SelectItem::ExprWithAlias { expr: value.clone(), alias: Ident::with_quote('"', name) },
            false => SelectItem::UnnamedExpr(value.clone()),
        }
    }

    /// Replaces the merged columns, except in subqueries. Returns true if there was one.
    fn replace(&self, within: &mut impl VisitMut) -> bool {
        let mut replacer = Replacer { scope: self, subqueries: 0, has_changed: false };
        let _ = within.visit(&mut replacer);
        replacer.has_changed
    }
}

struct Replacer<'s> {
    scope: &'s Scope,
    subqueries: usize,
    has_changed: bool,
}

impl VisitorMut for Replacer<'_> {
    type Break = std::convert::Infallible;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.subqueries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.subqueries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if self.subqueries == 0
            && let Expr::Identifier(name) = &*expr
            && let Some(value) = self.scope.merged(name)
        {
            *expr = value;
            self.has_changed = true;
        }
        ControlFlow::Continue(())
    }
}

/// Returns a name as SQL reads it: in lower case if it is not quoted.
pub(super) fn spelled(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}
