//! Pushes filters down only if column names are unique.
//!
//! DataFusion finds the column of a filter by its name in the input that the filter is pushed to,
//! and drops rows if another column of that input has the same name, as after a join
//! (apache/datafusion#25244, #25262).

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};

/// DataFusion's rule, applied to the parts of a plan below whose root no operator has two columns
/// of one name.
#[derive(Debug)]
pub(super) struct FilterPushdownByUniqueNames(pub Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for FilterPushdownByUniqueNames {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if plan.children().into_iter().all(has_unique_names) {
            return self.0.optimize(plan, config);
        }
        let inputs = plan.children().into_iter().map(|input| self.optimize(Arc::clone(input), config));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        replace_children_if_necessary(plan, inputs)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

fn has_unique_names(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let schema = plan.schema();
    let mut names = HashSet::new();
    schema.fields().iter().all(|field| names.insert(field.name().as_str()))
        && plan.children().into_iter().all(has_unique_names)
}
