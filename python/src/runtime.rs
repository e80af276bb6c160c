//! Runs the engine's futures from Python: without the GIL, and such that Ctrl-C cancels them.

use std::future::Future;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use vexact::entry::{entry, task_ended};
use vexact::sql::deep::{THREAD_STACK, stack_of_text};

use crate::cancel::Call;
use crate::errors::{EngineError, engine_exception, exception};
use crate::process::OfFirstProcess;

/// The error in a child of a process that used vexact before `fork`.
const USED_BEFORE_FORK: &str = "vexact was used in this process's parent before fork, whose threads are not here: start workers \
    with multiprocessing's method 'spawn' or 'forkserver', or use vexact in the workers only";

/// Interval at which a running query checks for Ctrl-C.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

static RUNTIME: OfFirstProcess<Runtime> = OfFirstProcess::new();

/// Returns the runtime of this process. Must be called with the GIL held.
///
/// A child of `fork` gets none of its own where its parent has one: tokio's threads wait by
/// `parking_lot`, whose table of waiting threads is one for the process. The child's copy names
/// threads that do not exist there, and would be followed into their freed stacks.
///
/// # Errors
/// `EngineError` in such a child.
pub fn runtime() -> PyResult<&'static Runtime> {
    // There are more threads than cores, so that the system shares the cores between long queries
    // and short ones.
    let threads = 2 * std::thread::available_parallelism().map_or(2, usize::from);
    let new = || {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(threads).thread_stack_size(THREAD_STACK).enable_all().build()
    };
    let runtime = RUNTIME.get_or_try_init(new);
    let runtime = runtime.map_err(|error| PyRuntimeError::new_err(format!("no threads for queries: {error}")))?;
    runtime.ok_or_else(|| EngineError::new_err(USED_BEFORE_FORK))
}

/// Runs a query of any length on the runtime's threads, while this thread waits for its end or for
/// Ctrl-C, which aborts the query.
pub fn run_long<T: Send + 'static>(
    py: Python<'_>,
    future: impl Future<Output = vexact::Result<T>> + Send + 'static,
) -> PyResult<T> {
    run_telling(py, future, &|_| Ok(()))
}

/// Runs a query as [`run_long`] does, and calls `tell` at intervals while it runs.
pub fn run_telling<T: Send + 'static>(
    py: Python<'_>,
    future: impl Future<Output = vexact::Result<T>> + Send + 'static,
    tell: &(dyn Fn(Python<'_>) -> PyResult<()> + Sync),
) -> PyResult<T> {
    let mut task = spawn(future)?;
    run_with(py, async move { task.end().await }, exception, tell)
}

/// Starts a query on the runtime's threads.
pub fn spawn<T: Send + 'static>(
    future: impl Future<Output = vexact::Result<T>> + Send + 'static,
) -> PyResult<Spawned<T>> {
    let running = RunningQuery::new();
    Ok(Spawned(runtime()?.spawn(async move {
        let _running = running;
        future.await
    })))
}

/// The number of queries on the runtime's threads, including those whose caller is gone.
static RUNNING_QUERIES: Mutex<usize> = Mutex::new(0);
/// Notified when no query runs any more.
static QUERIES_ENDED: Condvar = Condvar::new();

/// Counts a query from its start to its end.
pub struct RunningQuery;

impl RunningQuery {
    pub fn new() -> Self {
        *RUNNING_QUERIES.lock() += 1;
        Self
    }
}

impl Drop for RunningQuery {
    fn drop(&mut self) {
        let mut running = RUNNING_QUERIES.lock();
        *running -= 1;
        if *running == 0 {
            QUERIES_ENDED.notify_all();
        }
    }
}

/// Waits, for a second at most, until no query runs. The process's exit unloads pyarrow, and an
/// aborted query releases the buffers of pyarrow that it reads only when its present step is done.
#[pyfunction]
pub fn wait_for_queries(py: Python<'_>) {
    // A child of `fork` has the count of its parent, and none of its queries.
    if !RUNTIME.is_here() {
        return;
    }
    py.detach(|| {
        let mut running = RUNNING_QUERIES.lock();
        QUERIES_ENDED.wait_while_for(&mut running, |running| *running > 0, Duration::from_secs(1));
    });
}

/// A query on the runtime's threads. Dropping it cancels the query.
pub struct Spawned<T>(JoinHandle<vexact::Result<T>>);

impl<T> Spawned<T> {
    /// Waits for the end of the query. Must not be called again after it returned.
    pub async fn end(&mut self) -> vexact::Result<T> {
        (&mut self.0).await.map_err(|error| task_ended("a query", error))?
    }
}

impl<T> Drop for Spawned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Lets the caller start tasks on the runtime.
pub fn enter() -> PyResult<tokio::runtime::EnterGuard<'static>> {
    Ok(runtime()?.enter())
}

/// Runs a future of the replication engine as [`run`] does; its errors are `vexact.EngineError`.
pub fn run_engine<T: Send>(py: Python<'_>, future: impl Future<Output = vexact::Result<T>> + Send) -> PyResult<T> {
    run_with(py, future, engine_exception, &|_| Ok(()))
}

/// Runs a future to its end on this thread, or until a signal handler raises (KeyboardInterrupt),
/// which drops the future. For futures that are short, or whose polls are short.
pub fn run<T: Send>(py: Python<'_>, future: impl Future<Output = vexact::Result<T>> + Send) -> PyResult<T> {
    run_with(py, future, exception, &|_| Ok(()))
}

fn run_with<T: Send>(
    py: Python<'_>,
    future: impl Future<Output = vexact::Result<T>> + Send,
    exception: fn(Python<'_>, &vexact::Error) -> PyErr,
    tell: &(dyn Fn(Python<'_>) -> PyResult<()> + Sync),
) -> PyResult<T> {
    let runtime = runtime()?;
    let call = Call::begin();
    let result = py.detach(|| {
        runtime.block_on(async {
            // Entries that know their statement name it; they are nested in this one.
            let mut future = entry(stack_of_text(""), "a call", future);
            loop {
                tokio::select! {
                    // The clock is polled first: a future that never waits uses up the budget that
                    // both share.
                    biased;
                    () = tokio::time::sleep(SIGNAL_INTERVAL) => {
                        if call.is_cancelled() {
                            return Ok(Err(vexact::Error::Interrupted("its caller is gone".into())));
                        }
                        Python::attach(|py| {
                            py.check_signals()?;
                            tell(py)
                        })?;
                    }
                    result = &mut future => return Ok(result),
                }
            }
        })
    });
    result.and_then(|result: vexact::Result<T>| result.map_err(|error| exception(py, &error)))
}
