//! Long chains of AND, OR and UNION as balanced trees, so that a chain of `n` terms is `log n`
//! deep.

use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Query, SetExpr, SetOperator, SetQuantifier, Value, Values, VisitMut, VisitorMut,
};

/// Shorter chains stay as they are.
const SHORT: usize = 64;

/// Balances the chains of a statement.
pub fn balance_statement(statement: &mut Statement) {
    match statement {
        Statement::Statement(inner) => balance(inner.as_mut()),
        Statement::Explain(explain) => balance_statement(&mut explain.statement),
        Statement::CopyTo(copy) => {
            if let datafusion::sql::parser::CopyToSource::Query(query) = &mut copy.source {
                balance(query.as_mut());
            }
        }
        Statement::CreateExternalTable(_) | Statement::Reset(_) => {}
    }
}

/// Balances the chains of a syntax tree. The order of the terms stays, and AND, OR and UNION are
/// associative.
pub fn balance(tree: &mut impl VisitMut) {
    let ControlFlow::Continue(()) = tree.visit(&mut Balancer);
}

struct Balancer;

impl VisitorMut for Balancer {
    type Break = Infallible;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if let Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } = expr {
            let op = op.clone();
            if conditions(expr, &op) > SHORT {
                let chain = std::mem::replace(expr, Expr::value(Value::Null));
                let join =
                    |left, right| Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) };
                if let Some(tree) = balanced(terms(chain, &op), &join) {
                    *expr = tree;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        if let SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, .. } = query.body.as_ref() {
            let quantifier = *set_quantifier;
            if operands(&query.body, quantifier) > SHORT {
                let empty = SetExpr::Values(Values { explicit_row: false, value_keyword: false, rows: Vec::new() });
                let chain = std::mem::replace(query.body.as_mut(), empty);
                let join = |left, right| SetExpr::SetOperation {
                    op: SetOperator::Union,
                    set_quantifier: quantifier,
                    left: Box::new(left),
                    right: Box::new(right),
                };
                if let Some(tree) = balanced(united(chain, quantifier), &join) {
                    *query.body = tree;
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// The terms of a chain of one operator, without recursion.
fn conditions(mut expr: &Expr, operator: &BinaryOperator) -> usize {
    let mut count = 1;
    while let Expr::BinaryOp { left, op, .. } = expr
        && op == operator
    {
        count += 1;
        expr = left;
    }
    count
}

fn terms(mut expr: Expr, operator: &BinaryOperator) -> Vec<Expr> {
    let mut terms = Vec::new();
    loop {
        match expr {
            Expr::BinaryOp { left, op, right } if op == *operator => {
                terms.push(*right);
                expr = *left;
            }
            first => {
                terms.push(first);
                terms.reverse();
                return terms;
            }
        }
    }
}

fn operands(mut body: &SetExpr, quantifier: SetQuantifier) -> usize {
    let mut count = 1;
    while let SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, .. } = body
        && *set_quantifier == quantifier
    {
        count += 1;
        body = left;
    }
    count
}

fn united(mut body: SetExpr, quantifier: SetQuantifier) -> Vec<SetExpr> {
    let mut queries = Vec::new();
    loop {
        match body {
            SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, right }
                if set_quantifier == quantifier =>
            {
                queries.push(*right);
                body = *left;
            }
            first => {
                queries.push(first);
                queries.reverse();
                return queries;
            }
        }
    }
}

/// The balanced tree of terms in their order; `None` without terms.
fn balanced<T>(mut terms: Vec<T>, join: &impl Fn(T, T) -> T) -> Option<T> {
    while terms.len() > 1 {
        let mut halved = Vec::with_capacity(terms.len().div_ceil(2));
        let mut rest = terms.into_iter();
        while let Some(left) = rest.next() {
            halved.push(match rest.next() {
                Some(right) => join(left, right),
                None => left,
            });
        }
        terms = halved;
    }
    terms.pop()
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn depth(expr: &Expr) -> usize {
        match expr {
            Expr::BinaryOp { left, right, .. } => 1 + depth(left).max(depth(right)),
            _ => 0,
        }
    }

    #[test]
    fn a_chain_is_as_deep_as_its_logarithm_and_keeps_its_order() {
        let text = (0..1000).map(|i| format!("c{i}")).collect::<Vec<_>>().join(" OR ");
        let mut parsed = datafusion::sql::parser::DFParserBuilder::new(text.as_str()).build().unwrap();
        let mut expr = parsed.parse_into_expr().unwrap().expr;
        balance(&mut expr);
        assert_eq!(depth(&expr), 10);
        assert_eq!(expr.to_string(), text);
    }

    #[test]
    fn a_union_of_many_queries_is_balanced_and_other_operations_stay() {
        let sql = |op: &str| (0..200).map(|i| format!("SELECT {i}")).collect::<Vec<_>>().join(op);
        let depth = |sql: &str| {
            let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
            balance_statement(&mut statement);
            let Statement::Statement(inner) = statement else { panic!("a statement") };
            let datafusion::sql::sqlparser::ast::Statement::Query(query) = *inner else { panic!("a query") };
            let (mut depth, mut body) = (0, query.body);
            while let SetExpr::SetOperation { left, .. } = *body {
                depth += 1;
                body = left;
            }
            depth
        };
        assert_eq!(depth(&sql(" UNION ALL ")), 8);
        assert_eq!(depth(&sql(" UNION ")), 8);
        assert_eq!(depth(&sql(" EXCEPT ")), 199);
    }
}
