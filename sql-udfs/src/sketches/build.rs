//! Building: a background thread trains the basis of a column and encodes its batches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use arrow::array::{Array, ArrayRef};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use rayon::ThreadPoolBuilder;
use vexact_cooperative::LongWork;
use vexact_kernel::{ChunkedColumn, KernelError, Metric, SketchBasis, Tier, VectorColumn};

use super::batch::{BatchSketches, Held};
use super::memory::{CONSUMER, SketchPool};
use super::table::{ColumnSketches, TableSketches, Training};
use super::vector_bytes;

/// Rows that are encoded between two looks at whether the table is still there.
const PIECE_ROWS: usize = 1024;

/// A column to build the sketches of. Batches that are gone when their turn comes are left out.
#[derive(Debug)]
pub(super) struct Request {
    pub column: usize,
    pub tier: Tier,
    /// True if a basis is trained although there is one.
    pub is_retraining: bool,
    pub batches: Vec<(ArrayRef, Weak<BatchSketches>)>,
    pub memory: Arc<dyn MemoryPool>,
    pub work: Option<LongWork>,
}

/// Starts the background thread of a table; returns false if none can be had.
///
/// It is a thread pool of its own, of one thread, so that encoding leaves the other cores to
/// queries. It ends with its last request.
pub(super) fn start(table: &Arc<TableSketches>) -> bool {
    let pool = ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "vexact-sketch".into()).build();
    let Ok(pool) = pool else { return false };
    let table = Arc::downgrade(table);
    pool.spawn(move || {
        while let Some(request) = table.upgrade().and_then(|table| table.next_request()) {
            // A sketch is optional: whatever goes wrong, queries go on without it.
            let _ = catch_unwind(AssertUnwindSafe(|| request.run(&table)));
        }
    });
    true
}

/// The reason why a build ended early.
enum Stop {
    /// The table was dropped.
    Dropped,
    /// The memory limit has no room.
    Memory,
    /// The vectors cannot be read.
    Refused(String),
}

impl Request {
    fn run(&self, table: &Weak<TableSketches>) {
        let Some(column) = table.upgrade().and_then(|table| table.column(self.column)) else { return };
        column.reset_account();
        let obstacle = match self.build(table, &column) {
            Ok(()) | Err(Stop::Dropped) => None,
            Err(Stop::Memory) => Some("the memory limit has no room for a sketch".into()),
            Err(Stop::Refused(reason)) => Some(reason),
        };
        column.set_obstacle(obstacle);
        column.reset_account();
    }

    fn build(&self, table: &Weak<TableSketches>, column: &ColumnSketches) -> Result<(), Stop> {
        let known = column.training(self.tier).filter(|_| !self.is_retraining);
        let basis = match known {
            Some(training) => training.basis.clone(),
            None => self.train(column)?,
        };
        let Some(basis) = basis else { return Ok(()) };
        for (array, batch) in &self.batches {
            let Some(batch) = batch.upgrade() else { continue };
            if !batch.has(self.column, &basis) {
                let held = self.encode(table, &basis, array)?;
                batch.put(held);
                column.add_encoded(array.len() as u64);
                if let Some(pool) = self.memory.downcast_ref::<SketchPool>() {
                    pool.add_holder(&batch);
                }
            }
        }
        Ok(())
    }

    fn reserve(&self, bytes: usize) -> Result<MemoryReservation, Stop> {
        let reservation = MemoryConsumer::new(CONSUMER).register(&self.memory);
        reservation.try_grow(bytes).map_err(|_| Stop::Memory)?;
        Ok(reservation)
    }

    fn train(&self, column: &ColumnSketches) -> Result<Option<Arc<SketchBasis>>, Stop> {
        let rows: usize = self.batches.iter().map(|(array, _)| array.len()).sum();
        // Sketches are no smaller than that: training is not begun if there is no room for them.
        drop(self.reserve(self.batches.iter().map(|(array, _)| vector_bytes(array) as usize / 16).sum())?);
        let refused = |error: KernelError| Stop::Refused(error.to_string());
        let columns = self.batches.iter().map(|(array, _)| VectorColumn::try_new(array));
        let all = ChunkedColumn::try_new(columns.collect::<Result<_, _>>().map_err(refused)?).map_err(refused)?;
        let trained = SketchBasis::train(&all, self.tier);
        let memory = self.reserve(trained.basis.as_ref().map_or(0, |basis| basis.size_bytes()))?;
        let basis = trained.basis.clone();
        let training = Training { basis: trained.basis, reason: trained.reason, rows: rows as u64, _memory: memory };
        column.set_training(self.tier, training);
        Ok(basis)
    }

    fn encode(&self, table: &Weak<TableSketches>, basis: &Arc<SketchBasis>, array: &ArrayRef) -> Result<Held, Stop> {
        let refused = |error: KernelError| Stop::Refused(error.to_string());
        let mut sketch = basis.sketch_with_capacity(array.len());
        let memory = self.reserve(sketch.size_bytes() + array.len() * basis.scanned_bytes(Metric::L2))?;
        for start in (0..array.len()).step_by(PIECE_ROWS) {
            if table.strong_count() == 0 {
                return Err(Stop::Dropped);
            }
            if let Some(work) = &self.work {
                work.yield_to_foreground();
            }
            let piece = array.slice(start, PIECE_ROWS.min(array.len() - start));
            let piece = VectorColumn::try_new(&piece).map_err(refused)?;
            sketch.append(&piece).map_err(refused)?;
        }
        Ok(Held { column: self.column, sketch: Arc::new(sketch), memory })
    }
}
