//! A connection to a server, used from a thread that may block: one statement after the other.

use std::time::Duration;

use futures::{TryStreamExt, pin_mut};
use rusqlite::types::Value;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::Severity;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::Type;
use tokio_postgres::{Config, NoTls, Socket};
use vexact_core::error::{Error, Result};

use super::address::Address;
use super::tls;
use super::values::{Cell, Parameter};
use crate::stop::Stop;

/// Longest time between two messages of a server that reads rows. It may sort them, or wait for a
/// lock.
const SILENCE: Duration = Duration::from_secs(300);

/// Why a statement failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server rejected the statement, or a replica cannot hold a value. The connection is still
    /// usable.
    Refused(Error),
    /// The connection is broken.
    Lost(Error),
}

/// A connection that is ready for a statement. Its messages are sent and received by a task of the
/// runtime, which ends with it.
pub(super) struct Client {
    client: tokio_postgres::Client,
    name: String,
    runtime: Handle,
    /// Longest time of a step that a server answers at once.
    limit: Duration,
    stop: Stop,
}

impl Client {
    /// Connects and logs in. Blocks, at most for the address's time to connect, the login included.
    ///
    /// # Errors
    /// A server that cannot be reached, that rejects the connection or does not answer; root
    /// certificates that cannot be read; a sidecar that is shut down.
    pub fn connect(address: &Address, runtime: &Handle, stop: &Stop) -> Result<Self> {
        let (name, limit) = (address.to_string(), address.connect_limit());
        let connected = match address.config.get_ssl_mode() {
            SslMode::Disable => runtime.block_on(within(limit, stop, established(&address.config, NoTls))),
            _ => {
                let connector = tls::connector(&address.check)?;
                runtime.block_on(within(limit, stop, established(&address.config, connector)))
            }
        };
        let client = connected.map_err(|problem| problem.error(&name))?;
        Ok(Self { client, name, runtime: runtime.clone(), limit, stop: stop.clone() })
    }

    /// Runs statements without results. Blocks.
    pub fn run(&self, sql: &str) -> Result<(), Failure> {
        self.wait(within(self.limit, &self.stop, self.client.batch_execute(sql)))
    }

    /// Runs one statement and returns its rows. Parameters are texts and NULL. Blocks.
    ///
    /// Only the returned rows are held in memory: a server waits while its last messages are
    /// unread. The columns must have types that every server has.
    pub fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Vec<Value>>, Failure> {
        self.rows(SILENCE, sql, params)
    }

    /// As [`Self::query`], for a query that a server answers at once.
    pub fn query_catalog(&self, sql: &str, params: &[Value]) -> Result<Vec<Vec<Value>>, Failure> {
        self.rows(self.limit, sql, params)
    }

    /// `limit`: the longest time between two messages.
    fn rows(&self, limit: Duration, sql: &str, params: &[Value]) -> Result<Vec<Vec<Value>>, Failure> {
        let mut unfit = None;
        let rows = self.wait(async {
            let params = params.iter().map(|value| (Parameter(value), Type::UNKNOWN));
            let answers = within(limit, &self.stop, self.client.query_typed_raw(sql, params)).await?;
            pin_mut!(answers);
            let mut rows = Vec::new();
            while let Some(row) = within(limit, &self.stop, answers.try_next()).await? {
                let mut values = Vec::with_capacity(row.len());
                for at in 0..row.len() {
                    match row.try_get(at).map_err(Problem::Postgres)? {
                        Cell(Ok(value)) => values.push(value),
                        Cell(Err(problem)) => unfit = unfit.take().or(Some(problem)),
                    }
                }
                rows.push(values);
            }
            Ok(rows)
        })?;
        match unfit {
            Some(problem) => Err(Failure::Refused(Error::Engine(format!("{}: {problem}", self.name)))),
            None => Ok(rows),
        }
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Failure> {
        self.runtime.block_on(work).map_err(|problem| {
            let is_sound = match &problem {
                Problem::Postgres(source) => !self.client.is_closed() && is_refusal(source),
                Problem::Silent(_) | Problem::Stopped => false,
            };
            let error = problem.error(&self.name);
            if is_sound { Failure::Refused(error) } else { Failure::Lost(error) }
        })
    }
}

async fn established<T>(config: &Config, tls: T) -> Result<tokio_postgres::Client, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    // The waiting statement reports the error that ends the connection.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

enum Problem {
    Postgres(tokio_postgres::Error),
    /// There was no answer within this time.
    Silent(Duration),
    /// The sidecar ends.
    Stopped,
}

impl Problem {
    fn error(self, server: &str) -> Error {
        match self {
            Problem::Postgres(source) => failed(server, source),
            Problem::Silent(limit) => Error::Io {
                path: server.into(),
                source: std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    format!("expected an answer within {} seconds, got none", limit.as_secs_f64()),
                ),
            },
            Problem::Stopped => Error::shut_down(),
        }
    }
}

/// Waits for an answer, until a time has passed or the sidecar ends.
async fn within<T>(
    limit: Duration,
    stop: &Stop,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Problem> {
    tokio::select! {
        answered = timeout(limit, work) => match answered {
            Ok(answered) => answered.map_err(Problem::Postgres),
            Err(_) => Err(Problem::Silent(limit)),
        },
        () = stop.requested() => Err(Problem::Stopped),
    }
}

/// Returns true if the server rejected one statement and the connection is still usable.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|problem| problem.parsed_severity() == Some(Severity::Error))
}

fn failed(server: &str, source: tokio_postgres::Error) -> Error {
    Error::Postgres {
        context: server.into(),
        problem: message(&source),
        is_answer: source.as_db_error().is_some(),
        source: Box::new(source),
    }
}

/// A server's own words, `ERROR: relation "t" does not exist (42P01)`, or what became of the
/// connection, with its causes.
fn message(error: &tokio_postgres::Error) -> String {
    if let Some(problem) = error.as_db_error() {
        let more = problem.detail().or(problem.hint()).map_or_else(String::new, |more| format!(" ({more})"));
        return format!("{}: {}{more} ({})", problem.severity(), problem.message(), problem.code().code());
    }
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |message, cause| match cause.to_string() {
        cause if message.ends_with(&cause) => message,
        cause => format!("{message}: {cause}"),
    })
}
