//! Semantic gaps of subqueries. A subquery that does not read the outer row is checked like a
//! query; a correlated one is compatible in the shapes that DataFusion is known to turn into the
//! right join.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, JoinType, LogicalPlan, Operator, Subquery};

/// Returns true if a subquery reads columns of the outer row.
pub(super) fn is_correlated(subquery: &Subquery) -> bool {
    !subquery.outer_ref_columns.is_empty()
}

/// Returns the gap of the subquery of an EXISTS or IN: rows are lost if it aggregates, or limits
/// its rows (apache/datafusion#24960, #25283, #25519).
pub(super) fn of_rows(subquery: &Subquery) -> Option<String> {
    if !is_correlated(subquery) || is_filtered_rows(&subquery.subquery, &|_| true) {
        return None;
    }
    Some("EXISTS or IN of a correlated subquery that does more than filter rows".into())
}

/// Returns the gap of a scalar subquery. Of a correlated one, DataFusion computes aggregates over
/// the rows that have the same keys (apache/datafusion#10553, #22317).
pub(super) fn of_value(subquery: &Subquery) -> Option<String> {
    let mut node = &subquery.subquery;
    while is_correlated(subquery) {
        node = match &**node {
            LogicalPlan::Projection(projection) if projection.expr.iter().all(is_column) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Aggregate(aggregate)
                if aggregate.group_expr.is_empty()
                    && !aggregate.aggr_expr.iter().any(has_outer_reference)
                    && is_filtered_rows(&aggregate.input, &is_equality) =>
            {
                return None;
            }
            _ => return Some("a correlated scalar subquery that is no plain aggregate of rows with equal keys".into()),
        };
    }
    // DataFusion treats the value as never NULL, and folds expressions that depend on it
    // (apache/datafusion#24513).
    let is_null_without_rows = subquery.subquery.schema().fields().first().is_some_and(|field| !field.is_nullable());
    let may_be_wrong = is_null_without_rows && !has_one_row(&subquery.subquery);
    may_be_wrong.then(|| "a scalar subquery of a column that is not NULL, which may have no rows".into())
}

/// Returns true if a plan is an aggregate without groups.
fn has_one_row(mut plan: &LogicalPlan) -> bool {
    loop {
        plan = match plan {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Sort(sort) => &sort.input,
            LogicalPlan::Aggregate(aggregate) => return aggregate.group_expr.is_empty(),
            _ => return false,
        };
    }
}

/// Returns true if an expression contains a subquery.
pub(super) fn has_subquery(expr: &Expr) -> bool {
    has(expr, |expr| {
        matches!(expr, Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_))
    })
}

/// Returns true if a plan yields table rows that pass filters, and only the filters read the outer
/// row. `is_allowed` decides about each conjunct of a filter that reads the outer row.
fn is_filtered_rows(plan: &LogicalPlan, is_allowed: &dyn Fn(&Expr) -> bool) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::SubqueryAlias(alias) => is_filtered_rows(&alias.input, is_allowed),
        LogicalPlan::Projection(projection) => {
            !projection.expr.iter().any(has_outer_reference) && is_filtered_rows(&projection.input, is_allowed)
        }
        LogicalPlan::Filter(filter) => {
            let conjuncts = split_conjunction(&filter.predicate);
            conjuncts.into_iter().all(|conjunct| !has_outer_reference(conjunct) || is_allowed(conjunct))
                && is_filtered_rows(&filter.input, is_allowed)
        }
        LogicalPlan::Join(join) => {
            let exprs = join.filter.iter().chain(join.on.iter().flat_map(|(a, b)| [a, b]));
            join.join_type == JoinType::Inner
                && !exprs.into_iter().any(has_outer_reference)
                && [&join.left, &join.right].into_iter().all(|input| is_filtered_rows(input, is_allowed))
        }
        LogicalPlan::Window(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Statement(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::Extension(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::Dml(_)
        | LogicalPlan::Ddl(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::DescribeTable(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::RecursiveQuery(_) => false,
    }
}

fn is_column(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_column(&alias.expr),
        other => matches!(other, Expr::Column(_)),
    }
}

/// Returns true for an equality between a column of the outer row and an expression of the
/// subquery.
fn is_equality(expr: &Expr) -> bool {
    let is_outer = |expr: &Expr| matches!(expr, Expr::OuterReferenceColumn(..));
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            (is_outer(left) && !has_outer_reference(right)) || (is_outer(right) && !has_outer_reference(left))
        }
        _ => false,
    }
}

/// Returns true if an expression reads the outer row, itself or in a subquery of its own.
fn has_outer_reference(expr: &Expr) -> bool {
    has(expr, |expr| match expr {
        Expr::OuterReferenceColumn(..) => true,
        Expr::Exists(exists) => is_correlated(&exists.subquery),
        Expr::InSubquery(within) => is_correlated(&within.subquery),
        Expr::ScalarSubquery(subquery) => is_correlated(subquery),
        Expr::SetComparison(comparison) => is_correlated(&comparison.subquery),
        _ => false,
    })
}

fn has(expr: &Expr, is_it: impl Fn(&Expr) -> bool) -> bool {
    let mut found = false;
    // The walk never fails, because the closure does not.
    let _ = expr.apply(|expr| {
        found |= is_it(expr);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}
