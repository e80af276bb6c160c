//! Conversion of the engine's errors to Python exceptions: the classes of `vexact.errors`, chosen
//! by the error's kind.

use datafusion::error::DataFusionError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyType;
use vexact::error::ErrorKind;

/// Returns the exception for an error.
pub fn exception(py: Python<'_>, error: &vexact::Error) -> PyErr {
    let class = match error.kind() {
        ErrorKind::Value => "InvalidRequestError",
        ErrorKind::FileNotFound => "SourceNotFoundError",
        ErrorKind::Io => "SourceIOError",
        ErrorKind::Resources => "ResourcesExhaustedError",
        ErrorKind::Execution => "ExecutionError",
        ErrorKind::Timeout => "QueryTimeoutError",
        ErrorKind::Internal => "InternalError",
    };
    let found = py.import("vexact.errors").and_then(|errors| Ok(errors.getattr(class)?.cast_into::<PyType>()?));
    let exception = match found {
        Ok(class) => PyErr::from_type(class, error.to_string()),
        Err(_) => PyRuntimeError::new_err(error.to_string()),
    };
    if let Some(cause) = cause(error) {
        exception.set_cause(py, Some(cause.clone_ref(py)));
    }
    exception
}

/// Returns the exception that Python code raised while the engine called it.
fn cause(error: &vexact::Error) -> Option<&PyErr> {
    match error {
        vexact::Error::Shared(error) => cause(error),
        vexact::Error::Query(error) => match error.find_root() {
            DataFusionError::External(source) => source.downcast_ref(),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the exception for a failure of the replication engine, whatever its kind.
pub fn engine_exception(py: Python<'_>, error: &vexact::Error) -> PyErr {
    if matches!(error.kind(), ErrorKind::Internal | ErrorKind::Timeout) {
        return exception(py, error);
    }
    let found =
        py.import("vexact.errors").and_then(|errors| Ok(errors.getattr("EngineError")?.cast_into::<PyType>()?));
    match found {
        Ok(class) => PyErr::from_type(class, error.to_string()),
        Err(_) => PyRuntimeError::new_err(error.to_string()),
    }
}

/// Returns the exception for an invalid argument. The problem names the argument, the expected
/// value and the actual one.
pub fn invalid(py: Python<'_>, problem: String) -> PyErr {
    exception(py, &vexact::Error::InvalidArgument(problem))
}
