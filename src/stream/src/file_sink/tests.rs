//! Tests of a file's content after writing, truncation, and writers that were stopped at any byte.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Float32Type, Schema};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use super::*;

fn batch(first: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(first), None]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a \"b\",\r\nc"), Some("\u{e9}")]));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.1, -2.5]));
    let vectors = [Some(vec![Some(1.0), Some(0.5)]), None];
    let vectors: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, 2));
    RecordBatch::try_from_iter_with_nullable([
        ("id", ids, true),
        ("text", texts, true),
        ("x", floats, true),
        ("v", vectors, true),
    ])
    .unwrap()
}

const CSV: FileFormat = FileFormat::Csv { delimiter: ',' };
const GOLDEN_CSV: &str = "id,text,x,v\n1,\"a \"\"b\"\",\r\nc\",0.1,\"[1,0.5]\"\n,\u{e9},-2.5,\n2,\"a \"\"b\"\",\r\nc\",0.1,\"[1,0.5]\"\n,\u{e9},-2.5,\n";
const GOLDEN_JSON: &str = "{\"id\":1,\"text\":\"a \\\"b\\\",\\r\\nc\",\"x\":0.1,\"v\":[1.0,0.5]}\n\
                           {\"id\":null,\"text\":\"\u{e9}\",\"x\":-2.5,\"v\":null}\n\
                           {\"id\":2,\"text\":\"a \\\"b\\\",\\r\\nc\",\"x\":0.1,\"v\":[1.0,0.5]}\n\
                           {\"id\":null,\"text\":\"\u{e9}\",\"x\":-2.5,\"v\":null}\n";

fn sink(folder: &TempDir, name: &str, format: FileFormat) -> (FileSink, PathBuf) {
    let path = folder.path().join(name);
    (FileSink::try_new(&path, format, None).unwrap(), path)
}

async fn open(sink: &FileSink, is_restored: bool) -> Box<dyn Sink> {
    sink.open(batch(0).schema(), is_restored).await.unwrap()
}

#[tokio::test]
async fn files_have_every_row_in_its_golden_form() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format, golden) in [("a.csv", CSV, GOLDEN_CSV), ("a.json", FileFormat::Json, GOLDEN_JSON)] {
        let (table, path) = sink(&folder, name, format);
        fs::write(&path, "what an earlier query left").unwrap();
        let mut writer = open(&table, false).await;
        for first in [1, 2] {
            writer.write(batch(first)).await.unwrap();
            writer.write(batch(0).slice(0, 0)).await.unwrap();
        }
        writer.finish().await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), golden);
        assert_eq!(bytes(&writer.position().unwrap()), golden.len());
    }
    let (table, path) = sink(&folder, "b.csv", FileFormat::Csv { delimiter: '\t' });
    open(&table, false).await.finish().await.unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "id\ttext\tx\tv\n", "a file without rows has its header");
}

#[tokio::test]
async fn a_query_that_fails_before_it_has_rows_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in [("a.csv", CSV), ("a.json", FileFormat::Json), ("a.parquet", FileFormat::Parquet)] {
        let (table, path) = sink(&folder, name, format);
        drop(open(&table, false).await);
        assert!(!path.exists(), "{name}");
        fs::write(&path, "old").unwrap();
        drop(open(&table, false).await);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        open(&table, false).await.finish().await.unwrap();
        assert_ne!(fs::read_to_string(&path).unwrap_or_default(), "old");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[tokio::test]
async fn json_refuses_what_it_lacks_and_a_file_of_others_is_not_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (table, path) = sink(&folder, "a.json", FileFormat::Json);
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN]));
    let numbers = RecordBatch::try_from_iter([("x", numbers)]).unwrap();
    let mut writer = table.open(numbers.schema(), false).await.unwrap();
    let error = writer.write(numbers.clone()).await.unwrap_err().to_string();
    assert!(error.contains("column \"x\"") && error.contains("NaN"), "{error}");
    writer.write(numbers.slice(0, 1)).await.unwrap();
    let position = writer.position().unwrap();
    drop(writer);
    fs::write(&path, "my own lines, of at least that length").unwrap();
    let mut writer = table.open(numbers.schema(), true).await.unwrap();
    let error = writer.truncate(&position).await.unwrap_err().to_string();
    assert!(error.contains("bytes that the query wrote") && error.contains("written anew"), "{error}");
    drop(writer);
    assert!(fs::read_to_string(&path).unwrap().starts_with("my own lines"));
}

fn bytes(position: &crate::sink::Position) -> usize {
    position["bytes"].as_u64().unwrap() as usize
}

#[tokio::test]
async fn cut_back_to_a_position_a_file_is_what_it_was_wherever_the_writer_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format, golden) in [("a.csv", CSV, GOLDEN_CSV), ("a.json", FileFormat::Json, GOLDEN_JSON)] {
        let (table, path) = sink(&folder, name, format);
        let mut writer = open(&table, false).await;
        writer.write(batch(1)).await.unwrap();
        writer.flush().await.unwrap();
        let position = writer.position().unwrap();
        writer.write(batch(2)).await.unwrap();
        drop(writer);
        let text = fs::read(&path).unwrap();
        for len in bytes(&position)..=text.len() {
            fs::write(&path, &text[..len]).unwrap();
            let mut writer = open(&table, true).await;
            writer.truncate(&position).await.unwrap();
            writer.write(batch(2)).await.unwrap();
            writer.finish().await.unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), golden, "{name}, stopped at byte {len}");
        }
        fs::write(&path, "x").unwrap();
        let mut writer = open(&table, true).await;
        let error = writer.truncate(&position).await.unwrap_err().to_string();
        assert!(error.contains(&format!("expected a file of at least {} bytes, got 1", bytes(&position))), "{error}");
    }
}

#[tokio::test]
async fn a_writer_that_goes_on_without_cutting_back_leaves_no_half_line() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format, golden) in [("a.csv", CSV, GOLDEN_CSV), ("a.json", FileFormat::Json, GOLDEN_JSON)] {
        let (table, path) = sink(&folder, name, format);
        let first = golden.find("\u{e9}").unwrap();
        let first = first + golden[first..].find('\n').unwrap() + 1;
        for len in 0..=golden.len() {
            fs::write(&path, &golden.as_bytes()[..len]).unwrap();
            let mut writer = open(&table, true).await;
            writer.write(batch(2)).await.unwrap();
            drop(writer);
            let text = fs::read_to_string(&path).unwrap();
            let kept = text.strip_suffix(&golden[first..]).unwrap_or_else(|| panic!("{name} at {len}: {text}"));
            // The complete lines of the old file, or at least a header line, remain.
            let lines = golden.replace("\r\n", "--");
            let whole = lines.get(..len).and_then(|text| text.rfind('\n')).map_or(0, |end| end + 1);
            let whole = if lines.is_char_boundary(len) { whole } else { kept.len() };
            let header = if format == CSV { golden.find('\n').unwrap() + 1 } else { 0 };
            assert_eq!(kept, &golden[..whole.max(header)], "{name}, stopped at byte {len}");
        }
    }
}

#[tokio::test]
async fn a_file_has_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in [("a.csv", CSV), ("a.json", FileFormat::Json), ("a.parquet", FileFormat::Parquet)] {
        let (table, _) = sink(&folder, name, format);
        let writer = open(&table, false).await;
        let error = table.open(batch(0).schema(), false).await.unwrap_err().to_string();
        assert!(error.contains("expected one query at a time to write the file"), "{error}");
        drop(writer);
        assert!(table.open(batch(0).schema(), false).await.is_ok());
    }
}

fn parquet_ids(path: &Path) -> Vec<String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let mut ids = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        assert_eq!(batch.schema().fields(), self::batch(0).schema().fields());
        let column = arrow::util::display::ArrayFormatter::try_new(batch.column(0), &Default::default()).unwrap();
        ids.extend((0..batch.num_rows()).map(|row| column.value(row).to_string()));
    }
    ids
}

#[tokio::test]
async fn a_parquet_file_appears_whole_and_keeps_what_was_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let (table, path) = sink(&folder, "a.parquet", FileFormat::Parquet);
    let mut writer = open(&table, false).await;
    writer.write(batch(1)).await.unwrap();
    writer.flush().await.unwrap();
    writer.write(batch(2)).await.unwrap();
    assert!(!path.exists(), "nothing is half-visible");
    assert_eq!(writer.position(), None);
    // The writer was stopped without an end, so the flushed rows are in the parts.
    drop(writer);
    let mut writer = open(&table, true).await;
    writer.write(batch(3)).await.unwrap();
    writer.finish().await.unwrap();
    drop(writer);
    assert_eq!(parquet_ids(&path), ["1", "", "3", ""]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    // Another writer resumes with the complete file, even if no rows come.
    drop(open(&table, true).await);
    let mut writer = open(&table, true).await;
    writer.write(batch(4)).await.unwrap();
    writer.finish().await.unwrap();
    assert_eq!(parquet_ids(&path), ["1", "", "3", "", "4", ""]);
    // A new query starts anew, and a query without rows writes a file without rows.
    drop(writer);
    open(&table, false).await.finish().await.unwrap();
    assert_eq!(parquet_ids(&path), Vec::<String>::new());
}

#[tokio::test]
async fn an_end_that_was_interrupted_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (table, path) = sink(&folder, "a.parquet", FileFormat::Parquet);
    let mut writer = open(&table, false).await;
    writer.write(batch(1)).await.unwrap();
    writer.flush().await.unwrap();
    let parts = folder.path().join(".a.parquet.parts");
    let part = parts.join("000000000000.parquet");
    let saved = fs::read(&part).unwrap();
    writer.finish().await.unwrap();
    drop(writer);
    // The process was killed after the file was renamed, before the parts were removed.
    fs::create_dir_all(&parts).unwrap();
    fs::write(&part, saved).unwrap();
    let mut writer = open(&table, true).await;
    writer.write(batch(2)).await.unwrap();
    writer.finish().await.unwrap();
    assert_eq!(parquet_ids(&path), ["1", "", "2", ""]);
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_before_a_file_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").join("a.csv");
    assert!(FileSink::try_new(&missing, CSV, None).unwrap_err().to_string().contains("folder not found"));
    assert!(FileSink::try_new(folder.path(), CSV, None).unwrap_err().to_string().contains("got a folder"));
    assert!(FileSink::try_new(&folder.path().join("a"), FileFormat::Csv { delimiter: '"' }, None).is_err());
    let (table, path) = sink(&folder, "a.csv", CSV);
    fs::write(&path, "kept").unwrap();
    let nested = arrow::datatypes::DataType::Struct(Schema::empty().fields);
    let schema = Arc::new(Schema::new(vec![arrow::datatypes::Field::new("s", nested, true)]));
    assert!(table.open(schema, false).await.is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    // A file that a crash truncated within its header has no rows to preserve.
    let other = folder.path().join("b.parquet");
    fs::write(&other, "no parquet").unwrap();
    let table = FileSink::try_new(&other, FileFormat::Parquet, None).unwrap();
    assert!(table.open(batch(0).schema(), true).await.is_err());
}
