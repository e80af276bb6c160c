//! Makes statistics that cannot be computed unknown, instead of failing the query
//! (apache/datafusion#22028, #25524).
//!
//! DataFusion estimates the selectivity of a filter by computing with the bounds of its columns. If
//! that fails, as the negative of the least integer or a cast of a bound does, the query fails,
//! even if no row has the value.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

/// Hides the conditions for which statistics fail. It runs before the rules that read statistics.
#[derive(Debug)]
pub(super) struct TolerateStatistics;

impl PhysicalOptimizerRule for TolerateStatistics {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let tolerant = plan.transform_up(|plan| {
            let Some(filter) = plan.downcast_ref::<FilterExec>().filter(|filter| !has_statistics(filter)) else {
                return Ok(Transformed::no(plan));
            };
            let parts = split_conjunction(filter.predicate()).into_iter().map(|part| {
                let alone = with_predicate(filter, Arc::clone(part));
                if alone.is_ok_and(|filter| has_statistics(&filter)) { Arc::clone(part) } else { unanalyzed(part) }
            });
            let tolerant = with_predicate(filter, conjunction(parts))?;
            let tolerant = match has_statistics(&tolerant) {
                true => tolerant,
                false => with_predicate(filter, unanalyzed(filter.predicate()))?,
            };
            Ok(Transformed::yes(Arc::new(tolerant) as Arc<dyn ExecutionPlan>))
        })?;
        Ok(tolerant.data)
    }

    fn name(&self) -> &str {
        "vexact_tolerate_statistics"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn has_statistics(filter: &FilterExec) -> bool {
    StatisticsContext::new().compute(filter, &StatisticsArgs::new()).is_ok()
}

fn with_predicate(filter: &FilterExec, predicate: Arc<dyn PhysicalExpr>) -> Result<FilterExec> {
    FilterExecBuilder::from(filter).with_predicate(predicate).build()
}

fn unanalyzed(predicate: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Arc::new(Unanalyzed(Arc::clone(predicate)))
}

/// A condition that is evaluated for rows and not for bounds.
#[derive(Debug, Eq)]
pub(super) struct Unanalyzed(pub(super) Arc<dyn PhysicalExpr>);

impl PartialEq for Unanalyzed {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref() == other.0.as_ref()
    }
}

impl Hash for Unanalyzed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for Unanalyzed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl PhysicalExpr for Unanalyzed {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.0.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.0.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.0.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.0]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([predicate]) => Ok(Arc::new(Self(predicate))),
            Err(others) => internal_err!("a condition has one child, got {}", others.len()),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}
