//! PostgreSQL as a source.

mod address;
mod client;
mod columns;
mod tls;
mod values;

use rusqlite::types::Value;
use tokio::runtime::Handle;
use vexact_core::error::{Error, Result};

use address::Address;
use client::{Client, Failure};

use super::config::{DeleteDetection, TimestampTableConfig};
use super::source::{Described, Query, Source};
use super::stop::Stop;

/// Rejects an invalid address.
///
/// # Errors
/// [`Error::InvalidArgument`]: what it is and what was expected.
pub(super) fn check_address(text: &str) -> Result<()> {
    Address::parse(text).map(drop)
}

/// The database of an address, to which it connects when it is first read, on a thread that may
/// block.
///
/// # Errors
/// As [`check_address`]; no runtime of tokio's around.
pub(super) fn open(address: &str, stop: Stop) -> Result<Box<dyn Source>> {
    let address = Address::parse(address)?;
    let runtime = Handle::try_current().map_err(|error| Error::Engine(error.to_string()))?;
    Ok(Box::new(PostgresSource { name: address.to_string(), address, runtime, stop, client: None, is_lost: false }))
}

/// A database of a server. Its connection lives on the runtime that the source was made on.
struct PostgresSource {
    address: Address,
    name: String,
    runtime: Handle,
    stop: Stop,
    client: Option<Client>,
    is_lost: bool,
}

impl PostgresSource {
    /// Runs a function on the connection. If the server rejects a statement, the snapshot stays
    /// unchanged.
    fn on<T>(&mut self, run: impl FnOnce(&Client) -> Result<T, Failure>) -> Result<T> {
        let Some(client) = &self.client else {
            self.is_lost = true;
            return Err(Error::Engine(format!("{}: there is no connection", self.name)));
        };
        match run(client) {
            Ok(outcome) => Ok(outcome),
            Err(Failure::Refused(error)) => {
                if client.run("ROLLBACK TO SAVEPOINT vexact").is_err() {
                    (self.client, self.is_lost) = (None, true);
                }
                Err(error)
            }
            Err(Failure::Lost(error)) => {
                (self.client, self.is_lost) = (None, true);
                Err(error)
            }
        }
    }

    fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Vec<Value>>> {
        self.on(|client| client.query(sql, params))
    }

    /// As [`Self::query`], of a query that a server answers at once.
    fn query_catalog(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Vec<Value>>> {
        self.on(|client| client.query_catalog(sql, params))
    }
}

impl Source for PostgresSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn begin(&mut self) -> Result<()> {
        // Settings of this transaction alone, as a pooler may give its connection to others.
        const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
            SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL TimeZone = 'UTC'; SAVEPOINT vexact";
        // A connection that ended since it was used last is made again.
        if self.client.as_ref().is_some_and(|client| client.run(BEGIN).is_ok()) {
            self.is_lost = false;
            return Ok(());
        }
        (self.client, self.is_lost) = (None, true);
        let client = Client::connect(&self.address, &self.runtime, &self.stop)?;
        client.run(BEGIN).map_err(|(Failure::Refused(error) | Failure::Lost(error))| error)?;
        (self.client, self.is_lost) = (Some(client), false);
        Ok(())
    }

    fn end(&mut self) {
        // The transaction has only read, so if it cannot be ended the next one begins on another
        // connection.
        if self.client.as_ref().is_some_and(|client| client.run("COMMIT").is_err()) {
            self.client = None;
        }
    }

    fn is_lost(&self) -> bool {
        self.is_lost
    }

    fn describe(&mut self, table: &TimestampTableConfig, name: &str, deletes: &DeleteDetection) -> Result<Described> {
        columns::describe(self, table, name, deletes)
    }

    fn mark(&mut self, table: &TimestampTableConfig) -> Result<Vec<Vec<Value>>> {
        columns::known(self, table)
    }

    fn select(&mut self, query: &Query) -> Result<Vec<Vec<Value>>> {
        self.query(&query.sql, &query.params)
    }
}
