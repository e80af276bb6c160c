//! Splits a physical plan over a stream at its groups and at the operators that need the end of the
//! input.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, collect};
use futures::future::BoxFuture;
use vexact_core::error::{Error, Result};

use super::analysis::is_by_row;
use super::table::{Feed, FeedExec};

type Plan = Arc<dyn ExecutionPlan>;

/// Parts of a plan, in the order in which rows pass them.
pub(super) struct Parts {
    /// Plan from the micro-batch to rows, or to states of groups.
    pub head: Plan,
    pub groups: Option<Groups>,
    /// Plan that runs once, on all rows, at the end of the input.
    pub tail: Option<(Plan, Arc<Feed>)>,
}

/// Groups that are kept.
pub(super) struct Groups {
    /// Schema of keys and results.
    pub result_schema: SchemaRef,
    /// Plan from results to rows.
    pub rest: Option<(Plan, Arc<Feed>)>,
}

/// Kind of an operator, by the rows that it needs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// The output for a row depends only on that row.
    ByRow,
    /// Sorts the input of an aggregate.
    Order,
    Groups,
    /// The operator needs all rows.
    Whole,
}

fn kind(plan: &Plan) -> Kind {
    let node: &dyn ExecutionPlan = plan.as_ref();
    let passes = node.is::<ProjectionExec>()
        || node.is::<FilterExec>()
        || node.is::<CooperativeExec>()
        || node.is::<CoalescePartitionsExec>()
        || node.is::<RepartitionExec>()
        || node.is::<UnionExec>()
        || node.is::<UnnestExec>()
        || node.is::<CrossJoinExec>()
        || node.is::<FeedExec>();
    let join = node.downcast_ref::<HashJoinExec>().map(|join| *join.join_type());
    let join = join.or_else(|| node.downcast_ref::<NestedLoopJoinExec>().map(|join| *join.join_type()));
    if let Some(join_type) = join {
        let is_left = plan.children().first().is_some_and(|left| reads_feed(left));
        return if is_by_row(join_type, is_left) { Kind::ByRow } else { Kind::Whole };
    }
    if node.is::<AggregateExec>() {
        return Kind::Groups;
    }
    if node.downcast_ref::<SortExec>().is_some_and(|sort| sort.fetch().is_none())
        || node.downcast_ref::<SortPreservingMergeExec>().is_some_and(|merge| merge.fetch().is_none())
    {
        return Kind::Order;
    }
    if passes && node.fetch().is_none() { Kind::ByRow } else { Kind::Whole }
}

fn reads_feed(plan: &Plan) -> bool {
    plan.is::<FeedExec>() || plan.children().into_iter().any(reads_feed)
}

fn replaced(plan: &Plan, children: Vec<Plan>) -> Result<Plan> {
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Ok(Arc::clone(plan).replace_children(children, options)?)
}

/// Returns the plan with the child that reads the feed replaced.
fn with_input(plan: &Plan, input: Plan) -> Result<Plan> {
    let children = plan.children().into_iter().map(|child| match reads_feed(child) {
        true => Arc::clone(&input),
        false => Arc::clone(child),
    });
    replaced(plan, children.collect())
}

/// Returns the operators from the root down to the feed, or to the point where several branches
/// read it.
fn path(plan: &Plan) -> Vec<Plan> {
    let mut path = vec![Arc::clone(plan)];
    loop {
        let last = &path[path.len() - 1];
        let mut inputs = last.children().into_iter().filter(|child| reads_feed(child));
        let (first, second) = (inputs.next().cloned(), inputs.next().is_some());
        match first {
            Some(input) if !second => path.push(input),
            _ => return path,
        }
    }
}

/// Splits a plan. If `keeps_groups`, an aggregate is kept over micro-batches, else it needs all
/// rows.
///
/// # Errors
/// Errors of DataFusion only.
pub(super) fn split(plan: &Plan, keeps_groups: bool) -> Result<Parts> {
    let mut path = path(plan);
    path.reverse();
    // The head has the operators before the groups, or before the first one that needs all rows.
    let order_is_own = |from: usize| {
        let next = path[from..].iter().map(kind).find(|kind| !matches!(kind, Kind::ByRow | Kind::Order));
        keeps_groups && next == Some(Kind::Groups)
    };
    let mut place = 0;
    while place < path.len() {
        match kind(&path[place]) {
            Kind::ByRow => place += 1,
            Kind::Order if order_is_own(place) => place += 1,
            _ => break,
        }
    }
    let mut below: Plan = Arc::clone(&path[place.max(1) - 1]);
    let mut groups = None;
    let mut head = Arc::clone(&below);
    let mut tail = None;
    if keeps_groups && let Some(aggregate) = path.get(place).and_then(|plan| plan.downcast_ref::<AggregateExec>()) {
        let (partial, result_schema, next) = partial(aggregate, &path, place)?;
        head = partial;
        place = next;
        let results = Feed::new("GroupsExec", Arc::clone(&result_schema), 1);
        let leaf = FeedExec::all(Arc::clone(&results))?;
        below = Arc::clone(&leaf);
        while let Some(plan) = path.get(place).filter(|plan| kind(plan) == Kind::ByRow) {
            below = with_input(plan, below)?;
            place += 1;
        }
        let rest = (!Arc::ptr_eq(&leaf, &below)).then(|| (Arc::clone(&below), results));
        groups = Some(Groups { result_schema, rest });
    }
    if place < path.len() {
        let count = below.output_partitioning().partition_count();
        let rows = Feed::new("AllRowsExec", below.schema(), count);
        below = FeedExec::all(Arc::clone(&rows))?;
        for plan in &path[place..] {
            below = with_input(plan, below)?;
        }
        tail = Some((below, rows));
    }
    Ok(Parts { head, groups, tail })
}

/// Returns the aggregate that computes states, the schema of the one that would compute results,
/// and the index where the path continues.
fn partial(aggregate: &AggregateExec, path: &[Plan], place: usize) -> Result<(Plan, SchemaRef, usize)> {
    if aggregate.mode() != &AggregateMode::Partial {
        let partial = AggregateExec::try_new(
            AggregateMode::Partial,
            aggregate.group_expr().clone(),
            aggregate.aggr_expr().to_vec(),
            aggregate.filter_expr().to_vec(),
            Arc::clone(aggregate.input()),
            aggregate.input_schema(),
        )?;
        return Ok((Arc::new(partial), aggregate.schema(), place + 1));
    }
    let unexpected = || Error::InvalidArgument("a streaming query cannot have an aggregate without its results".into());
    let next = path[place + 1..].iter().position(|plan| plan.is::<AggregateExec>()).ok_or_else(unexpected)?;
    let last = &path[place + 1 + next];
    Ok((Arc::clone(&path[place]), last.schema(), place + next + 2))
}

/// Makes the stream the second input of joins if the join type streams that input: the first input
/// is read once.
///
/// # Errors
/// Errors of DataFusion only.
pub(super) fn stream_passes(plan: &Plan) -> Result<Plan> {
    if !reads_feed(plan) || plan.children().is_empty() {
        return Ok(Arc::clone(plan));
    }
    let children: Vec<Plan> = plan.children().into_iter().map(stream_passes).collect::<Result<_>>()?;
    let is_first = children.len() == 2 && reads_feed(&children[0]) && !reads_feed(&children[1]);
    let node: &dyn ExecutionPlan = plan.as_ref();
    if !is_first {
        return replaced(plan, children);
    }
    let whole = |table: &Plan| -> Plan {
        match table.output_partitioning().partition_count() {
            1 => Arc::clone(table),
            _ => Arc::new(CoalescePartitionsExec::new(Arc::clone(table))),
        }
    };
    let swapped = vec![Arc::clone(&children[0]), whole(&children[1])];
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && join.join_type().supports_swap()
        && !join.null_aware
    {
        let join = replaced(plan, swapped)?;
        let node: &dyn ExecutionPlan = join.as_ref();
        if let Some(join) = node.downcast_ref::<HashJoinExec>() {
            return Ok(join.swap_inputs(PartitionMode::CollectLeft)?);
        }
    } else if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
        && join.join_type().supports_swap()
    {
        let join = replaced(plan, swapped)?;
        let node: &dyn ExecutionPlan = join.as_ref();
        if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
            return Ok(join.swap_inputs()?);
        }
    } else if node.is::<CrossJoinExec>() {
        let join = replaced(plan, swapped)?;
        let node: &dyn ExecutionPlan = join.as_ref();
        if let Some(join) = node.downcast_ref::<CrossJoinExec>() {
            return Ok(join.swap_inputs()?);
        }
    }
    replaced(plan, children)
}

/// Returns true if an operator keeps state of the stream while it runs, so that it has to be
/// created anew for the next micro-batch.
pub(super) fn keeps_stream(plan: &Plan) -> bool {
    let children = plan.children();
    let is_first = children.len() == 2 && reads_feed(children[0]);
    let is_join = plan.is::<HashJoinExec>() || plan.is::<NestedLoopJoinExec>() || plan.is::<CrossJoinExec>();
    (is_first && is_join) || plan.is::<RepartitionExec>() || children.into_iter().any(keeps_stream)
}

/// Reads the tables of a plan's joins, once and at once.
pub(super) fn with_tables_read(plan: &Plan, context: Arc<TaskContext>) -> BoxFuture<'_, Result<Plan>> {
    Box::pin(async move {
        if plan.children().is_empty() || !reads_feed(plan) {
            return Ok(Arc::clone(plan));
        }
        let mut children: Vec<Plan> = Vec::new();
        for child in plan.children() {
            children.push(match reads_feed(child) {
                true => with_tables_read(child, Arc::clone(&context)).await?,
                false => {
                    let batches = collect(Arc::clone(child), Arc::clone(&context)).await?;
                    MemorySourceConfig::try_new_exec(&[batches], child.schema(), None)?
                }
            });
        }
        replaced(plan, children)
    })
}
