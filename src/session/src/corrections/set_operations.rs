//! Counts the copies of a row in EXCEPT ALL and INTERSECT ALL.
//!
//! DataFusion plans both as joins that test whether the other query has the row at all
//! (apache/datafusion#12955, #12956). So the copies of each row are numbered in both queries, and
//! the join compares their numbers too: copy 3 of a row has a match if the other query has three.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::functions_window::row_number::row_number;
use datafusion::logical_expr::{
    Distinct, Expr, ExprFunctionExt, Join, LogicalPlan, LogicalPlanBuilder, Projection, ident,
};
use datafusion::optimizer::AnalyzerRule;

/// Columns of the copies' numbers.
const LEFT_COPY: &str = "__left_copy";
const RIGHT_COPY: &str = "__right_copy";

/// Numbers the copies. It runs before type coercion, while each join is as SQL wrote it.
#[derive(Debug)]
pub(super) struct CountedSetOperations;

impl AnalyzerRule for CountedSetOperations {
    fn name(&self) -> &str {
        "vexact_counted_set_operations"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Join(join) if is_set_operation_all(&join) => counted(join).map(Transformed::yes),
            other => Ok(Transformed::no(other)),
        })
        .data()
    }
}

/// Returns true for the join of EXCEPT ALL or INTERSECT ALL: only those of set operations equate
/// NULL with NULL, and the other two remove the copies of the left rows first.
fn is_set_operation_all(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
        && join.on.len() == join.left.schema().fields().len()
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)))
        && !join.on.iter().any(|(left, _)| matches!(left, Expr::Column(column) if column.name == LEFT_COPY))
}

fn counted(join: Join) -> Result<LogicalPlan> {
    let Join { left, right, mut on, filter, join_type, join_constraint, null_equality, null_aware, .. } = join;
    let columns: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
    let (left, right) = (numbered(left, LEFT_COPY)?, numbered(right, RIGHT_COPY)?);
    on.push((ident(LEFT_COPY), ident(RIGHT_COPY)));
    let joined = Join::try_new(left, right, on, filter, join_type, join_constraint, null_equality, null_aware)?;
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(LogicalPlan::Join(joined)))?))
}

/// Adds a column with the numbers of the copies of each row.
fn numbered(input: Arc<LogicalPlan>, name: &str) -> Result<Arc<LogicalPlan>> {
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let number = row_number().partition_by(columns.clone()).build()?;
    let column = ident(number.schema_name().to_string()).alias(name);
    let numbered = LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).window(vec![number])?;
    Ok(Arc::new(numbered.project(columns.into_iter().chain([column]))?.build()?))
}
