//! The sketches of [`Chunks`]: which ones a search reads, what it says of them, and when they are
//! built.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryPool;
use vexact_cooperative::Scheduler;
use vexact_kernel::{Report, Sketch, Tier};

use super::batch::Wanted;
use super::build::Request;
use super::table::{ColumnSketches, TableSketches, Training};
use super::{can_be_sketched, cost, vector_bytes};
use crate::chunks::Chunks;

/// Growth of a column after which one that a sketch was not worth making for is judged again.
const GROWTH: u64 = 4;

/// Rows of a batch from which on it is encoded before a search.
const SEALED_ROWS: usize = 1024;

/// The reason of a search without a sketch.
const NONE: &str = "no sketch, so the vectors themselves";

/// Rows and bytes of a column.
struct Size {
    rows: u64,
    bytes: u64,
    dim: u64,
    /// Bytes of the batches without a sketch.
    uncovered: u64,
}

impl Chunks {
    /// Returns what the batches share. Tests wait for its builder.
    pub fn table_sketches(&self) -> &Arc<TableSketches> {
        &self.sketches.table
    }

    /// Memory of the sketches of all batches.
    pub fn sketch_bytes(&self) -> usize {
        self.sketches.batches.iter().map(|batch| batch.size_bytes()).sum()
    }

    /// Returns for each batch the sketch of a column that a search reads; none for the tier `f32`.
    pub(crate) fn sketches_of(&self, column: usize, tier: Tier) -> Vec<Option<Arc<Sketch>>> {
        let wanted = match self.sketched_column(column, tier) {
            Some(column) => column.wanted(tier),
            None => return Vec::new(),
        };
        self.sketches.batches.iter().map(|batch| batch.get(column, wanted)).collect()
    }

    fn sketched_column(&self, column: usize, tier: Tier) -> Option<Arc<ColumnSketches>> {
        let data_type = self.batches().first()?.column(column).data_type().clone();
        (tier != Tier::F32 && can_be_sketched(&data_type)).then(|| self.sketches.table.column(column))?
    }

    fn size(&self, column: usize, training: Option<&Training>, wanted: Wanted) -> Size {
        let mut size = Size { rows: 0, bytes: 0, dim: 0, uncovered: 0 };
        for (batch, sketches) in self.batches().iter().zip(&self.sketches.batches) {
            let array: &dyn Array = batch.column(column);
            let bytes = vector_bytes(array);
            size.rows += array.len() as u64;
            size.bytes += bytes;
            if let arrow::datatypes::DataType::FixedSizeList(_, dim) = array.data_type() {
                size.dim = *dim as u64;
            }
            let is_covered = match training.and_then(|training| training.basis.as_ref()) {
                Some(basis) => sketches.has(column, basis),
                None => sketches.get(column, wanted).is_some(),
            };
            if !is_covered {
                size.uncovered += bytes;
            }
        }
        size
    }

    /// Adds a search to the account of its column, which may start the building of its sketches,
    /// and completes the report of one that had none. `is_plain`: one query without a filter.
    pub(crate) fn after_search(
        &self,
        column: usize,
        tier: Tier,
        is_plain: bool,
        report: &mut Report,
        context: &TaskContext,
    ) {
        let Some(state) = self.sketched_column(column, tier) else { return };
        let training = state.training(tier);
        let size = self.size(column, training.as_deref(), state.wanted(tier));
        let execution = report.execution;
        let mut is_retraining = false;
        if let (Some(training), Some(left), Some(k)) =
            (&training, execution.and_then(|execution| execution.rows_left), report.top_k)
            && is_plain
            && size.uncovered == 0
        {
            is_retraining = state.prunes_worse(left as f64 / k.max(1) as f64, training.rows);
        }
        if size.uncovered > 0 || is_retraining {
            let spent = state.spend(execution.map_or(0, |execution| execution.bytes_read));
            let price = self.price(tier, training.as_deref(), &size);
            if is_retraining || price.is_some_and(|price| spent >= price) {
                is_retraining |= training.as_ref().is_some_and(|training| training.basis.is_none());
                self.request(column, tier, is_retraining, context);
            }
        }
        if report.components.is_none() && report.reason == NONE {
            report.reason = self.why_none(&state, tier, &size);
        }
    }

    /// As [`Self::after_search`], for a scan of all vectors.
    pub(crate) fn after_scan(&self, column: usize, tier: Tier, context: &TaskContext) {
        let Some(state) = self.sketched_column(column, tier) else { return };
        let training = state.training(tier);
        let size = self.size(column, training.as_deref(), state.wanted(tier));
        let spent = state.spend(size.bytes);
        if size.uncovered > 0 && self.price(tier, training.as_deref(), &size).is_some_and(|price| spent >= price) {
            let is_retraining = training.is_some_and(|training| training.basis.is_none());
            self.request(column, tier, is_retraining, context);
        }
    }

    /// Bytes that searches read before the missing sketches are built. Returns `None` if they are
    /// never built.
    fn price(&self, tier: Tier, training: Option<&Training>, size: &Size) -> Option<u64> {
        let encoding = cost::of_encoding(size.uncovered);
        let all = cost::of_training(size.rows, size.bytes, size.dim).saturating_add(encoding);
        match training {
            _ if tier == Tier::Auto && size.bytes < cost::SKETCHED_BYTES_MIN => None,
            Some(training) if training.basis.is_none() => (size.rows >= GROWTH * training.rows).then_some(all),
            // Whoever forces a form does not ask for what it costs.
            _ if tier != Tier::Auto => Some(0),
            Some(_) => Some(encoding),
            None => Some(all),
        }
    }

    fn why_none(&self, state: &ColumnSketches, tier: Tier, size: &Size) -> String {
        if let Some(training) = state.training(tier).filter(|training| training.basis.is_none()) {
            return format!("{NONE}: {}", training.reason);
        }
        if self.sketches.table.is_building() {
            return format!("{NONE}: one is being built");
        }
        if let Some(obstacle) = state.obstacle() {
            return format!("{NONE}: {obstacle}");
        }
        match self.price(tier, state.training(tier).as_deref(), size) {
            Some(price) if price > 0 => {
                let percent = (state.spent() as f64 / price as f64 * 100.0).min(99.0);
                format!("{NONE}: searches have read {percent:.0} % of the bytes after which one is built")
            }
            _ => NONE.into(),
        }
    }

    /// Completes the report of a search that has not run.
    pub(crate) fn plan_sketch(&self, column: usize, tier: Tier, queries: usize, report: &mut Report) {
        let Some(state) = self.sketched_column(column, tier) else { return };
        let sketches = self.sketches_of(column, tier);
        let covered = sketches.iter().flatten().count();
        let Some(basis) = sketches.iter().flatten().next().map(|sketch| sketch.basis()) else {
            let size = self.size(column, state.training(tier).as_deref(), state.wanted(tier));
            report.reason = self.why_none(&state, tier, &size);
            return;
        };
        let rows = self.live_rows();
        if tier == Tier::Auto
            && let Err(reason) = basis.check_search(report.top_k, rows, queries)
        {
            report.reason = reason;
            return;
        }
        let row_bytes = basis.scanned_bytes(report.metric);
        report.tier = basis.tier();
        report.components = Some(basis.components());
        report.reason = basis.describe_reads(row_bytes, (sketches.len() - covered, sketches.len()));
        // With a filter the rows are known only after it.
        let live = |batch: usize| {
            let rows = self.batches()[batch].num_rows();
            self.live(batch, 0, rows).map_or(rows, |live| live.count_set_bits())
        };
        let vector = |batch: usize| vector_bytes(self.batches()[batch].column(column)) as usize;
        let bytes = |(batch, sketch): (usize, &Option<Arc<Sketch>>)| match sketch {
            Some(_) => live(batch) * row_bytes,
            None => (vector(batch) / self.batches()[batch].num_rows().max(1)) * live(batch),
        };
        if report.filter.is_none() {
            report.bytes_planned = Some(sketches.iter().enumerate().map(bytes).sum::<usize>() as u64);
        }
    }

    fn request(&self, column: usize, tier: Tier, is_retraining: bool, context: &TaskContext) {
        let scheduler = context.session_config().get_extension::<Scheduler>();
        let all: Vec<usize> = (0..self.batches().len()).collect();
        self.request_by((column, tier, is_retraining), &all, context.memory_pool(), scheduler.as_deref());
    }

    fn request_by(
        &self,
        (column, tier, is_retraining): (usize, Tier, bool),
        batches: &[usize],
        memory: &Arc<dyn MemoryPool>,
        scheduler: Option<&Scheduler>,
    ) {
        let batch = |ordinal: &usize| {
            let array = ArrayRef::clone(self.batches()[*ordinal].column(column));
            (array, Arc::downgrade(&self.sketches.batches[*ordinal]))
        };
        self.sketches.table.request(Request {
            column,
            tier,
            is_retraining,
            batches: batches.iter().map(batch).collect(),
            memory: Arc::clone(memory),
            work: scheduler.map(Scheduler::background_work),
        });
    }

    /// Has the batches encoded that are not yet, in the columns that have a basis, in the
    /// background. Batches of few rows are left to searches: they will be merged.
    pub fn encode_new_batches(&self, memory: &Arc<dyn MemoryPool>) {
        let Some(first) = self.batches().first() else { return };
        for column in (0..first.num_columns()).filter(|column| can_be_sketched(first.column(*column).data_type())) {
            for (tier, training) in self.sketches.table.bases(column) {
                let basis = training.basis.as_ref();
                let is_missing = |ordinal: &usize| {
                    let (batch, sketches) = (&self.batches()[*ordinal], &self.sketches.batches[*ordinal]);
                    batch.num_rows() >= SEALED_ROWS && basis.is_some_and(|basis| !sketches.has(column, basis))
                };
                let missing: Vec<usize> = (0..self.batches().len()).filter(is_missing).collect();
                if !missing.is_empty() {
                    self.request_by((column, tier, false), &missing, memory, None);
                }
            }
        }
    }
}
