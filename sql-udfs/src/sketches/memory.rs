//! A memory pool in which sketches yield to queries.

use std::fmt;
use std::sync::{Arc, Weak};

use datafusion::common::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use parking_lot::Mutex;

use super::batch::BatchSketches;

/// Name of sketches in a memory pool.
pub(super) const CONSUMER: &str = "vector sketches";

/// A memory pool that releases the sketches it has room for before it refuses memory to a query.
/// Sketches themselves are refused without that.
#[derive(Debug)]
pub struct SketchPool {
    pool: Arc<dyn MemoryPool>,
    /// The batches that hold sketches in this pool.
    holders: Mutex<Vec<Weak<BatchSketches>>>,
}

impl SketchPool {
    /// Makes sketches yield in another pool.
    pub fn new(pool: Arc<dyn MemoryPool>) -> Self {
        Self { pool, holders: Mutex::default() }
    }

    /// Remembers a batch that holds a sketch.
    pub(super) fn add_holder(&self, batch: &Arc<BatchSketches>) {
        let mut holders = self.holders.lock();
        if holders.len() == holders.capacity() {
            holders.retain(|holder| holder.strong_count() > 0);
        }
        holders.push(Arc::downgrade(batch));
    }

    /// Releases all sketches; returns true if there were any.
    fn release(&self) -> bool {
        let holders = match self.holders.try_lock() {
            Some(mut holders) => std::mem::take(&mut *holders),
            None => return false,
        };
        let released: usize = holders.iter().filter_map(Weak::upgrade).map(|batch| batch.clear()).sum();
        released > 0
    }
}

impl fmt::Display for SketchPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pool)
    }
}

impl MemoryPool for SketchPool {
    fn name(&self) -> &str {
        self.pool.name()
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let refused = match self.pool.try_grow(reservation, additional) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        match reservation.consumer().name() != CONSUMER && self.release() {
            true => self.pool.try_grow(reservation, additional),
            false => Err(refused),
        }
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::FixedSizeListArray;
    use arrow::datatypes::Float32Type;
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use vexact_kernel::{ChunkedColumn, SketchBasis, Tier, VectorColumn};

    use super::super::batch::{Held, Wanted};
    use super::*;

    #[test]
    fn sketches_yield_their_memory_to_queries_and_to_nothing_else() {
        let rows = (0..50).map(|i| Some((0..8).map(|j| Some(((i * 7 + j * 3) % 11) as f32)).collect::<Vec<_>>()));
        let array = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 8);
        let column = VectorColumn::try_new(&array).unwrap();
        let basis = SketchBasis::train(&ChunkedColumn::from(&column), Tier::I8).basis.unwrap();
        let sketch = Arc::new(basis.encode(&column).unwrap());
        let pool = Arc::new(SketchPool::new(Arc::new(GreedyMemoryPool::new(1000))));
        let shared: Arc<dyn MemoryPool> = Arc::clone(&pool) as _;
        let reserve = |name: &str, bytes: usize| {
            let reservation = MemoryConsumer::new(name).register(&shared);
            reservation.try_grow(bytes).map(|()| reservation)
        };

        let batch = Arc::new(BatchSketches::default());
        batch.put(Held { column: 2, sketch, memory: reserve(CONSUMER, 800).unwrap() });
        pool.add_holder(&batch);
        assert!(reserve(CONSUMER, 300).is_err(), "a sketch does not displace a sketch");
        assert!(reserve("query", 200).is_ok());
        assert!(batch.get(2, Wanted::Any).is_some() && batch.size_bytes() > 0);
        let query = reserve("query", 900).unwrap();
        assert!(batch.get(2, Wanted::Any).is_none(), "the sketch made room");
        assert_eq!((pool.reserved(), batch.size_bytes()), (900, 0));
        assert!(reserve("query", 200).is_err());
        drop(query);
        assert_eq!(pool.reserved(), 0);
    }
}
