//! Runs the engine's futures for a caller that waits, and cancels them from other threads.

use std::future::Future;
use std::process;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use adbc_core::error::{Result, Status};
use adbc_core::{CancelHandle, error::Error};
use parking_lot::Mutex;
use tokio::runtime::{EnterGuard, Runtime};
use tokio::task::AbortHandle;
use vexact::entry::entry;
use vexact::sql::deep::stack_of_text;

use super::status::{converted, error};
use crate::runtime::RunningQuery;

/// The task that runs for one statement or connection.
#[derive(Clone, Default)]
pub struct Cancellation(Arc<Mutex<Running>>);

#[derive(Default)]
struct Running {
    task: Option<AbortHandle>,
    is_cancelled: bool,
}

impl Cancellation {
    /// Forgets an earlier cancellation: a new execution begins.
    pub fn reset(&self) {
        self.0.lock().is_cancelled = false;
    }

    fn is_cancelled(&self) -> bool {
        self.0.lock().is_cancelled
    }
}

impl CancelHandle for Cancellation {
    fn try_cancel(&self) -> Result<()> {
        let mut running = self.0.lock();
        running.is_cancelled = true;
        if let Some(task) = running.task.take() {
            task.abort();
        }
        Ok(())
    }
}

/// The time when a statement is ended.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    end: Instant,
    limit: Duration,
}

impl Deadline {
    pub fn after(limit: Duration) -> Self {
        Self { end: Instant::now() + limit, limit }
    }
}

/// The runtime of a database, for the process that opened it.
#[derive(Clone, Copy)]
pub struct Threads {
    runtime: &'static Runtime,
    process: u32,
}

impl Threads {
    pub fn new(runtime: &'static Runtime) -> Self {
        Self { runtime, process: process::id() }
    }

    /// Returns true in the process that opened the database.
    pub fn is_of_this_process(self) -> bool {
        self.process == process::id()
    }

    /// Lets this thread drop what belongs to the runtime.
    pub fn enter(self) -> EnterGuard<'static> {
        self.runtime.enter()
    }

    /// Runs a future to its end, its cancellation or its time limit, while this thread waits.
    pub fn run<T: Send + 'static>(
        self,
        cancellation: &Cancellation,
        deadline: Option<Deadline>,
        future: impl Future<Output = vexact::Result<T>> + Send + 'static,
    ) -> Result<T> {
        if !self.is_of_this_process() {
            let problem = "the database was opened by another process, of which this one is a fork: open it again here";
            return Err(error(Status::InvalidState, problem));
        }
        let (sender, receiver) = mpsc::channel();
        let counted = RunningQuery::new();
        {
            let mut running = cancellation.0.lock();
            if running.is_cancelled {
                return Err(cancelled());
            }
            let task = self.runtime.spawn(async move {
                let _counted = counted;
                let work = entry(stack_of_text(""), "a call of the ADBC driver", future);
                let ended = match deadline {
                    Some(Deadline { end, limit }) => tokio::time::timeout_at(end.into(), work)
                        .await
                        .unwrap_or(Err(vexact::Error::TimedOut { limit })),
                    None => work.await,
                };
                let _ = sender.send(ended);
            });
            running.task = Some(task.abort_handle());
        }
        // The caller may be a thread of a runtime, where a future could not be awaited.
        let ended = receiver.recv();
        cancellation.0.lock().task = None;
        match ended {
            Ok(ended) => ended.map_err(|error| converted(&error)),
            Err(_) if cancellation.is_cancelled() => Err(cancelled()),
            Err(_) => Err(error(Status::Internal, "the query ended without an answer")),
        }
    }
}

fn cancelled() -> Error {
    error(Status::Cancelled, "the query was cancelled")
}
