//! A search over any input, batch by batch: each batch is ranked, its best rows join the k best so far, and everything else
//! is let go. Memory is that of k rows, and is accounted for in the session's memory pool.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::SchemaRef;
use datafusion::common::runtime::JoinSet;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::ExecutionPlanProperties;
use futures::StreamExt;
use vexact_kernel::{ChunkedColumn, FilterReport, Report, VectorColumn};

use super::in_place::kept;
use super::ranked::{Entry, Ranker, external};
use super::run::{FILTER, SearchState, vectors};

/// How reports name this way of reading.
pub(super) const ACCELERATION: &str = "batch-stream+simd-topk";

/// A position is the partition and, in these bits, the row's ordinal in it: partitions of a file follow each other.
pub(super) const ORDINAL_BITS: u32 = 44;

/// The row's ordinal in its partition.
fn ordinal(position: u64) -> u64 {
    position & ((1 << ORDINAL_BITS) - 1)
}

/// The best rows so far, of all partitions.
struct Best {
    k: usize,
    schema: SchemaRef,
    rows: Vec<(Entry, usize, usize)>,
    batches: Vec<RecordBatch>,
    reservation: MemoryReservation,
    report: Option<Report>,
    input_rows: u64,
}

impl Best {
    /// The k-th entry: later ones are of no use.
    fn worst(&self) -> Option<Entry> {
        self.rows.get(self.k.checked_sub(1)?).map(|row| row.0)
    }

    fn add(&mut self, entries: &[Entry], rows: RecordBatch) -> Result<()> {
        let batch = self.batches.len();
        self.rows.extend(entries.iter().enumerate().map(|(row, entry)| (*entry, batch, row)));
        self.batches.push(rows);
        self.rows.sort_unstable_by(|a, b| a.0.order(&b.0));
        self.rows.truncate(self.k);
        let held: usize = self.batches.iter().map(RecordBatch::num_rows).sum();
        if self.batches.len() > 64 || held > 2 * self.rows.len() + 64 {
            self.compact()?;
        }
        let bytes: usize = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        self.reservation.try_resize(bytes + self.rows.len() * size_of::<(Entry, usize, usize)>())
    }

    /// Copies the rows that are still in use together.
    fn compact(&mut self) -> Result<()> {
        let columns = self.columns()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        self.batches = vec![RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?];
        for (place, row) in self.rows.iter_mut().enumerate() {
            (row.1, row.2) = (0, place);
        }
        Ok(())
    }

    /// The columns of the best rows, in order.
    fn columns(&self) -> Result<Vec<ArrayRef>> {
        let places: Vec<(usize, usize)> = self.rows.iter().map(|row| (row.1, row.2)).collect();
        let column = |(i, field): (usize, &Arc<arrow::datatypes::Field>)| {
            if self.batches.is_empty() {
                return Ok(arrow::array::new_empty_array(field.data_type()));
            }
            let arrays: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(i).as_ref()).collect();
            Ok(interleave(&arrays, &places)?)
        };
        self.schema.fields().iter().enumerate().map(column).collect()
    }

    fn learn(&mut self, report: Report) {
        match &mut self.report {
            Some(all) => all.add_rows(&report),
            None => self.report = Some(Report { acceleration: ACCELERATION, ..report }),
        }
    }
}

/// Searches all partitions of the input at once, each batch by batch.
pub(super) async fn run(run: SearchState, ranker: Ranker) -> Result<RecordBatch> {
    let partitions = run.input.output_partitioning().partition_count();
    let best = Arc::new(Mutex::new(Best {
        k: run.top_k.k,
        schema: Arc::new(run.input.schema().project(&run.top_k.columns)?),
        rows: Vec::new(),
        batches: Vec::new(),
        reservation: MemoryConsumer::new("VectorTopKExec").register(run.context.memory_pool()),
        report: None,
        input_rows: 0,
    }));
    // Partitions are searched in parallel, so each search is one thread's.
    let ranker = Arc::new(Ranker { threads: 1, ..ranker });
    let run = Arc::new(run);
    let mut tasks = JoinSet::new();
    for partition in 0..partitions {
        let (run, ranker, best) = (Arc::clone(&run), Arc::clone(&ranker), Arc::clone(&best));
        tasks.spawn(async move { search_partition(&run, partition, &ranker, &best).await });
    }
    while let Some(result) = tasks.join_next().await {
        result.map_err(|error| DataFusionError::External(Box::new(error)))??;
    }
    let best = lock(&best)?;
    let entries: Vec<Entry> = best.rows.iter().map(|row| row.0).collect();
    let output = run.output(best.columns()?, &entries, ordinal)?;
    let report = best.report.clone().map(|report| Report {
        threads: Some(partitions),
        filter: run.top_k.predicate.as_ref().map(|_| FilterReport {
            input_rows: Some(best.input_rows),
            execution: FILTER,
            returned_rows: Some(output.num_rows() as u64),
        }),
        radius: None,
        ..report
    });
    run.publish(report, output.num_rows());
    Ok(output)
}

fn lock(best: &Mutex<Best>) -> Result<std::sync::MutexGuard<'_, Best>> {
    best.lock().map_err(|_| internal_datafusion_err!("a partition of the search panicked"))
}

async fn search_partition(run: &SearchState, partition: usize, ranker: &Ranker, best: &Mutex<Best>) -> Result<()> {
    let mut batches = run.input.execute(partition, Arc::clone(&run.context))?;
    let mut first = (partition as u64) << ORDINAL_BITS;
    let schema: SchemaRef = Arc::new(run.input.schema().project(&run.top_k.columns)?);
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let started = Instant::now();
        let selection = match &run.top_k.predicate {
            Some(predicate) => Some(kept(predicate.as_ref(), &batch)?),
            None => None,
        };
        run.filter_us.add(started.elapsed().as_micros() as usize);
        let worst = lock(best)?.worst();
        let (vector, query) = (batch.column(run.top_k.vector), ranker.query.as_deref());
        let array = vectors(vector, &ranker.column, query, selection.as_ref(), ordinal(first))?;
        let column = VectorColumn::try_new(&array).map_err(external)?;
        let column = ChunkedColumn::try_new(vec![column]).map_err(external)?;
        let (mut entries, report) = ranker.rank(&column, selection.as_ref(), worst)?;
        let rows: UInt64Array = entries.iter().map(|entry| Some(entry.position)).collect();
        let columns = run.top_k.columns.iter().map(|column| Ok(take(batch.column(*column), &rows, None)?));
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let rows = RecordBatch::try_new_with_options(schema.clone(), columns.collect::<Result<_>>()?, &options)?;
        for entry in &mut entries {
            entry.position += first;
        }
        let mut best = lock(best)?;
        best.input_rows += batch.num_rows() as u64;
        if let Some(report) = report {
            best.learn(report);
        }
        if !entries.is_empty() {
            best.add(&entries, rows)?;
        }
        first += batch.num_rows() as u64;
    }
    Ok(())
}
