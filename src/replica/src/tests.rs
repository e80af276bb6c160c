//! Replicas against a model: a map from key to row, and the history as a list.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;

use super::{Change, ChangeBatch, Counts, Definition, KeyState, Replicas, SyncMode, TableVersion, Update};

pub(super) fn definition(mode: SyncMode) -> Arc<Definition> {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("value", DataType::Int64, true),
    ]);
    Arc::new(Definition { name: "Docs".into(), schema: Arc::new(schema), key: vec![1, 0], mode })
}

pub(super) type Key = (String, i64);

/// A change of the model: the key, and its value if the row exists.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub key: Key,
    pub value: Option<Option<i64>>,
    pub time: i64,
}

pub(super) fn batch(definition: &Definition, steps: &[Step]) -> ChangeBatch {
    let mut rows: (Vec<i64>, Vec<String>, Vec<Option<i64>>) = Default::default();
    let mut gone: (Vec<String>, Vec<i64>) = Default::default();
    let mut changes = Vec::new();
    for step in steps {
        let state = match &step.value {
            Some(value) => {
                rows.0.push(step.key.1);
                rows.1.push(step.key.0.clone());
                rows.2.push(*value);
                KeyState::Row(rows.0.len() as u32 - 1)
            }
            None => {
                gone.0.push(step.key.0.clone());
                gone.1.push(step.key.1);
                KeyState::Gone(gone.0.len() as u32 - 1)
            }
        };
        changes.push(Change { time: step.time, state });
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(rows.0)),
        Arc::new(StringArray::from(rows.1)),
        Arc::new(Int64Array::from(rows.2)),
    ];
    let rows = RecordBatch::try_new(Arc::clone(&definition.schema), columns).unwrap();
    let key: Vec<Field> = definition.key.iter().map(|column| definition.schema.field(*column).clone()).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(gone.0)), Arc::new(Int64Array::from(gone.1))];
    let gone = RecordBatch::try_new(Arc::new(Schema::new(key)), columns).unwrap();
    ChangeBatch { rows, gone, changes }
}

pub(super) fn apply(replicas: &Replicas, changes: &ChangeBatch, seq: i64) -> Counts {
    let mut results = replicas.update(vec![("docs".into(), Update::Apply(changes))], seq);
    results.remove(0).1.unwrap()
}

pub(super) fn new_replica(definition: &Arc<Definition>) -> Replicas {
    let replicas = Replicas::default();
    replicas
        .update(vec![("DOCS".into(), Update::Replace(Arc::clone(definition), Vec::new(), 0))], 0)
        .remove(0)
        .1
        .unwrap();
    replicas
}

pub(super) fn version(replicas: &Replicas) -> Arc<TableVersion> {
    Arc::clone(&replicas.snapshot().table("docs").unwrap().version)
}

fn live_rows(version: &TableVersion) -> Vec<RecordBatch> {
    let parts = version.parts.iter().flatten();
    parts
        .map(|part| {
            let ordinals = part.live_ordinals().into_iter().map(|row| row as u64);
            let rows = arrow::array::UInt64Array::from_iter_values(ordinals);
            arrow::compute::take_record_batch(&part.segment.rows, &rows).unwrap()
        })
        .collect()
}

/// The value of each key.
pub(super) type Mirror = BTreeMap<Key, Option<i64>>;

pub(super) fn mirror(version: &TableVersion) -> Mirror {
    let mut map = BTreeMap::new();
    for rows in live_rows(version) {
        let (ids, names) = (rows.column(0).as_primitive::<Int64Type>(), rows.column(1).as_string::<i32>());
        let values = rows.column(2).as_primitive::<Int64Type>();
        for row in 0..rows.num_rows() {
            let value = values.is_valid(row).then(|| values.value(row));
            let twice = map.insert((names.value(row).to_owned(), ids.value(row)), value);
            assert!(twice.is_none(), "a key has two rows");
        }
    }
    map
}

/// `(key, value, from, to, operation)` of every row.
pub(super) type History = Vec<(Key, Option<i64>, i64, Option<i64>, String)>;

pub(super) fn history(version: &TableVersion) -> History {
    let mut history = Vec::new();
    for rows in live_rows(version) {
        let int = |column: usize, row: usize| {
            let values = rows.column(column).as_primitive::<Int64Type>();
            values.is_valid(row).then(|| values.value(row))
        };
        for row in 0..rows.num_rows() {
            let key = (rows.column(1).as_string::<i32>().value(row).to_owned(), int(0, row).unwrap());
            let operation = rows.column(5).as_string::<i32>().value(row).to_owned();
            history.push((key, int(2, row), int(3, row).unwrap(), int(4, row), operation));
        }
    }
    history.sort();
    history
}

/// The model of a temporal replica.
#[derive(Default)]
struct HistoryModel {
    closed: History,
    open: BTreeMap<Key, (Option<i64>, i64, &'static str)>,
}

impl HistoryModel {
    fn apply(&mut self, step: &Step) {
        let before = self.open.remove(&step.key);
        if let Some((value, from, operation)) = before {
            self.closed.push((step.key.clone(), value, from, Some(step.time), operation.into()));
        }
        match (step.value, before) {
            (Some(value), before) => {
                let operation = if before.is_some() { "U" } else { "I" };
                self.open.insert(step.key.clone(), (value, step.time, operation));
            }
            (None, Some((value, _, _))) => {
                self.closed.push((step.key.clone(), value, step.time, Some(step.time), "D".into()));
            }
            (None, None) => {}
        }
    }

    fn rows(&self) -> History {
        let open = self
            .open
            .iter()
            .map(|(key, (value, from, operation))| (key.clone(), *value, *from, None, (*operation).to_owned()));
        let mut rows: History = self.closed.iter().cloned().chain(open).collect();
        rows.sort();
        rows
    }
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let key = (prop::sample::select(vec!["a", "b", ""]), 0..12_i64).prop_map(|(name, id)| (name.to_owned(), id));
    let step = (key, prop::option::of(prop::option::of(0..5_i64)));
    prop::collection::vec(prop::collection::vec(step, 0..40), 1..30).prop_map(|batches| {
        let mut time = 100;
        let step = |(key, value)| {
            // Some changes share their microsecond.
            time += i64::from(matches!(value, Some(Some(0..3))));
            Step { key, value, time }
        };
        let mut step = step;
        batches.into_iter().map(|batch| batch.into_iter().map(&mut step).collect()).collect()
    })
}

proptest! {
    #[test]
    fn a_destructive_replica_is_the_table(batches in steps(), compactions in prop::collection::vec(any::<Option<bool>>(), 30)) {
        let definition = definition(SyncMode::Destructive);
        let replicas = new_replica(&definition);
        let mut model = BTreeMap::new();
        let mut held: Vec<(Arc<TableVersion>, Mirror)> = Vec::new();
        for (seq, (steps, compaction)) in batches.iter().zip(&compactions).enumerate() {
            let mut expected = Counts::default();
            for step in steps {
                let before = match step.value {
                    Some(value) => model.insert(step.key.clone(), value),
                    None => model.remove(&step.key),
                };
                match (step.value, before) {
                    (Some(_), Some(_)) => expected.updated += 1,
                    (Some(_), None) => expected.inserted += 1,
                    (None, Some(_)) => expected.deleted += 1,
                    (None, None) => {}
                }
            }
            prop_assert_eq!(apply(&replicas, &batch(&definition, steps), seq as i64), expected);
            if let Some(is_full) = compaction {
                replicas.compact(*is_full).unwrap();
            }
            let now = version(&replicas);
            prop_assert_eq!(&mirror(&now), &model);
            prop_assert_eq!(now.num_rows(), model.len());
            held.push((now, model.clone()));
        }
        // Readers still see what they saw, and find keys in it.
        for (version, model) in &held {
            prop_assert_eq!(&mirror(version), model);
            let all: Vec<Step> = ["a", "b", ""].iter().flat_map(|name| {
                (0..12).map(|id| Step { key: ((*name).to_owned(), id), value: None, time: 0 })
            }).collect();
            let found = version.rows_of(&batch(&definition, &all).gone).unwrap();
            prop_assert_eq!(found.num_rows(), model.len());
            let names = found.column(1).as_string::<i32>();
            for row in 0..found.num_rows() {
                let key = (names.value(row).to_owned(), found.column(0).as_primitive::<Int64Type>().value(row));
                prop_assert!(model.contains_key(&key));
            }
        }
    }

    #[test]
    fn a_temporal_replica_keeps_every_state(batches in steps(), compactions in prop::collection::vec(any::<Option<bool>>(), 30)) {
        let definition = definition(SyncMode::Temporal);
        let replicas = new_replica(&definition);
        let mut model = HistoryModel::default();
        for (seq, (steps, compaction)) in batches.iter().zip(&compactions).enumerate() {
            steps.iter().for_each(|step| model.apply(step));
            apply(&replicas, &batch(&definition, steps), seq as i64);
            if let Some(is_full) = compaction {
                replicas.compact(*is_full).unwrap();
            }
            prop_assert_eq!(history(&version(&replicas)), model.rows());
        }
    }
}

pub(super) fn many(range: std::ops::Range<i64>, value: i64) -> Vec<Step> {
    range.map(|id| Step { key: ("k".into(), id), value: Some(Some(value)), time: value }).collect()
}

#[test]
fn a_batch_larger_than_a_segment_is_split_and_found() {
    let definition = definition(SyncMode::Destructive);
    let replicas = new_replica(&definition);
    assert_eq!(apply(&replicas, &batch(&definition, &many(0..200_000, 1)), 1).inserted, 200_000);
    assert_eq!(version(&replicas).parts.len(), 4);
    assert_eq!(apply(&replicas, &batch(&definition, &many(50_000..150_000, 2)), 2).updated, 100_000);
    let rows = mirror(&version(&replicas));
    assert_eq!(rows.len(), 200_000);
    assert_eq!(rows[&("k".into(), 49_999)], Some(1));
    assert_eq!(rows[&("k".into(), 50_000)], Some(2));
}

#[test]
fn compaction_bounds_the_segments_of_many_small_batches() {
    let definition = definition(SyncMode::Destructive);
    let replicas = new_replica(&definition);
    for seq in 0..2_000 {
        apply(&replicas, &batch(&definition, &many(seq * 3..seq * 3 + 5, seq)), seq);
        while replicas.compact(false).unwrap() {}
    }
    let now = version(&replicas);
    assert_eq!(now.num_rows(), 6_002);
    let segments = now.parts.iter().flatten().count();
    assert!(segments < 40, "{segments} segments");
    replicas.compact(true).unwrap();
    let now = version(&replicas);
    assert_eq!((now.parts.iter().flatten().count(), now.num_rows()), (1, 6_002));
    assert_eq!(mirror(&now).len(), 6_002);
}

#[test]
fn a_failed_table_leaves_the_others_at_the_new_position() {
    let definition = definition(SyncMode::Destructive);
    let replicas = new_replica(&definition);
    let rows = batch(&definition, &many(0..3, 1));
    let updates = vec![("nowhere".into(), Update::Apply(&rows)), ("docs".into(), Update::Apply(&rows))];
    let results = replicas.update(updates, 9);
    assert!(results[0].1.as_ref().unwrap_err().to_string().contains("no replica"));
    assert_eq!(results[1].1.as_ref().unwrap().inserted, 3);
    assert_eq!((replicas.snapshot().applied_seq, version(&replicas).num_rows()), (9, 3));
    replicas.update(vec![("docs".into(), Update::Fail("lost".into()))], 10);
    assert_eq!(replicas.snapshot().table("DOCS").unwrap().failed.as_deref(), Some("lost"));
    replicas.update(vec![("docs".into(), Update::Drop)], 11);
    assert!(replicas.snapshot().table("docs").is_none());
}
