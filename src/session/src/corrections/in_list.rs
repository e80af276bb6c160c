//! Rewrites lists of IN that have a zero or an item that is not a constant.
//!
//! DataFusion treats a list as constant if each item is constant on a batch without rows, as CASE
//! is, and then compares all rows with the item's value in one of them. A list of constants is
//! looked up by the bits of its values, so that `-0.0` is not found by `IN (0.0, 1.0, 2.0, 3.0)`,
//! although `=` treats the zeros as equal.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::{Cast, InList};
use datafusion::logical_expr::{Expr, LogicalPlan, not, or};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite::rewrite_exprs;

/// Compares items that are not constants by `=`, and adds the other zero to a list that has one
/// zero.
#[derive(Debug)]
pub(super) struct ConstantLists;

impl AnalyzerRule for ConstantLists {
    fn name(&self) -> &str {
        "vexact_constant_lists"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let is_candidate = |expr: &Expr| matches!(expr, Expr::InList(list) if is_odd(list));
        rewrite_exprs(plan, is_candidate, |expr, _| {
            Ok(match expr {
                Expr::InList(list) if is_odd(&list) => Transformed::yes(compared(list)),
                other => Transformed::no(other),
            })
        })
    }
}

fn is_odd(list: &InList) -> bool {
    let has_one_zero = list.list.iter().any(is_zero) && zeros(&list.list).is_some();
    // The rewrite evaluates the compared expression once per item, so it must not be volatile.
    has_one_zero || (!list.expr.is_volatile() && !list.list.iter().all(is_constant))
}

fn is_constant(expr: &Expr) -> bool {
    let varies =
        |expr: &Expr| matches!(expr, Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_));
    !expr.is_volatile() && !expr.exists(|expr| Ok(varies(expr))).unwrap_or(true)
}

fn compared(list: InList) -> Expr {
    let InList { expr, list, negated } = list;
    let (mut constants, others): (Vec<Expr>, Vec<Expr>) = match expr.is_volatile() {
        true => (list, Vec::new()),
        false => list.into_iter().partition(is_constant),
    };
    if let Some(zeros) = zeros(&constants) {
        constants.extend(zeros);
    }
    let mut parts = Vec::with_capacity(others.len() + 1);
    if !constants.is_empty() {
        parts.push(Expr::InList(InList { expr: expr.clone(), list: constants, negated: false }));
    }
    parts.extend(others.into_iter().map(|item| expr.as_ref().clone().eq(item)));
    // The tree stays shallow for any number of items.
    while parts.len() > 1 {
        let mut pairs = Vec::with_capacity(parts.len().div_ceil(2));
        let mut rest = parts.into_iter();
        while let Some(one) = rest.next() {
            pairs.push(match rest.next() {
                Some(other) => or(one, other),
                None => one,
            });
        }
        parts = pairs;
    }
    match (parts.pop(), negated) {
        (Some(found), true) => not(found),
        (Some(found), false) => found,
        // A list has an item.
        (None, negated) => Expr::Literal(ScalarValue::Boolean(Some(negated)), None),
    }
}

/// Returns the value of a literal, also under casts.
fn literal(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(Cast { expr, field }) => literal(expr)?.cast_to(field.data_type()).ok(),
        Expr::Negative(expr) => literal(expr)?.arithmetic_negate().ok(),
        _ => None,
    }
}

fn is_zero(expr: &Expr) -> bool {
    literal(expr).is_some_and(|value| value.data_type().is_floating() && is_zero_value(&value))
}

fn is_zero_value(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float64(Some(x)) => *x == 0.0,
        ScalarValue::Float32(Some(x)) => *x == 0.0,
        ScalarValue::Float16(Some(x)) => x.to_f32() == 0.0,
        _ => false,
    }
}

/// Returns both zeros of the type of a zero in a list; `None` if the list has both or none.
fn zeros(list: &[Expr]) -> Option<[Expr; 2]> {
    let mut found = list.iter().filter_map(literal).filter(is_zero_value);
    let zero = found.next()?;
    if found.any(|other| other != zero) {
        return None;
    }
    let positive = ScalarValue::new_zero(&zero.data_type()).ok()?;
    let negative = positive.arithmetic_negate().ok()?;
    Some([Expr::Literal(positive, None), Expr::Literal(negative, None)])
}
