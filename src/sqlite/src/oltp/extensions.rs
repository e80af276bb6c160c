//! SQL functions and collations of the app, on every connection of an engine.
//!
//! A connection installs what it lacks before its next job, so a call never waits for the writer or
//! for a reader.

use std::cell::Cell;
use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Memory};

use parking_lot::Mutex;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension};
use vexact_core::error::{Error, Result};
use vexact_core::sql::failed;

/// A scalar function: its arguments, and its value or the text of its error.
pub type ScalarFunction = Arc<dyn Fn(&[ValueRef<'_>]) -> Result<Value, String> + Send + Sync>;

/// An order of texts.
pub type Collation = Arc<dyn Fn(&str, &str) -> Ordering + Send + Sync>;

/// A scalar function and its properties for SQLite.
#[derive(Clone)]
pub struct FunctionDefinition {
    /// Its name, in any case.
    pub name: String,
    /// The number of its arguments, at most 127; `None` for any number.
    pub arguments: Option<u8>,
    /// True if it returns the same value for the same arguments, so that an index and a generated
    /// column can use it.
    pub is_deterministic: bool,
    /// The function that is called.
    pub call: ScalarFunction,
}

#[derive(Clone)]
enum Extension {
    Function(FunctionDefinition),
    Collation(String, Collation),
}

/// Functions and collations of the app, in the order in which they were added.
#[derive(Default)]
pub(super) struct Extensions {
    all: Mutex<Vec<Extension>>,
    count: AtomicUsize,
}

/// Number of extensions that are installed on a connection.
#[derive(Default)]
pub(super) struct Installed(Cell<usize>);

impl Extensions {
    /// # Errors
    /// A name that is empty, has a NUL character or is one of SQLite's own or the engine's; more
    /// than 127 arguments.
    pub fn add_function(&self, conn: &Connection, function: FunctionDefinition) -> Result<()> {
        const MOST_ARGUMENTS: u8 = 127;
        let FunctionDefinition { name, arguments, .. } = &function;
        check_name("function", name)?;
        if let Some(arguments) = arguments.filter(|arguments| *arguments > MOST_ARGUMENTS) {
            return Err(Error::InvalidArgument(format!(
                "function {name:?}: expected at most {MOST_ARGUMENTS} arguments, got {arguments}"
            )));
        }
        let is_built_in = conn
            .query_row("SELECT 1 FROM pragma_function_list WHERE builtin AND name = ?1 COLLATE NOCASE", [name], |_| {
                Ok(())
            })
            .optional()
            .map_err(failed(|| "reading the names of functions"))?
            .is_some();
        // The capture and the answers of both routes rest on what they do.
        if is_built_in || name.eq_ignore_ascii_case("vector") {
            return Err(reserved("function", name));
        }
        self.add(Extension::Function(function));
        Ok(())
    }

    /// # Errors
    /// A name that is empty, has a NUL character or is one of SQLite's own.
    pub fn add_collation(&self, name: String, compare: Collation) -> Result<()> {
        check_name("collation", &name)?;
        if ["BINARY", "NOCASE", "RTRIM"].iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            return Err(reserved("collation", &name));
        }
        self.add(Extension::Collation(name, compare));
        Ok(())
    }

    fn add(&self, extension: Extension) {
        let mut all = self.all.lock();
        all.push(extension);
        self.count.store(all.len(), Memory::Release);
    }

    /// Installs on a connection of somebody else what was added after the first `from`, and returns
    /// the number of all.
    ///
    /// # Errors
    /// An error of SQLite.
    pub fn install_after(&self, conn: &Connection, from: usize) -> Result<usize> {
        let installed = Installed(Cell::new(from));
        self.install(conn, &installed)?;
        Ok(installed.0.get())
    }

    /// Installs on a connection what was added since the last time.
    ///
    /// # Errors
    /// An error of SQLite.
    pub fn install(&self, conn: &Connection, installed: &Installed) -> Result<()> {
        let from = installed.0.get();
        if self.count.load(Memory::Acquire) == from {
            return Ok(());
        }
        let new: Vec<Extension> = {
            let all = self.all.lock();
            all[from..].to_vec()
        };
        for extension in new {
            install(conn, extension).map_err(failed(|| "adding a function or collation"))?;
            installed.0.set(installed.0.get() + 1);
        }
        Ok(())
    }
}

fn install(conn: &Connection, extension: Extension) -> rusqlite::Result<()> {
    match extension {
        Extension::Function(FunctionDefinition { name, arguments, is_deterministic, call }) => {
            let mut flags = FunctionFlags::SQLITE_UTF8;
            flags.set(FunctionFlags::SQLITE_DETERMINISTIC, is_deterministic);
            let context = name.clone();
            let run = move |arguments: &Context<'_>| {
                let arguments: Vec<ValueRef<'_>> = (0..arguments.len()).map(|at| arguments.get_raw(at)).collect();
                call(&arguments)
                    .map_err(|problem| rusqlite::Error::UserFunctionError(format!("{context}(): {problem}").into()))
            };
            conn.create_scalar_function(name.as_str(), arguments.map_or(-1, i32::from), flags, run)
        }
        Extension::Collation(name, compare) => {
            conn.create_collation(name.as_str(), move |a: &str, b: &str| compare(a, b))
        }
    }
}

fn check_name(what: &str, name: &str) -> Result<()> {
    const LONGEST: usize = 255;
    if name.is_empty() || name.contains('\0') || name.len() > LONGEST {
        return Err(Error::InvalidArgument(format!(
            "{what}: expected a name of 1 to {LONGEST} bytes without NUL characters, got {name:?}"
        )));
    }
    Ok(())
}

fn reserved(what: &str, name: &str) -> Error {
    Error::InvalidArgument(format!("{what} {name:?}: expected a name that neither SQLite nor the engine has"))
}
