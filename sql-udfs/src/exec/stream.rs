//! A search over any input, batch by batch: each batch is ranked, its best rows are merged into the
//! k best so far, and everything else is released. Memory is that of k rows, and is reserved in the
//! session's memory pool.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::runtime::JoinSet;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use vexact_kernel::{Acceleration, ChunkedColumn, FilterReport, RankedBy, Report, ScanInput, VectorColumn};

use super::groups::{Grouped, Groups, keep_first_of_each};
use super::in_place::kept;
use super::ranked::{Entry, Ranker, external};
use super::run::{FILTER, SearchState, vectors};
use super::stored_sketch::{self, Access, ScannedRows};

/// Name of this access path in reports.
pub(super) const ACCELERATION: Acceleration = Acceleration::new(ScanInput::BatchStream, RankedBy::TopK);
/// As [`ACCELERATION`], where rows are grouped.
pub(super) const GROUPED: Acceleration = Acceleration::new(ScanInput::BatchStream, RankedBy::GroupTopK);

/// A position is the partition and, in these bits, the row's ordinal in it: partitions of a file
/// follow each other.
pub(super) const ORDINAL_BITS: u32 = 44;

/// The row's ordinal in its partition.
pub(super) fn ordinal(position: u64) -> u64 {
    position & ((1 << ORDINAL_BITS) - 1)
}

/// The best rows of all partitions so far.
pub(super) struct Best {
    k: usize,
    schema: SchemaRef,
    rows: Vec<HeldRow>,
    /// The groups and the number of rows when each group was last cut to at most k; `None` without
    /// grouping.
    groups: Option<(Groups, usize)>,
    batches: Vec<RecordBatch>,
    reservation: MemoryReservation,
    report: Option<Report>,
    /// Number of rows of each partition of the input.
    input_rows: Vec<u64>,
}

/// A row, with the location of its columns.
struct HeldRow {
    entry: Entry,
    group: u32,
    batch: usize,
    row: usize,
}

impl Grouped for HeldRow {
    fn group(&self) -> u32 {
        self.group
    }

    fn entry(&self) -> &Entry {
        &self.entry
    }
}

impl Best {
    /// `schema`: the columns of the rows. `group_type`: the type of the column that groups the rows.
    pub fn try_new(k: usize, schema: SchemaRef, group_type: Option<&DataType>, context: &TaskContext) -> Result<Self> {
        Ok(Self {
            k,
            schema,
            rows: Vec::new(),
            groups: group_type
                .map(|data_type| Ok::<_, DataFusionError>((Groups::try_new(data_type)?, 0)))
                .transpose()?,
            batches: Vec::new(),
            reservation: MemoryConsumer::new("VectorTopKExec").register(context.memory_pool()),
            report: None,
            input_rows: Vec::new(),
        })
    }

    /// Returns the number of rows of each partition of the input.
    pub fn input_rows(&self) -> &[u64] {
        &self.input_rows
    }

    /// Sets the number of rows of each partition of the input, of which only some were read.
    pub fn set_input_rows(&mut self, rows: Vec<u64>) {
        self.input_rows = rows;
    }

    /// Changes the report of the batches, if there was one.
    pub fn amend(&mut self, change: impl FnOnce(&mut Report)) {
        if let Some(report) = &mut self.report {
            change(report);
        }
    }

    /// Returns the distance of the k-th row; `None` if there are fewer rows, or if it has none.
    pub fn worst_distance(&self) -> Option<f64> {
        self.worst()?.ordinary_distance()
    }

    /// Returns the sum of the reports of its batches.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// Returns the best rows' entries, in order.
    pub fn entries(&self) -> Vec<Entry> {
        self.rows.iter().map(|row| row.entry).collect()
    }

    /// Returns the k-th entry: later entries cannot be in the result.
    fn worst(&self) -> Option<Entry> {
        if self.groups.is_some() {
            return None;
        }
        self.rows.get(self.k.checked_sub(1)?).map(|row| row.entry)
    }

    /// The group of each row of a batch; `None` without groups.
    pub fn number(&mut self, batch: &RecordBatch, group_by: Option<usize>) -> Result<Option<Vec<u32>>> {
        match (&mut self.groups, group_by) {
            (Some((groups, _)), Some(column)) => groups.number(batch.column(column)).map(Some),
            _ => Ok(None),
        }
    }

    pub fn add(&mut self, entries: &[(u32, Entry)], rows: RecordBatch) -> Result<()> {
        let batch = self.batches.len();
        let held = entries.iter().enumerate().map(|(row, (group, entry))| HeldRow {
            entry: *entry,
            group: *group,
            batch,
            row,
        });
        self.rows.extend(held);
        self.batches.push(rows);
        match &mut self.groups {
            None => {
                self.rows.sort_unstable_by(|a, b| a.entry.order(&b.entry));
                self.rows.truncate(self.k);
            }
            // Each row is sorted a few times, however many batches there are.
            Some((_, pruned)) if self.rows.len() > 2 * *pruned + 1024 => {
                keep_first_of_each(&mut self.rows, self.k, false);
                *pruned = self.rows.len();
            }
            Some(_) => {}
        }
        let held: usize = self.batches.iter().map(RecordBatch::num_rows).sum();
        if self.batches.len() > 64 || held > 2 * self.rows.len() + 64 {
            self.compact()?;
        }
        let bytes: usize = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        let groups = self.groups.as_ref().map_or(0, |(groups, _)| groups.bytes());
        self.reservation.try_resize(bytes + groups + self.rows.len() * size_of::<HeldRow>())
    }

    /// Leaves the best rows, best first.
    pub fn finish(&mut self) {
        if self.groups.is_some() {
            keep_first_of_each(&mut self.rows, self.k, false);
            self.rows.sort_unstable_by(|a, b| a.entry.order(&b.entry));
        }
    }

    /// Copies the rows that are still in use together.
    fn compact(&mut self) -> Result<()> {
        let columns = self.columns()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        self.batches = vec![RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?];
        for (place, row) in self.rows.iter_mut().enumerate() {
            (row.batch, row.row) = (0, place);
        }
        Ok(())
    }

    /// The columns of the best rows, in order.
    pub fn columns(&self) -> Result<Vec<ArrayRef>> {
        let places: Vec<(usize, usize)> = self.rows.iter().map(|row| (row.batch, row.row)).collect();
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
            None => {
                let acceleration = if self.groups.is_some() { GROUPED } else { ACCELERATION };
                self.report = Some(Report { acceleration, ..report });
            }
        }
    }
}

/// Searches all partitions of the input at once, each batch by batch.
pub(super) async fn run(run: SearchState, ranker: Ranker) -> Result<RecordBatch> {
    let run = Arc::new(run);
    let best = search(&run, ranker, 0).await?;
    let output = run.output(best.columns()?, &best.entries(), ordinal)?;
    let report = best.report.clone().map(|report| Report {
        threads: Some(best.input_rows.len()),
        filter: run.top_k.predicate.as_ref().map(|_| FilterReport {
            input_rows: Some(best.input_rows.iter().sum()),
            execution: FILTER,
            returned_rows: Some(output.num_rows() as u64),
        }),
        radius: None,
        ..report
    });
    run.publish(report, output.num_rows());
    Ok(output)
}

/// Returns the best rows of all partitions. Their positions count partitions from `first`.
pub(super) async fn search(run: &Arc<SearchState>, ranker: Ranker, first: usize) -> Result<Best> {
    let partitions = run.input.output_partitioning().partition_count();
    let input = run.input.schema();
    let group_type = run.top_k.group_by.map(|column| input.field(column).data_type());
    let schema = Arc::new(input.project(&run.top_k.columns)?);
    let mut best = Best::try_new(run.top_k.k, schema, group_type, &run.context)?;
    best.input_rows = vec![0; partitions];
    let best = Arc::new(Mutex::new(best));
    // Partitions are searched in parallel, so each search is one thread's.
    let ranker = Arc::new(Ranker { threads: 1, ..ranker });
    if let Access::Vectors(reason) = stored_sketch::search(run, &ranker, first, &best).await? {
        let (input, predicate) = (Arc::clone(&run.input), run.top_k.selecting().cloned());
        scan(run, Rows { input, predicate, scanned: None }, &ranker, first, &best).await?;
        if let Some(reason) = reason {
            lock(&best)?.amend(|report| report.reason = format!("no sketch, so the vectors themselves: {reason}"));
        }
    }
    let best = Arc::try_unwrap(best).map_err(|_| internal_datafusion_err!("a partition of the search still runs"))?;
    let mut best = best.into_inner().map_err(|_| internal_datafusion_err!("a partition of the search panicked"))?;
    best.finish();
    Ok(best)
}

/// The rows that a search reads.
#[derive(Clone)]
pub(super) struct Rows {
    pub input: Arc<dyn ExecutionPlan>,
    /// Predicate over the input's columns that selects rows.
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    /// For each partition, which rows of the search's input these are; `None` for all.
    pub scanned: Option<Arc<Vec<ScannedRows>>>,
}

/// Adds the best of some rows.
pub(super) async fn scan(
    run: &Arc<SearchState>,
    rows: Rows,
    ranker: &Arc<Ranker>,
    first: usize,
    best: &Arc<Mutex<Best>>,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    for partition in 0..rows.input.output_partitioning().partition_count() {
        let (run, rows, ranker, best) = (Arc::clone(run), rows.clone(), Arc::clone(ranker), Arc::clone(best));
        tasks.spawn(async move { search_partition(&run, &rows, partition, first, &ranker, &best).await });
    }
    while let Some(result) = tasks.join_next().await {
        result.map_err(|error| DataFusionError::External(Box::new(error)))??;
    }
    Ok(())
}

pub(super) fn lock(best: &Mutex<Best>) -> Result<std::sync::MutexGuard<'_, Best>> {
    best.lock().map_err(|_| internal_datafusion_err!("a partition of the search panicked"))
}

async fn search_partition(
    run: &SearchState,
    rows: &Rows,
    partition: usize,
    first_partition: usize,
    ranker: &Ranker,
    best: &Mutex<Best>,
) -> Result<()> {
    let mut batches = rows.input.execute(partition, Arc::clone(&run.context))?;
    let scanned = rows.scanned.as_ref().map(|scanned| &scanned[partition]);
    let partition_start = ((first_partition + partition) as u64) << ORDINAL_BITS;
    let mut first = partition_start;
    let schema: SchemaRef = Arc::new(rows.input.schema().project(&run.top_k.columns)?);
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let started = Instant::now();
        let selection = match &rows.predicate {
            Some(predicate) => Some(kept(predicate.as_ref(), &batch)?),
            None => None,
        };
        run.filter_us.add(started.elapsed().as_micros() as usize);
        let (worst, groups) = {
            let mut best = lock(best)?;
            (best.worst(), best.number(&batch, run.top_k.group_by)?)
        };
        let (vector, query) = (batch.column(run.top_k.vector), ranker.query.as_deref());
        let array = vectors(vector, &ranker.column, query, selection.as_ref(), ordinal(first))?;
        let column = VectorColumn::try_new(&array).map_err(external)?;
        let column = ChunkedColumn::try_new(vec![column]).map_err(external)?;
        let (mut entries, report): (Vec<(u32, Entry)>, _) = match groups {
            None => {
                let (entries, report) = ranker.rank(&column, selection.as_ref(), worst)?;
                (entries.into_iter().map(|entry| (0, entry)).collect(), report)
            }
            Some(groups) => {
                let (entries, report) = ranker.rank_groups(&column, selection.as_ref(), &groups, false)?;
                (entries.into_iter().map(|ranked| (ranked.group, ranked.entry)).collect(), Some(report))
            }
        };
        let places: UInt64Array = entries.iter().map(|(_, entry)| Some(entry.position)).collect();
        let columns = run.top_k.columns.iter().map(|column| Ok(take(batch.column(*column), &places, None)?));
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        let found = RecordBatch::try_new_with_options(schema.clone(), columns.collect::<Result<_>>()?, &options)?;
        for (_, entry) in &mut entries {
            entry.position = match scanned {
                Some(scanned) => partition_start + scanned.ordinal(ordinal(first) + entry.position),
                None => first + entry.position,
            };
        }
        let mut best = lock(best)?;
        best.input_rows[partition] += batch.num_rows() as u64;
        if let Some(report) = report {
            best.learn(report);
        }
        if !entries.is_empty() {
            best.add(&entries, found)?;
        }
        first += batch.num_rows() as u64;
    }
    match scanned {
        Some(scanned) if scanned.read != ordinal(first) => {
            internal_err!("a scan of some rows: expected {} rows, got {}", scanned.read, ordinal(first))
        }
        _ => Ok(()),
    }
}
