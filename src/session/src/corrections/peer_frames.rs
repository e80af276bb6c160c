//! Plans windows that are sorted by a type without arithmetic.
//!
//! The frame of a window with ORDER BY is `RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW` by
//! default. DataFusion refuses RANGE for times, durations, intervals, binaries, structs and maps,
//! although this frame compares them only (apache/datafusion#24915). Such a frame ends with the
//! peers of a row, so it is the same frame of GROUPS.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::WindowFunctionParams;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, WindowFrame, WindowFrameBound, WindowFrameUnits};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite::rewrite_exprs;

/// Replaces the unit of such frames. It runs before type coercion, which refuses them.
#[derive(Debug)]
pub(super) struct PeerFrames;

impl AnalyzerRule for PeerFrames {
    fn name(&self) -> &str {
        "vexact_peer_frames"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_exprs(
            plan,
            |expr| matches!(expr, Expr::WindowFunction(window) if ends_with_peers(&window.params.window_frame)),
            |expr, schema| {
                Ok(match expr {
                    Expr::WindowFunction(mut window) if is_by_groups(&window.params, schema) => {
                        let frame = &window.params.window_frame;
                        let (start, end) = (frame.start_bound.clone(), frame.end_bound.clone());
                        window.params.window_frame = WindowFrame::new_bounds(WindowFrameUnits::Groups, start, end);
                        Transformed::yes(Expr::WindowFunction(window))
                    }
                    other => Transformed::no(other),
                })
            },
        )
    }
}

fn ends_with_peers(frame: &WindowFrame) -> bool {
    let is_free = |bound: &WindowFrameBound| bound.is_unbounded() || *bound == WindowFrameBound::CurrentRow;
    frame.units == WindowFrameUnits::Range && is_free(&frame.start_bound) && is_free(&frame.end_bound)
}

fn is_by_groups(params: &WindowFunctionParams, schema: &DFSchema) -> bool {
    ends_with_peers(&params.window_frame)
        && params.order_by.first().is_some_and(|key| key.expr.get_type(schema).is_ok_and(|key| !has_ranges(&key)))
}

/// Returns true for the types that DataFusion has RANGE frames of.
fn has_ranges(data_type: &DataType) -> bool {
    use DataType::{Boolean, Date32, Date64, Dictionary, FixedSizeList, LargeList, List, Timestamp};

    match data_type {
        Dictionary(_, value) => has_ranges(value),
        Boolean | Date32 | Date64 | Timestamp(..) | List(_) | LargeList(_) | FixedSizeList(..) => true,
        other => other.is_numeric() || other.is_string() || other.is_null(),
    }
}
