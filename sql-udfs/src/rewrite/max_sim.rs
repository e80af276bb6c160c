//! `ORDER BY max_sim(tokens, query) DESC NULLS LAST LIMIT k` over chunks in memory becomes a
//! [`MaxSimTopKExec`].

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::ExecutionPlan;

use super::top_k::gather;
use crate::chunks;
use crate::exec::{MaxSimTopK, MaxSimTopKExec};
use crate::functions::{is_max_sim, is_token_column};

/// A sort by one key with a limit, over the plan below it.
pub(super) struct Sorted<'s> {
    pub plan: &'s Arc<dyn ExecutionPlan>,
    pub key: &'s Arc<dyn PhysicalExpr>,
    pub options: SortOptions,
    pub predicate: Option<&'s Arc<dyn PhysicalExpr>>,
    pub output: &'s [ProjectionExpr],
    pub k: usize,
    pub schema: SchemaRef,
    pub ordering: Option<LexOrdering>,
}

/// Returns the search, if the sort is one of the closest rows first.
pub(super) fn rewrite(sorted: Sorted<'_>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let closest_first = SortOptions { descending: true, nulls_first: false };
    let Some((tokens, query)) = call(sorted.key).filter(|_| sorted.options == closest_first) else { return Ok(None) };
    let Some(scan) = chunks::in_place(sorted.plan) else { return Ok(None) };
    // Rows of one score are ordered by position.
    if !scan.chunks.tie_order().is_empty() || sorted.k == 0 {
        return Ok(None);
    }
    let input = sorted.plan.schema();
    if !is_token_column(input.field(tokens).data_type()) {
        return Ok(None);
    }
    let (columns, output) = gather(sorted.output, Some(sorted.key))?;
    let predicate = sorted.predicate.cloned();
    let top_k = MaxSimTopK { predicate, tokens, query, k: sorted.k, columns, output };
    let search = MaxSimTopKExec::new(Arc::clone(sorted.plan), top_k, sorted.schema, sorted.ordering);
    Ok(Some(Arc::new(search)))
}

/// Returns the column and the constant of a call of `max_sim`.
fn call(expr: &Arc<dyn PhysicalExpr>) -> Option<(usize, Arc<dyn PhysicalExpr>)> {
    let expr: &dyn PhysicalExpr = expr.as_ref();
    let function = expr.downcast_ref::<ScalarFunctionExpr>().filter(|function| is_max_sim(function.fun()))?;
    let [tokens, query] = function.args() else { return None };
    let tokens: &dyn PhysicalExpr = tokens.as_ref();
    let is_constant = collect_columns(query).is_empty() && !is_volatile(query);
    Some((tokens.downcast_ref::<Column>().filter(|_| is_constant)?.index(), Arc::clone(query)))
}
