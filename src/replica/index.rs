//! Where the row of a key is: one 32-bit location for each live row, and nothing else, as the key itself is in the row.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::{DefaultHashBuilder, HashTable};

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

/// Locations by the hash of their key. The newest version of a table keeps it up to date; a reader of an older one checks
/// what it finds against the rows that it sees.
#[derive(Debug)]
pub(super) struct KeyIndex {
    pub hasher: DefaultHashBuilder,
    generation: AtomicU64,
    shards: Vec<RwLock<HashTable<Location>>>,
}

impl Default for KeyIndex {
    fn default() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            generation: AtomicU64::new(0),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
        }
    }
}

impl KeyIndex {
    // The table itself uses the lowest and the highest bits of a hash.
    fn shard(&self, hash: u64) -> &RwLock<HashTable<Location>> {
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    fn read(&self, hash: u64) -> RwLockReadGuard<'_, HashTable<Location>> {
        self.shard(hash).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, hash: u64) -> RwLockWriteGuard<'_, HashTable<Location>> {
        self.shard(hash).write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version that the index is of, or is becoming that of.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Tells readers of earlier versions, before anything is changed, that the index is no longer theirs.
    pub fn begin(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }

    /// The location of a key that `is_it` recognises.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(Location) -> bool) -> Option<Location> {
        self.read(hash).find(hash, |location| is_it(*location)).copied()
    }

    /// Adds a key that is not there. `hash_of` tells the hash of any location in the index.
    pub fn insert(&self, hash: u64, location: Location, hash_of: impl Fn(Location) -> u64) {
        self.write(hash).insert_unique(hash, location, |location| hash_of(*location));
    }

    /// Moves a key; whether it was where it was said to be.
    pub fn replace(&self, hash: u64, from: Location, to: Location) -> bool {
        match self.write(hash).find_mut(hash, |location| *location == from) {
            Some(location) => {
                *location = to;
                true
            }
            None => false,
        }
    }

    /// Forgets a key.
    pub fn remove(&self, hash: u64, location: Location) {
        if let Ok(entry) = self.write(hash).find_entry(hash, |found| *found == location) {
            entry.remove();
        }
    }

    /// Makes room for more keys at once.
    pub fn reserve(&self, keys: usize, hash_of: impl Fn(Location) -> u64) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.reserve(keys / SHARDS, |location| hash_of(*location));
        }
    }

    /// Keys.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Bytes held.
    pub fn size_bytes(&self) -> usize {
        let shards = self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner));
        shards.map(|shard| shard.allocation_size()).sum()
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
        let index = KeyIndex::default();
        let hash = |location: Location| location.row() as u64 * 0x9E37_79B9_7F4A_7C15;
        for row in 0..10_000 {
            let location = Location::new(0, row);
            index.insert(hash(location), location, hash);
        }
        assert!(index.replace(hash(Location::new(0, 7)), Location::new(0, 7), Location::new(1, 7)));
        assert!(!index.replace(hash(Location::new(0, 7)), Location::new(0, 7), Location::new(2, 7)));
        index.remove(hash(Location::new(0, 8)), Location::new(0, 8));
        for row in 0..10_000 {
            let found = index.find(hash(Location::new(0, row)), |found| found.row() == row);
            let expected = match row {
                7 => Some(Location::new(1, 7)),
                8 => None,
                row => Some(Location::new(0, row)),
            };
            assert_eq!(found, expected);
        }
        assert!(index.size_bytes() > 0);
    }
}
