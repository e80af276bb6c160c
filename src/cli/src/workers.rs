//! The workers of a command, and `vexact cluster`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value};
use vexact::session::Session;
use vexact_cluster::{Cluster, ClusterOptions, Secret, WorkerStatus};
use vexact_core::error::{Error, Result};

use super::answer::Answer;
use super::failure::{During, Failure};
use super::worker::bytes;

/// The workers that run the query of a command.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub(super) struct Workers {
    /// Workers that read the Parquet files, under the same paths: host:port, http://.., https://.., or
    /// dns:NAME:PORT for all addresses of a name
    #[arg(long, value_name = "ADDRESS,..", value_delimiter = ',', display_order = 50)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub access: Access,
    /// Attempts after the first one, without the workers that were lost
    #[arg(long, value_name = "N", default_value_t = 1, requires = "workers", display_order = 53)]
    #[serde(skip)]
    pub retries: usize,
    /// The most bytes of query vectors of a join, and of tables in memory, that a query sends to the workers: a number,
    /// or with k, m, g
    #[arg(long, value_name = "BYTES", default_value = "64m", value_parser = bytes, requires = "workers", display_order = 54)]
    #[serde(skip)]
    pub ship_limit: usize,
}

/// How a client gets access to workers.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub(super) struct Access {
    /// A file with the workers' token
    #[arg(long, value_name = "PATH", requires = "workers", display_order = 51)]
    #[serde(skip)]
    pub token_file: Option<PathBuf>,
    /// A PEM file of the certificates that the workers' are checked against: addresses are then
    /// reached by TLS
    #[arg(long, value_name = "PATH", requires = "workers", display_order = 52)]
    #[serde(skip)]
    pub tls_ca: Option<PathBuf>,
}

impl Access {
    fn options(&self, workers: &[String]) -> Result<ClusterOptions> {
        Ok(ClusterOptions {
            workers: workers.to_vec(),
            token: self.token_file.as_deref().map(token_of).transpose()?,
            tls_ca: self.tls_ca.clone(),
            ..ClusterOptions::default()
        })
    }
}

impl Workers {
    /// Returns a new session, whose queries run on the workers if there are some.
    ///
    /// # Errors
    /// An invalid address, or a file that cannot be read.
    pub fn session(&self) -> Result<Session> {
        let session = Session::new()?;
        if !self.workers.is_empty() {
            let options = self.access.options(&self.workers)?;
            let (retries, ship_limit_bytes) = (self.retries, self.ship_limit);
            Cluster::try_new(ClusterOptions { retries, ship_limit_bytes, ..options })?.attach(&session);
        }
        Ok(session)
    }
}

/// Reads a token from its file.
///
/// # Errors
/// A file that cannot be read, or has no token.
pub(super) fn token_of(path: &Path) -> Result<Secret> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    Secret::try_new(text.trim()).map_err(|error| Error::BadFile { path: path.into(), problem: error.to_string() })
}

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Ask workers for their version, threads, memory limit and tasks
    Status(ClusterStatus),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"workers\": [{\"worker\", \"version\", \"threads\", \"memory_bytes\", \"tasks\"}]}; a worker that does not answer
        has \"error\" in place of the rest, and \"ok\" is still true: \"ready\" is the number of the others.

Example:
  vexact cluster status --workers dns:workers.internal:8815 --token-file token")]
pub(super) struct ClusterStatus {
    /// The workers, as for a query
    #[arg(long, value_name = "ADDRESS,..", value_delimiter = ',', required = true)]
    pub workers: Vec<String>,
    #[command(flatten)]
    pub access: Access,
}

/// The state of one worker.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum State {
    Ready { worker: String, version: String, threads: usize, memory_bytes: Option<u64>, tasks: usize },
    Failed { worker: String, error: String },
}

impl State {
    fn of(status: Result<WorkerStatus>) -> Self {
        match status {
            Ok(WorkerStatus { worker, info, tasks }) => Self::Ready {
                worker,
                version: info.version,
                threads: info.threads,
                memory_bytes: info.memory_bytes,
                tasks,
            },
            Err(Error::Worker { worker, problem, .. }) => Self::Failed { worker, error: problem },
            Err(error) => Self::Failed { worker: String::new(), error: error.to_string() },
        }
    }
}

impl ClusterCommand {
    /// Returns the details of a failure of this command.
    pub fn details(&self) -> Map<String, Value> {
        let Self::Status(status) = self;
        Map::from_iter([
            ("command".to_owned(), "cluster status".into()),
            ("workers".to_owned(), status.workers.clone().into()),
        ])
    }

    /// Runs the command.
    pub async fn run(self) -> std::result::Result<Answer, Failure> {
        let Self::Status(command) = self;
        let options = command.access.options(&command.workers).during("start")?;
        let cluster: Arc<Cluster> = Cluster::try_new(options).during("start")?;
        let workers: Vec<State> = cluster.status().await.into_iter().map(State::of).collect();
        let ready = workers.iter().filter(|state| matches!(state, State::Ready { .. })).count();
        Ok(Answer::Cluster { ready, workers })
    }
}
