//! Rewrites subqueries for which DataFusion has no operator: EXISTS as a value, and correlated
//! scalar subqueries in aggregates and in ORDER BY (apache/datafusion plans them only in
//! projections and filters).

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::functions_aggregate::count::count;
use datafusion::logical_expr::expr::Exists;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, Projection, Sort, Subquery, lit};
use datafusion::optimizer::AnalyzerRule;

/// Rewrites such subqueries as correlated scalar subqueries in projections.
#[derive(Debug)]
pub(super) struct SubqueriesInProjections;

impl AnalyzerRule for SubqueriesInProjections {
    fn name(&self) -> &str {
        "subqueries_in_projections"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        if !has_subquery(&plan)? {
            return Ok(plan);
        }
        plan.transform_up_with_subqueries(|node| {
            let counted = with_counted_exists(node)?;
            let is_changed = counted.transformed;
            let moved = match counted.data {
                LogicalPlan::Aggregate(aggregate) => below_aggregate(aggregate)?,
                LogicalPlan::Sort(sort) => below_sort(sort)?,
                other => Transformed::no(other),
            };
            Ok(Transformed::new_transformed(moved.data, is_changed || moved.transformed))
        })
        .data()
    }
}

fn has_subquery(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= has(expr, |expr| matches!(expr, Expr::Exists(_) | Expr::ScalarSubquery(_)));
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(found)
}

fn has(expr: &Expr, is_it: impl Fn(&Expr) -> bool) -> bool {
    expr.exists(|expr| Ok(is_it(expr))).unwrap_or(false)
}

/// Rewrites `EXISTS (SELECT ..)` as a value to `(SELECT count(*) ..) > 0`.
fn with_counted_exists(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let is_of_values = matches!(node, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Sort(_));
    if !is_of_values || !node.expressions().iter().any(|expr| has(expr, |expr| matches!(expr, Expr::Exists(_)))) {
        return Ok(Transformed::no(node));
    }
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        let counted = expr.transform_up(|expr| match expr {
            Expr::Exists(exists) if is_of_rows(&exists.subquery.subquery)? => Ok(Transformed::yes(counted(exists)?)),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(counted.update_data(|expr| name.restore(expr)))
    })
}

/// Returns true if a plan has only operators that allow its rows to be counted for each row of the
/// outer query.
pub(crate) fn is_of_rows(plan: &LogicalPlan) -> Result<bool> {
    let mut is_of_rows = true;
    plan.apply(|node| {
        is_of_rows &= matches!(
            node,
            LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::TableScan(_)
                | LogicalPlan::SubqueryAlias(_)
        );
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(is_of_rows)
}

fn counted(exists: Exists) -> Result<Expr> {
    let Exists { subquery: Subquery { subquery, outer_ref_columns, spans }, negated } = exists;
    let count = LogicalPlanBuilder::from(Arc::unwrap_or_clone(subquery))
        .aggregate(Vec::<Expr>::new(), vec![count(lit(1i64))])?
        .build()?;
    let value = Expr::ScalarSubquery(Subquery { subquery: Arc::new(count), outer_ref_columns, spans });
    Ok(if negated { value.eq(lit(0i64)) } else { value.gt(lit(0i64)) })
}

/// Correlated scalar subqueries that were moved out of expressions, with the names of their new
/// columns.
struct Moved {
    columns: Vec<Expr>,
    input: Arc<LogicalPlan>,
}

impl Moved {
    fn out_of(&mut self, expr: Expr) -> Result<Transformed<Expr>> {
        expr.transform_up(|expr| match expr {
            Expr::ScalarSubquery(subquery) if self.can_compute(&subquery) => {
                let name = format!("__subquery_{}", self.columns.len());
                self.columns.push(Expr::ScalarSubquery(subquery).alias(&name));
                Ok(Transformed::yes(Expr::Column(Column::from_name(name))))
            }
            other => Ok(Transformed::no(other)),
        })
    }

    fn can_compute(&self, subquery: &Subquery) -> bool {
        let is_there = |outer: &Expr| match outer {
            Expr::OuterReferenceColumn(_, column) => self.input.schema().has_column(column),
            _ => false,
        };
        !subquery.outer_ref_columns.is_empty() && subquery.outer_ref_columns.iter().all(is_there)
    }

    /// Projects the input to these expressions and the moved subqueries.
    fn projected(self, exprs: Vec<Expr>) -> Result<Arc<LogicalPlan>> {
        let exprs = exprs.into_iter().chain(self.columns).collect();
        Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, self.input)?)))
    }
}

fn below_aggregate(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let mut moved = Moved { columns: Vec::new(), input: Arc::clone(&aggregate.input) };
    let mut without = |exprs: &[Expr]| -> Result<Vec<Expr>> {
        let without = |expr: &Expr| {
            let taken = moved.out_of(expr.clone())?;
            let name = expr.schema_name().to_string();
            Ok(if taken.transformed { taken.data.alias(name) } else { taken.data })
        };
        exprs.iter().map(without).collect()
    };
    let (group_expr, aggr_expr) = (without(&aggregate.group_expr)?, without(&aggregate.aggr_expr)?);
    if moved.columns.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let columns = moved.input.schema().columns().into_iter().map(Expr::Column).collect();
    let input = moved.projected(columns)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, aggr_expr)?)))
}

/// Evaluates subqueries of a sort below the projection that produces the rows to sort, where the
/// columns are that they read.
fn below_sort(sort: Sort) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Projection(projection) = sort.input.as_ref() else {
        return Ok(Transformed::no(LogicalPlan::Sort(sort)));
    };
    let mut moved = Moved { columns: Vec::new(), input: Arc::clone(&projection.input) };
    let mut keys = Vec::with_capacity(sort.expr.len());
    for key in &sort.expr {
        keys.push(key.with_expr(moved.out_of(key.expr.clone())?.data));
    }
    if moved.columns.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Sort(sort)));
    }
    let output = projection.schema.columns().into_iter().map(Expr::Column).collect();
    let input = moved.projected(projection.expr.clone())?;
    let sorted = LogicalPlan::Sort(Sort { expr: keys, input, fetch: sort.fetch });
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(output, Arc::new(sorted))?)))
}
