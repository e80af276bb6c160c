//! Failures as a user sees them.

use std::fmt;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use rusqlite::ErrorCode;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use vexact_core::error::{Error, ErrorKind, Result};
use vexact_workspace::{RunError, RunOutcome};

/// The category of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ErrorType {
    /// The arguments are no valid command.
    UsageError,
    /// The request, the data or a file's content is wrong: a retry fails again.
    ValueError,
    /// A file or folder is missing.
    FileNotFound,
    /// It took too long, or another program held the database's lock.
    Timeout,
    /// The machine or the program failed.
    InternalError,
}

impl ErrorType {
    /// As JSON has it.
    fn name(self) -> &'static str {
        match self {
            Self::UsageError => "usage_error",
            Self::ValueError => "value_error",
            Self::FileNotFound => "file_not_found",
            Self::Timeout => "timeout",
            Self::InternalError => "internal_error",
        }
    }
}

impl Serialize for ErrorType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The answer of a command that failed.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    ok: bool,
    error: String,
    error_type: ErrorType,
    /// The phase of the command in which it failed.
    phase: &'static str,
    details: Map<String, Value>,
    /// The tracked run that it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
    /// True if a signal cancelled the command.
    #[serde(skip)]
    is_cancelled: bool,
}

impl Failure {
    fn new(error_type: ErrorType, phase: &'static str, error: String) -> Self {
        Self { ok: false, error, error_type, phase, details: Map::new(), run_id: None, is_cancelled: false }
    }

    /// Returns the failure for arguments that are valid one by one, but not in combination or in
    /// their content.
    pub fn usage(error: impl Into<String>) -> Self {
        Self::new(ErrorType::UsageError, "arguments", error.into())
    }

    /// Returns the failure for an operation that the machine or the program did not complete.
    pub fn internal(phase: &'static str, error: impl Into<String>) -> Self {
        Self::new(ErrorType::InternalError, phase, error.into())
    }

    /// Returns the failure for a command that exceeded its timeout.
    pub fn timed_out(limit_ms: u64) -> Self {
        let error = format!("expected an end within {limit_ms} ms, got none");
        let mut failure = Self::new(ErrorType::Timeout, "run", error);
        failure.details.insert("timeout_ms".into(), limit_ms.into());
        failure
    }

    /// Returns the failure for a command that a signal cancelled.
    pub fn cancelled(signal: &'static str) -> Self {
        let mut failure = Self::new(ErrorType::InternalError, "run", format!("cancelled by {signal}"));
        failure.details.insert("signal".into(), signal.into());
        Self { is_cancelled: true, ..failure }
    }

    /// Returns the outcome of a tracked run that ended with this failure.
    pub fn outcome(&self) -> RunOutcome {
        let error = RunError {
            error: self.error.clone(),
            error_type: self.error_type.name().into(),
            phase: self.phase.into(),
            details: self.details.clone(),
        };
        match (self.is_cancelled, self.error_type) {
            (true, _) => RunOutcome::Cancelled(error),
            (false, ErrorType::Timeout) => RunOutcome::TimedOut(error),
            _ => RunOutcome::Failed(error),
        }
    }

    /// Adds the id of the run that this failure ended.
    pub fn of_run(self, run_id: &str) -> Self {
        Self { run_id: Some(run_id.to_owned()), ..self }
    }

    /// Returns the failure for arguments that are no valid command.
    pub fn of_usage(error: &clap::Error) -> Self {
        if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            let mut failure = Self::usage("expected a command, got none");
            failure.details.insert("hint".into(), "vexact --help".into());
            return failure;
        }
        // The message, tips and the usage are paragraphs.
        let text = error.render().to_string();
        let mut paragraphs = text.split("\n\n").map(|paragraph| {
            let lines: Vec<&str> = paragraph.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            lines.join(" ")
        });
        let message = paragraphs.next().unwrap_or_default();
        let mut failure = Self::usage(message.strip_prefix("error: ").unwrap_or(&message));
        for paragraph in paragraphs {
            for (name, prefix) in [("usage", "Usage: "), ("hint", "tip: ")] {
                if let Some(rest) = paragraph.strip_prefix(prefix) {
                    failure.details.insert(name.into(), rest.into());
                }
            }
        }
        failure
    }

    /// Adds a hint to the failure of a missing file.
    pub fn with_hint(mut self, hint: &str) -> Self {
        if self.error_type == ErrorType::FileNotFound {
            self.details.insert("hint".into(), hint.into());
        }
        self
    }

    /// Adds the details of the command.
    pub fn with_details(mut self, details: Map<String, Value>) -> Self {
        self.details.extend(details);
        self
    }

    /// As one line of JSON.
    pub fn json(&self) -> String {
        // A tree of texts and numbers is always JSON.
        serde_json::to_string(self).unwrap_or_else(|error| error.to_string()) + "\n"
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.error)?;
        self.run_id.iter().try_for_each(|run_id| writeln!(f, "  run_id: {run_id}"))?;
        self.details.iter().try_for_each(|(name, value)| match value {
            Value::String(text) => writeln!(f, "  {name}: {text}"),
            other => writeln!(f, "  {name}: {other}"),
        })
    }
}

/// Adds the phase in which an operation failed.
pub(super) trait During<T> {
    fn during(self, phase: &'static str) -> Result<T, Failure>;
}

impl<T> During<T> for Result<T> {
    fn during(self, phase: &'static str) -> Result<T, Failure> {
        self.map_err(|error| {
            let mut failure = Failure::new(error_type(&error), phase, error.to_string());
            if let Error::Sqlite { source, .. } = &error
                && let Some(code) = source.sqlite_extended_error_code()
            {
                failure.details.insert("sqlite_code".into(), code.into());
            }
            failure
        })
    }
}

fn error_type(error: &Error) -> ErrorType {
    match error {
        // The engine's own refusals of statements, values and calls.
        Error::Engine(_) => ErrorType::ValueError,
        Error::Shared(error) => error_type(error),
        Error::Sqlite { source, .. } => match source {
            rusqlite::Error::SqlInputError { .. } => ErrorType::ValueError,
            source => source.sqlite_error_code().map_or(ErrorType::InternalError, of_sqlite),
        },
        Error::Query(query) => match (error.kind(), query.find_root()) {
            (ErrorKind::Execution, root) if is_of_data(root) => ErrorType::ValueError,
            (kind, _) => of_kind(kind),
        },
        other => of_kind(other.kind()),
    }
}

fn of_kind(kind: ErrorKind) -> ErrorType {
    match kind {
        ErrorKind::Value => ErrorType::ValueError,
        ErrorKind::FileNotFound => ErrorType::FileNotFound,
        ErrorKind::Timeout => ErrorType::Timeout,
        ErrorKind::Io | ErrorKind::Resources | ErrorKind::Execution | ErrorKind::Internal => ErrorType::InternalError,
    }
}

fn of_sqlite(code: ErrorCode) -> ErrorType {
    match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => ErrorType::Timeout,
        // `Unknown` is SQLite's plain ERROR: what a statement does wrong.
        ErrorCode::Unknown
        | ErrorCode::ConstraintViolation
        | ErrorCode::TypeMismatch
        | ErrorCode::TooBig
        | ErrorCode::ParameterOutOfRange
        | ErrorCode::AuthorizationForStatementDenied
        | ErrorCode::NotADatabase => ErrorType::ValueError,
        _ => ErrorType::InternalError,
    }
}

/// Returns true if the values of the data made a query fail, such as a division by zero or a cast
/// of text that is no number.
fn is_of_data(root: &DataFusionError) -> bool {
    match root {
        DataFusionError::Execution(_) => true,
        DataFusionError::ArrowError(error, _) => !matches!(
            error.as_ref(),
            ArrowError::IoError(..) | ArrowError::MemoryError(_) | ArrowError::ExternalError(_)
        ),
        _ => false,
    }
}
