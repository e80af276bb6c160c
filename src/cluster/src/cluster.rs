//! The workers of a session.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use futures::future::join_all;
use url::Url;
use vexact_core::error::{Error, Result};
use vexact_session::{Distribute, Session};
use vexact_sql::Explained;

use super::address::{Address, ClusterOptions};
use super::channel::Channels;
use super::cut::has_part;
use super::errors::name;
use super::exec::ClusterExec;
use super::explain::explain;
use super::portable::Functions;
use super::sent::{check_limit, sent_tables};
use super::status::{WorkerInfo, WorkerStatus, info, status};

/// The workers of a session. The files of its Parquet tables are read by the workers, under the same
/// paths; the rows of its tables in memory are sent to them, up to a limit.
#[derive(Debug)]
pub struct Cluster {
    addresses: Vec<Address>,
    pub(crate) options: ClusterOptions,
    pub(crate) channels: Arc<Channels>,
    pub(crate) functions: Arc<Functions>,
}

/// A worker that takes tasks.
#[derive(Debug, Clone)]
pub(crate) struct ReadyWorker {
    pub url: Url,
    pub info: WorkerInfo,
}

impl Cluster {
    /// Returns the workers of these addresses. No worker is asked yet.
    ///
    /// # Errors
    /// No address, an invalid address, or a certificate file that cannot be read.
    pub fn try_new(options: ClusterOptions) -> Result<Arc<Self>> {
        if options.workers.is_empty() {
            return Err(Error::InvalidArgument("workers: expected at least one address, got none".into()));
        }
        let is_tls = options.tls_ca.is_some();
        let addresses = options.workers.iter().map(|text| Address::parse(text, is_tls)).collect::<Result<_>>()?;
        let read = |path: &std::path::PathBuf| std::fs::read(path).map_err(|error| Error::io(path, error));
        let tls_ca = options.tls_ca.as_ref().map(read).transpose()?;
        let channels = Arc::new(Channels::try_new(options.token.as_ref(), tls_ca)?);
        // A worker has the functions of such a session.
        let functions = Arc::new(Functions::of(&Session::new()?.state()));
        Ok(Arc::new(Self { addresses, options, channels, functions }))
    }

    /// Runs the queries of a session on the workers from now on.
    pub fn attach(self: Arc<Self>, session: &Session) {
        session.use_workers(Arc::new(Attached(self)));
    }

    /// Returns the URLs of all workers, and the errors of names without an address.
    async fn urls(&self) -> (Vec<Url>, Vec<Error>) {
        let (mut urls, mut failed) = (Vec::new(), Vec::new());
        for found in join_all(self.addresses.iter().map(Address::urls)).await {
            match found {
                Ok(found) => {
                    for (url, certificate) in found {
                        if let Some(certificate) = certificate {
                            self.channels.set_name(&url, certificate);
                        }
                        urls.push(url);
                    }
                }
                Err(error) => failed.push(error),
            }
        }
        let mut seen = HashSet::new();
        urls.retain(|url| seen.insert(url.clone()));
        (urls, failed)
    }

    /// Asks all workers but those in `without` for their versions. Returns those that answered, and
    /// the errors of the others.
    pub(crate) async fn ready(&self, without: &[String]) -> (Vec<ReadyWorker>, Vec<Error>) {
        let (mut urls, mut failed) = self.urls().await;
        urls.retain(|url| !without.contains(&name(url)));
        let answers = join_all(urls.iter().map(|url| info(&self.channels, url))).await;
        let mut ready = Vec::new();
        for (url, answer) in urls.into_iter().zip(answers) {
            match answer {
                Ok(info) => ready.push(ReadyWorker { url, info }),
                Err(error) => {
                    self.channels.forget(&name(&url));
                    failed.push(error);
                }
            }
        }
        (ready, failed)
    }

    /// Asks all workers for their state. The result has one entry for each worker, and one for each
    /// name without an address.
    pub async fn status(&self) -> Vec<Result<WorkerStatus>> {
        let (urls, failed) = self.urls().await;
        let mut all = join_all(urls.iter().map(|url| status(&self.channels, url))).await;
        all.extend(failed.into_iter().map(Err));
        all
    }
}

/// The workers, as a session uses them.
#[derive(Debug)]
struct Attached(Arc<Cluster>);

impl Distribute for Attached {
    fn distribute(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        check_limit(&sent_tables(&plan), self.0.options.ship_limit_bytes)?;
        Ok(match has_part(&plan) {
            true => Arc::new(ClusterExec::new(plan, Arc::clone(&self.0))),
            false => plan,
        })
    }

    fn explain(&self, plan: &Arc<dyn ExecutionPlan>, explained: &mut Explained) {
        explain(plan, explained);
    }
}
