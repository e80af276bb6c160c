//! Memory held by a streaming query, counted against the memory of its session.

use std::fmt;
use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use vexact_core::error::{Error, Result};

/// Reservation of a session's memory, which is released when this is dropped.
pub(super) struct Reserved {
    pool: Arc<dyn MemoryPool>,
    reservation: MemoryReservation,
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reserved({} bytes)", self.reservation.size())
    }
}

impl Reserved {
    /// Creates an empty reservation.
    pub fn new(pool: &Arc<dyn MemoryPool>) -> Self {
        Self { pool: Arc::clone(pool), reservation: MemoryConsumer::new("stream state").register(pool) }
    }

    /// Grows or shrinks the reservation to this number of bytes.
    ///
    /// # Errors
    /// A size beyond the memory of the session; the reservation is unchanged.
    pub fn resize(&self, bytes: usize) -> Result<()> {
        self.reservation.try_resize(bytes).map_err(|error| match self.pool.memory_limit() {
            MemoryLimit::Finite(limit) => Error::Query(DataFusionError::ResourcesExhausted(format!(
                "the state of the stream: expected it within the session's memory_limit_bytes of {limit}, shared with its \
                 other queries, got {bytes} bytes"
            ))),
            _ => error.into(),
        })
    }
}
