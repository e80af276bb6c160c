//! Never fails because a plan's nullability is wrong.
//!
//! A plan's nullability is an estimate: constants are folded to values that are not NULL
//! (apache/datafusion#13190), grouping sets and CASE are more nullable in one plan than in the other
//! (#24968, #24513). Such a difference changes no row, so no check may fail because of it.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::{LogicalPlan, RecursiveQuery};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use super::PhysicalRule;

/// A physical optimizer rule that may change what is known of NULL, but neither names nor types.
#[derive(Debug)]
pub(super) struct AnyNullability(pub PhysicalRule);

impl PhysicalOptimizerRule for AnyNullability {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let before = plan.schema();
        let optimized = self.0.optimize(plan, config)?;
        let after = optimized.schema();
        if self.0.schema_check() && !are_same(&before, &after) {
            let name = self.0.name();
            return internal_err!("optimizer rule {name:?}: expected the columns {before}, got {after}");
        }
        Ok(optimized)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        false
    }
}

/// Returns true if two schemas have the same columns apart from nullability and metadata.
fn are_same(one: &Schema, other: &Schema) -> bool {
    let (one, other) = (one.fields(), other.fields());
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| {
            one.name() == other.name() && DFSchema::datatype_is_semantically_equal(one.data_type(), other.data_type())
        })
}

/// Makes the columns of recursive queries nullable: the physical plan of the recursive term may be
/// more nullable than the logical one, which DataFusion refuses.
#[derive(Debug)]
pub(super) struct NullableRecursion;

impl AnalyzerRule for NullableRecursion {
    fn name(&self) -> &str {
        "vexact_nullable_recursion"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::RecursiveQuery(query) if query.schema.fields().iter().any(|field| !field.is_nullable()) => {
                let schema = Arc::new(nullable(&query.schema)?);
                Ok(Transformed::yes(LogicalPlan::RecursiveQuery(RecursiveQuery { schema, ..query })))
            }
            other => Ok(Transformed::no(other)),
        })
        .data()
    }
}

fn nullable(schema: &DFSchema) -> Result<DFSchema> {
    let field = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
    let fields = schema.iter().map(|(table, column)| (table.cloned(), field(column))).collect();
    DFSchema::new_with_metadata(fields, schema.metadata().clone())
}
