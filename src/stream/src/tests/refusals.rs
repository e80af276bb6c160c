use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};

use super::world::*;
use crate::queue::{QueueSink, QueueSource, Watermarks};
use crate::{Delivery, StreamOptions};

#[tokio::test]
async fn what_cannot_be_done_over_a_stream_is_refused_with_the_reason() {
    let session = session().await;
    let live = QueueSource::try_new(batch(0).schema(), Watermarks::default()).unwrap();
    session.create_stream_view("live", &session.stream(Arc::new(live))).unwrap();
    session.create_sink("out", Arc::new(Memory::default())).unwrap();
    for (sql, reason) in [
        ("SELECT id FROM live ORDER BY id", "ORDER BY needs a bounded source: this stream has no end"),
        ("SELECT id FROM live LIMIT 3", "LIMIT needs a bounded source"),
        ("SELECT row_number() OVER (ORDER BY id) FROM live", "a window function (OVER) needs a bounded source"),
        ("SELECT max(n) FROM (SELECT count(*) AS n FROM live GROUP BY g)", "an aggregate of aggregates needs"),
        ("SELECT d.name, id FROM d LEFT JOIN live ON live.k = d.k", "a join that keeps rows of its table needs"),
        ("SELECT live.id FROM live JOIN s ON s.id = live.id", "streams cannot be joined"),
        ("SELECT a.id FROM s a JOIN s b ON a.id = b.id", "a join of a stream with a stream"),
        ("SELECT id FROM b WHERE id NOT IN (SELECT id FROM live)", "a join that keeps rows of its table needs"),
        ("SELECT id FROM s UNION ALL SELECT id FROM b", "a UNION of a stream with a table"),
        ("SELECT id FROM b", "got one of tables alone"),
        ("SELECT * FROM out", "out is a sink, which cannot be read"),
        ("SELECT nothing FROM s", "nothing"),
        ("SELECT id FROM", "SQL error"),
        ("UPDATE s SET id = 1", "expected SELECT or INSERT INTO sink SELECT, got UPDATE"),
        ("SELECT id FROM s; SELECT id FROM s", "expected one statement"),
        ("SELECT sum(v) FROM s WINDOW BY t EVERY 10 AS w", "expected w in GROUP BY"),
        ("SELECT w FROM s WINDOW BY x EVERY 10 AS w", "WINDOW BY x: expected a timestamp"),
        ("SELECT w FROM s WINDOW BY b.t EVERY 10 AS w", "expected a column of s, got one of b"),
        ("SELECT v FROM b WINDOW BY t EVERY 10 AS w", "got one of tables alone"),
        ("SELECT approx_percentile_cont(g, 0.5) FROM s", "approx_percentile_cont"),
    ] {
        let Err(error) = session.stream_sql(sql).await.map_err(|error| error.to_string()) else {
            panic!("{sql}: not refused");
        };
        assert!(error.contains(reason), "{sql}: {error}");
    }
    for (sql, reason) in [
        ("INSERT INTO s SELECT * FROM s", "s is a source, which cannot be written to"),
        ("INSERT INTO d SELECT * FROM s", "d is a table, which a streaming query does not write to"),
        ("INSERT INTO nowhere SELECT * FROM s", "sink nowhere not found"),
        ("SELECT id FROM s", "expected INSERT INTO sink SELECT"),
    ] {
        let error = session.start_stream_sql(sql, options()).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{sql}: {error}");
    }
    // The stream is rejected outside of streaming SQL as well.
    for (sql, reason) in [("SELECT * FROM s", "expected stream_sql"), ("SELECT * FROM out", "a sink cannot be read")] {
        let error = session.sql(sql).await.unwrap().collect().await.unwrap_err().to_string();
        assert!(error.contains(reason), "{sql}: {error}");
    }
}

#[tokio::test]
async fn exactly_once_is_refused_where_it_cannot_be_kept() {
    let session = session().await;
    let folder = tempfile::tempdir().unwrap();
    let live = QueueSource::try_new(batch(0).schema(), Watermarks::default()).unwrap();
    session.create_stream_view("live", &session.stream(Arc::new(live))).unwrap();
    session.create_sink("queue", Arc::new(QueueSink::try_new(Watermarks::default()).unwrap())).unwrap();
    session.create_sink("out", Arc::new(Memory::default())).unwrap();
    let none = StreamOptions { delivery: Delivery::ExactlyOnce, ..options() };
    for (sql, options, reason) in [
        ("INSERT INTO out SELECT id FROM live", exactly_once(folder.path()), "a source that can be read again"),
        ("INSERT INTO queue SELECT id FROM s", exactly_once(folder.path()), "a sink that can be cut back"),
        ("INSERT INTO out SELECT id FROM s", none, "expected a checkpoint_path"),
    ] {
        let error = session.start_stream_sql(sql, options).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{sql}: {error}");
    }
}

#[tokio::test]
async fn a_checkpoint_of_another_query_is_refused() {
    let session = session().await;
    let folder = tempfile::tempdir().unwrap();
    let sink = Memory::default();
    let query = open(&session, "SELECT id FROM s", &sink, exactly_once(folder.path())).await.unwrap();
    query.await_termination(1).await.unwrap();
    drop(query);
    let error = open(&session, "SELECT v FROM s", &sink, exactly_once(folder.path())).await.unwrap_err().to_string();
    assert!(error.contains("of another query") && error.contains("SELECT id FROM s"), "{error}");
}

#[tokio::test]
async fn columns_that_do_not_fit_a_sink_are_refused_with_names_and_types() {
    use arrow::datatypes::{DataType, Field, Schema};

    #[derive(Debug)]
    struct Declared(Memory);
    #[async_trait::async_trait]
    impl crate::SinkTable for Declared {
        fn schema(&self) -> Option<arrow::datatypes::SchemaRef> {
            let fields = vec![Field::new("name", DataType::Utf8, true), Field::new("total", DataType::Int32, true)];
            Some(Arc::new(Schema::new(fields)))
        }
        async fn open(
            &self,
            schema: arrow::datatypes::SchemaRef,
            is_restored: bool,
        ) -> vexact_core::error::Result<Box<dyn crate::Sink>> {
            self.0.open(schema, is_restored).await
        }
    }
    let session = session().await;
    let sink = Memory::default();
    session.create_sink("declared", Arc::new(Declared(sink.clone()))).unwrap();
    for (sql, reason) in [
        (
            "INSERT INTO declared SELECT g FROM s",
            "another number of columns: expected (name Utf8, total Int32), got (g Utf8",
        ),
        ("INSERT INTO declared SELECT g, x FROM s", "column \"total\" cannot hold Float64"),
        ("INSERT INTO declared SELECT v, v AS w FROM s", "column \"name\" cannot hold Int32"),
        ("INSERT INTO declared (total, name) SELECT v, g FROM s", "listed as (total, name)"),
    ] {
        let error = session.start_stream_sql(sql, options()).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{sql}: {error}");
    }
    // The type of a sum is wider than its column, but the values fit.
    let sql = "INSERT INTO declared (name, total) SELECT g, sum(v) FROM s GROUP BY g";
    session.start_stream_sql(sql, options()).await.unwrap().await_termination(0).await.unwrap();
    assert_eq!(sink.taken()[0].schema().field(1), &Field::new("total", DataType::Int32, true));
    let sql = "INSERT INTO declared SELECT g, sum(v * 1000000000000) FROM s GROUP BY g";
    let query = session.start_stream_sql(sql, options()).await.unwrap();
    let error = query.await_termination(0).await.unwrap_err().to_string();
    assert!(error.contains("column \"total\" of the sink"), "{error}");
}

#[tokio::test]
async fn late_rows_are_counted_and_their_windows_stay_closed() {
    let session = Session::new();
    let batch = |times: Vec<i64>| {
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a"; times.len()]));
        RecordBatch::try_from_iter([("t", Arc::new(Int64Array::from(times)) as ArrayRef), ("g", names)]).unwrap()
    };
    let batches = vec![batch(vec![5, 12, 3]), batch(vec![25, 9]), batch(vec![4, 14, 31]), batch(vec![14, 35])];
    let stream = session.create_stream_from_arrow(batches[0].schema(), batches).unwrap();
    session.create_stream_view("s", &stream).unwrap();
    let sql = "SELECT w, g, count(*) FROM s WINDOW BY t EVERY 10 LATENESS 5 AS w GROUP BY w, g";
    let sink = Memory::default();
    let query = open(&session, sql, &sink, options()).await.unwrap();
    query.await_termination(0).await.unwrap();
    // 9 comes with 25, when 12 was the newest; 4 and 14 come after 25, which closed 0..10 and
    // 10..20.
    let expected: Vec<Vec<String>> = ["0 a 2", "10 a 1", "20 a 1", "0 a 3", "30 a 1", "30 a 2"]
        .iter()
        .map(|row| row.split(' ').map(str::to_owned).collect())
        .collect();
    assert_eq!(rows(&sink.taken()), expected);
    assert_eq!(query.progress().late_rows, 3);
}
