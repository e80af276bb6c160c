//! Stored data is read back bit for bit, on the real file system.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, NullBufferBuilder, RecordBatch, StringArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, FieldRef};
use half::f16;
use vexact_core::disk::FileSystem;
use vexact_core::schema::TableSchema;

use crate::storage::{StorageFormat, Store};
use crate::tests::{batch, definition, history, many, mirror, version};
use crate::{Change, ChangeBatch, Definition, KeyState, Replicas, SyncMode, Update};

pub const FORMATS: [StorageFormat; 2] = [StorageFormat::ArrowIpc, StorageFormat::Parquet];

const TYPES: [&str; 16] = [
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "utf8",
    "bool",
    "binary",
    "vector(3)",
    "float16[5]",
];

/// Two NaNs with payloads, both zeros, infinity, a denormal, and numbers.
fn double(row: usize) -> f64 {
    match row % 9 {
        0 => f64::from_bits(0x7FF8_0000_DEAD_BEEF),
        1 => f64::from_bits(0xFFF0_0000_0000_0001),
        2 => -0.0,
        3 => 0.0,
        4 => f64::NEG_INFINITY,
        5 => f64::from_bits(1),
        _ => row as f64 * -1.25,
    }
}

fn float(row: usize) -> f32 {
    match row % 9 {
        0 => f32::from_bits(0x7FC0_BEEF),
        1 => f32::from_bits(0xFF80_0001),
        2 => -0.0,
        3 => 0.0,
        4 => f32::INFINITY,
        5 => f32::from_bits(1),
        _ => row as f32 * 0.3,
    }
}

fn half_float(row: usize) -> f16 {
    match row % 9 {
        0 => f16::from_bits(0x7E0F),
        1 => f16::from_bits(0xFC01),
        2 => f16::NEG_ZERO,
        3 => f16::ZERO,
        5 => f16::from_bits(1),
        _ => f16::from_f32(row as f32 * 0.3),
    }
}

fn vectors(item: &FieldRef, dim: i32, rows: usize) -> ArrayRef {
    let components = rows * dim as usize;
    let values: ArrayRef = match item.data_type() {
        DataType::Float16 => Arc::new(Float16Array::from_iter_values((0..components).map(half_float))),
        _ => Arc::new(Float32Array::from_iter_values((0..components).map(float))),
    };
    let mut valid = NullBufferBuilder::new(rows);
    (0..rows).for_each(|row| valid.append(row % 7 != 6));
    Arc::new(FixedSizeListArray::new(Arc::clone(item), dim, values, valid.finish()))
}

/// Every value of interest of a type, and NULLs.
fn column(data_type: &DataType, rows: usize) -> ArrayRef {
    macro_rules! column {
        ($array:ty, $value:expr) => {
            Arc::new((0..rows).map(|row| (row % 5 != 4).then(|| $value(row))).collect::<$array>())
        };
    }
    let wide = |row: usize| (row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    match data_type {
        DataType::Int8 => column!(Int8Array, |row| wide(row) as i8),
        DataType::Int16 => column!(Int16Array, |row| wide(row) as i16),
        DataType::Int32 => column!(Int32Array, |row| wide(row) as i32),
        DataType::Int64 => column!(Int64Array, |row| wide(row) as i64),
        DataType::UInt8 => column!(UInt8Array, |row| wide(row) as u8),
        DataType::UInt16 => column!(UInt16Array, |row| wide(row) as u16),
        DataType::UInt32 => column!(UInt32Array, |row| wide(row) as u32),
        DataType::UInt64 => column!(UInt64Array, wide),
        DataType::Float16 => column!(Float16Array, half_float),
        DataType::Float32 => column!(Float32Array, float),
        DataType::Float64 => column!(Float64Array, double),
        DataType::Boolean => column!(BooleanArray, |row| row % 3 == 0),
        DataType::Utf8 => column!(StringArray, |row| ["", "ü\0\"", "a longer text, seen again and again"][row % 3]),
        DataType::Binary => column!(BinaryArray, |row: usize| row.to_be_bytes()[..row % 9].to_vec()),
        DataType::FixedSizeList(item, dim) => vectors(item, *dim, rows),
        other => panic!("no column of {other}"),
    }
}

/// A key and a column of each type.
fn all_types(mode: SyncMode) -> Arc<Definition> {
    let columns = TYPES.iter().map(|name| (format!("Of \"{name}\".é"), (*name).to_owned()));
    let columns: Vec<_> = columns.chain([("id".to_owned(), "int64".to_owned())]).collect();
    let schema = TableSchema::try_new("Täble \"1\"/..", &columns, &["id".to_owned()]).unwrap();
    Arc::new(Definition { name: schema.name().into(), schema: schema.arrow(), key: schema.key().to_vec(), mode })
}

fn changes(definition: &Definition, rows: usize, gone: &[i64]) -> ChangeBatch {
    let fields = definition.schema.fields();
    let mut columns: Vec<ArrayRef> =
        fields.iter().take(TYPES.len()).map(|field| column(field.data_type(), rows)).collect();
    columns.push(Arc::new(Int64Array::from_iter_values(0..rows as i64)));
    let rows = RecordBatch::try_new(Arc::clone(&definition.schema), columns).unwrap();
    let key: ArrayRef = Arc::new(Int64Array::from(gone.to_vec()));
    let states = (0..rows.num_rows()).map(|row| KeyState::Row(row as u32));
    let states = states.chain((0..gone.len()).map(|row| KeyState::Gone(row as u32)));
    let changes = states.enumerate().map(|(time, state)| Change { time: time as i64, state }).collect();
    ChangeBatch { rows, gone: RecordBatch::try_from_iter([("id", key)]).unwrap(), changes }
}

#[test]
fn arrow_compares_floats_by_their_bits() {
    let of = |value: f64| Float64Array::from(vec![value]).to_data();
    assert_ne!(of(0.0), of(-0.0));
    assert_eq!(of(double(0)), of(double(0)));
    assert_ne!(of(double(0)), of(f64::NAN));
}

#[test]
fn every_type_comes_back_to_the_bit_in_both_formats_and_modes() {
    for format in FORMATS {
        for mode in [SyncMode::Destructive, SyncMode::Temporal] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("deep/er");
            let definition = all_types(mode);
            let replicas = Replicas::default();
            let name = definition.name.clone();
            // More than a segment, so that segments share their buffers.
            let empty = Update::Replace(Arc::clone(&definition), Vec::new(), 0);
            let rows = changes(&definition, 70_000, &[]);
            let gone = changes(&definition, 0, &[3, 4, 65_535, 65_536, 69_999]);
            replicas.update(vec![(name.clone(), empty)], 0);
            replicas.update(vec![(name.clone(), Update::Apply(&rows))], 1).remove(0).1.unwrap();
            replicas.update(vec![(name.clone(), Update::Apply(&gone))], i64::MAX).remove(0).1.unwrap();

            let store = Store::open(&path, format, Arc::new(FileSystem)).unwrap();
            assert!(store.load().unwrap().is_none());
            store.save(&replicas.snapshot(), i64::MIN, "{\"é\": 1}\n").unwrap();
            drop(store);
            let store = Store::open(&path, format, Arc::new(FileSystem)).unwrap();
            let stored = store.load().unwrap().unwrap();
            assert_eq!(
                (stored.applied_seq, stored.last_time, stored.extra.as_str()),
                (i64::MAX, i64::MIN, "{\"é\": 1}\n")
            );
            assert_eq!((stored.tables.len(), &*stored.tables[0].definition), (1, &*definition));
            let before = replicas.snapshot();
            let before = &before.table(&name).unwrap().version;
            assert_eq!(stored.tables[0].num_rows(), before.num_rows());
            let parts: Vec<_> = before.parts.iter().flatten().collect();
            assert_eq!(stored.tables[0].segments().count(), parts.len());
            assert!(parts.len() > 1 && parts.iter().any(|part| part.live.is_some()));
            for ((rows, live), part) in stored.tables[0].segments().zip(parts) {
                assert_eq!((rows, live), (&part.segment.rows, part.live.as_ref()), "{format}, {mode:?}");
                assert_eq!(rows.schema(), definition.stored_schema());
            }
            // The keys are found: a repeated row is an update, a deleted one is new.
            let again = Replicas::default();
            again.restore(&stored).unwrap();
            let mut counts = again.update(vec![(name, Update::Apply(&rows))], 2);
            let counts = counts.remove(0).1.unwrap();
            assert_eq!((counts.inserted, counts.updated), (5, 69_995), "{format}, {mode:?}");
        }
    }
}

#[test]
fn tables_without_rows_are_stored_too() {
    for format in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), format, Arc::new(FileSystem)).unwrap();
        store.save(&Replicas::default().snapshot(), 1, "none").unwrap();
        assert!(store.load().unwrap().unwrap().tables.is_empty());
        let definition = definition(SyncMode::Temporal);
        let replicas = Replicas::default();
        replicas.update(vec![("docs".into(), Update::Replace(Arc::clone(&definition), Vec::new(), 0))], 0);
        store.save(&replicas.snapshot(), 1, "empty").unwrap();
        let stored = store.load().unwrap().unwrap();
        let again = Replicas::default();
        again.restore(&stored).unwrap();
        assert_eq!(version(&again).definition(), &definition);
        let rows = batch(&definition, &many(0..10, 1));
        again.update(vec![("docs".into(), Update::Apply(&rows))], 1).remove(0).1.unwrap();
        assert_eq!(history(&version(&again)).len(), 10);
    }
}

#[test]
fn the_real_file_system_keeps_what_saves_and_compactions_made() {
    for format in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        let definition = definition(SyncMode::Destructive);
        let replicas = crate::tests::new_replica(&definition);
        let mut store = Store::open(folder.path(), format, Arc::new(FileSystem)).unwrap();
        for round in 0..40 {
            let rows = batch(&definition, &many(round * 5..round * 5 + 20, round));
            crate::tests::apply(&replicas, &rows, round);
            replicas.compact(round % 9 == 8).unwrap();
            store.save(&replicas.snapshot(), round, "").unwrap();
            if round % 10 == 9 {
                let expected = mirror(&version(&replicas));
                drop(store);
                store = Store::open(folder.path(), format, Arc::new(FileSystem)).unwrap();
                replicas.restore(&store.load().unwrap().unwrap()).unwrap();
                assert_eq!(mirror(&version(&replicas)), expected);
                let named = store.state().manifest.files().count();
                // And the manifest, and the lock.
                assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), named + 2);
            }
        }
    }
}

#[test]
fn a_column_that_is_of_no_registered_type_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), StorageFormat::Parquet, Arc::new(FileSystem)).unwrap();
    let mut definition = Definition::clone(&definition(SyncMode::Destructive));
    let mut fields: Vec<_> = definition.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields[2] = fields[2].clone().with_data_type(DataType::Date32);
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    definition.schema = schema;
    let replicas = Replicas::default();
    replicas
        .update(vec![("docs".into(), Update::Replace(Arc::new(definition), Vec::new(), 0))], 0)
        .remove(0)
        .1
        .unwrap();
    let error = store.save(&replicas.snapshot(), 0, "").unwrap_err().to_string();
    assert!(error.contains("Docs.value") && error.contains("Date32"), "{error}");
}
