//! `SELECT *` of wide tables is planned without a list of its columns.
//!
//! DataFusion compares each column of a list with all before it, as text
//! (`push_projection_dedupl`): 8000 columns took 25 s. A query of all columns of one table is the
//! scan, its filter, its sort and its limit, without a projection above them.

use std::sync::{Arc, LazyLock};

use datafusion::common::{DFSchema, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, Limit, LogicalPlan, Sort, SortExpr};
use datafusion::sql::parser::{DFParser, Statement as ParsedStatement};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, Statement, TableFactor,
    WildcardAdditionalOptions,
};

/// Columns of a table from which on it is wide.
const WIDE_COLUMNS: usize = 256;

/// `SELECT 1 FROM t`, with nothing else.
static PLAIN: LazyLock<Option<Query>> =
    LazyLock::new(|| match DFParser::parse_sql("SELECT 1 FROM t").ok()?.pop_front()? {
        ParsedStatement::Statement(statement) => match *statement {
            Statement::Query(query) => Some(*query),
            _ => None,
        },
        _ => None,
    });

/// The plan of a statement.
///
/// # Errors
/// Those of planning.
pub(super) async fn plan(state: &SessionState, statement: ParsedStatement) -> Result<LogicalPlan> {
    if let Some((narrow, order)) = narrowed(&statement)
        && is_wide(state, &narrow).await
        && let Some(plan) = without_projection(state.statement_to_plan(narrow).await?, state, &order)
    {
        return Ok(plan);
    }
    state.statement_to_plan(statement).await
}

/// `SELECT 1 FROM t WHERE ... LIMIT ...` for a query of all columns of one table, and the columns
/// that it is sorted by; `None` for any other statement.
fn narrowed(statement: &ParsedStatement) -> Option<(ParsedStatement, Vec<OrderByExpr>)> {
    let ParsedStatement::Statement(statement) = statement else { return None };
    let Statement::Query(query) = statement.as_ref() else { return None };
    let plain = PLAIN.as_ref()?;
    let plain_select = select(plain)?;
    let found = select(query)?;
    let is_all = match found.projection.as_slice() {
        [SelectItem::Wildcard(options)] => *options == WildcardAdditionalOptions::default(),
        _ => false,
    };
    let is_table = match found.from.as_slice() {
        [from] => from.joins.is_empty() && matches!(&from.relation, TableFactor::Table { args: None, .. }),
        _ => false,
    };
    if !is_all || !is_table {
        return None;
    }
    // All but these parts is as in the plain query.
    let mut narrow = found.clone();
    (narrow.from, narrow.selection) = (plain_select.from.clone(), None);
    narrow.projection.clone_from(&plain_select.projection);
    let order = match query.order_by.as_ref().map(|order| (&order.kind, &order.interpolate)) {
        None => Vec::new(),
        Some((OrderByKind::Expressions(order), None)) => order.clone(),
        Some(_) => return None,
    };
    let mut whole = query.as_ref().clone();
    (whole.body, whole.limit_clause, whole.order_by) = (plain.body.clone(), None, None);
    if narrow != *plain_select || whole != *plain {
        return None;
    }
    narrow.from.clone_from(&found.from);
    narrow.selection.clone_from(&found.selection);
    let mut whole = query.as_ref().clone();
    (whole.body, whole.order_by) = (Box::new(SetExpr::Select(Box::new(narrow))), None);
    Some((ParsedStatement::Statement(Box::new(Statement::Query(Box::new(whole)))), order))
}

fn select(query: &Query) -> Option<&Select> {
    match query.body.as_ref() {
        SetExpr::Select(select) => Some(select),
        _ => None,
    }
}

async fn is_wide(state: &SessionState, statement: &ParsedStatement) -> bool {
    let Ok(names) = state.resolve_table_references(statement) else { return false };
    let [name] = names.as_slice() else { return false };
    let Ok(schema) = state.schema_for_ref(name.clone()) else { return false };
    match schema.table(name.table()).await {
        Ok(Some(table)) => table.schema().fields().len() > WIDE_COLUMNS,
        _ => false,
    }
}

/// The plan with a sort in the place of the projection; `None` where an order is by more than
/// columns.
fn without_projection(plan: LogicalPlan, state: &SessionState, order: &[OrderByExpr]) -> Option<LogicalPlan> {
    match plan {
        LogicalPlan::Limit(limit) => {
            let input = Arc::new(without_projection(Arc::unwrap_or_clone(limit.input), state, order)?);
            Some(LogicalPlan::Limit(Limit { input, ..limit }))
        }
        LogicalPlan::Projection(projection) => match projection.input.as_ref() {
            LogicalPlan::TableScan(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Filter(_) => {
                let keys = order.iter().map(|key| sort_key(key, projection.input.schema(), state));
                let expr = keys.collect::<Option<Vec<_>>>()?;
                Some(match expr.is_empty() {
                    true => Arc::unwrap_or_clone(projection.input),
                    false => LogicalPlan::Sort(Sort { expr, input: projection.input, fetch: None }),
                })
            }
            _ => None,
        },
        _ => None,
    }
}

/// A key that is a column of the table.
fn sort_key(key: &OrderByExpr, schema: &DFSchema, state: &SessionState) -> Option<SortExpr> {
    let SqlExpr::Identifier(name) = &key.expr else { return None };
    let name = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() };
    let column = schema.qualified_field_with_unqualified_name(&name).ok()?;
    let asc = key.options.asc.unwrap_or(true);
    let nulls_first =
        key.options.nulls_first.or(match state.config_options().sql_parser.default_null_ordering.as_str() {
            "nulls_max" => Some(!asc),
            "nulls_min" => Some(asc),
            "nulls_first" => Some(true),
            "nulls_last" => Some(false),
            _ => None,
        })?;
    key.with_fill.is_none().then(|| Expr::Column(column.into()).sort(asc, nulls_first))
}
