//! The service of a worker.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result as PlanResult};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, empty::EmptyExec};
use datafusion_distributed::{
    DistributedExt, DistributedTaskContext, Worker, WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse,
    WorkerQueryContext, WorkerResolver,
};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Status};
use url::Url;
use vexact_core::error::{Error, Result};
use vexact_session::{Session, SessionOptions};
use vexact_sources::object_stores::{ObjectStores, StoreOptions};
use vexact_sql::exec::{PartialJoinExec, PartialTopKExec, TaskIndex};

use super::address::Secret;
use super::codec::Codec;
use super::errors::rejected;
use super::portable::scalar_functions;
use super::scan::parquet_scan;
use super::sent::SentRowsExec;
use super::settings::TaskSettings;
use super::status::{VERSION, WorkerInfo};
use super::task::{TaskExec, prepared};

/// Time after a stop request in which tasks may end.
const GRACE: Duration = Duration::from_secs(30);

/// How a worker listens, and what it may do.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// `host:port`; port 0 takes a free one.
    pub listen: String,
    /// The token that requests must have; `None` for none, which only loopback permits.
    pub token: Option<Secret>,
    /// A certificate chain and its key, as PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Folders and URL prefixes whose files may be read; all if there are none.
    pub allow: Vec<String>,
    /// Options of the object stores that it reads; a store without takes them from the environment.
    pub object_stores: StoreOptions,
    /// Maximum memory, in bytes, of the operators of all tasks; `None` for three quarters of the
    /// machine's.
    pub memory_bytes: Option<usize>,
    /// Number of partitions of a task, each of which is one thread's.
    pub threads: usize,
}

/// A worker that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// The address.
    pub address: SocketAddr,
    /// True if it is reached by TLS.
    pub is_tls: bool,
    /// The number of threads.
    pub threads: usize,
}

impl Listening {
    /// Returns the URL by which clients reach the worker.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_tls { "https" } else { "http" }, self.address)
    }

    /// Returns the version of the worker.
    pub fn version(&self) -> &'static str {
        VERSION
    }
}

/// Serves tasks until `stop` ends; then it takes no more tasks and lets those that it has end.
/// `listening` is called once the worker listens.
///
/// # Errors
/// An address that cannot be listened on, or is open to other machines without a token and TLS;
/// files that cannot be read.
pub async fn serve(
    options: WorkerOptions,
    listening: impl FnOnce(&Listening),
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let invalid = |problem: String| Error::InvalidArgument(format!("listen: {problem}"));
    let address = address(&options.listen).await?;
    if !is_loopback(address.ip()) && options.token.is_none() {
        let problem = format!(
            "expected a loopback address, or a token: whoever reaches the worker reads files with it, got {address}"
        );
        return Err(invalid(problem));
    }
    let listener = TcpListener::bind(address).await.map_err(|error| invalid(format!("{address}: {error}")))?;
    let address = listener.local_addr().map_err(|error| invalid(format!("{address}: {error}")))?;
    let session = Session::with_options(&SessionOptions {
        memory_limit_bytes: options.memory_bytes,
        target_partitions: Some(options.threads),
        object_stores: options.object_stores.clone(),
        ..SessionOptions::default()
    })?;
    let state = Arc::new(session.state());
    let info = WorkerInfo::own(options.threads, options.memory_bytes.map(|bytes| bytes as u64));
    let allow = Allow::try_new(&options.allow)?;
    let worker = worker(Arc::clone(&state), allow).with_version(info.text());
    let mut server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)));
    let is_tls = options.tls.is_some();
    if let Some((certificates, key)) = &options.tls {
        let read = |path: &Path| std::fs::read(path).map_err(|error| Error::io(path, error));
        let identity = Identity::from_pem(read(certificates)?, read(key)?);
        server = server.tls_config(ServerTlsConfig::new().identity(identity)).map_err(|error| Error::BadFile {
            path: certificates.clone(),
            problem: format!("expected a PEM certificate and key: {error}"),
        })?;
    }
    let check = Check(options.token.map(|token| Arc::from(format!("Bearer {}", token.text()))));
    let observed = worker.with_observability_service(Arc::new(NoWorkers));
    let router = server
        .add_service(InterceptedService::new(worker.into_worker_server(), check.clone()))
        .add_service(InterceptedService::new(observed, check));
    listening(&Listening { address, is_tls, threads: options.threads });
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = router.serve_with_incoming_shutdown(incoming, async {
        stop.await;
        // The receiver lives as long as the server.
        let _ = stopping.send(());
    });
    let failed = |error: tonic::transport::Error| Error::Worker {
        worker: address.to_string(),
        problem: error.to_string(),
        is_lost: false,
    };
    let overdue = async {
        // An error means that the server ended by itself.
        let _ = stopped.await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serving => served.map_err(failed),
        () = overdue => Ok(()),
    }
}

async fn address(text: &str) -> Result<SocketAddr> {
    let found = tokio::net::lookup_host(text).await.map(|mut found| found.next());
    match found {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(Error::InvalidArgument(format!("listen: expected host:port, got {text:?} without an address"))),
        Err(error) => Err(Error::InvalidArgument(format!("listen: expected host:port, got {text:?}: {error}"))),
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Rejects requests without the token.
#[derive(Debug, Clone)]
struct Check(Option<Arc<str>>);

impl tonic::service::Interceptor for Check {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(expected) = &self.0 else { return Ok(request) };
        let got = request.metadata().get("authorization").map(|value| value.as_bytes());
        match got {
            Some(got) if bool::from(got.ct_eq(expected.as_bytes())) => Ok(request),
            Some(_) => Err(Status::unauthenticated("it expects another token")),
            None => Err(Status::unauthenticated("it expects a token, got none")),
        }
    }
}

/// A worker knows no other workers.
struct NoWorkers;

impl WorkerResolver for NoWorkers {
    fn get_urls(&self) -> PlanResult<Vec<Url>> {
        Ok(Vec::new())
    }
}

/// Returns the service of a worker, whose functions and limits are those of a session.
fn worker(state: Arc<SessionState>, allow: Allow) -> Worker {
    let runtime: Arc<RuntimeEnv> = Arc::clone(state.runtime_env());
    let allow = Arc::new(allow);
    let build = move |query: WorkerQueryContext| {
        let (own, allow) = (Arc::clone(&state), Arc::clone(&allow));
        async move { task_state(query, &own, allow) }
    };
    Worker::from_session_builder(build).with_runtime_env(runtime)
}

/// Returns the state of a task: the functions and settings of the worker's session, and the settings
/// that the coordinator sent.
fn task_state(mut query: WorkerQueryContext, own: &SessionState, allow: Arc<Allow>) -> PlanResult<SessionState> {
    let mut config = query.builder.config().take().unwrap_or_default();
    config.options_mut().execution = own.config_options().execution.clone();
    config.options_mut().optimizer = own.config_options().optimizer.clone();
    config.options_mut().extensions.insert(vexact_sql::VexactOptions::of(own.config_options()));
    config.set_distributed_option_extension_from_headers::<TaskSettings>(&query.headers)?;
    let settings = config.options().extensions.get::<TaskSettings>().cloned().unwrap_or_default();
    settings.apply(config.options_mut())?;
    // A task's rows have the order of its files.
    config.options_mut().execution.enable_file_stream_work_stealing = false;
    let task = config.get_extension::<DistributedTaskContext>().map_or(0, |task| task.task_index);
    config.set_extension(Arc::new(TaskIndex(task)));
    let stores = own.config().get_extension::<ObjectStores>().unwrap_or_default();
    let rewrite = move |event: WorkerPlanRewriteEvent| -> PlanResult<WorkerPlanRewriteEventResponse> {
        allow.check(&event.plan)?;
        Ok(WorkerPlanRewriteEventResponse::new(prepared(event.plan, event.session_config.options(), &stores)?))
    };
    let builder: SessionStateBuilder = query
        .builder
        .with_config(config)
        .with_scalar_functions(scalar_functions(own))
        .with_aggregate_functions(own.aggregate_functions().values().cloned().collect())
        .with_window_functions(own.window_functions().values().cloned().collect())
        .with_distributed_user_codec(Codec)
        .with_distributed_worker_plan_rewrite_handler(rewrite);
    Ok(builder.build())
}

/// The files that a worker may read, and the operators that it runs.
#[derive(Debug)]
struct Allow {
    /// Prefixes of URLs; all files if there are none.
    prefixes: Vec<String>,
}

impl Allow {
    fn try_new(allow: &[String]) -> Result<Self> {
        let prefix = |text: &String| {
            let with_slash = |text: &str| format!("{}/", text.trim_end_matches('/'));
            if text.contains("://") {
                return Ok(with_slash(text));
            }
            let path = Path::new(text);
            if !path.is_absolute() {
                return Err(Error::InvalidArgument(format!(
                    "allow: expected an absolute path of a folder or a URL prefix, got {text:?}"
                )));
            }
            Ok(format!("file://{}", with_slash(text)))
        };
        Ok(Self { prefixes: allow.iter().map(prefix).collect::<Result<_>>()? })
    }

    /// Rejects a plan with a file that may not be read, or an operator that is in no task of vexact.
    fn check(&self, plan: &Arc<dyn ExecutionPlan>) -> PlanResult<()> {
        plan.apply(|node| {
            if !is_of_task(node.as_ref()) {
                return Err(rejected(format!("a worker runs scans of files and searches, got {}", node.name())));
            }
            if let Some(scan) = parquet_scan(node.as_ref()) {
                self.check_files(scan)?;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(())
    }

    fn check_files(&self, scan: &FileScanConfig) -> Result<(), DataFusionError> {
        if self.prefixes.is_empty() {
            return Ok(());
        }
        // The URL of the local files is file:///, that of a bucket s3://bucket/.
        let store = scan.object_store_url.as_str();
        let store = store.strip_suffix('/').unwrap_or(store);
        for file in scan.file_groups.iter().flat_map(|group| group.iter()) {
            let url = format!("{store}/{}", file.object_meta.location);
            if !self.prefixes.iter().any(|prefix| url.starts_with(prefix)) {
                return Err(rejected(format!("a worker may read only files under its --allow, got {url}")));
            }
        }
        Ok(())
    }
}

/// Returns true if an operator may be in the plan of a task.
fn is_of_task(node: &dyn ExecutionPlan) -> bool {
    let is_scan = parquet_scan(node).is_some() || node.is::<EmptyExec>() || node.is::<SentRowsExec>();
    is_scan
        || node.is::<TaskExec>()
        || node.is::<PartialTopKExec>()
        || node.is::<PartialJoinExec>()
        || node.is::<AggregateExec>()
        || node.is::<FilterExec>()
        || node.is::<ProjectionExec>()
        || node.is::<CooperativeExec>()
        || node.is::<SortExec>()
        || node.is::<LocalLimitExec>()
        || node.is::<GlobalLimitExec>()
}

#[cfg(test)]
mod tests {
    use datafusion::datasource::listing::PartitionedFile;
    use datafusion::datasource::physical_plan::{FileScanConfigBuilder, ParquetSource};
    use datafusion::datasource::source::DataSourceExec;
    use datafusion::execution::object_store::ObjectStoreUrl;
    use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;

    use super::*;

    fn scan(path: &str) -> Arc<dyn ExecutionPlan> {
        let schema = Arc::new(arrow::datatypes::Schema::empty());
        let config =
            FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(ParquetSource::new(schema)))
                .with_file(PartitionedFile::new(path, 10));
        DataSourceExec::from_data_source(config.build())
    }

    #[test]
    fn only_allowed_files_and_operators_are_accepted() {
        let allow = Allow::try_new(&["/data/docs".into(), "s3://docs".into()]).unwrap();
        assert!(allow.check(&scan("/data/docs/a.parquet")).is_ok());
        for other in ["/data/a.parquet", "/data/docs2/a.parquet", "/etc/passwd"] {
            let error = Error::from(super::super::errors::received(allow.check(&scan(other)).unwrap_err())).to_string();
            assert!(error.contains("--allow") && error.contains(other), "{error}");
        }
        let all = Allow::try_new(&[]).unwrap();
        assert!(all.check(&scan("/etc/passwd")).is_ok());
        let other: Arc<dyn ExecutionPlan> =
            Arc::new(PlaceholderRowExec::new(Arc::new(arrow::datatypes::Schema::empty())));
        assert!(all.check(&other).is_err());
        assert!(Allow::try_new(&["data".into()]).is_err());
    }

    #[test]
    fn loopback_is_told_from_other_addresses() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
            ("::", false),
        ] {
            assert_eq!(is_loopback(address.parse().unwrap()), expected, "{address}");
        }
    }
}
