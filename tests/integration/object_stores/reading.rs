//! Reading: answers, requests and the bytes of them.

use std::time::Duration;

use vexact::session::{QueryVectors, VectorSearch};

use super::*;

const QUERIES: [&str; 12] = [
    "SELECT * FROM t",
    "SELECT id FROM t LIMIT 7 OFFSET 130",
    "SELECT count(*), min(id), max(id), min(text), count(text) FROM t",
    "SELECT text, count(*), sum(id) FROM t GROUP BY text ORDER BY text",
    "SELECT id, text FROM t WHERE id BETWEEN 95 AND 105 OR id > 340",
    "SELECT id, cosine_distance(vec, '[1, 2, 3, 4]') FROM t ORDER BY 2 LIMIT 20",
    "SELECT id FROM t ORDER BY l2_distance(vec, '[1, 1, 1, 1]') LIMIT 50",
    "SELECT * FROM vector_search('t', 'vec', '[1, 1, 1, 1]', 30)",
    "SELECT a.id, b.id FROM t a JOIN t b ON a.id = b.id + 1 WHERE b.id % 50 = 0",
    "SELECT id FROM t WHERE l2_distance(vec, '[1, 1, 1, 1]') < 1 AND text IS NOT NULL",
    "SELECT id, row_number() OVER (PARTITION BY text ORDER BY id) FROM t ORDER BY id LIMIT 20",
    "SELECT id FROM t WHERE id IN (SELECT max(id) FROM t UNION ALL SELECT 3)",
];

/// Files of several sizes, whose names are not in the order of their rows.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("data/c.parquet", parquet(&rows(0, 90, 4))),
        ("data/a.parquet", parquet(&rows(90, 350, 4))),
        ("data/b-2.parquet", parquet(&rows(350, 351, 4))),
        ("data/b/1.pq", parquet(&rows(351, 460, 4))),
        ("data/_tmp/x.parquet", b"not read".to_vec()),
    ]
}

#[test]
fn answers_equal_those_over_local_files() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    store(&server, folder.path(), &files());
    let local = folder.path().to_str().unwrap();
    runtime().block_on(async {
        for path in ["data/", "data", "data/*.parquet", "data/**/[1abc]*.p*q*", "data/[ac].parquet", "data/a.parquet"] {
            let (here, there) = (Session::new().unwrap(), session(&server));
            let frame = here.read_parquet(format!("{local}/{path}").as_str()).await.unwrap();
            here.create_temp_view("t", &frame).unwrap();
            let frame = there.read_parquet(format!("s3://bucket/{path}").as_str()).await.unwrap();
            there.create_temp_view("t", &frame).unwrap();
            let created = session(&server);
            let sql = format!("CREATE TABLE t USING parquet OPTIONS (path: 's3://bucket/{path}')");
            created.sql(&sql, None).await.unwrap();
            for query in QUERIES {
                let expected = text(&here, query).await;
                assert_eq!(text(&there, query).await, expected, "{path}: {query}");
                assert_eq!(text(&created, query).await, expected, "{path}: {query}");
            }
            for filter in [None, Some("id > 400"), Some("text = 'text 3' AND id < 200")] {
                let search = VectorSearch {
                    table: "t".into(),
                    column: "vec".into(),
                    query: QueryVectors::One(vec![1.0, 1.0, 1.0, 1.0]),
                    top_k: 40,
                    metric: vexact::kernel::Metric::L2,
                    filter: filter.map(str::to_owned),
                    params: None,
                    min_score: None,
                    group_by: None,
                    columns: vec!["*".into()],
                };
                let rows = |batches: Vec<RecordBatch>| pretty_format_batches(&batches).unwrap().to_string();
                let expected = rows(here.vector_search(&search).await.unwrap().collect().await.unwrap());
                let found = rows(there.vector_search(&search).await.unwrap().collect().await.unwrap());
                assert_eq!(found, expected, "{path}: {filter:?}");
            }
        }
    });
}

#[test]
fn folders_of_values_are_columns_here_and_there() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let files = [
        ("h/year=2025/lang=en/a.parquet", parquet(&rows(0, 50, 4))),
        ("h/year=2026/lang=de/a.parquet", parquet(&rows(50, 120, 4))),
        ("h/year=2026/lang=__HIVE_DEFAULT_PARTITION__/a.parquet", parquet(&rows(120, 125, 4))),
        ("h/year=2026/lang=en/b.parquet", parquet(&rows(125, 300, 4))),
    ];
    store(&server, folder.path(), &files);
    let local = folder.path().to_str().unwrap();
    let queries = [
        "SELECT * FROM t",
        "SELECT year, lang, count(*), count(lang), min(year), max(lang) FROM t GROUP BY year, lang ORDER BY 1, 2",
        "SELECT count(*), count(lang), min(year), max(year), min(lang) FROM t",
        "SELECT id, lang FROM t WHERE year = 2026 AND lang IS NULL",
        "SELECT count(*) FROM t WHERE year > 2030",
        "SELECT count(*) FROM t WHERE lang = 'en' AND id > 140 AND year + 1 = 2027",
        "SELECT id, year FROM t WHERE lang <> 'en' ORDER BY l2_distance(vec, '[1, 1, 1, 1]') LIMIT 12",
        "SELECT year FROM t LIMIT 3",
    ];
    runtime().block_on(async {
        let mut answers = Vec::new();
        for root in [local, "s3://bucket"] {
            for path in ["h", "h/year=*/*/*.parquet"] {
                let session = session(&server);
                let frame = session.read_parquet(format!("{root}/{path}").as_str()).await.unwrap();
                session.create_temp_view("t", &frame).unwrap();
                let mut found =
                    vec![format!("{:?}", frame.schema().fields().iter().map(|f| f.name()).collect::<Vec<_>>())];
                for query in queries {
                    found.push(text(&session, query).await);
                }
                answers.push(found);
            }
            let session = session(&server);
            let columns = "id BIGINT, text VARCHAR, vec VECTOR(4), year VARCHAR, lang VARCHAR";
            let sql = format!("CREATE TABLE t ({columns}) USING parquet OPTIONS (path: '{root}/h')");
            session.sql(&sql, None).await.unwrap();
            assert!(text(&session, "SELECT max(year || 'x') FROM t").await.contains("2026x"));
            let refused = error(&session, "INSERT INTO t SELECT * FROM t").await;
            assert!(refused.contains("its folders are columns"), "{refused}");
            // What one file lacks is said with its name.
            let one = session.read_parquet(format!("{root}/h/year=2026/lang=de").as_str()).await.unwrap();
            assert_eq!(one.schema().fields().len(), 3);
        }
        assert!(answers[0][0].contains("\"year\", \"lang\""), "{}", answers[0][0]);
        assert!(answers.iter().all(|found| *found == answers[0]), "{answers:#?}");

        server.take_requests();
        let session = session(&server);
        let frame = session.read_parquet("s3://bucket/h").await.unwrap();
        session.create_temp_view("t", &frame).unwrap();
        server.take_requests();
        text(&session, "SELECT sum(id) FROM t WHERE year = 2025").await;
        let read: Vec<String> = server.take_requests().into_iter().filter(|r| r.bytes > 0).map(|r| r.path).collect();
        assert_eq!(read, ["bucket/h/year=2025/lang=en/a.parquet"]);

        server.put("bucket/h/c.parquet", parquet(&rows(0, 1, 4)));
        let refused = session.read_parquet("s3://bucket/h/").await.unwrap_err().to_string();
        let expected = "expected no folders name=value, as the first file has, got folders year=, lang=";
        assert!(refused.starts_with("s3://bucket/h/year=2025") && refused.contains(expected), "{refused}");
    });
}

#[test]
fn only_the_chunks_of_the_columns_are_read_and_footers_once() {
    let server = Server::start();
    let batch = rows(0, 20_000, 64);
    let mut writer = ArrowWriter::try_new(
        Vec::new(),
        batch.schema(),
        Some(
            WriterProperties::builder()
                .set_compression(Compression::UNCOMPRESSED)
                .set_dictionary_enabled(false)
                .set_max_row_group_row_count(Some(10_000))
                .build(),
        ),
    )
    .unwrap();
    writer.write(&batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    let whole = bytes.len();
    assert!(whole > 5_000_000);
    server.put("bucket/t.parquet", bytes);
    runtime().block_on(async {
        let session = session(&server);
        let frame = session.read_parquet("s3://bucket/t.parquet").await.unwrap();
        session.create_temp_view("t", &frame).unwrap();
        let opened = server.take_requests();
        let read: usize = opened.iter().map(|request| request.bytes).sum();
        assert!(opened.len() == 2 && read <= 1 << 16, "{opened:?}");

        assert!(text(&session, "SELECT sum(id) FROM t").await.contains("199990000"));
        let requests = server.take_requests();
        let read: usize = requests.iter().map(|request| request.bytes).sum();
        // Two chunks of 10 000 integers, and the headers of their pages.
        assert!((160_000..170_000).contains(&read), "{read} bytes: {requests:?}");
        assert!(requests.iter().all(|request| request.method == "HEAD" || request.bytes > 70_000), "{requests:?}");

        text(&session, "SELECT sum(id) FROM t WHERE id >= 10000").await;
        let read: usize = server.take_requests().iter().map(|request| request.bytes).sum();
        assert!((80_000..90_000).contains(&read), "{read} bytes");

        text(&session, "SELECT count(*) FROM t").await;
        let read: usize = server.take_requests().iter().map(|request| request.bytes).sum();
        assert_eq!(read, 0);
    });
}

#[test]
fn footers_are_read_at_the_same_time_with_a_bound() {
    let server = Server::start();
    for file in 0..60 {
        server.put(&format!("bucket/d/{file:03}.parquet"), parquet(&rows(2 * file, 2 * file + 2, 4)));
    }
    server.fail(|request, _| (request.query.is_empty()).then_some(server::Fault::Latency(Duration::from_millis(50))));
    runtime().block_on(async {
        let session = session(&server);
        let frame = session.read_parquet("s3://bucket/d/").await.unwrap();
        let most = server.take_most_running();
        assert!((8..=32).contains(&most), "{most} requests at a time");
        session.create_temp_view("t", &frame).unwrap();
        server.take_requests();
        assert!(text(&session, "SELECT count(*), sum(id * 2) FROM t").await.contains("| 120      | 14280"));
        let files = server.take_requests().iter().filter(|request| request.query.is_empty()).count();
        assert_eq!(files, 60, "one request of data for each file, and none for its footer");
    });
}

#[test]
fn other_forms_are_downloaded() {
    let server = Server::start();
    server.put("bucket/a.csv", "n,v\n1,[1 2]\n2,[3 4]\n");
    server.put("bucket/b.csv", "n,v\n3,[5 6]\n");
    server.put("bucket/a.jsonl", "{\"n\": 1}\n{\"n\": 2}\n");
    server.put("bucket/lines.log", "one\ntwo\n");
    server.put("bucket/unnamed", parquet(&rows(0, 3, 4)));
    // A file of more than one request.
    let long: String = std::iter::once("n\n".to_owned()).chain((0..2_000_000).map(|n| format!("{n}\n"))).collect();
    assert!(long.len() > 9 << 20);
    server.put("bucket/long/long.csv", long);
    let csv = format!("http://{}/bucket/a.csv", server.address);
    let unnamed = format!("http://{}/bucket/unnamed", server.address);
    runtime().block_on(async {
        let session = session(&server);
        for (path, expected) in [
            ("s3://bucket/a.csv", "2"),
            ("s3://bucket/?.csv", "3"),
            ("s3://bucket/a.jsonl", "2"),
            ("s3://bucket/lines.log", "2"),
            ("s3://bucket/unnamed", "3"),
            ("s3://bucket/long", "2000000"),
            (csv.as_str(), "2"),
            (unnamed.as_str(), "3"),
        ] {
            let counted = text(&session, &format!("SELECT count(*) FROM '{path}'")).await;
            assert!(counted.contains(&format!("| {expected} ")), "{path}: {counted}");
            assert_eq!(session.read(path).await.unwrap().count().await.unwrap().to_string(), expected);
        }
        let probe = session.probe("s3://bucket/a.csv").await.unwrap();
        assert_eq!((probe.candidates[0].format.name(), probe.suggested_table_name.as_str()), ("csv", "a"));
        server.take_requests();
        let probe = session.probe("s3://bucket/unnamed").await.unwrap();
        assert_eq!((probe.candidates[0].format.name(), probe.schema.unwrap().fields().len()), ("parquet", 3));
        let search = "SELECT n FROM vector_search('a', 'v', '[3, 4]', 1, metric => 'l2')";
        session.sql("CREATE TABLE a USING csv OPTIONS (path: 's3://bucket/a.csv')", None).await.unwrap();
        assert!(text(&session, search).await.contains("| 2 "));
        let refused = error(&session, "INSERT INTO a VALUES (1, NULL)").await;
        assert!(refused.contains("in an object store"), "{refused}");
    });
}
