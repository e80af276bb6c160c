//! Cancellation of calls that run on other threads: by their token, or all of them when the
//! interpreter exits.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

/// The token of a call. Its holder can cancel the call, which then fails within a moment.
#[pyclass(frozen, module = "vexact._native")]
pub struct Cancellation(Arc<AtomicBool>);

thread_local! {
    /// The token of the calls that this thread makes.
    static CURRENT: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// True from the moment when the interpreter begins to exit.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

#[pymethods]
impl Cancellation {
    #[new]
    fn new() -> Self {
        Self(Arc::default())
    }

    fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Calls a function. Its calls of this module fail early once the token is cancelled.
    fn run<'py>(&self, call: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let outer = CURRENT.replace(Some(Arc::clone(&self.0)));
        let result = call.call0();
        CURRENT.set(outer);
        result
    }
}

/// Cancels the calls of all threads: waiting for those threads would keep the interpreter from
/// exiting.
#[pyfunction]
pub fn cancel_all() {
    IS_ENDING.store(true, Ordering::Relaxed);
}

/// A call in progress.
pub struct Call {
    token: Option<Arc<AtomicBool>>,
    /// True for a call of an exit handler, which the exit does not cancel.
    is_of_exit: bool,
}

impl Call {
    /// Registers a call of this thread.
    pub fn begin() -> Self {
        Self { token: CURRENT.with_borrow(Clone::clone), is_of_exit: IS_ENDING.load(Ordering::Relaxed) }
    }

    /// Returns true once the call's token is cancelled, or the interpreter exits.
    pub fn is_cancelled(&self) -> bool {
        let is_ending = !self.is_of_exit && IS_ENDING.load(Ordering::Relaxed);
        is_ending || self.token.as_ref().is_some_and(|token| token.load(Ordering::Relaxed))
    }
}
