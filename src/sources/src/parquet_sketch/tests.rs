//! The format: what is written is found again, and what does not match is not used.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::Field;
use datafusion::parquet::file::metadata::{KeyValue, ParquetMetaData};
use vexact_kernel::Tier;

use super::*;
use crate::input::Input;
use crate::parquet::ParquetFile;
use crate::row_file::{RowFile, RowFileOptions, RowFormat};
use crate::scan::Records;

fn batch(rows: usize, dim: usize) -> RecordBatch {
    let mut state = 7_u64;
    let values = Float32Array::from_iter_values((0..rows * dim).map(|i| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) / (1.0 + (i % dim) as f32 / 8.0)
    }));
    let field = Arc::new(Field::new("item", arrow::datatypes::DataType::Float32, true));
    let vectors = FixedSizeListArray::try_new(field, dim as i32, Arc::new(values), None).unwrap();
    let ids = Int64Array::from_iter_values(0..rows as i64);
    let columns: [(&str, ArrayRef); 2] = [("id", Arc::new(ids)), ("embedding", Arc::new(vectors))];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn write(path: &Path, batch: &RecordBatch, sketches: Vec<SketchColumn>) {
    let options = RowFileOptions { sketches, ..RowFileOptions::default() };
    let mut file = RowFile::create_with(path, RowFormat::Parquet, &batch.schema(), &options).unwrap();
    file.write(batch).unwrap();
    file.finish().unwrap();
}

fn footer(path: &Path) -> Arc<ParquetMetaData> {
    ParquetFile::metadata(&Input::open(path).unwrap()).unwrap()
}

fn rows(path: &Path) -> RecordBatch {
    let file = ParquetFile::open(&Input::open(path).unwrap()).unwrap();
    let all: Vec<usize> = (0..file.schema().fields().len()).collect();
    let batches: Vec<RecordBatch> = file.read(&all, 1 << 20).unwrap().collect::<crate::Result<_>>().unwrap();
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

#[test]
fn a_sketch_is_hidden_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let batch = batch(3000, 64);
    write(&path, &batch, vec![SketchColumn { name: "embedding".into(), tier: Tier::I8 }]);
    let metadata = footer(&path);
    let (stored, leaf) = StoredSketch::of(&metadata, "embedding").unwrap().unwrap();
    assert_eq!(stored.groups.iter().map(|group| group.rows).sum::<u64>(), 3000);
    assert_eq!(metadata.file_metadata().schema_descr().column(leaf).name(), "embedding$sketch");
    assert_eq!(rows(&path).columns(), batch.columns());
    assert!(StoredSketch::of(&metadata, "id").is_none());
}

#[test]
fn copied_metadata_do_not_match_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write(&path, &batch(3000, 64), vec![SketchColumn { name: "embedding".into(), tier: Tier::I8 }]);
    let metadata = footer(&path);
    let text = |entries: &ParquetMetaData| {
        let entries: &[KeyValue] = entries.file_metadata().key_value_metadata().unwrap();
        entries.iter().find(|entry| entry.key == key("embedding")).unwrap().value.clone().unwrap()
    };
    let text = text(&metadata);
    let other = folder.path().join("b.parquet");
    write(&other, &batch(3001, 64), vec![SketchColumn { name: "embedding".into(), tier: Tier::I8 }]);
    let reason = StoredSketch::checked(&footer(&other), "embedding", &text).unwrap_err();
    assert_eq!(reason, "row group 0 was written anew");
    write(&other, &batch(3000, 64), Vec::new());
    let reason = StoredSketch::checked(&footer(&other), "embedding", &text).unwrap_err();
    assert!(reason.starts_with("the file was written anew by parquet-rs"), "{reason}");
    for (from, to, expected) in [
        ("\"version\":1", "\"version\":2", "it has version 2, not 1"),
        ("{", "", "its description cannot be read"),
        ("\"rows\":3000", "\"rows\":2999", "row group 0 was written anew"),
        ("\"column\":\"embedding\"", "\"column\":\"other\"", "it is of \"other\" in 1 row groups, the file has 1"),
    ] {
        let reason = StoredSketch::checked(&metadata, "embedding", &text.replacen(from, to, 1)).unwrap_err();
        assert!(reason.starts_with(expected), "{reason}");
    }
}

#[test]
fn adding_a_sketch_keeps_values_codecs_and_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let (path, output) = (folder.path().join("a.parquet"), folder.path().join("b.parquet"));
    let batch = batch(3000, 64);
    write(&path, &batch, Vec::new());
    let before = footer(&path);
    let added = add_sketch(&path, Some(&output), None, Tier::Auto).unwrap();
    assert_eq!(added.len(), 1);
    assert!(added[0].tier.is_some(), "{added:?}");
    assert!(StoredSketch::of(&footer(&path), "embedding").is_none(), "the file itself stays");
    assert_eq!(rows(&output).columns(), batch.columns());
    let after = footer(&output);
    assert_eq!(before.row_group(0).column(0).compression(), after.row_group(0).column(0).compression());
    add_sketch(&path, None, Some("embedding"), Tier::I8).unwrap();
    add_sketch(&path, None, Some("embedding"), Tier::Pca4).unwrap();
    let (stored, _) = StoredSketch::of(&footer(&path), "embedding").unwrap().unwrap();
    assert_eq!(stored.groups.len(), 1);
    assert_eq!(rows(&path).column(1).as_fixed_size_list().len(), 3000);
    assert_eq!(rows(&path).columns(), batch.columns());
}

#[test]
fn columns_without_vectors_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write(&path, &batch(10, 8), Vec::new());
    let refused = |name: &str| add_sketch(&path, None, Some(name), Tier::Auto).unwrap_err().to_string();
    assert_eq!(refused("id"), "sketch: column \"id\": expected vectors of floats, got Int64");
    assert_eq!(refused("x"), "sketch: column \"x\" not found: expected one of [id, embedding]");
    let ids = batch(10, 8).project(&[0]).unwrap();
    write(&path, &ids, Vec::new());
    let error = add_sketch(&path, None, None, Tier::Auto).unwrap_err().to_string();
    assert!(error.contains("expected a column of vectors of floats, got [id Int64]"), "{error}");
}
