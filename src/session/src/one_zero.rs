//! Makes the two zeros of floating-point numbers equal, as in SQLite: as keys of joins, groups and
//! sets, and in comparisons of numbers. DataFusion distinguishes -0.0 from 0.0, so 0.0 is added to
//! the compared values that are not literals: the sum of -0.0 and 0.0 is 0.0.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, InSubquery};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, Join, LogicalPlan, Operator, Projection, Subquery,
};
use datafusion::optimizer::AnalyzerRule;

/// Adds 0.0 to the keys of a plan.
#[derive(Debug)]
pub(super) struct OneZero;

impl AnalyzerRule for OneZero {
    fn name(&self) -> &str {
        "one_zero"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            match node {
                LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate, &schema),
                LogicalPlan::Distinct(Distinct::All(input)) => of_distinct(input),
                LogicalPlan::Join(join) => of_join(join),
                LogicalPlan::Window(_) => of_windows(node, &schema),
                other => Ok(Transformed::no(other)),
            }
        })
        .data()
    }
}

/// Returns an expression with 0.0 added, if it is a floating-point number.
pub(super) fn with_one_zero(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_sum_with_zero =
        matches!(&expr, Expr::BinaryExpr(BinaryExpr { op: Operator::Plus, right, .. }) if is_zero(right));
    match expr.get_type(schema) {
        Ok(number) if number.is_floating() && !is_sum_with_zero && !matches!(expr, Expr::Literal(..)) => {
            Ok(Transformed::yes(expr + Expr::Literal(ScalarValue::new_zero(&number)?, None)))
        }
        _ => Ok(Transformed::no(expr)),
    }
}

fn is_zero(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Float64(Some(0.0)) | ScalarValue::Float32(Some(0.0)), _))
}

/// As [`with_one_zero`], under the original name of the expression.
fn with_its_name(expr: &Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (relation, name) = expr.qualified_name();
    let bare = expr.clone().unalias();
    let added = with_one_zero(bare, schema)?;
    Ok(match added.transformed {
        true => Transformed::yes(added.data.alias_qualified(relation, name)),
        false => Transformed::no(expr.clone()),
    })
}

fn all(exprs: &[Expr], of: impl Fn(&Expr) -> Result<Transformed<Expr>>) -> Result<Transformed<Vec<Expr>>> {
    let all = exprs.iter().map(of).collect::<Result<Vec<_>>>()?;
    let is_changed = all.iter().any(|expr| expr.transformed);
    let exprs = all.into_iter().map(|expr| expr.data).collect();
    Ok(Transformed::new(exprs, is_changed, datafusion::common::tree_node::TreeNodeRecursion::Continue))
}

fn of_aggregate(aggregate: Aggregate, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let groups = all(&aggregate.group_expr, |expr| with_its_name(expr, schema))?;
    let calls = all(&aggregate.aggr_expr, |expr| {
        let (relation, name) = expr.qualified_name();
        let changed = expr.clone().unalias().transform_up(|expr| match expr {
            Expr::AggregateFunction(AggregateFunction { func, mut params }) if params.distinct => {
                let args = all(&params.args, |arg| with_one_zero(arg.clone(), schema))?;
                let is_changed = args.transformed;
                params.args = args.data;
                let call = Expr::AggregateFunction(AggregateFunction { func, params });
                Ok(if is_changed { Transformed::yes(call) } else { Transformed::no(call) })
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(match changed.transformed {
            true => Transformed::yes(changed.data.alias_qualified(relation, name)),
            false => Transformed::no(expr.clone()),
        })
    })?;
    if !groups.transformed && !calls.transformed {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(aggregate.input, groups.data, calls.data)?)))
}

fn of_distinct(input: Arc<LogicalPlan>) -> Result<Transformed<LogicalPlan>> {
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let columns = all(&columns, |column| with_its_name(column, input.schema()))?;
    let is_changed = columns.transformed;
    let input = match is_changed {
        true => Arc::new(LogicalPlan::Projection(Projection::try_new(columns.data, input)?)),
        false => input,
    };
    let distinct = LogicalPlan::Distinct(Distinct::All(input));
    Ok(if is_changed { Transformed::yes(distinct) } else { Transformed::no(distinct) })
}

fn of_join(join: Join) -> Result<Transformed<LogicalPlan>> {
    let mut is_changed = false;
    let mut on = Vec::with_capacity(join.on.len());
    for (left, right) in &join.on {
        let left = with_one_zero(left.clone(), join.left.schema())?;
        let right = with_one_zero(right.clone(), join.right.schema())?;
        is_changed |= left.transformed || right.transformed;
        on.push((left.data, right.data));
    }
    let join = LogicalPlan::Join(Join { on, ..join });
    Ok(if is_changed { Transformed::yes(join) } else { Transformed::no(join) })
}

fn of_windows(node: LogicalPlan, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    node.map_expressions(|expr| {
        let (relation, name) = expr.qualified_name();
        let changed = expr.clone().unalias().transform_up(|expr| {
            let Expr::WindowFunction(mut window) = expr else { return Ok(Transformed::no(expr)) };
            let groups = all(&window.params.partition_by, |key| with_one_zero(key.clone(), schema))?;
            let mut is_changed = groups.transformed;
            window.params.partition_by = groups.data;
            for key in &mut window.params.order_by {
                let added = with_one_zero(key.expr.clone(), schema)?;
                is_changed |= added.transformed;
                key.expr = added.data;
            }
            let window = Expr::WindowFunction(window);
            Ok(if is_changed { Transformed::yes(window) } else { Transformed::no(window) })
        })?;
        Ok(match changed.transformed {
            true => Transformed::yes(changed.data.alias_qualified(relation, name)),
            false => Transformed::no(expr),
        })
    })
}

/// `x IN (SELECT y ..)` with 0.0 added to both.
pub(super) fn of_in_subquery(within: InSubquery, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let InSubquery { expr, subquery, negated } = within;
    let expr = with_one_zero(*expr, schema)?;
    let inner = subquery.subquery.schema();
    let columns: Vec<Column> = inner.columns();
    let selected = columns.first().map(|column| with_its_name(&Expr::Column(column.clone()), inner)).transpose()?;
    let (subquery, is_changed) = match selected.filter(|selected| selected.transformed && columns.len() == 1) {
        Some(selected) => {
            let plan = Projection::try_new(vec![selected.data], Arc::clone(&subquery.subquery))?;
            (Subquery { subquery: Arc::new(LogicalPlan::Projection(plan)), ..subquery }, true)
        }
        None => (subquery, false),
    };
    let is_changed = is_changed || expr.transformed;
    let within = Expr::InSubquery(InSubquery { expr: Box::new(expr.data), subquery, negated });
    Ok(if is_changed { Transformed::yes(within) } else { Transformed::no(within) })
}
