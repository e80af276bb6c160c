//! `[SortPreservingMerge] <- Sort(distance, fetch) <- (projections, filters, repartitions)* <- source`
//! becomes one [`VectorTopKExec`] over the source.
//!
//! Each node between the sort and the source is folded in: the sort's columns are rewritten as
//! expressions over the node's input. A filter becomes the prefilter; a projection is evaluated for
//! the winners only; a repartition changes nothing.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::Decline;
use super::call::{has_call, monotone};
use super::max_sim::{self, Sorted};
use super::score_bounds::with_score_bounds;
use super::zero_order::ZeroSign;
use crate::chunks;
use crate::exec::{Scoring, TieBreakExec, TopK, VectorTopKExec};

/// Result of trying to rewrite a node.
pub(super) enum RewriteResult {
    Rewritten(Arc<dyn ExecutionPlan>),
    Declined(Decline),
    /// Not a sort by distance.
    NoDistance,
}

fn downcast<T: ExecutionPlan>(plan: &Arc<dyn ExecutionPlan>) -> Option<&T> {
    let plan: &dyn ExecutionPlan = plan.as_ref();
    plan.downcast_ref::<T>()
}

/// Returns the sort of a node, with the limit of the merge above it.
fn sort_of(plan: &Arc<dyn ExecutionPlan>) -> Option<(&SortExec, Option<usize>)> {
    if let Some(merge) = downcast::<SortPreservingMergeExec>(plan) {
        let sort = downcast::<SortExec>(merge.input())?;
        return (merge.expr() == sort.expr()).then_some((sort, merge.fetch().or(sort.fetch())));
    }
    let sort = downcast::<SortExec>(plan)?;
    // Under a merge, the sort of one partition: the merge is the place to rewrite.
    let is_whole = !sort.preserve_partitioning() || sort.input().output_partitioning().partition_count() == 1;
    is_whole.then_some((sort, sort.fetch()))
}

/// Expressions over the output of `plan`, pushed down to the input of the nodes that are folded in.
struct Folded {
    plan: Arc<dyn ExecutionPlan>,
    key: Arc<dyn PhysicalExpr>,
    /// The keys after it.
    trailing: Vec<PhysicalSortExpr>,
    output: Vec<ProjectionExpr>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
}

/// Replaces each column by the expression that `of` gives for its ordinal.
fn substitute(
    expr: &Arc<dyn PhysicalExpr>,
    of: &dyn Fn(usize) -> Arc<dyn PhysicalExpr>,
) -> Result<Arc<dyn PhysicalExpr>> {
    let replaced = Arc::clone(expr).transform_down(|expr| {
        let column: &dyn PhysicalExpr = expr.as_ref();
        Ok(match column.downcast_ref::<Column>() {
            // The substituted expression is already over the input, so the traversal skips it.
            Some(column) => Transformed::new(of(column.index()), true, TreeNodeRecursion::Jump),
            None => Transformed::no(expr),
        })
    })?;
    Ok(replaced.data)
}

impl Folded {
    fn substitute(&mut self, of: &dyn Fn(usize) -> Arc<dyn PhysicalExpr>) -> Result<()> {
        self.key = substitute(&self.key, of)?;
        for trailing in &mut self.trailing {
            trailing.expr = substitute(&trailing.expr, of)?;
        }
        for output in &mut self.output {
            output.expr = substitute(&output.expr, of)?;
        }
        if let Some(predicate) = &mut self.predicate {
            *predicate = substitute(predicate, of)?;
        }
        Ok(())
    }

    /// Returns true if a projection has a volatile value that is used more than once or is a sort
    /// key. Such a value must be computed in the projection, exactly once per row.
    fn is_volatile(&self, projection: &ProjectionExec) -> bool {
        let uses = |expr: &Arc<dyn PhysicalExpr>, column: usize| {
            let mut uses = 0;
            // The closure never fails.
            let _ = expr.apply(|expr| {
                uses += usize::from(expr.downcast_ref::<Column>().is_some_and(|used| used.index() == column));
                Ok(TreeNodeRecursion::Continue)
            });
            uses
        };
        let mut volatile = projection.expr().iter().enumerate().filter(|(_, projected)| is_volatile(&projected.expr));
        volatile.any(|(column, _)| {
            let keys = self.trailing.iter().map(|key| &key.expr).chain([&self.key]);
            let others = self.output.iter().map(|output| &output.expr).chain(&self.predicate);
            keys.map(|key| uses(key, column)).sum::<usize>() > 0
                || others.map(|other| uses(other, column)).sum::<usize>() > 1
        })
    }

    /// Folds in the topmost node, if it can be.
    fn step(&mut self) -> Result<bool> {
        let plan = Arc::clone(&self.plan);
        if let Some(projection) = downcast::<ProjectionExec>(&plan) {
            if self.is_volatile(projection) {
                return Ok(false);
            }
            self.substitute(&|i| Arc::clone(&projection.expr()[i].expr))?;
            self.plan = Arc::clone(projection.input());
        } else if let Some(filter) = downcast::<FilterExec>(&plan) {
            if filter.fetch().is_some() {
                return Ok(false);
            }
            let schema = filter.input().schema();
            let column = |i: usize| Arc::new(Column::new(schema.field(i).name(), i)) as Arc<dyn PhysicalExpr>;
            if let Some(projection) = filter.projection() {
                self.substitute(&|i| column(projection[i]))?;
            }
            let predicate = Arc::clone(filter.predicate());
            self.predicate = Some(match self.predicate.take() {
                Some(above) => Arc::new(BinaryExpr::new(predicate, Operator::And, above)),
                None => predicate,
            });
            self.plan = Arc::clone(filter.input());
        } else if downcast::<RepartitionExec>(&plan).is_some()
            || (downcast::<CoalescePartitionsExec>(&plan).is_some() && plan.fetch().is_none())
            || downcast::<CooperativeExec>(&plan).is_some()
            // Its columns come after those of its input, and nothing but its own sort reads them.
            || downcast::<TieBreakExec>(&plan).is_some()
        {
            let input = plan.children().first().map(|child| Arc::clone(child));
            self.plan = input.ok_or_else(|| plan_datafusion_err!("{} without an input", plan.name()))?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

/// The expressions that the scan of a file computes, and the schema that they are over.
fn scan_projection(plan: &Arc<dyn ExecutionPlan>) -> Option<(SchemaRef, Vec<ProjectionExpr>)> {
    let scan = downcast::<DataSourceExec>(plan)?.data_source().downcast_ref::<FileScanConfig>()?;
    let source = scan.file_source();
    let exprs = source.projection()?.iter().cloned().collect();
    Some((Arc::clone(source.table_schema().table_schema()), exprs))
}

/// Returns the keys of a sort that the query has, without those that distinguish zeros and ties.
fn keys_of(sort: &SortExec) -> Vec<PhysicalSortExpr> {
    let columns = columns_of(sort);
    let is_added = |key: &&PhysicalSortExpr| {
        key.expr.downcast_ref::<ZeroSign>().is_some()
            || key.expr.downcast_ref::<Column>().is_some_and(|column| column.index() >= columns)
    };
    sort.expr().iter().filter(|key| !is_added(key)).cloned().collect()
}

/// Returns the number of columns of a sort, without those that only break ties.
fn columns_of(sort: &SortExec) -> usize {
    let input = downcast::<TieBreakExec>(sort.input()).map_or(sort.input(), TieBreakExec::input);
    input.schema().fields().len()
}

impl Folded {
    /// Returns a sort's keys and columns as expressions over the plan below the nodes that can be
    /// folded in. Returns `None` if the sort has no keys.
    fn of(sort: &SortExec) -> Result<Option<Self>> {
        let mut keys = keys_of(sort).into_iter();
        let Some(first) = keys.next() else { return Ok(None) };
        let schema = sort.schema();
        let columns = schema.fields().iter().enumerate().take(columns_of(sort));
        let output = columns.map(|(i, field)| ProjectionExpr {
            expr: Arc::new(Column::new(field.name(), i)),
            alias: field.name().clone(),
        });
        let mut folded = Self {
            plan: Arc::clone(sort.input()),
            key: first.expr,
            trailing: keys.collect(),
            output: output.collect(),
            predicate: None,
        };
        while folded.step()? {}
        Ok(Some(folded))
    }

    /// Returns true if the keys after the distance order rows as the table orders rows of equal
    /// distance.
    fn follows_tie_order(&self) -> bool {
        let Some(scan) = chunks::in_place(&self.plan) else { return false };
        let schema = self.plan.schema();
        let order = scan.chunks.tie_order();
        let column = |key: &PhysicalSortExpr| {
            let column = key.expr.downcast_ref::<Column>()?.index();
            // NULLs of a key come first, as in the order of ties.
            let is_ascending =
                !key.options.descending && (key.options.nulls_first || !schema.field(column).is_nullable());
            is_ascending.then(|| scan.columns[column])
        };
        !order.is_empty() && self.trailing.iter().zip(order).all(|(key, tie)| column(key) == Some(*tie))
    }
}

/// Returns true if one of the keys of a sort is a distance.
pub(super) fn is_by_distance(sort: &SortExec) -> Result<bool> {
    let Some(folded) = Folded::of(sort)? else { return Ok(false) };
    let scanned = scan_projection(&folded.plan);
    for key in folded.trailing.iter().map(|key| &key.expr).chain([&folded.key]) {
        let has_call = match &scanned {
            Some((_, exprs)) if !has_call(key) => has_call(&substitute(key, &|i| Arc::clone(&exprs[i].expr))?),
            _ => has_call(key),
        };
        if has_call {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Rewrites one node.
///
/// # Errors
/// A `vector_search` whose query is invalid.
pub(super) fn rewrite(
    plan: &Arc<dyn ExecutionPlan>,
    target_partitions: usize,
    config: &ConfigOptions,
) -> Result<RewriteResult> {
    let Some((sort, fetch)) = sort_of(plan) else { return Ok(RewriteResult::NoDistance) };
    let Some(first) = sort.expr().iter().next() else { return Ok(RewriteResult::NoDistance) };
    let schema: SchemaRef = match columns_of(sort) {
        all if all == sort.schema().fields().len() => sort.schema(),
        columns => Arc::new(sort.schema().project(&(0..columns).collect::<Vec<_>>())?),
    };
    let Some(mut folded) = Folded::of(sort)? else { return Ok(RewriteResult::NoDistance) };
    // A later rule may have moved a distance into the scan of a file: then only the reason why it
    // was not rewritten can be reported.
    let scanned = if has_call(&folded.key) { None } else { scan_projection(&folded.plan) };
    if let Some((_, exprs)) = &scanned {
        folded.key = substitute(&folded.key, &|i| Arc::clone(&exprs[i].expr))?;
    }
    let Some((call, direction)) = monotone(&folded.key) else {
        if let Some(k) = fetch.filter(|_| folded.trailing.is_empty()) {
            let sorted = Sorted {
                plan: &folded.plan,
                key: &folded.key,
                options: first.options,
                predicate: folded.predicate.as_ref(),
                output: &folded.output,
                k,
                schema,
                ordering: LexOrdering::new(keys_of(sort)),
            };
            if let Some(search) = max_sim::rewrite(sorted)? {
                return Ok(RewriteResult::Rewritten(search));
            }
        }
        return Ok(if has_call(&folded.key) {
            RewriteResult::Declined(Decline::NotMonotone)
        } else {
            RewriteResult::NoDistance
        });
    };

    let is_descending = first.options.descending;
    let is_closest_first = call.is_larger_closer() == (is_descending != direction.is_falling);
    let Some(k) = fetch else {
        return match call.scoring {
            // Its plan always has a limit, unless that is NULL.
            Scoring::Search(_) => plan_err!("vector_search: k: expected a whole number of at least 1, got NULL"),
            Scoring::Sql(_) => Ok(RewriteResult::Declined(Decline::NoLimit)),
        };
    };
    if k == 0 {
        return Ok(RewriteResult::Rewritten(Arc::new(EmptyExec::new(schema))));
    }
    if !folded.trailing.is_empty() && !folded.follows_tie_order() {
        return Ok(RewriteResult::Declined(Decline::SecondSortKey));
    }
    if !is_closest_first {
        return Ok(RewriteResult::Declined(Decline::FarthestFirst));
    }
    if folded.plan.boundedness().is_unbounded() {
        return Ok(RewriteResult::Declined(Decline::UnboundedInput));
    }
    let input_schema = scanned.as_ref().map_or_else(|| folded.plan.schema(), |(schema, _)| Arc::clone(schema));
    let on_column = match call.on_column(&input_schema) {
        Ok(on_column) => on_column,
        Err(reason) => return Ok(RewriteResult::Declined(reason)),
    };
    if let Err(reason) = on_column.check_literal(&input_schema) {
        let column = input_schema.field(on_column.column).name();
        return match (reason, on_column.scoring) {
            (Decline::BadQuery(error), Scoring::Search(_)) => {
                Err(plan_datafusion_err!("vector_search on column {column:?}: {error}"))
            }
            (reason, _) => Ok(RewriteResult::Declined(reason)),
        };
    }
    if scanned.is_some() {
        return Ok(RewriteResult::NoDistance);
    }
    let input = match folded.plan.repartitioned(target_partitions, config)? {
        // Splitting a scan may drop its limit.
        Some(split) if folded.plan.output_partitioning().partition_count() == 1 && folded.plan.fetch().is_none() => {
            split
        }
        _ => Arc::clone(&folded.plan),
    };
    let (columns, output) = gather(&folded.output, Some(&call.expr))?;
    let top_k = TopK {
        predicate: folded.predicate,
        bounds: None,
        vector: on_column.column,
        query: on_column.query,
        scoring: on_column.scoring,
        negative_nans_first: is_descending == direction.is_negated,
        nulls_first: first.options.nulls_first,
        k,
        group_by: None,
        columns,
        output,
    };
    let top_k = with_score_bounds(top_k, &input.schema())?;
    let exec = VectorTopKExec::try_new(input, top_k, schema, LexOrdering::new(keys_of(sort)))?;
    Ok(RewriteResult::Rewritten(Arc::new(exec)))
}

/// The input of a search by group and what is over it.
pub(crate) struct BelowFilters {
    pub input: Arc<dyn ExecutionPlan>,
    pub vector: usize,
    pub group: usize,
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    /// The columns of the input that the output needs.
    pub columns: Vec<usize>,
    /// All columns of the plan that was given, over `columns`.
    pub output: Vec<ProjectionExpr>,
}

/// Returns the plan below the filters and projections, for a search with a vector column and a
/// group column: a scan of chunks in memory if there is one, else the plan itself, which filters
/// and projects row by row.
pub(crate) fn below_filters(plan: &Arc<dyn ExecutionPlan>, vector: usize, group: usize) -> Result<BelowFilters> {
    let schema = plan.schema();
    let column = |i: usize| Arc::new(Column::new(schema.field(i).name(), i)) as Arc<dyn PhysicalExpr>;
    let all = |i: usize| ProjectionExpr { expr: column(i), alias: schema.field(i).name().clone() };
    let output: Vec<ProjectionExpr> = (0..schema.fields().len()).map(all).collect();
    let mut folded = Folded {
        plan: Arc::clone(plan),
        key: column(vector),
        trailing: vec![PhysicalSortExpr { expr: column(group), options: Default::default() }],
        output: output.clone(),
        predicate: None,
    };
    while folded.step()? {}
    let stored = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<Column>().map(Column::index);
    if chunks::in_place(&folded.plan).is_some()
        && let (Some(vector), Some(group)) = (stored(&folded.key), stored(&folded.trailing[0].expr))
    {
        let (columns, output) = gather(&folded.output, None)?;
        return Ok(BelowFilters { input: folded.plan, vector, group, predicate: folded.predicate, columns, output });
    }
    let columns = (0..schema.fields().len()).collect();
    Ok(BelowFilters { input: Arc::clone(plan), vector, group, predicate: None, columns, output })
}

/// The columns that the output needs, and the output over these and the value of the call.
pub(super) fn gather(
    output: &[ProjectionExpr],
    call: Option<&Arc<dyn PhysicalExpr>>,
) -> Result<(Vec<usize>, Vec<ProjectionExpr>)> {
    // A stand-in for the call's value, which no column of the input has the ordinal of.
    const VALUE: usize = usize::MAX;
    let mut with_value = Vec::with_capacity(output.len());
    for projected in output {
        let replaced = Arc::clone(&projected.expr).transform_down(|expr| {
            Ok(if call.is_some_and(|call| expr.as_ref() == call.as_ref()) {
                Transformed::yes(Arc::new(Column::new("value", VALUE)) as Arc<dyn PhysicalExpr>)
            } else {
                Transformed::no(expr)
            })
        })?;
        with_value.push(replaced.data);
    }
    let mut columns: Vec<usize> = with_value.iter().flat_map(collect_columns).map(|column| column.index()).collect();
    columns.sort_unstable();
    columns.dedup();
    columns.retain(|column| *column != VALUE);
    let place = |ordinal: usize| columns.iter().position(|column| *column == ordinal).unwrap_or(columns.len());
    let output = with_value
        .iter()
        .zip(output)
        .map(|(expr, projected)| {
            let gathered = Arc::clone(expr).transform_up(|expr| {
                let column: &dyn PhysicalExpr = expr.as_ref();
                Ok(match column.downcast_ref::<Column>() {
                    Some(column) => {
                        let place = Column::new(column.name(), place(column.index()));
                        Transformed::yes(Arc::new(place) as Arc<dyn PhysicalExpr>)
                    }
                    None => Transformed::no(expr),
                })
            })?;
            Ok(ProjectionExpr { expr: gathered.data, alias: projected.alias.clone() })
        })
        .collect::<Result<_>>()?;
    Ok((columns, output))
}
