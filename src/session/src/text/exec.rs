//! The operator that searches text: it takes the matches of an index, best first, and reads their
//! rows until enough of them fulfil the predicate.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::{filter_record_batch, interleave_record_batch, take_record_batch};
use arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, Partitioning, PlanProperties,
    apply_expression_roots, execute_stream,
};
use futures::{StreamExt, TryStreamExt, stream};
use vexact_core::error::Error;
use vexact_replica::{Snapshot, TableVersion, TextMatches};

use super::TextRequest;
use super::index::TextCache;

/// Matches whose rows are read at once.
const BATCH_ROWS: usize = 1024;

/// Rows of the searched table.
#[derive(Debug, Clone)]
pub(super) enum TextRows {
    /// A replica, in one snapshot, and its columns that are read.
    Replica { snapshot: Arc<Snapshot>, version: Arc<TableVersion>, columns: Vec<usize> },
    /// Any other table. `text` is the column of the input with the text.
    Input { input: Arc<dyn ExecutionPlan>, text: usize, cache: Arc<TextCache> },
}

/// The matches of a text search.
#[derive(Debug, Clone)]
pub(crate) struct TextMatchesExec {
    rows: TextRows,
    request: TextRequest,
    /// In the syntax of FTS5; `None` if there is no word.
    query: Option<String>,
    k: Option<usize>,
    /// Predicate on the columns that are read.
    predicate: Option<Arc<dyn PhysicalExpr>>,
    properties: Arc<PlanProperties>,
}

impl TextMatchesExec {
    pub(super) fn new(
        rows: TextRows,
        request: TextRequest,
        query: Option<String>,
        k: Option<usize>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
        schema: SchemaRef,
    ) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { rows, request, query, k, predicate, properties }
    }

    /// The number of matches to take from the index; `None` for all.
    fn limit(&self) -> Option<usize> {
        if self.predicate.is_none() { self.k } else { None }
    }

    /// Reads the rows of matches in their order, and returns the first `k` that fulfil the
    /// predicate, with score and rank.
    fn select(
        &self,
        scores: &[f64],
        mut read: impl FnMut(std::ops::Range<usize>) -> Result<RecordBatch>,
    ) -> Result<Vec<RecordBatch>> {
        let mut found = Vec::new();
        let mut rank = 0;
        for start in (0..scores.len()).step_by(BATCH_ROWS) {
            let missing = self.k.map_or(usize::MAX, |k| k - rank);
            if missing == 0 {
                break;
            }
            let range = start..scores.len().min(start + BATCH_ROWS);
            let rows = read(range.clone())?;
            let score: ArrayRef = Arc::new(Float64Array::from(scores[range].to_vec()));
            let (rows, score) = match &self.predicate {
                None => (rows, score),
                Some(predicate) => {
                    let fulfilled = predicate.evaluate(&rows)?.into_array(rows.num_rows())?;
                    let Some(fulfilled) = fulfilled.as_boolean_opt() else {
                        return internal_err!("a predicate of {}", fulfilled.data_type());
                    };
                    let score = arrow::compute::filter(&score, fulfilled)?;
                    (filter_record_batch(&rows, fulfilled)?, score)
                }
            };
            let count = rows.num_rows().min(missing);
            let ranks = Int64Array::from_iter_values((rank..rank + count).map(|rank| rank as i64 + 1));
            let mut columns: Vec<ArrayRef> = rows.slice(0, count).columns().to_vec();
            columns.extend([score.slice(0, count), Arc::new(ranks) as ArrayRef]);
            found.push(RecordBatch::try_new(self.schema(), columns)?);
            rank += count;
        }
        Ok(found)
    }

    fn of_replica(&self, snapshot: &Snapshot, version: &TableVersion, columns: &[usize]) -> Result<Vec<RecordBatch>> {
        let name = &version.definition().name;
        let Some(query) = &self.query else {
            // A column without an index is an error for all words.
            snapshot.check_text_index(name, &self.request.column).map_err(external)?;
            return Ok(Vec::new());
        };
        let matches = snapshot.text_search(name, &self.request.column, query, self.limit()).map_err(external)?;
        self.select(&matches.scores, |range| {
            let keys = matches.keys.slice(range.start, range.len());
            let rows = version.rows_of(&keys).map_err(external)?;
            if rows.num_rows() != keys.num_rows() {
                return internal_err!("text index of {name}: {} rows of {} matches", rows.num_rows(), keys.num_rows());
            }
            Ok(rows.project(columns)?)
        })
    }

    /// Searches collected rows; their ordinals are the keys of the index.
    fn of_batches(&self, batches: &[RecordBatch], text: usize, cache: &TextCache) -> Result<Vec<RecordBatch>> {
        let Some(query) = &self.query else { return Ok(Vec::new()) };
        let texts: Vec<&ArrayRef> = batches.iter().map(|batch| batch.column(text)).collect();
        let matches = cache.search(&self.request, &texts, query, self.limit())?;
        let TextMatches { keys, scores } = matches;
        let ordinals = keys.column(0).as_primitive::<Int64Type>();
        let mut starts = Vec::with_capacity(batches.len());
        let mut next = 0;
        for batch in batches {
            starts.push(next);
            next += batch.num_rows();
        }
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        self.select(&scores, |range| {
            let place = |ordinal: &i64| {
                let ordinal = *ordinal as usize;
                let batch = starts.partition_point(|start| *start <= ordinal) - 1;
                (batch, ordinal - starts[batch])
            };
            let places: Vec<(usize, usize)> = ordinals.values()[range].iter().map(place).collect();
            match &batches[..] {
                [batch] => {
                    let rows = UInt64Array::from_iter_values(places.iter().map(|(_, row)| *row as u64));
                    Ok(take_record_batch(batch, &rows)?)
                }
                batches => Ok(interleave_record_batch(batches, &places)?),
            }
        })
    }
}

fn external(error: Error) -> DataFusionError {
    match error {
        Error::InvalidArgument(problem) => DataFusionError::Plan(problem),
        other => DataFusionError::External(Box::new(other)),
    }
}

impl DisplayAs for TextMatchesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let TextRequest { table, column, .. } = &self.request;
        write!(
            f,
            "TextMatchesExec: table={table}, column={column}, query={}",
            self.query.as_deref().unwrap_or("none")
        )?;
        self.k.map_or(Ok(()), |k| write!(f, ", k={k}"))?;
        self.predicate.as_ref().map_or(Ok(()), |predicate| write!(f, ", filter={predicate}"))
    }
}

impl ExecutionPlan for TextMatchesExec {
    fn name(&self) -> &str {
        "TextMatchesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        match &self.rows {
            TextRows::Replica { .. } => Vec::new(),
            TextRows::Input { input, .. } => vec![input],
        }
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition; self.children().len()])
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(&self.predicate, f)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (&self.rows, children.pop()) {
            (TextRows::Replica { .. }, None) => Ok(self),
            (TextRows::Input { text, cache, .. }, Some(input)) if children.is_empty() => {
                let rows = TextRows::Input { input, text: *text, cache: Arc::clone(cache) };
                Ok(Arc::new(Self { rows, ..Self::clone(&self) }))
            }
            _ => internal_err!("TextMatchesExec has the children of its rows"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let exec = self.clone();
        let found = async move {
            let collected = match &exec.rows {
                TextRows::Replica { .. } => Vec::new(),
                TextRows::Input { input, .. } => execute_stream(Arc::clone(input), context)?.try_collect().await?,
            };
            let searched = tokio::task::spawn_blocking(move || match &exec.rows {
                TextRows::Replica { snapshot, version, columns } => exec.of_replica(snapshot, version, columns),
                TextRows::Input { text, cache, .. } => exec.of_batches(&collected, *text, cache),
            });
            let batches = searched.await.map_err(|error| DataFusionError::External(Box::new(error)))??;
            Ok::<_, DataFusionError>(stream::iter(batches.into_iter().map(Ok::<_, DataFusionError>)))
        };
        let rows = stream::once(found).try_flatten().boxed();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
