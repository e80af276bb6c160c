//! Tables in memory whose rows are sent to the workers.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use datafusion_distributed::DistributedLeafExec;
use vexact_core::error::Error;
use vexact_sql::chunks::MemoryRows;
use vexact_sql::exec::{VectorJoinExec, VectorTopKExec};

use super::scan::Shape;

/// Returns the tables in memory whose rows a plan needs on the workers: those that it searches,
/// filters, sorts up to a limit or aggregates. A plan that only reads the rows of a table computes
/// nothing, so that they stay.
pub(crate) fn sent_tables(plan: &Arc<dyn ExecutionPlan>) -> Vec<MemoryRows> {
    let mut found = Vec::new();
    collect(plan, &mut found);
    found
}

fn collect(plan: &Arc<dyn ExecutionPlan>, found: &mut Vec<MemoryRows>) {
    let children = plan.children();
    let computed = if plan.is::<VectorJoinExec>() {
        children.get(1)
    } else if plan.is::<VectorTopKExec>()
        || plan.is::<AggregateExec>()
        || plan.is::<FilterExec>()
        || plan.downcast_ref::<SortExec>().is_some_and(|sort| sort.fetch().is_some())
    {
        children.first()
    } else {
        None
    };
    let sent = computed.and_then(|input| rows_below(input));
    for (ordinal, child) in children.iter().enumerate() {
        let is_sent = sent.is_some() && ordinal == usize::from(plan.is::<VectorJoinExec>());
        if !is_sent {
            collect(child, found);
        }
    }
    found.extend(sent);
}

/// Returns the table in memory that is below operators that work on each row by itself.
pub(crate) fn rows_below(plan: &Arc<dyn ExecutionPlan>) -> Option<MemoryRows> {
    let is_of_rows = plan.is::<FilterExec>() || plan.is::<ProjectionExec>() || plan.is::<CooperativeExec>();
    let is_of_batches = plan.downcast_ref::<RepartitionExec>();
    let is_of_batches = is_of_batches.is_some_and(|own| matches!(own.partitioning(), Partitioning::RoundRobinBatch(_)));
    match plan.children().first() {
        None => MemoryRows::of_scan(plan),
        Some(child) if is_of_rows || is_of_batches => rows_below(child),
        Some(_) => None,
    }
}

/// Returns true if a plan only reads a table in memory.
pub(crate) fn only_reads_memory(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut below = plan;
    loop {
        match below.children().first() {
            _ if below.is::<FilterExec>() => return false,
            None => return MemoryRows::of_scan(below).is_some(),
            Some(_) if below.children().len() > 1 => return false,
            Some(child) => below = *child,
        }
    }
}

/// Rejects tables that are too large to be sent with each query.
///
/// # Errors
/// More than `limit` bytes in all.
pub(crate) fn check_limit(tables: &[MemoryRows], limit: usize) -> vexact_core::error::Result<()> {
    let bytes: usize = tables.iter().map(MemoryRows::bytes).sum();
    if bytes <= limit {
        return Ok(());
    }
    let columns: Vec<&str> = tables.iter().flat_map(MemoryRows::columns).collect();
    let columns = columns.join(", ");
    Err(Error::InvalidArgument(format!(
        "a table in memory is sent to the workers with each query: expected at most {limit} bytes, got {bytes} (columns \
         {columns}): write it as Parquet (write_parquet, engine.export) and query the file, raise ship_limit_bytes, or \
         use a session without workers"
    )))
}

/// Returns a scan of rows in which each task has its range of them; `None` for lists of numbers of
/// different lengths, because the error of a search compares the rows of all tasks.
pub(crate) fn split_rows(
    plan: &Arc<dyn ExecutionPlan>,
    rows: &MemoryRows,
    shape: Shape,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let rows = rows.batch()?;
    if rows.columns().iter().any(is_ragged) {
        return Ok(None);
    }
    let each = rows.num_rows().div_ceil(shape.tasks * shape.partitions);
    let part = |ordinal: usize| {
        let start = (ordinal * each).min(rows.num_rows());
        rows.slice(start, each.min(rows.num_rows() - start))
    };
    let variants = (0..shape.tasks).map(|task| {
        let parts = (0..shape.partitions).map(|partition| part(task * shape.partitions + partition));
        Arc::new(SentRowsExec::new(rows.schema(), parts.collect())) as Arc<dyn ExecutionPlan>
    });
    Ok(Some(Arc::new(DistributedLeafExec::try_new(Arc::clone(plan), variants)?)))
}

/// Returns true for lists of numbers of different lengths.
fn is_ragged(column: &ArrayRef) -> bool {
    let Some(lists) = column.as_list_opt::<i32>().filter(|lists| lists.value_type().is_numeric()) else { return false };
    let mut lengths = (0..lists.len()).filter(|row| lists.is_valid(*row)).map(|row| lists.value_length(row));
    let first = lengths.next();
    lengths.any(|length| Some(length) != first)
}

/// Returns rows that came with the plan of a task. Each partition is one batch.
#[derive(Debug)]
pub(crate) struct SentRowsExec {
    partitions: Vec<RecordBatch>,
    properties: Arc<PlanProperties>,
}

impl SentRowsExec {
    pub fn new(schema: SchemaRef, partitions: Vec<RecordBatch>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { partitions, properties: Arc::new(properties) }
    }

    pub fn partitions(&self) -> &[RecordBatch] {
        &self.partitions
    }
}

impl DisplayAs for SentRowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let rows: usize = self.partitions.iter().map(RecordBatch::num_rows).sum();
        write!(f, "SentRowsExec: rows={rows}, partitions={}", self.partitions.len())
    }
}

impl ExecutionPlan for SentRowsExec {
    fn name(&self) -> &str {
        "SentRowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.len() {
            0 => Ok(self),
            count => internal_err!("SentRowsExec has no children, got {count}"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.len() {
            0 => Ok(self),
            count => internal_err!("SentRowsExec has no children, got {count}"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(rows) = self.partitions.get(partition) else {
            return internal_err!("SentRowsExec has {} partitions, got number {partition}", self.partitions.len());
        };
        let each = context.session_config().batch_size();
        let batches =
            (0..rows.num_rows()).step_by(each).map(|start| rows.slice(start, each.min(rows.num_rows() - start)));
        Ok(Box::pin(MemoryStream::try_new(batches.collect(), rows.schema(), None)?))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListArray};
    use arrow::datatypes::Int64Type;
    use datafusion::physical_plan::limit::GlobalLimitExec;
    use vexact_sql::chunks::ChunkTable;

    use super::*;

    fn scan(rows: i64) -> Arc<dyn ExecutionPlan> {
        let ids = Int64Array::from_iter_values(0..rows);
        let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as _)]).unwrap();
        let table = ChunkTable::try_new(batch.schema(), vec![batch]).unwrap();
        Arc::new(table.scan_columns(vec![0]).unwrap())
    }

    fn filtered(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let yes = datafusion::physical_expr::expressions::lit(true);
        Arc::new(FilterExec::try_new(yes, input).unwrap())
    }

    #[test]
    fn only_tables_over_which_something_is_computed_are_sent() {
        assert_eq!(sent_tables(&scan(3)).len(), 0);
        assert!(only_reads_memory(&scan(3)));
        let filter = filtered(scan(3));
        assert!(!only_reads_memory(&filter));
        assert_eq!(sent_tables(&filter).len(), 1);
        assert_eq!(sent_tables(&filtered(filter)).len(), 1);
        let limited: Arc<dyn ExecutionPlan> = Arc::new(GlobalLimitExec::new(scan(3), 0, Some(1)));
        assert_eq!(sent_tables(&limited).len(), 0);
        assert_eq!(sent_tables(&filtered(limited)).len(), 0);
    }

    #[test]
    fn more_than_the_limit_is_refused_with_what_to_do() {
        let tables = sent_tables(&filtered(scan(100)));
        assert!(check_limit(&tables, 800).is_ok());
        let error = check_limit(&tables, 799).unwrap_err().to_string();
        for part in ["at most 799 bytes, got 800", "columns id", "engine.export", "ship_limit_bytes"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn lists_of_different_lengths_are_ragged() {
        let lists = |rows: Vec<Option<Vec<Option<i64>>>>| -> ArrayRef {
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows))
        };
        let row = |length| Some(vec![Some(1); length]);
        assert!(!is_ragged(&lists(vec![row(2), None, row(2)])));
        assert!(!is_ragged(&lists(vec![])));
        assert!(is_ragged(&lists(vec![row(2), None, row(3)])));
        assert!(!is_ragged(&(Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)));
    }

    #[tokio::test]
    async fn rows_are_split_in_their_order() {
        for (count, shape) in [(10, Shape { tasks: 3, partitions: 2 }), (2, Shape { tasks: 2, partitions: 2 })] {
            let plan = scan(count);
            let split = split_rows(&plan, &MemoryRows::of_scan(&plan).unwrap(), shape).unwrap().unwrap();
            let variants = split.downcast_ref::<DistributedLeafExec>().unwrap().variants();
            assert_eq!(variants.len(), shape.tasks);
            let mut found = Vec::new();
            for variant in variants {
                for partition in 0..shape.partitions {
                    let rows = variant.execute(partition, Arc::default()).unwrap();
                    let batches = datafusion::physical_plan::common::collect(rows).await.unwrap();
                    let ids = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values());
                    found.extend(ids.copied().collect::<Vec<i64>>());
                }
            }
            assert_eq!(found, (0..count).collect::<Vec<_>>());
        }
    }
}
