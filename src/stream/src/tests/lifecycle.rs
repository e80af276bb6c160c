use std::sync::Arc;
use std::time::Duration;

use super::world::*;
use crate::queue::{QueueSink, QueueSource, Watermarks};
use crate::{Status, StreamOptions, StreamingQuery};

/// Time limit, much longer than any test takes.
const LIMIT: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it takes too long")
}

/// Waits for a condition on a query.
async fn until(query: &StreamingQuery, is_met: impl Fn(&crate::Progress) -> bool) {
    within(async {
        while !is_met(&query.progress()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_query_stops_at_once_and_its_sink_ends() {
    let session = session().await;
    let source = QueueSource::try_new(batch(0).schema(), Watermarks::default()).unwrap();
    let sink = QueueSink::try_new(Watermarks::default()).unwrap();
    session.create_stream_view("live", &session.stream(Arc::new(source.clone()))).unwrap();
    session.create_sink("queue", Arc::new(sink.clone())).unwrap();
    let sql = "INSERT INTO queue SELECT g, count(*) AS n FROM live GROUP BY g";
    let query = session.start_stream_sql(sql, options()).await.unwrap();
    assert_eq!(query.progress().status, Status::Created);
    query.start();
    query.start();
    source.push(batch(0)).await.unwrap();
    assert!(within(sink.queue().pop(None)).await.is_some());
    until(&query, |progress| progress.batches_processed == 1).await;
    let other = query.clone();
    let waiting = tokio::spawn(async move { other.await_termination(0).await });
    query.stop();
    query.stop();
    assert_eq!(within(waiting).await.unwrap().unwrap(), 1);
    assert_eq!(query.progress().status, Status::Stopped);
    assert_eq!(within(sink.queue().pop(None)).await, None);
    // The source can be opened again, and rows that were not taken are still in it.
    source.push(batch(1)).await.unwrap();
    let memory = Memory::default();
    let next = open(&session, "SELECT id FROM live", &memory, options()).await.unwrap();
    assert_eq!(within(next.await_termination(1)).await.unwrap(), 1);
    assert_eq!(memory.taken()[0].num_rows(), batch(1).num_rows());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_sink_holds_the_query_up_until_it_is_read() {
    let session = session().await;
    let sink = QueueSink::try_new(Watermarks { high: 1, low: 0 }).unwrap();
    session.create_sink("queue", Arc::new(sink.clone())).unwrap();
    let query = session.start_stream_sql("INSERT INTO queue SELECT id FROM s", options()).await.unwrap();
    query.start();
    until(&query, |progress| progress.status == Status::Backpressure).await;
    let progress = query.progress();
    assert!(progress.backpressure_active && progress.blocked_count == 1 && progress.sink_is_blocking);
    assert_eq!(progress.batches_processed, 1);
    let mut seen = 0;
    while let Some(batch) = within(sink.queue().pop(None)).await {
        seen += batch.num_rows();
    }
    assert_eq!(seen, batches().iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>());
    assert_eq!(within(query.await_termination(0)).await.unwrap(), BATCHES as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_waits_for_its_sink_stops_at_once() {
    let session = session().await;
    let sink = QueueSink::try_new(Watermarks { high: 1, low: 0 }).unwrap();
    session.create_sink("queue", Arc::new(sink)).unwrap();
    let query = session.start_stream_sql("INSERT INTO queue SELECT id FROM s", options()).await.unwrap();
    query.start();
    until(&query, |progress| progress.status == Status::Backpressure).await;
    query.stop();
    assert_eq!(within(query.await_termination(0)).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_query_reports_its_error_each_time() {
    let session = session().await;
    let query = open(&session, "SELECT 1 / (id - 205) FROM s", &Memory::default(), options()).await.unwrap();
    // The query is planned in a task, so on any thread.
    let queue = QueueSink::try_new(Watermarks::default()).unwrap();
    let (planner, sink) = (session.clone(), Arc::new(queue.clone()));
    let opening = tokio::spawn(async move {
        let frame = planner.stream_sql("SELECT 1 / (id - 205) AS x FROM s").await?;
        frame.write(sink, options()).await
    });
    let other = opening.await.unwrap().unwrap();
    assert!(within(other.await_termination(0)).await.is_err());
    while within(queue.queue().pop(None)).await.is_some() {}
    for _ in 0..2 {
        let error = within(query.await_termination(0)).await.unwrap_err();
        assert!(error.to_string().to_lowercase().contains("divide by zero"), "{error}");
    }
    assert_eq!((query.progress().status, query.progress().batches_processed), (Status::Failed, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn micro_batches_are_counted_to_a_limit() {
    let session = session().await;
    let sink = Memory::default();
    let query = open(&session, "SELECT id FROM s", &sink, options()).await.unwrap();
    assert_eq!(within(query.await_termination(2)).await.unwrap(), 2);
    assert_eq!(sink.taken().len(), 2);
    assert_eq!(query.progress().status, Status::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_never_started_can_be_stopped() {
    let session = session().await;
    let query = open(&session, "SELECT id FROM s", &Memory::default(), options()).await.unwrap();
    query.stop();
    assert_eq!(within(query.await_termination(0)).await.unwrap(), 0);
    assert_eq!(query.progress().status, Status::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_snapshot_has_the_fields_of_progress() {
    let session = session().await;
    let sql = "SELECT w, sum(v) FROM s WINDOW BY t EVERY 100 AS w GROUP BY w";
    let query = open(&session, sql, &Memory::default(), StreamOptions::default()).await.unwrap();
    within(query.await_termination(0)).await.unwrap();
    let snapshot: serde_json::Value = serde_json::from_str(&query.snapshot_json()).unwrap();
    let mut fields: Vec<&str> = snapshot.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let mut expected = "query_id status requested_execution_mode execution_mode execution_reason checkpoint_delivery_mode \
        batches_pulled batches_processed rows_processed late_rows blocked_count max_backlog_batches inflight_batches \
        inflight_partitions last_batch_latency_ms last_sink_latency_ms last_state_latency_ms last_source_offset \
        backpressure_active has_stateful_ops has_window sink_is_blocking source_is_bounded estimated_state_size_bytes \
        backpressure_max_queue_batches backpressure_high_watermark backpressure_low_watermark aggregate_impl aggregate_reason"
        .split_whitespace()
        .collect::<Vec<_>>();
    expected.sort_unstable();
    assert_eq!(fields, expected);
    for (field, value) in [("status", "stopped"), ("aggregate_impl", "merged-states"), ("last_source_offset", "6")] {
        assert_eq!(snapshot[field], value, "{field}");
    }
    assert_eq!(snapshot["batches_pulled"], 6);
    assert_eq!(snapshot["has_window"], true);
    assert!(snapshot["estimated_state_size_bytes"].as_u64().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_explain_says_what_will_be_done() {
    let session = session().await;
    let sql = "SELECT w, g, sum(v) FROM s WINDOW BY t EVERY 100 SLIDE 50 LATENESS 10 AS w GROUP BY w, g";
    let explained = session.explain_stream_sql(sql, &options()).await.unwrap();
    assert!(explained.physical.contains("GroupsExec") || explained.physical.contains("AggregateExec: mode=Partial"));
    assert!(explained.physical.contains("MicroBatchExec: columns="), "{}", explained.physical);
    let strategy = explained.strategy.to_string();
    for line in
        ["mode=stream", "window=t every 100 ms, slide 50 ms", "window_rows=by pane", "aggregate_impl=merged-states"]
    {
        assert!(strategy.lines().any(|own| own == line), "{line}: {strategy}");
    }
    let searched = "SELECT s.id, h.score FROM s JOIN vector_search('docs', 'e', '[1 0]', 2) h ON s.k = h.id";
    let strategy = session.explain_stream_sql(searched, &options()).await.unwrap().strategy.to_string();
    assert!(strategy.contains("metric=cosine"), "{strategy}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_count_against_the_memory_of_the_session() {
    use vexact_core::error::ErrorKind;

    let limit = 1 << 20;
    let session = Session::with_memory(limit);
    // Each micro-batch has new keys: about 50 bytes for each group.
    let keys = |number: i64| {
        let keys = arrow::array::Int64Array::from_iter_values(number * 4000..(number + 1) * 4000);
        arrow::array::RecordBatch::try_from_iter([("k", Arc::new(keys) as arrow::array::ArrayRef)]).unwrap()
    };
    let batches: Vec<_> = (0..16).map(keys).collect();
    let stream = session.create_stream_from_arrow(batches[0].schema(), batches).unwrap();
    session.create_stream_view("s", &stream).unwrap();
    let by_row = open(&session, "SELECT k FROM s", &Memory::default(), options()).await.unwrap();
    assert_eq!(within(by_row.await_termination(0)).await.unwrap(), 16, "rows that pass are not kept");
    for sql in ["SELECT k, count(*), sum(k) FROM s GROUP BY k", "SELECT k, k * 2, k * 3, k * 4 FROM s ORDER BY k"] {
        let query = open(&session, sql, &Memory::default(), options()).await.unwrap();
        let error = within(query.await_termination(0)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resources, "{sql}: {error}");
        assert!(error.to_string().contains("memory_limit_bytes of 1048576"), "{sql}: {error}");
        let progress = query.progress();
        assert!(progress.batches_processed > 0 && progress.batches_processed < 16, "{sql}");
        assert!((1..limit as u64).contains(&progress.estimated_state_size_bytes), "{sql}");
    }
    // A failed query has released its memory.
    let query = open(&session, "SELECT k % 10 AS d, count(*) FROM s GROUP BY d", &Memory::default(), options()).await;
    assert_eq!(within(query.unwrap().await_termination(0)).await.unwrap(), 16);
}
