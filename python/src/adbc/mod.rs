//! The ADBC driver: the extension's own file is one, with the entry point `AdbcVexactInit`.
//!
//! A database is an engine over a SQLite file (option `uri`), or a session. Statements run on the
//! runtime's threads; the calling thread waits without the GIL, which it does not hold. The driver
//! needs a process with Python, because the extension's file refers to its symbols.

mod bind;
mod catalog;
mod connection;
mod database;
mod info;
mod ingest;
mod options;
mod reader;
mod running;
mod sql_text;
mod statement;
mod status;

use adbc_core::Driver;
use adbc_core::error::Result;
use adbc_core::options::{OptionDatabase, OptionValue};

use database::Database;

/// The driver, as the driver manager loads it.
#[derive(Default)]
pub struct VexactDriver;

impl Driver for VexactDriver {
    type DatabaseType = Database;

    fn new_database(&mut self) -> Result<Database> {
        Database::open([])
    }

    fn new_database_with_opts(
        &mut self,
        options: impl IntoIterator<Item = (OptionDatabase, OptionValue)>,
    ) -> Result<Database> {
        Database::open(options)
    }
}

/// The exported functions, which are C functions with raw pointers.
#[allow(unsafe_code, clippy::missing_safety_doc, clippy::undocumented_unsafe_blocks)]
mod exported {
    use super::VexactDriver;

    adbc_ffi::export_driver!(AdbcVexactInit, VexactDriver);
}
