//! Tests of files that are added in any order, grow, are truncated, and are read again.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use tempfile::TempDir;

use super::*;

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8, true)]))
}

fn age(path: &Path, seconds: u64) {
    let file = OpenOptions::new().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

/// Writes a file with an old modification time.
fn write(folder: &TempDir, name: &str, text: &str) {
    std::fs::write(folder.path().join(name), text).unwrap();
    age(&folder.path().join(name), 10);
}

fn append(folder: &TempDir, name: &str, text: &str) {
    let path = folder.path().join(name);
    File::options().append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
    age(&path, 10);
}

fn numbers(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

async fn open(folder: &TempDir) -> Box<dyn Source> {
    CsvDir::declared(folder.path(), ',', &columns()).unwrap().open().await.unwrap()
}

async fn next(source: &mut Box<dyn Source>) -> (OffsetRange, Vec<i64>) {
    let range = source.next_range().await.unwrap().unwrap();
    let rows = numbers(&source.read(&range).await.unwrap());
    (range, rows)
}

async fn refused(source: &mut Box<dyn Source>) -> String {
    match source.next_range().await {
        Err(error) => error.to_string(),
        Ok(range) => source.read(&range.unwrap()).await.unwrap_err().to_string(),
    }
}

/// Returns true if the source still waits after a few polls of the folder; one poll finds input
/// that is ready.
async fn waits(source: &mut Box<dyn Source>) -> bool {
    let is_over = tokio::time::timeout(Duration::from_millis(150), source.next_range()).await.is_ok();
    !is_over
}

#[tokio::test]
async fn every_file_is_read_once_also_one_that_sorts_before_others() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "b.csv", "n,s\n1,a\n2,b\n");
    write(&folder, "c.csv", "n,s\n3,c");
    let mut source = open(&folder).await;
    let (range, rows) = next(&mut source).await;
    assert_eq!(rows, [1, 2, 3]);
    assert_eq!((range.from, range.to), (source.start(), serde_json::json!({"b.csv": 12, "c.csv": 7})));
    write(&folder, "a.csv", "n,s\n4,d\n");
    assert_eq!(next(&mut source).await.1, [4]);
    write(&folder, "b0.csv", "n,s\n5,e\n");
    assert_eq!(next(&mut source).await.1, [5]);
    assert!(waits(&mut source).await);
}

#[tokio::test]
async fn what_is_there_at_first_is_one_micro_batch_also_what_was_written_just_now() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "a.csv", "n,s\n1,a\n");
    std::fs::write(folder.path().join("b.csv"), "n,s\n2,b\n").unwrap();
    std::fs::write(folder.path().join("c.csv"), "n,s\n3,c\n4,no line end").unwrap();
    let mut source = open(&folder).await;
    assert_eq!(next(&mut source).await.1, [1, 2, 3, 4]);
    // Afterwards, settled files do not wait for the others.
    std::fs::write(folder.path().join("d.csv"), "n,s\n6,d\n7,no line end").unwrap();
    write(&folder, "e.csv", "n,s\n5,e\n");
    assert_eq!(next(&mut source).await.1, [5]);
    assert_eq!(next(&mut source).await.1, [6]);
    assert_eq!(next(&mut source).await.1, [7]);
}

#[tokio::test]
async fn names_of_unfinished_files_and_folders_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for name in [".a.csv", "_b.csv", "c.csv.tmp", "d.csv.PART", "e.csv~", "f.partial"] {
        write(&folder, name, "rubbish");
    }
    std::fs::create_dir(folder.path().join("sub.csv")).unwrap();
    write(&folder, "empty.csv", "");
    let mut source = open(&folder).await;
    assert!(waits(&mut source).await);
    std::fs::rename(folder.path().join("c.csv.tmp"), folder.path().join("old")).unwrap();
    write(&folder, "old", "n,s\n1,x\n");
    assert_eq!(next(&mut source).await.1, [1]);
}

#[tokio::test]
async fn a_file_is_read_when_it_no_longer_grows_and_as_far_as_its_records_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"n,s\n1,a\n2,\"b\n").unwrap();
    let mut source = open(&folder).await;
    // The file was modified just now, and has not been observed for long.
    {
        let mut waiting = Box::pin(source.next_range());
        assert!(futures::poll!(&mut waiting).is_pending());
    }
    let (range, rows) = next(&mut source).await;
    assert_eq!((range.to, rows), (serde_json::json!({"a.csv": 8}), vec![1]));
    assert!(waits(&mut source).await, "the record in quotes has not ended");
    append(&folder, "a.csv", "c\"\n3,d");
    // The last record has no line end, but the file is old.
    assert_eq!(next(&mut source).await.1, [2, 3]);
    append(&folder, "a.csv", "\n4,e\n");
    assert_eq!(next(&mut source).await.1, [4]);
}

#[tokio::test]
async fn ranges_are_read_again_identically_by_other_readers() {
    let folder = tempfile::tempdir().unwrap();
    for (name, first) in [("a.csv", 0), ("b.csv", 50)] {
        let rows: String = (first..first + 50).map(|n| format!("{n},\"line\n{n}\"\n")).collect();
        write(&folder, name, &format!("n,s\n{rows}"));
    }
    let table = CsvDir::infer(folder.path(), ',').unwrap();
    assert_eq!(table.schema(), columns());
    // The positions are computed as the engine does it, with micro-batches of 100 bytes.
    let mut files = Files::new(folder.path().into());
    let (mut at, mut ranges) = (Positions::new(), Vec::new());
    while let Some(positions) = part::next(&files.look(&at).unwrap(), &at, &table.columns, 100).unwrap() {
        ranges.push(OffsetRange { from: offset(&at), to: offset(&positions) });
        at = positions;
    }
    assert!(ranges.len() > 10);
    append(&folder, "a.csv", "999,later\n");
    write(&folder, "0.csv", "n,s\n1000,later\n");
    let mut all = Vec::new();
    for (ordinal, range) in ranges.iter().enumerate() {
        let mut source = table.open().await.unwrap();
        source.restore(&range.from).await.unwrap();
        let rows = numbers(&source.read(range).await.unwrap());
        assert!(!rows.is_empty(), "range {ordinal}");
        all.extend(rows);
    }
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    let mut source = table.open().await.unwrap();
    source.restore(&ranges.last().unwrap().to).await.unwrap();
    assert_eq!(next(&mut source).await.1, [1000, 999]);
}

#[tokio::test]
async fn a_record_longer_than_a_micro_batch_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x\n".repeat(200_000);
    write(&folder, "a.csv", &format!("n,s\n1,\"{long}\"\n2,b\n"));
    let columns = CsvColumns::declared(&columns(), ',').unwrap();
    let mut files = Files::new(folder.path().into());
    let seen = files.look(&Positions::new()).unwrap();
    let mut at = Positions::new();
    let mut ends = Vec::new();
    while let Some(positions) = part::next(&seen, &at, &columns, 10).unwrap() {
        at = positions;
        ends.push(at["a.csv"]);
    }
    assert_eq!(ends, [4, 400_013]);
}

#[tokio::test]
async fn what_does_not_match_is_refused_with_names_and_types() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "a.csv", "n,t\n1,a\n");
    let table = CsvDir::declared(folder.path(), ',', &columns()).unwrap();
    let error = table.open().await.unwrap_err().to_string();
    assert!(error.contains("a.csv: columns: declared are [n, s], the file has [n, t]"), "{error}");
    write(&folder, "a.csv", "n,s\n1,a\nx,b\n");
    let error = table.open().await.unwrap_err().to_string();
    assert!(error.contains("line 3, column \"n\": expected Int64, got \"x\""), "{error}");

    write(&folder, "a.csv", "n,s\n1,a\n");
    let mut source = table.open().await.unwrap();
    next(&mut source).await;
    write(&folder, "b.csv", "n\n1\n");
    assert!(refused(&mut source).await.contains("b.csv: columns: declared are [n, s], the file has [n]"));
}

#[tokio::test]
async fn files_that_were_written_anew_or_deleted_too_early_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "a.csv", "n,s\n1,a\n2,b\n");
    let mut source = open(&folder).await;
    let (range, _) = next(&mut source).await;
    write(&folder, "a.csv", "n,s\n7,a\n");
    let error = refused(&mut source).await;
    assert!(error.contains("expected a file that only grows: 12 bytes of it were read, got 8"), "{error}");
    assert!(source.read(&range).await.unwrap_err().to_string().contains("expected at least 12 bytes"));

    write(&folder, "a.csv", "n,s\n100,abcdefgh\n");
    let mut source = open(&folder).await;
    source.restore(&range.to).await.unwrap();
    assert!(refused(&mut source).await.contains("expected a line end where reading goes on, at byte 12"));

    // The file was deleted after it was read, and then a new one got its name.
    write(&folder, "b.csv", "n,s\n3,c\n");
    std::fs::remove_file(folder.path().join("a.csv")).unwrap();
    let mut source = open(&folder).await;
    source.restore(&range.to).await.unwrap();
    assert_eq!(next(&mut source).await.0.to, serde_json::json!({"b.csv": 8}));
    write(&folder, "a.csv", "n,s\n4,d\n");
    assert_eq!(next(&mut source).await.1, [4]);
}

#[tokio::test]
async fn a_folder_that_is_none_and_offsets_of_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    assert!(CsvDir::infer(&missing, ',').unwrap_err().to_string().contains("folder not found"));
    write(&folder, "a.csv", "n,s\n");
    let file = folder.path().join("a.csv");
    let refused = CsvDir::declared(&file, ',', &columns()).unwrap_err().to_string();
    assert!(refused.contains("expected a folder of CSV files, got a file"));
    assert!(CsvDir::infer(folder.path(), ',').unwrap_err().to_string().contains("expected at least one CSV file"));
    assert!(CsvDir::declared(folder.path(), '\n', &columns()).is_err());
    let mut source = open(&folder).await;
    let error = source.restore(&Offset::from(3)).await.unwrap_err().to_string();
    assert!(error.contains("expected an object of file names and bytes, got 3"), "{error}");
}

#[tokio::test]
async fn a_file_that_was_written_anew_is_noticed_by_its_checksum() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "a.csv", "n,s\n1,a\n");
    write(&folder, "b.csv", "n,s\n2,b\n");
    let mut source = open(&folder).await;
    let (range, _) = next(&mut source).await;
    let evidence = source.evidence();
    let restored = async || {
        let mut source = open(&folder).await;
        source.restore(&range.to).await.unwrap();
        source.verify(&evidence).await.map(|()| source)
    };
    // The file was touched, copied and appended to, but still begins with the bytes that were read.
    write(&folder, "a.csv", "n,s\n1,a\n");
    append(&folder, "b.csv", "3,c\n");
    assert_eq!(next(&mut restored().await.unwrap()).await.1, [3]);
    for text in ["n,s\n7,a\n", "n,s\n7,a\n8,b\n"] {
        write(&folder, "a.csv", text);
        let error = restored().await.err().unwrap().to_string();
        assert!(error.contains("a.csv: expected the 8 bytes that were read, got others"), "{error}");
    }
    write(&folder, "a.csv", "n,s\n");
    assert!(restored().await.err().unwrap().to_string().contains("expected a file that only grows"));
    // A file that was read to its end may be deleted.
    std::fs::remove_file(folder.path().join("a.csv")).unwrap();
    assert_eq!(next(&mut restored().await.unwrap()).await.1, [3]);

    // The change is also detected within one query, when it reads on.
    let mut source = open(&folder).await;
    assert_eq!(next(&mut source).await.1, [2, 3]);
    write(&folder, "b.csv", "n,s\n9,b\n3,c\n4,d\n");
    assert!(refused(&mut source).await.contains("b.csv: expected the 12 bytes that were read"));
}
