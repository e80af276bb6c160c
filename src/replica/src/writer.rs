//! Makes the next version of a table in two steps: the first computes and may fail, the second
//! publishes and cannot fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use vexact_core::error::{Error, Result};

use super::changes::{ChangeBatch, Counts};
use super::index::{Edit, KeyIndex, Location};
use super::version::{Definition, Part, SEGMENT_ROWS, Segment, SyncMode, TableVersion};
use super::{destructive, temporal};

/// The writer of a table, which makes its versions.
#[derive(Debug)]
pub(super) struct TableWriter {
    version: Arc<TableVersion>,
}

/// A computed result that only has to be published.
#[derive(Debug)]
pub(super) struct Staged {
    segments: Vec<(usize, Arc<Segment>)>,
    edits: Vec<Edit>,
    pub counts: Counts,
}

impl TableWriter {
    pub fn new(version: Arc<TableVersion>) -> Self {
        Self { version }
    }

    pub fn version(&self) -> &Arc<TableVersion> {
        &self.version
    }

    /// Computes the effect of the changes. The table does not change yet.
    pub fn stage(&self, changes: &ChangeBatch) -> Result<Staged> {
        let outcome = match self.version.definition.mode {
            SyncMode::Destructive => destructive::outcome(&self.version, changes)?,
            SyncMode::Temporal => temporal::outcome(&self.version, changes)?,
        };
        let slots = free_slots(&self.version.parts);
        let mut segments = Vec::new();
        for (slot, start) in slots.zip((0..outcome.rows.num_rows()).step_by(SEGMENT_ROWS)) {
            if slot > usize::from(u16::MAX) {
                return Err(Error::Engine(format!(
                    "table {:?}: more than {} segments",
                    self.version.definition.name,
                    u16::MAX
                )));
            }
            let rows = outcome.rows.slice(start, SEGMENT_ROWS.min(outcome.rows.num_rows() - start));
            segments.push((slot, Arc::new(Segment::try_new(rows, &self.version.definition.key)?)));
        }
        let place = |row: u32| {
            let (segment, row) = (row as usize / SEGMENT_ROWS, row as usize % SEGMENT_ROWS);
            Location::new(segments[segment].0, row)
        };
        // The forgotten first: so there is room for others.
        let forgotten = outcome.forgotten.iter().map(|(hash, from)| Edit { hash: *hash, from: Some(*from), to: None });
        let current = outcome.current.iter();
        let current = current.map(|row| Edit { hash: row.hash, from: row.before, to: Some(place(row.row)) });
        let edits = forgotten.chain(current).collect();
        Ok(Staged { edits, segments, counts: outcome.counts })
    }

    /// Makes the next version.
    pub fn commit(&mut self, staged: Staged) -> Arc<TableVersion> {
        let Staged { segments, edits, .. } = staged;
        let mut parts = self.version.parts.clone();
        for (slot, segment) in segments {
            parts.resize(parts.len().max(slot + 1), None);
            parts[slot] = Some(Part::new(segment));
        }
        let mut dead: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for location in edits.iter().filter_map(|edit| edit.from) {
            dead.entry(location.slot()).or_default().push(location.row());
        }
        let index = Arc::clone(&self.version.index);
        index.apply(self.version.generation + 1, edits, |location| hash_in(&parts, location, &index));
        for (slot, rows) in dead {
            parts[slot] = parts[slot].as_ref().map(|part| part.without(rows)).filter(|part| part.live_rows > 0);
        }
        self.publish(parts, index)
    }

    /// Merges the live rows of some segments into one. `merged`: these rows, in the order of the
    /// slots and of their ordinals, as an earlier version saw them (`from`).
    pub fn replace_segments(&mut self, from: &TableVersion, slots: &[usize], merged: RecordBatch) -> Result<()> {
        let segment = Arc::new(Segment::try_new(merged, &self.version.definition.key)?);
        let Some(target) = free_slots(&self.version.parts).next().filter(|slot| *slot <= usize::from(u16::MAX)) else {
            return Ok(());
        };
        let mut parts = self.version.parts.clone();
        parts.resize(parts.len().max(target + 1), None);
        parts[target] = Some(Part::new(Arc::clone(&segment)));
        let index = Arc::clone(&self.version.index);
        let mut edits = Vec::with_capacity(segment.rows.num_rows());
        let mut dead = Vec::new();
        let mut row = 0;
        for slot in slots {
            let Some(seen) = &from.parts[*slot] else { continue };
            for old in seen.live_ordinals() {
                // A row deleted since the rows were copied is deleted in the copy too.
                if parts[*slot].as_ref().is_some_and(|part| part.is_live(old)) {
                    // A closed row of a temporal table is in no index.
                    let hash = segment.keys.hash(row, &index.hasher);
                    let (from, to) = (Some(Location::new(*slot, old)), Some(Location::new(target, row)));
                    edits.push(Edit { hash, from, to });
                } else {
                    dead.push(row);
                }
                row += 1;
            }
        }
        index.apply(self.version.generation + 1, edits, |location| hash_in(&parts, location, &index));
        if !dead.is_empty() {
            parts[target] = parts[target].as_ref().map(|part| part.without(dead)).filter(|part| part.live_rows > 0);
        }
        for slot in slots {
            parts[*slot] = None;
        }
        self.publish(parts, index);
        Ok(())
    }

    fn publish(&mut self, mut parts: Vec<Option<Part>>, index: Arc<KeyIndex>) -> Arc<TableVersion> {
        while parts.last().is_some_and(Option::is_none) {
            parts.pop();
        }
        let definition: &Arc<Definition> = &self.version.definition;
        let generation = self.version.generation + 1;
        let next = TableVersion::new(Arc::clone(definition), parts, generation, index);
        self.version = Arc::new(next.with_sketches(self.version.sketches()));
        Arc::clone(&self.version)
    }
}

/// Slots without a segment, without end.
fn free_slots(parts: &[Option<Part>]) -> impl Iterator<Item = usize> {
    let holes: Vec<usize> = (0..parts.len()).filter(|slot| parts[*slot].is_none()).collect();
    holes.into_iter().chain(parts.len()..)
}

/// The hash of the key of a row.
pub(super) fn hash_in(parts: &[Option<Part>], location: Location, index: &KeyIndex) -> u64 {
    match &parts[location.slot()] {
        Some(part) => part.segment.keys.hash(location.row(), &index.hasher),
        None => 0,
    }
}
