//! Semantic gaps of aggregates and window functions.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::{Expr, WindowFrame, WindowFrameBound, WindowFrameUnits};

use super::of_condition;
use crate::affinity::{Affinity, unlike};

/// Returns the gap of an aggregate with arguments of these affinities.
pub(super) fn of_aggregate(name: &str, params: &AggregateFunctionParams, args: &[Affinity]) -> Option<String> {
    let gap = |what: &str| Some(format!("{name} {what}"));
    if params.null_treatment.is_some() {
        return gap("with a treatment of NULL");
    }
    match (name, args) {
        ("string_agg", [Affinity::Text, Affinity::Text]) => match params.args.get(1) {
            // The result depends on the order of the rows, which is SQLite's.
            _ if params.order_by.is_empty() => gap("without ORDER BY"),
            Some(Expr::Literal(delimiter, _)) if !delimiter.is_null() && !params.distinct => None,
            _ => gap("with DISTINCT or a delimiter that is no literal"),
        },
        _ => of_function(name, args),
    }
}

/// Returns the gap of a window function with arguments of these affinities.
pub(super) fn of_window(name: &str, params: &WindowFunctionParams, args: &[Affinity]) -> Option<String> {
    let gap = |what: &str| Some(format!("{name} {what}"));
    if params.null_treatment.is_some() || params.distinct {
        return gap("with DISTINCT or a treatment of NULL");
    }
    let is_count = |at: usize, least: i64| match params.args.get(at) {
        Some(Expr::Literal(ScalarValue::Int64(Some(count)), _)) => *count >= least,
        _ => false,
    };
    let of_name = match (name, args) {
        ("row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist", []) => None,
        ("first_value" | "last_value" | "lag" | "lead", [_]) => None,
        ("ntile", [_]) if is_count(0, 1) => None,
        ("nth_value", [_, _]) if is_count(1, 1) => None,
        ("lag" | "lead", [_, _]) if is_count(1, 0) => None,
        ("lag" | "lead", [value, _, default]) if is_count(1, 0) => unlike(name, [*value, *default]),
        _ => of_function(name, args),
    };
    of_name.or_else(|| of_frame(&params.window_frame))
}

/// Returns the gap of an aggregate, in a window or not.
fn of_function(name: &str, args: &[Affinity]) -> Option<String> {
    match (name, args) {
        ("count", [_]) | ("min" | "max", [_]) => None,
        ("sum" | "avg", [affinity]) if affinity.is_number() => None,
        ("sum" | "avg", [affinity]) => Some(format!("{name} of {affinity}")),
        _ => Some(format!("the function {name} with {} arguments", args.len())),
    }
}

fn of_frame(frame: &WindowFrame) -> Option<String> {
    let is_plain = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(rows) | WindowFrameBound::Following(rows) => rows.is_null(),
        WindowFrameBound::CurrentRow => true,
    };
    match frame.units {
        WindowFrameUnits::Rows => None,
        WindowFrameUnits::Range if is_plain(&frame.start_bound) && is_plain(&frame.end_bound) => None,
        WindowFrameUnits::Range => Some("a RANGE of values".into()),
        WindowFrameUnits::Groups => Some("a frame of GROUPS".into()),
    }
}

/// Returns the gap of a FILTER.
pub(super) fn of_filter(filter: Option<Affinity>) -> Option<String> {
    filter.and_then(of_condition)
}
