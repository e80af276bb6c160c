//! `TaskExec`: the root of the plan of a task.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::TryStreamExt;
use vexact_sources::object_stores::ObjectStores;
use vexact_sources::parquet_reader::{CheckParquet, named};

use super::errors::{external, sent};

/// Returns the rows of its input. Errors name the files that the task reads, and keep their kind and
/// text on the way to the coordinator.
#[derive(Debug)]
pub(crate) struct TaskExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl TaskExec {
    pub fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        Self { properties: Arc::clone(input.properties()), input }
    }
}

impl DisplayAs for TaskExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("TaskExec")
    }
}

impl ExecutionPlan for TaskExec {
    vexact_sql::one_child_plan!(TaskExec, input, |self, input| Self::new(input));

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context).map_err(sent)?;
        let rows = named(&self.input, rows);
        Ok(Box::pin(RecordBatchStreamAdapter::new(rows.schema(), rows.map_err(sent))))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

/// Prepares the plan of a task on its worker, with the nodes and order of the plan that was sent:
/// Parquet files are read through checks, and comparisons of distances become range searches.
pub(crate) fn prepared(
    plan: Arc<dyn ExecutionPlan>,
    options: &datafusion::config::ConfigOptions,
    stores: &Arc<ObjectStores>,
) -> Result<Arc<dyn ExecutionPlan>> {
    use datafusion::physical_optimizer::PhysicalOptimizerRule;

    let checked = CheckParquet(Arc::clone(stores)).optimize(plan, options)?;
    vexact_sql::range_searches(checked).map_err(|error| sent(external(error.into())))
}
