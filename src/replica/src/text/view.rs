//! The text indexes as one snapshot of the replicas sees them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use vexact_core::error::{Error, Result};
use vexact_core::sql::failed;

use super::folder::TextFolder;
use super::index::{DocumentKey, Source, TextColumn, TextIndex};

/// Text indexes at the state of one snapshot.
///
/// A reader that comes first begins a read transaction in SQLite's write-ahead log, and so does the
/// writer before it commits the next state: whoever holds a snapshot reads its state, for as long
/// as the snapshot is held.
#[derive(Debug)]
pub(crate) struct TextView {
    pub(super) indexes: Vec<TextIndex>,
    folder: Arc<TextFolder>,
    /// Identifies the state in the file.
    token: i64,
    /// Reason why the indexes cannot be read; `None` if they can.
    failed: Option<String>,
    readers: Mutex<Readers>,
    returned: Condvar,
}

#[derive(Debug)]
struct Readers {
    /// Connections in a read transaction at the state, which nobody uses now.
    free: Vec<Connection>,
    count: usize,
    /// True until the writer commits the next state.
    is_newest: bool,
}

/// The documents that match, best first; equal scores in the order of the keys.
#[derive(Debug, Clone)]
pub struct TextMatches {
    /// The key's columns, in the key's order.
    pub keys: RecordBatch,
    /// BM25 of each document with the sign changed: larger is better.
    pub scores: Vec<f64>,
}

impl TextView {
    pub(super) fn new(folder: Arc<TextFolder>, indexes: Vec<TextIndex>, token: i64, failed: Option<String>) -> Self {
        let readers = Mutex::new(Readers { free: Vec::new(), count: 0, is_newest: true });
        Self { indexes, folder, token, failed, readers, returned: Condvar::new() }
    }

    /// Begins a read transaction for the readers that hold this state, before the writer commits
    /// the next one.
    pub fn retain(&self) -> Result<()> {
        let mut readers = self.readers.lock();
        if self.failed.is_none() && readers.count == 0 {
            let conn = self.begin()?;
            readers.free.push(conn);
            readers.count += 1;
        }
        readers.is_newest = false;
        Ok(())
    }

    /// Returns the number that identifies the state in the file; `None` if it cannot be read.
    pub fn token(&self) -> Option<i64> {
        self.failed.is_none().then_some(self.token)
    }

    fn begin(&self) -> Result<Connection> {
        let context = || "reading the text indexes";
        let conn = self.folder.reader()?;
        conn.execute_batch("BEGIN").map_err(failed(context))?;
        // The first read begins the transaction's snapshot.
        let token: i64 = conn.query_row("SELECT token FROM state", [], |row| row.get(0)).map_err(failed(context))?;
        if token != self.token {
            return Err(Error::Engine(format!("text indexes: expected state {}, got {token}", self.token)));
        }
        Ok(conn)
    }

    /// Reads at this state.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut readers = self.readers.lock();
        let conn = loop {
            if let Some(conn) = readers.free.pop() {
                break conn;
            }
            if readers.is_newest {
                let conn = self.begin()?;
                readers.count += 1;
                break conn;
            }
            self.returned.wait(&mut readers);
        };
        drop(readers);
        let done = work(&conn);
        self.readers.lock().free.push(conn);
        self.returned.notify_one();
        done
    }

    fn index(&self, table: &str, column: &str) -> Result<(&TextIndex, &Source)> {
        if let Some(problem) = &self.failed {
            return Err(Error::Engine(format!("the text indexes failed, the next sync makes them again: {problem}")));
        }
        let index = self.indexes.iter().find(|index| index.column.is(table, column));
        let index = index.ok_or_else(|| not_indexed(table, column))?;
        let source = index.source.as_ref().ok_or_else(|| not_indexed(table, column))?;
        Ok((index, source))
    }

    /// Checks that a column is indexed.
    pub fn check(&self, table: &str, column: &str) -> Result<()> {
        self.index(table, column).map(drop)
    }

    /// Returns the columns that are indexed.
    pub fn columns(&self) -> impl Iterator<Item = &TextColumn> {
        self.indexes.iter().filter(|index| index.source.is_some()).map(|index| &index.column)
    }

    /// Returns the documents that match a query of FTS5, at most `limit` of them.
    ///
    /// # Errors
    /// A column without an index; a query that FTS5 rejects.
    pub fn search(&self, table: &str, column: &str, query: &str, limit: Option<usize>) -> Result<TextMatches> {
        let (index, source) = self.index(table, column)?;
        let (terms, keys) = (index.terms(), index.keys());
        let found = format!("SELECT rowid AS id, -bm25({terms}) AS score FROM {terms} WHERE {terms} MATCH ?1");
        let sql = match source.is_by_row_id() {
            true => format!("{found} ORDER BY 2 DESC, 1 LIMIT ?2"),
            false => format!(
                "SELECT k.key, f.score FROM ({found}) AS f CROSS JOIN {keys} AS k ON k.id = f.id ORDER BY 2 DESC, 1 LIMIT ?2"
            ),
        };
        let limit = limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        self.read(|conn| {
            let context = || format!("text search {query:?} in column {column:?} of table {table:?}");
            let mut statement = conn.prepare_cached(&sql).map_err(failed(context))?;
            let mut rows = statement.query((query, limit)).map_err(failed(context))?;
            let (mut found, mut scores) = (Vec::new(), Vec::new());
            while let Some(row) = rows.next().map_err(failed(context))? {
                found.push(match row.get_ref(0).map_err(failed(context))? {
                    ValueRef::Integer(id) => DocumentKey::Integer(id),
                    ValueRef::Blob(key) => DocumentKey::Bytes(key.into()),
                    other => return Err(Error::Engine(format!("text indexes: a key of type {}", other.data_type()))),
                });
                scores.push(row.get(1).map_err(failed(context))?);
            }
            Ok(TextMatches { keys: source.decode(&found)?, scores })
        })
    }
}

impl Drop for TextView {
    fn drop(&mut self) {
        for conn in self.readers.get_mut().free.drain(..) {
            if conn.execute_batch("ROLLBACK").is_ok() {
                self.folder.put_back(conn);
            }
        }
    }
}

pub(super) fn not_indexed(table: &str, column: &str) -> Error {
    Error::InvalidArgument(format!(
        "column {column:?} of table {table:?} has no text index: expected one (register_text({table:?}, [{column:?}]) makes it)"
    ))
}
