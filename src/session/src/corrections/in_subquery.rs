//! Gives `x [NOT] IN (SELECT y ...)` three truth values, where DataFusion has two.
//!
//! DataFusion's join for NOT IN handles NULL only if the subquery is not correlated and stands
//! directly between ANDs. Elsewhere it ignores a NULL among the `y` (apache/datafusion#25347,
//! #10583), or rejects the query.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, lit, not, when,
};
use datafusion::optimizer::AnalyzerRule;

/// Rewrites such IN expressions with EXISTS.
#[derive(Debug)]
pub(super) struct ThreeValuedIn;

impl AnalyzerRule for ThreeValuedIn {
    fn name(&self) -> &str {
        "vexact_three_valued_in"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut names = 0;
        let analyzed = plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::Filter(filter) = node else { return Ok(Transformed::no(node)) };
            if !has_in(&filter.predicate) {
                return Ok(Transformed::no(LogicalPlan::Filter(filter)));
            }
            let mut rewriter = Rewriter { schema: Arc::clone(filter.input.schema()), names: &mut names };
            let parts = split_conjunction_owned(filter.predicate.clone());
            let parts = parts.into_iter().map(|part| rewriter.conjunct(part)).collect::<Result<Vec<_>>>()?;
            let predicate = conjunction(parts).unwrap_or_else(|| lit(true));
            if predicate == filter.predicate {
                return Ok(Transformed::no(LogicalPlan::Filter(filter)));
            }
            Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
        })?;
        Ok(analyzed.data)
    }
}

fn has_in(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::InSubquery(_)))).unwrap_or(false)
}

struct Rewriter<'n> {
    /// Schema of the filter's input.
    schema: Arc<DFSchema>,
    /// Number of subqueries that have been given a name.
    names: &'n mut usize,
}

/// The rows of a subquery, and the one column that it has.
struct Rows {
    plan: LogicalPlan,
    column: Column,
    outer: Vec<Expr>,
}

impl Rewriter<'_> {
    /// Rewrites a part of the predicate that has to be true.
    fn conjunct(&mut self, part: Expr) -> Result<Expr> {
        match part {
            Expr::Not(inner) => match *inner {
                Expr::InSubquery(is_in) => self.alone(InSubquery { negated: !is_in.negated, ..is_in }),
                other => self.within(not(other), false),
            },
            Expr::InSubquery(is_in) => self.alone(is_in),
            other => self.within(other, true),
        }
    }

    /// Rewrites an IN that stands between ANDs, where false has the same effect as NULL.
    fn alone(&mut self, is_in: InSubquery) -> Result<Expr> {
        // A constant cannot be a key of DataFusion's join either (#25340).
        let is_constant = is_in.expr.column_refs().is_empty();
        if !is_in.negated || (is_in.subquery.outer_ref_columns.is_empty() && !is_constant) {
            return Ok(Expr::InSubquery(is_in));
        }
        let Some(x) = self.outer(&is_in.expr)? else { return Ok(Expr::InSubquery(is_in)) };
        let rows = self.rows(&is_in.subquery)?;
        let same = Expr::Column(rows.column.clone()).eq(x);
        Ok(not(rows.exist(Some(Expr::IsNotFalse(Box::new(same))))?))
    }

    /// Rewrites a part that contains IN. `is_positive` is true if only AND and OR are above it.
    fn within(&mut self, expr: Expr, is_positive: bool) -> Result<Expr> {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) if is_positive => {
                let (left, right) = (self.within(*left, true)?, self.within(*right, true)?);
                Ok(Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) }))
            }
            Expr::InSubquery(is_in) if is_positive && !is_in.negated => Ok(Expr::InSubquery(is_in)),
            other => Ok(other
                .transform_up(|expr| match expr {
                    Expr::InSubquery(is_in) => self.spelled_out(is_in),
                    other => Ok(Transformed::no(other)),
                })?
                .data),
        }
    }

    /// `CASE WHEN y = x exists THEN true WHEN there are no y THEN false WHEN x or a y is NULL THEN NULL ELSE false END`.
    fn spelled_out(&mut self, is_in: InSubquery) -> Result<Transformed<Expr>> {
        let Some(x) = self.outer(&is_in.expr)? else { return Ok(Transformed::no(Expr::InSubquery(is_in))) };
        let mut rows = || self.rows(&is_in.subquery);
        let (same, any, null) = (rows()?, rows()?, rows()?);
        let same = {
            let is_same = Expr::Column(same.column.clone()).eq(x);
            same.exist(Some(is_same))?
        };
        let null = {
            let is_null = Expr::Column(null.column.clone()).is_null();
            null.exist(Some(is_null))?
        };
        let truth = |is_found: bool| lit(is_found != is_in.negated);
        let unknown = is_in.expr.is_null().or(null);
        let case = when(same, truth(true))
            .when(not(any.exist(None)?), truth(false))
            .when(unknown, Expr::Literal(ScalarValue::Boolean(None), None))
            .otherwise(truth(false))?;
        Ok(Transformed::yes(case))
    }

    /// Returns an expression over the filter's rows as its subqueries see it; `None` if it has a
    /// subquery of its own, or is volatile.
    fn outer(&self, expr: &Expr) -> Result<Option<Expr>> {
        let has_subquery = expr.exists(|expr| {
            Ok(matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)))
        })?;
        if has_subquery || expr.is_volatile() {
            return Ok(None);
        }
        let outer = expr.clone().transform_up(|expr| match expr {
            Expr::Column(column) => {
                let (_, field) = Expr::Column(column.clone()).to_field(&self.schema)?;
                Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(Some(outer.data))
    }

    fn rows(&mut self, subquery: &Subquery) -> Result<Rows> {
        *self.names += 1;
        // The name is unique, because the table may also be the filter's.
        let name = format!("__in_{}", self.names);
        let (qualifier, field) = subquery.subquery.schema().qualified_field(0);
        let first = Expr::Column(Column::new(qualifier.cloned(), field.name())).alias(&name);
        let plan = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone()).project([first])?.build()?;
        Ok(Rows { column: Column::from_name(name), outer: subquery.outer_ref_columns.clone(), plan })
    }
}

impl Rows {
    /// Builds an expression that is true if there is a row for which a condition is true.
    fn exist(self, condition: Option<Expr>) -> Result<Expr> {
        let Self { plan, mut outer, .. } = self;
        let plan = match condition {
            Some(condition) => {
                condition.apply_outer(|column| {
                    if !outer.contains(column) {
                        outer.push(column.clone());
                    }
                })?;
                LogicalPlanBuilder::from(plan).filter(condition)?.build()?
            }
            None => plan,
        };
        let subquery = Subquery { subquery: Arc::new(plan), outer_ref_columns: outer, spans: Default::default() };
        Ok(Expr::Exists(Exists { subquery, negated: false }))
    }
}

/// Visits the columns of an outer query.
trait ApplyOuter {
    fn apply_outer(&self, visit: impl FnMut(&Expr)) -> Result<()>;
}

impl ApplyOuter for Expr {
    fn apply_outer(&self, mut visit: impl FnMut(&Expr)) -> Result<()> {
        use datafusion::common::tree_node::TreeNodeRecursion;

        self.apply(|expr| {
            if let Expr::OuterReferenceColumn(..) = expr {
                visit(expr);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(())
    }
}
