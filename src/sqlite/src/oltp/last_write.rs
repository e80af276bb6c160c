//! The effect of the engine's last statement, for SQLite's functions of the connection on connections that do not write.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

/// The last insert, the rows that the last statement changed, and the rows that all statements changed.
#[derive(Debug, Default)]
pub(super) struct LastWrite {
    row_id: AtomicI64,
    changes: AtomicI64,
    total_changes: AtomicI64,
}

impl LastWrite {
    /// Records a DML statement after it has run on its connection.
    pub fn record(&self, row_id: i64, changes: usize) {
        self.row_id.store(row_id, Ordering::Relaxed);
        self.changes.store(changes as i64, Ordering::Relaxed);
        self.total_changes.fetch_add(changes as i64, Ordering::Relaxed);
    }

    /// Gives a connection that does not write `last_insert_rowid()`, `changes()` and `total_changes()` of the one that does.
    pub fn install(self: &Arc<Self>, conn: &Connection) -> rusqlite::Result<()> {
        let functions: [(&str, fn(&Self) -> &AtomicI64); 3] = [
            ("last_insert_rowid", |last| &last.row_id),
            ("changes", |last| &last.changes),
            ("total_changes", |last| &last.total_changes),
        ];
        for (name, value) in functions {
            let last = Arc::clone(self);
            let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
            conn.create_scalar_function(name, 0, flags, move |_| Ok(value(&last).load(Ordering::Relaxed)))?;
        }
        Ok(())
    }
}
