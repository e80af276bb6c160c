//! Errors of stores, with the URL, and without what a server or a client says of credentials.

use std::io::{self, ErrorKind};

use object_store::Error as StoreError;
use vexact_core::error::Error;

use super::options::Secrets;
use crate::input::CHANGED;

const MOST_BYTES: usize = 300;
/// Parts of errors of requests for the role of the machine, which are sent if there are no other
/// credentials.
const METADATA: [&str; 4] = ["/latest/api/token", "/latest/meta-data", "/metadata/identity", "/computeMetadata/"];

/// Returns the error of a request for an object or a store.
pub(super) fn named(url: &str, error: &StoreError, secrets: &Secrets) -> Error {
    let text = error.to_string();
    let io = |kind: ErrorKind, problem: String| Error::Io {
        path: url.into(),
        source: io::Error::new(kind, secrets.masked(&problem)),
    };
    let answer = answer(&text);
    // Listings have errors without a kind.
    let has_status = |status: &str| answer.as_ref().is_some_and(|answer| answer.starts_with(status));
    let is_denied = has_status("401") || has_status("403");
    match error {
        StoreError::NotFound { .. } => Error::FileNotFound { path: url.into() },
        StoreError::Generic { .. } if has_status("404") => Error::FileNotFound { path: url.into() },
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } | StoreError::Generic { .. }
            if is_denied || !matches!(error, StoreError::Generic { .. }) =>
        {
            let got = answer.unwrap_or_else(|| "no access".into());
            let hint = "check the credentials, from the environment or object_stores";
            io(ErrorKind::PermissionDenied, format!("expected access, got {got}: {hint}"))
        }
        StoreError::Precondition { .. } | StoreError::NotModified { .. } => {
            Error::BadFile { path: url.into(), problem: CHANGED.into() }
        }
        StoreError::AlreadyExists { .. } => io(ErrorKind::AlreadyExists, "expected no such object, got one".into()),
        StoreError::NotSupported { .. } => io(
            ErrorKind::Unsupported,
            "expected a server that returns parts of files (HTTP Range), got whole ones".into(),
        ),
        StoreError::NotImplemented { operation, .. } => {
            io(ErrorKind::Unsupported, format!("expected a store that supports {operation}, got one that does not"))
        }
        StoreError::InvalidPath { source } => {
            Error::InvalidArgument(format!("{url}: expected a key, got {}", secrets.masked(&source.to_string())))
        }
        _ if METADATA.iter().any(|part| text.contains(part)) => {
            let hint = "set them in the environment or object_stores, or skip_signature for public objects";
            io(ErrorKind::PermissionDenied, format!("expected credentials, got none: {hint}"))
        }
        _ => {
            let retries = after(&text);
            match answer {
                Some(answer) => io(ErrorKind::Other, format!("expected an answer, got {answer}{retries}")),
                None => {
                    let (kind, reason) = reason(error);
                    io(kind, format!("expected an answer, got: {reason}{retries}"))
                }
            }
        }
    }
}

/// Returns the error of a store whose client cannot be created from its options.
pub(super) fn refused(url: &str, error: &StoreError, secrets: &Secrets) -> Error {
    let (_, reason) = reason(error);
    Error::InvalidArgument(format!("{url}: {}", secrets.masked(&reason)))
}

/// Returns the error of a store as one of ours. Errors of stores with a URL are ours already.
pub fn own(path: &std::path::Path, error: StoreError) -> Error {
    let missing = matches!(error, StoreError::NotFound { .. });
    let source = match error {
        StoreError::Generic { source, .. }
        | StoreError::NotFound { source, .. }
        | StoreError::AlreadyExists { source, .. }
        | StoreError::Precondition { source, .. }
        | StoreError::NotModified { source, .. }
        | StoreError::PermissionDenied { source, .. }
        | StoreError::Unauthenticated { source, .. }
        | StoreError::NotSupported { source } => source,
        other => Box::new(other),
    };
    match source.downcast::<Error>() {
        Ok(own) => *own,
        Err(_) if missing => Error::FileNotFound { path: path.into() },
        Err(source) => Error::Io { path: path.into(), source: io::Error::other(source) },
    }
}

/// Wraps our error in an error of the same kind as the store's.
pub(super) fn wrapped(error: &StoreError, own: Error) -> StoreError {
    let source = Box::new(own);
    match error {
        StoreError::NotFound { path, .. } => StoreError::NotFound { path: path.clone(), source },
        StoreError::AlreadyExists { path, .. } => StoreError::AlreadyExists { path: path.clone(), source },
        StoreError::Precondition { path, .. } => StoreError::Precondition { path: path.clone(), source },
        StoreError::NotModified { path, .. } => StoreError::NotModified { path: path.clone(), source },
        StoreError::PermissionDenied { path, .. } => StoreError::PermissionDenied { path: path.clone(), source },
        StoreError::Unauthenticated { path, .. } => StoreError::Unauthenticated { path: path.clone(), source },
        StoreError::NotSupported { .. } => StoreError::NotSupported { source },
        _ => StoreError::Generic { store: "object store", source },
    }
}

/// Returns the status of a server's answer, with the code in its body: `503 Service Unavailable
/// (SlowDown)`. The rest of a body may repeat what was sent.
fn answer(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("status code: ")?;
    let status = rest.split([':', '\n']).next()?.trim();
    let code = rest.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let code = code.filter(|code| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    Some(code.map_or_else(|| status.to_owned(), |code| format!("{status} ({code})")))
}

/// Returns the number of retries in an error's text: ` after 4 retries`.
fn after(text: &str) -> String {
    let count = text.split_once(", after ").and_then(|(_, rest)| rest.split_once(" retries"));
    count.map_or_else(String::new, |(count, _)| format!(" after {count} retries"))
}

/// Returns the innermost cause of an error, which has neither the URL nor the headers of a request.
fn reason(error: &StoreError) -> (ErrorKind, String) {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    let mut is_timeout = false;
    while let Some(source) = cause.source() {
        cause = source;
        is_timeout |= cause.to_string().contains("timed out");
    }
    let kind = if is_timeout { ErrorKind::TimedOut } else { ErrorKind::Other };
    let mut text = cause.to_string();
    if text == "URL scheme is not allowed" {
        text = "an endpoint without TLS (set allow_http, or AWS_ALLOW_HTTP, to true)".into();
    }
    if let Some((end, _)) = text.char_indices().nth(MOST_BYTES) {
        text.truncate(end);
    }
    (kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> StoreError {
        StoreError::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn an_error_has_the_url_and_the_status_and_no_body() {
        let text = "Error performing GET http://h/a?sig=marker in 1s, after 4 retries, max_retries: 4, retry_timeout: 30s  - \
                    Server returned non-2xx status code: 503 Service Unavailable: <Error><Code>SlowDown</Code><K>marker</K>";
        let error = named("s3://b/a", &generic(text), &Secrets::default());
        let expected = "s3://b/a: expected an answer, got 503 Service Unavailable (SlowDown) after 4 retries";
        assert_eq!(error.to_string(), expected);
        let denied = StoreError::PermissionDenied {
            path: "a".into(),
            source: "status code: 403 Forbidden: <Code>SignatureDoesNotMatch</Code>marker".into(),
        };
        let error = named("s3://b/a", &denied, &Secrets::default());
        let text = error.to_string();
        assert!(
            text.starts_with("s3://b/a: expected access, got 403 Forbidden (SignatureDoesNotMatch): check"),
            "{text}"
        );
        let again = own(std::path::Path::new("x"), wrapped(&denied, error));
        assert_eq!(again.to_string(), text);
    }
}
