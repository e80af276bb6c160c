//! A database: an engine over a SQLite file, or a session over files. Connections, statements and
//! readers share it; the last of them closes it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use adbc_core::Optionable;
use adbc_core::error::{Result, Status};
use adbc_core::options::{OptionConnection, OptionDatabase, OptionValue};
use pyo3::prelude::*;
use vexact::htap::{HtapConfig, HtapEngine};
use vexact::{Session, SessionOptions};

use super::connection::Connection;
use super::options::{TIMEOUT, boolean, not_found, seconds, text, unknown, whole_number};
use super::running::{Cancellation, Threads};
use super::status::{converted, error, invalid, unsupported};

/// The URI of a session, which is the default.
const SESSION: &str = ":session:";
/// An option of this prefix and a name registers a file as a table.
const TABLE: &str = "vexact.table.";
const KNOWN: &str = "uri, vexact.table.NAME, vexact.timeout_seconds, vexact.fresh, vexact.memory_limit_bytes, \
                     vexact.target_partitions, vexact.sync_mode, vexact.storage_mode or vexact.storage_path";
/// The first bytes of a SQLite file.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The target of statements.
pub enum Source {
    Session(Session),
    Engine(Arc<HtapEngine>),
}

/// The state that connections, statements and readers share.
pub struct Shared {
    pub threads: Threads,
    pub source: Source,
    /// True if a query on an engine first applies the changes that are committed.
    pub is_fresh: bool,
    pub timeout: Option<Duration>,
}

impl Shared {
    /// Returns the session whose tables beside SQLite's can be queried.
    pub fn session(&self) -> &Session {
        match &self.source {
            Source::Session(session) => session,
            Source::Engine(engine) => engine.session(),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A fork must not close what its parent uses; the parent's threads are not there either.
        if let Source::Engine(engine) = &self.source
            && self.threads.is_of_this_process()
        {
            let engine = Arc::clone(engine);
            let shut_down = async move {
                engine.shutdown().await;
                Ok(())
            };
            let _ = self.threads.run(&Cancellation::default(), None, shut_down);
        }
    }
}

/// A database of the driver.
pub struct Database {
    shared: Arc<Shared>,
    uri: String,
}

#[derive(Default)]
struct Settings {
    uri: String,
    tables: Vec<(String, PathBuf)>,
    session: SessionOptions,
    engine: HtapConfig,
    /// The first option that only an engine has, and the first that only a session has.
    of_engine: Option<String>,
    of_session: Option<String>,
    is_stale: bool,
}

impl Settings {
    fn set(&mut self, key: &OptionDatabase, value: OptionValue) -> Result<()> {
        let refused = |error: vexact::Error| converted(&error);
        let name = key.as_ref();
        match key {
            OptionDatabase::Uri => {
                self.uri = text(name, value)?;
                return Ok(());
            }
            OptionDatabase::Username | OptionDatabase::Password => {
                return Err(unsupported(format!("option {name}: a file has no users")));
            }
            _ => {}
        }
        let engine_only = Some(name.to_owned());
        match name {
            TIMEOUT => self.session.timeout = Some(seconds(name, value)?),
            "vexact.memory_limit_bytes" => {
                self.session.memory_limit_bytes = Some(whole_number(name, value)?);
                self.of_session = engine_only;
            }
            "vexact.target_partitions" => {
                self.session.target_partitions = Some(whole_number(name, value)?);
                self.of_session = engine_only;
            }
            "vexact.fresh" => {
                self.is_stale = !boolean(name, value)?;
                self.of_engine = engine_only;
            }
            "vexact.sync_mode" => {
                self.engine.sync_mode = HtapConfig::parse_sync_mode(&text(name, value)?).map_err(refused)?;
                self.of_engine = engine_only;
            }
            "vexact.storage_mode" => {
                self.engine.storage_mode = HtapConfig::parse_storage_mode(&text(name, value)?).map_err(refused)?;
                self.of_engine = engine_only;
            }
            "vexact.storage_path" => {
                self.engine.storage_path = Some(text(name, value)?.into());
                self.of_engine = engine_only;
            }
            _ => match name.strip_prefix(TABLE).filter(|table| !table.is_empty()) {
                Some(table) => {
                    let path = text(name, value)?.into();
                    self.tables.push((table.to_owned(), path));
                }
                None => return Err(unknown("database", name, KNOWN)),
            },
        }
        Ok(())
    }
}

/// Returns the path of a URI: a plain path, or a `file:` URL without options. The engine knows the
/// URIs with options, and refuses others.
fn path_of(uri: &str) -> PathBuf {
    match uri.strip_prefix("file:").filter(|rest| !rest.contains('?')) {
        Some(rest) => rest.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(rest).into(),
        None => uri.into(),
    }
}

/// Returns true for a file with content that is not SQLite's: a table of a session.
fn is_data_file(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut start));
    read.is_ok() && !start.is_empty() && start != MAGIC
}

impl Database {
    /// Opens a database.
    pub fn open(options: impl IntoIterator<Item = (OptionDatabase, OptionValue)>) -> Result<Self> {
        let mut settings = Settings::default();
        for (key, value) in options {
            settings.set(&key, value)?;
        }
        let runtime = Python::attach(|_| crate::runtime::runtime());
        let threads = Threads::new(runtime.map_err(|problem| error(Status::Internal, problem.to_string()))?);
        let Settings { uri, mut tables, session, mut engine, of_engine, of_session, is_stale } = settings;
        let timeout = session.timeout;
        let open = Cancellation::default();
        let is_session = uri.is_empty() || uri == SESSION;
        let path = if is_session { PathBuf::new() } else { path_of(&uri) };
        let source = if is_session || is_data_file(&path) {
            if let Some(option) = of_engine {
                return Err(invalid(format!("option {option}: expected none without a SQLite file in uri, got some")));
            }
            let opened = Session::with_options(&session).map_err(|error| converted(&error))?;
            if !is_session {
                let session = opened.clone();
                let probed = path.clone();
                let name = async move { Ok(session.probe(probed).await?.suggested_table_name) };
                tables.insert(0, (threads.run(&open, None, name)?, path));
            }
            Source::Session(opened)
        } else {
            if let Some(option) = of_session {
                return Err(invalid(format!("option {option}: expected none with a SQLite file in uri, got some")));
            }
            engine.oltp_path = path;
            Source::Engine(Arc::new(threads.run(&open, None, HtapEngine::open(engine))?))
        };
        let shared = Arc::new(Shared { threads, source, is_fresh: !is_stale, timeout });
        let session = shared.session().clone();
        let register = async move {
            for (name, path) in tables {
                session.create_temp_view(&name, &session.read(path).await?)?;
            }
            Ok(())
        };
        threads.run(&open, None, register)?;
        Ok(Self { shared, uri })
    }
}

impl Optionable for Database {
    type Option = OptionDatabase;

    fn set_option(&mut self, key: OptionDatabase, _: OptionValue) -> Result<()> {
        let problem = format!("option {}: expected before the database is opened, got after it", key.as_ref());
        Err(error(Status::InvalidState, problem))
    }

    fn get_option_string(&self, key: OptionDatabase) -> Result<String> {
        match key {
            OptionDatabase::Uri => Ok(self.uri.clone()),
            _ => Err(not_found("database", key.as_ref())),
        }
    }

    fn get_option_bytes(&self, key: OptionDatabase) -> Result<Vec<u8>> {
        self.get_option_string(key).map(String::into_bytes)
    }

    fn get_option_int(&self, key: OptionDatabase) -> Result<i64> {
        Err(not_found("database", key.as_ref()))
    }

    fn get_option_double(&self, key: OptionDatabase) -> Result<f64> {
        match (key.as_ref(), self.shared.timeout) {
            (TIMEOUT, Some(timeout)) => Ok(timeout.as_secs_f64()),
            _ => Err(not_found("database", key.as_ref())),
        }
    }
}

impl adbc_core::Database for Database {
    type ConnectionType = Connection;

    fn new_connection(&self) -> Result<Connection> {
        self.new_connection_with_opts([])
    }

    fn new_connection_with_opts(
        &self,
        options: impl IntoIterator<Item = (OptionConnection, OptionValue)>,
    ) -> Result<Connection> {
        let mut connection = Connection::new(Arc::clone(&self.shared));
        for (key, value) in options {
            connection.set_option(key, value)?;
        }
        Ok(connection)
    }
}
