//! Damaged files of every format: each is read, or rejected with its name, and none panics.
//!
//! `VEXACT_SEED=n` replays the run that a failure names; `VEXACT_SOAK_SECONDS=n` runs new ones for
//! that long. `test_mutations.py` does the same through Python in processes whose memory is
//! limited.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::{WriterProperties, WriterVersion};
use tokio::runtime::Runtime;
use vexact::error::{Error, ErrorKind};
use vexact::sources::json::JsonFormat;
use vexact::{Session, SessionOptions};

const RUNS: u64 = 60;

/// A generator of numbers (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound.max(1) as u64) as usize
    }
}

fn rows() -> RecordBatch {
    let lists = (0..40).map(|row| (row % 3 > 0).then(|| vec![Some(row), None]));
    let columns: [(&str, ArrayRef); 4] = [
        ("i", Arc::new(Int64Array::from_iter((0..40).map(|row| (row % 5 > 0).then_some(row << row))))),
        ("f", Arc::new(Float64Array::from_iter_values((0..40).map(f64::from)))),
        ("s", Arc::new(StringArray::from_iter_values((0..40).map(|row| format!("text {}", row % 4))))),
        ("l", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn parquet(compression: Compression, version: WriterVersion, has_dictionary: bool) -> Vec<u8> {
    let properties = WriterProperties::builder().set_compression(compression).set_writer_version(version);
    let properties = properties.set_dictionary_enabled(has_dictionary).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows().schema(), Some(properties)).unwrap();
    writer.write(&rows()).unwrap();
    writer.into_inner().unwrap()
}

/// Returns valid files, by the ends of their names.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let mut file = arrow::ipc::writer::FileWriter::try_new(Vec::new(), &rows().schema()).unwrap();
    file.write(&rows()).unwrap();
    let mut stream = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &rows().schema()).unwrap();
    stream.write(&rows()).unwrap();
    let csv = b"i,s,v\n1,\"a \"\"b\"\"\nc\",[1 2]\n2,\xc3\xa9,[3 4]\n,\"\",\n".repeat(9);
    let json = b"{\"i\": 1, \"s\": \"a\\n\\u00e9\", \"l\": [1, 2.5], \"o\": {\"x\": [{}]}}\n".repeat(9);
    let array = [
        b"[",
        &json.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').collect::<Vec<_>>().join(&b',')[..],
        b"]",
    ];
    let zstd = Compression::ZSTD(ZstdLevel::default());
    vec![
        ("csv", csv),
        ("jsonl", json),
        ("json", array.concat()),
        ("arrow", file.into_inner().unwrap()),
        ("arrows", stream.into_inner().unwrap()),
        ("1.parquet", parquet(Compression::SNAPPY, WriterVersion::PARQUET_1_0, true)),
        ("2.parquet", parquet(Compression::UNCOMPRESSED, WriterVersion::PARQUET_2_0, false)),
        ("3.parquet", parquet(zstd, WriterVersion::PARQUET_2_0, true)),
    ]
}

/// Returns a file that is truncated, or has flipped bits, bytes as in lengths, or parts that are
/// doubled, moved or removed.
fn mutated(sound: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    let (one, other) = (chance.below(bytes.len()), chance.below(bytes.len()));
    let part = one.min(other)..one.max(other);
    match chance.below(7) {
        0 => bytes.truncate(one),
        1..=3 => {
            for _ in 0..[1, 1, 1, 2, 5, 20][chance.below(6)] {
                let place = chance.below(bytes.len());
                bytes[place] ^= 1 << chance.below(8);
            }
        }
        4 => {
            let width = [1, 2, 4, 5, 8][chance.below(5)];
            let end = (one + width).min(bytes.len());
            bytes[one..end].fill([0xff, 0, 0x7f, 0x80][chance.below(4)]);
        }
        5 => {
            let copy = bytes[part.clone()].to_vec();
            bytes.splice(part.start..part.start, copy);
        }
        _ => {
            bytes.drain(part.start..part.end.min(part.start + 16));
        }
    }
    bytes
}

async fn read(session: &Session, path: &Path, end: &str) -> Result<(), Error> {
    let by_kind = match end {
        "csv" => session.read_csv(path, ',').await,
        "jsonl" => session.read_json(path, None, JsonFormat::Lines).await,
        "json" => session.read_json(path, None, JsonFormat::Array).await,
        "arrow" | "arrows" => session.read_arrow_file(path).await,
        _ => session.read_parquet(path).await,
    };
    by_kind?.collect().await?;
    session.read(path).await?.collect().await.map(|_| ())
}

#[test]
fn a_damaged_file_is_read_or_refused_by_name() {
    vexact_core::entry::keep_panics();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let over = number("VEXACT_SOAK_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let mut seed =
        number("VEXACT_SEED").unwrap_or(if over.is_some() { u64::from(std::process::id()) << 32 } else { 0 });
    let first = seed;
    loop {
        let options = SessionOptions { memory_limit_bytes: Some(256 << 20), ..SessionOptions::default() };
        let session = Session::with_options(&options).unwrap();
        for (end, sound) in corpus() {
            let path: PathBuf = folder.path().join(format!("a.{end}"));
            std::fs::write(&path, mutated(&sound, &mut Chance(seed))).unwrap();
            if let Err(error) = runtime.block_on(read(&session, &path, end)) {
                let is_named = error.kind() != ErrorKind::Internal && error.to_string().contains("a.");
                assert!(is_named, "VEXACT_SEED={seed}, {end}: {error}");
            }
        }
        seed += 1;
        let is_over = match over {
            Some(over) => Instant::now() > over,
            None => seed - first >= RUNS,
        };
        if is_over {
            return;
        }
    }
}
