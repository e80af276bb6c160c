//! PostgreSQL as a source.

mod address;
mod client;
mod columns;
mod wire;

use rusqlite::types::Value;

use address::Address;
use client::{Client, Failure};

use super::calendar::Civil;
use super::config::{DeleteDetection, TimestampTableConfig};
use super::source::{Described, Query, Source};
use crate::error::{Error, Result};

/// Refuses an address that cannot be used.
///
/// # Errors
/// [`Error::InvalidArgument`]: what it is and what was expected.
pub(super) fn check_address(text: &str) -> Result<()> {
    Address::parse(text).map(drop)
}

/// A value as the text that PostgreSQL casts to a type.
pub(super) fn parameter(value: &Value, column_type: &str) -> Value {
    let is_time = column_type.starts_with("timestamp") || column_type.starts_with("date");
    Value::Text(match value {
        Value::Null => return Value::Null,
        Value::Integer(i64::MAX) if is_time => "infinity".into(),
        Value::Integer(i64::MIN) if is_time => "-infinity".into(),
        Value::Integer(micros) if is_time => Civil::at(*micros).timestamp(),
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) if real.is_infinite() => if *real > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        Value::Real(real) => format!("{real:?}"),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => bytes.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
    })
}

/// A database of a server.
pub(super) struct PostgresSource {
    address: Address,
    name: String,
    client: Option<Client>,
    is_lost: bool,
}

impl PostgresSource {
    /// The database, to which it connects when it is first read.
    pub fn new(address: &str) -> Result<Self> {
        let address = Address::parse(address)?;
        Ok(Self { name: address.to_string(), address, client: None, is_lost: false })
    }

    /// Runs something on the connection. A server's refusal leaves the snapshot as it was.
    fn on<T>(&mut self, run: impl FnOnce(&mut Client) -> Result<T, Failure>) -> Result<T> {
        let Some(client) = &mut self.client else { return Err(self.lost("there is no connection")) };
        match run(client) {
            Ok(outcome) => Ok(outcome),
            Err(Failure::Server(problem)) => {
                if client.run("ROLLBACK TO SAVEPOINT vexact").is_err() {
                    (self.client, self.is_lost) = (None, true);
                }
                Err(Error::Engine(format!("{}: {problem}", self.name)))
            }
            Err(Failure::Lost(error)) => Err(self.lost(error)),
        }
    }

    fn lost(&mut self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        (self.client, self.is_lost) = (None, true);
        Error::Io { path: self.name.clone().into(), source: std::io::Error::other(error) }
    }

    fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Vec<Value>>> {
        self.on(|client| client.query(sql, params))
    }
}

impl Source for PostgresSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn begin(&mut self) -> Result<()> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SAVEPOINT vexact";
        // A connection that ended since it was used last is made again.
        if self.client.as_mut().is_some_and(|client| client.run(BEGIN).is_ok()) {
            self.is_lost = false;
            return Ok(());
        }
        self.client = None;
        let connected = Client::connect(&self.address).and_then(|mut client| client.run(BEGIN).map(|()| client));
        match connected {
            Ok(client) => {
                (self.client, self.is_lost) = (Some(client), false);
                Ok(())
            }
            Err(Failure::Lost(error)) => Err(self.lost(error)),
            Err(Failure::Server(problem)) => {
                self.is_lost = true;
                Err(Error::Engine(format!("{}: {problem}", self.name)))
            }
        }
    }

    fn end(&mut self) {
        // It has only read: what cannot be ended is begun again on another connection.
        if self.client.as_mut().is_some_and(|client| client.run("COMMIT").is_err()) {
            self.client = None;
        }
    }

    fn is_lost(&self) -> bool {
        self.is_lost
    }

    fn describe(&mut self, table: &TimestampTableConfig, name: &str, deletes: &DeleteDetection) -> Result<Described> {
        columns::describe(self, table, name, deletes)
    }

    fn select(&mut self, query: &Query) -> Result<Vec<Vec<Value>>> {
        self.query(&query.sql, &query.params)
    }
}
