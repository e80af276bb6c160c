//! Searches by call, without SQL: the same operators, planned directly.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, FixedSizeListArray, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, ScalarValue, TableReference};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident, lit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_plan::{ExecutionPlan, collect};
use vexact_kernel::{Element, KernelError, Metric, Search};
use vexact_sql::exec::{Join, JoinColumn, Scoring, TopK, VectorJoinExec, VectorTopKExec};
use vexact_sql::{Explained, explain_plan};

use super::{DataFrame, Session};
use crate::error::{Error, Result};
use crate::sources;

/// One query, or a query batch.
#[derive(Debug, Clone)]
pub enum QueryVectors {
    /// One vector.
    One(Vec<f64>),
    /// Several, searched together.
    Many(Vec<Vec<f64>>),
}

impl QueryVectors {
    /// One query, widened to `f64`.
    pub fn one<T: Element>(query: &[T]) -> Self {
        Self::One(query.iter().map(|x| x.to_f64()).collect())
    }
}

/// A search of a table.
#[derive(Debug, Clone)]
pub struct VectorSearch {
    /// Name of a table or view.
    pub table: String,
    /// Its vector column.
    pub column: String,
    /// What to look for.
    pub query: QueryVectors,
    /// How many rows for each query.
    pub top_k: usize,
    /// The distance function.
    pub metric: Metric,
    /// A SQL predicate on the table, applied before the search.
    pub filter: Option<String>,
    /// Columns of the table that the result has, besides `row_id` and `score`; `*` for all.
    pub columns: Vec<String>,
}

/// Names of the result's own columns.
struct Names {
    row_id: Option<&'static str>,
    score: &'static str,
    /// Own columns before the table's.
    is_leading: bool,
}

const SEARCH: Names = Names { row_id: Some("row_id"), score: "score", is_leading: true };
const HYBRID: Names = Names { row_id: None, score: "vector_score", is_leading: false };
const QUERY_ID: &str = "query_id";

/// A planned search.
struct Planned {
    logical: LogicalPlan,
    physical: Arc<dyn ExecutionPlan>,
    state: SessionState,
}

impl Session {
    /// The rows closest to the query, best first: `row_id` (Int64, the row's ordinal in the table), `score` (Float64), then
    /// `columns`. A query batch adds `query_id` (Int64) in front.
    ///
    /// # Errors
    /// An unknown table or column, a query that the kernel refuses, a filter that is not a predicate on the table.
    pub async fn vector_search(&self, search: &VectorSearch) -> Result<DataFrame> {
        let planned = self.plan_search(search, &SEARCH).await?;
        self.run(&planned, None).await
    }

    /// The three sections of the explain of [`Self::vector_search`], as executed.
    ///
    /// # Errors
    /// As [`Self::vector_search`].
    pub async fn explain_vector_search(&self, search: &VectorSearch) -> Result<Explained> {
        let planned = self.plan_search(search, &SEARCH).await?;
        self.run(&planned, None).await?;
        Ok(explain_plan(&planned.logical, &planned.physical, planned.state.config_options()))
    }

    /// All columns of the table and `vector_score` for the rows closest to the query whose score is within `score_threshold`
    /// (at most it, under dot at least), best first.
    ///
    /// # Errors
    /// As [`Self::vector_search`]; a query batch; a threshold that is not a number.
    pub async fn hybrid_search(&self, search: &VectorSearch, score_threshold: Option<f64>) -> Result<DataFrame> {
        let planned = self.plan_hybrid(search, score_threshold).await?;
        self.run(&planned, score_threshold.map(|threshold| (threshold, search.metric))).await
    }

    /// The three sections of the explain of [`Self::hybrid_search`], as executed.
    ///
    /// # Errors
    /// As [`Self::hybrid_search`].
    pub async fn explain_hybrid_search(
        &self,
        search: &VectorSearch,
        score_threshold: Option<f64>,
    ) -> Result<Explained> {
        let planned = self.plan_hybrid(search, score_threshold).await?;
        let within = score_threshold.map(|threshold| (threshold, search.metric));
        let found = self.run(&planned, within).await?.count().await?;
        let mut explained = explain_plan(&planned.logical, &planned.physical, planned.state.config_options());
        if let Some(top_k) = planned.physical.downcast_ref::<VectorTopKExec>() {
            let mut report = top_k.report();
            let rows = report.candidate_rows;
            let filter = report.filter.get_or_insert(vexact_kernel::FilterReport {
                input_rows: rows,
                execution: "none",
                returned_rows: None,
            });
            filter.returned_rows = Some(found as u64);
            report.radius = score_threshold;
            explained.strategy = report.to_string();
        }
        Ok(explained)
    }

    async fn plan_hybrid(&self, search: &VectorSearch, score_threshold: Option<f64>) -> Result<Planned> {
        if let QueryVectors::Many(_) = search.query {
            return Err(Error::InvalidArgument("hybrid_search: expected one query vector, got a query batch".into()));
        }
        if let Some(threshold) = score_threshold.filter(|threshold| threshold.is_nan()) {
            return Err(Error::InvalidArgument(format!("score_threshold: expected a number, got {threshold}")));
        }
        self.plan_search(&VectorSearch { columns: vec!["*".into()], ..search.clone() }, &HYBRID).await
    }

    /// Runs a planned search; `within` keeps the rows of that score.
    async fn run(&self, planned: &Planned, within: Option<(f64, Metric)>) -> Result<DataFrame> {
        let batches = collect(Arc::clone(&planned.physical), planned.state.task_ctx()).await?;
        let schema = planned.physical.schema();
        let mut found = super::frame::concat(&schema, &batches)?;
        if let Some((threshold, metric)) = within {
            let scores = found.column(schema.fields().len() - 1).as_primitive::<Float64Type>();
            let is_within =
                |score: &&f64| if metric.is_larger_closer() { **score >= threshold } else { **score <= threshold };
            // Best first: what is within comes before what is not.
            let rows = scores.values().iter().take_while(is_within).count();
            found = found.slice(0, rows);
        }
        Ok(self.table_frame(sources::arrow::as_it_is(schema, vec![found])?))
    }

    async fn plan_search(&self, search: &VectorSearch, names: &Names) -> Result<Planned> {
        let provider = self.table_provider(&search.table).await?;
        let schema = provider.schema();
        let column = column_of(search, &schema)?;
        let field = schema.field(column);
        check_query(search, field)?;
        let columns = selected_columns(search, &schema, names)?;

        let mut state = self.ctx.state();
        let reference = TableReference::bare(search.table.as_str());
        let df_schema = DFSchema::try_from_qualified_schema(reference.clone(), &schema)?;
        let filter =
            match &search.filter {
                Some(filter) => Some(state.create_logical_expr(filter, &df_schema).map_err(|error| {
                    Error::InvalidArgument(format!("filter {filter:?}: {}", error.strip_backtrace()))
                })?),
                None => None,
            };

        // The columns to scan: the vectors, what the filter reads, what the result has.
        let mut scanned = vec![column];
        let filtered =
            filter.iter().flat_map(|filter| filter.column_refs()).filter_map(|read| schema.index_of(&read.name).ok());
        for needed in filtered.chain(columns.iter().copied()) {
            if !scanned.contains(&needed) {
                scanned.push(needed);
            }
        }
        let expr =
            |i: &usize| Expr::Column(datafusion::common::Column::new(Some(reference.clone()), schema.field(*i).name()));
        let mut logical = LogicalPlanBuilder::scan(reference.clone(), provider_as_source(Arc::clone(&provider)), None)?
            .project(scanned.iter().map(expr).collect::<Vec<_>>())?;
        let input = if provider.is::<vexact_sql::chunks::ChunkTable>() {
            provider.scan(&state, Some(&scanned), &[], None).await?
        } else {
            // One partition, so that a row's ordinal is its place in the table.
            state.config_mut().options_mut().execution.target_partitions = 1;
            let plan = state.optimize(&logical.clone().build()?)?;
            state.query_planner().create_physical_plan(&plan, &state).await?
        };
        let predicate = match filter {
            Some(filter) => {
                let scanned_schema = DFSchema::try_from_qualified_schema(reference.clone(), &input.schema())?;
                let data_type = datafusion::logical_expr::ExprSchemable::get_type(&filter, &scanned_schema)?;
                if data_type != DataType::Boolean && data_type != DataType::Null {
                    let text = search.filter.as_deref().unwrap_or_default();
                    return Err(Error::InvalidArgument(format!(
                        "filter {text:?}: expected a predicate, got {data_type}"
                    )));
                }
                logical = logical.filter(filter.clone())?;
                let predicate = state.create_physical_expr(filter, &scanned_schema)?;
                Some(Arc::new(CastExpr::new(predicate, DataType::Boolean, None)) as Arc<dyn PhysicalExpr>)
            }
            None => None,
        };
        let place = |column: usize| scanned.iter().position(|scanned| *scanned == column).unwrap_or(0);
        let places: Vec<usize> = columns.iter().map(|column| place(*column)).collect();
        let physical: Arc<dyn ExecutionPlan> = match &search.query {
            QueryVectors::One(query) => Arc::new(top_k(search, input, predicate, query, &places, names)?),
            QueryVectors::Many(queries) => Arc::new(join(search, input, predicate, queries, &places, names)?),
        };
        // What the physical plan does, in the terms of a logical one.
        let query = match &search.query {
            QueryVectors::One(query) => vector_literal(query),
            QueryVectors::Many(_) => ident(QUERY_ID),
        };
        let score = vexact_sql::score_expr(search.metric, expr(&column), query).alias(names.score);
        let stored = columns.iter().map(expr).collect::<Vec<_>>();
        let logical = match &search.query {
            QueryVectors::One(_) => logical
                .project(stored.into_iter().chain([score]))?
                .sort(vec![ident(names.score).sort(!search.metric.is_larger_closer(), false)])?
                .limit(0, Some(search.top_k))?,
            QueryVectors::Many(_) => logical.project(stored)?,
        };
        Ok(Planned { logical: logical.build()?, physical, state })
    }

    async fn table_provider(&self, name: &str) -> Result<Arc<dyn TableProvider>> {
        for reference in [TableReference::bare(name), TableReference::from(name)] {
            if self.ctx.table_exist(reference.clone())? {
                return Ok(self.ctx.table_provider(reference).await?);
            }
        }
        Err(Error::InvalidArgument(format!("table {name:?} not found: expected the name of a table or view")))
    }
}

fn column_of(search: &VectorSearch, schema: &Schema) -> Result<usize> {
    let is_vector = |field: &Field| {
        let item = match field.data_type() {
            DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => item,
            _ => return false,
        };
        item.data_type().is_floating()
    };
    let Ok(column) = schema.index_of(&search.column) else {
        let vectors: Vec<&str> =
            schema.fields().iter().filter(|field| is_vector(field)).map(|field| field.name().as_str()).collect();
        return Err(Error::InvalidArgument(format!(
            "column {:?} not found in table {:?}: expected one of its vector columns [{}]",
            search.column,
            search.table,
            vectors.join(", ")
        )));
    };
    if !is_vector(schema.field(column)) {
        return Err(Error::InvalidArgument(format!(
            "column {:?} of table {:?}: expected vectors (FixedSizeList, List or LargeList of floats), got {}",
            search.column,
            search.table,
            schema.field(column).data_type()
        )));
    }
    Ok(column)
}

/// Refuses a bad query before any work.
fn check_query(search: &VectorSearch, field: &Field) -> Result<()> {
    let dim = match field.data_type() {
        DataType::FixedSizeList(_, dim) => Some(*dim as usize),
        _ => None,
    };
    let check = |query: &[f64]| -> Result<(), KernelError> {
        let checked = Search::new(search.metric, query)?.top_k(search.top_k);
        checked.plan(dim.unwrap_or(query.len()), None).map(|_| ())
    };
    let refused = |which: String, source| Error::Vector {
        context: format!("vector search on column {:?} of table {:?}{which}", search.column, search.table),
        source,
    };
    match &search.query {
        QueryVectors::One(query) => check(query).map_err(|error| refused(String::new(), error)),
        QueryVectors::Many(queries) if queries.is_empty() => Err(refused(String::new(), KernelError::EmptyBatch)),
        QueryVectors::Many(queries) => queries
            .iter()
            .enumerate()
            .try_for_each(|(i, query)| check(query).map_err(|error| refused(format!(", query {i}"), error))),
    }
}

/// A vector as a literal.
fn vector_literal(vector: &[f64]) -> Expr {
    lit(ScalarValue::FixedSizeList(Arc::new(vector_array(&[vector.to_vec()]))))
}

/// Vectors of one length as an array.
fn vector_array(vectors: &[Vec<f64>]) -> FixedSizeListArray {
    let item = Arc::new(Field::new_list_field(DataType::Float64, true));
    let dim = vectors.first().map_or(0, Vec::len) as i32;
    let values = Float64Array::from_iter_values(vectors.iter().flatten().copied());
    FixedSizeListArray::new(item, dim, Arc::new(values), None)
}

/// The ordinals of the columns that the result has.
fn selected_columns(search: &VectorSearch, schema: &Schema, names: &Names) -> Result<Vec<usize>> {
    let mut columns = Vec::new();
    for name in &search.columns {
        if name == "*" {
            columns.extend(0..schema.fields().len());
            continue;
        }
        match schema.index_of(name) {
            Ok(column) => columns.push(column),
            Err(_) => {
                let all: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(Error::InvalidArgument(format!(
                    "column {name:?} not found in table {:?}: expected one of [{}]",
                    search.table,
                    all.join(", ")
                )));
            }
        }
    }
    let own = [names.row_id, Some(names.score), matches!(search.query, QueryVectors::Many(_)).then_some(QUERY_ID)];
    let clash =
        columns.iter().map(|column| schema.field(*column).name()).find(|name| own.contains(&Some(name.as_str())));
    if let Some(name) = clash {
        return Err(Error::InvalidArgument(format!(
            "table {:?} has a column {name:?}, which the search adds: expected another name (rename it in a view)",
            search.table
        )));
    }
    Ok(columns)
}

/// The result's fields: its own, and the table's.
fn result_schema(own: Vec<Field>, input: &Schema, places: &[usize], is_leading: bool) -> Schema {
    let stored = places.iter().map(|place| input.field(*place).clone());
    Schema::new(if is_leading {
        own.into_iter().chain(stored).collect::<Vec<_>>()
    } else {
        stored.chain(own).collect()
    })
}

fn top_k(
    search: &VectorSearch,
    input: Arc<dyn ExecutionPlan>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    query: &[f64],
    places: &[usize],
    names: &Names,
) -> Result<VectorTopKExec> {
    let schema = input.schema();
    let value = places.len();
    let column = |name: &str, place| -> Arc<dyn PhysicalExpr> { Arc::new(Column::new(name, place)) };
    let project = |expr, alias: &str| ProjectionExpr { expr, alias: alias.into() };
    let mut own = vec![project(column("value", value), names.score)];
    let mut fields = vec![Field::new(names.score, DataType::Float64, true)];
    if let Some(row_id) = names.row_id {
        let ordinal = CastExpr::new(column("ordinal", value + 1), DataType::Int64, None);
        own.insert(0, project(Arc::new(ordinal), row_id));
        fields.insert(0, Field::new(row_id, DataType::Int64, false));
    }
    let stored = places.iter().enumerate().map(|(gathered, place)| {
        let name = schema.field(*place).name();
        project(column(name, gathered), name)
    });
    let output = if names.is_leading { own.into_iter().chain(stored).collect() } else { stored.chain(own).collect() };
    let result = result_schema(fields, &schema, places, names.is_leading);
    let vector = vector_array(&[query.to_vec()]);
    let top_k = TopK {
        predicate,
        vector: 0,
        query: Arc::new(Literal::new(ScalarValue::FixedSizeList(Arc::new(vector)))),
        scoring: Scoring::Search(search.metric),
        negative_nans_first: false,
        nulls_first: false,
        k: search.top_k,
        columns: places.to_vec(),
        output,
    };
    Ok(VectorTopKExec::try_new(input, top_k, Arc::new(result), None)?)
}

fn join(
    search: &VectorSearch,
    input: Arc<dyn ExecutionPlan>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    queries: &[Vec<f64>],
    places: &[usize],
    names: &Names,
) -> Result<VectorJoinExec> {
    let vectors: ArrayRef = Arc::new(vector_array(queries));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..queries.len() as i64));
    let batch = RecordBatch::try_from_iter([(QUERY_ID, ids), ("vector", vectors)]).map_err(DataFusionError::from)?;
    let left = MemorySourceConfig::try_new_exec(&[vec![batch.clone()]], batch.schema(), None)?;
    let mut columns = vec![JoinColumn::Query(0)];
    let mut fields = vec![Field::new(QUERY_ID, DataType::Int64, false)];
    if let Some(row_id) = names.row_id {
        columns.push(JoinColumn::Ordinal);
        fields.push(Field::new(row_id, DataType::Int64, false));
    }
    columns.push(JoinColumn::Score);
    fields.push(Field::new(names.score, DataType::Float64, false));
    columns.extend(places.iter().map(|place| JoinColumn::Found(*place)));
    let schema = result_schema(fields, &input.schema(), places, true);
    let join = Join { metric: search.metric, vectors: (1, 0), predicate, k: Some(search.top_k), radius: None, columns };
    Ok(VectorJoinExec::new(left, input, join, Arc::new(schema)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_widened_exactly() {
        let QueryVectors::One(query) = QueryVectors::one(&[0.1_f32]) else { panic!("one query") };
        assert_eq!(query, [f64::from(0.1_f32)]);
    }
}
