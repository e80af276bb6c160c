//! Kills a streaming query with SIGKILL, at random instants and at every step of its source and
//! sink, and restarts it until it is done. Exactly-once: the file equals that of a run without a
//! kill, byte for byte. At-least-once: no row is lost, and there is no row that the query does not
//! return.
//!
//! The child process runs this program. `VEXACT_STREAM_KILLS` (default 40) is the number of kills
//! at random instants.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use vexact::stream::csv_dir::CsvDir;
use vexact::stream::file_sink::{FileFormat, FileSink};
use vexact::stream::{Delivery, StreamOptions};
use vexact::{Session, StreamingQuery};

use super::deadly::{DeadlySink, DeadlySource, Steps};
use super::{Random, write_old};

const ROWS: u64 = 150;
/// Maximum size of a micro-batch, in bytes, chosen so that there are about half a dozen.
const BATCH_BYTES: u64 = 450;

/// The workload of a run: the query, its output and its delivery guarantee.
#[derive(Debug, Clone, Copy)]
struct Case {
    sql: &'static str,
    file: &'static str,
    format: FileFormat,
    delivery: Delivery,
}

const STATELESS: &str =
    "INSERT INTO sink SELECT id, upper(name) AS name, amount * 2 AS twice FROM input WHERE id % 5 <> 0";
const GROUPED: &str = "INSERT INTO sink SELECT id % 7 AS key, count(*) AS n, sum(amount) AS total, max(name) AS last FROM input GROUP BY id % 7";
const CSV: FileFormat = FileFormat::Csv { delimiter: ',' };

const fn case(sql: &'static str, file: &'static str, format: FileFormat, delivery: Delivery) -> Case {
    Case { sql, file, format, delivery }
}

const CASES: [Case; 6] = [
    case(STATELESS, "out.csv", CSV, Delivery::ExactlyOnce),
    case(GROUPED, "out.csv", CSV, Delivery::ExactlyOnce),
    case(STATELESS, "out.json", FileFormat::Json, Delivery::ExactlyOnce),
    case(GROUPED, "out.json", FileFormat::Json, Delivery::ExactlyOnce),
    case(STATELESS, "out.csv", CSV, Delivery::AtLeastOnce),
    case(GROUPED, "out.json", FileFormat::Json, Delivery::AtLeastOnce),
];

/// Writes the input: files of many lengths, with line ends in quotes and a last record without a
/// line end.
fn write_input(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let mut random = Random::new(7);
    let (mut id, mut file) = (0, 0);
    while id < ROWS {
        let rows = (1 + random.below(30)).min(ROWS - id);
        let mut text = String::from("id,name,amount\n");
        for _ in 0..rows {
            let name = ["a b", "\"x, y\"", "\"two\nlines\"", "\"say \"\"hi\"\"\"", ""][random.below(5) as usize];
            text += &format!("{id},{name},{}\n", random.below(1000) as f64 / 8.0);
            id += 1;
        }
        if file % 3 == 0 {
            text.pop();
        }
        write_old(&folder.join(format!("part-{:03}.csv", file * 37 % 100)), &text);
        file += 1;
    }
}

/// Opens a query over the input of a folder.
async fn open(folder: &Path, case: Case, steps: &Steps) -> vexact::Result<StreamingQuery> {
    let session = Session::new()?;
    let source = CsvDir::infer(&folder.join("input"), ',')?.with_batch_bytes(BATCH_BYTES)?;
    let sink = FileSink::try_new(&folder.join(case.file), case.format, None)?;
    let source = DeadlySource { table: Arc::new(source), steps: steps.clone() };
    let sink = DeadlySink { table: Arc::new(sink), steps: steps.clone() };
    session.create_stream_view("input", &session.stream(Arc::new(source)))?;
    session.create_sink("sink", Arc::new(sink))?;
    let options = StreamOptions {
        checkpoint_path: Some(folder.join("checkpoint")),
        delivery: case.delivery,
        trigger_interval: Duration::ZERO,
        ..StreamOptions::default()
    };
    session.start_stream_sql(case.sql, options).await
}

/// Runs the query until all rows are processed; prints a line on stdout for each look at it.
async fn work(folder: &Path, case: Case, steps: i64) {
    let query = open(folder, case, &Steps::new(steps)).await.unwrap();
    query.start();
    loop {
        let progress = query.progress();
        assert!(!progress.status.is_ended(), "{:?}", query.await_termination(0).await);
        println!("rows {}", progress.rows_processed);
        if progress.rows_processed == ROWS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    query.stop();
    query.await_termination(0).await.unwrap();
    println!("done");
}

#[test]
#[ignore = "is run by the other tests, to be killed"]
fn the_child() {
    let text = std::env::var("VEXACT_STREAM_CRASH").expect("run by the other tests");
    let mut words = text.splitn(3, ' ');
    let mut number = || words.next().unwrap().parse::<i64>().unwrap();
    let (case, steps) = (CASES[number() as usize], number());
    let folder = PathBuf::from(words.next().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work(&folder, case, steps));
}

/// Runs a child, and kills it after `lines` lines. Returns true if the query was done.
fn run(folder: &Path, case: usize, steps: i64, lines: u64) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "stream::crash::the_child", "--ignored", "--nocapture"]);
    command.env("VEXACT_STREAM_CRASH", format!("{case} {steps} {}", folder.display()));
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let (mut is_done, mut seen) = (false, 0);
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        is_done |= line == "done";
        seen += u64::from(line.starts_with("rows"));
        if seen > lines {
            break;
        }
    }
    let _ = process.kill();
    let status = process.wait().unwrap();
    let is_killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
    assert!(is_killed || status.success() && is_done, "the child failed: {status}");
    is_done
}

fn output(folder: &Path, case: Case) -> Vec<u8> {
    std::fs::read(folder.join(case.file)).unwrap()
}

/// Returns the records of an output with their counts, without the header.
fn records(output: &[u8], case: Case) -> BTreeMap<String, usize> {
    let text = String::from_utf8(output.to_vec()).unwrap();
    let mut counts = BTreeMap::new();
    let mut count = |record: String| *counts.entry(record).or_insert(0) += 1;
    match case.format {
        FileFormat::Csv { .. } => {
            let mut reader = csv::Reader::from_reader(output);
            reader.records().for_each(|record| count(format!("{:?}", record.unwrap())));
        }
        _ => text.lines().for_each(|line| count(serde_json::from_str::<serde_json::Value>(line).unwrap().to_string())),
    }
    counts
}

/// Returns the output of a run without a kill.
fn uninterrupted(case: usize) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    write_input(&folder.path().join("input"));
    assert!(run(folder.path(), case, i64::MAX, u64::MAX));
    output(folder.path(), CASES[case])
}

fn check(folder: &Path, case: usize, expected: &[u8], what: &str) {
    let (found, case) = (output(folder, CASES[case]), CASES[case]);
    if case.delivery == Delivery::ExactlyOnce {
        assert!(
            found == expected,
            "{what}:\n{}\n{}",
            String::from_utf8_lossy(&found),
            String::from_utf8_lossy(expected)
        );
        return;
    }
    let (found, expected) = (records(&found, case), records(expected, case));
    for (record, count) in &expected {
        assert!(found.get(record) >= Some(count), "{what}: {record} was lost");
    }
    assert!(found.keys().eq(expected.keys()), "{what}: rows that the query does not have");
}

#[test]
fn kills_at_every_step_lose_and_double_nothing() {
    for (case, what) in CASES.iter().enumerate() {
        let expected = uninterrupted(case);
        assert!(records(&expected, *what).len() > 30);
        let mut steps = 0;
        loop {
            let folder = tempfile::tempdir().unwrap();
            write_input(&folder.path().join("input"));
            let is_done = run(folder.path(), case, steps, u64::MAX);
            // The query is killed again soon after its restart, and then runs to its end.
            if !is_done && !run(folder.path(), case, 1 + steps % 11, u64::MAX) {
                assert!(run(folder.path(), case, i64::MAX, u64::MAX));
            }
            check(folder.path(), case, &expected, &format!("case {case}, killed at step {steps}"));
            if is_done {
                break;
            }
            steps += 1;
        }
        assert!(steps > 20, "case {case}: {steps} steps");
    }
}

#[test]
fn kills_at_random_instants_lose_and_double_nothing() {
    let kills = std::env::var("VEXACT_STREAM_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(40);
    let outputs: Vec<Vec<u8>> = (0..CASES.len()).map(uninterrupted).collect();
    let (mut seed, mut killed) = (1, 0);
    while killed < kills {
        let case = seed as usize % CASES.len();
        let folder = tempfile::tempdir().unwrap();
        write_input(&folder.path().join("input"));
        let mut random = Random::new(seed);
        while !run(folder.path(), case, i64::MAX, random.below(12)) {
            killed += 1;
        }
        check(folder.path(), case, &outputs[case], &format!("case {case}, seed {seed}"));
        seed += 1;
    }
    println!("{killed} kills, seeds 1 to {}", seed - 1);
}
