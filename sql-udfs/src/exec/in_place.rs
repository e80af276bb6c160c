//! A search over chunks in memory: the filter becomes a bitmap, the kernel reads the vectors in
//! place, and the other columns are gathered for the rows of the result.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, BooleanArray, BooleanBufferBuilder, RecordBatch, new_empty_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter_record_batch, interleave, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_plan::PhysicalExpr;
use rayon::prelude::*;

use super::groups::Groups;
use super::ranked::Ranker;
use super::run::{FILTER, SearchState, vectors};
use super::ties::Ties;
use crate::chunks::{InPlace, Pruner};
use crate::sketches::column_of;

/// Number of rows over which a predicate is evaluated at once.
const FILTER_ROWS: usize = 16_384;

/// Maximum size of vectors, in bytes, that the calling thread searches itself: about 100
/// microseconds of work.
const INLINE_BYTES: usize = 1 << 21;

/// Searches on a blocking thread, because the kernel computes for milliseconds without yielding. A
/// small search runs on the calling thread.
pub(super) async fn run(run: SearchState, scan: InPlace, ranker: Ranker) -> Result<RecordBatch> {
    let rows: usize = scan.chunks.batches().iter().map(RecordBatch::num_rows).sum();
    let dim = ranker.query.as_ref().map_or(0, Vec::len);
    if rows.saturating_mul(dim).saturating_mul(size_of::<f32>()) <= INLINE_BYTES && run.top_k.predicate.is_none() {
        return search(&run, &scan, &ranker);
    }
    SpawnedTask::spawn_blocking(move || search(&run, &scan, &ranker))
        .join()
        .await
        .map_err(|error| DataFusionError::External(Box::new(error)))?
}

fn search(run: &SearchState, scan: &InPlace, ranker: &Ranker) -> Result<RecordBatch> {
    let started = Instant::now();
    let selection = match run.top_k.selecting() {
        Some(predicate) => {
            let selected = select(predicate, &run.input.schema(), scan)?;
            run.chunks_pruned.add(selected.chunks_pruned);
            Some(selected.rows)
        }
        None => scan.chunks.selection(),
    };
    run.filter_us.add(started.elapsed().as_micros() as usize);

    let mut offset = 0;
    let vector = scan.columns[run.top_k.vector];
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(scan.chunks.batches().len());
    for batch in scan.chunks.batches() {
        let selection = selection.as_ref().map(|bits| bits.slice(offset, batch.num_rows()));
        let (array, query) = (batch.column(vector), ranker.query.as_deref());
        arrays.push(vectors(array, &ranker.column, query, selection.as_ref(), offset as u64)?);
        offset += batch.num_rows();
    }
    let sketches = scan.chunks.sketches_of(vector, ranker.tier);
    let column = column_of(&arrays, &sketches)?;
    let ties = Ties::of(&scan.chunks, &column);
    let (entries, report) = match (run.top_k.group_by, &ties) {
        (Some(group_by), ties) => {
            let groups = groups(scan, group_by, &run.input.schema())?;
            let (entries, report) = ranker.rank_groups_tied(&column, selection.as_ref(), &groups, ties.as_ref())?;
            (entries, Some(report))
        }
        (None, Some(ties)) => ranker.rank_tied(&column, selection.as_ref(), ties)?,
        (None, None) => ranker.rank(&column, selection.as_ref(), None)?,
    };

    let started = Instant::now();
    let places: Vec<(usize, usize)> = entries.iter().map(|entry| column.locate(entry.position)).collect();
    let gather = |column: &usize| -> Result<ArrayRef> {
        if scan.chunks.batches().is_empty() {
            return Ok(new_empty_array(run.input.schema().field(*column).data_type()));
        }
        let column = scan.columns[*column];
        let arrays: Vec<&dyn Array> = scan.chunks.batches().iter().map(|batch| batch.column(column).as_ref()).collect();
        Ok(interleave(&arrays, &places)?)
    };
    let gathered = run.top_k.columns.iter().map(gather).collect::<Result<_>>()?;
    let output = run.output(gathered, &entries, |position| position)?;
    run.fetch_us.add(started.elapsed().as_micros() as usize);

    let report = report.map(|mut report| {
        match &mut report.filter {
            // Deleted rows do not count as filtered rows.
            filter if run.top_k.selecting().is_none() => *filter = None,
            Some(filter) => {
                filter.execution = FILTER;
                filter.input_rows = Some(scan.chunks.live_rows() as u64);
            }
            None => {}
        }
        let is_plain = run.top_k.predicate.is_none() && run.top_k.group_by.is_none();
        scan.chunks.after_search(vector, ranker.tier, is_plain, &mut report, &run.context);
        report
    });
    run.publish(report, output.num_rows());
    Ok(output)
}

/// Returns the group of each position, by the values of a column of the scan.
fn groups(scan: &InPlace, column: usize, schema: &SchemaRef) -> Result<Vec<u32>> {
    let mut groups = Groups::try_new(schema.field(column).data_type())?;
    let mut of_rows = Vec::new();
    for batch in scan.chunks.batches() {
        of_rows.extend(groups.number(batch.column(scan.columns[column]))?);
    }
    Ok(of_rows)
}

/// Rows of chunks that pass a predicate.
pub(super) struct Selected {
    /// The selected rows, as a bitmap over all positions.
    pub rows: BooleanBuffer,
    /// Number of chunks pruned by their bounds.
    pub chunks_pruned: usize,
}

/// Returns the live rows that pass a predicate; NULL does not pass. The predicate is not evaluated
/// for deleted rows, on which it may fail, nor for pruned chunks.
pub(super) fn select(predicate: &Arc<dyn PhysicalExpr>, schema: &SchemaRef, scan: &InPlace) -> Result<Selected> {
    let batches = scan.chunks.batches();
    let pruner =
        Pruner { chunks: Arc::clone(&scan.chunks), columns: scan.columns.clone(), schema: SchemaRef::clone(schema) };
    // A predicate that cannot be evaluated over bounds prunes nothing.
    let chunks = pruner.kept(predicate).unwrap_or_default();
    let is_pruned = |batch: usize| chunks.as_ref().is_some_and(|kept| !kept[batch]);
    let pieces: Vec<(usize, usize, usize)> = (0..batches.len())
        .flat_map(|batch| {
            let rows = batches[batch].num_rows();
            (0..rows).step_by(FILTER_ROWS).map(move |start| (batch, start, FILTER_ROWS.min(rows - start)))
        })
        .collect();
    let evaluate = |(batch, start, len): &(usize, usize, usize)| -> Result<BooleanBuffer> {
        if is_pruned(*batch) {
            return Ok(BooleanBuffer::new_unset(*len));
        }
        let columns = scan.columns.iter().map(|column| batches[*batch].column(*column).slice(*start, *len)).collect();
        let piece = RecordBatch::try_new(SchemaRef::clone(schema), columns)?;
        let Some(live) = scan.chunks.live(*batch, *start, *len) else { return kept(predicate.as_ref(), &piece) };
        let kept = kept(predicate.as_ref(), &filter_record_batch(&piece, &BooleanArray::new(live.clone(), None))?)?;
        let mut all = BooleanBufferBuilder::new(*len);
        all.append_n(*len, false);
        live.set_indices().zip(kept.iter()).for_each(|(row, is_kept)| all.set_bit(row, is_kept));
        Ok(all.finish())
    };
    let kept: Vec<BooleanBuffer> = vexact_kernel::in_pool(|| pieces.par_iter().map(evaluate).collect::<Result<_>>())?;
    let mut rows = BooleanBufferBuilder::new(kept.iter().map(BooleanBuffer::len).sum());
    for bits in &kept {
        rows.append_buffer(bits);
    }
    let chunks_pruned = (0..batches.len()).filter(|batch| is_pruned(*batch)).count();
    Ok(Selected { rows: rows.finish(), chunks_pruned })
}

/// Returns the rows of a batch that pass a predicate.
pub(super) fn kept(predicate: &dyn PhysicalExpr, batch: &RecordBatch) -> Result<BooleanBuffer> {
    let mask = predicate.evaluate(batch)?.into_array(batch.num_rows())?;
    let mask = as_boolean_array(&mask)?;
    Ok(if mask.null_count() > 0 { prep_null_mask_filter(mask).values().clone() } else { mask.values().clone() })
}
