//! Which functions mean the same on both sides.

use datafusion::logical_expr::Expr;

use super::kind::{Kind, unlike};

/// Whether a function, by DataFusion's name for it, answers as SQLite's does for arguments of these kinds. What is not known to
/// agree does not. Those that have SQLite's meaning in a session over replicas are in `session::sqlite`.
pub(super) fn agrees(name: &str, args: &[Expr], kinds: &[Kind]) -> bool {
    let all = |is: fn(Kind) -> bool| kinds.iter().all(|kind| is(*kind));
    let first = kinds.first().copied().unwrap_or(Kind::Other);
    let others = |is: fn(Kind) -> bool| kinds.iter().skip(1).all(|kind| is(*kind));
    let is_text = |kind| matches!(kind, Kind::Text | Kind::Null);
    let is_integer = |kind| matches!(kind, Kind::Integer | Kind::Null);
    match name {
        "abs" => all(Kind::is_number),
        "coalesce" | "nullif" | "nvl" => unlike("", kinds.iter().copied()).is_none(),
        "btrim" | "ltrim" | "rtrim" | "strpos" => all(is_text),
        "lower" | "upper" | "replace" | "unicode" | "printf" | "format" => all(Kind::is_textual),
        "length" => first.is_textual() || first == Kind::Blob,
        "substr" => first.is_textual() && others(is_integer),
        "round" => (first.is_textual() || first.is_real()) && others(is_integer),
        // The bytes of text depend on the encoding of the file.
        "hex" => matches!(first, Kind::Null | Kind::Blob),
        "date" | "time" | "datetime" | "julianday" | "unixepoch" => is_moment(args.first(), first) && others(is_text),
        "strftime" => {
            let time = kinds.get(1).copied().unwrap_or(Kind::Other);
            is_text(first) && is_moment(args.get(1), time) && kinds.iter().skip(2).all(|kind| is_text(*kind))
        }
        _ => false,
    }
}

/// Whether it is a time of the row's: a constant may be 'now', which is one time in all of a query.
fn is_moment(expr: Option<&Expr>, kind: Kind) -> bool {
    expr.is_some_and(Expr::any_column_refs) && (kind == Kind::Text || kind.is_number())
}
