//! The errors of vexact, each with its source and with the action that is open to the user.

use std::path::{Path, PathBuf};

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use vexact_kernel::KernelError;

/// The result of every fallible call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of a session or an engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An invalid argument. The message has its name, the expected value and the actual one.
    #[error("{0}")]
    InvalidArgument(String),
    /// A file or folder that does not exist.
    #[error("file not found: {path}")]
    FileNotFound {
        /// Path as given.
        path: PathBuf,
    },
    /// A folder to write into that does not exist.
    #[error("folder not found: {path}")]
    FolderNotFound {
        /// Path as given.
        path: PathBuf,
    },
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder that was read or written.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The content of a file is invalid.
    #[error("{path}: {problem}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// Line and column if they are known, the expected content and the actual one.
        problem: String,
    },
    /// A vector search was rejected.
    #[error("{context}: {source}")]
    Vector {
        /// The table and column.
        context: String,
        /// The kernel's reason.
        source: KernelError,
    },
    /// SQLite rejected a statement or failed.
    #[error("{context}: {source}")]
    Sqlite {
        /// The operation that failed.
        context: String,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A PostgreSQL server rejected a statement, failed or could not be reached.
    #[error("{context}: {problem}")]
    Postgres {
        /// The server, without a password.
        context: String,
        /// The server's message, or the reason for which the connection failed.
        problem: String,
        /// True if the server answered with this error; false if the connection failed.
        is_answer: bool,
        /// The client's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// DuckDB rejected a query or failed.
    #[error("DuckDB: {0}")]
    DuckDb(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The engine rejected a statement, a value or a call. The message has its name, the expected
    /// value and the actual one.
    #[error("{0}")]
    Engine(String),
    /// A query was cancelled.
    #[error("the query was interrupted: {0}")]
    Interrupted(String),
    /// A query exceeded its timeout.
    #[error("the query was ended: expected its end within {limit:?} (the setting vexact.timeout), got none")]
    TimedOut {
        /// The timeout.
        limit: std::time::Duration,
    },
    /// A fault of the library: it panicked.
    #[error(
        "internal error: {problem}; in {statement}. The fault is vexact's: please report it with the statement and the file"
    )]
    Internal {
        /// The statement or call that was executed.
        statement: String,
        /// The message of the panic.
        problem: String,
    },
    /// An error that several callers receive: the one that ended a streaming query.
    #[error("{0}")]
    Shared(std::sync::Arc<Error>),
    /// A worker failed at its part of a query. The message is that of the failure, as it would be
    /// without workers.
    #[error("{problem}")]
    Task {
        /// The kind of the failure.
        kind: ErrorKind,
        /// The failure's message.
        problem: String,
    },
    /// A worker could not be used: it cannot be reached, was lost, or rejected the request.
    #[error("worker {worker}: {problem}")]
    Worker {
        /// The worker's address.
        worker: String,
        /// The reason.
        problem: String,
        /// True if another attempt without the worker may succeed.
        is_lost: bool,
    },
    /// A query failed: planning or execution.
    #[error("{}", shown(.0))]
    Query(#[from] DataFusionError),
}

/// The category of a failure, for callers that map errors (Python's exceptions, exit codes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong: a retry fails again.
    Value,
    /// A file or folder is missing.
    FileNotFound,
    /// The operating system rejected an operation.
    Io,
    /// Memory or another limit was reached.
    Resources,
    /// A failure while running.
    Execution,
    /// A timeout.
    Timeout,
    /// A fault of the library.
    Internal,
}

impl ErrorKind {
    const NAMES: [(Self, &'static str); 7] = [
        (Self::Value, "value"),
        (Self::FileNotFound, "file_not_found"),
        (Self::Io, "io"),
        (Self::Resources, "resources"),
        (Self::Execution, "execution"),
        (Self::Timeout, "timeout"),
        (Self::Internal, "internal"),
    ];

    /// Returns the name by which processes tell each other the kind.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("execution", |(_, name)| name)
    }

    /// Returns the kind of a name; `None` for another name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, own)| *own == name).map(|(kind, _)| *kind)
    }
}

impl Error {
    /// Returns the error of every call after `shutdown`.
    pub fn shut_down() -> Self {
        Self::Engine("the engine was shut down".into())
    }

    /// Classifies the error by its root cause.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::InvalidArgument(_) | Error::BadFile { .. } | Error::Vector { .. } => ErrorKind::Value,
            Error::FileNotFound { .. } | Error::FolderNotFound { .. } => ErrorKind::FileNotFound,
            Error::Io { .. } => ErrorKind::Io,
            Error::Postgres { is_answer: false, .. } => ErrorKind::Io,
            Error::Shared(error) => error.kind(),
            Error::Task { kind, .. } => *kind,
            Error::Worker { .. } => ErrorKind::Io,
            Error::TimedOut { .. } => ErrorKind::Timeout,
            Error::Internal { .. } => ErrorKind::Internal,
            Error::Postgres { .. }
            | Error::Sqlite { .. }
            | Error::DuckDb(_)
            | Error::Engine(_)
            | Error::Interrupted(_) => ErrorKind::Execution,
            Error::Query(error) if let Some(error) = within(error) => error.kind(),
            Error::Query(error) => match error.find_root() {
                DataFusionError::ResourcesExhausted(_) => ErrorKind::Resources,
                DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) => ErrorKind::Io,
                DataFusionError::Plan(_)
                | DataFusionError::SQL(..)
                | DataFusionError::SchemaError(..)
                | DataFusionError::Configuration(_)
                | DataFusionError::NotImplemented(_) => ErrorKind::Value,
                DataFusionError::External(source)
                    if source.is::<KernelError>() || source.is::<vexact_sql::VectorError>() =>
                {
                    ErrorKind::Value
                }
                _ => ErrorKind::Execution,
            },
        }
    }

    /// Wraps an error of Arrow as an error of a query.
    pub fn arrow(source: arrow::error::ArrowError) -> Self {
        Error::Query(source.into())
    }

    /// Wraps an error of the operating system at a path: [`Error::FileNotFound`] if the path does
    /// not exist, else [`Error::Io`].
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::NotFound => Error::FileNotFound { path: path.into() },
            _ => Error::Io { path: path.into(), source },
        }
    }
}

/// Returns DataFusion's message, in which a column of a frame without a name has no qualifier.
fn shown(error: &DataFusionError) -> String {
    let text = message(error);
    match text.contains("?table?") {
        true => text.replace("\"?table?\".", "").replace("?table?.", ""),
        false => text,
    }
}

/// Returns DataFusion's message without the hint to report planning errors as bugs, contexts
/// outermost first.
fn message(error: &DataFusionError) -> String {
    match error {
        // The name of the optimizer rule that found the error is of no use to a user.
        DataFusionError::Context(context, inner)
            if context.starts_with("vexact_") || context.starts_with("Optimizer rule 'vexact_") =>
        {
            message(inner)
        }
        DataFusionError::Context(context, inner) => format!("{context}: {}", message(inner)),
        DataFusionError::Shared(inner) => message(inner),
        DataFusionError::Diagnostic(_, inner) => message(inner),
        DataFusionError::External(source) => match source.downcast_ref::<DataFusionError>() {
            Some(inner) => message(inner),
            None => source.to_string(),
        },
        DataFusionError::SQL(error, _) => match error.as_ref() {
            ParserError::TokenizerError(problem) | ParserError::ParserError(problem) => format!("SQL error: {problem}"),
            ParserError::RecursionLimitExceeded => "SQL error: it is nested too deeply".into(),
        },
        other => within(other).map_or_else(|| other.strip_backtrace(), Error::to_string),
    }
}

/// Returns the error of vexact inside another library's error: Arrow and Parquet wrap the errors of
/// the readers that they call.
fn within(error: &DataFusionError) -> Option<&Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(own) = error.downcast_ref::<Error>() {
            return Some(own);
        }
        cause = error.source();
    }
    None
}
