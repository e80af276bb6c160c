//! Failures name the URL, what was expected and what came, end in time, and have no credentials.

use std::time::{Duration, Instant};

use futures::TryStreamExt;

use super::server::Fault;
use super::*;

fn data(server: &Server) {
    server.put("bucket/d/a.parquet", parquet(&rows(0, 300, 4)));
    server.put("bucket/d/b.parquet", parquet(&rows(300, 500, 4)));
}

async fn opened(session: &Session) {
    let frame = session.read_parquet("s3://bucket/d/").await.unwrap();
    session.create_temp_view("t", &frame).unwrap();
}

#[test]
fn what_is_missing_or_denied_is_named() {
    let server = Server::start();
    data(&server);
    server.put("bucket/empty.parquet", "");
    server.put("bucket/text.parquet", "no Parquet, but longer than its footer would be");
    let missing = format!("http://{}/bucket/no.parquet", server.address);
    let folder = format!("http://{}/bucket/d/", server.address);
    runtime().block_on(async {
        let session = session(&server);
        for (path, expected) in [
            ("s3://bucket/no.parquet", "file not found: s3://bucket/no.parquet"),
            ("s3://nobody/no.parquet", "file not found: s3://nobody/no.parquet"),
            ("s3://bucket/d/*.x", "file not found: s3://bucket/d/*.x"),
            ("s3://bucket/no/", "s3://bucket/no/: expected files *.parquet"),
            ("s3://bucket/empty.parquet", "s3://bucket/empty.parquet: expected a Parquet file, got an empty file"),
            ("s3://bucket/text.parquet", "s3://bucket/text.parquet: "),
            (missing.as_str(), "file not found: http://127.0.0.1"),
            (folder.as_str(), "http://127.0.0.1"),
        ] {
            let error = session.read_parquet(path).await.unwrap_err().to_string();
            assert!(error.starts_with(expected) && !error.contains(SECRET), "{path}: {error}");
        }
        let paths = vec!["s3://bucket/d/a.parquet".into(), std::path::PathBuf::from("/a.parquet")];
        let error = session.read_parquet(paths).await.unwrap_err().to_string();
        assert!(error.contains("expected files of one store, got s3://bucket/d/a.parquet and /a.parquet"), "{error}");

        server.fail(|_, _| Some(Fault::Status(403, "SignatureDoesNotMatch")));
        for path in ["s3://bucket/d/", "s3://bucket/d/a.parquet"] {
            let error = session.read_parquet(path).await.unwrap_err().to_string();
            assert!(
                error.starts_with("s3://bucket/d") && error.contains("expected access, got 403 Forbidden"),
                "{error}"
            );
            assert!(error.contains("check the credentials") && !error.contains(SECRET), "{error}");
        }
    });
}

#[test]
fn a_file_of_other_columns_is_named() {
    let server = Server::start();
    data(&server);
    let other = rows(0, 5, 4).project(&[0, 2]).unwrap();
    server.put("bucket/d/c.parquet", parquet(&other));
    runtime().block_on(async {
        let error = session(&server).read_parquet("s3://bucket/d/").await.unwrap_err().to_string();
        assert!(error.starts_with("s3://bucket/d/c.parquet: columns: declared are [id, text, vec]"), "{error}");
        server.put("bucket/d/c.parquet", parquet(&rows(0, 5, 3)));
        let error = session(&server).read_parquet("s3://bucket/d/").await.unwrap_err().to_string();
        assert!(error.starts_with("s3://bucket/d/c.parquet: column \"vec\": declared is"), "{error}");
    });
}

#[test]
fn an_object_that_is_changed_or_removed_is_named_and_one_that_comes_is_not_read() {
    let server = Server::start();
    data(&server);
    runtime().block_on(async {
        let session = session(&server);
        opened(&session).await;
        let planned = session.sql("SELECT sum(id) FROM t", None).await.unwrap().planned().await.unwrap();
        server.put("bucket/d/b.parquet", parquet(&rows(600, 800, 4)));
        let read = planned.stream().unwrap().try_collect::<Vec<RecordBatch>>().await;
        let error = vexact::Error::from(read.unwrap_err()).to_string();
        assert!(error.starts_with("s3://bucket/d/b.parquet: the file was changed"), "{error}");
        // The next query plans with the object as it is.
        assert!(text(&session, "SELECT max(id) FROM t").await.contains("799"));
        server.put("bucket/d/c.parquet", parquet(&rows(1000, 1001, 4)));
        assert!(text(&session, "SELECT max(id) FROM t").await.contains("799"));
    });
}

#[test]
fn faults_that_pass_are_retried() {
    let server = Server::start();
    data(&server);
    runtime().block_on(async {
        let expected = {
            let session = session(&server);
            opened(&session).await;
            text(&session, "SELECT sum(id), count(text), min(vec[1]) FROM t").await
        };
        for fault in
            [Fault::Status(503, "SlowDown"), Fault::Status(500, "InternalError"), Fault::Cut(10), Fault::Silence]
        {
            server.take_requests();
            let is_listing = |request: &server::Received| request.query.contains_key("list-type");
            server.fail(move |request, before| match (&fault, before) {
                // The client does not begin a listing again once its answer has begun.
                (Fault::Cut(_), _) if is_listing(request) => None,
                (_, 0) => Some(fault.clone()),
                _ => None,
            });
            let session = session_with(&server, &[("timeout", "500ms")]);
            opened(&session).await;
            assert_eq!(text(&session, "SELECT sum(id), count(text), min(vec[1]) FROM t").await, expected);
        }
    });
}

#[test]
fn faults_that_last_are_errors_in_time() {
    let address = Server::start().address.clone();
    let server = Server::start();
    data(&server);
    runtime().block_on(async {
        for (fault, expected) in [
            (
                Fault::Status(503, "SlowDown"),
                "expected an answer, got 503 Service Unavailable (SlowDown) after 2 retries",
            ),
            (Fault::Cut(10), "s3://bucket/d/a.parquet: expected an answer, got: "),
            (Fault::Silence, "expected an answer, got: operation timed out"),
        ] {
            let options = [("timeout", "300ms"), ("max_retries", "2"), ("retry_timeout", "5s")];
            let session = session_with(&server, &options);
            opened(&session).await;
            let cause = fault.clone();
            server.fail(move |request, _| (request.path.ends_with("a.parquet")).then(|| cause.clone()));
            let start = Instant::now();
            let error = error(&session, "SELECT sum(id) FROM t").await;
            assert!(error.starts_with("s3://bucket/d/a.parquet: ") && error.contains(expected), "{error}");
            assert!(!error.contains(SECRET), "{error}");
            assert!(start.elapsed() < Duration::from_secs(20));
            server.recover();
            assert!(text(&session, "SELECT count(*) FROM t").await.contains("500"));
        }
        // No credentials: those of the machine's role are asked for.
        let mut options = StoreOptions::default();
        let nobody = format!("http://{address}");
        let given = [("metadata_endpoint", nobody), ("max_retries", "1".into()), ("allow_http", "true".into())];
        options.set("s3://", given.map(|(key, value)| (key.to_owned(), value))).unwrap();
        let session =
            Session::with_options(&SessionOptions { object_stores: options, ..SessionOptions::default() }).unwrap();
        let error = session.read_parquet("s3://bucket/d/a.parquet").await.unwrap_err().to_string();
        assert!(error.starts_with("s3://bucket/d/a.parquet: expected credentials, got none"), "{error}");
        // No server at all.
        let mut options = StoreOptions::default();
        let given = [
            ("endpoint", format!("http://{address}")),
            ("allow_http", "true".into()),
            ("skip_signature", "true".into()),
        ];
        options.set("s3://", given.map(|(key, value)| (key.to_owned(), value))).unwrap();
        let session =
            Session::with_options(&SessionOptions { object_stores: options, ..SessionOptions::default() }).unwrap();
        let error = session.read_parquet("s3://bucket/d/a.parquet").await.unwrap_err().to_string();
        assert!(error.starts_with("s3://bucket/d/a.parquet: expected an answer, got: "), "{error}");
        assert!(error.contains("refused") && error.contains("after 4 retries"), "{error}");
    });
}

#[test]
fn a_query_that_waits_for_a_store_can_be_cancelled_and_has_a_time_limit() {
    let server = Server::start();
    data(&server);
    runtime().block_on(async {
        let session = session(&server);
        opened(&session).await;
        server.fail(|request, _| request.query.is_empty().then_some(Fault::Silence));
        let limit = Duration::from_millis(200);
        let frame = session.sql_within("SELECT sum(id) FROM t", None, limit).await.unwrap();
        let error = frame.collect().await.unwrap_err();
        assert!(matches!(error, vexact::Error::TimedOut { .. }), "{error}");
        let task = tokio::spawn({
            let session = session.clone();
            async move { answer(&session, "SELECT sum(id) FROM t").await }
        });
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        server.recover();
        assert!(text(&session, "SELECT count(*) FROM t").await.contains("500"));
    });
}

#[test]
fn credentials_are_in_no_plan_and_no_text() {
    let server = Server::start();
    data(&server);
    runtime().block_on(async {
        let session = session(&server);
        opened(&session).await;
        let mut texts =
            vec![format!("{session:?} {:?} {:?}", session.object_stores(), session.context().runtime_env())];
        for sql in
            ["SELECT id FROM t WHERE id > 3", "SELECT id FROM t ORDER BY cosine_distance(vec, '[1, 2, 3, 4]') LIMIT 3"]
        {
            let frame = session.sql(sql, None).await.unwrap();
            let planned = frame.planned().await.unwrap();
            let explained = planned.explained();
            texts.push(format!("{} {} {} {frame:?}", explained.logical, explained.physical, explained.strategy));
            texts.push(text(&session, &format!("EXPLAIN ANALYZE {sql}")).await);
            texts.push(text(&session, &format!("EXPLAIN VERBOSE {sql}")).await);
            let (state, plan) = (session.context().state(), frame.plan().unwrap());
            let (_, physical) = vexact::sql::create_physical_plan(&state, &plan).await.unwrap();
            texts.push(format!("{physical:?} {plan:?}"));
        }
        assert!(texts.iter().any(|text| text.contains("bucket")));
        for text in texts {
            assert!(!text.contains(SECRET), "{text}");
        }
    });
}
