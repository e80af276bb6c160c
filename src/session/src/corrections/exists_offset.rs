//! Rewrites a correlated `EXISTS (SELECT ... OFFSET n)` to a count of its rows, because DataFusion
//! drops the OFFSET (apache/datafusion#25283).

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, not_impl_err};
use datafusion::functions_aggregate::count::count;
use datafusion::logical_expr::expr::Exists;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, FetchType, Limit, LogicalPlan, LogicalPlanBuilder, SkipType, Subquery, lit};
use datafusion::optimizer::AnalyzerRule;

use crate::subqueries::is_of_rows;

/// `EXISTS (.. OFFSET n)` is `(SELECT count(*) ..) > n`.
#[derive(Debug)]
pub(super) struct CountedExists;

impl AnalyzerRule for CountedExists {
    fn name(&self) -> &str {
        "vexact_counted_exists"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let counted = plan.transform_up_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let counted = expr.transform_up(|expr| match expr {
                    Expr::Exists(exists) if !exists.subquery.outer_ref_columns.is_empty() => counted(exists),
                    other => Ok(Transformed::no(other)),
                })?;
                Ok(if counted.transformed { counted.update_data(|expr| name.restore(expr)) } else { counted })
            })
        })?;
        Ok(counted.data)
    }
}

fn counted(exists: Exists) -> Result<Transformed<Expr>> {
    let Some((skip, fetch, rows)) = offset(&exists.subquery.subquery)? else {
        return Ok(Transformed::no(Expr::Exists(exists)));
    };
    let Exists { subquery: Subquery { outer_ref_columns, spans, .. }, negated } = exists;
    if fetch == Some(0) {
        return Ok(Transformed::yes(lit(negated)));
    }
    if !is_of_rows(&rows)? {
        return not_impl_err!(
            "EXISTS with OFFSET in a correlated subquery: expected a SELECT without aggregates and set operations"
        );
    }
    let count = LogicalPlanBuilder::from(rows).aggregate(Vec::<Expr>::new(), vec![count(lit(1i64))])?.build()?;
    let count = Expr::ScalarSubquery(Subquery { subquery: Arc::new(count), outer_ref_columns, spans });
    let skip = lit(i64::try_from(skip).unwrap_or(i64::MAX));
    Ok(Transformed::yes(if negated { count.lt_eq(skip) } else { count.gt(skip) }))
}

/// Returns the OFFSET of a subquery, its LIMIT, and the rows to which they apply.
fn offset(plan: &LogicalPlan) -> Result<Option<(usize, Option<usize>, LogicalPlan)>> {
    match plan {
        LogicalPlan::Projection(projection) => offset(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => offset(&alias.input),
        LogicalPlan::Sort(sort) => offset(&sort.input),
        LogicalPlan::Limit(limit) => of_limit(limit),
        _ => Ok(None),
    }
}

fn of_limit(limit: &Limit) -> Result<Option<(usize, Option<usize>, LogicalPlan)>> {
    let SkipType::Literal(skip @ 1..) = limit.get_skip_type()? else { return Ok(None) };
    let fetch = match limit.get_fetch_type()? {
        FetchType::Literal(fetch) => fetch,
        FetchType::UnsupportedExpr => return Ok(None),
    };
    let mut rows = limit.input.as_ref();
    // The order of the rows does not change their number.
    loop {
        rows = match rows {
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => sort.input.as_ref(),
            LogicalPlan::Projection(projection) => projection.input.as_ref(),
            other => break Ok(Some((skip, fetch, other.clone()))),
        };
    }
}
