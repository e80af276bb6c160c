//! The third section of EXPLAIN: the strategy of the vector searches in a plan, and the reason why
//! a sort by distance was not rewritten.

use std::fmt::{self, Write};
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::format::ExplainFormat;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use crate::config::VexactOptions;
use crate::correlated::with_hint;
use crate::exec::{VectorJoinExec, VectorTopKExec};
use crate::rewrite;
use crate::strategy::{SearchStrategy, Section, Strategy};
use crate::table::{BestOfEachGroup, GroupPlanner};

/// Delegates planning, and adds `strategy_plan` to EXPLAIN.
#[derive(Debug)]
pub(crate) struct StrategyPlanner {
    inner: Arc<dyn QueryPlanner + Send + Sync>,
}

impl StrategyPlanner {
    pub fn new(inner: Arc<dyn QueryPlanner + Send + Sync>) -> Self {
        Self { inner }
    }

    async fn plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let added = session.config().get_extension::<ExtensionPlanners>();
        let planned = match has_operator(plan, added.is_some()) {
            true => {
                let mut planners: Vec<Arc<dyn ExtensionPlanner + Send + Sync>> = vec![Arc::new(GroupPlanner)];
                planners.extend(added.iter().flat_map(|added| added.0.iter().cloned()));
                let planner = DefaultPhysicalPlanner::with_extension_planners(planners);
                planner.create_physical_plan(plan, session).await
            }
            false => self.inner.create_physical_plan(plan, session).await,
        };
        planned.map_err(|error| with_hint(error, plan))
    }
}

/// Planners of logical operators of other crates, as an extension of a session's configuration.
pub struct ExtensionPlanners(pub Vec<Arc<dyn ExtensionPlanner + Send + Sync>>);

/// Returns true if a plan contains the operator of a search by group or, with `of_any_crate`, any
/// operator that is not DataFusion's.
fn has_operator(plan: &LogicalPlan, of_any_crate: bool) -> bool {
    let mut is_found = false;
    let visited = plan.apply_with_subqueries(|node| {
        is_found |= matches!(node, LogicalPlan::Extension(extension)
            if of_any_crate || extension.node.as_any().is::<BestOfEachGroup>());
        Ok(if is_found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    visited.is_ok() && is_found
}

#[async_trait]
impl QueryPlanner for StrategyPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planned = self.plan(plan, session).await?;
        let LogicalPlan::Explain(explain) = plan else { return Ok(planned) };
        // DML may act while it is planned; the other formats have one row each.
        let may_write =
            matches!(explain.plan.as_ref(), LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Ddl(_));
        if may_write || explain.explain_format != ExplainFormat::Indent {
            return Ok(planned);
        }
        // EXPLAIN itself reports a planning error.
        let Ok(searched) = self.plan(&explain.plan, session).await else { return Ok(planned) };
        let strategy = strategy(&searched, session.config_options());
        if strategy.sections.is_empty() {
            return Ok(planned);
        }
        let schema: SchemaRef = planned.schema();
        let text = |text: &str| Arc::new(StringArray::from(vec![text.to_owned()]));
        let row = RecordBatch::try_new(Arc::clone(&schema), vec![text("strategy_plan"), text(&strategy.to_string())])?;
        // Explaining is done: its rows are texts.
        let mut rows = collect(planned, session.task_ctx()).await?;
        rows.push(row);
        Ok(MemorySourceConfig::try_new_exec(&[rows], schema, None)?)
    }
}

/// Returns the strategies of the vector searches in a physical plan, as executed if they have run,
/// and the reason for each sort by distance that was not rewritten.
pub fn strategy(plan: &Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Strategy {
    let tier = VexactOptions::of(config).tier;
    let mut sections = Vec::new();
    let mut pending = vec![Arc::clone(plan)];
    while let Some(plan) = pending.pop() {
        let node: &dyn ExecutionPlan = plan.as_ref();
        if let Some(top_k) = node.downcast_ref::<VectorTopKExec>() {
            sections.push(top_k.strategy(tier).into());
        } else if let Some(join) = node.downcast_ref::<VectorJoinExec>() {
            sections.push(SearchStrategy::from(join.report(tier)).into());
        } else if let Some(filter) = node.downcast_ref::<FilterExec>() {
            let ranges = rewrite::range_strategy(filter, tier);
            sections.extend(ranges.into_iter().map(|report| Section::from(SearchStrategy::from(report))));
        }
        pending.extend(plan.children().into_iter().rev().cloned());
    }
    sections.extend(rewrite::declines(plan, config).into_iter().map(Section::Declined));
    Strategy { sections, ..Strategy::default() }
}

/// The three sections of an explain.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Explained {
    /// DataFusion's logical plan, optimized.
    pub logical: String,
    /// DataFusion's physical plan.
    pub physical: String,
    /// How the vector searches are done.
    pub strategy: Strategy,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let strategy = self.strategy.to_string();
        for (heading, text) in [("logical", &self.logical), ("physical", &self.physical), ("strategy", &strategy)] {
            writeln!(f, "{heading}")?;
            for line in text.trim_end().lines() {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

/// Shortens lists of many numbers in the text of a plan, such as the components of a query.
pub fn without_long_vectors(text: &str) -> String {
    const SHOWN: usize = 3;
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('[') {
        short.push_str(&rest[..=start]);
        rest = &rest[start + 1..];
        let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | ' ' | '-' | '+' | 'e' | 'E');
        let list = rest.find(|c| !is_number(c)).map_or(rest, |end| &rest[..end]);
        let separator = if list.contains(',') { ',' } else { ' ' };
        let components = list.split(separator).filter(|component| !component.trim().is_empty()).count();
        if rest[list.len()..].starts_with(']') && components > 2 * SHOWN {
            let shown: Vec<&str> = list.split(separator).take(SHOWN).map(str::trim).collect();
            short.push_str(&format!("{}, ... {components} components", shown.join(", ")));
            rest = &rest[list.len()..];
        }
    }
    short.push_str(rest);
    short
}

/// Returns the sections of existing plans, executed or not.
pub fn explain_plan(logical: &LogicalPlan, physical: &Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Explained {
    let mut logical_text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(logical_text, "{}", logical.display_indent());
    Explained {
        logical: without_long_vectors(&logical_text),
        physical: without_long_vectors(&displayable(physical.as_ref()).indent(false).to_string()),
        strategy: strategy(physical, config),
    }
}

#[cfg(test)]
mod tests {
    use super::without_long_vectors;

    #[test]
    fn long_vectors_are_cut_and_everything_else_is_kept() {
        let long = "f(x, List([1.0, -2e-3, 3, 4, 5, 6, 7, 8])) [a, b] [1, 2, 3] '[1 2 3 4 5 6 7 8]' [";
        let short = "f(x, List([1.0, -2e-3, 3, ... 8 components])) [a, b] [1, 2, 3] '[1, 2, 3, ... 8 components]' [";
        assert_eq!(without_long_vectors(long), short);
    }
}
