//! The private file with the text indexes, and its one writer.
//!
//! | table | content |
//! |---|---|
//! | `state` | the version of this layout, and the token of the state |
//! | `indexes` | number, table, column and tokenizer of each index |
//! | `terms_N` | the FTS5 table of index N; its rows have the key as row id, or a number in `keys_N` |
//! | `keys_N` | number and encoded key; only if the key is not one integer |

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use rusqlite::{CachedStatement, Connection, OptionalExtension};
use vexact_core::error::{Error, Result};
use vexact_core::sql::failed;

use super::delta::{Delta, all_rows, each_batch};
use super::folder::{TextFolder, random};
use super::index::{DocumentKey, Source, TextColumn, TextIndex};
use super::view::TextView;
use crate::index::Location;
use crate::snapshot::Snapshot;
use crate::version::TableVersion;

/// Version of the layout and of the encoding of keys.
const LAYOUT: i64 = 1;

/// Size of the writer's page cache: SQLite takes a negative number as KiB.
const CACHE: i64 = -32 * 1024;

/// The private file.
#[derive(Debug)]
pub(super) struct TextFile {
    conn: Connection,
    folder: Arc<TextFolder>,
    indexes: Vec<TextIndex>,
    token: i64,
}

/// A written state that is not committed yet.
pub(super) struct Staged {
    indexes: Vec<TextIndex>,
    token: i64,
    /// False if it is the state before.
    pub is_changed: bool,
}

fn context() -> &'static str {
    "writing the text indexes"
}

impl TextFile {
    /// Opens the file in a folder. A file that cannot be read, or that is of another layout, is
    /// made again.
    ///
    /// # Errors
    /// A file that cannot be created.
    pub fn open(folder: Arc<TextFolder>) -> Result<Self> {
        if let Ok(file) = Self::read(&folder) {
            return Ok(file);
        }
        folder.remove_file();
        Self::read(&folder)
    }

    fn read(folder: &Arc<TextFolder>) -> Result<Self> {
        let conn = folder.connect()?;
        let synchronous = if folder.is_lasting() { "NORMAL" } else { "OFF" };
        let set_up = || -> rusqlite::Result<(i64, i64)> {
            conn.pragma_update(None, "journal_mode", "WAL")?;
            conn.pragma_update(None, "synchronous", synchronous)?;
            conn.pragma_update(None, "cache_size", CACHE)?;
            conn.execute_batch(
                "BEGIN IMMEDIATE;
                CREATE TABLE IF NOT EXISTS state(one INTEGER PRIMARY KEY CHECK (one = 1), layout INTEGER, token INTEGER);
                CREATE TABLE IF NOT EXISTS indexes(id INTEGER PRIMARY KEY, tbl TEXT, col TEXT, tokenizer TEXT);",
            )?;
            conn.execute("INSERT OR IGNORE INTO state VALUES (1, ?1, ?2)", (LAYOUT, random()))?;
            conn.execute_batch("COMMIT")?;
            conn.query_row("SELECT layout, token FROM state", [], |row| Ok((row.get(0)?, row.get(1)?)))
        };
        let (layout, token) = set_up().map_err(failed(context))?;
        if layout != LAYOUT {
            return Err(Error::Engine(format!("text indexes: expected layout {LAYOUT}, got {layout}")));
        }
        let read = || -> rusqlite::Result<Vec<(i64, String, String, String)>> {
            conn.prepare("SELECT id, tbl, col, tokenizer FROM indexes ORDER BY id")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
                .collect()
        };
        let index = |(id, table, column, tokenizer): (i64, String, String, String)| {
            let column = TextColumn { table, column, tokenizer: tokenizer.parse()? };
            Ok(TextIndex { id, column, source: None })
        };
        let indexes = read().map_err(failed(context))?.into_iter().map(index).collect::<Result<_>>()?;
        Ok(Self { conn, folder: Arc::clone(folder), indexes, token })
    }

    pub fn token(&self) -> i64 {
        self.token
    }

    pub fn indexes(&self) -> &[TextIndex] {
        &self.indexes
    }

    /// Accepts the content as that of a snapshot.
    pub fn accept(&mut self, snapshot: &Snapshot) {
        for index in &mut self.indexes {
            index.source = source_in(snapshot, &index.column).map(|(source, _)| source);
        }
    }

    /// Forgets the content: the next write makes it again.
    pub fn forget(&mut self) {
        self.indexes.iter_mut().for_each(|index| index.source = None);
    }

    /// The state, for readers.
    pub fn view(&self) -> TextView {
        TextView::new(Arc::clone(&self.folder), self.indexes.clone(), self.token, None)
    }

    /// A state that cannot be read.
    pub fn failed_view(&self, problem: String) -> TextView {
        TextView::new(Arc::clone(&self.folder), self.indexes.clone(), self.token, Some(problem))
    }

    /// Writes the difference of two snapshots, in a transaction that [`Self::commit`] ends. `wanted`
    /// are the columns to index, if they change.
    pub fn stage(&self, before: &Snapshot, after: &Snapshot, wanted: Option<Vec<TextColumn>>) -> Result<Staged> {
        let mut next = self.indexes.clone();
        let mut is_changed = false;
        self.conn.execute_batch("BEGIN IMMEDIATE").map_err(failed(context))?;
        if let Some(wanted) = wanted {
            is_changed |= self.define(&mut next, wanted)?;
        }
        for index in &mut next {
            let new = source_in(after, &index.column);
            match (&index.source, new) {
                (None, None) => {}
                (Some(_), None) => {
                    self.drop_content(index)?;
                    index.source = None;
                    is_changed = true;
                }
                (Some(old), Some((new, version))) if *old == new => {
                    let known = before.table(&index.column.table).map(|state| &state.version);
                    if known.is_some_and(|known| Arc::ptr_eq(known, version)) {
                        continue;
                    }
                    let delta = known.map(|known| (known, Delta::between(known, version)));
                    match delta {
                        Some((_, delta)) if delta.removed.is_empty() && delta.added.is_empty() => {}
                        Some((known, delta)) if delta.removed.len() < known.num_rows() || known.num_rows() == 0 => {
                            is_changed |= self.apply(index, &new, known, version, &delta)?;
                        }
                        _ => {
                            self.build(index, &new, version)?;
                            is_changed = true;
                        }
                    }
                }
                (_, Some((new, version))) => {
                    self.build(index, &new, version)?;
                    index.source = Some(new);
                    is_changed = true;
                }
            }
        }
        let token = self.token.wrapping_add(i64::from(is_changed));
        if is_changed {
            self.conn.execute("UPDATE state SET token = ?1", [token]).map_err(failed(context))?;
        }
        Ok(Staged { indexes: next, token, is_changed })
    }

    pub fn commit(&mut self, staged: Staged) -> Result<()> {
        self.conn.execute_batch("COMMIT").map_err(failed(context))?;
        (self.indexes, self.token) = (staged.indexes, staged.token);
        Ok(())
    }

    pub fn roll_back(&self) {
        // Without a transaction there is nothing to roll back.
        let _ = self.conn.execute_batch("ROLLBACK");
    }

    /// Makes the definitions the wanted ones.
    fn define(&self, indexes: &mut Vec<TextIndex>, wanted: Vec<TextColumn>) -> Result<bool> {
        let mut is_changed = false;
        let mut kept = Vec::new();
        for index in indexes.drain(..) {
            let is_wanted = |column: &TextColumn| {
                index.column.is(&column.table, &column.column) && column.tokenizer == index.column.tokenizer
            };
            if wanted.iter().any(is_wanted) {
                kept.push(index);
            } else {
                self.drop_content(&index)?;
                self.conn.execute("DELETE FROM indexes WHERE id = ?1", [index.id]).map_err(failed(context))?;
                is_changed = true;
            }
        }
        *indexes = kept;
        for column in wanted {
            if indexes.iter().any(|index| index.column.is(&column.table, &column.column)) {
                continue;
            }
            let insert = "INSERT INTO indexes(tbl, col, tokenizer) VALUES (?1, ?2, ?3)";
            let values = (&column.table, &column.column, column.tokenizer.name());
            self.conn.execute(insert, values).map_err(failed(context))?;
            indexes.push(TextIndex { id: self.conn.last_insert_rowid(), column, source: None });
            is_changed = true;
        }
        Ok(is_changed)
    }

    fn drop_content(&self, index: &TextIndex) -> Result<()> {
        let (terms, keys) = (index.terms(), index.keys());
        let drop = format!("DROP TABLE IF EXISTS {terms}; DROP TABLE IF EXISTS {keys};");
        self.conn.execute_batch(&drop).map_err(failed(context))
    }

    /// Makes the content of an index of all rows.
    fn build(&self, index: &TextIndex, source: &Source, version: &TableVersion) -> Result<()> {
        self.drop_content(index)?;
        let (terms, keys) = (index.terms(), index.keys());
        let tokenizer = index.column.tokenizer.fts5();
        let mut create = format!(
            "CREATE VIRTUAL TABLE {terms} USING fts5(body, content='', contentless_delete=1, tokenize='{tokenizer}');"
        );
        if !source.is_by_row_id() {
            create += &format!("CREATE TABLE {keys}(id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE);");
        }
        self.conn.execute_batch(&create).map_err(failed(context))?;
        let mut writer = DocumentWriter::new(&self.conn, index, source)?;
        each_document(version, &all_rows(version), source, |key, text| match text {
            Some(text) => writer.insert(&key, text),
            None => Ok(()),
        })
    }

    /// Applies the difference of two versions. Returns false if no text changed.
    fn apply(
        &self,
        index: &TextIndex,
        source: &Source,
        before: &TableVersion,
        after: &TableVersion,
        delta: &Delta,
    ) -> Result<bool> {
        let mut gone: HashMap<DocumentKey, String> = HashMap::new();
        each_document(before, &delta.removed, source, |key, text| {
            if let Some(text) = text {
                gone.insert(key, text.to_owned());
            }
            Ok(())
        })?;
        let mut new: Vec<(DocumentKey, String)> = Vec::new();
        each_document(after, &delta.added, source, |key, text| {
            match (text, gone.get(&key)) {
                // The row changed, but not its text.
                (Some(text), Some(old)) if text == old => drop(gone.remove(&key)),
                (Some(text), _) => new.push((key, text.to_owned())),
                (None, _) => {}
            }
            Ok(())
        })?;
        let mut writer = DocumentWriter::new(&self.conn, index, source)?;
        for key in gone.keys() {
            writer.delete(key)?;
        }
        for (key, text) in &new {
            writer.insert(key, text)?;
        }
        Ok(!gone.is_empty() || !new.is_empty())
    }
}

/// Returns the columns of an index in a snapshot, and the table's version; `None` if the snapshot
/// lacks them, or if the table's replication failed.
fn source_in<'s>(snapshot: &'s Snapshot, column: &TextColumn) -> Option<(Source, &'s Arc<TableVersion>)> {
    let state = snapshot.table(&column.table)?;
    let source = Source::of(state.version.definition(), &column.column).ok()?;
    Some((source, &state.version))
}

/// Calls `work` with the key and text of rows.
fn each_document(
    version: &TableVersion,
    rows: &[Location],
    source: &Source,
    mut work: impl FnMut(DocumentKey, Option<&str>) -> Result<()>,
) -> Result<()> {
    let columns: Vec<usize> = std::iter::once(source.text).chain(source.key.iter().copied()).collect();
    each_batch(version, rows, &columns, |batch| {
        let texts = batch.column(0).as_string::<i32>();
        for (row, key) in source.encode(&batch.columns()[1..])?.into_iter().enumerate() {
            work(key, texts.is_valid(row).then(|| texts.value(row)))?;
        }
        Ok(())
    })
}

/// Writes documents of one index, within a transaction.
struct DocumentWriter<'c> {
    insert: CachedStatement<'c>,
    delete: CachedStatement<'c>,
    /// Statements on the keys: insert, delete; `None` if the key is the row id.
    keys: Option<(CachedStatement<'c>, CachedStatement<'c>)>,
}

impl<'c> DocumentWriter<'c> {
    fn new(conn: &'c Connection, index: &TextIndex, source: &Source) -> Result<Self> {
        let (terms, keys) = (index.terms(), index.keys());
        let prepare = |sql: String| conn.prepare_cached(&sql).map_err(failed(context));
        Ok(Self {
            insert: prepare(format!("INSERT INTO {terms}(rowid, body) VALUES (?1, ?2)"))?,
            delete: prepare(format!("DELETE FROM {terms} WHERE rowid = ?1"))?,
            keys: match source.is_by_row_id() {
                true => None,
                false => Some((
                    prepare(format!("INSERT INTO {keys}(key) VALUES (?1) RETURNING id"))?,
                    prepare(format!("DELETE FROM {keys} WHERE key = ?1 RETURNING id"))?,
                )),
            },
        })
    }

    /// Adds a document whose key has none.
    fn insert(&mut self, key: &DocumentKey, text: &str) -> Result<()> {
        let id = match (key, &mut self.keys) {
            (DocumentKey::Integer(id), _) => *id,
            (DocumentKey::Bytes(key), Some((insert, _))) => {
                insert.query_row([&**key], |row| row.get(0)).map_err(failed(context))?
            }
            (DocumentKey::Bytes(_), None) => return Ok(()),
        };
        self.insert.execute((id, text)).map(drop).map_err(failed(context))
    }

    /// Removes the document of a key.
    fn delete(&mut self, key: &DocumentKey) -> Result<()> {
        let id: Option<i64> = match (key, &mut self.keys) {
            (DocumentKey::Integer(id), _) => Some(*id),
            (DocumentKey::Bytes(key), Some((_, delete))) => {
                delete.query_row([&**key], |row| row.get(0)).optional().map_err(failed(context))?
            }
            (DocumentKey::Bytes(_), None) => None,
        };
        match id {
            Some(id) => self.delete.execute([id]).map(drop).map_err(failed(context)),
            None => Ok(()),
        }
    }
}
