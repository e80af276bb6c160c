//! Runs the engine's futures from Python: without the GIL, and so that Ctrl-C ends them.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::Runtime;

use crate::errors::exception;

/// How often a running query looks for Ctrl-C.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

fn runtime() -> PyResult<&'static Runtime> {
    static RUNTIME: OnceLock<Result<Runtime, std::io::Error>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().enable_all().build());
    runtime.as_ref().map_err(|error| PyRuntimeError::new_err(format!("no threads for queries: {error}")))
}

/// Runs a future to its end, or until a signal handler raises (KeyboardInterrupt): then the future is dropped.
pub fn run<T: Send>(py: Python<'_>, future: impl Future<Output = vexact::Result<T>> + Send) -> PyResult<T> {
    let runtime = runtime()?;
    let result = py.detach(|| {
        runtime.block_on(async {
            let mut future = std::pin::pin!(future);
            loop {
                tokio::select! {
                    biased;
                    result = &mut future => return Ok(result),
                    () = tokio::time::sleep(SIGNAL_INTERVAL) => Python::attach(|py| py.check_signals())?,
                }
            }
        })
    });
    result.and_then(|result: vexact::Result<T>| result.map_err(|error| exception(py, &error)))
}
