//! Files arrive, grow and are renamed while a query runs: each row is read once.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vexact::stream::StreamOptions;
use vexact::stream::csv_dir::CsvDir;
use vexact::stream::file_sink::{FileFormat, FileSink};
use vexact::{Session, StreamingQuery};

use super::{Random, write_old};

async fn rows_processed(query: &StreamingQuery, rows: u64) {
    let reached = async {
        while query.progress().rows_processed < rows {
            assert!(!query.progress().status.is_ended(), "{:?}", query.await_termination(0).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), reached).await.expect("rows that never came");
}

/// Writes rows into a file in pieces that cut lines anywhere, as a slow writer does.
fn write_in_pieces(path: &Path, text: &str, random: &mut Random) {
    let mut file = File::create(path).unwrap();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let (piece, left) = rest.split_at((1 + random.below(40) as usize).min(rest.len()));
        file.write_all(piece).unwrap();
        file.flush().unwrap();
        rest = left;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_of_each_file_is_seen_once_however_it_comes() {
    let seed = 11;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    std::fs::create_dir(&input).unwrap();
    write_old(&input.join("m.csv"), "id,text\n0,first\n");
    let session = Session::new().unwrap();
    let source = CsvDir::infer(&input, ',').unwrap();
    session.create_stream_view("input", &session.stream(Arc::new(source))).unwrap();
    let output = folder.path().join("out.csv");
    let sink = FileSink::try_new(&output, FileFormat::Csv { delimiter: ',' }, None).unwrap();
    session.create_sink("sink", Arc::new(sink)).unwrap();
    let options = StreamOptions { trigger_interval: Duration::ZERO, ..StreamOptions::default() };
    let query = session.start_stream_sql("INSERT INTO sink SELECT id, text FROM input", options).await.unwrap();
    query.start();
    rows_processed(&query, 1).await;

    let mut next = 1;
    for file in 0..40 {
        let rows = 1 + random.below(20);
        let body: String = (next..next + rows).map(|id| format!("{id},\"line\nof {id}\"\n")).collect();
        next += rows;
        // The order of the names is not that of their arrival.
        let path = input.join(format!("{:02}.csv", file * 17 % 40));
        match random.below(3) {
            0 => write_in_pieces(&path, &format!("id,text\n{body}"), &mut random),
            1 => {
                let unfinished = input.join(format!(".{file}.tmp"));
                write_in_pieces(&unfinished, &format!("id,text\n{body}"), &mut random);
                std::fs::rename(unfinished, path).unwrap();
            }
            // The append is to a file that was read already, or is about to be.
            _ => File::options().append(true).open(input.join("m.csv")).unwrap().write_all(body.as_bytes()).unwrap(),
        }
    }
    rows_processed(&query, next).await;
    query.stop();
    query.await_termination(0).await.unwrap();

    let mut reader = csv::Reader::from_path(&output).unwrap();
    let mut found: Vec<(u64, String)> = reader.deserialize().map(|row| row.unwrap()).collect();
    found.sort();
    let text = |id| if id == 0 { "first".to_owned() } else { format!("line\nof {id}") };
    let expected: Vec<(u64, String)> = (0..next).map(|id| (id, text(id))).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_query_that_waits_for_files_stops_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    std::fs::create_dir(&input).unwrap();
    write_old(&input.join("a.csv"), "id\n");
    let session = Session::new().unwrap();
    let create = format!("CREATE SOURCE TABLE s (id BIGINT) USING csv OPTIONS(path: '{}')", input.display());
    session.sql(&create, None).await.unwrap();
    let create = format!("CREATE SINK TABLE o (id BIGINT) USING json OPTIONS(path: '{}/o')", folder.path().display());
    session.sql(&create, None).await.unwrap();
    let query = session.start_stream_sql("INSERT INTO o SELECT id FROM s", StreamOptions::default()).await.unwrap();
    query.start();
    let waiting = tokio::spawn({
        let query = query.clone();
        async move { query.await_termination(0).await }
    });
    query.stop();
    let ended = tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it goes on");
    assert!(ended.unwrap().is_ok());
}
