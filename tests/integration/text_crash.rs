//! Kills an engine with text indexes at random instants, opens it again, and compares the matches of
//! each word with the rows of SQLite.
//!
//! The child process runs this program. `VEXACT_KILLS` (default 200) is the number of kills; a tenth
//! of it is done here.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use vexact::htap::{HtapConfig, HtapEngine, StorageMode};
use vexact::{TableSchema, Tokenizer};

const WORDS: [&str; 5] = ["amber", "birch", "cedar", "delta", "ember"];

fn config(folder: &Path, ordinal: u64) -> HtapConfig {
    let storage_mode = [StorageMode::ArrowIpc, StorageMode::Parquet, StorageMode::InMemory][(ordinal % 3) as usize];
    let storage_path = (storage_mode != StorageMode::InMemory).then(|| folder.join("replicas"));
    HtapConfig {
        oltp_path: folder.join("app.db"),
        storage_mode,
        storage_path,
        sync_batch_size: 20,
        ..HtapConfig::default()
    }
}

/// A small generator, so that a seed determines a run (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn statement(&mut self) -> String {
        let id = self.below(80);
        let count = self.below(4);
        let body = (0..count).map(|_| WORDS[self.below(5) as usize]).collect::<Vec<_>>().join(" ");
        match self.below(5) {
            0 | 1 => format!("REPLACE INTO docs VALUES ('k{id}', '{body}')"),
            2 => format!("UPDATE docs SET body = '{body}' WHERE length(id) = 2 AND id < 'k{}'", id % 10),
            3 => format!("UPDATE OR REPLACE docs SET id = 'k{}' WHERE id = 'k{id}'", (id + 1) % 80),
            _ => format!("DELETE FROM docs WHERE id = 'k{id}'"),
        }
    }
}

/// Writes and syncs until it is killed; prints a line for each round.
async fn work(folder: &Path, ordinal: u64, seed: u64) {
    let engine = HtapEngine::open(config(folder, ordinal)).await.unwrap();
    engine.execute("CREATE TABLE IF NOT EXISTS docs(id TEXT PRIMARY KEY, body TEXT)", &[]).await.unwrap();
    let columns = [("id", "utf8"), ("body", "utf8")].map(|(a, b)| (a.into(), b.into()));
    engine.register_table(TableSchema::try_new("docs", &columns, &["id".into()]).unwrap(), true).await.unwrap();
    engine.register_text("docs", &["body".into()], Tokenizer::Unicode61).await.unwrap();
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for round in 0.. {
        let count = 1 + random.below(12);
        let statements: Vec<String> = (0..count).map(|_| random.statement()).collect();
        engine.execute_batch(statements).await.unwrap();
        match random.below(3) {
            0 => {}
            1 => drop(engine.sync_now().await.unwrap()),
            _ => drop(engine.sync_all().await.unwrap()),
        }
        println!("{round}");
    }
}

fn keys(batches: &[RecordBatch]) -> Vec<String> {
    let column = |batch: &RecordBatch| -> Vec<String> {
        batch.column(0).as_string::<i32>().iter().map(|key| key.unwrap().to_owned()).collect()
    };
    let mut keys: Vec<String> = batches.iter().flat_map(column).collect();
    keys.sort();
    keys
}

/// Opens the folder that a killed process left, and compares the index with the table.
async fn check(folder: &Path, ordinal: u64) {
    let engine = HtapEngine::open(config(folder, ordinal)).await.unwrap();
    engine.sync_all().await.unwrap();
    if engine.text_columns().is_empty() {
        // The process was killed before it registered the column.
        engine.shutdown().await;
        return;
    }
    for word in WORDS {
        let expected = format!("SELECT id FROM docs WHERE instr(' ' || body || ' ', ' {word} ') > 0");
        let found = format!("SELECT id FROM text_search('docs', 'body', '{word}', NULL)");
        let expected = keys(&engine.query(&expected, &[]).await.unwrap());
        assert_eq!(keys(&engine.query(&found, &[]).await.unwrap()), expected, "{word} in {}", folder.display());
    }
    // Each row once.
    let rows = engine.query("SELECT count(*), count(DISTINCT id) FROM docs", &[]).await.unwrap();
    let count = |column: usize| rows[0].column(column).as_primitive::<Int64Type>().value(0);
    assert_eq!(count(0), count(1));
    engine.shutdown().await;
}

#[test]
#[ignore = "is run by the other test, to be killed"]
fn the_child() {
    let text = std::env::var("VEXACT_TEXT_CRASH").expect("run by the other test");
    let mut words = text.splitn(3, ' ');
    let mut number = || words.next().unwrap().parse::<u64>().unwrap();
    let (ordinal, seed) = (number(), number());
    let folder = PathBuf::from(words.next().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work(&folder, ordinal, seed));
}

#[test]
fn killed_engines_have_the_right_matches_when_they_open_again() {
    let kills = std::env::var("VEXACT_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(200_u64) / 10;
    let folders: Vec<tempfile::TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for seed in 0..kills {
        let ordinal = seed % 3;
        let folder = folders[ordinal as usize].path();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "text_crash::the_child", "--ignored", "--nocapture"])
            .env("VEXACT_TEXT_CRASH", format!("{ordinal} {seed} {}", folder.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut random = Random((seed + 77).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        random.below(2);
        let (lines, mut rounds, mut last) = (random.below(20) + 1, 0, String::new());
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            last = line.unwrap();
            rounds += u64::from(last.parse::<u64>().is_ok());
            if rounds >= lines {
                break;
            }
        }
        // SIGKILL, at any point of its work.
        let _ = child.kill();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "the child ended itself: {last}");
        runtime.block_on(check(folder, ordinal));
    }
}
