//! Handle of a streaming query, to control and observe it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use vexact_core::entry::task_ended;
use vexact_core::error::{Error, Result};

use super::control::{Control, Shared};
use super::progress::Progress;
use super::run::StreamDriver;

/// Handle of a streaming query. Cheap to clone; clones share one query, which is stopped when the
/// last one is dropped.
#[derive(Debug, Clone)]
pub struct StreamingQuery {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// Driver of the query; `None` after the start.
    run: Mutex<Option<StreamDriver>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.control.send_modify(|control| control.is_stopped = true);
    }
}

impl StreamingQuery {
    pub(super) fn new(run: StreamDriver, progress: Progress) -> Self {
        let shared = Shared {
            progress: watch::Sender::new(progress),
            control: watch::Sender::new(Control::default()),
            processed: AtomicU64::new(0),
            error: Mutex::new(None),
        };
        Self { handle: Arc::new(Handle { shared: Arc::new(shared), run: Mutex::new(Some(run)) }) }
    }

    /// Starts the query on the current tokio runtime. Idempotent, also after its end.
    pub fn start(&self) {
        let run = self.handle.run.lock().take();
        let Some(run) = run else { return };
        let shared = Arc::clone(&self.handle.shared);
        if shared.control.borrow().is_stopped {
            return shared.end(Ok(()));
        }
        tokio::spawn(async move {
            let watched = Arc::clone(&shared);
            // The query runs in a task of its own, so that a panic is detected.
            let result = match tokio::spawn(run.work_to_end(Arc::clone(&shared))).await {
                Ok(result) => result,
                Err(error) => Err(task_ended("the streaming query", error)),
            };
            watched.end(result);
        });
    }

    /// Starts the query if necessary, and waits for its end; with `max_batches` above 0 it ends
    /// once it has processed that many micro-batches in total. Returns the number of micro-batches
    /// that it has processed since it was opened.
    ///
    /// # Errors
    /// The error that ended the query, in every call.
    pub async fn await_termination(&self, max_batches: u64) -> Result<u64> {
        let shared = &self.handle.shared;
        if max_batches > 0 {
            shared.control.send_modify(|control| control.max_batches = max_batches);
        }
        self.start();
        let mut progress = shared.progress.subscribe();
        // The sender is owned here, so waiting cannot fail.
        let _ = progress.wait_for(|progress| progress.status.is_ended()).await;
        match shared.error.lock().clone() {
            Some(error) => Err(Error::Shared(error)),
            None => Ok(shared.processed.load(Ordering::Relaxed)),
        }
    }

    /// Stops the query: the current micro-batch is still written, unless the sink has no room or it
    /// takes longer than a second. Returns at once; [`Self::await_termination`] waits for the end.
    /// Idempotent.
    pub fn stop(&self) {
        self.handle.shared.control.send_modify(|control| control.is_stopped = true);
        // A query that was never started ends here.
        if self.handle.run.lock().take().is_some() {
            self.handle.shared.end(Ok(()));
        }
    }

    /// Returns the progress of the query.
    pub fn progress(&self) -> Progress {
        self.handle.shared.progress.borrow().clone()
    }

    /// Returns [`Self::progress`] as JSON.
    pub fn snapshot_json(&self) -> String {
        // Texts, numbers and booleans always convert to JSON.
        serde_json::to_string(&self.progress()).unwrap_or_default()
    }
}

/// Returns the number of threads of the current runtime that can share work.
pub(super) fn threads() -> usize {
    match tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(tokio::runtime::RuntimeFlavor::CurrentThread) | Err(_) => 1,
        Ok(_) => std::thread::available_parallelism().map_or(1, usize::from),
    }
}
