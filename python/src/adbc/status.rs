//! Conversion of the engine's errors to ADBC's: a status, a SQLSTATE and the same text.

use adbc_core::error::{Error, Status};
use rusqlite::ErrorCode;
use vexact::error::ErrorKind;

/// Returns an error with this status.
pub fn error(status: Status, problem: impl Into<String>) -> Error {
    Error::with_message_and_status(problem, status)
}

/// Returns the error of an invalid option or argument.
pub fn invalid(problem: impl Into<String>) -> Error {
    error(Status::InvalidArguments, problem)
}

/// Returns the error of an operation that the driver does not have.
pub fn unsupported(problem: impl Into<String>) -> Error {
    error(Status::NotImplemented, problem)
}

/// Converts an error of the engine.
pub fn converted(source: &vexact::Error) -> Error {
    let mut converted = error(status(source), source.to_string());
    if let Some(code) = sqlite(source) {
        // The exported error has no room for a vendor's code beside its details.
        let detail = ("sqlite_extended_code".to_owned(), code.extended_code.to_string().into_bytes());
        converted.details = Some(vec![detail]);
    }
    let state: &[u8; 5] = match converted.status {
        Status::Integrity => b"23000",
        Status::InvalidArguments => b"42000",
        Status::InvalidData => b"22000",
        Status::Timeout | Status::Cancelled => b"57014",
        Status::IO => b"58030",
        _ => b"HY000",
    };
    converted.sqlstate = state.map(|byte| byte as std::os::raw::c_char);
    converted
}

/// Returns SQLite's code if the error is SQLite's.
fn sqlite(source: &vexact::Error) -> Option<rusqlite::ffi::Error> {
    match source {
        vexact::Error::Shared(source) => sqlite(source),
        vexact::Error::Sqlite { source, .. } => source.sqlite_error().copied(),
        _ => None,
    }
}

fn status(source: &vexact::Error) -> Status {
    match source {
        vexact::Error::Interrupted(_) => Status::Cancelled,
        vexact::Error::Shared(source) => status(source),
        // The engine refused a statement or a value.
        vexact::Error::Engine(_) => Status::InvalidArguments,
        vexact::Error::Sqlite { .. } => match sqlite(source).map(|code| code.code) {
            Some(ErrorCode::ConstraintViolation) => Status::Integrity,
            Some(ErrorCode::OperationInterrupted) => Status::Cancelled,
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Status::InvalidData,
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
                | ErrorCode::PermissionDenied,
            ) => Status::IO,
            _ => Status::InvalidArguments,
        },
        _ => match source.kind() {
            ErrorKind::Value => Status::InvalidArguments,
            ErrorKind::FileNotFound => Status::NotFound,
            ErrorKind::Io => Status::IO,
            // ADBC has no status for it; an unknown one is an OperationalError in Python.
            ErrorKind::Resources => Status::Unknown,
            ErrorKind::Execution => Status::InvalidData,
            ErrorKind::Timeout => Status::Timeout,
            ErrorKind::Internal => Status::Internal,
        },
    }
}
