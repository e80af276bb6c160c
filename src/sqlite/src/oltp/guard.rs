//! Authorizer of user statements on the engine's connections. SQLite calls it while it prepares a
//! statement, before any effect.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use vexact_core::error::{Error, Result};

/// Settings that a user may change on the writing connection.
const SETTABLE: [&str; 6] =
    ["foreign_keys", "recursive_triggers", "defer_foreign_keys", "user_version", "application_id", "cache_size"];
/// PRAGMAs that take an argument and only read.
const READING: [&str; 9] = [
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "index_xinfo",
    "foreign_key_list",
    "foreign_key_check",
    "integrity_check",
];
/// PRAGMAs that act without an argument.
const ACTING: [&str; 4] = ["wal_checkpoint", "optimize", "incremental_vacuum", "shrink_memory"];

/// Kind of the connection on which a statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Writer,
    Reader,
}

/// Watches one connection.
#[derive(Clone)]
pub(super) struct Guard(Arc<Mutex<State>>);

struct State {
    side: Side,
    /// False while the engine runs its own statements.
    is_on: bool,
    /// Reason why the statement was rejected.
    reason: Option<String>,
    /// The dropped table, whose triggers are dropped with it.
    dropped_table: Option<String>,
    /// Reserved names, which no table or view may have.
    reserved: Vec<String>,
}

impl Guard {
    /// Watches a connection for its life.
    pub fn install(conn: &mut Connection, side: Side) -> rusqlite::Result<Self> {
        let guard = Self(Arc::new(Mutex::new(State {
            side,
            is_on: false,
            reason: None,
            dropped_table: None,
            reserved: Vec::new(),
        })));
        let state = Arc::clone(&guard.0);
        conn.authorizer(Some(move |context: AuthContext<'_>| {
            let mut state = state.lock();
            match if state.is_on { state.refusal(&context) } else { None } {
                None => Authorization::Allow,
                Some(reason) => {
                    state.reason = Some(reason);
                    Authorization::Deny
                }
            }
        }))?;
        Ok(guard)
    }

    /// Keeps names from being given to tables and views.
    pub fn reserve(&self, names: Vec<String>) {
        self.0.lock().reserved = names;
    }

    /// The names of [`Self::reserve`].
    pub fn reserved(&self) -> Vec<String> {
        self.0.lock().reserved.clone()
    }

    /// Runs a closure that prepares and steps a user's statement. If the guard rejects the
    /// statement, returns the reason in place of SQLite's "not authorized".
    pub fn watch<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        self.set(true);
        let _off = Off(self);
        let outcome = run();
        let reason = self.0.lock().reason.take();
        match (outcome, reason) {
            (Err(_), Some(reason)) => Err(Error::Engine(reason)),
            (outcome, _) => outcome,
        }
    }

    fn set(&self, is_on: bool) {
        let mut state = self.0.lock();
        (state.is_on, state.reason, state.dropped_table) = (is_on, None, None);
    }
}

/// Turns the guard off when the statement is done, also by a panic.
struct Off<'a>(&'a Guard);

impl Drop for Off<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl State {
    fn refusal(&mut self, context: &AuthContext<'_>) -> Option<String> {
        use AuthAction::*;
        let ours = |name: &str| name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("_vexact_"));
        let own_table = |name: &str| {
            ours(name)
                .then(|| format!("table {name:?} belongs to the engine: only its triggers and its syncs write it"))
        };
        let new_table = |name: &str| {
            own_table(name).or_else(|| {
                self.reserved.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)).then(|| {
                    format!("table {name:?} is one that the sidecar follows: expected another name for a table of the engine's own")
                })
            })
        };
        // Our triggers write the log on behalf of the user's statement.
        let by_trigger = context.accessor.is_some_and(ours);
        match context.action {
            Insert { table_name } | Delete { table_name } | Update { table_name, .. } if !by_trigger => {
                own_table(table_name)
            }
            CreateTable { table_name } | CreateVtable { table_name, .. } => new_table(table_name),
            CreateView { view_name } | CreateTempView { view_name } => new_table(view_name),
            CreateIndex { table_name, .. } | AlterTable { table_name, .. } => own_table(table_name),
            CreateTempTable { table_name } => new_table(table_name),
            DropTable { table_name } => {
                self.dropped_table = Some(table_name.into());
                own_table(table_name)
            }
            DropIndex { index_name, .. } => own_table(index_name),
            CreateTrigger { trigger_name, .. } | CreateTempTrigger { trigger_name, .. } => own_trigger(trigger_name),
            DropTrigger { trigger_name, table_name } if self.dropped_table.as_deref() != Some(table_name) => {
                own_trigger(trigger_name)
            }
            Attach { .. } | Detach { .. } => {
                Some("ATTACH and DETACH are refused: an engine has one database file".into())
            }
            Transaction { .. } | Savepoint { .. } => {
                Some("transactions are not opened by statements: execute_batch is one transaction".into())
            }
            Pragma { pragma_name, pragma_value } => self.pragma(pragma_name, pragma_value),
            _ => None,
        }
    }

    fn pragma(&self, name: &str, value: Option<&str>) -> Option<String> {
        let lower = name.to_ascii_lowercase();
        let is_in = |names: &[&str]| names.contains(&lower.as_str());
        let allowed = match (self.side, value) {
            (_, None) => !is_in(&ACTING),
            (Side::Writer, Some(_)) => is_in(&SETTABLE) || is_in(&READING),
            (Side::Reader, Some(_)) => is_in(&READING),
        };
        let hint = match self.side {
            Side::Writer => format!("execute can set {}", SETTABLE.join(", ")),
            Side::Reader => format!("query reads settings, and tables with {}", READING.join(", ")),
        };
        (!allowed).then(|| format!("PRAGMA {name} is refused: {hint}"))
    }
}

fn own_trigger(name: &str) -> Option<String> {
    name.get(..8)
        .is_some_and(|start| start.eq_ignore_ascii_case("_vexact_"))
        .then(|| format!("trigger {name:?} belongs to the engine, which captures changes with it"))
}
