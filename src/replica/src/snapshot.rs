//! The replicas of a database. Readers see tables that changed together in one snapshot.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::execution::memory_pool::MemoryPool;
use parking_lot::{Mutex, MutexGuard, RwLock};
use vexact_core::error::{Error, Result};

use super::changes::{ChangeBatch, Counts};
use super::text::{TextView, TextWriter};
use super::version::{Definition, TableVersion};
use super::writer::TableWriter;
use super::{compaction, load};

/// All tables at one position of the change log.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    tables: BTreeMap<String, TableSnapshot>,
    /// Position of the last change of the log that the snapshot includes.
    pub applied_seq: i64,
    /// The text indexes at these versions; `None` without an index.
    pub(super) text: Option<Arc<TextView>>,
}

/// A table of a snapshot.
#[derive(Debug, Clone)]
pub struct TableSnapshot {
    /// Its rows.
    pub version: Arc<TableVersion>,
    /// Error of a table whose replication failed, so that it must not be read; `None` if it is
    /// readable.
    pub failed: Option<String>,
}

/// Names are compared as SQLite does.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase()
}

impl Snapshot {
    /// A table by its name, in any case.
    pub fn table(&self, name: &str) -> Option<&TableSnapshot> {
        self.tables.get(&folded(name))
    }

    /// Returns a snapshot of some of the tables, at another position.
    pub fn only(&self, names: &[String], applied_seq: i64) -> Snapshot {
        let table = |name: &String| Some((folded(name), self.table(name)?.clone()));
        Snapshot { tables: names.iter().filter_map(table).collect(), applied_seq, text: None }
    }

    /// The tables, by name.
    pub fn tables(&self) -> impl Iterator<Item = &TableSnapshot> {
        self.tables.values()
    }
}

/// Update of one table in the next snapshot.
#[derive(Debug)]
pub enum Update<'c> {
    /// Applies changes.
    Apply(&'c ChangeBatch),
    /// Replaces all rows with these rows, of the registered schema and with distinct keys; in a
    /// history they are valid from this time on.
    Replace(Arc<Definition>, Vec<RecordBatch>, i64),
    /// Gives the rows the columns of a definition with the same key; those that are new have these
    /// values, of one row each.
    Redefine(Arc<Definition>, HashMap<String, ArrayRef>),
    /// Reconciles a temporal table with a full copy of its rows: each difference becomes a version
    /// at this time.
    Continue(RecordBatch, i64),
    /// Marks it as unreadable.
    Fail(String),
    /// Drops the replica.
    Drop,
}

/// The replicas: readers take a [`Snapshot`], one writer makes the next.
#[derive(Debug, Default)]
pub struct Replicas {
    current: RwLock<Arc<Snapshot>>,
    writers: Mutex<HashMap<String, TableWriter>>,
    is_compacting: AtomicBool,
    /// The pool in which sketches reserve their memory; before a search sets it, none are encoded.
    memory: OnceLock<Arc<dyn MemoryPool>>,
    pub(super) text: Mutex<TextWriter>,
}

impl Replicas {
    /// Has sketches reserve their memory in this pool. The first call decides.
    pub fn set_memory(&self, pool: &Arc<dyn MemoryPool>) {
        self.memory.get_or_init(|| Arc::clone(pool));
    }

    /// Has the new segments of a table encoded, in the background, if its sketches have a basis.
    fn encode_beside(&self, version: &TableVersion) {
        if let Some(memory) = self.memory.get().filter(|_| version.sketches().has_basis())
            && let Ok(chunks) = version.chunks()
        {
            chunks.encode_new_batches(memory);
        }
    }

    /// The newest state.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read())
    }

    pub(super) fn writers(&self) -> MutexGuard<'_, HashMap<String, TableWriter>> {
        self.writers.lock()
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        *self.current.write() = Arc::new(snapshot);
    }

    /// Replaces all tables. `text` is the state of the text indexes that belongs to them.
    pub(super) fn replace_all(&self, tables: Vec<TableSnapshot>, applied_seq: i64, text: Option<i64>) {
        let mut writers = self.writers();
        let named = |state: TableSnapshot| (folded(&state.version.definition.name), state);
        let tables: BTreeMap<String, TableSnapshot> = tables.into_iter().map(named).collect();
        let writer =
            |(name, state): (&String, &TableSnapshot)| (name.clone(), TableWriter::new(Arc::clone(&state.version)));
        *writers = tables.iter().map(writer).collect();
        self.publish_restored(Snapshot { tables, applied_seq, text: None }, text);
    }

    /// Publishes the next snapshot with all updates together, at a position of the log. The updates
    /// of one table are applied in order. A table whose changes cannot be applied is marked as
    /// failed, and its other updates are errors; the other tables are not affected.
    pub fn update(&self, updates: Vec<(String, Update<'_>)>, applied_seq: i64) -> Vec<(String, Result<Counts>)> {
        let mut writers = self.writers();
        let before = self.snapshot();
        let mut next = Snapshot::clone(&before);
        let mut results = Vec::with_capacity(updates.len());
        let mut failed: HashMap<String, String> = HashMap::new();
        let mut changed: Vec<Arc<TableVersion>> = Vec::new();
        for (name, update) in updates {
            let key = folded(&name);
            let result = match failed.get(&key) {
                Some(error) => Err(Error::Engine(error.clone())),
                None => apply(&mut writers, &key, update),
            };
            match &result {
                Ok(Applied::Version(version, _)) => {
                    changed.push(Arc::clone(version));
                    let state = TableSnapshot { version: Arc::clone(version), failed: None };
                    next.tables.insert(key, state);
                }
                Ok(Applied::Dropped) => {
                    next.tables.remove(&key);
                }
                Ok(Applied::Failed(error)) => {
                    if let Some(state) = next.tables.get_mut(&key) {
                        state.failed = Some(error.clone());
                    }
                }
                Err(error) => {
                    failed.insert(key.clone(), error.to_string());
                    if let Some(state) = next.tables.get_mut(&key) {
                        state.failed = Some(error.to_string());
                    }
                }
            }
            let counts = |applied| match applied {
                Applied::Version(_, counts) => counts,
                Applied::Dropped | Applied::Failed(_) => Counts::default(),
            };
            results.push((name, result.map(counts)));
        }
        next.applied_seq = applied_seq;
        self.publish_with_text(&before, next);
        changed.iter().for_each(|version| self.encode_beside(version));
        results
    }

    /// Merges segments in the background if that is worthwhile and no merge is running. Needs a
    /// tokio runtime.
    pub fn compact_beside(self: &Arc<Self>) {
        if !self.is_worth_compacting() || self.is_compacting.swap(true, Ordering::AcqRel) {
            return;
        }
        let replicas = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            // Segments that cannot be merged stay unchanged; the next cycle retries the merge.
            while replicas.compact(false).unwrap_or(false) {}
            replicas.is_compacting.store(false, Ordering::Release);
        });
    }

    /// Returns true if [`Self::compact`] would merge segments.
    pub fn is_worth_compacting(&self) -> bool {
        self.snapshot().tables().any(|state| compaction::choose(&state.version).is_some())
    }

    /// Merges segments where that is worthwhile; returns true if anything was merged. `is_full`
    /// merges all segments that can be merged.
    ///
    /// # Errors
    /// Rows that cannot be copied together.
    pub fn compact(&self, is_full: bool) -> Result<bool> {
        let mut has_merged = false;
        let tables: Vec<Arc<TableVersion>> = self.snapshot().tables().map(|state| Arc::clone(&state.version)).collect();
        for version in tables {
            let groups = if is_full {
                compaction::choose_all(&version)
            } else {
                compaction::choose(&version).into_iter().collect()
            };
            for slots in groups {
                // Rows are copied concurrently with incoming changes.
                let merged = compaction::merge(&version, &slots)?;
                let mut writers = self.writers();
                let key = folded(&version.definition.name);
                let Some(writer) = writers.get_mut(&key) else { break };
                let same = |slot: &usize| match (&version.parts[*slot], writer.version().parts.get(*slot)) {
                    (Some(seen), Some(Some(now))) => Arc::ptr_eq(&seen.segment, &now.segment),
                    _ => false,
                };
                if !slots.iter().all(same) {
                    continue;
                }
                writer.replace_segments(&version, &slots, merged)?;
                let mut next = Snapshot::clone(&self.snapshot());
                let merged = Arc::clone(writer.version());
                if let Some(state) = next.tables.get_mut(&key) {
                    state.version = Arc::clone(&merged);
                }
                self.publish(next);
                self.encode_beside(&merged);
                has_merged = true;
            }
        }
        Ok(has_merged)
    }
}

enum Applied {
    Version(Arc<TableVersion>, Counts),
    Failed(String),
    Dropped,
}

fn apply(writers: &mut HashMap<String, TableWriter>, key: &str, update: Update<'_>) -> Result<Applied> {
    match update {
        Update::Apply(changes) => {
            let Some(writer) = writers.get_mut(key) else { return Err(no_replica(key)) };
            let staged = writer.stage(changes)?;
            let counts = staged.counts;
            Ok(Applied::Version(writer.commit(staged), counts))
        }
        Update::Replace(definition, rows, time) => {
            let version = load::version(definition, &rows, time)?;
            // The bases of the rows before serve those of the same columns.
            let version = Arc::new(match writers.get(key).map(TableWriter::version) {
                Some(old) if old.schema() == version.schema() => version.with_sketches(old.sketches()),
                _ => version,
            });
            let counts = Counts { inserted: version.num_rows() as u64, ..Counts::default() };
            writers.insert(key.to_owned(), TableWriter::new(Arc::clone(&version)));
            Ok(Applied::Version(version, counts))
        }
        Update::Redefine(definition, defaults) => {
            let Some(writer) = writers.get_mut(key) else { return Err(no_replica(key)) };
            let version = Arc::new(writer.version().with_definition(definition, &defaults)?);
            *writer = TableWriter::new(Arc::clone(&version));
            Ok(Applied::Version(version, Counts::default()))
        }
        Update::Continue(rows, time) => {
            let Some(writer) = writers.get_mut(key) else { return Err(no_replica(key)) };
            let changes = writer.version().difference(rows, time)?;
            let staged = writer.stage(&changes)?;
            let counts = staged.counts;
            Ok(Applied::Version(writer.commit(staged), counts))
        }
        Update::Fail(error) => Ok(Applied::Failed(error)),
        Update::Drop => {
            writers.remove(key);
            Ok(Applied::Dropped)
        }
    }
}

fn no_replica(table: &str) -> Error {
    Error::Engine(format!("table {table:?} has no replica"))
}
