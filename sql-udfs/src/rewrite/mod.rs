//! The optimizer rule: a sort by distance with a limit becomes a [`VectorTopKExec`], a comparison
//! of a distance with a constant becomes a range search. Both are applied only if the result equals
//! that of plain evaluation; otherwise they report the reason as a [`Decline`].

mod bind;
mod call;
mod decline;
mod max_sim;
mod range_search;
mod score_bounds;
mod ties;
mod top_k;
mod zero_order;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

pub(crate) use bind::BindQueries;
pub use bind::bind_parameters;
pub(crate) use call::{has_call, scoring};
pub use decline::Decline;
pub(crate) use range_search::{WithinRadius, range_strategy};
pub use score_bounds::with_score_bounds;
pub(crate) use ties::BreakTies;
pub(crate) use top_k::below_filters;
pub(crate) use zero_order::OrderZeros;

use crate::chunks;
use crate::config::VexactOptions;

/// The rule, for DataFusion.
#[derive(Debug)]
pub struct VectorRewrite {
    /// True if only searches of chunks in memory are rewritten. The rule may then run before all
    /// other rules, which have less to do afterwards. Scans of files must get their filters first.
    pub is_in_place: bool,
}

impl PhysicalOptimizerRule for VectorRewrite {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if !VexactOptions::of(config).rewrite {
            return Ok(plan);
        }
        let target = config.execution.target_partitions;
        let plan = plan.transform_down(|plan| {
            Ok(match top_k::rewrite(&plan, target, config)? {
                top_k::RewriteResult::Rewritten(rewritten) if !self.is_in_place || is_in_place(&rewritten) => {
                    Transformed::yes(rewritten)
                }
                _ => Transformed::no(plan),
            })
        })?;
        if self.is_in_place {
            return Ok(plan.data);
        }
        range_searches(plan.data)
    }

    fn name(&self) -> &str {
        if self.is_in_place { "vexact_vector_rewrite_in_place" } else { "vexact_vector_rewrite" }
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Replaces the range searches in the filters of a plan, as the rule does.
///
/// # Errors
/// None at present.
pub fn range_searches(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(plan.transform_up(range_search::rewrite)?.data)
}

/// Returns true if all inputs of a search are scans of chunks in memory.
pub(crate) fn is_in_place(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.children().into_iter().all(|input| chunks::in_place(input).is_some())
}

/// Returns the reasons why the sorts by distance that are still in a plan were not rewritten.
pub(crate) fn declines(plan: &Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Vec<Decline> {
    let mut declines = Vec::new();
    let is_off = !VexactOptions::of(config).rewrite;
    let mut pending = vec![Arc::clone(plan)];
    while let Some(plan) = pending.pop() {
        match top_k::rewrite(&plan, config.execution.target_partitions, config) {
            Ok(top_k::RewriteResult::Declined(reason)) => declines.push(reason),
            Ok(top_k::RewriteResult::Rewritten(_)) if is_off => declines.push(Decline::Disabled),
            _ => {}
        }
        pending.extend(plan.children().into_iter().cloned());
    }
    declines.dedup();
    declines
}
