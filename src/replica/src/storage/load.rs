//! Loads the state of a store, and restores replicas from it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::buffer::{BooleanBuffer, Buffer};
use vexact_core::error::{Error, Result};
use vexact_core::folder::bad;

use super::manifest::{MANIFEST, SegmentEntry};
use super::store::Store;
use super::{bitmaps, parallel};
use crate::index::{Edit, KeyIndex, Location};
use crate::snapshot::{Replicas, TableSnapshot};
use crate::version::{Definition, Part, SEGMENT_ROWS, Segment, SyncMode, TableVersion};
use crate::writer::hash_in;

/// A state that was saved.
#[derive(Debug)]
pub struct Stored {
    /// The tables, by name.
    pub tables: Vec<StoredTable>,
    /// Position of the last change of the log that the state includes.
    pub applied_seq: i64,
    /// As it was given to [`Store::save`].
    pub last_time: i64,
    /// As it was given to [`Store::save`].
    pub extra: String,
    /// State of the text indexes.
    text: Option<i64>,
}

impl Stored {
    /// Checks that the replicas are of a sync mode.
    ///
    /// # Errors
    /// Replicas of the other one.
    pub fn check_mode(&self, mode: SyncMode) -> Result<()> {
        let Some(other) = self.tables.iter().map(|table| table.definition.mode).find(|stored| *stored != mode) else {
            return Ok(());
        };
        let (expected, got) = (other.name(), mode.name());
        Err(Error::InvalidArgument(format!(
            "sync_mode: the storage holds {expected} replicas: expected {expected:?}, got {got:?}"
        )))
    }
}

/// A stored table.
#[derive(Debug)]
pub struct StoredTable {
    /// Definition of the replica.
    pub definition: Arc<Definition>,
    /// Reason why the table must not be read; `None` if it is readable.
    pub failed: Option<String>,
    parts: Vec<Part>,
}

impl StoredTable {
    /// Returns the segments: their rows, and the bitmap of live rows if some rows are deleted.
    pub fn segments(&self) -> impl Iterator<Item = (&RecordBatch, Option<&BooleanBuffer>)> {
        self.parts.iter().map(|part| (&part.segment.rows, part.live.as_ref()))
    }

    /// Live rows.
    pub fn num_rows(&self) -> usize {
        self.parts.iter().map(|part| part.live_rows).sum()
    }

    /// The first version of a replica, its index rebuilt.
    fn version(&self) -> Result<TableVersion> {
        let parts: Vec<Option<Part>> = self.parts.iter().cloned().map(Some).collect();
        let index = KeyIndex::with_capacity(self.num_rows());
        let hash_of = |location: Location| hash_in(&parts, location, &index);
        let slots: Vec<(usize, &Part)> = self.parts.iter().enumerate().collect();
        // In a history the index knows the rows that are open.
        let valid_to = (self.definition.mode == SyncMode::Temporal).then(|| self.definition.schema.fields().len() + 1);
        let is_open =
            |part: &Part, row: usize| valid_to.is_none_or(|column| part.segment.rows.column(column).is_null(row));
        parallel::map(&slots, parallel::cores(), |(slot, part)| {
            let rows = 0..part.segment.rows.num_rows();
            let added = rows.filter(|row| part.is_live(*row) && is_open(part, *row)).map(|row| {
                let location = Location::new(*slot, row);
                Edit { hash: hash_of(location), from: None, to: Some(location) }
            });
            index.apply(0, added.collect(), hash_of);
            Ok(())
        })?;
        Ok(TableVersion::new(Arc::clone(&self.definition), parts, 0, Arc::new(index)))
    }
}

impl Store {
    /// Returns the stored state, with every file checked; returns `None` if nothing was saved yet.
    ///
    /// # Errors
    /// [`Error::BadFile`](vexact_core::Error::BadFile): a file that is missing, damaged, or
    /// inconsistent with the manifest.
    pub fn load(&self) -> Result<Option<Stored>> {
        let mut state = self.state();
        if state.manifest.saves == 0 {
            return Ok(None);
        }
        let manifest = &state.manifest;
        let manifest_path = self.folder.path_of(MANIFEST);
        let files = parallel::map(&manifest.bitmaps, parallel::cores(), |file| self.folder.read(file))?;
        let names = manifest.bitmaps.iter().map(|file| file.name.as_str());
        let bitmaps: HashMap<&str, Buffer> = names.zip(files).collect();

        let mut tables = Vec::with_capacity(manifest.tables.len());
        let mut wanted: Vec<(usize, &Definition, &SegmentEntry)> = Vec::new();
        for entry in &manifest.tables {
            let definition = entry.definition().map_err(|problem| bad(&manifest_path, problem))?;
            if entry.segments.len() > usize::from(u16::MAX) + 1 {
                let problem =
                    format!("expected at most 65536 segments of {:?}, got {}", entry.name, entry.segments.len());
                return Err(bad(&manifest_path, problem));
            }
            tables.push(StoredTable {
                definition: Arc::new(definition),
                failed: entry.failed.clone(),
                parts: Vec::with_capacity(entry.segments.len()),
            });
        }
        let schemas: Vec<_> = tables.iter().map(|table| table.definition.stored_schema()).collect();
        for (at, (entry, table)) in manifest.tables.iter().zip(&tables).enumerate() {
            wanted.extend(entry.segments.iter().map(|segment| (at, &*table.definition, segment)));
        }
        let parts = parallel::map(&wanted, parallel::cores(), |(at, definition, entry)| {
            let path = self.folder.path_of(&entry.file.name);
            if entry.rows > SEGMENT_ROWS {
                return Err(bad(&path, format!("expected at most {SEGMENT_ROWS} rows, got {}", entry.rows)));
            }
            let content = self.folder.read(&entry.file)?;
            let rows = self.format.read(content, &schemas[*at], entry.rows).map_err(|problem| bad(&path, problem))?;
            let segment = Arc::new(Segment::try_new(rows, &definition.key)?);
            let Some(live) = &entry.live else { return Ok(Part::new(segment)) };
            let path = self.folder.path_of(&live.file);
            let none = || bad(&path, "expected a file of the manifest, got none".into());
            let content = bitmaps.get(live.file.as_str()).ok_or_else(none)?;
            let bits = bitmaps::read(content, live, entry.rows).map_err(|problem| bad(&path, problem))?;
            Ok(Part { segment, live: Some(bits), live_rows: live.rows })
        })?;

        let mut segments = HashMap::with_capacity(parts.len());
        let places: Vec<usize> = wanted.iter().map(|(at, ..)| *at).collect();
        segments.extend(wanted.iter().zip(&parts).map(|((_, _, entry), part)| (part.segment.id, (*entry).clone())));
        for (at, part) in places.into_iter().zip(parts) {
            tables[at].parts.push(part);
        }
        let (applied_seq, last_time, text) = (manifest.applied_seq, manifest.last_time, manifest.text);
        let extra = manifest.extra.clone();
        // So that a save knows them.
        state.segments.extend(segments);
        Ok(Some(Stored { tables, applied_seq, last_time, extra, text }))
    }
}

impl Replicas {
    /// Replaces all replicas by a stored state.
    ///
    /// # Errors
    /// None that is expected. Nothing has changed then.
    pub fn restore(&self, stored: &Stored) -> Result<()> {
        let versions = stored.tables.iter().map(|table| Ok(Arc::new(table.version()?)));
        let versions: Vec<Arc<TableVersion>> = versions.collect::<Result<_>>()?;
        let states = versions.into_iter().zip(&stored.tables);
        let states = states.map(|(version, table)| TableSnapshot { version, failed: table.failed.clone() });
        self.replace_all(states.collect(), stored.applied_seq, stored.text);
        Ok(())
    }
}
