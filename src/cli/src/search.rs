//! `vexact vector-search`: the rows of a file whose vectors are closest to a query.

use std::path::PathBuf;

use arrow::datatypes::{DataType, Schema};
use clap::{Args, ValueEnum};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, lit};
use serde::{Serialize, Serializer};
use vexact::session::{QueryVectors, VectorSearch};
use vexact_core::error::{Error, Result};
use vexact_kernel::Metric;

use super::answer::{Answer, Explained};
use super::failure::{During, Failure};
use super::input::{Input, shown_path};
use super::produce::Rows;
use super::track::Track;
use super::values::{QueryVector, metric};
use super::workers::Workers;

#[derive(Debug, Clone, Args, Serialize)]
#[command(after_help = "\
Answer: {\"ok\": true, \"metric\", \"top_k\", \"schema\", \"rows\", \"explain\": {\"logical\", \"physical\", \"strategy\"}}, best first: row_id (the
        row's ordinal in the file, from 0), score, then --columns; with --output-path the first rows, and \"row_count\",
        \"truncated\", \"output_path\".

Examples:
  vexact vector-search --csv docs.csv --vector-column embedding --query-vector \"0.1,0.2\" --columns title --top-k 3
  vexact vector-search --input-path docs.parquet --vector-column embedding --query-vector @query.json \\
      --metric dot --where \"year > 2020\" --where-column lang --where-op = --where-value en --score-threshold 0.5")]
pub(super) struct FileSearch {
    #[command(flatten)]
    pub input: Input,
    /// The column of vectors
    #[arg(long, value_name = "NAME")]
    pub vector_column: String,
    /// "0.1,0.2", "[0.1, 0.2]", or @FILE that holds such a list (@- for stdin)
    #[arg(long, value_name = "VECTOR", allow_hyphen_values = true)]
    pub query_vector: QueryVector,
    /// cosine, dot or l2
    #[arg(long, default_value = "cosine", value_parser = metric)]
    #[serde(serialize_with = "metric_name")]
    pub metric: Metric,
    /// Number of rows to return
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub top_k: usize,
    /// A SQL predicate on the file's columns, applied before the search
    #[arg(long = "where", value_name = "SQL")]
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// A column to compare with a value, before the search: by its name, whatever it looks like
    #[arg(long, value_name = "NAME", requires_all = ["where_op", "where_value"])]
    pub where_column: Option<String>,
    /// Comparison operator
    #[arg(long, value_enum, value_name = "OP", requires = "where_column")]
    pub where_op: Option<WhereOp>,
    /// The value, which is never read as SQL
    #[arg(long, value_name = "VALUE", requires = "where_column", allow_hyphen_values = true)]
    pub where_value: Option<String>,
    /// Return only rows whose score is at most this; under dot, at least this
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub score_threshold: Option<f64>,
    /// Search only rows of at least this score: under a distance it leaves out the closest rows
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    pub min_score: Option<f64>,
    /// Return the K best rows of each group of rows with one value in this column
    #[arg(long, value_name = "NAME")]
    pub group_by: Option<String>,
    /// Columns to return, * for all
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Write the rows into this file or object: .parquet, .arrow or .csv; a path, or a URL of s3, gs or az
    #[arg(long, value_name = "PATH")]
    #[serde(serialize_with = "shown_path")]
    pub output_path: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub workers: Workers,
}

fn metric_name<S: Serializer>(metric: &Metric, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(metric.name())
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WhereOp {
    #[value(name = "=", alias = "eq", alias = "==")]
    Eq,
    #[value(name = "!=", alias = "ne", alias = "<>")]
    Ne,
    #[value(name = "<", alias = "lt")]
    Lt,
    #[value(name = "<=", alias = "le")]
    Le,
    #[value(name = ">", alias = "gt")]
    Gt,
    #[value(name = ">=", alias = "ge")]
    Ge,
    #[value(name = "like")]
    Like,
}

impl FileSearch {
    pub async fn run(self, track: &Track) -> Result<Answer, Failure> {
        let query = self.query_vector.components()?;
        let session = self.workers.session().during("start")?;
        let schema = self.input.open(&session).await.during("input")?.schema();
        let condition = self.condition(&schema).during("search")?;
        let search = VectorSearch {
            table: self.input.table,
            column: self.vector_column,
            query: QueryVectors::One(query),
            top_k: self.top_k,
            metric: self.metric,
            filter: self.filter,
            params: None,
            min_score: self.min_score,
            group_by: self.group_by,
            columns: self.columns,
        };
        let found = session.vector_search_explained(&search, condition, self.score_threshold).await;
        let (found, explained) = found.during("search")?;
        let rows = Rows {
            schema: found.schema(),
            stream: found.stream().await.during("search")?,
            output_path: self.output_path.as_deref(),
            stores: session.object_stores(),
        };
        let (table, written) = rows.produced(track, "search").await?;
        let explain = Explained::from(explained);
        track.explain(&explain).during("output")?;
        Ok(Answer::FileSearched { metric: self.metric.name(), top_k: self.top_k, rows: table, written, explain })
    }

    /// The column, operator and value as a predicate: the column by name, the value bound.
    fn condition(&self, schema: &Schema) -> Result<Option<Expr>> {
        let (Some(name), Some(op), Some(value)) = (&self.where_column, self.where_op, &self.where_value) else {
            return Ok(None);
        };
        let Ok(field) = schema.field_with_name(name) else {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::InvalidArgument(format!(
                "--where-column: expected one of [{}], got {name:?}",
                names.join(", ")
            )));
        };
        let of_type = field.data_type();
        let column = Expr::Column(Column::new_unqualified(name));
        if op == WhereOp::Like && !of_type.is_string() {
            return Err(Error::InvalidArgument(format!("--where-op: like expects text, got {name:?} of {of_type}")));
        }
        let value = lit(typed(value, of_type).ok_or_else(|| {
            Error::InvalidArgument(format!("--where-value: expected {of_type} for column {name:?}, got {value:?}"))
        })?);
        Ok(Some(match op {
            WhereOp::Eq => column.eq(value),
            WhereOp::Ne => column.not_eq(value),
            WhereOp::Lt => column.lt(value),
            WhereOp::Le => column.lt_eq(value),
            WhereOp::Gt => column.gt(value),
            WhereOp::Ge => column.gt_eq(value),
            WhereOp::Like => column.like(value),
        }))
    }
}

/// A value of a column's type, or a number that compares with it.
fn typed(text: &str, data_type: &DataType) -> Option<ScalarValue> {
    match data_type {
        text_type if text_type.is_string() => Some(ScalarValue::from(text)),
        number if number.is_integer() || number.is_floating() => {
            let whole = text.parse::<i64>().map(|number| ScalarValue::Int64(Some(number)));
            whole.or_else(|_| text.parse::<f64>().map(|number| ScalarValue::Float64(Some(number)))).ok()
        }
        other => ScalarValue::from(text).cast_to(other).ok().filter(|value| !value.is_null()),
    }
}
