//! `hybrid_search(table, vector_column, query, text_column, words, k [, metric [, filter [, rrf_k
//! [, depth [, weight [, query_syntax [, key]]]]]]])`: reciprocal rank fusion of a vector search
//! and a text search.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, TableReference, plan_datafusion_err, plan_err};
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, lit};
use vexact_kernel::Metric;
use vexact_replica::ReplicaTable;
use vexact_sql::{Table, filter_expr, given, text_argument};

use super::fuse::{Fuse, Fusion};
use super::{QuerySyntax, syntax_argument};

pub(super) const NAME: &str = "hybrid_search";

/// The most rows of a list, as good as all.
const ALL_ROWS: i64 = i64::MAX;

/// The table function `hybrid_search`.
#[derive(Debug)]
pub(super) struct HybridFunction;

impl TableFunctionImpl for HybridFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let [table, vector_column, query, text_column, words, k, rest @ ..] = args.exprs() else {
            return plan_err!(
                "{NAME}: expected (table, vector_column, query, text_column, words, k [, metric [, filter [, rrf_k [, depth \
                 [, weight [, query_syntax [, key]]]]]]]), got {} arguments",
                args.exprs().len()
            );
        };
        if rest.len() > 7 {
            return plan_err!("{NAME}: expected at most 13 arguments, got {}", rest.len() + 6);
        }
        let session = args.session();
        let table = Table::find(NAME, &text_argument(NAME, "table", table)?, session)?;
        let metric = match given(rest.first()) {
            None => Metric::Cosine,
            Some(metric) => text_argument(NAME, "metric", metric)?
                .parse::<Metric>()
                .map_err(|error| plan_datafusion_err!("{NAME}: {error}"))?,
        };
        let filter = given(rest.get(1)).map(|filter| text_argument(NAME, "filter", filter)).transpose()?;
        let depth = match rest.get(3) {
            None => Some(DEPTH),
            Some(Expr::Literal(value, _)) if value.is_null() => None,
            Some(depth) => Some(whole("depth", depth)?),
        };
        let key = given(rest.get(6)).map(|key| text_argument(NAME, "key", key)).transpose()?;
        let hybrid = Hybrid {
            vector_column: text_argument(NAME, "vector_column", vector_column)?,
            query: query.clone(),
            text_column: text_argument(NAME, "text_column", text_column)?,
            words: words.clone(),
            k: k.clone(),
            metric,
            filter,
            rrf_k: given(rest.get(2)).map_or(Ok(RRF_K), |rrf_k| number("rrf_k", rrf_k))?,
            depth,
            weight: given(rest.get(4)).map_or(Ok(WEIGHT), |weight| number("weight", weight))?,
            syntax: syntax_argument(NAME, rest.get(5))?,
            key: key.map(|key| key.split(',').map(|name| name.trim().to_owned()).collect()),
        };
        Ok(Arc::new(ViewTable::new(hybrid.plan(&table, session)?, None)))
    }
}

/// Default of `rrf_k`.
pub(super) const RRF_K: f64 = 60.0;
/// Default of `depth`.
pub(super) const DEPTH: i64 = 100;
/// Default of `weight`.
pub(super) const WEIGHT: f64 = 0.5;

/// A fused search.
pub(super) struct Hybrid {
    pub vector_column: String,
    pub query: Expr,
    pub text_column: String,
    pub words: Expr,
    pub k: Expr,
    pub metric: Metric,
    pub filter: Option<String>,
    pub rrf_k: f64,
    /// Rows of each list; `None` for all.
    pub depth: Option<i64>,
    /// Share of the vector list.
    pub weight: f64,
    pub syntax: QuerySyntax,
    /// Columns that identify a row; `None` for the key of a replica.
    pub key: Option<Vec<String>>,
}

impl Hybrid {
    /// Plans the two searches and their fusion.
    ///
    /// # Errors
    /// As the two searches; a table without a key; numbers out of range.
    pub fn plan(self, table: &Table, session: &dyn Session) -> Result<LogicalPlan> {
        if !(self.rrf_k >= 0.0 && self.rrf_k.is_finite()) {
            return plan_err!("{NAME}: rrf_k: expected a number of at least 0, got {}", self.rrf_k);
        }
        if !(0.0..=1.0).contains(&self.weight) {
            return plan_err!("{NAME}: weight: expected a number from 0 to 1, got {}", self.weight);
        }
        if self.depth.is_some_and(|depth| depth < 1) {
            return plan_err!("{NAME}: depth: expected a whole number of at least 1 or NULL, got {:?}", self.depth);
        }
        let key = self.key_columns(table)?;
        let filter = match &self.filter {
            Some(filter) => Some(filter_expr(NAME, table, filter, session)?),
            None => None,
        };
        let depth = lit(ScalarValue::Int64(self.depth));
        let words = (self.words.clone(), depth);
        let text = super::plan(NAME, table, &self.text_column, self.syntax, words, filter)?;
        let vectors = self.vector_plan(table, session)?;
        let fusion = Fusion {
            key,
            rrf_k: self.rrf_k.to_bits(),
            weight: self.weight.to_bits(),
            is_larger_closer: self.metric.is_larger_closer(),
        };
        Fuse::plan(vectors, text, self.k, fusion)
    }

    /// The vector search, as the table function plans it.
    fn vector_plan(&self, table: &Table, session: &dyn Session) -> Result<LogicalPlan> {
        let Some(state) = session.as_any().downcast_ref::<SessionState>() else {
            return plan_err!("{NAME} needs a session of DataFusion itself");
        };
        let Some(function) = state.table_functions().get("vector_search") else {
            return plan_err!("{NAME} needs vector_search");
        };
        let text = |text: &str| lit(text);
        let name = match &table.reference {
            TableReference::Bare { table } => table.to_string(),
            qualified => qualified.to_string(),
        };
        let mut exprs = vec![
            text(&name),
            text(&self.vector_column),
            self.query.clone(),
            lit(self.depth.unwrap_or(ALL_ROWS)),
            text(self.metric.name()),
        ];
        exprs.extend(self.filter.as_deref().map(text));
        let searched = function.function().call_with_args(TableFunctionArgs::new(&exprs, session))?;
        match searched.get_logical_plan() {
            Some(plan) => Ok(plan.into_owned()),
            None => plan_err!("{NAME}: vector_search has no plan"),
        }
    }

    fn key_columns(&self, table: &Table) -> Result<Vec<usize>> {
        if let Some(names) = &self.key {
            let column = |name: &String| {
                table.column(name).ok_or_else(|| {
                    plan_datafusion_err!("{NAME}: key: column {name:?} not found in table {}", table.reference)
                })
            };
            return names.iter().map(column).collect();
        }
        match table.provider.downcast_ref::<ReplicaTable>().map(ReplicaTable::key) {
            Some(key) => Ok(key),
            None => plan_err!(
                "{NAME}: table {} has no registered key: expected key => 'column', one that no two rows share",
                table.reference
            ),
        }
    }
}

fn whole(name: &str, expr: &Expr) -> Result<i64> {
    match expr {
        Expr::Literal(value, _) if value.data_type().is_integer() => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(number))) => Ok(number),
            _ => plan_err!("{NAME}: {name}: expected a whole number, got {value}"),
        },
        other => plan_err!("{NAME}: {name}: expected a whole number, got {other}"),
    }
}

fn number(name: &str, expr: &Expr) -> Result<f64> {
    match expr {
        Expr::Literal(value, _) if value.data_type().is_numeric() => match value.cast_to(&DataType::Float64) {
            Ok(ScalarValue::Float64(Some(number))) => Ok(number),
            _ => plan_err!("{NAME}: {name}: expected a number, got {value}"),
        },
        other => plan_err!("{NAME}: {name}: expected a number, got {other}"),
    }
}
