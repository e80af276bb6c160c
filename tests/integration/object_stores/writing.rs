//! Writing: an object appears when it is complete, and nothing else is left.

use std::time::Duration;

use super::server::Fault;
use super::*;

#[test]
fn what_is_written_is_read_back() {
    let server = Server::start();
    runtime().block_on(async {
        let session = session(&server);
        let batch = rows(0, 1000, 4);
        let frame = session.create_dataframe_from_arrow(batch.schema(), vec![batch]).unwrap();
        session.create_temp_view("t", &frame).unwrap();
        let expected = text(&session, "SELECT * FROM t").await;
        frame.write_parquet("s3://bucket/out/a.parquet").await.unwrap();
        frame.write_csv("s3://bucket/out/a.csv").await.unwrap();
        assert_eq!(text(&session, "SELECT * FROM 's3://bucket/out/a.parquet'").await, expected);
        assert_eq!(text(&session, "SELECT * FROM 's3://bucket/out/a.csv'").await, expected);
        // It replaces the object that it reads.
        let copied = "COPY (SELECT * FROM 's3://bucket/out/a.parquet' WHERE id < 10) TO 's3://bucket/out/a.parquet'";
        assert!(text(&session, copied).await.contains("| 10 "));
        assert!(text(&session, "SELECT count(*) FROM 's3://bucket/out/a.parquet'").await.contains("| 10 "));
        for (url, expected) in [
            ("s3://bucket/out/", "expected a file to write, got a folder"),
            ("http://127.0.0.1/a.parquet", "servers of HTTP take no files"),
            ("https://id:marker@host/a.parquet", "expected a URL without a user or query"),
        ] {
            let error = frame.write_parquet(url).await.unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("marker"), "{error}");
        }
    });
}

#[test]
fn inserts_add_objects() {
    let server = Server::start();
    runtime().block_on(async {
        let session = session(&server);
        let sql = "CREATE TABLE t (id BIGINT, v VECTOR(2)) USING parquet OPTIONS (path: 's3://bucket/t/')";
        session.sql(sql, None).await.unwrap();
        assert!(text(&session, "SELECT count(*) FROM t").await.contains("| 0 "));
        for n in 0..3 {
            let sql = format!("INSERT INTO t VALUES ({n}, CAST('[{n}, 1.5]' AS VECTOR(2)))");
            assert!(text(&session, &sql).await.contains("| 1 "));
        }
        assert_eq!(server.paths().len(), 3);
        let found = text(&session, "SELECT id FROM t ORDER BY l2_distance(v, '[2, 1.5]') LIMIT 1").await;
        assert!(found.contains("| 2 "), "{found}");
        assert!(text(&session, "SELECT sum(id) FROM 's3://bucket/t'").await.contains("| 3 "));
    });
}

/// Rows that fill several parts.
fn large(session: &Session) -> vexact::DataFrame {
    let batches = (0..40).map(|n| rows(n * 1000, (n + 1) * 1000, 256)).collect::<Vec<_>>();
    session.create_dataframe_from_arrow(batches[0].schema(), batches).unwrap()
}

#[test]
fn a_large_file_is_sent_in_parts_and_discarded_if_one_fails() {
    let server = Server::start();
    runtime().block_on(async {
        let session = session_with(&server, &[("max_retries", "1")]);
        let frame = large(&session);
        session.create_temp_view("t", &frame).unwrap();
        let copy = "COPY t TO 's3://bucket/a.arrow'";
        assert!(text(&session, copy).await.contains("| 40000 "));
        let parts = server.take_requests().iter().filter(|r| r.query.contains_key("partNumber")).count();
        assert!(parts >= 4, "{parts} parts");
        assert_eq!(server.unfinished(), 0);
        assert!(text(&session, "SELECT count(*), sum(id) FROM 's3://bucket/a.arrow'").await.contains("| 799980000 "));

        let before = server.object("bucket/a.arrow").unwrap();
        for (method, parameter) in [("PUT", "partNumber"), ("POST", "uploadId"), ("POST", "uploads")] {
            server.fail(move |request, _| {
                let fails = request.method == method && request.query.contains_key(parameter);
                fails.then_some(Fault::Status(503, "SlowDown"))
            });
            let error = error(&session, copy).await;
            let expected = "s3://bucket/a.arrow: expected an answer, got 503 Service Unavailable (SlowDown)";
            assert!(error.starts_with(expected) && error.contains("after 1 retries"), "{error}");
            assert_eq!(server.unfinished(), 0, "{method} {parameter}");
            assert!(server.object("bucket/a.arrow").unwrap() == before);
        }
        server.recover();
        // A query that fails at its end.
        let copy = "COPY (SELECT id, vec, 1 / (39999 - id) AS x FROM t) TO 's3://bucket/b.arrow'";
        let error = error(&session, copy).await;
        assert!(error.to_lowercase().contains("divide by zero"), "{error}");
        assert_eq!((server.unfinished(), server.paths()), (0, vec!["bucket/a.arrow".to_owned()]));
    });
}

#[test]
fn a_cancelled_upload_leaves_nothing() {
    let server = Server::start();
    let runtime = runtime();
    runtime.block_on(async {
        let session = session(&server);
        let frame = large(&session);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sender = parking_lot::Mutex::new(Some(sender));
        server.fail(move |request, _| {
            let is_part = request.query.contains_key("partNumber");
            if is_part && let Some(sender) = sender.lock().take() {
                sender.send(()).unwrap();
            }
            is_part.then_some(Fault::Silence)
        });
        session.create_temp_view("t", &frame).unwrap();
        let task = tokio::spawn(async move { answer(&session, "COPY t TO 's3://bucket/a.arrow'").await });
        tokio::time::timeout(Duration::from_secs(60), receiver).await.unwrap().unwrap();
        assert_eq!(server.unfinished(), 1);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!((server.unfinished(), server.paths().len()), (0, 0));
    });
}
