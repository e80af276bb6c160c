//! Errors across processes: a task's error keeps its kind and text, and a lost worker is named.

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use tonic::{Code, Status};
use url::Url;
use vexact_core::error::{Error, ErrorKind};

/// Marks the error of a task; the kind follows it.
const MARK: &str = "vexact-error:";

/// Returns the error of a task for the way to the coordinator. The transport keeps the errors of
/// DataFusion and Arrow as they are; others travel as their kind and text.
pub(crate) fn sent(error: DataFusionError) -> DataFusionError {
    let is_kept = match error.find_root() {
        DataFusionError::ArrowError(error, _) => {
            !matches!(error.as_ref(), ArrowError::ExternalError(_) | ArrowError::ParquetError(_))
        }
        DataFusionError::Execution(_) | DataFusionError::Plan(_) | DataFusionError::ResourcesExhausted(_) => true,
        _ => false,
    };
    if is_kept {
        return error;
    }
    let error = Error::from(error);
    let (kind, text) = (error.kind(), error.to_string());
    DataFusionError::Context(format!("{MARK}{}", kind.name()), Box::new(DataFusionError::Execution(text)))
}

/// Returns a rejection of a task for the way to the coordinator.
pub(crate) fn rejected(problem: String) -> DataFusionError {
    sent(external(Error::InvalidArgument(problem)))
}

/// Returns an error of vexact as DataFusion's, its source kept.
pub(crate) fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Returns the error of vexact that [`external`] wrapped, or another error as that of a query.
pub(crate) fn unwrapped(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(source) => match source.downcast::<Error>() {
            Ok(own) => *own,
            Err(source) => Error::Query(DataFusionError::External(source)),
        },
        other => Error::Query(other),
    }
}

/// Returns the error that the coordinator reports: the error of a task as it would be without
/// workers.
pub(crate) fn received(error: DataFusionError) -> DataFusionError {
    match marked(&error) {
        Some((kind, problem)) => external(Error::Task { kind, problem }),
        None => error,
    }
}

fn marked(error: &DataFusionError) -> Option<(ErrorKind, String)> {
    match error {
        DataFusionError::Context(context, inner) => {
            match (context.strip_prefix(MARK).and_then(ErrorKind::of_name), inner.as_ref()) {
                (Some(kind), DataFusionError::Execution(text)) => Some((kind, text.clone())),
                _ => marked(inner),
            }
        }
        DataFusionError::Shared(inner) => marked(inner),
        DataFusionError::Diagnostic(_, inner) => marked(inner),
        DataFusionError::External(source) => marked(source.downcast_ref::<DataFusionError>()?),
        _ => None,
    }
}

/// Returns the lost worker of an error, as it was named by [`of_worker`].
pub(crate) fn lost_worker(error: &DataFusionError) -> Option<&str> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(Error::Worker { worker, is_lost: true, .. }) = error.downcast_ref::<Error>() {
            return Some(worker);
        }
        cause = error.source();
    }
    None
}

/// Names the worker in an error of the transport, and returns other errors unchanged.
pub(crate) fn of_worker(url: &Url, error: DataFusionError) -> DataFusionError {
    match status(&error) {
        Some(status) => external(worker_error(url, status)),
        None if is_missing_plan(&error) => external(Error::Worker {
            worker: name(url),
            problem: "it was lost: it got no plan for its task in time".into(),
            is_lost: true,
        }),
        None => error,
    }
}

/// Returns a worker's address as errors and explains show it.
pub(crate) fn name(url: &Url) -> String {
    match (url.host_str(), url.port_or_known_default()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        _ => url.to_string(),
    }
}

/// Returns the error of a request that a worker did not answer.
pub(crate) fn worker_error(url: &Url, status: &Status) -> Error {
    let (problem, is_lost) = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => (status.message().to_owned(), false),
        Code::Unimplemented => ("expected a worker of vexact, got another service".into(), false),
        _ if let Some(problem) = tls_problem(status) => (format!("TLS: {problem}"), false),
        Code::ResourceExhausted => (format!("it has no resources left: {}", status.message()), false),
        _ => (format!("it was lost: {}", reason(status)), true),
    };
    Error::Worker { worker: name(url), problem, is_lost }
}

/// Returns the problem of a certificate or of the protocol of TLS, which another attempt has too.
fn tls_problem(status: &Status) -> Option<String> {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()).or_else(|| error.downcast_ref());
        if let Some(error) = found {
            return Some(error.to_string());
        }
        cause = error.source();
    }
    None
}

/// Returns the reason of a failed transport, the innermost first: what the operating system says.
fn reason(status: &Status) -> String {
    let mut reason = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        reason = error.to_string();
        cause = error.source();
    }
    if reason.is_empty() { format!("{:?}", status.code()) } else { reason }
}

fn status(error: &DataFusionError) -> Option<&Status> {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => status(inner),
        DataFusionError::Shared(inner) => status(inner),
        DataFusionError::External(source) => match source.downcast_ref::<DataFusionError>() {
            Some(inner) => status(inner),
            None => source.downcast_ref::<Status>(),
        },
        _ => None,
    }
}

/// Returns true if a task was asked for its rows and its plan never came.
fn is_missing_plan(error: &DataFusionError) -> bool {
    let text = "timed-out while waiting for the plan";
    matches!(error.find_root(), DataFusionError::Execution(problem) if problem.contains(text))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_error_of_a_task_keeps_its_kind_and_text() {
        let missing = Error::FileNotFound { path: "/data/a.parquet".into() };
        let text = missing.to_string();
        let error = sent(external(missing));
        // As the transport does.
        let error = DataFusionError::Shared(Arc::new(error.context("somewhere")));
        let error = Error::from(received(error));
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::FileNotFound, text));
        let cast = DataFusionError::ArrowError(Box::new(ArrowError::CastError("NaN".into())), None);
        assert!(matches!(sent(cast), DataFusionError::ArrowError(..)));
        let plain = DataFusionError::Plan("as it is".into());
        assert_eq!(received(plain).to_string(), DataFusionError::Plan("as it is".into()).to_string());
    }

    #[test]
    fn a_failure_of_the_transport_names_its_worker() {
        let url = Url::parse("http://w1:8815").unwrap();
        let lost = of_worker(&url, external_status(Status::unavailable("connection refused")));
        assert_eq!(lost_worker(&lost), Some("w1:8815"));
        let text = Error::from(lost).to_string();
        assert_eq!(text, "worker w1:8815: it was lost: connection refused");
        let refused = of_worker(&url, external_status(Status::unauthenticated("expected another token")));
        assert_eq!(lost_worker(&refused), None);
        assert_eq!(Error::from(refused).to_string(), "worker w1:8815: expected another token");
        let other = of_worker(&url, DataFusionError::Plan("a plan".into()));
        assert!(matches!(other, DataFusionError::Plan(_)));
    }

    fn external_status(status: Status) -> DataFusionError {
        DataFusionError::Shared(Arc::new(DataFusionError::External(Box::new(status))))
    }
}
