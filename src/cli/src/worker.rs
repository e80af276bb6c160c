//! `vexact worker`: runs parts of queries of other processes.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};
use vexact::sources::object_stores::{StoreOptions, shown};
use vexact_cluster::{Listening, WorkerOptions, serve};
use vexact_core::error::Error;
use vexact_sql::deep::THREAD_STACK;

use super::answer::Answer;
use super::failure::{During, Failure};
use super::format::Format;
use super::output::{print, remark};
use super::workers::token_of;

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"listening\", \"version\", \"threads\"}, at once; then tasks are run until SIGTERM or Ctrl-C: no more tasks are
        taken, and those that run have 30 seconds to end.
        Whoever reaches a worker reads files with it: beyond this machine it needs a token, and TLS to keep the token secret.

Examples:
  vexact worker --listen 127.0.0.1:8815
  vexact worker --listen 0.0.0.0:8815 --token-file token --tls-cert cert.pem --tls-key key.pem --allow /data --memory 8g")]
pub(super) struct WorkerCommand {
    /// The address, with port 0 for a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: String,
    /// A file with the token that clients must have
    #[arg(long, value_name = "PATH")]
    pub token_file: Option<PathBuf>,
    /// A PEM file with the certificate chain of TLS
    #[arg(long, value_name = "PATH", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with the key of the certificate
    #[arg(long, value_name = "PATH", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// A folder, or a prefix of URLs, whose files may be read; several times for more. [default: all]
    #[arg(long, value_name = "PREFIX")]
    pub allow: Vec<String>,
    /// A JSON file with options of object stores by their URLs, {"s3://docs": {"region": "eu-central-1"}}. A store
    /// without options takes them from the environment
    #[arg(long, value_name = "PATH")]
    pub object_stores: Option<PathBuf>,
    /// The most memory of all tasks: a number of bytes, or with k, m, g. [default: three quarters of the machine's]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub memory: Option<usize>,
    /// The number of threads. [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// Parses a number of bytes: `1048576`, `1024k`, `512m`, `8g`.
pub(super) fn bytes(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, shift) = match lower.strip_suffix(['k', 'm', 'g']) {
        None => (lower.as_str(), 0),
        Some(digits) => (
            digits,
            if lower.ends_with('k') {
                10
            } else if lower.ends_with('m') {
                20
            } else {
                30
            },
        ),
    };
    let number = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(1 << shift));
    number
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("expected a number of bytes such as 512m or 8g, got {text:?}"))
}

/// Reads options of object stores from a JSON file. Their values are in no error.
///
/// # Errors
/// A file that cannot be read or is no object of objects; an option that a store does not have.
fn stores_of(path: &Path) -> vexact_core::error::Result<StoreOptions> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    let bad = |problem: String| Error::BadFile { path: path.into(), problem };
    let expected = "expected a JSON object of URLs, each with an object of options";
    let Ok(Value::Object(stores)) = serde_json::from_str(&text) else { return Err(bad(expected.into())) };
    let mut options = StoreOptions::default();
    for (url, given) in stores {
        let Value::Object(given) = given else { return Err(bad(format!("{}: {expected}", shown(&url)))) };
        let mut values = Vec::with_capacity(given.len());
        for (key, value) in given {
            let text = match value {
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                _ => return Err(bad(format!("{}: {key}: expected a text, true, false or a number", shown(&url)))),
            };
            values.push((key, text));
        }
        options.set(&url, values).map_err(|error| bad(error.to_string()))?;
    }
    Ok(options)
}

impl WorkerCommand {
    /// Returns the details of a failure of this command.
    pub fn details(&self) -> Map<String, Value> {
        Map::from_iter([("command".to_owned(), "worker".into()), ("listen".to_owned(), self.listen.clone().into())])
    }
}

/// Prints the address, and serves until a signal. The answer after its end is empty.
pub(super) fn run(command: WorkerCommand, format: Format) -> Result<Answer, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = command.threads.map_or(cores, usize::from);
    // Tasks compute on these threads for long, and connections must be served meanwhile.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2 * threads + 2)
        .thread_stack_size(THREAD_STACK)
        .enable_all()
        .build()
        .map_err(|error| Failure::internal("start", format!("no threads: {error}")))?;
    let ended = runtime.block_on(serving(command, threads, format));
    // Tasks that have not ended by now end with the process.
    runtime.shutdown_background();
    ended.map(|()| Answer::Text(String::new()))
}

async fn serving(command: WorkerCommand, threads: usize, format: Format) -> Result<(), Failure> {
    let options = WorkerOptions {
        listen: command.listen,
        token: command.token_file.as_deref().map(token_of).transpose().during("start")?,
        tls: command.tls_cert.zip(command.tls_key),
        allow: command.allow,
        object_stores: command.object_stores.as_deref().map(stores_of).transpose().during("start")?.unwrap_or_default(),
        memory_bytes: command.memory,
        threads,
    };
    let stop = stopped().map_err(|error| Failure::internal("start", format!("signals cannot be caught: {error}")))?;
    let listening = |listening: &Listening| {
        let answer =
            Answer::Listening { listening: listening.url(), version: listening.version(), threads: listening.threads };
        match answer.rendered(format) {
            Ok(text) => drop(print(&text, 0)),
            Err(failure) => remark(failure),
        }
    };
    serve(options, listening, stop).await.during("serve")
}

/// Returns the end of the wait for SIGTERM or Ctrl-C, which are caught from now on.
#[cfg(unix)]
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler the signal ends the process.
        let _ = tokio::signal::ctrl_c().await;
    })
}

#[cfg(test)]
mod tests {
    use super::{bytes, stores_of};

    #[test]
    fn errors_of_the_file_of_stores_name_it_and_have_no_values() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let of = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            stores_of(file.path())
        };
        assert!(of(r#"{"s3://docs": {"secret_access_key": "marker", "allow_http": true, "max_retries": 2}}"#).is_ok());
        for (text, expected) in [
            ("marker", "expected a JSON object of URLs"),
            (r#"{"s3://docs": "marker"}"#, "s3://docs: expected a JSON object"),
            (r#"{"s3://docs": {"region": ["marker"]}}"#, "s3://docs: region: expected a text"),
            (r#"{"s3://docs": {"secret": "marker"}}"#, "s3://docs: unknown option \"secret\""),
        ] {
            let error = of(text).unwrap_err().to_string();
            let path = file.path().to_string_lossy().into_owned();
            assert!(error.starts_with(&path) && error.contains(expected) && !error.contains("marker"), "{error}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [("1", 1), ("10k", 10 << 10), ("512M", 512 << 20), ("8g", 8 << 30)] {
            assert_eq!(bytes(text), Ok(expected));
        }
        for bad in ["", "0", "g", "-1", "1.5g", "8t", "99999999999g"] {
            assert!(bytes(bad).unwrap_err().contains(bad), "{bad:?}");
        }
    }
}
