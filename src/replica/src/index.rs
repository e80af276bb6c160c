//! Index from key to row: one 32-bit location for each live row. The index stores no keys, because
//! the key itself is in the row.

use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::{RwLock, RwLockReadGuard};

/// A row of a table: the slot of its segment, and its ordinal in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Location(u32);

impl Location {
    pub fn new(slot: usize, row: usize) -> Self {
        debug_assert!(slot <= usize::from(u16::MAX) && row <= usize::from(u16::MAX));
        Self((slot as u32) << 16 | row as u32)
    }

    pub fn slot(self) -> usize {
        (self.0 >> 16) as usize
    }

    pub fn row(self) -> usize {
        (self.0 & 0xFFFF) as usize
    }
}

/// Shards, so that growing one is a short pause.
const SHARDS: usize = 256;

/// Locations by the hash of their key. The newest version of a table keeps it up to date; a reader
/// of an older one checks what it finds against the rows that it sees.
#[derive(Debug)]
pub(super) struct KeyIndex {
    pub hasher: DefaultHashBuilder,
    generation: AtomicU64,
    shards: Vec<RwLock<HashTable<Location>>>,
}

/// Index update of one key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edit {
    pub hash: u64,
    /// Old location of its row; `None` if the key had no row.
    pub from: Option<Location>,
    /// New location of its row; `None` if the key has no row any more.
    pub to: Option<Location>,
}

// The table itself uses the lowest and the highest bits of a hash.
fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

impl KeyIndex {
    /// Creates an empty index with room for `keys` keys.
    pub fn with_capacity(keys: usize) -> Self {
        let shard = || RwLock::new(HashTable::with_capacity(keys / SHARDS));
        Self {
            hasher: DefaultHashBuilder::default(),
            generation: AtomicU64::new(0),
            shards: (0..SHARDS).map(|_| shard()).collect(),
        }
    }

    fn read(&self, shard: usize) -> RwLockReadGuard<'_, HashTable<Location>> {
        self.shards[shard].read()
    }

    /// Returns the generation of the version that the index belongs to, or is being updated to.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The location of a key that `is_it` recognises.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(Location) -> bool) -> Option<Location> {
        self.read(shard_of(hash)).find(hash, |location| is_it(*location)).copied()
    }

    /// For each hash, some location that has it: mostly that of its key.
    pub fn find_likely(&self, hashes: &[u64]) -> Vec<Option<Location>> {
        let mut found = vec![None; hashes.len()];
        for (shard, places) in ByShard::new(hashes.iter().copied()).groups() {
            let table = self.read(shard);
            for at in places {
                found[*at as usize] = table.find(hashes[*at as usize], |_| true).copied();
            }
        }
        found
    }

    /// Publishes this generation. Readers of older generations see the change before any slot is
    /// overwritten. An edit whose `from` does not match the index leaves its key unchanged.
    /// `hash_of` returns the hash of any location in the index.
    pub fn apply(&self, generation: u64, edits: Vec<Edit>, hash_of: impl Fn(Location) -> u64) {
        self.generation.store(generation, Ordering::Release);
        for (shard, places) in ByShard::new(edits.iter().map(|edit| edit.hash)).groups() {
            let edits = places.iter().map(|at| edits[*at as usize]);
            let added = edits.clone().filter(|edit| edit.from.is_none()).count();
            let mut table = self.shards[shard].write();
            table.reserve(added, |location| hash_of(*location));
            for Edit { hash, from, to } in edits {
                match (from, to) {
                    (Some(from), Some(to)) => {
                        if let Some(location) = table.find_mut(hash, |location| *location == from) {
                            *location = to;
                        }
                    }
                    (Some(from), None) => {
                        if let Ok(entry) = table.find_entry(hash, |location| *location == from) {
                            entry.remove();
                        }
                    }
                    (None, Some(to)) => {
                        table.insert_unique(hash, to, |location| hash_of(*location));
                    }
                    (None, None) => {}
                }
            }
        }
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        (0..SHARDS).map(|shard| self.read(shard).len()).sum()
    }

    /// Returns the memory of the index, in bytes.
    pub fn size_bytes(&self) -> usize {
        (0..SHARDS).map(|shard| self.read(shard).allocation_size()).sum()
    }
}

/// The ordinals of some hashes, by shard: a shard is locked once for them, as a lock waits for the
/// loads before it, which miss the caches, and its memory pages are read together.
struct ByShard {
    starts: [u32; SHARDS + 1],
    order: Vec<u32>,
}

impl ByShard {
    fn new(hashes: impl ExactSizeIterator<Item = u64> + Clone) -> Self {
        let mut starts = [0; SHARDS + 1];
        for hash in hashes.clone() {
            starts[shard_of(hash) + 1] += 1;
        }
        for shard in 0..SHARDS {
            starts[shard + 1] += starts[shard];
        }
        let mut ends = starts;
        let mut order = vec![0; hashes.len()];
        for (at, hash) in hashes.enumerate() {
            let end = &mut ends[shard_of(hash)];
            order[*end as usize] = at as u32;
            *end += 1;
        }
        Self { starts, order }
    }

    /// The shards that have some.
    fn groups(&self) -> impl Iterator<Item = (usize, &[u32])> {
        let group = |shard: usize| &self.order[self.starts[shard] as usize..self.starts[shard + 1] as usize];
        (0..SHARDS).map(move |shard| (shard, group(shard))).filter(|(_, places)| !places.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_keeps_its_parts() {
        let location = Location::new(65_535, 12_345);
        assert_eq!((location.slot(), location.row()), (65_535, 12_345));
    }

    #[test]
    fn keys_are_found_where_they_were_put_last() {
        let index = KeyIndex::with_capacity(0);
        let hash = |location: Location| (location.row() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let edit = |row: usize, from: Option<usize>, to: Option<usize>| Edit {
            hash: hash(Location::new(0, row)),
            from: from.map(|slot| Location::new(slot, row)),
            to: to.map(|slot| Location::new(slot, row)),
        };
        index.apply(1, (0..10_000).map(|row| edit(row, None, Some(0))).collect(), hash);
        let edits =
            vec![edit(7, Some(0), Some(1)), edit(7, Some(2), Some(3)), edit(8, Some(0), None), edit(9, Some(0), None)];
        index.apply(2, edits, hash);
        index.apply(3, vec![edit(9, None, Some(4)), edit(9, Some(4), Some(5)), edit(11, Some(1), None)], hash);
        assert_eq!((index.generation(), index.len()), (3, 9_999));
        let hashes: Vec<u64> = (0..10_000).map(|row| hash(Location::new(0, row))).collect();
        let likely = index.find_likely(&hashes);
        for (row, likely) in likely.into_iter().enumerate() {
            let expected = match row {
                7 => Some(Location::new(1, 7)),
                8 => None,
                9 => Some(Location::new(5, 9)),
                row => Some(Location::new(0, row)),
            };
            let hash = hash(Location::new(0, row));
            assert_eq!(index.find(hash, |found| found.row() == row), expected);
            // That of another key only where the hashes look alike; none only where there is none.
            assert!(likely == expected || likely.is_some_and(|found| found.row() != row));
        }
        assert!(index.size_bytes() > 0);
    }
}
