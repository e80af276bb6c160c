//! A replica that equals its table: the last state of each key wins.

use arrow::array::{BooleanArray, BooleanBufferBuilder};
use arrow::compute::filter_record_batch;
use hashbrown::HashTable;
use vexact_core::error::{Error, Result};

use super::changes::{Change, ChangeBatch, Counts, KeyState};
use super::index::Location;
use super::key::Keys;
use super::outcome::{Current, WriteResult};
use super::version::TableVersion;

/// The keys that occur in a batch of changes, each once, with the location of its row before the
/// batch.
pub(super) struct ChangedKeys<'c> {
    changes: &'c ChangeBatch,
    rows: Keys,
    gone: Keys,
    /// For each change, the hash of its key.
    hashes: Vec<u64>,
    /// For each change, the location of its key's row before the whole batch.
    before: Vec<Option<Location>>,
    table: HashTable<u32>,
    pub keys: Vec<TouchedKey>,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(super) struct TouchedKey {
    pub hash: u64,
    /// Its row in the version.
    pub before: Option<Location>,
    /// The last state of the key in the batch.
    pub last: KeyState,
}

impl<'c> ChangedKeys<'c> {
    /// `version` is the newest one.
    pub fn try_new(version: &TableVersion, changes: &'c ChangeBatch) -> Result<Self> {
        let gone: Vec<usize> = (0..changes.gone.num_columns()).collect();
        let rows = Keys::try_new(&changes.rows, &version.definition.key)?;
        let gone = Keys::try_new(&changes.gone, &gone)?;
        let key_of = |change: &Change| key_of(&rows, &gone, change.state);
        // In three short loops, so that the processor waits for many cache misses at once.
        let hash = |(keys, row): (&Keys, usize)| keys.hash(row, &version.index.hasher);
        let hashes: Vec<u64> = changes.changes.iter().map(|change| hash(key_of(change))).collect();
        let likely = version.index.find_likely(&hashes);
        let found = changes.changes.iter().zip(&hashes).zip(likely).map(|((change, hash), likely)| {
            let (keys, row) = key_of(change);
            let likely = likely?;
            let is_it = |location: Location| version.is_at(location, keys, row);
            if is_it(likely) { Some(likely) } else { version.index.find(*hash, is_it) }
        });
        let before = found.collect();
        Ok(Self {
            table: HashTable::with_capacity(changes.changes.len()),
            keys: Vec::with_capacity(changes.changes.len()),
            rows,
            gone,
            hashes,
            before,
            changes,
        })
    }

    /// Returns the key of a change, and the previous state of the same key in this batch.
    #[inline]
    pub fn touch(&mut self, change: usize) -> (usize, Option<KeyState>) {
        let state = self.changes.changes[change].state;
        let (hash, before) = (self.hashes[change], self.before[change]);
        let (keys, row) = key_of(&self.rows, &self.gone, state);
        let same = |touched: &u32| {
            let (other, other_row) = key_of(&self.rows, &self.gone, self.keys[*touched as usize].last);
            keys.equal(row, other, other_row)
        };
        if let Some(touched) = self.table.find(hash, same).copied() {
            let key = &mut self.keys[touched as usize];
            return (touched as usize, Some(std::mem::replace(&mut key.last, state)));
        }
        let touched = self.keys.len();
        self.keys.push(TouchedKey { hash, before, last: state });
        let hashes = &self.keys;
        self.table.insert_unique(hash, touched as u32, |touched| hashes[*touched as usize].hash);
        (touched, None)
    }
}

/// Returns the key of a state as a column set and a row in it.
fn key_of<'k>(rows: &'k Keys, gone: &'k Keys, state: KeyState) -> (&'k Keys, usize) {
    match state {
        KeyState::Row(row) => (rows, row as usize),
        KeyState::Gone(row) => (gone, row as usize),
    }
}

/// Computes the effect of a batch of changes.
pub(super) fn outcome(version: &TableVersion, changes: &ChangeBatch) -> Result<WriteResult> {
    let mut touched = ChangedKeys::try_new(version, changes)?;
    let mut counts = Counts::default();
    let mut superseded = 0;
    for (ordinal, change) in changes.changes.iter().enumerate() {
        let (key, earlier) = touched.touch(ordinal);
        let was_there = match earlier {
            Some(KeyState::Row(_)) => {
                superseded += 1;
                true
            }
            Some(KeyState::Gone(_)) => false,
            None => touched.keys[key].before.is_some(),
        };
        match (change.state, was_there) {
            (KeyState::Row(_), true) => counts.updated += 1,
            (KeyState::Row(_), false) => counts.inserted += 1,
            (KeyState::Gone(_), true) => counts.deleted += 1,
            (KeyState::Gone(_), false) => {}
        }
    }

    let mut rows = changes.rows.clone();
    // Ordinals after the rows that a later change overtook are taken out.
    let mut moved: Option<Vec<u32>> = None;
    if superseded > 0 {
        let mut kept = BooleanBufferBuilder::new(rows.num_rows());
        kept.append_n(rows.num_rows(), false);
        for key in &touched.keys {
            if let KeyState::Row(row) = key.last {
                kept.set_bit(row as usize, true);
            }
        }
        let kept = kept.finish();
        let mut next = 0;
        let ordinals = kept.iter().map(|is_kept| {
            next += u32::from(is_kept);
            next.saturating_sub(1)
        });
        moved = Some(ordinals.collect());
        rows = filter_record_batch(&rows, &BooleanArray::new(kept, None)).map_err(Error::arrow)?;
    }
    let mut current = Vec::with_capacity(rows.num_rows());
    let mut forgotten = Vec::new();
    for key in &touched.keys {
        match (key.last, key.before) {
            (KeyState::Row(row), before) => {
                let row = moved.as_ref().map_or(row, |moved| moved[row as usize]);
                current.push(Current { row, hash: key.hash, before });
            }
            (KeyState::Gone(_), Some(before)) => forgotten.push((key.hash, before)),
            (KeyState::Gone(_), None) => {}
        }
    }
    Ok(WriteResult { rows, current, forgotten, counts })
}
