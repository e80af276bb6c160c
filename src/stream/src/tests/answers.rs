use super::world::*;
use crate::{ExecutionMode, StreamOptions};

/// Queries over `s` as a stream and over `b` at once. Joins may change the order of rows.
const BY_ROW: &[&str] = &[
    "SELECT * FROM s",
    "SELECT id, v * 2 AS w, CASE WHEN v % 2 = 0 THEN 'even' ELSE g END AS c FROM s WHERE x > 1 OR g IS NULL",
    "SELECT s.id, d.name FROM s JOIN d ON s.k = d.k",
    "SELECT s.id, d.name FROM s LEFT JOIN d ON s.k = d.k AND d.name <> 'zwei'",
    "SELECT s.id, d.name FROM d RIGHT JOIN s ON s.k = d.k",
    "SELECT s.id, d.name FROM s, d WHERE s.v > d.k * 10",
    "SELECT id FROM s WHERE k IN (SELECT k FROM d)",
    "SELECT id FROM s WHERE k NOT IN (SELECT k FROM d)",
    "SELECT id FROM s WHERE NOT EXISTS (SELECT 1 FROM d WHERE d.k = s.k)",
    "SELECT id, v - (SELECT max(k) FROM d) AS more FROM s",
    "SELECT s.id, h.id AS near FROM s JOIN vector_search('docs', 'e', '[1 0]', 2) h ON s.k = h.id",
    "SELECT s.id, l2_distance(docs.e, [0.0, 1.0]) AS far FROM s JOIN docs ON s.k = docs.id",
    "SELECT id, unnest([v, v + 1]) AS u FROM s",
    "SELECT id FROM s WHERE v > 10 UNION ALL SELECT -id FROM s WHERE v < 0",
    "WITH big AS (SELECT id, v FROM s WHERE v > 0) SELECT id FROM big WHERE v < 30",
];

/// Queries with the number of their keys, which come first.
const GROUPS: &[(usize, &str)] = &[
    (1, "SELECT g, count(*), sum(v), sum(x), avg(x), min(v), max(v), min(g), max(t) FROM s GROUP BY g"),
    (2, "SELECT g, k, count(v) FILTER (WHERE v > 0), sum(v * 2) + 1 AS more FROM s WHERE id % 3 <> 0 GROUP BY g, k"),
    (1, "SELECT k, count(DISTINCT v), sum(DISTINCT v), count(DISTINCT g) FROM s GROUP BY k"),
    (1, "SELECT k, bool_and(v > -49), bool_or(v > 49), bit_and(v), bit_xor(v) FROM s GROUP BY k"),
    (
        1,
        "SELECT g, array_agg(v ORDER BY t DESC, id), first_value(v ORDER BY x, id), last_value(id ORDER BY t, id) FROM s GROUP BY g",
    ),
    (
        1,
        "SELECT g, string_agg(g, '-' ORDER BY id), median(v), approx_distinct(v), nth_value(v, 2 ORDER BY id) FROM s GROUP BY g",
    ),
    (0, "SELECT count(*), sum(v), array_agg(id) FROM s"),
    (0, "SELECT sum(v) AS total FROM s WHERE v > 1000"),
    (1, "SELECT DISTINCT g FROM s"),
    (4, "SELECT grouping(g) AS a, grouping(k) AS b, g, k, sum(v) FROM s GROUP BY CUBE (g, k)"),
    (1, "SELECT v % 3 AS m, sum(x) FROM s GROUP BY v % 3"),
    (1, "SELECT d.name, count(*), sum(s.v) FROM s JOIN d ON s.k = d.k GROUP BY d.name"),
    (1, "SELECT g, count(*) FROM (SELECT g, v * 2 AS w FROM s) WHERE w > 0 GROUP BY g"),
];

/// Queries of a stream with windows, and the equivalent queries of all rows.
const WINDOWS: &[(usize, &str, &str)] = &[
    (
        2,
        "SELECT w, g, count(*), sum(v) FROM s WINDOW BY t EVERY 500 AS w GROUP BY w, g",
        "SELECT date_bin(INTERVAL '500 milliseconds', t, TIMESTAMP '1970-01-01') AS w, g, count(*), sum(v) FROM b GROUP BY w, g",
    ),
    (
        2,
        "SELECT w, k, sum(v) FROM s WINDOW BY t EVERY 500 SLIDE 200 AS w WHERE v > 0 GROUP BY w, k",
        "SELECT w, k, sum(v) FROM b, (SELECT arrow_cast(value, 'Timestamp(ms)') AS w FROM generate_series(-1000, 10000, 200)) \
         WHERE v > 0 AND arrow_cast(w, 'Int64') <= arrow_cast(t, 'Int64') AND arrow_cast(t, 'Int64') < arrow_cast(w, 'Int64') + 500 GROUP BY w, k",
    ),
    // The query uses the window in other ways than grouping: rows go into each of their windows.
    (
        1,
        "SELECT w, sum(v + arrow_cast(w, 'Int64')) FROM s WINDOW BY t EVERY 500 SLIDE 250 AS w GROUP BY w",
        "SELECT w, sum(v + arrow_cast(w, 'Int64')) FROM b, (SELECT arrow_cast(value, 'Timestamp(ms)') AS w FROM generate_series(-1000, 10000, 250)) \
         WHERE arrow_cast(w, 'Int64') <= arrow_cast(t, 'Int64') AND arrow_cast(t, 'Int64') < arrow_cast(w, 'Int64') + 500 GROUP BY w",
    ),
    (
        1,
        "SELECT w, max(d.name) FROM s AS e JOIN d ON e.k = d.k WINDOW BY e.t EVERY 1000 AS w GROUP BY w",
        "SELECT date_bin(INTERVAL '1 second', t, TIMESTAMP '1970-01-01') AS w, max(name) FROM b JOIN d ON b.k = d.k GROUP BY w",
    ),
    (
        1,
        "SELECT w, count(*) FROM (SELECT v, arrow_cast(t, 'Int64') AS ms FROM s WHERE v > 0) x WINDOW BY ms EVERY 1000 AS w GROUP BY w",
        "SELECT arrow_cast(t, 'Int64') / 1000 * 1000 AS w, count(*) FROM b WHERE v > 0 GROUP BY w",
    ),
    (
        1,
        "WITH c AS (SELECT v, t AS at FROM s) SELECT w, count(*) FROM c WINDOW BY at EVERY 1000 AS w GROUP BY w",
        "SELECT date_bin(INTERVAL '1 second', t, TIMESTAMP '1970-01-01') AS w, count(*) FROM b GROUP BY w",
    ),
];

const AT_THE_END: &[&str] = &[
    "SELECT id, v FROM s ORDER BY v DESC, id",
    "SELECT id, v FROM s WHERE v > 0 ORDER BY v, id LIMIT 7 OFFSET 2",
    "SELECT g, sum(v) AS total FROM s GROUP BY g HAVING count(*) > 3 ORDER BY total DESC, g",
    "SELECT max(total) FROM (SELECT g, sum(v) AS total FROM s GROUP BY g)",
    "SELECT id, row_number() OVER (PARTITION BY g ORDER BY v, id) AS r FROM s ORDER BY id",
    "SELECT d.name, count(s.id) FROM d LEFT JOIN s ON s.k = d.k GROUP BY d.name ORDER BY 1",
];

fn over_all(sql: &str) -> String {
    sql.replace("FROM s", "FROM b AS s").replace("JOIN s", "JOIN b AS s")
}

fn on_threads() -> StreamOptions {
    StreamOptions { execution: ExecutionMode::LocalWorkers, local_workers: 2, ..options() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_depends_on_the_row_is_what_it_is_at_once() {
    let session = session().await;
    for sql in BY_ROW {
        let expected = sorted(&at_once(&session, &over_all(sql)).await);
        assert!(!expected.is_empty(), "{sql}");
        assert_eq!(sorted(&run(&session, sql, options()).await), expected, "{sql}");
        assert_eq!(sorted(&run(&session, sql, on_threads()).await), expected, "on threads: {sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_result_of_each_group_is_that_of_all_rows() {
    let session = session().await;
    for (keys, sql) in GROUPS {
        let expected = sorted(&at_once(&session, &over_all(sql)).await);
        let got = run(&session, sql, options()).await;
        assert_eq!(got.len(), BATCHES, "a result for each micro-batch: {sql}");
        assert_eq!(last_rows(&got, *keys), expected, "{sql}");
        assert_eq!(rows(&run(&session, sql, on_threads()).await), rows(&got), "on threads: {sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_are_what_they_are_at_once() {
    let session = session().await;
    for (keys, sql, all) in WINDOWS {
        let expected = sorted(&at_once(&session, all).await);
        assert!(!expected.is_empty(), "{sql}");
        assert_eq!(last_rows(&run(&session, sql, options()).await, *keys), expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_the_end_of_a_bounded_stream_comes_there() {
    let session = session().await;
    for sql in AT_THE_END {
        let expected = rows(&at_once(&session, &over_all(sql)).await);
        assert_eq!(rows(&run(&session, sql, options()).await), expected, "{sql}");
        assert_eq!(rows(&run(&session, sql, on_threads()).await), expected, "on threads: {sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn having_shows_the_groups_that_pass_it_when_they_are_touched() {
    let session = session().await;
    let sql = "SELECT g, count(*) AS n FROM s GROUP BY g HAVING count(*) > 60";
    let got = run(&session, sql, options()).await;
    assert!(rows(&got).iter().all(|row| row[1].parse::<i64>().unwrap() > 60));
    assert_eq!(last_rows(&got, 1), sorted(&at_once(&session, &over_all(sql)).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_is_killed_anywhere_and_restored_writes_the_same() {
    let session = session().await;
    let queries = BY_ROW.iter().take(4).copied().chain(GROUPS.iter().map(|(_, sql)| *sql));
    let queries = queries.chain(WINDOWS.iter().map(|(_, sql, _)| *sql)).chain(AT_THE_END.iter().copied());
    let late =
        "SELECT w, k, sum(v), array_agg(id) FROM s WINDOW BY t EVERY 300 SLIDE 100 LATENESS 50 AS w GROUP BY w, k";
    for sql in queries.chain([late]) {
        let straight = rows(&run(&session, sql, options()).await);
        for first in 1..=BATCHES as u64 {
            let folder = tempfile::tempdir().unwrap();
            let sink = Memory::default();
            let query = open(&session, sql, &sink, exactly_once(folder.path())).await.unwrap();
            assert_eq!(query.await_termination(first).await.unwrap(), first, "{sql}");
            drop(query);
            // Rows that a crashed query wrote after its checkpoint.
            sink.batches.lock().unwrap().push(batch(0));
            let query = open(&session, sql, &sink, exactly_once(folder.path())).await.unwrap();
            assert_eq!(query.progress().status, crate::Status::Restored);
            query.await_termination(0).await.unwrap();
            assert_eq!(query.progress().batches_processed, BATCHES as u64);
            assert_eq!(rows(&sink.taken()), straight, "after {first}: {sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_of_a_stream_is_a_stream() {
    let session = session().await;
    let view = session.stream_sql("SELECT g, v AS value, t FROM s WHERE v > 0").await.unwrap();
    session.create_stream_view("positive", &view).unwrap();
    let sql = "SELECT w, g, sum(value) FROM positive WINDOW BY t EVERY 1000 AS w GROUP BY w, g";
    let all = "SELECT date_bin(INTERVAL '1 second', t, TIMESTAMP '1970-01-01') AS w, g, sum(v) FROM b WHERE v > 0 GROUP BY w, g";
    let expected = sorted(&at_once(&session, all).await);
    assert_eq!(last_rows(&run(&session, sql, options()).await, 2), expected);
    let sums = session.stream_sql("SELECT g, sum(v) AS total FROM s GROUP BY g").await.unwrap();
    session.create_stream_view("sums", &sums).unwrap();
    let got = run(&session, "SELECT g, total * 2 AS twice FROM sums WHERE g IS NOT NULL", options()).await;
    let all = "SELECT g, sum(v) * 2 FROM b WHERE g IS NOT NULL GROUP BY g";
    assert_eq!(last_rows(&got, 1), sorted(&at_once(&session, all).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_of_integers_are_exact_beyond_what_floats_hold() {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    let session = Session::new();
    let large =
        |x: i64| RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(vec![x, 1])) as ArrayRef)]).unwrap();
    let batches = vec![large(9_007_199_254_740_993), large(1 << 61), large(-(1 << 61))];
    let stream = session.create_stream_from_arrow(batches[0].schema(), batches).unwrap();
    session.create_stream_view("s", &stream).unwrap();
    let got = rows(&run(&session, "SELECT sum(x) FROM s", options()).await);
    assert_eq!(got.last().unwrap(), &["9007199254740996"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregate_of_a_stream_that_ends_without_rows_has_its_result_at_the_end() {
    let session = session().await;
    let empty = session.create_stream_from_arrow(batch(0).schema(), vec![]).unwrap();
    session.create_stream_view("e", &empty).unwrap();
    let sql = "SELECT max(n), count(*) FROM (SELECT count(*) AS n FROM e)";
    assert_eq!(rows(&run(&session, sql, options()).await), [["0", "1"]]);
    assert!(run(&session, "SELECT g, count(*) AS n FROM e GROUP BY g ORDER BY n", options()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_right_after_many_micro_batches_of_all_sizes() {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    let batch = |number: i64| {
        let rows = 1 + (number * number * 37) % 3000;
        // Few keys repeat often, many keys repeat rarely.
        let keys = if number % 3 == 0 { 20_000 } else { 500 };
        let columns = [
            ("k", Int64Array::from_iter_values((0..rows).map(|row| (row * 7919 + number * 104_729) % keys))),
            ("v", Int64Array::from_iter_values((0..rows).map(|row| row * number % 1009))),
            ("t", Int64Array::from_iter_values((0..rows).map(|row| number * 10 + row % 7))),
        ];
        RecordBatch::try_from_iter(columns.map(|(name, array)| (name, Arc::new(array) as ArrayRef))).unwrap()
    };
    let batches: Vec<RecordBatch> = (0..100).map(batch).collect();
    let session = Session::new();
    let schema = batches[0].schema();
    let stream = session.create_stream_from_arrow(Arc::clone(&schema), batches.clone()).unwrap();
    session.create_stream_view("s", &stream).unwrap();
    session.create_table("b", schema, batches);
    let sums = "SELECT k, sum(v), count(*), min(t) FROM s GROUP BY k";
    let got = run(&session, sums, options()).await;
    assert_eq!(last_rows(&got, 1), sorted(&at_once(&session, &over_all(sums)).await));
    // All groups are read from their final positions.
    let ordered = format!("{sums} ORDER BY k");
    assert_eq!(rows(&run(&session, &ordered, options()).await), rows(&at_once(&session, &over_all(&ordered)).await));
    let closing = "SELECT w, k, sum(v) FROM s WINDOW BY t EVERY 60 SLIDE 20 LATENESS 30 AS w GROUP BY w, k";
    for sql in [sums, closing] {
        let straight = rows(&run(&session, sql, options()).await);
        let folder = tempfile::tempdir().unwrap();
        let sink = Memory::default();
        for first in [17, 40, 0] {
            let query = open(&session, sql, &sink, exactly_once(folder.path())).await.unwrap();
            query.await_termination(first).await.unwrap();
        }
        assert_eq!(rows(&sink.taken()), straight, "{sql}");
    }
}
