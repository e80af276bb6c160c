//! The state of a worker, as it reports it.

use datafusion_distributed::GetWorkerInfoRequest;
use datafusion_distributed::grpc::{GetTaskProgressRequest, ObservabilityServiceClient, create_worker_client};
use serde_json::{Value, json};
use url::Url;
use vexact_core::error::{Error, Result};

use super::channel::{CONNECT, Channels};
use super::codec::PLAN_FORMAT;
use super::errors::{name, of_worker, unwrapped, worker_error};

/// The version of this library, which a worker and its coordinator must share.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A worker's description of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Its version of vexact.
    pub version: String,
    /// The format of the plans that it takes.
    pub plan_format: u64,
    /// Its threads.
    pub threads: usize,
    /// Its memory limit, in bytes; `None` for no limit.
    pub memory_bytes: Option<u64>,
}

impl WorkerInfo {
    /// Returns this process's.
    pub(crate) fn own(threads: usize, memory_bytes: Option<u64>) -> Self {
        Self { version: VERSION.into(), plan_format: PLAN_FORMAT.into(), threads, memory_bytes }
    }

    pub(crate) fn text(&self) -> String {
        json!({
            "version": self.version,
            "plan_format": self.plan_format,
            "threads": self.threads,
            "memory_bytes": self.memory_bytes,
        })
        .to_string()
    }

    fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        Some(Self {
            version: value["version"].as_str()?.into(),
            plan_format: value["plan_format"].as_u64()?,
            threads: usize::try_from(value["threads"].as_u64()?).ok()?.max(1),
            memory_bytes: value["memory_bytes"].as_u64(),
        })
    }
}

/// A worker that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Its address.
    pub worker: String,
    /// Its description of itself.
    pub info: WorkerInfo,
    /// Number of tasks that it has.
    pub tasks: usize,
}

/// Asks a worker for its version.
///
/// # Errors
/// [`Error::Worker`]: no answer in time, a rejected token, another version.
pub(crate) async fn info(channels: &Channels, url: &Url) -> Result<WorkerInfo> {
    let lost = |problem: String| Error::Worker { worker: name(url), problem, is_lost: true };
    let mut client = create_worker_client(channels.channel(url).map_err(unwrapped)?);
    let answer = tokio::time::timeout(CONNECT, client.get_worker_info(GetWorkerInfoRequest {})).await;
    let answer = answer.map_err(|_| lost(format!("expected an answer within {CONNECT:?}, got none")))?;
    let text = answer.map_err(|error| unwrapped(of_worker(url, error)))?.version;
    let own = format!("version {VERSION} (plan format {PLAN_FORMAT})");
    let differs = |got: String| Error::Worker {
        worker: name(url),
        problem: format!("expected vexact of {own}, got {got}"),
        is_lost: false,
    };
    match WorkerInfo::parse(&text) {
        None => Err(differs(format!("{text:?}"))),
        Some(info) if info.version != VERSION || info.plan_format != u64::from(PLAN_FORMAT) => {
            Err(differs(format!("version {} (plan format {})", info.version, info.plan_format)))
        }
        Some(info) => Ok(info),
    }
}

/// Asks a worker for its version and its tasks.
///
/// # Errors
/// As [`info`].
pub(crate) async fn status(channels: &Channels, url: &Url) -> Result<WorkerStatus> {
    let info = info(channels, url).await?;
    let mut client = ObservabilityServiceClient::new(channels.channel(url).map_err(unwrapped)?);
    let progress = tokio::time::timeout(CONNECT, client.get_task_progress(GetTaskProgressRequest {})).await;
    let progress = progress.map_err(|_| Error::Worker {
        worker: name(url),
        problem: format!("expected its tasks within {CONNECT:?}, got no answer"),
        is_lost: true,
    })?;
    let tasks = progress.map_err(|status| worker_error(url, &status))?.into_inner().tasks.len();
    Ok(WorkerStatus { worker: name(url), info, tasks })
}

#[cfg(test)]
mod tests {
    use datafusion_distributed::{Worker, WorkerQueryContext};
    use tokio::net::TcpListener;
    use tonic::transport::Server;
    use tonic::transport::server::TcpIncoming;

    use super::*;

    /// Returns the error of a client of a worker that says this about itself.
    async fn refusal(text: &str) -> Error {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let worker = Worker::from_session_builder(|query: WorkerQueryContext| async move { Ok(query.builder.build()) });
        let server = Server::builder().add_service(worker.with_version(text.to_owned()).into_worker_server());
        let serving = tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let error = info(&Channels::try_new(None, None).unwrap(), &url).await.unwrap_err();
        serving.abort();
        let Error::Worker { worker, is_lost, .. } = &error else { panic!("{error}") };
        // Another attempt would find the same worker.
        assert!(*worker == name(&url) && !is_lost, "{error}");
        error
    }

    #[tokio::test]
    async fn a_worker_of_another_version_is_refused_by_name() {
        let own = WorkerInfo::own(1, None);
        let older = WorkerInfo { version: "0.0.1".into(), ..own.clone() };
        let error = refusal(&older.text()).await.to_string();
        let expected = format!("expected vexact of version {VERSION} (plan format {PLAN_FORMAT}), got version 0.0.1");
        assert!(error.contains(&expected), "{error}");
        let other = WorkerInfo { plan_format: own.plan_format + 1, ..own };
        let error = refusal(&other.text()).await.to_string();
        assert!(error.ends_with(&format!("got version {VERSION} (plan format {})", PLAN_FORMAT + 1)), "{error}");
        let error = refusal("another program").await.to_string();
        assert!(error.ends_with("got \"another program\""), "{error}");
    }

    #[test]
    fn a_worker_is_described_by_its_text() {
        for memory in [None, Some(8 << 30)] {
            let info = WorkerInfo::own(8, memory);
            assert_eq!(WorkerInfo::parse(&info.text()), Some(info));
        }
        assert_eq!(WorkerInfo::parse(""), None);
        assert_eq!(WorkerInfo::parse("{}"), None);
    }
}
