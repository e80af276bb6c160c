//! Regroups set operations from left to right, as in SQLite. In the parser, as in the standard,
//! INTERSECT binds tighter.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Query, SetExpr, SetOperator, SetQuantifier, Values, VisitMut, VisitorMut};

/// Groups the set operations of each query in a statement from left to right. Operations in
/// parentheses stay together.
pub(super) fn group_left_to_right(statement: &mut Statement) {
    match statement {
        Statement::Statement(inner) => {
            let ControlFlow::Continue(()) = inner.visit(&mut LeftToRight);
        }
        Statement::Explain(explain) => group_left_to_right(&mut explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => {}
    }
}

struct LeftToRight;

impl VisitorMut for LeftToRight {
    type Break = std::convert::Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        if has_operation_at_the_right(&query.body) {
            let body = std::mem::replace(&mut *query.body, nothing());
            *query.body = regrouped(body);
        }
        ControlFlow::Continue(())
    }
}

/// Returns true if a right operand is a set operation without parentheses.
fn has_operation_at_the_right(mut body: &SetExpr) -> bool {
    while let SetExpr::SetOperation { left, right, .. } = body {
        if matches!(**right, SetExpr::SetOperation { .. }) {
            return true;
        }
        body = left;
    }
    false
}

type Operation = (SetOperator, SetQuantifier);

fn regrouped(body: SetExpr) -> SetExpr {
    let (mut operands, mut operations) = (Vec::new(), Vec::new());
    flatten(body, &mut operands, &mut operations);
    let mut operands = operands.into_iter();
    let first = operands.next().unwrap_or_else(nothing);
    operands.zip(operations).fold(first, |left, (right, (op, set_quantifier))| {
        // The text of the tree must have the same meaning in every parser.
        let is_looser = matches!(&left, SetExpr::SetOperation { op, .. } if *op != SetOperator::Intersect);
        let left = if op == SetOperator::Intersect && is_looser { in_parentheses(left) } else { left };
        SetExpr::SetOperation { op, set_quantifier, left: Box::new(left), right: Box::new(right) }
    })
}

/// Collects the operands and the operations between them, in the order of the text. Only the right
/// operand recurses, which is one level deep.
fn flatten(mut body: SetExpr, operands: &mut Vec<SetExpr>, operations: &mut Vec<Operation>) {
    let mut pending = Vec::new();
    while let SetExpr::SetOperation { op, set_quantifier, left, right } = body {
        pending.push(((op, set_quantifier), right));
        body = *left;
    }
    operands.push(body);
    while let Some((operation, right)) = pending.pop() {
        operations.push(operation);
        flatten(*right, operands, operations);
    }
}

fn in_parentheses(body: SetExpr) -> SetExpr {
    SetExpr::Query(Box::new(Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }))
}

fn nothing() -> SetExpr {
    SetExpr::Values(Values { explicit_row: false, value_keyword: false, rows: Vec::new() })
}
