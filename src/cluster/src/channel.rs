//! Connections to workers. A worker that cannot be reached, or no longer answers, is noticed within
//! seconds: a machine that vanishes closes no connection.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, Request};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_distributed::grpc::{BoxCloneSyncChannel, create_worker_client};
use datafusion_distributed::{
    ChannelResolver, CoordinatorToWorkerMsg, ExecuteTaskRequest, GetWorkerInfoRequest, GetWorkerInfoResponse,
    SetPlanRequest, WorkerChannel, WorkerToCoordinatorMsg,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tonic::body::Body;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tower::ServiceExt;
use url::Url;
use vexact_core::error::Error;

use super::address::Secret;
use super::errors::{external, name, of_worker};
use super::traffic::Traffic;

/// Time to connect to a worker, and for its first answer.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);

/// Time without a message after which a worker is asked for a sign of life, and the time that it
/// has to give one.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// The connections of a session, by the workers' URLs.
pub(crate) struct Channels {
    token: Option<HeaderValue>,
    tls_ca: Option<Certificate>,
    open: Mutex<HashMap<Url, BoxCloneSyncChannel>>,
    /// Names in the certificates of workers that were found by their name.
    names: Mutex<HashMap<Url, String>>,
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channels({})", self.open.lock().len())
    }
}

impl Channels {
    /// Returns connections that authenticate with a token. `tls_ca` is a PEM text.
    pub fn try_new(token: Option<&Secret>, tls_ca: Option<Vec<u8>>) -> vexact_core::error::Result<Self> {
        let header = |token: &Secret| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.text()))
                .map_err(|_| Error::InvalidArgument("token: expected printable ASCII characters".into()))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        };
        Ok(Self {
            token: token.map(header).transpose()?,
            tls_ca: tls_ca.map(Certificate::from_pem),
            open: Mutex::default(),
            names: Mutex::default(),
        })
    }

    /// Sets the name that the certificate of a worker has.
    pub fn set_name(&self, url: &Url, name: String) {
        self.names.lock().insert(url.clone(), name);
    }

    /// Closes the connection to a worker: the next request opens a new one.
    pub fn forget(&self, worker: &str) {
        self.open.lock().retain(|url, _| name(url) != worker);
    }

    /// Returns the connection to a worker, which is opened by the first request.
    pub fn channel(&self, url: &Url) -> Result<BoxCloneSyncChannel> {
        if let Some(channel) = self.open.lock().get(url) {
            return Ok(channel.clone());
        }
        let failed = |error: tonic::transport::Error| {
            let problem = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            external(Error::Worker { worker: name(url), problem, is_lost: false })
        };
        let mut endpoint = Endpoint::from_shared(url.to_string())
            .map_err(failed)?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        if url.scheme() == "https" {
            let mut tls = ClientTlsConfig::new();
            tls = match &self.tls_ca {
                Some(certificates) => tls.ca_certificate(certificates.clone()),
                None => tls.with_native_roots(),
            };
            if let Some(name) = self.names.lock().get(url) {
                tls = tls.domain_name(name.clone());
            }
            endpoint = endpoint.tls_config(tls).map_err(failed)?;
        }
        let token = self.token.clone();
        let channel = endpoint.connect_lazy().map_request(move |mut request: Request<Body>| {
            if let Some(token) = &token {
                request.headers_mut().insert(AUTHORIZATION, token.clone());
            }
            request
        });
        let channel = BoxCloneSyncChannel::new(channel);
        self.open.lock().insert(url.clone(), channel.clone());
        Ok(channel)
    }
}

/// The connections of one query, which count its traffic.
pub(crate) struct QueryChannels {
    pub channels: Arc<Channels>,
    pub traffic: Arc<Traffic>,
}

#[async_trait]
impl ChannelResolver for QueryChannels {
    async fn get_worker_client_for_url(&self, url: &Url) -> Result<Box<dyn WorkerChannel>, DataFusionError> {
        let inner = create_worker_client(self.channels.channel(url)?);
        Ok(Box::new(NamedChannel { url: url.clone(), inner, traffic: Arc::clone(&self.traffic) }))
    }
}

/// A connection whose errors name the worker.
struct NamedChannel {
    url: Url,
    inner: Box<dyn WorkerChannel>,
    traffic: Arc<Traffic>,
}

#[async_trait]
impl WorkerChannel for NamedChannel {
    async fn coordinator_channel(
        &mut self,
        headers: HeaderMap,
        set_plan_request: SetPlanRequest,
        messages: BoxStream<'static, CoordinatorToWorkerMsg>,
        metrics: ExecutionPlanMetricsSet,
        task_ctx: &Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<WorkerToCoordinatorMsg>>> {
        self.traffic.add_plans(&metrics);
        let url = self.url.clone();
        let answers = self.inner.coordinator_channel(headers, set_plan_request, messages, metrics, task_ctx).await;
        let answers = answers.map_err(|error| of_worker(&url, error))?;
        Ok(answers.map(move |answer| answer.map_err(|error| of_worker(&url, error))).boxed())
    }

    async fn execute_task(
        &mut self,
        headers: HeaderMap,
        request: ExecuteTaskRequest,
        metrics: ExecutionPlanMetricsSet,
        task_ctx: &Arc<TaskContext>,
    ) -> Result<Vec<BoxStream<'static, Result<RecordBatch>>>> {
        let task = self.traffic.begin(name(&self.url), &request.task_key, &metrics);
        let url = self.url.clone();
        let streams = self.inner.execute_task(headers, request, metrics, task_ctx).await;
        let streams = streams.map_err(|error| of_worker(&url, error))?;
        let named = streams.into_iter().map(|stream| {
            let (task, url) = (Arc::clone(&task), url.clone());
            let batches = stream.map(move |batch| {
                if let Ok(batch) = &batch {
                    task.add(batch.num_rows());
                }
                batch.map_err(|error| of_worker(&url, error))
            });
            batches.boxed()
        });
        Ok(named.collect())
    }

    async fn get_worker_info(&mut self, request: GetWorkerInfoRequest) -> Result<GetWorkerInfoResponse> {
        self.inner.get_worker_info(request).await.map_err(|error| of_worker(&self.url, error))
    }
}
