//! Makes INSERT store each value without loss or reject it: the casts to the types of the table's
//! columns, which planning adds, become lossless casts. A cast that is written in the statement is
//! unchanged.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::{Alias, Cast};
use datafusion::logical_expr::{
    DmlStatement, Expr, LogicalPlan, Prepare, Projection, Statement as PlannedStatement, Values, WriteOp,
};
use datafusion::sql::parser::Statement as ParsedStatement;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, SetExpr, Statement};
use vexact_sources::keep_expr::keep_cast_expr;

/// Casts that are written in the statement itself.
#[derive(Debug, Default)]
pub(super) struct OwnCasts {
    /// For each row and column of VALUES, the number of casts around the value. Empty for any other
    /// INSERT.
    values: Vec<Vec<usize>>,
    /// True if PREPARE declares the types of its parameters.
    are_parameters_typed: bool,
}

/// Finds the casts of a statement.
pub(super) fn own_casts(statement: &ParsedStatement) -> OwnCasts {
    let mut own = OwnCasts::default();
    let mut statement = match statement {
        ParsedStatement::Explain(explain) => return own_casts(&explain.statement),
        ParsedStatement::Statement(statement) => statement.as_ref(),
        _ => return own,
    };
    loop {
        statement = match statement {
            Statement::Explain { statement, .. } => statement,
            Statement::Prepare { statement, data_types, .. } => {
                own.are_parameters_typed = !data_types.is_empty();
                statement
            }
            _ => break,
        };
    }
    if let Statement::Insert(insert) = statement
        && let Some(SetExpr::Values(values)) = insert.source.as_deref().map(|query| query.body.as_ref())
    {
        own.values = values.rows.iter().map(|row| row.content.iter().map(casts).collect()).collect();
    }
    own
}

fn casts(expr: &SqlExpr) -> usize {
    match expr {
        SqlExpr::Nested(inner) => casts(inner),
        SqlExpr::Cast { expr, .. } => 1 + casts(expr),
        _ => 0,
    }
}

fn planned_casts(expr: &Expr) -> usize {
    match expr {
        Expr::Cast(Cast { expr, .. }) => 1 + planned_casts(expr),
        _ => 0,
    }
}

/// Replaces the casts that planning added to an INSERT.
pub(super) fn keep_values(plan: LogicalPlan, own: &OwnCasts) -> Result<LogicalPlan> {
    let kept = plan.transform_down(|node| match node {
        LogicalPlan::Dml(DmlStatement { table_name, target, op: op @ WriteOp::Insert(_), input, output_schema }) => {
            let input = match input.as_ref() {
                LogicalPlan::Projection(projection) => Arc::new(kept_projection(projection, own)?),
                _ => input,
            };
            Ok(Transformed::yes(LogicalPlan::Dml(DmlStatement { table_name, target, op, input, output_schema })))
        }
        // EXECUTE would cast the values to the types of the columns.
        LogicalPlan::Statement(PlannedStatement::Prepare(prepare))
            if !own.are_parameters_typed && matches!(prepare.input.as_ref(), LogicalPlan::Dml(_)) =>
        {
            let untyped = Prepare { fields: Vec::new(), ..prepare };
            Ok(Transformed::yes(LogicalPlan::Statement(PlannedStatement::Prepare(untyped))))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(kept.data)
}

fn kept_projection(projection: &Projection, own: &OwnCasts) -> Result<LogicalPlan> {
    let keep = |expr: &Expr| match expr {
        Expr::Alias(Alias { expr: inner, name, .. }) => match inner.as_ref() {
            Expr::Cast(Cast { expr: value, field }) => {
                keep_cast_expr(value.as_ref().clone(), name, field.data_type()).alias(name)
            }
            _ => expr.clone(),
        },
        other => other.clone(),
    };
    let input = match projection.input.as_ref() {
        LogicalPlan::Values(values) if !own.values.is_empty() => {
            Arc::new(LogicalPlan::Values(kept_values(values, projection, own)))
        }
        _ => Arc::clone(&projection.input),
    };
    Ok(LogicalPlan::Projection(Projection::try_new(projection.expr.iter().map(keep).collect(), input)?))
}

/// Rewrites VALUES, whose cells planning casts to the types of the columns.
fn kept_values(values: &Values, projection: &Projection, own: &OwnCasts) -> Values {
    // The name of the table's column that a column of VALUES becomes.
    let name = |place: usize| {
        let column = values.schema.field(place).name();
        let target = projection.expr.iter().find_map(|expr| match expr {
            Expr::Alias(Alias { expr, name, .. }) => {
                matches!(expr.as_ref(), Expr::Column(source) if source.name == *column).then(|| name.clone())
            }
            _ => None,
        });
        target.unwrap_or_else(|| column.clone())
    };
    let rows = values.values.iter().enumerate().map(|(row, cells)| {
        let cell = |(place, cell): (usize, &Expr)| {
            let own = own.values.get(row).and_then(|row| row.get(place)).copied().unwrap_or_default();
            match cell {
                // The expression has one more cast than the statement.
                Expr::Cast(Cast { expr, field }) if planned_casts(cell) > own => {
                    keep_cast_expr(expr.as_ref().clone(), &name(place), field.data_type())
                }
                other => other.clone(),
            }
        };
        cells.iter().enumerate().map(cell).collect()
    });
    Values { schema: Arc::clone(&values.schema), values: rows.collect() }
}
