//! Conditions on the score of a search: `score >= 0.5` in its predicate becomes a bound of the
//! search, which the kernel applies with its intervals. So the exact score of most rows is never
//! computed.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExpr, conjunction_opt, split_conjunction};

use super::call::monotone;
use super::range_search::{Comparison, boundary, value_at, within_radius};
use crate::exec::{ScoreBounds, TopK};
use crate::vector::vector_of_scalar;

/// Returns a search over columns of `schema` with the bounds that its predicate has. Other
/// comparisons of distances in the predicate become range searches.
///
/// # Errors
/// None at present.
pub fn with_score_bounds(top_k: TopK, schema: &Schema) -> Result<TopK> {
    let Some(predicate) = &top_k.predicate else { return Ok(top_k) };
    let Some(query) = valid_query(&top_k, schema) else { return Ok(top_k) };
    let mut bounds = ScoreBounds {
        radius: None,
        inner_radius: None,
        holds_negative_nan: true,
        holds_positive_nan: true,
        rest: None,
    };
    let mut rest = Vec::new();
    for part in split_conjunction(predicate) {
        if !add(&mut bounds, part, &top_k, &query, schema) {
            rest.push(Arc::clone(part));
        }
    }
    let rest = conjunction_opt(rest).map(|rest| within_radius(rest, schema)).transpose()?;
    if !bounds.needs_score() && rest.as_ref().is_none_or(|rest| !rest.transformed) {
        return Ok(top_k);
    }
    bounds.rest = rest.map(|rest| rest.data);
    Ok(TopK { bounds: Some(bounds), ..top_k })
}

/// Returns the query if it is known and valid, and the rows cannot differ in length.
fn valid_query(top_k: &TopK, schema: &Schema) -> Option<Vec<f64>> {
    let query = vector_of_scalar(top_k.literal()?).ok()??;
    let data_type = schema.field(top_k.vector).data_type();
    top_k.scoring.check_query(&query, data_type).ok()?;
    matches!(data_type, DataType::FixedSizeList(..) | DataType::FixedSizeBinary(_)).then_some(query)
}

/// Adds a condition to the bounds; returns false if it is none on the score.
fn add(bounds: &mut ScoreBounds, part: &Arc<dyn PhysicalExpr>, top_k: &TopK, query: &[f64], schema: &Schema) -> bool {
    let Some((is_ball, limit, holds_negative_nan)) = condition(part, top_k, query, schema) else { return false };
    let is_larger_closer = top_k.scoring.metric().is_larger_closer();
    // The radius is the closest one, the inner radius the farthest.
    let is_smaller = is_ball != is_larger_closer;
    let bound = if is_ball { &mut bounds.radius } else { &mut bounds.inner_radius };
    *bound = Some(match *bound {
        None => limit,
        Some(other) if is_smaller => other.min(limit),
        Some(other) => other.max(limit),
    });
    bounds.holds_negative_nan &= holds_negative_nan;
    bounds.holds_positive_nan &= !holds_negative_nan;
    true
}

/// Returns for a condition on the score whether it holds for close rows, the last value of the
/// metric for which it holds, and whether it holds for NaNs with a negative sign.
fn condition(part: &Arc<dyn PhysicalExpr>, top_k: &TopK, query: &[f64], schema: &Schema) -> Option<(bool, f64, bool)> {
    let comparison = Comparison::of(part)?;
    let (call, direction) = monotone(comparison.value)?;
    let on_column = call.on_column(schema).ok()?;
    let literal: &dyn PhysicalExpr = on_column.query.as_ref();
    let of_call = vector_of_scalar(literal.downcast_ref::<Literal>()?.value()).ok()??;
    if call.scoring != top_k.scoring || on_column.column != top_k.vector || of_call != query {
        return None;
    }
    let is_direct = comparison.value.as_ref() == call.expr.as_ref();
    let holds = |distance: f64| {
        let value = call.scoring.value(distance);
        let value = if is_direct { Some(value) } else { value_at(comparison.value, &call.expr, value) };
        value.is_some_and(|value| (comparison.holds)(value, comparison.number))
    };
    let is_ball = call.is_larger_closer() == (comparison.wants_small == direction.is_falling);
    let is_larger_closer = call.scoring.metric().is_larger_closer();
    let limit = match is_ball {
        true => boundary(is_larger_closer, holds)?.0,
        false => boundary(is_larger_closer, |distance| !holds(distance))?.1,
    };
    Some((is_ball, limit, comparison.wants_small != direction.is_negated))
}
