//! The threads of a shell: each statement runs to its end, its timeout, or Ctrl-C.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use vexact_core::entry::task_ended;
use vexact_sql::deep::THREAD_STACK;

use crate::failure::Failure;
use crate::threads::on_signal;

/// The event that ends the wait for a statement.
enum Event {
    Ended,
    Signal(&'static str),
}

/// The threads, and the signals of the process.
pub(super) struct Running {
    runtime: Runtime,
    limit_ms: Option<u64>,
    sender: mpsc::Sender<Event>,
    events: Mutex<mpsc::Receiver<Event>>,
}

impl Running {
    pub fn new(limit_ms: Option<u64>) -> Result<Self, Failure> {
        // A cancelled statement may still occupy a thread until its next yield: others are left for the
        // next statement.
        let threads = 2 * std::thread::available_parallelism().map_or(2, usize::from);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(threads).thread_stack_size(THREAD_STACK).enable_all().build();
        let runtime = runtime.map_err(|error| Failure::internal("start", format!("no threads: {error}")))?;
        let (sender, events) = mpsc::channel();
        let signals = sender.clone();
        on_signal(move |name| drop(signals.send(Event::Signal(name))));
        Ok(Self { runtime, limit_ms, sender, events: Mutex::new(events) })
    }

    /// Runs work to its end, its timeout or a signal, which cancel it.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let events = self.events.lock();
        // A signal at the prompt cancels nothing.
        while events.try_recv().is_ok() {}
        let (answer, ended) = mpsc::channel();
        let sender = self.sender.clone();
        let task = self.runtime.spawn(work);
        let abort = task.abort_handle();
        self.runtime.spawn(async move {
            let done = task.await;
            let done = done
                .unwrap_or_else(|error| Err(Failure::internal("run", task_ended("the statement", error).to_string())));
            let _ = answer.send(done);
            let _ = sender.send(Event::Ended);
        });
        let event = match self.limit_ms {
            None => events.recv().map_err(RecvTimeoutError::from),
            Some(limit_ms) => events.recv_timeout(Duration::from_millis(limit_ms)),
        };
        let failure = match (event, self.limit_ms) {
            (Ok(Event::Ended), _) => {
                return ended.recv().unwrap_or_else(|_| Err(Failure::internal("run", "the statement has no answer")));
            }
            (Ok(Event::Signal(name)), _) => Failure::cancelled(name),
            (Err(RecvTimeoutError::Timeout), Some(limit_ms)) => Failure::timed_out(limit_ms),
            (Err(error), _) => Failure::internal("run", error.to_string()),
        };
        abort.abort();
        Err(failure)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process ends; a cancelled statement that still runs ends with it.
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        if let Ok(runtime) = runtime {
            std::mem::replace(&mut self.runtime, runtime).shutdown_background();
        }
    }
}
