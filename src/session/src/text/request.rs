//! Text searches and fused searches by call.

use std::sync::Arc;

use datafusion::common::{Column, ParamValues, ScalarValue, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use vexact_core::entry::entry;
use vexact_core::error::{Error, Result};
use vexact_replica::Tokenizer;
use vexact_sql::Table;

use super::hybrid::Hybrid;
use super::index::TextCache;
use super::{QuerySyntax, RANK, SCORE, plan, text_column};
use crate::search_filter::filter_expr;
use crate::{DataFrame, QueryVectors, Session, VectorSearch};

/// A search of the text in a column.
#[derive(Debug, Clone)]
pub struct TextSearch {
    /// Name of a table or view.
    pub table: String,
    /// Name of its text column.
    pub column: String,
    /// The text that is searched for.
    pub words: String,
    /// Meaning of the words.
    pub syntax: QuerySyntax,
    /// Maximum number of rows; `None` for all matches.
    pub top_k: Option<usize>,
    /// A SQL predicate on the table: only rows that fulfil it are ranked.
    pub filter: Option<String>,
    /// The values of the filter's placeholders, `$1` or `$name`.
    pub params: Option<ParamValues>,
    /// Columns of the table that precede the score and the rank in the result; `*` for all.
    pub leading: Vec<String>,
    /// Columns of the table that follow them; `*` for all that do not precede.
    pub columns: Vec<String>,
}

/// A vector search and a text search whose ranks are fused.
#[derive(Debug, Clone)]
pub struct HybridSearch {
    /// The vector search: one query, without `min_score` and `group_by`. Its `top_k` and `columns`
    /// are those of the result, its filter applies to both searches.
    pub vector: VectorSearch,
    /// Name of the text column.
    pub text_column: String,
    /// The text that is searched for.
    pub words: String,
    /// Meaning of the words.
    pub syntax: QuerySyntax,
    /// Constant of the reciprocal ranks, at least 0.
    pub rrf_k: f64,
    /// Rows of each list; `None` for all.
    pub depth: Option<usize>,
    /// Share of the vector list, from 0 to 1.
    pub weight: f64,
    /// Columns that identify a row; `None` for the key of a replica.
    pub key: Option<Vec<String>>,
    /// Columns of the table that precede the score in the result.
    pub leading: Vec<String>,
}

impl HybridSearch {
    /// A fusion with the defaults: `rrf_k` 60, 100 rows of each list, equal weights.
    pub fn new(vector: VectorSearch, text_column: impl Into<String>, words: impl Into<String>) -> Self {
        Self {
            vector,
            text_column: text_column.into(),
            words: words.into(),
            syntax: QuerySyntax::default(),
            rrf_k: super::hybrid::RRF_K,
            depth: Some(super::hybrid::DEPTH as usize),
            weight: super::hybrid::WEIGHT,
            key: None,
            leading: Vec::new(),
        }
    }
}

impl Session {
    /// Sets how the text of columns of a session's own table is split into terms, from the next
    /// search on. The index is made at the first search, and again after the text has changed.
    ///
    /// # Errors
    /// A table or column that does not exist; a column that is not text; a replica, whose indexes
    /// its engine registers.
    pub async fn register_text(&self, table: &str, columns: &[String], tokenizer: Tokenizer) -> Result<()> {
        let state = self.state_at(None);
        let found = find(&state, table)?;
        if found.provider.downcast_ref::<vexact_replica::ReplicaTable>().is_some() {
            return Err(Error::InvalidArgument(format!(
                "table {table:?} is a replica: register_text of its engine indexes it"
            )));
        }
        let cache = state.config().get_extension::<TextCache>();
        for column in columns {
            let ordinal = text_column("register_text", &found, column)?;
            let name = found.schema().field(ordinal).name().clone();
            if let Some(cache) = &cache {
                cache.set_tokenizer(found.reference.table(), &name, tokenizer);
            }
        }
        Ok(())
    }

    /// Returns the rows whose text matches, best first, with `text_score` (Float64: BM25, larger is
    /// better) and `text_rank` (Int64, from 1).
    ///
    /// # Errors
    /// An unknown table or column, a replica's column without an index, a query in the syntax of
    /// FTS5 that it rejects, a filter that is not a predicate on the table.
    pub async fn text_search(&self, search: &TextSearch) -> Result<DataFrame> {
        let name = format!("a text search on column {:?} of table {:?}", search.column, search.table);
        let planned = async {
            let state = self.state_at(None);
            let table = find(&state, &search.table)?;
            self.check_search_of(&table.provider)?;
            let filter = filter(&state, &table, search.filter.as_deref(), search.params.as_ref())?;
            let k = lit(ScalarValue::Int64(search.top_k.map(|k| i64::try_from(k).unwrap_or(i64::MAX))));
            let words = (lit(search.words.as_str()), k);
            let found = plan("text_search", &table, &search.column, search.syntax, words, filter)?;
            let found = with_columns(found, &table, &search.leading, &[SCORE, RANK], &search.columns)?;
            Ok(DataFrame::of_plan(state, found).of_statement(&name))
        };
        entry(self.stack_of(search.filter.as_deref().unwrap_or_default()), &name, planned).await
    }

    /// Returns the rows of a vector search and a text search, best fused score first, with `score`,
    /// `vector_rank`, `vector_score`, `text_rank` and `text_score`, NULL where a list lacks the row.
    ///
    /// # Errors
    /// As the two searches; a query batch; numbers out of range; a table without a key.
    pub async fn fused_search(&self, search: &HybridSearch) -> Result<DataFrame> {
        let vector = &search.vector;
        let name = format!("a hybrid search of table {:?}", vector.table);
        let planned = async {
            let QueryVectors::One(query) = &vector.query else {
                let problem = "hybrid_search: expected one query vector, got a query batch";
                return Err(Error::InvalidArgument(problem.into()));
            };
            if vector.min_score.is_some() || vector.group_by.is_some() {
                let problem = "hybrid_search: expected no min_score and no group_by with text";
                return Err(Error::InvalidArgument(problem.into()));
            }
            let state = self.state_at(None);
            let table = find(&state, &vector.table)?;
            self.check_search_of(&table.provider)?;
            let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
            let hybrid = Hybrid {
                vector_column: vector.column.clone(),
                query: Expr::Literal(vexact_sql::scalar_of_vector(query.clone()), None),
                text_column: search.text_column.clone(),
                words: lit(search.words.as_str()),
                k: lit(whole(vector.top_k)),
                metric: vector.metric,
                filter: vector.filter.clone(),
                rrf_k: search.rrf_k,
                depth: search.depth.map(whole),
                weight: search.weight,
                syntax: search.syntax,
                key: search.key.clone(),
            };
            let found = hybrid.plan(&table, &*state)?;
            let found = crate::statement::bound(found, vector.params.clone())?;
            let added = ["score", "vector_rank", "vector_score", "text_rank", "text_score"];
            let found = with_columns(found, &table, &search.leading, &added, &vector.columns)?;
            Ok(DataFrame::of_plan(state, found).of_statement(&name))
        };
        entry(self.stack_of(vector.filter.as_deref().unwrap_or_default()), &name, planned).await
    }
}

fn find(state: &Arc<SessionState>, name: &str) -> Result<Table> {
    Ok(Table::find("search", name, &**state)?)
}

/// Parses the filter, its placeholders bound.
fn filter(
    state: &SessionState,
    table: &Table,
    text: Option<&str>,
    params: Option<&ParamValues>,
) -> Result<Option<Expr>> {
    let Some(text) = text else { return Ok(None) };
    filter_expr(state, table, text, params).map(Some)
}

/// Selects the columns of a result.
fn with_columns(
    found: LogicalPlan,
    table: &Table,
    leading: &[String],
    added: &[&str],
    columns: &[String],
) -> Result<LogicalPlan> {
    let schema = table.schema();
    let ordinals = |names: &[String]| -> Result<Vec<usize>> {
        if names.iter().any(|name| name == "*") {
            return Ok((0..schema.fields().len()).collect());
        }
        let ordinal = |name: &String| {
            table.column(name).ok_or_else(|| {
                let all: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                Error::InvalidArgument(format!(
                    "column {name:?} not found in table {}: expected some of [{}]",
                    table.reference,
                    all.join(", ")
                ))
            })
        };
        names.iter().map(ordinal).collect()
    };
    let leading = ordinals(leading)?;
    let mut following = ordinals(columns)?;
    following.retain(|column| !leading.contains(column));
    let reference: &TableReference = &table.reference;
    let own = |column: &usize| Expr::Column(Column::new(Some(reference.clone()), schema.field(*column).name()));
    let exprs: Vec<Expr> = leading
        .iter()
        .map(own)
        .chain(added.iter().map(|name| Expr::Column(Column::new_unqualified(*name))))
        .chain(following.iter().map(own))
        .collect();
    Ok(LogicalPlanBuilder::from(found).project(exprs)?.build()?)
}
