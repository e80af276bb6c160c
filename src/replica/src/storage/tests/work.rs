//! The cost of a save is proportional to the change, not to the table.

use std::path::Path;
use std::sync::Arc;

use super::power::SimulatedDisk;
use super::round_trip::FORMATS;
use crate::storage::Store;
use crate::tests::{apply, batch, definition, many, mirror, new_replica, version};
use crate::{Replicas, SyncMode};

#[test]
fn a_save_writes_what_changed() {
    for format in FORMATS {
        let disk = SimulatedDisk::default();
        let store = Store::open(Path::new("f"), format, Arc::new(disk.clone())).unwrap();
        let definition = definition(SyncMode::Destructive);
        let replicas = new_replica(&definition);
        apply(&replicas, &batch(&definition, &many(0..200_000, 1)), 1);
        store.save(&replicas.snapshot(), 0, "").unwrap();
        let rest = |before: u64| disk.written_bytes() - before;
        let whole = rest(0);
        assert!(whole > 400_000, "{whole} bytes");

        // A state that is stored costs nothing, one with another position a manifest.
        let operations = disk.operations();
        store.save(&replicas.snapshot(), 0, "").unwrap();
        assert_eq!(disk.operations(), operations);
        let before = disk.written_bytes();
        store.save(&replicas.snapshot(), 1, "").unwrap();
        assert!(rest(before) < 2_000, "{} bytes", rest(before));

        // Ten rows in one segment: a bitmap of 8 KiB, a small segment, a manifest.
        let before = disk.written_bytes();
        apply(&replicas, &batch(&definition, &many(70_000..70_010, 2)), 2);
        store.save(&replicas.snapshot(), 1, "").unwrap();
        assert!((8_192..14_000).contains(&rest(before)), "{} bytes", rest(before));

        // And so after the store was opened again.
        drop(store);
        let store = Store::open(Path::new("f"), format, Arc::new(disk.clone())).unwrap();
        let replicas = Replicas::default();
        replicas.restore(&store.load().unwrap().unwrap()).unwrap();
        let before = disk.written_bytes();
        apply(&replicas, &batch(&definition, &many(70_005..70_015, 3)), 3);
        store.save(&replicas.snapshot(), 1, "").unwrap();
        assert!((8_192..14_000).contains(&rest(before)), "{} bytes", rest(before));
    }
}

#[test]
fn bitmap_files_hold_little_that_is_not_in_use() {
    const SEGMENTS: i64 = 24;
    let disk = SimulatedDisk::default();
    let store = Store::open(Path::new("f"), FORMATS[0], Arc::new(disk.clone())).unwrap();
    let definition = definition(SyncMode::Destructive);
    let replicas = new_replica(&definition);
    for segment in 0..SEGMENTS {
        apply(&replicas, &batch(&definition, &many(segment * 100..segment * 100 + 100, 1)), segment);
    }
    for round in 0..SEGMENTS {
        // One segment less each time: so of each file one bitmap would stay in use.
        let rows: Vec<_> = (round..SEGMENTS)
            .flat_map(|segment| many(segment * 100 + round..segment * 100 + round + 1, round))
            .collect();
        apply(&replicas, &batch(&definition, &rows), SEGMENTS + round);
        store.save(&replicas.snapshot(), round, "").unwrap();
        let state = store.state();
        let stored: u64 = state.manifest.bitmaps.iter().map(|file| file.bytes).sum();
        let used = state.segments.values().filter(|entry| entry.live.is_some());
        let used: u64 = used.map(|entry| entry.rows.div_ceil(8) as u64).sum();
        assert!(stored <= 5 * used, "{stored} bytes for {used}");
    }
    let again = Replicas::default();
    again.restore(&store.load().unwrap().unwrap()).unwrap();
    assert_eq!(mirror(&version(&again)), mirror(&version(&replicas)));
}
