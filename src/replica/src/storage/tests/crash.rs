//! Runs a history of updates, compactions and saves, and injects a fault at each of its operations.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::power::{Dice, FAULTS, Fault, SimulatedDisk};
use crate::storage::{StorageFormat, Store};
use crate::tests::{History, Mirror, Step, batch, definition, history, mirror};
use crate::{ChangeBatch, Counts, Definition, Replicas, Snapshot, SyncMode, Update};

const ROUNDS: usize = 11;
const FOLDER: &str = "replicas";

/// All that can be seen of the tables.
#[derive(Debug, Clone, PartialEq, Default)]
struct Seen {
    mirror: Mirror,
    history: Option<History>,
    failed: Vec<Option<String>>,
}

fn named(mode: SyncMode) -> Arc<Definition> {
    let name = if mode == SyncMode::Temporal { "The \"history\"" } else { "Docs" };
    Arc::new(Definition { name: name.into(), ..Definition::clone(&definition(mode)) })
}

fn seen(snapshot: &Snapshot) -> Seen {
    let version = |name: &str| snapshot.table(name).map(|state| &state.version);
    Seen {
        mirror: version("docs").map(|version| mirror(version)).unwrap_or_default(),
        history: version("the \"history\"").map(|version| history(version)),
        failed: snapshot.tables().map(|state| state.failed.clone()).collect(),
    }
}

/// Runs the updates of one round; they are independent of the saves before it.
fn play(replicas: &Replicas, round: usize) -> Vec<Counts> {
    let mut dice = Dice(round as u64);
    let definitions = [named(SyncMode::Destructive), named(SyncMode::Temporal)];
    let changes: Vec<ChangeBatch> = definitions
        .iter()
        .map(|definition| {
            let steps: Vec<Step> = (0..dice.below(60))
                .map(|_| Step {
                    key: (["a", "b"][dice.below(2)].to_owned(), dice.below(20) as i64),
                    value: (dice.below(4) > 0).then(|| (dice.below(9) > 0).then(|| dice.below(5) as i64)),
                    time: round as i64 * 100,
                })
                .collect();
            batch(definition, &steps)
        })
        .collect();
    let names = definitions.each_ref().map(|definition| definition.name.clone());
    let empty = |definition: &Arc<Definition>| Update::Replace(Arc::clone(definition), Vec::new(), 0);
    let mut updates = Vec::new();
    match round {
        0 => updates.extend(names.iter().cloned().zip(definitions.iter().map(empty))),
        4 => updates.push((names[1].clone(), Update::Drop)),
        6 => updates.push((names[1].clone(), empty(&definitions[1]))),
        8 => updates.push((names[0].clone(), Update::Fail("lost".into()))),
        _ => {}
    }
    let is_there = [true, !(4..6).contains(&round)];
    for ((name, changes), is_there) in names.into_iter().zip(&changes).zip(is_there) {
        if is_there && round != 8 {
            updates.push((name, Update::Apply(changes)));
        }
    }
    let counts = replicas.update(updates, round as i64).into_iter().map(|(_, result)| result.unwrap()).collect();
    match round {
        3 => while replicas.compact(false).unwrap() {},
        5 | 9 => {
            replicas.compact(true).unwrap();
        }
        _ => {}
    }
    counts
}

fn save(store: &Store, replicas: &Replicas, round: usize) -> vexact_core::Result<()> {
    store.save(&replicas.snapshot(), round as i64 * 100, &format!("round {round}"))
}

fn open(disk: &SimulatedDisk, format: StorageFormat) -> vexact_core::Result<Store> {
    Store::open(Path::new(FOLDER), format, Arc::new(disk.clone()))
}

/// Returns the state after each round without a fault.
fn undisturbed() -> Vec<(Seen, Vec<Counts>)> {
    let replicas = Replicas::default();
    (0..ROUNDS + 2)
        .map(|round| {
            let counts = play(&replicas, round);
            (seen(&replicas.snapshot()), counts)
        })
        .collect()
}

/// Plays all rounds; the last save that was said to be done.
fn run(disk: &SimulatedDisk, format: StorageFormat) -> Option<usize> {
    let store = open(disk, format).or_else(|_| open(disk, format)).ok()?;
    let replicas = Replicas::default();
    let mut done = None;
    for round in 0..ROUNDS {
        play(&replicas, round);
        if save(&store, &replicas, round).is_ok() {
            done = Some(round);
        }
    }
    done
}

/// The state that is loaded is one that was saved, not older than the last completed save, and the
/// store continues from it.
fn check(disk: &SimulatedDisk, format: StorageFormat, done: Option<usize>, expected: &[(Seen, Vec<Counts>)], at: &str) {
    let store = open(disk, format).unwrap_or_else(|error| panic!("{at}: {error}"));
    let replicas = Replicas::default();
    let stored = store.load().unwrap_or_else(|error| panic!("{at}: {error}"));
    let mut next = 0;
    for seed in 0..2 {
        let later = open(&disk.after_power_loss(&mut Dice(seed)), format).unwrap().load().unwrap();
        let extras = [&later, &stored].map(|stored| stored.as_ref().map(|stored| stored.extra.as_str()));
        assert_eq!(extras[0], extras[1], "{at}: what was found once is there for good");
    }
    if let Some(stored) = stored {
        let round = stored.applied_seq as usize;
        assert_eq!((stored.last_time, stored.extra.as_str()), (round as i64 * 100, &*format!("round {round}")), "{at}");
        assert!(done <= Some(round), "{at}: {done:?} was durable, got {round}");
        replicas.restore(&stored).unwrap();
        assert_eq!(replicas.snapshot().applied_seq, stored.applied_seq);
        assert_eq!(seen(&replicas.snapshot()), expected[round].0, "{at}: round {round}");
        next = round + 1;
    } else {
        assert_eq!(done, None, "{at}: nothing was found");
    }
    for (round, (expected, counts)) in expected.iter().enumerate().skip(next).take(2) {
        assert_eq!(&play(&replicas, round), counts, "{at}: keys are found again");
        save(&store, &replicas, round).unwrap_or_else(|error| panic!("{at}: {error}"));
        assert_eq!(&seen(&replicas.snapshot()), expected, "{at}");
        let named: BTreeSet<String> = store.state().manifest.files().map(str::to_owned).collect();
        let mut found: BTreeSet<String> = store.folder.list().unwrap().into_iter().collect();
        assert!(found.remove("manifest.json"));
        assert_eq!(found, named, "{at}: files that nothing names");
    }
    drop(store);
    let stored = open(disk, format).unwrap().load().unwrap().unwrap();
    let again = Replicas::default();
    again.restore(&stored).unwrap();
    assert_eq!(seen(&again.snapshot()), seen(&replicas.snapshot()), "{at}");
}

fn strike_everywhere(format: StorageFormat) {
    let expected = undisturbed();
    let calm = SimulatedDisk::default();
    assert_eq!(run(&calm, format), Some(ROUNDS - 1));
    let operations = calm.operations();
    assert!(operations > 200, "{operations} operations");
    check(&calm.after_kill(), format, Some(ROUNDS - 1), &expected, "undisturbed");
    (1..=operations).into_par_iter().for_each(|operation| {
        for fault in FAULTS {
            let disk = SimulatedDisk::default();
            disk.strike_at(operation, fault);
            let done = run(&disk, format);
            let at = format!("{format}: {fault:?} at {operation} of {operations}");
            assert_eq!(disk.is_down(), matches!(fault, Fault::PowerBefore | Fault::PowerAfter), "{at}");
            check(&disk.after_kill(), format, done, &expected, &at);
            for seed in 0..3 {
                let seed = seed + operation * 4;
                check(&disk.after_power_loss(&mut Dice(seed)), format, done, &expected, &format!("{at}, seed {seed}"));
            }
        }
    });
}

#[test]
fn arrow_files_survive_a_strike_at_any_operation() {
    strike_everywhere(StorageFormat::ArrowIpc);
}

#[test]
fn parquet_files_survive_a_strike_at_any_operation() {
    strike_everywhere(StorageFormat::Parquet);
}

#[test]
fn after_a_save_in_doubt_the_state_before_it_is_saved_again() {
    let format = StorageFormat::Parquet;
    let disk = SimulatedDisk::default();
    let replicas = Replicas::default();
    let store = open(&disk, format).unwrap();
    play(&replicas, 0);
    save(&store, &replicas, 0).unwrap();
    // The manifest alone: create, write, sync, rename, sync of the folder.
    disk.strike_at(disk.operations() + 5, Fault::Refused);
    store.save(&replicas.snapshot(), 0, "in doubt").unwrap_err();
    assert_eq!(open(&disk.after_kill(), format).unwrap().load().unwrap().unwrap().extra, "in doubt");
    save(&store, &replicas, 0).unwrap();
    assert_eq!(open(&disk.after_kill(), format).unwrap().load().unwrap().unwrap().extra, "round 0");
}

#[test]
fn a_save_that_fails_leaves_no_files_behind() {
    let format = StorageFormat::ArrowIpc;
    let calm = SimulatedDisk::default();
    let replicas = Replicas::default();
    let store = open(&calm, format).unwrap();
    play(&replicas, 0);
    save(&store, &replicas, 0).unwrap();
    let before = store.folder.list().unwrap();
    play(&replicas, 1);
    // Files are written first, and nothing names them yet.
    for operation in 1..=15 {
        calm.strike_at(calm.operations() + operation, Fault::Refused);
        save(&store, &replicas, 1).unwrap_err();
        let names = store.folder.list().unwrap();
        assert_eq!(
            names.iter().filter(|name| !name.ends_with(".tmp")).collect::<Vec<_>>(),
            before.iter().collect::<Vec<_>>()
        );
    }
    save(&store, &replicas, 1).unwrap();
    assert_eq!(store.load().unwrap().unwrap().extra, "round 1");
}
