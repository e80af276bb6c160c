//! Cuts a plan into the parts that run in tasks, and the rest, which the coordinator runs.
//!
//! A part begins at a scan of Parquet files. It takes in the filters and projections above, and
//! above these one of:
//!
//! | operator | in the tasks | in the coordinator |
//! |---|---|---|
//! | search | `PartialTopKExec` | `MergeTopKExec` |
//! | join of vectors | `PartialJoinExec`, with all queries | `MergeJoinExec` |
//! | aggregation | partial | final |
//! | sort with a limit | the sort of each partition | the sort |
//! | none | the rows | their concatenation |
//!
//! The rows of a table in memory take the place of a scan, if one of the first four, or a filter, is
//! above them.
//!
//! No other operator is in a part: an operator that looks at all rows would look at those of its
//! task.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning, replace_children_if_necessary};
use datafusion_distributed::NetworkCoalesceExec;
use futures::FutureExt;
use futures::future::BoxFuture;
use vexact_core::error::Error;
use vexact_session::OrderedMergeExec;
use vexact_sql::chunks::MemoryRows;
use vexact_sql::exec::{
    Join, JoinColumn, MergeJoinExec, MergeTopKExec, PartialJoinExec, PartialTopKExec, VectorJoinExec, VectorTopKExec,
};

use super::errors::external;
use super::portable::Functions;
use super::scan::{Shape, bytes, parquet_scan, split_scan};
use super::sent::{only_reads_memory, rows_below, sent_tables, split_rows};
use super::task::TaskExec;

/// Returns true if a plan has a part that can run in tasks.
pub(crate) fn has_part(plan: &Arc<dyn ExecutionPlan>) -> bool {
    has_files(plan) || !sent_tables(plan).is_empty()
}

fn has_files(plan: &Arc<dyn ExecutionPlan>) -> bool {
    parquet_scan(plan.as_ref()).is_some() || plan.children().into_iter().any(has_files)
}

/// Returns the bytes of the files, or of the rows in memory, of the largest scan of a plan.
pub(crate) fn largest_scan(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let sent = sent_tables(plan).iter().map(|rows| rows.bytes() as u64).max();
    largest_files(plan).max(sent.unwrap_or(0))
}

fn largest_files(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let own = parquet_scan(plan.as_ref()).map_or(0, bytes);
    plan.children().into_iter().map(largest_files).fold(own, u64::max)
}

/// The parameters of a cut.
pub(crate) struct Cut<'a> {
    pub shape: Shape,
    pub functions: &'a Functions,
    /// Maximum bytes of the queries of a join.
    pub ship_limit_bytes: usize,
    /// Runs the plan of the queries of a join and returns its rows.
    pub rows_of: &'a (dyn Fn(Arc<dyn ExecutionPlan>) -> BoxFuture<'static, Result<RecordBatch>> + Send + Sync),
}

/// A part: operators over a scan, which work on each row by itself.
struct Part {
    plan: Arc<dyn ExecutionPlan>,
    /// The limit of rows of each partition.
    fetch: Option<usize>,
}

impl Cut<'_> {
    /// Returns the plan of the coordinator, with the parts below its network boundaries.
    pub fn cut(&self, plan: Arc<dyn ExecutionPlan>) -> BoxFuture<'_, Result<Arc<dyn ExecutionPlan>>> {
        async move {
            if let Some(cut) = self.operator(&plan).await? {
                return Ok(cut);
            }
            if !only_reads_memory(&plan)
                && let Some(part) = self.part(&plan)?.filter(|part| crosses(part.plan.as_ref()))
            {
                return self.rows(&plan, part);
            }
            let mut children = Vec::new();
            for child in plan.children() {
                children.push(self.cut(Arc::clone(child)).await?);
            }
            replace_children_if_necessary(plan, children)
        }
        .boxed()
    }

    /// Cuts an operator that is evaluated in two steps.
    async fn operator(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(scalar) = plan.downcast_ref::<ScalarSubqueryExec>() {
            return self.subqueries(scalar).await;
        }
        if let Some(search) = plan.downcast_ref::<VectorTopKExec>() {
            return self.search(search);
        }
        if let Some(join) = plan.downcast_ref::<VectorJoinExec>() {
            return self.join(join).await;
        }
        if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
            return self.aggregate(aggregate);
        }
        match plan.downcast_ref::<SortExec>() {
            Some(sort) => self.sort(plan, sort),
            None => Ok(None),
        }
    }

    /// Evaluates the scalar subqueries of a plan, so that parts have their values as literals.
    async fn subqueries(&self, scalar: &ScalarSubqueryExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if scalar.input().is::<EmptyExec>() {
            return Ok(None);
        }
        let (links, results) = (scalar.subqueries().to_vec(), scalar.results().clone());
        if links.iter().any(|link| results.get(link.index).is_none()) {
            results.clear();
            let nothing = Arc::new(EmptyExec::new(scalar.schema()));
            (self.rows_of)(Arc::new(ScalarSubqueryExec::new(nothing, links, results))).await?;
        }
        Ok(Some(self.cut(Arc::clone(scalar.input())).await?))
    }

    fn search(&self, search: &VectorTopKExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let top_k = search.top_k();
        let ordinal = top_k.columns.len() + 1;
        let has_ordinal = top_k.output.iter().any(|projected| has_column(&projected.expr, ordinal));
        if has_ordinal && moves_rows(search.children()[0]) {
            return Ok(None);
        }
        let Some(input) = self.whole_part(search.children()[0])? else { return Ok(None) };
        let Some(partial) = self.portable_predicate(top_k.predicate.as_ref())? else { return Ok(None) };
        let part = PartialTopKExec::of(search, input)?.with_predicate(partial);
        if !crosses(&part) {
            return Ok(None);
        }
        let rows = Arc::new(CoalescePartitionsExec::new(self.boundary(Arc::new(part))?));
        Ok(Some(Arc::new(MergeTopKExec::of(search, rows)?)))
    }

    async fn join(&self, join: &VectorJoinExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let [queries, searched] = join.children()[..] else { return Ok(None) };
        if join.join().columns.contains(&JoinColumn::Ordinal) && moves_rows(searched) {
            return Ok(None);
        }
        let Some(searched) = self.whole_part(searched)? else { return Ok(None) };
        let Some(predicate) = self.portable_predicate(join.join().predicate.as_ref())? else { return Ok(None) };
        let found = searched.schema();
        let is_returned = |column: &JoinColumn| match column {
            JoinColumn::Found(column) => !is_large_list(found.field(*column).data_type()),
            _ => true,
        };
        if !join.join().columns.iter().all(is_returned) {
            return Ok(None);
        }
        let queries = (self.rows_of)(Arc::clone(queries)).await?;
        let vectors = queries.project(&[join.join().vectors.0])?.get_array_memory_size();
        if vectors > self.ship_limit_bytes {
            let limit = self.ship_limit_bytes;
            return Err(external(Error::InvalidArgument(format!(
                "a join of vectors on workers: expected at most {limit} bytes of query vectors, got {vectors}: run it \
                 over ranges of the queries, raise ship_limit_bytes, or use a session without workers"
            ))));
        }
        let whole = VectorJoinExec::new(
            Arc::clone(join.children()[0]),
            Arc::clone(join.children()[1]),
            Join { predicate, ..join.join().clone() },
            join.schema(),
        );
        let part = PartialJoinExec::of(&whole, &queries, searched)?;
        let rows = Arc::new(CoalescePartitionsExec::new(self.boundary(Arc::new(part))?));
        Ok(Some(Arc::new(MergeJoinExec::of(join, queries, rows))))
    }

    fn aggregate(&self, aggregate: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let is_partial = match aggregate.mode() {
            AggregateMode::Partial => true,
            AggregateMode::Single | AggregateMode::SinglePartitioned => false,
            _ => return Ok(None),
        };
        let Some(input) = self.whole_part(aggregate.input())? else { return Ok(None) };
        let groups = aggregate.group_expr();
        let keys = groups.expr().iter().chain(groups.null_expr()).map(|(expr, _)| expr);
        let filters = aggregate.filter_expr().iter().flatten();
        if !keys.chain(filters).all(|expr| self.functions.is_portable(expr)) {
            return Ok(None);
        }
        let mut aggregates = Vec::with_capacity(aggregate.aggr_expr().len());
        for own in aggregate.aggr_expr() {
            match self.functions.portable_aggregate(own)? {
                Some(portable) => aggregates.push(Arc::new(portable)),
                None => return Ok(None),
            }
        }
        let partial = AggregateExec::try_new(
            AggregateMode::Partial,
            groups.clone(),
            aggregates,
            aggregate.filter_expr().to_vec(),
            input,
            aggregate.input_schema(),
        )?;
        if !crosses(&partial) {
            return Ok(None);
        }
        let states = self.boundary(Arc::new(partial))?;
        if is_partial {
            return Ok(Some(states));
        }
        // Where the order of rows matters to an aggregate, the states are merged in their order.
        let states = Arc::new(OrderedMergeExec::new(states));
        let count = aggregate.aggr_expr().len();
        let merged = AggregateExec::try_new(
            AggregateMode::Final,
            groups.as_final(),
            aggregate.aggr_expr().to_vec(),
            vec![None; count],
            states,
            aggregate.input_schema(),
        )?;
        Ok(Some(Arc::new(merged.with_limit_options(aggregate.limit_options()))))
    }

    /// Cuts a sort with a limit: each partition of the tasks returns its first rows, in whose order
    /// equal ones stay.
    fn sort(&self, plan: &Arc<dyn ExecutionPlan>, sort: &SortExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(fetch) = sort.fetch() else { return Ok(None) };
        if !sort.expr().iter().all(|key| self.functions.is_portable(&key.expr)) {
            return Ok(None);
        }
        let Some(input) = self.whole_part(sort.input())? else { return Ok(None) };
        let own = SortExec::new(sort.expr().clone(), input).with_preserve_partitioning(true).with_fetch(Some(fetch));
        if !crosses(&own) {
            return Ok(None);
        }
        let mut rows = self.boundary(Arc::new(own))?;
        if plan.output_partitioning().partition_count() == 1 {
            rows = Arc::new(OrderedMergeExec::new(rows));
        }
        Ok(Some(replace_children_if_necessary(Arc::clone(plan), vec![rows])?))
    }

    /// Returns the rows of a part in their order, in as many partitions as the plan that it replaces
    /// needs: one, or any number.
    fn rows(&self, plan: &Arc<dyn ExecutionPlan>, part: Part) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.boundary(part.plan)?;
        Ok(match plan.output_partitioning().partition_count() {
            1 => Arc::new(OrderedMergeExec::new(rows).limited_to(part.fetch)),
            _ => rows,
        })
    }

    /// Returns the boundary above a part: its partitions are those of the first task, then those of
    /// the second, and so on.
    fn boundary(&self, part: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let root = Arc::new(TaskExec::new(part));
        let rows = NetworkCoalesceExec::try_new(root, self.shape.tasks, 1)?;
        // The limit of an operator right above a boundary would limit the rows of each task, also that
        // of a sort, which needs all of them. This node is between the two.
        Ok(Arc::new(CooperativeExec::new(Arc::new(rows))))
    }

    /// Returns `None` if a worker cannot evaluate the predicate.
    fn portable_predicate(&self, predicate: Option<&PhysicalExprRef>) -> Result<Option<Option<PhysicalExprRef>>> {
        match predicate {
            None => Ok(Some(None)),
            Some(predicate) => Ok(self.functions.portable(Arc::clone(predicate))?.map(Some)),
        }
    }

    /// Returns a part without a limit.
    fn whole_part(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        Ok(self.part(plan)?.filter(|part| part.fetch.is_none()).map(|part| part.plan))
    }

    /// Returns the part of a plan that is one as a whole.
    fn part(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Part>> {
        if let Some(config) = parquet_scan(plan.as_ref()) {
            let fetch = config.limit;
            return Ok(split_scan(plan, self.shape, self.functions)?.map(|plan| Part { plan, fetch }));
        }
        if let Some(rows) = MemoryRows::of_scan(plan) {
            return match crosses(plan.as_ref()) {
                true => Ok(split_rows(plan, &rows, self.shape)?.map(|plan| Part { plan, fetch: None })),
                false => Ok(None),
            };
        }
        if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            let Some(predicate) = self.functions.portable(Arc::clone(filter.predicate()))? else { return Ok(None) };
            // A filter above a limit needs the first rows of all partitions together.
            let Some(input) = self.whole_part(filter.input())? else { return Ok(None) };
            let own = FilterExecBuilder::from(filter).with_predicate(predicate).with_input(input).build()?;
            return Ok(Some(Part { plan: Arc::new(own), fetch: filter.fetch() }));
        }
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            let mut exprs = Vec::with_capacity(projection.expr().len());
            for projected in projection.expr() {
                let Some(expr) = self.functions.portable(Arc::clone(&projected.expr))? else { return Ok(None) };
                exprs.push(ProjectionExpr { expr, alias: projected.alias.clone() });
            }
            let Some(input) = self.part(projection.input())? else { return Ok(None) };
            let plan = Arc::new(ProjectionExec::try_new(exprs, input.plan)?);
            return Ok(Some(Part { plan, fetch: input.fetch }));
        }
        if let Some(cooperative) = plan.downcast_ref::<CooperativeExec>() {
            return self.part(cooperative.input());
        }
        // The partitions of a part are those of its scan.
        match plan
            .downcast_ref::<RepartitionExec>()
            .filter(|own| matches!(own.partitioning(), Partitioning::RoundRobinBatch(_)))
        {
            Some(repartition) => Ok(self.part(repartition.input())?.filter(|part| part.fetch.is_none())),
            None => Ok(None),
        }
    }
}

/// Returns true if the rows of a plan have other ordinals where they are sent to.
fn moves_rows(plan: &Arc<dyn ExecutionPlan>) -> bool {
    rows_below(plan).is_some_and(|rows| !rows.keeps_positions())
}

fn has_column(expr: &PhysicalExprRef, ordinal: usize) -> bool {
    collect_columns(expr).iter().any(|column| column.index() == ordinal)
}

/// Returns true if rows of a plan's types arrive as they are sent: those with a `LargeList` do not
/// (the transport of Arrow 59 loses its offsets).
fn crosses(plan: &dyn ExecutionPlan) -> bool {
    !plan.schema().fields().iter().any(|field| is_large_list(field.data_type()))
}

fn is_large_list(data_type: &DataType) -> bool {
    match data_type {
        DataType::LargeList(_) | DataType::LargeListView(_) => true,
        DataType::List(item) | DataType::ListView(item) | DataType::FixedSizeList(item, _) | DataType::Map(item, _) => {
            is_large_list(item.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| is_large_list(field.data_type())),
        DataType::Dictionary(_, values) => is_large_list(values),
        _ => false,
    }
}

type PhysicalExprRef = Arc<dyn datafusion::physical_expr::PhysicalExpr>;
