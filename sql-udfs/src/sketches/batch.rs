//! The sketches of one batch.

use std::sync::Arc;

use datafusion::execution::memory_pool::MemoryReservation;
use parking_lot::RwLock;
use vexact_kernel::{Sketch, SketchBasis, Tier};

/// The sketches of one immutable batch: for each vector column at most one of each form.
#[derive(Debug, Default)]
pub struct BatchSketches {
    held: RwLock<Vec<Held>>,
}

/// A sketch in memory. The reservation ends with it.
#[derive(Debug)]
pub(super) struct Held {
    pub column: usize,
    pub sketch: Arc<Sketch>,
    pub memory: MemoryReservation,
}

/// The sketches that a search may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// None.
    Nothing,
    /// Any.
    Any,
    /// Those of one form.
    Form(Tier),
}

impl Wanted {
    fn admits(self, tier: Tier) -> bool {
        match self {
            Wanted::Nothing => false,
            Wanted::Any => true,
            Wanted::Form(form) => form == tier,
        }
    }
}

impl BatchSketches {
    /// Returns a sketch of a column. Returns `None` if there is none, or if one is being stored at
    /// this moment.
    pub(super) fn get(&self, column: usize, wanted: Wanted) -> Option<Arc<Sketch>> {
        let held = self.held.try_read()?;
        let found = held.iter().find(|held| held.column == column && wanted.admits(held.sketch.basis().tier()));
        found.map(|held| Arc::clone(&held.sketch))
    }

    /// Returns true if there is a sketch of a column in this basis.
    pub(super) fn has(&self, column: usize, basis: &Arc<SketchBasis>) -> bool {
        let sketch = self.get(column, Wanted::Form(basis.tier()));
        sketch.is_some_and(|sketch| Arc::ptr_eq(sketch.basis(), basis))
    }

    /// Stores a sketch in place of the one of the same column and form.
    pub(super) fn put(&self, new: Held) {
        let form = new.sketch.basis().tier();
        let replaced = {
            let mut held = self.held.write();
            let old = held.iter().position(|old| old.column == new.column && old.sketch.basis().tier() == form);
            let old = old.map(|old| held.swap_remove(old));
            held.push(new);
            old
        };
        // Freeing memory needs no lock.
        drop(replaced);
    }

    /// Releases all sketches; returns their bytes.
    pub(super) fn clear(&self) -> usize {
        let released = match self.held.try_write() {
            Some(mut held) => std::mem::take(&mut *held),
            None => return 0,
        };
        released.iter().map(|held| held.memory.size()).sum()
    }

    /// Memory of the sketches.
    pub fn size_bytes(&self) -> usize {
        self.held.read().iter().map(|held| held.sketch.size_bytes()).sum()
    }
}
