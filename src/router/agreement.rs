//! Which functions mean the same on both sides.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;

use super::difference::{Kind, unlike};

/// Whether a function, by DataFusion's name for it, answers as SQLite's does for arguments of these kinds. What is not known to
/// agree does not: SQLite folds the case of ASCII alone, rounds decimals, has NULL where DataFusion has NaN, and so on.
pub(super) fn agrees(name: &str, args: &[Expr], kinds: &[Kind]) -> bool {
    let all = |is: fn(Kind) -> bool| kinds.iter().all(|kind| is(*kind));
    let is_text = |kind| matches!(kind, Kind::Text | Kind::Null);
    match name {
        "abs" => all(Kind::is_number),
        "coalesce" | "nullif" | "nvl" => unlike("", kinds.iter().copied()).is_none(),
        "btrim" | "ltrim" | "rtrim" | "strpos" | "character_length" => all(is_text),
        // DataFusion puts the new text between all letters for an empty one.
        "replace" => all(is_text) && args.get(1).and_then(literal_text).is_some_and(|text| !text.is_empty()),
        // SQLite counts negative places from the end.
        "substr" => {
            kinds.first().is_some_and(|kind| is_text(*kind))
                && args.get(1).and_then(literal_integer).is_some_and(|start| start >= 1)
                && args.get(2).is_none_or(|length| literal_integer(length).is_some_and(|length| length >= 0))
        }
        _ => false,
    }
}

fn literal_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

fn literal_integer(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::Int64(value), _) => *value,
        _ => None,
    }
}
