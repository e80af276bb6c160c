//! Builds the physical plan of a search by call without the optimizer, because its shape is known.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column as NamedColumn, DFSchema, ScalarValue, TableReference};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident, lit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use vexact_core::error::{Error, Result};
use vexact_kernel::{FilterExecution, FilterReport, KernelError, Search};
use vexact_replica::ReplicaTable;
use vexact_sql::chunks::ChunkTable;
use vexact_sql::exec::{Join, JoinColumn, Scoring, TopK, VectorJoinExec, VectorTopKExec, check_group_type};
use vexact_sql::{Explained, SearchStrategy, Table, best_of_each_group, explain_plan};

use super::Session;
use super::file_pruning::{ScannedRows, prune};
use super::memory::MemoryTable;
use super::search_filter::{as_in_where, filter_expr};
use super::search_request::{QueryVectors, VectorSearch};
use super::workers::{self, workers};

/// Names of the result's own columns.
pub(super) struct Names {
    row_id: Option<&'static str>,
    score: &'static str,
    /// True if the search's own columns precede the table's.
    is_leading: bool,
}

pub(super) const SEARCH: Names = Names { row_id: Some("row_id"), score: "score", is_leading: true };
pub(super) const HYBRID: Names = Names { row_id: None, score: "vector_score", is_leading: false };
pub(super) const QUERY_ID: &str = "query_id";

/// A planned search.
pub(super) struct Planned {
    pub physical: Arc<dyn ExecutionPlan>,
    /// The plan that runs `physical` on the session's workers; `None` without workers.
    on_workers: Option<Arc<dyn ExecutionPlan>>,
    pub context: Arc<TaskContext>,
    table: TableReference,
    provider: Arc<dyn TableProvider>,
    filter: Option<Expr>,
    column: usize,
    columns: Vec<usize>,
    /// Index of the score column in the result.
    pub score: usize,
    /// Index of the column with the rows' ordinals, and the rows of the table that were scanned;
    /// `None` if all rows were scanned.
    pub pruned: Option<(usize, ScannedRows)>,
}

/// Returns a column of a table, as an expression.
fn column_expr(table: &TableReference, schema: &Schema, column: usize) -> Expr {
    Expr::Column(NamedColumn::new(Some(table.clone()), schema.field(column).name()))
}

impl Session {
    /// Plans a search. Rows have to fulfil `condition` besides the search's own filter.
    pub(super) async fn plan_search(
        &self,
        search: &VectorSearch,
        condition: Option<Expr>,
        names: &Names,
    ) -> Result<Planned> {
        let mut provider = self.table_provider(&search.table).await?;
        self.check_search_of(&provider)?;
        if let Some(table) = provider.downcast_ref::<MemoryTable>() {
            provider = table.current();
        }
        let schema = provider.schema();
        let column = column_of(search, &schema)?;
        check_query(search, schema.field(column))?;
        let group_by = group_column(search, &schema)?;
        let columns = selected_columns(search, &schema, names)?;
        let table = TableReference::bare(search.table.as_str());

        let condition = match (min_score(search, &column_expr(&table, &schema, column))?, condition) {
            (Some(least), Some(condition)) => Some(least.and(condition)),
            (least, condition) => least.or(condition),
        };

        // Copying the state of a session costs more than a small search, so it is copied only if
        // something has to be planned.
        let in_memory = provider.downcast_ref::<ChunkTable>();
        let replica = provider.downcast_ref::<ReplicaTable>();
        let is_at_hand = in_memory.is_some() || replica.is_some();
        let is_filtered = search.filter.is_some() || condition.is_some();
        let mut state = (is_filtered || !is_at_hand).then(|| self.state());
        let filter = match (&search.filter, &state) {
            (Some(text), Some(state)) => {
                let found = Table { reference: table.clone(), provider: Arc::clone(&provider) };
                Some(filter_expr(state, &found, text, search.params.as_ref())?)
            }
            _ => None,
        };
        let filter = match (filter, condition) {
            (Some(filter), Some(condition)) => Some(filter.and(condition)),
            (filter, condition) => filter.or(condition),
        };
        let filter = match (filter, &state) {
            (Some(filter), Some(state)) => Some(as_in_where(state, &table, &provider, filter)?),
            (filter, _) => filter,
        };

        // The scan reads the vectors, the columns of the filter, and those of the result.
        let mut scanned = vec![column];
        let filtered =
            filter.iter().flat_map(|filter| filter.column_refs()).filter_map(|read| schema.index_of(&read.name).ok());
        for needed in filtered.chain(columns.iter().copied()).chain(group_by) {
            if !scanned.contains(&needed) {
                scanned.push(needed);
            }
        }
        let mut scanned_rows = None;
        let input: Arc<dyn ExecutionPlan> = match (in_memory, replica, &mut state) {
            (Some(chunks), _, _) => Arc::new(chunks.scan_columns(scanned.clone())?),
            // The filter may have the keys that a text index has at the state's snapshot.
            (_, Some(replica), Some(state)) => Arc::new(replica.scan_columns_at(state.config(), scanned.clone())?),
            (_, Some(replica), None) => Arc::new(replica.scan_columns(scanned.clone())?),
            (None, None, Some(state)) => {
                // One partition is used, so that a row's ordinal is its position in the table.
                state.config_mut().options_mut().execution.target_partitions = 1;
                let scan = LogicalPlanBuilder::scan(table.clone(), provider_as_source(Arc::clone(&provider)), None)?
                    .project(scanned.iter().map(|i| column_expr(&table, &schema, *i)).collect::<Vec<_>>())?;
                let plan = state.optimize(&scan.build()?)?;
                let scan = state.query_planner().create_physical_plan(&plan, state).await?;
                match &filter {
                    None => scan,
                    Some(filter) => {
                        let filtered =
                            LogicalPlanBuilder::scan(table.clone(), provider_as_source(Arc::clone(&provider)), None)?
                                .filter(filter.clone())?;
                        let filtered = state.optimize(&filtered.build()?)?;
                        let filtered = state.query_planner().create_physical_plan(&filtered, state).await?;
                        match prune((state, &self.stores), &scan, &filtered).await? {
                            // Workers count rows from the start of each file.
                            Some(_) if workers(state.config()).is_some() => scan,
                            None => scan,
                            Some((pruned, rows)) => {
                                scanned_rows = Some(rows);
                                pruned
                            }
                        }
                    }
                }
            }
            (None, None, None) => {
                return Err(Error::InvalidArgument(format!("table {:?} cannot be planned", search.table)));
            }
        };
        let predicate = match (&filter, &state) {
            (Some(filter), Some(state)) => {
                let scanned_schema = DFSchema::try_from_qualified_schema(table.clone(), &input.schema())?;
                Some(state.create_physical_expr(filter.clone(), &scanned_schema)?)
            }
            _ => None,
        };
        // The column to search is the first that is scanned, or its cast if it has integers.
        let (input, vectors) = match vexact_sql::vectors_by_cast(input.schema().field(0).data_type()) {
            None => (input, 0),
            Some(floats) => (with_cast(input, &floats)?, scanned.len()),
        };
        let place = |column: usize| scanned.iter().position(|scanned| *scanned == column).unwrap_or(0);
        let places: Vec<usize> = columns.iter().map(|column| place(*column)).collect();
        let physical: Arc<dyn ExecutionPlan> = match &search.query {
            QueryVectors::One(query) => {
                let group_by = group_by.map(place);
                Arc::new(top_k(search, (input, vectors), (predicate, group_by), query, &places, names)?)
            }
            QueryVectors::Many(queries) => {
                Arc::new(join(search, (input, vectors), predicate, queries, &places, names)?)
            }
        };
        let score = match names.is_leading {
            true => usize::from(names.row_id.is_some()),
            false => columns.len(),
        };
        let row_id = names.row_id.map(|_| usize::from(matches!(search.query, QueryVectors::Many(_))));
        let pruned = row_id.zip(scanned_rows);
        let context = self.search_context();
        let on_workers = match workers(context.session_config()) {
            Some(workers) => Some(workers.distribute(Arc::clone(&physical))?),
            None => None,
        };
        Ok(Planned { physical, on_workers, context, table, provider, filter, column, columns, score, pruned })
    }

    /// Returns the task context that the operators of a search need.
    fn search_context(&self) -> Arc<TaskContext> {
        Arc::new(TaskContext::new(
            None,
            self.ctx.session_id(),
            self.ctx.copied_config(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            self.ctx.runtime_env(),
        ))
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

impl Planned {
    /// Returns the plan to run.
    pub fn executed(&self) -> &Arc<dyn ExecutionPlan> {
        self.on_workers.as_ref().unwrap_or(&self.physical)
    }

    /// Explains how the search ran.
    pub fn explained(&self, search: &VectorSearch, names: &Names) -> Result<Explained> {
        let logical = self.logical(search, names)?;
        let mut explained = explain_plan(&logical, &self.physical, self.context.session_config().options());
        if let (Some(least), Some(search)) = (search.min_score, explained.strategy.search_mut()) {
            search.min_score = Some(least);
        }
        workers::explain(self.context.session_config(), self.executed(), &mut explained);
        Ok(explained)
    }

    /// Adds to the strategy the number of rows that a threshold retained.
    pub fn add_threshold(&self, explained: &mut Explained, score_threshold: Option<f64>, found: usize) {
        if !self.physical.is::<VectorTopKExec>() {
            return;
        }
        let Some(SearchStrategy { report, .. }) = explained.strategy.search_mut() else { return };
        let rows = report.candidate_rows;
        let filter = report.filter.get_or_insert(FilterReport {
            input_rows: rows,
            execution: FilterExecution::NoFilter,
            returned_rows: None,
        });
        filter.returned_rows = Some(found as u64);
        report.radius = score_threshold;
    }

    /// Builds the logical plan that corresponds to the physical plan.
    fn logical(&self, search: &VectorSearch, names: &Names) -> Result<LogicalPlan> {
        let schema = self.provider.schema();
        let mut scan =
            LogicalPlanBuilder::scan(self.table.clone(), provider_as_source(Arc::clone(&self.provider)), None)?;
        if let Some(filter) = &self.filter {
            scan = scan.filter(filter.clone())?;
        }
        let query = match &search.query {
            QueryVectors::One(query) => lit(ScalarValue::FixedSizeList(Arc::new(vector_array(&[query.to_vec()])))),
            QueryVectors::Many(queries) => lit(format!("{} queries", queries.len())),
        };
        let vectors = column_expr(&self.table, &schema, self.column);
        if let Some(group) = group_column(search, &schema)? {
            let group = column_expr(&self.table, &schema, group);
            let k = lit(search.top_k.min(i64::MAX as usize) as i64);
            let input = scan.build()?;
            return Ok(best_of_each_group(input, search.metric, (vectors, group), (query, k), names.score)?);
        }
        let score = vexact_sql::score_expr(search.metric, vectors, query).alias(names.score);
        let stored: Vec<Expr> = self.columns.iter().map(|i| column_expr(&self.table, &schema, *i)).collect();
        let plan = scan
            .project(stored.into_iter().chain([score]))?
            .sort(vec![ident(names.score).sort(!search.metric.is_larger_closer(), false)])?
            .limit(0, Some(search.top_k.min(i64::MAX as usize)))?;
        Ok(plan.build()?)
    }
}

/// Returns the condition of a search of one query that has a minimum score.
fn min_score(search: &VectorSearch, column: &Expr) -> Result<Option<Expr>> {
    let (Some(least), QueryVectors::One(query)) = (search.min_score, &search.query) else { return Ok(None) };
    if least.is_nan() {
        return Err(Error::InvalidArgument(format!("min_score: expected a number, got {least}")));
    }
    let query = lit(ScalarValue::FixedSizeList(Arc::new(vector_array(std::slice::from_ref(query)))));
    Ok(Some(vexact_sql::score_expr(search.metric, column.clone(), query).gt_eq(lit(least))))
}

/// Returns the ordinal of the column that rows are grouped by.
fn group_column(search: &VectorSearch, schema: &Schema) -> Result<Option<usize>> {
    let Some(name) = &search.group_by else { return Ok(None) };
    let Ok(column) = schema.index_of(name) else {
        let all: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(Error::InvalidArgument(format!(
            "group_by: column {name:?} not found in table {:?}: expected one of [{}]",
            search.table,
            all.join(", ")
        )));
    };
    check_group_type(name, schema.field(column).data_type())?;
    Ok(Some(column))
}

/// Returns the input with a copy of its first column, cast to another type, after its columns.
fn with_cast(input: Arc<dyn ExecutionPlan>, data_type: &DataType) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    let column = |place: usize| -> ProjectionExpr {
        let name = schema.field(place).name();
        ProjectionExpr { expr: Arc::new(Column::new(name, place)), alias: name.clone() }
    };
    let mut columns: Vec<ProjectionExpr> = (0..schema.fields().len()).map(column).collect();
    let ProjectionExpr { expr, alias } = column(0);
    columns.push(ProjectionExpr { expr: Arc::new(CastExpr::new(expr, data_type.clone(), None)), alias });
    Ok(Arc::new(ProjectionExec::try_new(columns, input)?))
}

fn column_of(search: &VectorSearch, schema: &Schema) -> Result<usize> {
    let is_vector = |field: &Field| vexact_sql::vector_type(field.data_type()).is_some();
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
    let field = schema.field(column);
    if !is_vector(field) && vexact_sql::vectors_by_cast(field.data_type()).is_none() {
        return Err(Error::InvalidArgument(format!(
            "column {:?} of table {:?}: expected vectors (FixedSizeList, List or LargeList of numbers, or FixedSizeBinary), got {}",
            search.column,
            search.table,
            field.data_type()
        )));
    }
    Ok(column)
}

/// Rejects an invalid query before any work is done.
fn check_query(search: &VectorSearch, field: &Field) -> Result<()> {
    let dim = match (field.data_type(), &search.query) {
        (DataType::FixedSizeList(_, dim), _) => Some(*dim as usize),
        (DataType::FixedSizeBinary(bytes), _) => Some(8 * *bytes as usize),
        // Queries that are searched together have one length.
        (_, QueryVectors::Many(queries)) => queries.first().map(Vec::len),
        _ => None,
    };
    let are_bits = matches!(field.data_type(), DataType::FixedSizeBinary(_));
    let check = |query: &[f64]| -> Result<(), KernelError> {
        search.metric.check_vectors(are_bits, field.data_type())?;
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

/// Vectors of one length as an array.
fn vector_array(vectors: &[Vec<f64>]) -> FixedSizeListArray {
    let item = Arc::new(Field::new_list_field(DataType::Float64, true));
    let dim = vectors.first().map_or(0, Vec::len) as i32;
    let values = Float64Array::from_iter_values(vectors.iter().flatten().copied());
    FixedSizeListArray::new(item, dim, Arc::new(values), None)
}

/// Returns the ordinals of the result's columns.
fn selected_columns(search: &VectorSearch, schema: &Schema, names: &Names) -> Result<Vec<usize>> {
    let mut columns = Vec::new();
    let is_selected = |group: &&String| search.columns.iter().any(|name| name == *group || name == "*");
    for name in search.group_by.iter().filter(|group| !is_selected(group)).chain(&search.columns) {
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

/// Returns the result's fields: its own, and the table's.
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
    (input, vectors): (Arc<dyn ExecutionPlan>, usize),
    (predicate, group_by): (Option<Arc<dyn PhysicalExpr>>, Option<usize>),
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
        bounds: None,
        vector: vectors,
        query: Arc::new(Literal::new(ScalarValue::FixedSizeList(Arc::new(vector)))),
        scoring: Scoring::Search(search.metric),
        negative_nans_first: false,
        nulls_first: false,
        k: search.top_k,
        group_by,
        columns: places.to_vec(),
        output,
    };
    let top_k = vexact_sql::with_score_bounds(top_k, &schema)?;
    Ok(VectorTopKExec::try_new(input, top_k, Arc::new(result), None)?)
}

fn join(
    search: &VectorSearch,
    (input, vectors): (Arc<dyn ExecutionPlan>, usize),
    predicate: Option<Arc<dyn PhysicalExpr>>,
    queries: &[Vec<f64>],
    places: &[usize],
    names: &Names,
) -> Result<VectorJoinExec> {
    let query_vectors: ArrayRef = Arc::new(vector_array(queries));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..queries.len() as i64));
    let batch =
        RecordBatch::try_from_iter([(QUERY_ID, ids), ("vector", query_vectors)]).map_err(DataFusionError::from)?;
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
    let join =
        Join { metric: search.metric, vectors: (1, vectors), predicate, k: Some(search.top_k), radius: None, columns };
    Ok(VectorJoinExec::new(left, input, join, Arc::new(schema)))
}
