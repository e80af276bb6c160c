//! Text search, and its fusion with vector search.
//!
//! `text_search(table, column, words, k [, filter [, query_syntax]])` has the table's columns,
//! `text_score` (BM25, larger is better) and `text_rank` (from 1), best first; equal scores are in
//! the order of the key. Over replicas it reads the index that the sync maintains, at the version of
//! the query; other tables are indexed at their first search.

mod exec;
mod fuse;
mod hybrid;
mod index;
mod node;
mod request;
mod words;

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Column, Result, plan_datafusion_err, plan_err};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_planner::ExtensionPlanner;
use datafusion::prelude::{SessionConfig, SessionContext};
use vexact_sql::{ExtensionPlanners, NamedArguments, Parameters, Table, filter_expr, given, text_argument};

pub(crate) use exec::TextMatchesExec;
use index::TextCache;
use node::{Search, TextMatches};
pub use request::{HybridSearch, TextSearch};
pub use words::QuerySyntax;

const NAME: &str = "text_search";
const SCORE: &str = "text_score";
const RANK: &str = "text_rank";

/// Parameters of the table functions.
const PARAMETERS: &[Parameters] = &[
    Parameters { function: NAME, names: &["table", "column", "words", "k", "filter", "query_syntax"], defaults: &[] },
    Parameters {
        function: hybrid::NAME,
        names: &[
            "table",
            "vector_column",
            "query",
            "text_column",
            "words",
            "k",
            "metric",
            "filter",
            "rrf_k",
            "depth",
            "weight",
            "query_syntax",
            "key",
        ],
        defaults: &[("rrf_k", "60"), ("depth", "100"), ("weight", "0.5")],
    },
];

/// A searched column, as the user named it, and the syntax of the words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TextRequest {
    table: String,
    column: String,
    syntax: QuerySyntax,
}

/// Adds what text searches need to a session's configuration.
pub(crate) fn configure(config: &mut SessionConfig) {
    let planners: Vec<Arc<dyn ExtensionPlanner + Send + Sync>> =
        vec![Arc::new(node::TextPlanner), Arc::new(fuse::FusePlanner)];
    config.set_extension(Arc::new(ExtensionPlanners(planners)));
    config.set_extension(Arc::new(TextCache::default()));
}

/// Registers the table functions.
pub(crate) fn register(ctx: &SessionContext) -> Result<()> {
    ctx.register_relation_planner(Arc::new(NamedArguments(PARAMETERS)))?;
    ctx.register_udtf(NAME, Arc::new(TextFunction));
    ctx.register_udtf(hybrid::NAME, Arc::new(hybrid::HybridFunction));
    Ok(())
}

/// The table function `text_search`.
#[derive(Debug)]
struct TextFunction;

impl TableFunctionImpl for TextFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let [table, column, words, k, rest @ ..] = args.exprs() else {
            return plan_err!(
                "{NAME}: expected (table, column, words, k [, filter [, query_syntax]]), got {} arguments",
                args.exprs().len()
            );
        };
        if rest.len() > 2 {
            return plan_err!("{NAME}: expected at most 6 arguments, got {}", rest.len() + 4);
        }
        let table = Table::find(NAME, &text_argument(NAME, "table", table)?, args.session())?;
        let column = text_argument(NAME, "column", column)?;
        let filter = match given(rest.first()) {
            Some(filter) => Some(filter_expr(NAME, &table, &text_argument(NAME, "filter", filter)?, args.session())?),
            None => None,
        };
        let syntax = syntax_argument(NAME, rest.get(1))?;
        let (words, k) = (words.clone(), k.clone());
        Ok(Arc::new(ViewTable::new(plan(NAME, &table, &column, syntax, (words, k), filter)?, None)))
    }
}

fn syntax_argument(function: &str, expr: Option<&Expr>) -> Result<QuerySyntax> {
    let Some(expr) = given(expr) else { return Ok(QuerySyntax::default()) };
    let name = text_argument(function, "query_syntax", expr)?;
    name.parse().map_err(|error| plan_datafusion_err!("{function}: {error}"))
}

/// Plans a text search: all columns of the table, score and rank.
fn plan(
    function: &str,
    table: &Table,
    column: &str,
    syntax: QuerySyntax,
    (words, k): (Expr, Expr),
    filter: Option<Expr>,
) -> Result<LogicalPlan> {
    let ordinal = text_column(function, table, column)?;
    for added in [SCORE, RANK] {
        table.refuse_column(function, added)?;
    }
    let schema = table.schema();
    let own = |ordinal: usize| Column::new(Some(table.reference.clone()), schema.field(ordinal).name());
    let scan =
        LogicalPlanBuilder::scan(table.reference.clone(), provider_as_source(Arc::clone(&table.provider)), None)?;
    let request =
        TextRequest { table: table.reference.table().to_owned(), column: schema.field(ordinal).name().clone(), syntax };
    let search = Search { request, text: Expr::Column(own(ordinal)), words, k, filter };
    let matches = TextMatches::plan(scan.build()?, search)?;
    let columns = (0..schema.fields().len()).map(|ordinal| Expr::Column(own(ordinal)));
    let added = [SCORE, RANK].map(|name| Expr::Column(Column::new_unqualified(name)));
    LogicalPlanBuilder::from(matches).project(columns.chain(added))?.build()
}

/// Returns the ordinal of a text column.
fn text_column(function: &str, table: &Table, name: &str) -> Result<usize> {
    let schema = table.schema();
    let Some(column) = table.column(name) else {
        let texts = schema.fields().iter().filter(|field| field.data_type().is_string());
        let texts: Vec<&str> = texts.map(|field| field.name().as_str()).collect();
        return plan_err!(
            "{function}: column {name:?} not found in table {}: expected one of its text columns [{}]",
            table.reference,
            texts.join(", ")
        );
    };
    if !schema.field(column).data_type().is_string() {
        return plan_err!(
            "{function}: column {name:?} of table {}: expected text, got {}",
            table.reference,
            schema.field(column).data_type()
        );
    }
    Ok(column)
}
