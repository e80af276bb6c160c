//! The proof of equality: after a sync, the replicas have all writes to SQLite, to the bit, and the
//! past is unchanged. `VEXACT_SEED=n` replays the run that a failure names; `VEXACT_SOAK_SECONDS=n`
//! runs new ones for that long.

mod concurrent;
mod history;
pub mod random;
mod statement;
mod step;
mod table;
mod value;
mod verify;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use world::{Script, World};

/// Default number of runs, with the seeds from 1.
const RUNS: u64 = 150;
const STEPS: usize = 80;

async fn run(seed: u64, script: Script) {
    let mut world = World::new(seed, script).await;
    for _ in 0..STEPS {
        world.step().await;
    }
    for slot in 0..world.slots.len() {
        world.sync_all(slot).await;
    }
}

/// Runs a seed; a failure prints all operations.
fn check(runtime: &tokio::runtime::Runtime, seed: u64) {
    let script = Script::default();
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(seed, script.clone()))));
    if let Err(panic) = outcome {
        let done = script.lock().unwrap_or_else(std::sync::PoisonError::into_inner).join("\n");
        eprintln!("{done}\nVEXACT_SEED={seed} replays this");
        resume_unwind(panic);
    }
}

#[test]
fn replicas_equal_their_tables_whatever_is_written() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("VEXACT_SEED") {
        return check(&runtime, seed);
    }
    let Some(seconds) = number("VEXACT_SOAK_SECONDS") else {
        return (1..=RUNS).for_each(|seed| check(&runtime, seed));
    };
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let (end, mut runs) = (Instant::now() + Duration::from_secs(seconds), 0);
    while Instant::now() < end {
        check(&runtime, first + runs);
        runs += 1;
    }
    eprintln!("{runs} runs from seed {first}");
}
