//! State shared by a streaming query and its observers.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use tokio::sync::watch;
use vexact_core::error::{Error, Result};

use super::progress::{Progress, Status};

/// Commands to a running query.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Control {
    pub is_stopped: bool,
    /// Number of micro-batches after which the query ends; 0 for no limit.
    pub max_batches: u64,
}

/// State shared by a query and its observers.
#[derive(Debug)]
pub(super) struct Shared {
    pub progress: watch::Sender<Progress>,
    pub control: watch::Sender<Control>,
    /// Number of micro-batches since the query was opened.
    pub processed: AtomicU64,
    pub error: Mutex<Option<Arc<Error>>>,
}

impl Shared {
    /// Ends the query.
    pub fn end(&self, result: Result<()>) {
        let status = if result.is_err() { Status::Failed } else { Status::Stopped };
        *self.error.lock() = result.err().map(Arc::new);
        self.progress.send_modify(|progress| {
            progress.status = status;
            (progress.inflight_batches, progress.inflight_partitions) = (0, 0);
            progress.backpressure_active = false;
        });
    }
}

/// Returns a unique name of a query.
pub(super) fn query_id() -> String {
    format!("stream-{:016x}", RandomState::new().hash_one("query"))
}
