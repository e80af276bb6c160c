//! Gives rows of equal distance the same order in every plan: a sort by distance that is not
//! rewritten gets additional keys.
//!
//! The keys are the columns that the table names as its tie order, as replicas do with their keys,
//! or else the position, as in a search.

use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};

use super::top_k::is_by_distance;
use crate::chunks::ChunkScanExec;
use crate::exec::{TieBreak, TieBreakExec};

/// Adds the keys. It runs once sorts have their merges, after
/// [`VectorRewrite`](super::VectorRewrite).
#[derive(Debug)]
pub(crate) struct BreakTies;

impl PhysicalOptimizerRule for BreakTies {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        // Bottom-up, so that a merge sees its rewritten sort.
        let broken = plan.transform_up(|plan| {
            Ok(match broken(&plan)? {
                Some(broken) => Transformed::yes(broken),
                None => Transformed::no(plan),
            })
        })?;
        Ok(broken.data)
    }

    fn name(&self) -> &str {
        "vexact_break_ties"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn broken(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() {
        let Some(sort) = below_projection(merge.input()).filter(|sort| sort.input().is::<TieBreakExec>()) else {
            return Ok(None);
        };
        // The sort below has the keys already; the merge must compare them too.
        let merged =
            SortPreservingMergeExec::new(sort.expr().clone(), Arc::new(copied(sort))).with_fetch(merge.fetch());
        return without_ties(Arc::new(merged), plan).map(Some);
    }
    let Some(sort) = plan.downcast_ref::<SortExec>() else { return Ok(None) };
    if !is_by_distance(sort)? || sort.input().boundedness().is_unbounded() {
        return Ok(None);
    }
    let (input, by) = match with_tie_columns(sort.input())? {
        Some((input, columns)) => (input, TieBreak::Columns(columns)),
        None => (Arc::clone(sort.input()), TieBreak::Position),
    };
    let first = input.schema().fields().len();
    let input = TieBreakExec::new(input, by);
    let added = (first..input.schema().fields().len())
        .map(|at| PhysicalSortExpr { expr: Arc::new(Column::new("__tie", at)), options: SortOptions::default() });
    let Some(keys) = LexOrdering::new(sort.expr().iter().cloned().chain(added)) else {
        return internal_err!("a sort has a key");
    };
    let broken = SortExec::new(keys, Arc::new(input))
        .with_preserve_partitioning(sort.preserve_partitioning())
        .with_fetch(sort.fetch());
    without_ties(Arc::new(broken), plan).map(Some)
}

fn copied(sort: &SortExec) -> SortExec {
    SortExec::new(sort.expr().clone(), Arc::clone(sort.input()))
        .with_preserve_partitioning(sort.preserve_partitioning())
        .with_fetch(sort.fetch())
}

/// Returns the sort below the projection that removes the keys.
fn below_projection(plan: &Arc<dyn ExecutionPlan>) -> Option<&SortExec> {
    plan.downcast_ref::<ProjectionExec>()?.input().downcast_ref()
}

/// The columns of `as_before`, which are the first ones.
fn without_ties(plan: Arc<dyn ExecutionPlan>, as_before: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = as_before.schema();
    let columns = schema.fields().iter().enumerate().map(|(at, field)| ProjectionExpr {
        expr: Arc::new(Column::new(field.name(), at)),
        alias: field.name().clone(),
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), plan)?))
}

/// A plan, and the ordinals of the columns that its table orders ties by.
type TieColumns = (Arc<dyn ExecutionPlan>, Vec<usize>);

/// Returns the plan, extended by the columns of the tie order of its table if necessary, and their
/// ordinals. Returns `None` if the table has no tie order.
fn with_tie_columns(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<TieColumns>> {
    if let Some(scan) = plan.downcast_ref::<ChunkScanExec>() {
        return Ok(scan.with_tie_columns().map(|(scan, columns)| (Arc::new(scan) as _, columns)));
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let Some((input, columns)) = with_tie_columns(projection.input())? else { return Ok(None) };
        let first = projection.expr().len();
        let schema = input.schema();
        let added = columns.iter().map(|column| ProjectionExpr {
            expr: Arc::new(Column::new(schema.field(*column).name(), *column)),
            alias: "__tie".into(),
        });
        let columns = (first..first + columns.len()).collect();
        let exprs: Vec<ProjectionExpr> = projection.expr().iter().cloned().chain(added).collect();
        return Ok(Some((Arc::new(ProjectionExec::try_new(exprs, input)?), columns)));
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        if filter.fetch().is_some() {
            return Ok(None);
        }
        let before = filter.input().schema().fields().len();
        let Some((input, columns)) = with_tie_columns(filter.input())? else { return Ok(None) };
        let mut output: Vec<usize> = match filter.projection() {
            Some(projection) => projection.to_vec(),
            None => (0..before).collect(),
        };
        let first = output.len();
        output.extend(&columns);
        let filter = FilterExecBuilder::new(Arc::clone(filter.predicate()), input)
            .with_default_selectivity(filter.default_selectivity())
            .apply_projection(Some(output))?
            .build()?;
        return Ok(Some((Arc::new(filter), (first..first + columns.len()).collect())));
    }
    if let Some(repartition) = plan.downcast_ref::<RepartitionExec>()
        && let Partitioning::RoundRobinBatch(_) = repartition.partitioning()
    {
        let Some((input, columns)) = with_tie_columns(repartition.input())? else { return Ok(None) };
        let repartition = RepartitionExec::try_new(input, repartition.partitioning().clone())?;
        return Ok(Some((Arc::new(repartition), columns)));
    }
    if let Some(cooperative) = plan.downcast_ref::<CooperativeExec>() {
        let Some((input, columns)) = with_tie_columns(cooperative.input())? else { return Ok(None) };
        return Ok(Some((Arc::new(CooperativeExec::new(input)), columns)));
    }
    Ok(None)
}
