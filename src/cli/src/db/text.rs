//! `vexact db register-text` and `vexact db text-search`.

use clap::Args;
use vexact::session::{HybridSearch, QuerySyntax, QueryVectors, TextSearch, VectorSearch};
use vexact::{Error, Result, Tokenizer};
use vexact_kernel::Metric;

use super::arguments::Database;
use super::{closing, open};
use crate::answer::{Answer, Table};
use crate::failure::{During, Failure};
use crate::values::{QueryVector, metric};

fn tokenizer(name: &str) -> Result<Tokenizer> {
    name.parse()
}

fn query_syntax(name: &str) -> Result<QuerySyntax> {
    name.parse()
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"table\", \"columns\", \"tokenizer\"}
The file remembers the indexes: each later command opens with them. They are in a private file of the engine, beside stored
replicas or temporary. A column that is indexed already gets the new tokenizer.

Example:
  vexact db register-text --db app.db --table docs --column body --tokenizer porter")]
pub(crate) struct RegisterText {
    #[command(flatten)]
    pub database: Database,
    /// A registered table
    #[arg(long)]
    pub table: String,
    /// A text column to index. Repeat it
    #[arg(long = "column", value_name = "NAME", required = true)]
    pub columns: Vec<String>,
    /// unicode61 (words), porter (English stems) or trigram (substrings)
    #[arg(long, value_name = "NAME", default_value = "unicode61", value_parser = tokenizer)]
    pub tokenizer: Tokenizer,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"top_k\", \"schema\", \"rows\"}, best first: the key's columns, text_score, text_rank, then --columns;
        with --query-vector: the key's columns, score, vector_rank, vector_score, text_rank, text_score, then --columns

Examples:
  vexact db text-search --db app.db --table docs --column body --words \"lithium battery\" --columns title
  vexact db text-search --db app.db --table docs --column body --words \"lithium battery\" \\
      --vector-column embedding --query-vector @query.json --where \"lang = 'en'\"")]
pub(crate) struct TextQuery {
    #[command(flatten)]
    pub database: Database,
    /// A registered table
    #[arg(long)]
    pub table: String,
    /// Its indexed text column
    #[arg(long)]
    pub column: String,
    /// The words that are searched for
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub words: String,
    /// any (documents with any of the words), all (with all of them) or fts5 (a query of SQLite's FTS5)
    #[arg(long, value_name = "SYNTAX", default_value = "any", value_parser = query_syntax)]
    pub query_syntax: QuerySyntax,
    /// A vector column: the ranks of both searches are fused
    #[arg(long, value_name = "NAME", requires = "query_vector")]
    pub vector_column: Option<String>,
    /// "0.1,0.2", "[0.1, 0.2]", or @FILE that holds such a list (@- for stdin)
    #[arg(long, value_name = "VECTOR", requires = "vector_column", allow_hyphen_values = true)]
    pub query_vector: Option<QueryVector>,
    /// cosine, dot or l2
    #[arg(long, default_value = "cosine", value_parser = metric)]
    pub metric: Metric,
    /// Number of rows to return
    #[arg(long, value_name = "K", default_value_t = 10)]
    pub top_k: usize,
    /// A SQL predicate on the table: only rows that fulfil it are ranked
    #[arg(long = "where", value_name = "SQL")]
    pub filter: Option<String>,
    /// Columns to return, * for all
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Timeout in milliseconds
    #[arg(long, value_name = "N")]
    pub timeout_ms: Option<u64>,
}

pub(super) async fn register(command: RegisterText) -> Result<Answer, Failure> {
    let RegisterText { database, table, columns, tokenizer } = command;
    let engine = open(&database).await?;
    closing(&engine, async {
        engine.register_text(&table, &columns, tokenizer).await.during("register")?;
        Ok(Answer::TextRegistered { table, columns, tokenizer: tokenizer.name() })
    })
    .await
}

pub(super) async fn search(command: TextQuery) -> Result<Answer, Failure> {
    let TextQuery { database, table, column, words, query_syntax, metric, top_k, filter, columns, .. } = command;
    let query = command.query_vector.map(|query| query.components()).transpose()?;
    if top_k == 0 {
        return Err(Error::InvalidArgument("--top-k: expected at least 1, got 0".into())).during("arguments");
    }
    let engine = open(&database).await?;
    closing(&engine, async {
        let found = match (query, command.vector_column) {
            (Some(query), Some(vector_column)) => {
                let vector = VectorSearch {
                    table,
                    column: vector_column,
                    query: QueryVectors::One(query),
                    top_k,
                    metric,
                    filter,
                    params: None,
                    min_score: None,
                    group_by: None,
                    columns,
                };
                let search = HybridSearch { syntax: query_syntax, ..HybridSearch::new(vector, column, words) };
                engine.hybrid_search(&search, false).await
            }
            _ => {
                let search = TextSearch {
                    table,
                    column,
                    words,
                    syntax: query_syntax,
                    top_k: Some(top_k),
                    filter,
                    params: None,
                    leading: Vec::new(),
                    columns,
                };
                engine.text_search(&search, false).await
            }
        };
        Ok(Answer::TextFound { top_k, table: Table::new(found.during("search")?) })
    })
    .await
}
