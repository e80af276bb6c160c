//! Opening of connections, and their SQL functions.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, ffi};
use vexact_cooperative::Scheduler;
use vexact_core::database_path::refuse_uri;
use vexact_core::error::{Error, Result};
use vexact_core::param::vector_value;
use vexact_core::sql::failed;

use super::column::described;
use super::extensions::{Extensions, Installed};
use super::file_id::FileId;
use super::guard::{Guard, Side};
use super::last_write::LastWrite;
use super::like;

/// Number of SQLite instructions between two checks for cancellation, some ten microseconds.
pub(super) const INSTRUCTIONS: i32 = 2000;

/// Capacity of a connection's cache of prepared statements.
const CACHED_STATEMENTS: usize = 64;

/// A connection of the engine, with its guard.
pub(super) struct Opened {
    pub conn: Connection,
    pub guard: Guard,
    pub shared: Arc<Shared>,
    installed: Installed,
    /// The file that it has open.
    pub file: FileId,
    /// True if the connection does not see writes of others.
    pub is_immutable: bool,
    /// Maximum time that its statements wait for other programs' locks.
    pub busy_timeout: Duration,
}

/// State that all connections of an engine share.
#[derive(Default)]
pub(super) struct Shared {
    /// True if the engine does not write to the file.
    pub is_read_only: bool,
    pub last_write: Arc<LastWrite>,
    pub extensions: Extensions,
    pub scheduler: Scheduler,
}

impl Opened {
    /// Installs the app's functions and collations that the connection lacks.
    ///
    /// # Errors
    /// An error of SQLite.
    pub fn extend(&self) -> Result<()> {
        self.shared.extensions.install(&self.conn, &self.installed)
    }
}

/// Resolves a path to an absolute path without symbolic links. All spellings of one file give one
/// path, so that engines find each other's files beside it. SQLite resolves links in the same way.
///
/// # Errors
/// An empty path; `:memory:`, which no second connection could read; a URI, which SQLite would take
/// for the name of a new file.
pub(super) fn resolve(path: &Path) -> Result<PathBuf> {
    refuse_uri("oltp_path", path)?;
    resolve_path(path)
}

/// As [`resolve`], for a path that is none of a URI.
pub(super) fn resolve_path(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() || path.as_os_str() == ":memory:" {
        return Err(Error::InvalidArgument(format!(
            "oltp_path: expected a file, got {:?}: readers have connections of their own",
            path.display().to_string()
        )));
    }
    // If the folder does not exist, SQLite reports the error.
    canonical(path).or_else(|_| std::path::absolute(path)).map_err(|error| Error::io(path, error))
}

/// As [`std::fs::canonicalize`], also for a file that does not exist yet.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            match path.read_link() {
                Ok(target) => canonical(&folder.join(target)),
                Err(_) => Ok(folder.canonicalize()?.join(path.file_name().ok_or(error)?)),
            }
        }
        outcome => outcome,
    }
}

/// Opens the writing connection; creates the file if it does not exist. WAL, synchronous NORMAL.
pub(super) fn open_writer(path: &Path, busy_timeout: Duration, shared: &Arc<Shared>) -> Result<Opened> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connect = || vexact_locks::open(path, flags);
    open(path, &connect, Side::Writer, busy_timeout, shared, |conn| {
        let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        conn.execute_batch("PRAGMA synchronous = NORMAL")?;
        let work = shared.scheduler.background_work();
        let is_to_stop = move || {
            work.yield_to_foreground();
            false
        };
        conn.progress_handler(INSTRUCTIONS, Some(is_to_stop))?;
        Ok(if mode == "wal" { None } else { Some(format!("expected journal mode wal, got {mode}")) })
    })
}

/// Opens a connection that cannot write.
pub(super) fn open_reader(path: &Path, busy_timeout: Duration, shared: &Arc<Shared>) -> Result<Opened> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = |connect: &dyn Fn() -> rusqlite::Result<Connection>| {
        open(path, connect, Side::Reader, busy_timeout, shared, |conn| {
            shared.last_write.install(conn)?;
            conn.execute_batch("PRAGMA query_only = ON")?;
            like::add_function(conn)?;
            if shared.is_read_only {
                // No writing connection has read the file before, so an invalid file fails at this
                // first read.
                conn.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
            }
            Ok(None)
        })
    };
    match open(&|| vexact_locks::open(path, flags)) {
        Err(Error::Sqlite { context, source })
            if shared.is_read_only && vexact_locks::is_of_read_only_folder(&source) =>
        {
            let help = if source.sqlite_error().is_some_and(|e| e.extended_code == ffi::SQLITE_READONLY_ROLLBACK) {
                "a program that was killed left it half written, and a reader cannot undo that: open it once with a program that writes it"
            } else if vexact_locks::has_wal(path) {
                "its write-ahead log cannot be read where its folder cannot be written: let a program that writes the file move the \
                 log into it (PRAGMA wal_checkpoint(TRUNCATE))"
            } else {
                let opened = open(&|| vexact_locks::open_immutable(path, flags))?;
                return Ok(Opened { is_immutable: true, ..opened });
            };
            Err(Error::Sqlite { context: format!("{context}: {help}"), source })
        }
        opened => opened,
    }
}

fn open(
    path: &Path,
    connect: &dyn Fn() -> rusqlite::Result<Connection>,
    side: Side,
    busy_timeout: Duration,
    shared: &Arc<Shared>,
    set_up: impl Fn(&mut Connection) -> rusqlite::Result<Option<String>>,
) -> Result<Opened> {
    let open = || {
        let mut conn = connect()?;
        conn.busy_timeout(busy_timeout)?;
        conn.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        let problem = set_up(&mut conn)?;
        // Not in triggers, views or defaults: other programs would not have it.
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
        conn.create_scalar_function("vector", 1, flags, vector_function)?;
        let guard = Guard::install(&mut conn, side)?;
        Ok((conn, guard, problem))
    };
    loop {
        let before = FileId::of(path).ok();
        let (conn, guard, problem) = open().map_err(failed(|| path.display().to_string()))?;
        if let Some(problem) = problem {
            return Err(Error::Engine(format!("{}: {problem}", path.display())));
        }
        let file = FileId::of(path)?;
        // Otherwise the file was replaced meanwhile, and it is unknown which of the two is open.
        if before.is_none_or(|before| before == file) {
            return Ok(Opened {
                conn,
                guard,
                shared: Arc::clone(shared),
                installed: Installed::default(),
                file,
                is_immutable: false,
                busy_timeout,
            });
        }
    }
}

/// SQL's `vector('[1,2,3]')`: the BLOB of these components as little-endian float32; NULL of NULL.
fn vector_function(context: &Context<'_>) -> rusqlite::Result<Value> {
    let refused = |problem: String| rusqlite::Error::UserFunctionError(format!("vector(): {problem}").into());
    match context.get_raw(0) {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|error| refused(error.to_string()))?;
            let components = vexact_sql::parse_vector(text).map_err(|error| refused(error.to_string()))?;
            let narrow = |(at, component): (usize, &f64)| {
                let narrow = *component as f32;
                if narrow.is_finite() {
                    Ok(narrow)
                } else {
                    Err(refused(format!("component {at}: {component} exceeds float32")))
                }
            };
            let components: Vec<f32> = components.iter().enumerate().map(narrow).collect::<rusqlite::Result<_>>()?;
            Ok(vector_value(&components))
        }
        other => Err(refused(format!("expected text such as '[1,2,3]', got {}", described(other)))),
    }
}
