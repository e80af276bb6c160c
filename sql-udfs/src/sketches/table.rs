//! State that the batches of a table share: the bases of its vector columns, and an account of the
//! bytes that searches have read without a sketch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::execution::memory_pool::MemoryReservation;
use parking_lot::{Condvar, Mutex, RwLock};
use vexact_kernel::{SketchBasis, Tier};

use super::batch::Wanted;
use super::build::{self, Request};

/// The sketches of a table, apart from those of its batches. All versions of a table share it.
#[derive(Debug, Default)]
pub struct TableSketches {
    columns: RwLock<HashMap<usize, Arc<ColumnSketches>>>,
    builder: Mutex<Builder>,
    /// Notified when the builder has nothing left to do.
    is_idle: Condvar,
}

/// The background thread of a table, of which there is at most one.
#[derive(Debug, Default)]
struct Builder {
    /// The process that it runs in; 0 if there is none. A child of `fork` has no such thread.
    process: u32,
    /// The builder's next requests, by column and tier: a newer one replaces an older one.
    pending: HashMap<(usize, Tier), Request>,
}

impl TableSketches {
    /// Returns what is known of a column. Returns `None` if another thread is entering a column at
    /// this moment.
    pub(super) fn column(&self, column: usize) -> Option<Arc<ColumnSketches>> {
        if let Some(known) = self.columns.try_read()?.get(&column) {
            return Some(Arc::clone(known));
        }
        let mut columns = self.columns.try_write()?;
        Some(Arc::clone(columns.entry(column).or_default()))
    }

    /// Returns true if a column has a basis, so that new batches are worth encoding.
    pub fn has_basis(&self) -> bool {
        let Some(columns) = self.columns.try_read() else { return false };
        columns.keys().any(|column| !self.bases(*column).is_empty())
    }

    /// The bases of a column, each with the tier that it was trained for.
    pub(super) fn bases(&self, column: usize) -> Vec<(Tier, Arc<Training>)> {
        let Some(known) = self.columns.try_read().and_then(|columns| columns.get(&column).cloned()) else {
            return Vec::new();
        };
        let trained = |tier| Some((tier, known.training(tier).filter(|training| training.basis.is_some())?));
        TIERS.into_iter().filter_map(trained).collect()
    }

    /// Has the builder do something, now or after what it does. Without effect if its lock is
    /// taken or no thread can be started.
    pub(super) fn request(self: &Arc<Self>, request: Request) {
        let Some(mut builder) = self.builder.try_lock() else { return };
        let is_running = builder.process == std::process::id();
        builder.pending.insert((request.column, request.tier), request);
        if !is_running && build::start(self) {
            builder.process = std::process::id();
        }
    }

    /// Takes the next request; the builder ends if there is none.
    pub(super) fn next_request(&self) -> Option<Request> {
        let mut builder = self.builder.lock();
        let key = builder.pending.keys().next().copied();
        let next = key.and_then(|key| builder.pending.remove(&key));
        if next.is_none() {
            builder.process = 0;
            self.is_idle.notify_all();
        }
        next
    }

    /// Returns true while a column is being trained for or encoded.
    pub(super) fn is_building(&self) -> bool {
        self.builder.try_lock().is_some_and(|builder| builder.process == std::process::id())
    }

    /// Waits until nothing is left to build of what was requested.
    pub fn wait(&self) {
        let mut builder = self.builder.lock();
        while builder.process == std::process::id() {
            self.is_idle.wait(&mut builder);
        }
    }
}

/// The tiers that a basis is trained for.
const TIERS: [Tier; 3] = [Tier::Auto, Tier::I8, Tier::Pca4];

/// The result of a training.
#[derive(Debug)]
pub(super) struct Training {
    /// The basis; `None` where a sketch would not save enough.
    pub basis: Option<Arc<SketchBasis>>,
    pub reason: String,
    /// Rows of the column at that time.
    pub rows: u64,
    /// Memory of the basis.
    pub _memory: MemoryReservation,
}

/// One vector column of a table.
#[derive(Debug, Default)]
pub(super) struct ColumnSketches {
    /// Bytes that searches have read since the last build.
    spent: AtomicU64,
    trainings: RwLock<[Option<Arc<Training>>; 3]>,
    /// The reason why the last build ended early.
    obstacle: RwLock<Option<String>>,
    /// Rows encoded since the last training.
    encoded: AtomicU64,
    pruning: Mutex<Pruning>,
}

fn place(tier: Tier) -> Option<usize> {
    TIERS.iter().position(|other| *other == tier)
}

impl ColumnSketches {
    pub fn training(&self, tier: Tier) -> Option<Arc<Training>> {
        self.trainings.try_read()?[place(tier)?].clone()
    }

    /// The sketches that a search of a tier may read.
    pub fn wanted(&self, tier: Tier) -> Wanted {
        match (tier, self.training(tier)) {
            (Tier::F32, _) => Wanted::Nothing,
            (Tier::Auto, None) => Wanted::Any,
            (Tier::Auto, Some(training)) => match &training.basis {
                Some(basis) => Wanted::Form(basis.tier()),
                None => Wanted::Nothing,
            },
            (forced, _) => Wanted::Form(forced),
        }
    }

    pub fn set_training(&self, tier: Tier, training: Training) {
        let Some(place) = place(tier) else { return };
        self.trainings.write()[place] = Some(Arc::new(training));
        self.encoded.store(0, Ordering::Relaxed);
        *self.pruning.lock() = Pruning::default();
    }

    /// Adds bytes that a search has read; returns the sum.
    pub fn spend(&self, bytes: u64) -> u64 {
        self.spent.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes)
    }

    /// Bytes that searches have read since the last build.
    pub fn spent(&self) -> u64 {
        self.spent.load(Ordering::Relaxed)
    }

    /// Begins the account anew.
    pub fn reset_account(&self) {
        self.spent.store(0, Ordering::Relaxed);
    }

    pub fn obstacle(&self) -> Option<String> {
        self.obstacle.try_read()?.clone()
    }

    pub fn set_obstacle(&self, obstacle: Option<String>) {
        *self.obstacle.write() = obstacle;
    }

    pub fn add_encoded(&self, rows: u64) {
        self.encoded.fetch_add(rows, Ordering::Relaxed);
    }

    /// Takes note of the rows that a search left, for each of its k best; returns true if the basis
    /// prunes half as well as at first, and a quarter of the rows have come since then.
    pub fn prunes_worse(&self, rows_left: f64, trained_rows: u64) -> bool {
        let has_halved = self.pruning.try_lock().is_some_and(|mut pruning| pruning.add(rows_left));
        has_halved && self.encoded.load(Ordering::Relaxed) >= trained_rows + trained_rows / 4
    }
}

/// Searches whose rows left are averaged.
const AVERAGED: u32 = 16;

/// The rows that searches leave: the average of the first searches, and that of the last ones.
#[derive(Debug, Default)]
struct Pruning {
    first: Average,
    last: Average,
}

#[derive(Debug, Default, Clone, Copy)]
struct Average {
    sum: f64,
    count: u32,
}

impl Average {
    fn add(&mut self, value: f64) -> bool {
        self.sum += value;
        self.count += 1;
        self.count == AVERAGED
    }
}

impl Pruning {
    /// Returns true if as many searches as are averaged left twice as many rows as the first did.
    fn add(&mut self, rows_left: f64) -> bool {
        if self.first.count < AVERAGED {
            self.first.add(rows_left);
            return false;
        }
        if !self.last.add(rows_left) {
            return false;
        }
        let last = std::mem::take(&mut self.last);
        last.sum > 2.0 * self.first.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pruning_is_judged_by_averages() {
        let mut pruning = Pruning::default();
        let mut add = |value: f64| (0..AVERAGED).filter(|_| pruning.add(value)).count();
        assert_eq!((add(10.0), add(19.0), add(21.0), add(1.0), add(50.0)), (0, 0, 1, 0, 1));
    }

    #[test]
    fn basis_is_retrained_only_after_rows_have_come() {
        let column = ColumnSketches::default();
        let halves = |column: &ColumnSketches| {
            (0..AVERAGED).for_each(|_| assert!(!column.prunes_worse(1.0, 1000)));
            (0..AVERAGED).any(|_| column.prunes_worse(9.0, 1000))
        };
        column.add_encoded(1249);
        assert!(!halves(&column));
        let column = ColumnSketches::default();
        column.add_encoded(1250);
        assert!(halves(&column));
    }
}
