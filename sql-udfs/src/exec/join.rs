//! `VectorJoinExec`: for every row of one input its closest rows of another, searched as query batches.

use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, UInt64Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{cast, concat_batches, interleave, take, take_record_batch};
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    apply_expression_roots,
};
use futures::{StreamExt, TryStreamExt, stream};
use vexact_kernel::{BatchHits, ChunkedColumn, FilterReport, Many, Metric, Ranking, Report, Search, VectorColumn};

use super::in_place::{kept as kept_rows, select};
use super::ranked::external;
use super::run::vectors;
use super::ties::Ties;
use crate::chunks::{self, InPlace};
use crate::config::VexactOptions;

/// Queries that are searched together: enough for the arithmetic to be the limit, few enough to stay in cache.
const QUERY_BLOCK: usize = 512;

/// Where a column of the output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinColumn {
    /// A column of the queries' input.
    Query(usize),
    /// A column of the searched input.
    Found(usize),
    /// The ordinal of the row that was found in the searched input.
    Ordinal,
    /// 1 for the best row of a query.
    Rank,
    /// The score.
    Score,
}

/// A join of queries with their closest rows.
#[derive(Debug, Clone)]
pub struct Join {
    /// The distance function.
    pub metric: Metric,
    /// Ordinal of the vector column in the queries' input, and in the searched one.
    pub vectors: (usize, usize),
    /// Rows to search, over the searched input's columns. `None`: all.
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    /// How many rows for each query; `None`: all within the radius.
    pub k: Option<usize>,
    /// The farthest score.
    pub radius: Option<f64>,
    /// The output's columns.
    pub columns: Vec<JoinColumn>,
}

/// Runs a [`Join`]. Rows of the queries' input that are no query (NULL, zero under cosine, not finite) find nothing. One output
/// partition, in the order of the queries, each with its rows best first.
#[derive(Debug)]
pub struct VectorJoinExec {
    queries: Arc<dyn ExecutionPlan>,
    searched: Arc<dyn ExecutionPlan>,
    join: Arc<Join>,
    properties: Arc<PlanProperties>,
    executed: Arc<Mutex<Option<Report>>>,
}

impl VectorJoinExec {
    /// `schema`: that of the output.
    pub fn new(
        queries: Arc<dyn ExecutionPlan>,
        searched: Arc<dyn ExecutionPlan>,
        join: Join,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { queries, searched, join: Arc::new(join), properties: Arc::new(properties), executed: Arc::default() }
    }

    /// The strategy: as executed, or as planned.
    pub fn report(&self) -> Report {
        let executed = self.executed.lock().ok().and_then(|report| report.clone());
        executed.unwrap_or_else(|| Report {
            queries: None,
            radius: self.join.radius,
            filter: self.join.predicate.as_ref().map(|_| FilterReport {
                input_rows: None,
                execution: super::run::FILTER,
                returned_rows: None,
            }),
            acceleration: match chunks::in_place(&self.searched) {
                Some(_) => "flat-buffer+simd-matrix-topk",
                None => "batch-stream+simd-matrix-topk",
            },
            ..Report::planned(self.join.metric, None, self.join.k, Default::default())
        })
    }
}

/// A pair that was found.
#[derive(Debug, Clone, Copy)]
struct Found {
    score: f64,
    position: u64,
    /// The chunk, and the row in it.
    place: (usize, usize),
}

/// One execution.
struct Run {
    join: Arc<Join>,
    schema: SchemaRef,
    options: VexactOptions,
    executed: Arc<Mutex<Option<Report>>>,
}

impl Run {
    fn search(
        &self,
        queries: &[Vec<f64>],
        selection: Option<&BooleanBuffer>,
        k: Option<usize>,
        radius: Option<f64>,
    ) -> Result<Search<Many>> {
        let mut search = Search::batch(self.join.metric, queries).map_err(external)?;
        if let Some(k) = k {
            search = search.top_k(k);
        }
        if let Some(radius) = radius {
            search = search.radius(radius);
        }
        if let Some(selection) = selection {
            search = search.selection(selection);
        }
        Ok(search.threads(self.options.threads).tier(self.options.tier))
    }

    /// Tells what was done, besides what already was.
    fn publish(&self, report: Report, add: fn(&mut Report, &Report)) {
        if let Ok(mut executed) = self.executed.lock() {
            match executed.as_mut() {
                Some(all) => add(all, &report),
                None => *executed = Some(report),
            }
        }
    }

    /// The output for some queries: `rows` are their ordinals, `found` what each found, `searched` the chunks.
    fn output(
        &self,
        queries: &RecordBatch,
        rows: &[usize],
        found: &[Vec<Found>],
        searched: &dyn Fn(usize) -> Vec<ArrayRef>,
    ) -> Result<RecordBatch> {
        let pairs = || rows.iter().zip(found);
        let repeated: UInt64Array =
            pairs().flat_map(|(row, found)| std::iter::repeat_n(Some(*row as u64), found.len())).collect();
        let places: Vec<(usize, usize)> = found.iter().flatten().map(|found| found.place).collect();
        let column = |(ordinal, column): (usize, &JoinColumn)| -> Result<ArrayRef> {
            Ok(match column {
                JoinColumn::Query(i) => take(queries.column(*i), &repeated, None)?,
                JoinColumn::Found(_) if places.is_empty() => {
                    arrow::array::new_empty_array(self.schema.field(ordinal).data_type())
                }
                JoinColumn::Found(i) => {
                    let chunks = searched(*i);
                    let chunks: Vec<&dyn Array> = chunks.iter().map(|chunk| chunk.as_ref()).collect();
                    interleave(&chunks, &places)?
                }
                JoinColumn::Ordinal => {
                    Arc::new(found.iter().flatten().map(|found| Some(found.position as i64)).collect::<Int64Array>())
                }
                JoinColumn::Rank => {
                    Arc::new(found.iter().flat_map(|found| 1..=found.len() as i64).collect::<Int64Array>())
                }
                JoinColumn::Score => {
                    Arc::new(found.iter().flatten().map(|found| Some(found.score)).collect::<Float64Array>())
                }
            })
        };
        let columns = self.join.columns.iter().enumerate().map(column).collect::<Result<_>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(places.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    /// The rows of the queries' input that are queries, and their vectors.
    fn queries(&self, batch: &RecordBatch) -> Result<(Vec<usize>, Vec<Vec<f64>>)> {
        let array =
            vectors(batch.column(self.join.vectors.0), batch.schema().field(self.join.vectors.0).name(), None, None)?;
        let list = array.as_fixed_size_list();
        let values = cast(list.values(), &DataType::Float64)?;
        let dim = list.value_length() as usize;
        let column = VectorColumn::try_new(&array).map_err(external)?;
        let mut rows = Vec::new();
        let mut queries = Vec::new();
        for row in 0..column.len() {
            let range = values.slice(row * dim, dim);
            if list.is_null(row) || range.null_count() > 0 {
                continue;
            }
            let query = range.as_primitive::<Float64Type>().values().to_vec();
            if Search::new(self.join.metric, &query).is_ok() {
                rows.push(row);
                queries.push(query);
            }
        }
        Ok((rows, queries))
    }
}

/// All rows of a plan, partition after partition.
async fn gather(
    plan: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
    memory: &MemoryReservation,
) -> Result<RecordBatch> {
    let mut batches = Vec::new();
    for partition in 0..plan.output_partitioning().partition_count() {
        let mut stream = plan.execute(partition, Arc::clone(context))?;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            memory.try_grow(batch.get_array_memory_size())?;
            batches.push(batch);
        }
    }
    Ok(concat_batches(&plan.schema(), &batches)?)
}

/// Searches chunks in memory, block of queries after block.
fn in_place(
    run: Run,
    scan: InPlace,
    schema: SchemaRef,
    batch: RecordBatch,
) -> Result<impl futures::Stream<Item = Result<RecordBatch>> + Send> {
    let (rows, queries) = run.queries(&batch)?;
    let vector = scan.columns[run.join.vectors.1];
    let arrays: Vec<ArrayRef> = scan
        .chunks
        .batches()
        .iter()
        .map(|chunk| vectors(chunk.column(vector), schema.field(run.join.vectors.1).name(), None, None))
        .collect::<Result<_>>()?;
    let selection = match &run.join.predicate {
        Some(predicate) => Some(select(predicate, &schema, &scan)?.rows),
        None => scan.chunks.selection(),
    };
    let shared = Arc::new((run, scan, batch, rows, queries, arrays, selection));
    let blocks = shared.3.len().div_ceil(QUERY_BLOCK).max(1);
    Ok(stream::iter(0..blocks).then(move |block| {
        let shared = Arc::clone(&shared);
        async move {
            let search = move || {
                let (run, scan, batch, rows, queries, arrays, selection) = shared.as_ref();
                let range = block * QUERY_BLOCK..rows.len().min((block + 1) * QUERY_BLOCK);
                let (rows, queries) = (&rows[range.clone()], &queries[range]);
                let chunks = arrays.iter().map(|array| VectorColumn::try_new(array)).collect::<Result<_, _>>();
                let column = ChunkedColumn::try_new(chunks.map_err(external)?).map_err(external)?;
                let mut found = Vec::new();
                if !queries.is_empty() {
                    let ties = Ties::of(&scan.chunks, &column);
                    let k = run.join.k.map(|k| k.saturating_add(usize::from(ties.is_some())));
                    let search = run.search(queries, selection.as_ref(), k, run.join.radius)?;
                    let BatchHits { rankings, report } = search.run(&column).map_err(external)?;
                    let filter = report.filter.filter(|_| run.join.predicate.is_some());
                    run.publish(Report { filter, top_k: run.join.k, ..report }, Report::add_queries);
                    let of = |ranking: &Ranking| -> Vec<Found> {
                        let pairs = ranking.rows.iter().zip(&ranking.scores);
                        let found = |(row, score): (&u64, &f64)| Found {
                            score: *score,
                            position: *row,
                            place: column.locate(*row),
                        };
                        pairs.map(found).collect()
                    };
                    for (query, ranking) in queries.chunks(1).zip(&rankings) {
                        let rows = of(ranking);
                        found.push(match &ties {
                            Some(ties) => {
                                let all_tied = |last: &Found| -> Result<Vec<Found>> {
                                    let search = run.search(query, selection.as_ref(), None, Some(last.score))?;
                                    Ok(search.run(&column).map_err(external)?.rankings.iter().flat_map(of).collect())
                                };
                                let is_tied = |a: &Found, b: &Found| a.score == b.score;
                                ties.first(run.join.k, rows, is_tied, |found| found.position, all_tied)?
                            }
                            None => rows,
                        });
                    }
                }
                let searched = |i: usize| {
                    scan.chunks.batches().iter().map(|chunk| Arc::clone(chunk.column(scan.columns[i]))).collect()
                };
                run.output(batch, rows, &found, &searched)
            };
            let joined = SpawnedTask::spawn_blocking(search).join().await;
            joined.map_err(|error| DataFusionError::External(Box::new(error)))?
        }
    }))
}

/// Searches any input batch by batch, holding what each query has found so far.
async fn streamed(
    run: Run,
    searched: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    memory: MemoryReservation,
    batch: RecordBatch,
) -> Result<RecordBatch> {
    let (rows, queries) = run.queries(&batch)?;
    let mut found: Vec<Vec<Found>> = vec![Vec::new(); queries.len()];
    let mut kept: Vec<RecordBatch> = Vec::new();
    let queries_bytes = memory.size();
    let mut first = 0;
    for partition in 0..searched.output_partitioning().partition_count() {
        let mut stream = searched.execute(partition, Arc::clone(&context))?;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            let array =
                vectors(chunk.column(run.join.vectors.1), chunk.schema().field(run.join.vectors.1).name(), None, None)?;
            let column = VectorColumn::try_new(&array).map_err(external)?;
            let selection = match &run.join.predicate {
                Some(predicate) => Some(kept_rows(predicate.as_ref(), &chunk)?),
                None => None,
            };
            let mut used: Vec<usize> = Vec::new();
            let mut done: Option<Report> = None;
            for (block, queries) in queries.chunks(QUERY_BLOCK).enumerate() {
                let search = run.search(queries, selection.as_ref(), run.join.k, run.join.radius)?;
                let hits = search.run(&column).map_err(external)?;
                match &mut done {
                    Some(done) => done.add_queries(&hits.report),
                    None => done = Some(Report { acceleration: "batch-stream+simd-matrix-topk", ..hits.report }),
                }
                for (query, ranking) in hits.rankings.iter().enumerate() {
                    let found = &mut found[block * QUERY_BLOCK + query];
                    let new = ranking.rows.iter().zip(&ranking.scores);
                    found.extend(new.map(|(row, score)| Found {
                        score: *score,
                        position: first + row,
                        place: (kept.len(), *row as usize),
                    }));
                    let sign = if run.join.metric.is_larger_closer() { -1.0 } else { 1.0 };
                    // Stable, so that ties stay in the order of the rows.
                    found.sort_by(|a, b| (sign * a.score).total_cmp(&(sign * b.score)));
                    found.truncate(run.join.k.unwrap_or(usize::MAX));
                    used.extend(found.iter().filter(|found| found.place.0 == kept.len()).map(|found| found.place.1));
                }
            }
            if let Some(done) = done {
                run.publish(done, Report::add_rows);
            }
            used.sort_unstable();
            used.dedup();
            for found in found.iter_mut().flatten().filter(|found| found.place.0 == kept.len()) {
                found.place.1 = used.binary_search(&found.place.1).unwrap_or(0);
            }
            let used: UInt64Array = used.iter().map(|row| Some(*row as u64)).collect();
            first += chunk.num_rows() as u64;
            kept.push(take_record_batch(&chunk, &used)?);
            compact(&mut kept, &mut found)?;
            let bytes: usize = kept.iter().map(RecordBatch::get_array_memory_size).sum();
            memory
                .try_resize(queries_bytes + bytes + found.iter().map(Vec::len).sum::<usize>() * size_of::<Found>())?;
        }
    }
    let searched = |i: usize| kept.iter().map(|chunk| Arc::clone(chunk.column(i))).collect();
    run.output(&batch, &rows, &found, &searched)
}

/// Lets go of the rows that no query holds any more, once they are the larger part.
fn compact(kept: &mut Vec<RecordBatch>, found: &mut [Vec<Found>]) -> Result<()> {
    let held: usize = kept.iter().map(RecordBatch::num_rows).sum();
    let mut places: Vec<(usize, usize)> = found.iter().flatten().map(|found| found.place).collect();
    places.sort_unstable();
    places.dedup();
    if held < 2 * places.len() + 16_384 || kept.is_empty() {
        return Ok(());
    }
    for found in found.iter_mut().flatten() {
        found.place = (0, places.binary_search(&found.place).unwrap_or(0));
    }
    let chunks: Vec<&RecordBatch> = kept.iter().collect();
    *kept = vec![arrow::compute::interleave_record_batch(&chunks, &places)?];
    Ok(())
}

impl DisplayAs for VectorJoinExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let text = |value: Option<String>| value.unwrap_or_else(|| "none".into());
        let (k, radius) = (text(self.join.k.map(|k| k.to_string())), text(self.join.radius.map(|r| r.to_string())));
        if matches!(t, DisplayFormatType::TreeRender) {
            writeln!(f, "metric={}", self.join.metric)?;
            return writeln!(f, "k={k}");
        }
        write!(f, "VectorJoinExec: metric={}, k={k}, radius={radius}", self.join.metric)?;
        write!(f, ", acceleration={}", self.report().acceleration)
    }
}

impl ExecutionPlan for VectorJoinExec {
    fn name(&self) -> &str {
        "VectorJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.queries, &self.searched]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(&self.join.predicate, f)
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false, false]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([queries, searched]) = <[_; 2]>::try_from(children) else {
            return internal_err!("VectorJoinExec has two children");
        };
        Ok(Arc::new(Self {
            queries,
            searched,
            join: Arc::clone(&self.join),
            properties: Arc::clone(&self.properties),
            executed: Arc::default(),
        }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("VectorJoinExec has one partition, got {partition}");
        }
        if let Ok(mut executed) = self.executed.lock() {
            *executed = None;
        }
        let run = Run {
            join: Arc::clone(&self.join),
            schema: self.schema(),
            options: VexactOptions::of(context.session_config().options()),
            executed: Arc::clone(&self.executed),
        };
        let (queries, searched) = (Arc::clone(&self.queries), Arc::clone(&self.searched));
        let memory = MemoryConsumer::new("VectorJoinExec").register(context.memory_pool());
        let batches = async move {
            let batch = gather(&queries, &context, &memory).await?;
            Ok::<_, DataFusionError>(match chunks::in_place(&searched) {
                Some(scan) => in_place(run, scan, searched.schema(), batch)?.left_stream(),
                None => stream::once(streamed(run, searched, context, memory, batch)).right_stream(),
            })
        };
        let stream = stream::once(batches).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), Box::pin(stream))))
    }
}
