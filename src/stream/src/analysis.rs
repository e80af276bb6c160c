//! Analysis of a streaming query by its logical plan: which operators work micro-batch by
//! micro-batch, which need the end of the input, and which are not supported.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::JoinType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::LogicalPlan;
use vexact_core::error::{Error, Result};

use super::table::{SinkRelation, StreamRelation};

/// Returns the stream that a plan reads.
///
/// # Errors
/// A plan of no stream, of several, or of a sink.
pub(super) fn stream_of(plan: &LogicalPlan) -> Result<StreamRelation> {
    let mut found: Vec<Arc<dyn TableProvider>> = Vec::new();
    let mut sink = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
        {
            if provider.downcast_ref::<SinkRelation>().is_some() {
                sink = Some(scan.table_name.to_string());
            }
            if provider.downcast_ref::<StreamRelation>().is_some()
                && !found.iter().any(|other| Arc::ptr_eq(other, &provider))
            {
                found.push(provider);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if let Some(sink) = sink {
        return Err(Error::InvalidArgument(format!("{sink} is a sink, which cannot be read: expected a source")));
    }
    match found.as_slice() {
        [one] => one.downcast_ref::<StreamRelation>().cloned().ok_or_else(no_stream),
        [] => Err(no_stream()),
        more => {
            let problem =
                format!("expected a query of one stream, got one of {}: streams cannot be joined", more.len());
            Err(Error::InvalidArgument(problem))
        }
    }
}

fn no_stream() -> Error {
    Error::InvalidArgument("expected a query of a stream, got one of tables alone: expected Session.sql for it".into())
}

/// Requirements of a query.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Survey {
    /// True if the plan below reads the stream.
    has_stream: bool,
    /// True if the query keeps groups.
    pub has_groups: bool,
    /// Lowest operator that needs the end of the input; `None` if there is none.
    pub needs_end: Option<&'static str>,
    /// True if that operator is below the groups.
    pub is_end_below_groups: bool,
}

/// Analyzes a plan.
///
/// # Errors
/// An operation that is not supported over a stream.
pub(super) fn analyze(plan: &LogicalPlan) -> Result<Survey> {
    if let LogicalPlan::TableScan(scan) = plan {
        let provider = source_as_provider(&scan.source).ok();
        let has_stream = provider.is_some_and(|provider| provider.downcast_ref::<StreamRelation>().is_some());
        return Ok(Survey { has_stream, ..Survey::default() });
    }
    let mut in_subquery = false;
    plan.apply_subqueries(|subquery| {
        in_subquery |= stream_of(subquery).is_ok();
        Ok(TreeNodeRecursion::Continue)
    })?;
    if in_subquery {
        return Err(refused("a subquery over a stream, which has no end to wait for"));
    }
    let inputs: Vec<Survey> = plan.inputs().into_iter().map(analyze).collect::<Result<_>>()?;
    let mut streams = inputs.iter().filter(|input| input.has_stream);
    let Some(mut below) = streams.next().copied() else { return Ok(Survey::default()) };
    let has_more = streams.next().is_some();
    let stateful = inputs.iter().any(|input| input.has_groups || input.needs_end.is_some());
    let end = |below: Survey, what| Survey { needs_end: below.needs_end.or(Some(what)), ..below };
    match plan {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Repartition(_) => Ok(below),
        LogicalPlan::Union(_) if has_more && stateful => Err(refused("a UNION of aggregates of a stream")),
        LogicalPlan::Union(_) if has_more => Ok(below),
        LogicalPlan::Union(_) => Err(refused("a UNION of a stream with a table")),
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) if below.needs_end.is_some() => {
            below.is_end_below_groups = true;
            Ok(below)
        }
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) if below.has_groups => {
            Ok(end(below, "an aggregate of aggregates"))
        }
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => Ok(Survey { has_groups: true, ..below }),
        LogicalPlan::Join(_) if has_more => Err(refused("a join of a stream with a stream")),
        LogicalPlan::Join(join) => {
            let is_left = inputs[0].has_stream;
            Ok(if is_by_row(join.join_type, is_left) {
                below
            } else {
                end(below, "a join that keeps rows of its table")
            })
        }
        LogicalPlan::Sort(_) => Ok(end(below, "ORDER BY")),
        LogicalPlan::Limit(_) => Ok(end(below, "LIMIT")),
        LogicalPlan::Window(_) => Ok(end(below, "a window function (OVER)")),
        other => Err(refused(&format!("this operator over a stream: {}", other.display()))),
    }
}

fn refused(what: &str) -> Error {
    Error::InvalidArgument(format!("a streaming query cannot have {what}"))
}

/// Returns true if a join's output for a stream row depends only on that row and the table.
pub(super) fn is_by_row(join_type: JoinType, is_stream_left: bool) -> bool {
    match join_type {
        JoinType::Inner => true,
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => is_stream_left,
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => !is_stream_left,
        JoinType::Full => false,
    }
}
