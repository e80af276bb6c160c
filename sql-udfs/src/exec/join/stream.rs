//! A join with any input, which is searched batch by batch.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use vexact_kernel::{Acceleration, RankedBy, Report, ScanInput, VectorColumn};

use super::super::in_place::kept as kept_rows;
use super::super::ranked::external;
use super::super::run::vectors;
use super::super::stream::{ORDINAL_BITS, ordinal};
use super::run::{Found, QUERY_BLOCK, SearchState};

/// How a join reads and ranks the rows of a stream, in reports.
pub(super) const ACCELERATION: Acceleration = Acceleration::new(ScanInput::BatchStream, RankedBy::MatrixTopK);

/// Searches any input batch by batch, holding what each query has found so far.
pub(super) async fn run(
    run: SearchState,
    searched: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    memory: MemoryReservation,
    batch: RecordBatch,
) -> Result<RecordBatch> {
    let (rows, queries) = run.queries(&batch)?;
    let pairs = search(&run, &searched, &context, memory, &queries, None).await?;
    let searched = |i: usize| pairs.rows.iter().map(|chunk| Arc::clone(chunk.column(i))).collect();
    run.output(&batch, &rows, &pairs.found, &searched)
}

/// The pairs that a search of an input found.
pub(in crate::exec) struct Pairs {
    /// The pairs of each query, best first.
    pub found: Vec<Vec<Found>>,
    /// The rows that were found.
    pub rows: Vec<RecordBatch>,
    /// Number of rows of each partition of the input.
    pub input_rows: Vec<u64>,
    _memory: MemoryReservation,
}

/// Searches an input batch by batch. Positions are ordinals in the input or, with the number of its
/// first partition, the partition's number and the ordinal in it.
pub(in crate::exec) async fn search(
    run: &SearchState,
    searched: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
    memory: MemoryReservation,
    queries: &[Vec<f64>],
    first_partition: Option<usize>,
) -> Result<Pairs> {
    let mut found: Vec<Vec<Found>> = vec![Vec::new(); queries.len()];
    let mut kept: Vec<RecordBatch> = Vec::new();
    let queries_bytes = memory.size();
    let mut input_rows = vec![0; searched.output_partitioning().partition_count()];
    let mut first = 0;
    for (partition, rows_of_partition) in input_rows.iter_mut().enumerate() {
        if let Some(number) = first_partition {
            first = ((number + partition) as u64) << ORDINAL_BITS;
        }
        let mut stream = searched.execute(partition, Arc::clone(context))?;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            let (vector, schema) = (chunk.column(run.join.vectors.1), chunk.schema());
            let (name, query) = (schema.field(run.join.vectors.1).name(), queries.first().map(Vec::as_slice));
            let array = vectors(vector, name, query, None, ordinal(first))?;
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
                    None => done = Some(Report { acceleration: ACCELERATION, ..hits.report }),
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
            *rows_of_partition += chunk.num_rows() as u64;
            kept.push(take_record_batch(&chunk, &used)?);
            compact(&mut kept, &mut found)?;
            let bytes: usize = kept.iter().map(RecordBatch::get_array_memory_size).sum();
            memory
                .try_resize(queries_bytes + bytes + found.iter().map(Vec::len).sum::<usize>() * size_of::<Found>())?;
        }
    }
    Ok(Pairs { found, rows: kept, input_rows, _memory: memory })
}

/// Releases the rows that no query uses any more, once they are the larger part.
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
