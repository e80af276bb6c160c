//! The filter of a search by call, parsed and simplified as a WHERE clause is.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{ParamValues, TableReference, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use vexact_core::error::{Error, Result};
use vexact_sql::deep::parse_expr;
use vexact_sql::{FilterPlanner, Table};

/// Parses the filter's text as a predicate over the table, its placeholders replaced by their
/// values.
pub(super) fn filter_expr(
    state: &SessionState,
    found: &Table,
    text: &str,
    params: Option<&ParamValues>,
) -> Result<Expr> {
    let df_schema = found.df_schema()?;
    let refused = |problem: String| Error::InvalidArgument(format!("filter {text:?}: {problem}"));
    let planned = match state.config().get_extension::<FilterPlanner>() {
        Some(planner) => (planner.0)(state, found, text),
        None => parse_expr(state, text, &df_schema),
    };
    let filter = planned.and_then(|filter| bound(filter, params)).map_err(|error| refused(error.strip_backtrace()))?;
    match filter.get_type(&df_schema).map_err(|error| refused(error.strip_backtrace()))? {
        DataType::Boolean => Ok(filter),
        DataType::Null => Ok(lit(false)),
        other => Err(refused(format!("expected a predicate, got {other}"))),
    }
}

/// Prepares a predicate as WHERE does: it coerces its types and folds its constants.
pub(super) fn as_in_where(
    state: &SessionState,
    table: &TableReference,
    provider: &Arc<dyn TableProvider>,
    predicate: Expr,
) -> Result<Expr> {
    let scan = LogicalPlanBuilder::scan(table.clone(), provider_as_source(Arc::clone(provider)), None)?;
    // A view is a plan of its own here, so its columns get the names that the predicate uses.
    let plan = LogicalPlan::Filter(Filter::try_new(predicate.clone(), Arc::new(scan.build()?))?);
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
    let simplify: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![Arc::new(SimplifyExpressions::new())];
    match Optimizer::with_rules(simplify).optimize(plan, state, |_, _| {})? {
        LogicalPlan::Filter(filter) => Ok(filter.predicate),
        other => Err(Error::InvalidArgument(format!("filter {predicate}: expected a predicate, got {other}"))),
    }
}

/// Returns an expression whose placeholders are replaced by their values.
fn bound(expr: Expr, params: Option<&ParamValues>) -> datafusion::error::Result<Expr> {
    let mut last = 0;
    let value = |expr: Expr| match &expr {
        Expr::Placeholder(placeholder) => {
            last = last.max(placeholder.id[1..].parse().unwrap_or(0));
            let Some(params) = params else {
                return plan_err!("parameter {}: expected a value, got none", placeholder.id);
            };
            let found = params.get_placeholders_with_values(&placeholder.id)?;
            Ok(Transformed::yes(Expr::Literal(found.value, found.metadata)))
        }
        _ => Ok(Transformed::no(expr)),
    };
    let bound = expr.transform_up(value)?.data;
    match params {
        Some(ParamValues::List(values)) if values.len() > last => {
            plan_err!("expected {last} parameters, got {}", values.len())
        }
        _ => Ok(bound),
    }
}
