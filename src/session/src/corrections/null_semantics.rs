//! Preserves NULL when expressions are simplified.
//!
//! DataFusion treats an unknown value as false or true in `x IN (1) AND x IN (2)`, `x NOT IN (1) OR
//! x NOT IN (2)`, `x ^ x` and `array_has([x, 1], 2)` (apache/datafusion#24246), and in `x ~ '.*'`
//! (#24379). So these are rewritten to their meaning, or with a function that is opaque to
//! DataFusion.

use std::collections::HashSet;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use super::instants::if_known;
use super::opaque::{is_variable, same};
use super::rewrite::rewrite_exprs;
use crate::operator_chain::as_function;

/// Rewrites such expressions.
#[derive(Debug)]
pub(super) struct UnknownStaysUnknown;

impl AnalyzerRule for UnknownStaysUnknown {
    fn name(&self) -> &str {
        "vexact_unknown_stays_unknown"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_exprs(
            plan,
            |expr| rewritten(expr, None).is_some(),
            |expr, schema| {
                Ok(match rewritten(&expr, Some(schema)) {
                    Some(rewritten) => Transformed::yes(rewritten),
                    None => Transformed::no(expr),
                })
            },
        )
    }
}

fn rewritten(expr: &Expr, schema: Option<&DFSchema>) -> Option<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            both(left, *op, right, schema)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::BitwiseXor, right }) => (is_variable(left)
            || is_variable(right))
        .then(|| as_function(left.as_ref().clone(), Operator::BitwiseXor, right.as_ref().clone())),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::RegexMatch | Operator::RegexIMatch, right }) => {
            let is_any = matches!(right.as_ref(), Expr::Literal(value, _) if value.try_as_str() == Some(Some(".*")));
            (is_any && is_variable(left)).then(|| if_known(left.as_ref().clone(), true, schema))
        }
        Expr::ScalarFunction(call) if call.func.name() == "array_has" => {
            let [Expr::ScalarFunction(list), _] = &call.args[..] else { return None };
            if list.func.name() != "make_array" || !list.args.iter().any(is_variable) {
                return None;
            }
            let mut call = call.clone();
            call.args[0] = same(call.args[0].clone());
            Some(Expr::ScalarFunction(call))
        }
        _ => None,
    }
}

/// Returns the expression that a condition compares with constants, and whether it is none of them.
/// DataFusion joins such conditions to one list.
fn compared(condition: &Expr) -> Option<(&Expr, bool)> {
    match condition {
        Expr::InList(list) => Some((&list.expr, list.negated)),
        Expr::Not(inner) => compared(inner).map(|(expr, negated)| (expr, !negated)),
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Eq | Operator::NotEq), right }) => {
            match (is_variable(left), is_variable(right)) {
                (true, false) => Some((left, *op == Operator::NotEq)),
                (false, true) => Some((right, *op == Operator::NotEq)),
                _ => None,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let ((one, negated), (other, is_other_negated)) = (compared(left)?, compared(right)?);
            (is_union(*op, negated, is_other_negated) && one == other).then_some((one, negated))
        }
        _ => None,
    }
}

/// Returns true if two lists that an operator joins are one list, of the values of both.
fn is_union(op: Operator, negated: bool, is_other_negated: bool) -> bool {
    (op == Operator::Or) != negated && negated == is_other_negated
}

/// Adds the constants that a condition compares an expression with.
fn constants(condition: &Expr, into: &mut Vec<Expr>) {
    match condition {
        Expr::InList(list) => into.extend(list.list.iter().cloned()),
        Expr::Not(inner) => constants(inner, into),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            constants(left, into);
            constants(right, into);
        }
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => {
            into.push(if is_variable(left) { right } else { left }.as_ref().clone());
        }
        _ => {}
    }
}

/// Two lists that one expression is compared with, as one list. `None`: DataFusion joins them
/// rightly.
fn both(left: &Expr, op: Operator, right: &Expr, schema: Option<&DFSchema>) -> Option<Expr> {
    let is_one_value =
        |side: &Expr| matches!(side, Expr::BinaryExpr(BinaryExpr { op: Operator::Eq | Operator::NotEq, .. }));
    if is_one_value(left) && is_one_value(right) {
        return None;
    }
    let ((expr, negated), (other, is_other_negated)) = (compared(left)?, compared(right)?);
    if is_union(op, negated, is_other_negated) || expr != other || expr.is_volatile() {
        return None;
    }
    let (mut one, mut other) = (vec![], vec![]);
    constants(left, &mut one);
    constants(right, &mut other);
    // The zeros of both signs are equal, but not the same constant.
    let is_negative_zero = |value: &ScalarValue| match value {
        ScalarValue::Float32(Some(number)) => *number == 0.0 && number.is_sign_negative(),
        ScalarValue::Float64(Some(number)) => *number == 0.0 && number.is_sign_negative(),
        _ => false,
    };
    let is_known =
        |item: &Expr| matches!(item, Expr::Literal(value, _) if !value.is_null() && !is_negative_zero(value));
    if !one.iter().chain(&other).all(is_known) {
        let right = same(right.clone());
        return Some(Expr::BinaryExpr(BinaryExpr { left: Box::new(left.clone()), op, right: Box::new(right) }));
    }
    let (kept, others, has_other, negated) = match (negated, is_other_negated) {
        // The values of one list that the other lacks: under OR the values of neither.
        (false, true) if op == Operator::And => (one, other, false, false),
        (true, false) if op == Operator::And => (other, one, false, false),
        (false, true) => (other, one, false, true),
        (true, false) => (one, other, false, true),
        // The values of both lists.
        (negated, _) => (one, other, true, negated),
    };
    let others: HashSet<Expr> = others.into_iter().collect();
    let list: Vec<Expr> = kept.into_iter().filter(|item| others.contains(item) == has_other).collect();
    let expr = expr.clone();
    Some(match (list.is_empty(), negated) {
        (true, negated) => if_known(expr, negated, schema),
        (false, negated) => Expr::InList(InList { expr: Box::new(expr), list, negated }),
    })
}
