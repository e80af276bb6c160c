//! The law of the overlap window: rows that are committed at most `overlap` late are found, with
//! any batch size, and no row is counted twice.

use std::time::Duration;

use vexact::replica::SyncMode;
use vexact::sidecar::OVERLAP;

use super::*;

/// xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled".
struct Random(u64);

impl Random {
    fn below(&mut self, end: i64) -> i64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as i64 % end
    }
}

/// Runs random writes and syncs; returns true if the replica has all rows.
async fn run(seed: u64, overlap: Duration) -> bool {
    let mut random = Random(seed * 2 + 1);
    let world = World::new();
    let poll_batch_size = 1 + random.below(9) as u32;
    let sync_mode = if seed.is_multiple_of(3) { SyncMode::Temporal } else { SyncMode::Destructive };
    let sidecar = Some(SidecarConfig { poll_batch_size, overlap, ..world.sidecar() });
    let engine = HtapEngine::open(HtapConfig { sidecar, sync_mode, ..HtapConfig::default() }).await.unwrap();
    // Seconds, as the window is; the rows of a burst have one time.
    let mut now = 1_700_000_000;
    let mut sum = 0;
    for step in 0..120 {
        match random.below(4) {
            0 => now += random.below(90),
            1 => {
                for _ in 0..1 + random.below(20) {
                    sum += engine.sync_now().await.unwrap().events_processed;
                }
            }
            _ => {
                for _ in 0..1 + random.below(6) {
                    // A minute late at most.
                    let updated = now - [0, 0, random.below(61)][random.below(3) as usize];
                    world.doc(random.below(1000), &format!("{step}.{}", random.below(100)), updated, updated);
                }
            }
        }
    }
    let source = || -> Vec<String> {
        let mut rows = world.conn.prepare("SELECT id || '|' || body FROM docs ORDER BY id").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let current = match sync_mode {
        SyncMode::Destructive => "SELECT id, body FROM docs ORDER BY id",
        SyncMode::Temporal => "SELECT id, body FROM docs WHERE _valid_to IS NULL ORDER BY id",
    };
    if seed.is_multiple_of(2) {
        engine.sync_all().await.unwrap();
    } else {
        // Enough cycles for every sweep to complete.
        for _ in 0..3 * (300 / poll_batch_size + 2) {
            sum += engine.sync_now().await.unwrap().events_processed;
        }
        assert_eq!(engine.sync_status().await.unwrap().last_synced_seq, Some(sum as i64), "seed {seed}");
    }
    assert_eq!(engine.sync_all().await.unwrap().events_processed, 0, "seed {seed}");
    ask(&engine, current).await == source()
}

#[tokio::test]
async fn what_is_committed_within_the_window_is_found_once() {
    for seed in 0..16 {
        assert!(run(seed, OVERLAP).await, "seed {seed}");
    }
}

/// The runs of this file depend on the window: without one they miss rows.
#[tokio::test]
async fn without_a_window_rows_are_missed() {
    let mut is_missed = false;
    for seed in 0..10 {
        is_missed |= !run(seed, Duration::ZERO).await;
    }
    assert!(is_missed);
}
