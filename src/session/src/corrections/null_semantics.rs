//! Preserves NULL when expressions are simplified.
//!
//! DataFusion treats an unknown value as false or true in `x IN (1) AND x IN (2)`, `x NOT IN (1) OR
//! x NOT IN (2)`, `x ^ x` and `array_has([x, 1], 2)` (apache/datafusion#24246), and in `x ~ '.*'`
//! (#24379). So these are rewritten to their meaning, or with a function that is opaque to
//! DataFusion.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
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

fn in_list(expr: &Expr) -> Option<InList> {
    match expr {
        Expr::InList(list) => Some(list.clone()),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::InList(list) => Some(InList { negated: !list.negated, ..list.clone() }),
            _ => None,
        },
        _ => None,
    }
}

/// Two lists that one expression is compared with, as one list. `None`: DataFusion joins them
/// rightly.
fn both(left: &Expr, op: Operator, right: &Expr, schema: Option<&DFSchema>) -> Option<Expr> {
    let (a, b) = (in_list(left)?, in_list(right)?);
    if a.expr != b.expr || a.expr.is_volatile() {
        return None;
    }
    let is_known = |item: &Expr| matches!(item, Expr::Literal(value, _) if !value.is_null());
    let is_union = (op == Operator::Or) != a.negated && a.negated == b.negated;
    if is_union {
        return None;
    }
    if !a.list.iter().chain(&b.list).all(is_known) {
        let right = same(right.clone());
        return Some(Expr::BinaryExpr(BinaryExpr { left: Box::new(left.clone()), op, right: Box::new(right) }));
    }
    let (kept, others, has_other, negated) = match (a.negated, b.negated) {
        // The values of one list that the other lacks: under OR the values of neither.
        (false, true) if op == Operator::And => (a.list, b.list, false, false),
        (true, false) if op == Operator::And => (b.list, a.list, false, false),
        (false, true) => (b.list, a.list, false, true),
        (true, false) => (a.list, b.list, false, true),
        // The values of both lists.
        (negated, _) => (a.list, b.list, true, negated),
    };
    let list: Vec<Expr> = kept.into_iter().filter(|item| others.contains(item) == has_other).collect();
    Some(match (list.is_empty(), negated) {
        (true, negated) => if_known(*a.expr, negated, schema),
        (false, negated) => Expr::InList(InList { expr: a.expr, list, negated }),
    })
}
