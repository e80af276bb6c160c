//! Conversion of the engine's errors to Python exceptions: the classes of `vexact.errors`, chosen
//! by the error's kind.

use datafusion::error::DataFusionError;
use pyo3::import_exception;
use pyo3::prelude::*;
use vexact::error::ErrorKind;

import_exception!(vexact.errors, EngineError);
import_exception!(vexact.errors, ExecutionError);
import_exception!(vexact.errors, InternalError);
import_exception!(vexact.errors, InvalidRequestError);
import_exception!(vexact.errors, QueryTimeoutError);
import_exception!(vexact.errors, ResourcesExhaustedError);
import_exception!(vexact.errors, SourceIOError);
import_exception!(vexact.errors, SourceNotFoundError);

/// Returns the exception for an error.
pub fn exception(py: Python<'_>, error: &vexact::Error) -> PyErr {
    let text = error.to_string();
    let exception = match error.kind() {
        ErrorKind::Value => InvalidRequestError::new_err(text),
        ErrorKind::FileNotFound => SourceNotFoundError::new_err(text),
        ErrorKind::Io => SourceIOError::new_err(text),
        ErrorKind::Resources => ResourcesExhaustedError::new_err(text),
        ErrorKind::Execution => ExecutionError::new_err(text),
        ErrorKind::Timeout => QueryTimeoutError::new_err(text),
        ErrorKind::Internal => InternalError::new_err(text),
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
    EngineError::new_err(error.to_string())
}

/// Returns the exception for an invalid argument. The problem names the argument, the expected
/// value and the actual one.
pub fn invalid(py: Python<'_>, problem: String) -> PyErr {
    exception(py, &vexact::Error::InvalidArgument(problem))
}
