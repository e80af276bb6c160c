//! Damaged files: each is detected, and the error names it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use vexact_core::disk::FileSystem;
use vexact_core::folder;

use vexact_core::Error;

use super::round_trip::FORMATS;
use crate::storage::manifest::{MANIFEST, Manifest};
use crate::storage::{StorageFormat, Store};
use crate::tests::{apply, batch, definition, many, new_replica};
use crate::{Replicas, SyncMode};

fn open(path: &Path, format: StorageFormat) -> vexact_core::Result<Store> {
    Store::open(path, format, Arc::new(FileSystem))
}

/// Two segments, each with a bitmap.
fn replicas() -> Replicas {
    let definition = definition(SyncMode::Destructive);
    let replicas = new_replica(&definition);
    apply(&replicas, &batch(&definition, &many(0..1000, 1)), 1);
    apply(&replicas, &batch(&definition, &many(500..2000, 2)), 2);
    apply(&replicas, &batch(&definition, &many(0..3, 3)), 3);
    apply(&replicas, &batch(&definition, &many(1990..1995, 3)), 4);
    replicas
}

fn load(path: &Path, format: StorageFormat) -> vexact_core::Result<usize> {
    let stored = open(path, format)?.load()?;
    Ok(stored.map_or(0, |stored| stored.tables[0].num_rows()))
}

#[test]
fn a_file_that_is_damaged_or_missing_is_named() {
    for format in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), format).unwrap().save(&replicas().snapshot(), 0, "").unwrap();
        assert_eq!(load(folder.path(), format).unwrap(), 2000);
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names: Vec<String> = names.filter(|name| name != "lock").collect();
        assert_eq!(names.len(), 6, "four segments, their bitmaps and the manifest: {names:?}");
        for name in names {
            let path = folder.path().join(&name);
            let content = fs::read(&path).unwrap();
            let is_named = |what: &str| {
                let error = load(folder.path(), format).expect_err(what);
                assert!(matches!(error, Error::BadFile { .. }), "{what}: {error:?}");
                assert!(error.to_string().contains(&name), "{what} {name}: {error}");
            };
            for at in [0, content.len() / 3, content.len() / 2, content.len() - 1] {
                let mut changed = content.clone();
                changed[at] ^= 0x10;
                fs::write(&path, changed).unwrap();
                is_named("a changed byte");
                fs::write(&path, &content[..at]).unwrap();
                is_named("a short file");
            }
            fs::write(&path, [content.as_slice(), b"x"].concat()).unwrap();
            is_named("a long file");
            fs::remove_file(&path).unwrap();
            is_named("a missing file");
            fs::write(&path, &content).unwrap();
        }
        assert_eq!(load(folder.path(), format).unwrap(), 2000);
    }
}

/// Writes a manifest with a changed content.
fn reseal(path: &Path, format: StorageFormat, change: impl FnOnce(&mut Manifest)) {
    let path = path.join(MANIFEST);
    let mut manifest = Manifest::of_json(&fs::read(&path).unwrap(), &path, format).unwrap();
    change(&mut manifest);
    fs::write(path, manifest.to_json().unwrap()).unwrap();
}

#[test]
fn a_manifest_that_says_other_than_the_files_is_refused() {
    for format in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), format).unwrap().save(&replicas().snapshot(), 0, "").unwrap();
        let path = folder.path().join(MANIFEST);
        let whole = fs::read(&path).unwrap();
        let refused = |change: &dyn Fn(&mut Manifest)| {
            reseal(folder.path(), format, change);
            let error = load(folder.path(), format).unwrap_err();
            assert!(matches!(error, Error::BadFile { .. }), "{error:?}");
            fs::write(&path, &whole).unwrap();
            error.to_string()
        };
        let error = refused(&|manifest| manifest.tables[0].segments[0].rows -= 1);
        assert!(error.contains("segment-") && error.contains("expected 999 rows, got 1000"), "{error}");
        let error = refused(&|manifest| manifest.tables[0].segments[0].rows = 65_537);
        assert!(error.contains("at most 65536 rows, got 65537"), "{error}");
        let error = refused(&|manifest| manifest.tables[0].columns[2].column_type = "int32".into());
        assert!(error.contains("segment-") && error.contains("\"value\" Int32"), "{error}");
        assert!(error.contains("got (") && error.contains("\"value\" Int64"), "{error}");
        let error = refused(&|manifest| manifest.tables[0].columns[0].nullable = true);
        assert!(error.contains("\"id\" Int64, ") && error.contains("\"id\" Int64 not null"), "{error}");
        let error = refused(&|manifest| manifest.tables[0].columns[2].column_type = "int31".into());
        assert!(error.contains("\"Docs\": unknown type: int31"), "{error}");
        let error = refused(&|manifest| manifest.tables[0].mode = "other".into());
        assert!(error.contains("expected destructive or temporal, got \"other\""), "{error}");
        let error = refused(&|manifest| manifest.tables[0].key[0] = 3);
        assert!(error.contains("expected key columns below 3, got 3"), "{error}");
        let error = refused(&|manifest| manifest.tables[0].segments[0].live.as_mut().unwrap().rows += 1);
        assert!(error.contains("live-") && error.contains("live rows"), "{error}");
        let error = refused(&|manifest| manifest.tables[0].segments[0].live.as_mut().unwrap().offset += 100_000);
        assert!(error.contains("live-") && error.contains("expected a bitmap of 125 bytes"), "{error}");
        let error = refused(&|manifest| manifest.bitmaps.clear());
        assert!(error.contains("live-") && error.contains("got none"), "{error}");
        let error = refused(&|manifest| manifest.version = 7);
        assert!(error.contains("have format version 7, and this version of vexact reads version 1: "), "{error}");
        assert_eq!(load(folder.path(), format).unwrap(), 2000);
    }
}

#[test]
fn bytes_that_are_no_file_of_the_format_are_refused() {
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), format).unwrap().save(&replicas().snapshot(), 0, "").unwrap();
        for content in [&b""[..], b"ARROW1", b"PAR1PAR1PAR1", &[0; 100], b"\xFF\xFF\xFF\x7FARROW1", b"\0\0\0\0ARROW1"] {
            reseal(dir.path(), format, |manifest| {
                let file = &mut manifest.tables[0].segments[0].file;
                fs::write(dir.path().join(&file.name), content).unwrap();
                file.bytes = content.len() as u64;
                file.xxh64 = folder::checksum(content);
            });
            let error = load(dir.path(), format).unwrap_err();
            assert!(matches!(error, Error::BadFile { .. }) && error.to_string().contains("segment-"), "{error:?}");
        }
    }
}

#[test]
fn a_folder_of_the_other_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // It has its format from the first open on.
    drop(open(folder.path(), StorageFormat::Parquet).unwrap());
    let error = open(folder.path(), StorageFormat::ArrowIpc).unwrap_err().to_string();
    assert!(
        error.contains(MANIFEST) && error.contains("expected a folder of arrow_ipc, got one of parquet"),
        "{error}"
    );
    drop(open(folder.path(), StorageFormat::Parquet).unwrap());
}

#[test]
fn one_opener_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), StorageFormat::Parquet).unwrap();
    let error = open(folder.path(), StorageFormat::Parquet).unwrap_err();
    assert!(error.to_string().contains("is in use by another engine"), "{error}");
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    drop(first);
    open(folder.path(), StorageFormat::Parquet).unwrap();
}

#[test]
fn a_path_that_is_no_folder_is_an_error_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "mine").unwrap();
    let error = open(&path, StorageFormat::Parquet).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("file"), "{error:?}");
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

#[test]
fn files_of_others_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = ["notes.txt", "segment-.arrow", "segment-a1.arrow", "live-1.txt", "segment-1.arrow.bak", "x.tmp"];
    theirs.iter().for_each(|name| fs::write(folder.path().join(name), "mine").unwrap());
    let store = open(folder.path(), StorageFormat::ArrowIpc).unwrap();
    fs::write(folder.path().join("segment-00000077.parquet.tmp"), "left").unwrap();
    store.save(&replicas().snapshot(), 0, "").unwrap();
    assert!(theirs.iter().all(|name| folder.path().join(name).exists()));
    assert!(!folder.path().join("segment-00000077.parquet.tmp").exists());
}
