//! Gives SQL's `last_insert_rowid()` and `changes()` the same result on every connection of an
//! engine: that of the last statement that a user ran by a call that writes.
//!
//! SQLite counts per connection, and the engine's own writes to the log would count too. So the
//! writer's row id is restored before each statement of a user, and readers have their own
//! functions in place of SQLite's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

/// The last statement that a user ran by a call that writes.
#[derive(Debug, Default)]
pub(super) struct LastWrite {
    row_id: AtomicI64,
    changes: AtomicI64,
    total_changes: AtomicI64,
}

impl LastWrite {
    /// The row id of the last row that was inserted; 0 before the first.
    pub fn row_id(&self) -> i64 {
        self.row_id.load(Ordering::Relaxed)
    }

    /// Runs a user's statement on the writing connection.
    pub fn watch<T>(&self, conn: &Connection, run: impl FnOnce() -> T) -> T {
        set_last_insert_rowid(conn, self.row_id());
        let outcome = run();
        self.row_id.store(conn.last_insert_rowid(), Ordering::Relaxed);
        outcome
    }

    /// Records the number of rows that an INSERT, UPDATE or DELETE affected.
    pub fn changed(&self, rows: u64) {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.changes.store(rows, Ordering::Relaxed);
        self.total_changes.fetch_add(rows, Ordering::Relaxed);
    }

    /// Makes a reading connection answer as the writing one.
    pub fn install(self: &Arc<Self>, conn: &Connection) -> rusqlite::Result<()> {
        let flags = FunctionFlags::SQLITE_UTF8;
        let last = Arc::clone(self);
        conn.create_scalar_function("last_insert_rowid", 0, flags, move |_| Ok(last.row_id()))?;
        let last = Arc::clone(self);
        conn.create_scalar_function("changes", 0, flags, move |_| Ok(last.changes.load(Ordering::Relaxed)))?;
        let last = Arc::clone(self);
        conn.create_scalar_function("total_changes", 0, flags, move |_| Ok(last.total_changes.load(Ordering::Relaxed)))
    }
}

#[allow(unsafe_code)]
fn set_last_insert_rowid(conn: &Connection, row_id: i64) {
    // SAFETY: the handle is open as long as `conn` is borrowed, and only this thread uses the
    // connection.
    unsafe { rusqlite::ffi::sqlite3_set_last_insert_rowid(conn.handle(), row_id) }
}
