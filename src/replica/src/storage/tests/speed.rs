//! Measures the time of a save and of a cold start:
//! `cargo test --release -p vexact --lib -- --ignored --nocapture replica::storage::tests::speed`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use vexact_core::disk::FileSystem;
use vexact_core::schema::TableSchema;

use super::power::Dice;
use super::round_trip::FORMATS;
use crate::storage::Store;
use crate::{Change, ChangeBatch, Definition, KeyState, Replicas, SyncMode, Update};

const ROWS: usize = 1_000_000;

fn upserts(definition: &Definition, ids: impl Iterator<Item = i64>, dim: Option<usize>) -> ChangeBatch {
    let mut dice = Dice(1);
    let ids: Vec<i64> = ids.collect();
    let count = ids.len();
    let words: Vec<String> = (0..1000).map(|word| format!("word {word} of a thousand")).collect();
    let mut texts: Vec<&str> = Vec::new();
    texts.extend((0..count).map(|_| words[dice.below(words.len())].as_str()));
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids)),
        Arc::new(StringArray::from(texts)),
        Arc::new(Float64Array::from_iter_values((0..count).map(|_| dice.below(1 << 52) as f64 / 7.0))),
        Arc::new(Int64Array::from_iter_values((0..count).map(|row| 1_700_000_000_000_000 + row as i64 * 1_001))),
    ];
    if let Some(dim) = dim {
        let values = Float32Array::from_iter_values((0..count * dim).map(|_| dice.below(1 << 24) as f32 / 3.0));
        let item = Arc::new(Field::new_list_field(DataType::Float32, true));
        columns.push(Arc::new(FixedSizeListArray::new(item, dim as i32, Arc::new(values), None)));
    }
    let rows = RecordBatch::try_new(Arc::clone(&definition.schema), columns).unwrap();
    let changes = (0..count).map(|row| Change { time: 1, state: KeyState::Row(row as u32) }).collect();
    let gone = RecordBatch::new_empty(Arc::new(definition.schema.project(&definition.key).unwrap()));
    ChangeBatch { rows, gone, changes }
}

fn measure(rows: usize, dim: Option<usize>) {
    let mut columns: Vec<(String, String)> = [("id", "int64"), ("text", "utf8"), ("value", "float64"), ("at", "int64")]
        .map(|(name, column_type)| (name.to_owned(), column_type.to_owned()))
        .to_vec();
    columns.extend(dim.map(|dim| ("v".to_owned(), format!("vector({dim})"))));
    let schema = TableSchema::try_new("docs", &columns, &["id".to_owned()]).unwrap();
    let mode = SyncMode::Destructive;
    let definition = Arc::new(Definition { name: "docs".into(), schema: schema.arrow(), key: vec![0], mode });
    let all = upserts(&definition, 0..rows as i64, dim);
    for format in FORMATS {
        let replicas = Replicas::default();
        let empty = Update::Replace(Arc::clone(&definition), Vec::new(), 0);
        replicas.update(vec![("docs".into(), empty)], 0).remove(0).1.unwrap();
        replicas.update(vec![("docs".into(), Update::Apply(&all))], 1).remove(0).1.unwrap();
        // The temporary folder of the system may be in memory; this folder is on a disk.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let timed = |what: &str, act: &mut dyn FnMut()| -> Duration {
            let start = Instant::now();
            act();
            let took = start.elapsed();
            println!("{format}, {rows} rows, dim {dim:?}: {what} {:.1} ms", took.as_secs_f64() * 1e3);
            took
        };
        let store = Store::open(folder.path(), format, Arc::new(FileSystem)).unwrap();
        timed("first save", &mut || store.save(&replicas.snapshot(), 0, "").unwrap());
        // In all segments.
        let some = upserts(&definition, (0..1000).map(|row| row * rows as i64 / 1000), dim);
        for seq in 2..5 {
            replicas.update(vec![("docs".into(), Update::Apply(&some))], seq).remove(0).1.unwrap();
            timed("save of 1000 updates", &mut || store.save(&replicas.snapshot(), 0, "").unwrap());
        }
        drop(store);
        let bytes: u64 =
            std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        println!("{format}, {rows} rows, dim {dim:?}: {:.1} MB", bytes as f64 / 1e6);
        let mut again = None;
        for _ in 0..3 {
            timed("open, load and restore", &mut || {
                let store = Store::open(folder.path(), format, Arc::new(FileSystem)).unwrap();
                let start = Instant::now();
                let stored = store.load().unwrap().unwrap();
                println!("    of which load {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
                let replicas = Replicas::default();
                replicas.restore(&stored).unwrap();
                again = Some(replicas);
            });
        }
        let again = again.unwrap().snapshot();
        let version = &again.table("docs").unwrap().version;
        assert_eq!(version.num_rows(), rows);
        let key = some.rows.project(&[0]).unwrap();
        assert!(version.rows_of(&key).unwrap() == some.rows);
    }
}

#[test]
#[ignore = "measures"]
fn cold_start_of_a_million_rows() {
    measure(ROWS, None);
}

#[test]
#[ignore = "measures"]
fn cold_start_with_vectors() {
    measure(ROWS / 5, Some(128));
}
