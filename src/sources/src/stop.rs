//! Ends work on a thread when its caller is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vexact_core::error::{Error, Result};

/// Set once nobody waits for the work.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Returns true if the work has to end; its result is not used.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets a [`Stop`] when it is dropped.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Runs work that reads files on a thread for it. It is told to stop if the caller is dropped.
///
/// # Errors
/// Those of the work; its panic.
pub(super) async fn until_dropped<T: Send + 'static>(
    work: impl FnOnce(&Stop) -> Result<T> + Send + 'static,
) -> Result<T> {
    let stop = Stop::default();
    let caller = StopOnDrop(stop.clone());
    let result = tokio::task::spawn_blocking(move || work(&stop)).await;
    drop(caller);
    result.map_err(|error| Error::Query(datafusion::common::DataFusionError::ExecutionJoin(Box::new(error))))?
}
