//! A join with chunks in memory.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};
use futures::{StreamExt, stream};
use vexact_kernel::{BatchHits, ChunkedColumn, Ranking, Report};

use super::super::in_place::select;
use super::super::ranked::external;
use super::super::run::vectors;
use super::super::ties::Ties;
use super::run::{Found, QUERY_BLOCK, SearchState};
use crate::chunks::{Chunks, InPlace};
use crate::sketches::column_of;

/// Searches chunks in memory, block of queries after block.
pub(super) fn run(
    run: SearchState,
    scan: InPlace,
    schema: SchemaRef,
    batch: RecordBatch,
) -> Result<impl futures::Stream<Item = Result<RecordBatch>> + Send> {
    let (rows, queries) = run.queries(&batch)?;
    let vector = scan.columns[run.join.vectors.1];
    let (name, query) = (schema.field(run.join.vectors.1).name(), queries.first().map(Vec::as_slice));
    let mut first = 0;
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(scan.chunks.batches().len());
    for chunk in scan.chunks.batches() {
        arrays.push(vectors(chunk.column(vector), name, query, None, first)?);
        first += chunk.num_rows() as u64;
    }
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
                let sketches = scan.chunks.sketches_of(vector, run.options.tier);
                let column = column_of(arrays, &sketches)?;
                let found = match queries {
                    [] => Vec::new(),
                    queries => found(run, &scan.chunks, vector, &column, queries, selection.as_ref())?,
                };
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

/// Returns the rows that each query finds, best first.
fn found(
    run: &SearchState,
    chunks: &Chunks,
    vector: usize,
    column: &ChunkedColumn<'_>,
    queries: &[Vec<f64>],
    selection: Option<&BooleanBuffer>,
) -> Result<Vec<Vec<Found>>> {
    let ties = Ties::of(chunks, column);
    let k = run.join.k.map(|k| k.saturating_add(usize::from(ties.is_some())));
    let BatchHits { rankings, report } =
        run.search(queries, selection, k, run.join.radius)?.run(column).map_err(external)?;
    let filter = report.filter.filter(|_| run.join.predicate.is_some());
    let mut report = Report { filter, top_k: run.join.k, ..report };
    chunks.after_search(vector, run.options.tier, false, &mut report, &run.context);
    run.publish(report, Report::add_queries);
    let of = |ranking: &Ranking| -> Vec<Found> {
        let pairs = ranking.rows.iter().zip(&ranking.scores);
        pairs.map(|(row, score)| Found { score: *score, position: *row, place: column.locate(*row) }).collect()
    };
    let Some(ties) = ties else { return Ok(rankings.iter().map(of).collect()) };
    let settled = |(query, ranking): (&[Vec<f64>], &Ranking)| {
        let all_tied = |last: &Found| {
            let search = run.search(query, selection, None, Some(last.score))?;
            Ok(search.run(column).map_err(external)?.rankings.iter().flat_map(of).collect())
        };
        let is_tied = |a: &Found, b: &Found| a.score == b.score;
        ties.first(run.join.k, of(ranking), is_tied, |found| found.position, all_tied)
    };
    queries.chunks(1).zip(&rankings).map(settled).collect()
}
