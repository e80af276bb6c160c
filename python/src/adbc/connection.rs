//! Connections. Each statement is a transaction of its own; a connection has no others.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use adbc_core::error::{Error, Result, Status};
use adbc_core::options::{InfoCode, ObjectDepth, OptionConnection, OptionValue};
use adbc_core::{CancelHandle, Optionable, schemas};
use arrow::array::RecordBatchReader;
use arrow::datatypes::Schema;

use super::catalog::{self, Filter};
use super::database::Shared;
use super::info;
use super::options::{boolean, not_found, text, unknown};
use super::reader::in_memory;
use super::running::Cancellation;
use super::statement::Statement;
use super::status::{error, invalid, unsupported};

/// The state that a connection shares with its statements.
#[derive(Default)]
pub struct State {
    is_read_only: AtomicBool,
}

impl State {
    /// Refuses a change on a read-only connection.
    pub fn check_writable(&self, what: &str) -> Result<()> {
        match self.is_read_only.load(Ordering::Relaxed) {
            true => Err(invalid(format!("{what} is refused: the connection is read-only"))),
            false => Ok(()),
        }
    }
}

/// A connection of the driver.
pub struct Connection {
    shared: Arc<Shared>,
    state: Arc<State>,
    cancellation: Cancellation,
}

impl Connection {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, state: Arc::default(), cancellation: Cancellation::default() }
    }
}

fn no_transactions() -> Error {
    unsupported(
        "transactions over several statements: each statement, and each executemany, is a transaction of its own",
    )
}

impl Optionable for Connection {
    type Option = OptionConnection;

    fn set_option(&mut self, key: OptionConnection, value: OptionValue) -> Result<()> {
        let name = key.as_ref().to_owned();
        match &key {
            OptionConnection::AutoCommit => match boolean(&name, value)? {
                true => Ok(()),
                false => Err(no_transactions()),
            },
            OptionConnection::ReadOnly => {
                self.state.is_read_only.store(boolean(&name, value)?, Ordering::Relaxed);
                Ok(())
            }
            OptionConnection::CurrentCatalog | OptionConnection::CurrentSchema => {
                let (catalog, schema) = catalog::names(&self.shared);
                let expected = if matches!(key, OptionConnection::CurrentCatalog) { catalog } else { schema };
                match text(&name, value)? {
                    got if got == expected => Ok(()),
                    got => Err(invalid(format!("option {name}: expected {expected:?}, got {got:?}"))),
                }
            }
            OptionConnection::IsolationLevel => Err(unsupported(format!(
                "option {name}: each statement sees one state of all tables, and there are no longer transactions"
            ))),
            _ => Err(unknown("connection", &name, "autocommit, readonly, the current catalog or schema")),
        }
    }

    fn get_option_string(&self, key: OptionConnection) -> Result<String> {
        let (catalog, schema) = catalog::names(&self.shared);
        match key {
            OptionConnection::AutoCommit => Ok("true".into()),
            OptionConnection::ReadOnly => Ok(self.state.is_read_only.load(Ordering::Relaxed).to_string()),
            OptionConnection::CurrentCatalog => Ok(catalog.into()),
            OptionConnection::CurrentSchema => Ok(schema.into()),
            _ => Err(not_found("connection", key.as_ref())),
        }
    }

    fn get_option_bytes(&self, key: OptionConnection) -> Result<Vec<u8>> {
        self.get_option_string(key).map(String::into_bytes)
    }

    fn get_option_int(&self, key: OptionConnection) -> Result<i64> {
        Err(not_found("connection", key.as_ref()))
    }

    fn get_option_double(&self, key: OptionConnection) -> Result<f64> {
        Err(not_found("connection", key.as_ref()))
    }
}

type BoxedReader = Box<dyn RecordBatchReader + Send + 'static>;

impl adbc_core::Connection for Connection {
    type StatementType = Statement;

    fn new_statement(&mut self) -> Result<Statement> {
        Ok(Statement::new(Arc::clone(&self.shared), Arc::clone(&self.state)))
    }

    fn get_cancel_handle(&self) -> Box<dyn CancelHandle> {
        Box::new(self.cancellation.clone())
    }

    fn get_info(&self, codes: Option<HashSet<InfoCode>>) -> Result<BoxedReader> {
        info::reader(codes.as_ref())
    }

    fn get_objects(
        &self,
        depth: ObjectDepth,
        catalog: Option<&str>,
        db_schema: Option<&str>,
        table_name: Option<&str>,
        table_type: Option<Vec<&str>>,
        column_name: Option<&str>,
    ) -> Result<BoxedReader> {
        self.cancellation.reset();
        let filter = Filter { catalog, db_schema, table_name, table_type, column_name };
        catalog::objects(&self.shared, &self.cancellation, depth, &filter)
    }

    fn get_table_schema(&self, catalog: Option<&str>, db_schema: Option<&str>, table_name: &str) -> Result<Schema> {
        self.cancellation.reset();
        catalog::table_schema(&self.shared, &self.cancellation, catalog, db_schema, table_name)
    }

    fn get_table_types(&self) -> Result<BoxedReader> {
        catalog::table_types()
    }

    fn get_statistic_names(&self) -> Result<BoxedReader> {
        Ok(in_memory(&schemas::GET_STATISTIC_NAMES_SCHEMA, Vec::new()))
    }

    fn get_statistics(&self, _: Option<&str>, _: Option<&str>, _: Option<&str>, _: bool) -> Result<BoxedReader> {
        Err(unsupported("statistics of tables"))
    }

    fn commit(&mut self) -> Result<()> {
        Err(error(Status::InvalidState, "commit: expected a transaction, got autocommit"))
    }

    fn rollback(&mut self) -> Result<()> {
        Err(error(Status::InvalidState, "rollback: expected a transaction, got autocommit"))
    }

    fn read_partition(&self, _: impl AsRef<[u8]>) -> Result<BoxedReader> {
        Err(unsupported("results in partitions: expected a statement's execute"))
    }
}
