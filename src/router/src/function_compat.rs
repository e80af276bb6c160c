//! Scalar functions with the same results on both sides.

use datafusion::logical_expr::Expr;

use super::affinity::{Affinity, unlike};

/// Returns true if a function, by its DataFusion name, has the same result as SQLite's for
/// arguments of these affinities. A function without known compatibility is not compatible.
/// Functions with SQLite's semantics in a session over replicas are in `session::sqlite`.
pub(super) fn is_compatible(name: &str, args: &[Expr], affinities: &[Affinity]) -> bool {
    let all = |is: fn(Affinity) -> bool| affinities.iter().all(|affinity| is(*affinity));
    let first = affinities.first().copied().unwrap_or(Affinity::Other);
    let others = |is: fn(Affinity) -> bool| affinities.iter().skip(1).all(|affinity| is(*affinity));
    let is_text = |affinity| matches!(affinity, Affinity::Text | Affinity::Null);
    let is_integer = |affinity| matches!(affinity, Affinity::Integer | Affinity::Null);
    match name {
        "abs" => all(Affinity::is_number),
        "coalesce" | "nullif" | "nvl" => unlike("", affinities.iter().copied()).is_none(),
        "btrim" | "ltrim" | "rtrim" | "strpos" => all(is_text),
        "lower" | "upper" | "replace" | "unicode" | "printf" | "format" => all(Affinity::is_textual),
        "length" => first.is_textual() || first == Affinity::Blob,
        "substr" => first.is_textual() && others(is_integer),
        "round" => (first.is_textual() || first.is_real()) && others(is_integer),
        // The bytes of text depend on the encoding of the file.
        "hex" => matches!(first, Affinity::Null | Affinity::Blob),
        "date" | "time" | "datetime" | "julianday" | "unixepoch" => is_moment(args.first(), first) && others(is_text),
        "strftime" => {
            let time = affinities.get(1).copied().unwrap_or(Affinity::Other);
            is_text(first)
                && is_moment(args.get(1), time)
                && affinities.iter().skip(2).all(|affinity| is_text(*affinity))
        }
        _ => false,
    }
}

/// Returns true if a time depends on the row. A constant may be 'now', which must have one value in
/// the whole query.
fn is_moment(expr: Option<&Expr>, affinity: Affinity) -> bool {
    expr.is_some_and(Expr::any_column_refs) && (affinity == Affinity::Text || affinity.is_number())
}
