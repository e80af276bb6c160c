//! The tables of an engine: their states, their first rows, and queries of them.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, SchemaRef};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use vexact_core::error::{Error, Result};
use vexact_core::json::columns;
use vexact_core::param::Param;
use vexact_core::rows::concat;
use vexact_core::sql::ident;
use vexact_htap::HtapEngine;
use vexact_html::table;

use super::layout::{Page, link};
use super::text::{count, counted};

/// Rows of a table that are shown, and of a query without a LIMIT.
const ROWS: usize = 50;
/// Rows of a search.
const FOUND: usize = 20;
/// Maximum time of a query.
const PATIENCE: Duration = Duration::from_secs(20);

/// The database whose tables the page shows.
pub(super) struct Database {
    pub engine: Arc<HtapEngine>,
    /// Its file.
    pub name: String,
}

/// The query of the list's form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ListQuery {
    sql: String,
}

/// The searches of a table's forms: by words of a text column, or by a row of a vector column.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TableQuery {
    column: String,
    words: String,
    like: String,
}

/// The status of a replica, as its JSON has it.
#[derive(Debug, Deserialize)]
struct Replica {
    name: String,
    rows: u64,
    lag: u64,
    state: String,
    last_error: Option<String>,
    warning: Option<String>,
}

impl Replica {
    fn of(status: &impl Serialize) -> Result<Self> {
        let read = serde_json::to_value(status).and_then(serde_json::from_value);
        read.map_err(|error| Error::Engine(format!("the status of a table: {error}")))
    }

    async fn all(engine: &HtapEngine) -> Result<(Vec<Self>, Option<String>)> {
        let status = engine.sync_status().await?;
        let tables = status.tables.iter().map(Self::of).collect::<Result<_>>()?;
        Ok((tables, status.last_error))
    }
}

/// The page of all tables, with the rows of a query if one was asked.
pub(super) async fn list(database: Option<&Database>, asked: &ListQuery) -> Result<Markup> {
    let Some(database) = database else { return Ok(without_database()) };
    let sql = asked.sql.trim();
    let (tables, sync_error) = Replica::all(&database.engine).await?;
    let body = html! {
        h1 { "Tables" }
        p.description { code { (database.name) } }
        form.query method="get" action="/tables" {
            label { "Query"
                textarea name="sql" rows="3" spellcheck="false" placeholder="SELECT … FROM …" { (sql) }
            }
            div.buttons {
                button type="submit" { "Run" }
                span.note { "Reads only. Shows " (ROWS) " rows unless the query has its own LIMIT, for at most " (PATIENCE.as_secs()) " seconds." }
                @if !sql.is_empty() { a.clear href="/tables" { "Clear" } }
            }
        }
        @if !sql.is_empty() { section #result { h2 { "Result" } (shown(database.rows(&limited(sql), []).await, Some(ROWS))) } }
        section #tables data-live {
            h2 { "Replicas" }
            @if let Some(error) = &sync_error { (problem(error)) }
            @if tables.is_empty() {
                div.empty {
                    p { "No table of this file is registered yet." }
                    pre { "vexact db register --db " (database.name) " --table NAME" }
                }
            } @else { (states(&tables)) }
        }
    };
    let refresh_ms = sql.is_empty().then_some(2000);
    Ok(Page { title: "Tables", place: "/tables", refresh_ms, body }.render())
}

fn without_database() -> Markup {
    let body = html! {
        h1 { "Tables" }
        div.empty {
            p { "This page was started without a database. With one it shows the tables, their rows, and searches of them:" }
            pre { "vexact ui --db app.db" }
        }
    };
    Page { title: "Tables", place: "/tables", refresh_ms: None, body }.render()
}

fn states(tables: &[Replica]) -> Markup {
    html! {
        table.files {
            thead { tr {
                th scope="col" { "Table" } th scope="col" { "State" } th.number scope="col" { "Rows" } th scope="col" { "Lag" }
            } }
            tbody {
                @for table in tables { tr {
                    td.name {
                        a href=(link("tables", &table.name)) { (table.name) }
                        @if let Some(error) = &table.last_error { div.reason title=(error) { (error) } }
                    }
                    td.state { (state(table)) }
                    td.number.rows { (count(table.rows)) span.unit { " rows" } }
                    td.lag { (lag(table)) }
                } }
            }
        }
    }
}

fn state(table: &Replica) -> Markup {
    let (kind, sign) = match table.state.as_str() {
        "ready" => ("succeeded", "✓"),
        "failed" => ("failed", "✕"),
        _ => ("running", "●"),
    };
    html! { span.status data-status=(kind) { span.sign aria-hidden="true" { (sign) } (table.state.replace('-', " ")) } }
}

fn lag(table: &Replica) -> String {
    match table.lag {
        0 => "up to date".into(),
        lag => format!("{} behind", counted(lag, "change")),
    }
}

/// The page of one table, with the rows of a search if one was asked.
pub(super) async fn page(database: Option<&Database>, name: &str, asked: &TableQuery) -> Result<Markup> {
    let Some(database) = database else { return Ok(without_database()) };
    let (tables, _) = Replica::all(&database.engine).await?;
    let found = tables.iter().find(|table| table.name == name);
    let unknown =
        || Error::InvalidArgument(format!("table {name:?}: expected a replicated table of {}", database.name));
    let table = found.ok_or_else(unknown)?;
    let first = database.rows(&format!("SELECT * FROM {} LIMIT {ROWS}", ident(name)), []).await;
    let schema = first.as_ref().ok().map(RecordBatch::schema);
    let texts: Vec<String> =
        database.engine.text_columns().into_iter().filter(|of| of.table == name).map(|of| of.column).collect();
    let vectors: Vec<String> = schema.iter().flat_map(vector_columns).collect();
    let is_asked = !asked.words.trim().is_empty() || !asked.like.trim().is_empty();
    let body = html! {
        p.path { a href="/tables" { "Tables" } " /" }
        div #head data-live {
            h1 { (name) " " (state(table)) }
            @if let Some(error) = &table.last_error { (problem(error)) }
            @if let Some(warning) = &table.warning { p.note { (warning) } }
            dl.facts {
                div { dt { "Rows" } dd { (count(table.rows)) } }
                div { dt { "Lag" } dd { (lag(table)) } }
                @if let Some(schema) = &schema { div { dt { "Columns" } dd { (schema.fields().len()) } } }
                div.whole { dt { "Database" } dd { code { (database.name) } } }
            }
        }
        @if !(texts.is_empty() && vectors.is_empty()) { section.searches { h2 { "Search" } (searches(name, &texts, &vectors, asked)) } }
        @if is_asked { section #result { h2 { "Found, best first" } (shown(database.search(name, schema.as_ref(), asked).await, None)) } }
        @if let Some(schema) = &schema { section { h2 { "Columns" } (described(schema, &texts)) } }
        section #rows data-live { h2 { "First rows" } (shown(first, None)) }
    };
    let refresh_ms = (!is_asked).then_some(5000);
    Ok(Page { title: name, place: "/tables", refresh_ms, body }.render())
}

fn searches(name: &str, texts: &[String], vectors: &[String], asked: &TableQuery) -> Markup {
    let form = |columns: &[String], field: &str, value: &str, label: &str, hint: &str| {
        html! {
            form.filters method="get" action=(link("tables", name)) {
                label { (label) input type="search" name=(field) value=(value) placeholder=(hint); }
                label { "Column" select name="column" {
                    @for column in columns { option value=(column) selected[*column == asked.column] { (column) } }
                } }
                button type="submit" { "Search" }
            }
        }
    };
    html! {
        @if !texts.is_empty() { (form(texts, "words", &asked.words, "Words", "words of the text")) }
        @if !vectors.is_empty() { (form(vectors, "like", &asked.like, "Close to the row where", "id = 1")) }
    }
}

fn described(schema: &SchemaRef, texts: &[String]) -> Markup {
    html! {
        table.files.columns {
            thead { tr { th scope="col" { "Column" } th scope="col" { "Type" } th scope="col" { "Text index" } } }
            tbody {
                @for column in columns(schema) { tr {
                    td.name { (column.name) }
                    td.format { (column.kind) }
                    td { @if texts.contains(&column.name) { "indexed" } }
                } }
            }
        }
    }
}

/// Returns the columns whose vectors have numbers as components.
fn vector_columns(schema: &SchemaRef) -> Vec<String> {
    let is_vector = |kind: &DataType| matches!(kind, DataType::FixedSizeList(item, _) if item.data_type().is_numeric());
    schema.fields().iter().filter(|field| is_vector(field.data_type())).map(|field| field.name().clone()).collect()
}

impl Database {
    /// Returns the rows of a query that only reads.
    async fn rows<const N: usize>(&self, sql: &str, params: [Param; N]) -> Result<RecordBatch> {
        let problem =
            || Error::Engine(format!("the query took longer than {} seconds and was cancelled", PATIENCE.as_secs()));
        let batches = timeout(PATIENCE, self.engine.query(sql, &params)).await.map_err(|_| problem())??;
        let schema =
            batches.first().map(RecordBatch::schema).ok_or_else(|| Error::Engine("the query has no columns".into()))?;
        concat(&schema, &batches)
    }

    /// Returns the rows of a search: the score, rounded, and the columns that are no vectors.
    async fn search(&self, table: &str, schema: Option<&SchemaRef>, asked: &TableQuery) -> Result<RecordBatch> {
        let (name, column) = (literal(table), literal(&asked.column));
        let vectors: Vec<String> = schema.into_iter().flat_map(vector_columns).collect();
        let fields = schema.into_iter().flat_map(|schema| schema.fields());
        let shown =
            fields.filter(|field| !vectors.contains(field.name())).map(|field| format!(", {}", ident(field.name())));
        let shown: String = shown.collect();
        if !asked.words.trim().is_empty() {
            let sql = format!(
                "SELECT round(text_score, 4) AS text_score{shown} FROM text_search({name}, {column}, $1, {FOUND}) ORDER BY text_rank"
            );
            return self.rows(&sql, [Param::Text(asked.words.clone())]).await;
        }
        let row =
            format!("SELECT {} AS v FROM {} WHERE ({}\n) LIMIT 1", ident(&asked.column), ident(table), asked.like);
        let found = self.rows(&row, []).await?;
        let vector = first_vector(&found).ok_or_else(|| {
            Error::InvalidArgument(format!("{}: expected a row that has a vector, got none", asked.like))
        })?;
        let sql = format!(
            "SELECT round(score, 4) AS distance{shown} FROM vector_search({name}, {column}, $1, {FOUND}) ORDER BY score"
        );
        self.rows(&sql, [Param::Vector(vector)]).await
    }
}

/// Returns a text as a literal of SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn first_vector(rows: &RecordBatch) -> Option<Vec<f32>> {
    let column = rows.columns().first()?;
    let vectors = column.as_fixed_size_list_opt().filter(|vectors| !vectors.is_empty() && vectors.is_valid(0))?;
    let vector = cast(&vectors.value(0), &DataType::Float32).ok()?;
    Some(vector.as_primitive::<Float32Type>().values().to_vec())
}

/// Returns a query with a limit, unless it has one. Another statement is returned as it is.
fn limited(sql: &str) -> String {
    let sql = sql.trim_end().trim_end_matches(';');
    let mut words = sql.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
    let is_one_of = |word: &str, of: &[&str]| of.iter().any(|of| word.eq_ignore_ascii_case(of));
    let is_query = words.next().is_some_and(|word| is_one_of(word, &["select", "values", "with"]));
    match is_query && !words.any(|word| is_one_of(word, &["limit"])) {
        // A line of its own, so that a comment at the end does not hide it.
        true => format!("{sql}\nLIMIT {}", ROWS + 1),
        false => sql.to_owned(),
    }
}

/// Returns rows as a table, or the error in their place. `most`: the number of rows shown.
fn shown(rows: Result<RecordBatch>, most: Option<usize>) -> Markup {
    let made = rows.and_then(|rows| {
        let most = most.unwrap_or(rows.num_rows()).min(rows.num_rows());
        let note = match rows.num_rows() > most {
            true => format!("first {}", counted(most as u64, "row")),
            false => counted(rows.num_rows() as u64, "row"),
        };
        table(&rows.slice(0, most), Some(&note))
    });
    made.unwrap_or_else(|error| problem(&error.to_string()))
}

fn problem(text: &str) -> Markup {
    html! { div.problem role="alert" { pre { (text) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_without_a_limit_gets_one() {
        assert_eq!(limited("SELECT 1 ; "), "SELECT 1 \nLIMIT 51");
        assert_eq!(limited("SELECT 1 -- all"), "SELECT 1 -- all\nLIMIT 51");
        assert_eq!(limited("SELECT 1 limit 3"), "SELECT 1 limit 3");
        assert_eq!(limited("SELECT limits FROM t"), "SELECT limits FROM t\nLIMIT 51");
        assert_eq!(limited("(VALUES (1))"), "(VALUES (1))\nLIMIT 51");
        assert_eq!(limited("DELETE FROM t;"), "DELETE FROM t");
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(literal("it's"), "'it''s'");
    }
}
