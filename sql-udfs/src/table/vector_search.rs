//! `vector_search(table, column, query, k [, metric [, filter [, min_score [, group_by]]]])`: the
//! table's columns and `score`, best first.
//!
//! It is a view: a sort by score with a limit, which the optimizer's rule turns into the operator,
//! so that parameters, subqueries, projections and EXPLAIN work as in any query.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Column, Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use vexact_kernel::{Metric, Search};

use super::{Table, best_of_each_group, filter_expr, given, metric_argument, text_argument};
use crate::exec::check_group_type;
use crate::functions::{k_argument, row_limit, score_expr};
use crate::vector::{is_bits, scalar_of_vector, vector_of_scalar, vector_type, vectors_by_cast};

pub(super) const NAME: &str = "vector_search";
pub(super) const PARAMETERS: &[&str] = &["table", "column", "query", "k", "metric", "filter", "min_score", "group_by"];
const SCORE: &str = "score";

/// The function, for DataFusion.
#[derive(Debug)]
pub(crate) struct VectorSearch;

impl TableFunctionImpl for VectorSearch {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let [table, column, query, k, rest @ ..] = args.exprs() else {
            return plan_err!(
                "{NAME}: expected (table, column, query, k [, metric [, filter [, min_score [, group_by]]]]), got {} arguments",
                args.exprs().len()
            );
        };
        if rest.len() > 4 {
            return plan_err!("{NAME}: expected at most 8 arguments, got {}", rest.len() + 4);
        }
        let table = Table::find(NAME, &text_argument(NAME, "table", table)?, args.session())?;
        let column = table.vector_column(NAME, &text_argument(NAME, "column", column)?)?;
        table.refuse_column(NAME, SCORE)?;
        let metric = metric_argument(NAME, rest.first())?;
        table.check_metric(NAME, column, metric)?;
        let query = query_argument(&table, column, query, metric)?;
        let k = match k {
            Expr::Literal(value, _) => lit(k_argument(NAME, value)? as i64),
            Expr::Placeholder(_) => row_limit(k.clone()),
            other => return plan_err!("{NAME}: k: expected a whole number of at least 1, got {other}"),
        };

        let scan =
            LogicalPlanBuilder::scan(table.reference.clone(), provider_as_source(Arc::clone(&table.provider)), None)?;
        let scan = match given(rest.get(1)) {
            Some(filter) => {
                let text = text_argument(NAME, "filter", filter)?;
                scan.filter(filter_expr(NAME, &table, &text, args.session())?)?
            }
            None => scan,
        };
        let schema = table.schema();
        let stored =
            schema.fields().iter().map(|field| Expr::Column(Column::new(Some(table.reference.clone()), field.name())));
        let stored: Vec<Expr> = stored.collect();
        let score = score_expr(metric, stored[column].clone(), query.clone());
        let scan = match given(rest.get(2)) {
            Some(least) => scan.filter(score.clone().gt_eq(min_score_argument(least)?))?,
            None => scan,
        };
        if let Some(group) = given(rest.get(3)) {
            let group = group_column(&table, &text_argument(NAME, "group_by", group)?)?;
            let plan = grouped_search(scan, stored, (column, group), metric, (query, k))?;
            return Ok(Arc::new(ViewTable::new(plan, None)));
        }
        let score = score.alias(SCORE);
        let score_column = Expr::Column(Column::new_unqualified(SCORE));
        let plan = scan
            .project(stored.into_iter().chain([score]))?
            .sort(vec![score_column.clone().sort(!metric.is_larger_closer(), false)])?
            .limit_by_expr(None, Some(k))?
            .filter(score_column.is_not_null())?
            .build()?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}

/// The ordinal of the column that rows are grouped by.
fn group_column(table: &Table, name: &str) -> Result<usize> {
    let schema = table.schema();
    let Some(column) = table.column(name) else {
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        return plan_err!(
            "{NAME}: group_by: column {name:?} not found in table {}: expected one of [{}]",
            table.reference,
            columns.join(", ")
        );
    };
    check_group_type(name, schema.field(column).data_type())?;
    Ok(column)
}

/// The least score, a number or a parameter.
fn min_score_argument(expr: &Expr) -> Result<Expr> {
    match expr {
        Expr::Literal(value, _) => match value.cast_to(&DataType::Float64) {
            Ok(ScalarValue::Float64(Some(least))) if !least.is_nan() && value.data_type().is_numeric() => {
                Ok(lit(least))
            }
            _ => plan_err!("{NAME}: min_score: expected a number, got {value}"),
        },
        Expr::Placeholder(_) => Ok(cast(expr.clone(), DataType::Float64)),
        other => plan_err!("{NAME}: min_score: expected a number, got {other}"),
    }
}

/// The `k` best rows of each group of `scan`: its columns `stored`, and the score.
fn grouped_search(
    scan: LogicalPlanBuilder,
    stored: Vec<Expr>,
    (vector, group): (usize, usize),
    metric: Metric,
    (query, k): (Expr, Expr),
) -> Result<LogicalPlan> {
    // A column that is not stored as a vector is cast to one, in an additional column.
    const VECTORS: &str = "__vectors";
    let (_, field) = scan.schema().qualified_field(vector);
    let (scan, vectors) = match vectors_by_cast(field.data_type()) {
        None => (scan, stored[vector].clone()),
        Some(floats) => {
            let vectors = cast(stored[vector].clone(), floats).alias(VECTORS);
            (scan.project(stored.iter().cloned().chain([vectors]))?, Expr::Column(Column::new_unqualified(VECTORS)))
        }
    };
    let best = best_of_each_group(scan.build()?, metric, (vectors, stored[group].clone()), (query, k), SCORE)?;
    let score = Expr::Column(Column::new_unqualified(SCORE));
    LogicalPlanBuilder::from(best).project(stored.into_iter().chain([score]))?.build()
}

/// The query as an expression: a literal is checked here, a parameter or subquery when it has a
/// value.
fn query_argument(table: &Table, column: usize, query: &Expr, metric: Metric) -> Result<Expr> {
    let literal = match query {
        Expr::Literal(value, _) => value,
        Expr::Placeholder(_) | Expr::ScalarSubquery(_) => return Ok(query.clone()),
        other if !other.column_refs().is_empty() => {
            return plan_err!(
                "{NAME}: query: expected one vector for all rows, got {other}: vector_join(queries, query_column, table, column, k) \
                 searches with the vector of each row"
            );
        }
        other => {
            return plan_err!(
                "{NAME}: query: expected a vector (an array literal, text '[1 2 3]', a parameter or a scalar subquery), got {other}"
            );
        }
    };
    let schema = table.schema();
    let field = schema.field(column);
    let context = |error: &dyn std::fmt::Display| plan_datafusion_err!("{NAME} on column {:?}: {error}", field.name());
    let vector = vector_of_scalar(literal).map_err(|error| context(&error))?;
    let Some(vector) = vector else {
        return Err(context(&"expected a query vector, got NULL"));
    };
    if is_bits(&literal.data_type()) && !is_bits(field.data_type()) {
        return Err(context(&"expected a query vector of numbers, got bits"));
    }
    let dim = vector_type(field.data_type()).flatten().unwrap_or(vector.len());
    let search = Search::new(metric, &vector).map_err(|error| context(&error))?;
    search.top_k(1).plan(dim, None).map_err(|error| context(&error))?;
    Ok(Expr::Literal(scalar_of_vector(vector), None))
}
