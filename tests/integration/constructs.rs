//! Constructs in which DataFusion and SQLite differ, or have differed, each on both routes: over
//! replicated tables, and over tables of the same rows that are not replicated. The tests also
//! assert the side that answers, so that they detect a needless fallback as well as a wrong answer.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use vexact::htap::{HtapEngine, Param};

use crate::routes::{Answered, check, open, rows};

async fn answered(expected: Answered, queries: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&folder).await;
    let mut problems = Vec::new();
    for sql in queries {
        match check(&engine, sql).await {
            Ok(answered) if answered == expected => {}
            Ok(answered) => problems.push(format!("{sql}: {answered:?}, {:?}", engine.route(sql).await)),
            Err(problem) => problems.push(problem),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

async fn by_sqlite(queries: &[&str]) {
    answered(Answered::Sqlite, queries).await;
}

async fn by_replicas(queries: &[&str]) {
    answered(Answered::Replicas, queries).await;
}

/// apache/datafusion#22881: the shared column of RIGHT and FULL joins is that of one side. In `*`
/// DataFusion keeps the column of the table with the lesser name.
#[tokio::test]
async fn joins_with_using() {
    by_replicas(&[
        "SELECT id, t.s, u.s FROM t LEFT JOIN u USING (id)",
        "SELECT a, count(*) FROM t JOIN u USING (a) GROUP BY a",
        "SELECT * FROM t LEFT JOIN u USING (id)",
        "SELECT * FROM u LEFT JOIN t USING (id)",
        "SELECT * FROM u NATURAL LEFT JOIN t",
        "SELECT t.*, u.* FROM u LEFT JOIN t USING (id)",
        "SELECT * FROM u AS y JOIN t AS x USING (id) JOIN u AS w USING (id)",
        "SELECT id FROM u JOIN t USING (id)",
        "SELECT t.id, u.id FROM t RIGHT JOIN u ON t.a = u.a",
        "SELECT t.id, u.id FROM t FULL JOIN u ON t.a = u.a AND t.f > 1",
    ])
    .await;
    by_sqlite(&[
        "SELECT id FROM t RIGHT JOIN u USING (id)",
        "SELECT a FROM t FULL JOIN u USING (a) WHERE a = 3",
        "SELECT count(id), max(id) FROM t FULL JOIN u USING (id, a)",
        "SELECT * FROM t NATURAL FULL JOIN u",
        "SELECT id FROM t LEFT JOIN u USING (id) RIGHT JOIN u AS w USING (id)",
        "SELECT * FROM (SELECT id, a FROM t) AS q LEFT JOIN (SELECT id, s FROM u) AS p USING (id)",
        "SELECT count(*) FROM t JOIN u ON t.a",
        "SELECT t.id FROM t JOIN u ON t.a = u.a AND u.id = (SELECT max(id) FROM u AS w WHERE w.a = t.a)",
    ])
    .await;
}

/// apache/datafusion#24960, #25283, #25519: rows are lost or won where a correlated subquery
/// aggregates or limits its rows.
#[tokio::test]
async fn correlated_exists_and_in() {
    by_replicas(&[
        "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a)",
        "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.a = t.a AND u.f > 1)",
        "SELECT id FROM t WHERE a IN (SELECT a FROM u WHERE u.id = t.id)",
        "SELECT id FROM t WHERE a IN (SELECT max(a) FROM u GROUP BY b)",
    ])
    .await;
    by_sqlite(&[
        "SELECT id FROM t WHERE EXISTS (SELECT count(*) FROM u WHERE u.a = t.a)",
        "SELECT id FROM t WHERE NOT EXISTS (SELECT sum(f) FROM u WHERE u.a = t.a)",
        "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a LIMIT 0)",
        "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a LIMIT 5 OFFSET 1)",
        "SELECT id FROM t WHERE EXISTS (SELECT count(*) FROM u WHERE u.a = t.a HAVING count(*) > 1)",
        "SELECT id FROM t WHERE EXISTS (SELECT a FROM u WHERE u.a = t.a UNION SELECT 5)",
        "SELECT id FROM t WHERE 0 IN (SELECT count(*) FROM u WHERE u.a = t.a)",
        "SELECT id FROM t WHERE a NOT IN (SELECT a FROM u WHERE u.id > t.id)",
        "SELECT id FROM t WHERE EXISTS (SELECT 1 WHERE t.a = 3)",
    ])
    .await;
}

/// apache/datafusion#10553, #22317, #24513: aggregates of no rows, and a value that is NULL without
/// rows.
#[tokio::test]
async fn scalar_subqueries() {
    by_replicas(&[
        "SELECT id, (SELECT count(*) FROM u WHERE u.a = t.a) AS n FROM t",
        "SELECT (SELECT count(*) FROM u WHERE u.a = t.a) AS n FROM t",
        "SELECT id, (SELECT count(*) FROM u WHERE u.a = t.a) > 0 AS n FROM t",
        "SELECT id, (SELECT max(f) FROM u WHERE u.a = t.a) AS n FROM t",
        "SELECT id FROM t WHERE (SELECT count(*) FROM u WHERE u.a = t.a) = 0",
        "SELECT id, (SELECT count(*) FROM u) AS n FROM t",
        "SELECT id FROM t WHERE a > (SELECT avg(a) FROM u)",
        "SELECT * FROM (SELECT id, (SELECT count(*) FROM u WHERE u.a = t.a) AS n FROM t) AS q WHERE n = 0",
        "SELECT id, EXISTS (SELECT 1 FROM u WHERE u.a = t.a) AS n FROM t",
        "SELECT id, a > 2 AND NOT EXISTS (SELECT 1 FROM u WHERE u.a = t.a AND u.f > 1) AS n FROM t",
        "SELECT sum((SELECT count(*) FROM u WHERE u.a = t.a)) AS n FROM t",
        "SELECT id FROM t ORDER BY (SELECT count(*) FROM u WHERE u.a = t.a) DESC, id",
    ])
    .await;
    by_sqlite(&[
        "SELECT id, (SELECT coalesce(max(f), 0.5) FROM u WHERE u.a = t.a) AS n FROM t",
        "SELECT id, (SELECT count(*) FROM u WHERE u.a = t.a HAVING count(*) > 1) AS n FROM t",
        "SELECT id, (SELECT count(*) FROM u WHERE u.a > t.a) AS n FROM t",
        "SELECT id, (SELECT f FROM u WHERE u.a = t.a ORDER BY f LIMIT 1) AS n FROM t",
        "SELECT id, (SELECT id FROM u WHERE id = 99) IS NULL AS n FROM t",
    ])
    .await;
}

/// SQLite groups set operations from left to right, and the standard INTERSECT first.
#[tokio::test]
async fn set_operations_from_left_to_right() {
    by_replicas(&[
        "SELECT a FROM t UNION SELECT a FROM u INTERSECT SELECT a FROM u WHERE a > 2",
        "SELECT a FROM t EXCEPT SELECT a FROM u INTERSECT SELECT a FROM t",
        "SELECT a FROM t UNION ALL SELECT a FROM u INTERSECT SELECT a FROM u EXCEPT SELECT 3 UNION SELECT 9",
        "SELECT count(*) FROM (SELECT a FROM t UNION SELECT a FROM u INTERSECT SELECT id FROM u) AS q",
        "SELECT a FROM t UNION SELECT a FROM u INTERSECT SELECT 3 ORDER BY a",
    ])
    .await;
}

/// apache/datafusion#19427, #9680: the recursive part has the types of the first, and its LIMIT
/// bounds each round.
#[tokio::test]
async fn recursive_queries() {
    by_sqlite(&[
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT 5) SELECT i FROM c",
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 0.5 FROM c WHERE i < 3) SELECT count(*), sum(i) FROM c",
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT i FROM c LIMIT 3",
        "WITH RECURSIVE c(i) AS (SELECT id FROM t WHERE id = 1 UNION SELECT t.id FROM t JOIN c ON t.id = c.i + 1) SELECT i FROM c",
    ])
    .await;
}

/// A window that refines another by name takes its parts that it does not have itself.
#[tokio::test]
async fn windows_that_refine_others() {
    by_replicas(&[
        "SELECT id, sum(a) OVER (w ORDER BY id) FROM t WINDOW w AS (PARTITION BY b)",
        "SELECT id, sum(a) OVER v FROM t WINDOW w AS (PARTITION BY b), v AS (w ORDER BY id)",
        "SELECT id, sum(a) OVER (W ROWS 1 PRECEDING) FROM t WINDOW w AS (PARTITION BY b ORDER BY id)",
        "SELECT id, lag(a) OVER w AS e FROM t WINDOW w AS (PARTITION BY b ORDER BY id) ORDER BY sum(a) OVER w, id",
    ])
    .await;
    by_sqlite(&[
        "SELECT id, sum(a) OVER (ORDER BY a RANGE 2 PRECEDING) FROM t",
        "SELECT id, count(*) OVER (ORDER BY a GROUPS 1 PRECEDING) FROM t",
        "SELECT id, lag(a, -1) OVER (ORDER BY id) FROM t",
    ])
    .await;
}

/// SQLite has NULL for each NaN. The column `g` has infinities, `f` has none.
#[tokio::test]
async fn reals_that_may_be_infinite() {
    by_sqlite(&[
        "SELECT DISTINCT g - g FROM t",
        "SELECT DISTINCT g * 0 FROM t",
        "SELECT DISTINCT g / g FROM t",
        "SELECT sum(g), avg(g) FROM t",
        "SELECT b, max(g) FROM t GROUP BY b",
        "SELECT count(*) FROM t WHERE NOT (g - g = 0)",
        "SELECT id, sum(g) OVER (ORDER BY id) FROM t",
        "SELECT count(h - h) FROM (SELECT g AS h FROM t) AS q",
        "SELECT count(*) FROM t WHERE f * 1e308 * 10.0 - f * 1e308 * 10.0 IS NULL",
        "SELECT DISTINCT 1e400 - 1e400, f * 1e400 FROM t",
    ])
    .await;
    by_replicas(&[
        "SELECT DISTINCT f - f, f * 0, f / 2.0, f * f + a FROM t",
        "SELECT sum(f * 1.5), avg(f), max(f) FROM t",
        "SELECT DISTINCT g + 1.0, g * 2.0, g / 2.0, -g FROM t",
        "SELECT count(g), count(*) FROM t WHERE g > 1",
        "SELECT g, count(*) FROM t GROUP BY g",
        "SELECT b, sum(f) / count(*), sum(f) / sum(a) * 100.0 FROM t GROUP BY b",
    ])
    .await;
}

/// SQLite has a real where integers are beyond 64 bits, and an error for their sum.
#[tokio::test]
async fn integers_beyond_64_bits() {
    by_sqlite(&[
        "SELECT max(a + 9223372036854775807) FROM t",
        "SELECT DISTINCT a * 922337203685477580 FROM t",
        "SELECT DISTINCT (a * 1000000000) * (a * 1000000000) FROM t",
        "SELECT max(b + 1) FROM (SELECT a * 92233720368547758 AS b FROM t) AS q",
        "SELECT DISTINCT -9223372036854775807 - id FROM t",
    ])
    .await;
    by_replicas(&[
        "SELECT max(a + 1), sum(a * a), sum(a) * 100 + count(*) FROM t",
        "SELECT DISTINCT a * 1000000000 - id FROM t",
        "SELECT DISTINCT (a + 1) * (id - 2) * length(s) FROM t",
    ])
    .await;
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&folder).await;
    let error = engine.query("SELECT sum(a + 9223372036854775000) FROM t", &[]).await.unwrap_err().to_string();
    assert!(error.contains("integer overflow"), "{error}");
}

/// A query whose overflow the bounds of columns do not exclude fails on the replicas while it runs.
/// SQLite then answers it, with a real or with its error.
#[tokio::test]
async fn integers_that_turn_out_to_be_beyond_64_bits() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&folder).await;
    for table in ["t", "plain_t", "u", "plain_u"] {
        engine.execute(&format!("INSERT INTO {table}(id, a) VALUES (100, 4611686018427387904)"), &[]).await.unwrap();
    }
    engine.sync_all().await.unwrap();
    for sql in [
        "SELECT sum(t.a) * 4 AS e FROM t JOIN u ON t.id = u.id",
        "SELECT sum(a) + sum(a) + sum(a) AS e FROM t",
        "SELECT max(e) AS f FROM (SELECT sum(a) * 3 AS e FROM t GROUP BY id) AS q",
        "SELECT -sum(a) * 3 AS e, -(sum(a) - 9223372036854775807 - 9) AS f FROM t",
        "SELECT id, sum(a) OVER (ORDER BY id) * 2 AS e FROM t",
        "SELECT (SELECT max(a) FROM u) * 5 AS e, count(*) FROM t",
        "SELECT abs(sum(a)) * 3 AS e FROM t",
    ] {
        check(&engine, sql).await.unwrap_or_else(|problem| panic!("{problem}"));
    }
    for sql in [
        "SELECT sum(t.a + u.a) FROM t JOIN u ON t.id = u.id",
        "SELECT sum(t.a) FROM t, u WHERE t.id = 100",
        "SELECT u.id, sum(t.a) FROM t, u GROUP BY u.id HAVING u.id < 3 AND sum(t.a) > sum(u.a) AND sum(4611686018427387904 + u.id) > 0",
        "SELECT sum(a) OVER (ORDER BY u.id) FROM u JOIN (SELECT a AS k FROM t WHERE id = 100) AS q ON q.k > u.id OR q.k > 0",
        "SELECT sum(a) FROM (SELECT a FROM t UNION ALL SELECT a FROM u UNION ALL SELECT a FROM t) AS q WHERE a > 1000",
    ] {
        let plain =
            sql.replace(" t ", " plain_t AS t ").replace(" t,", " plain_t AS t,").replace(" u ", " plain_u AS u ");
        let expected = engine.query(&plain, &[]).await.map(|batches| rows(&batches)).map_err(|error| error.to_string());
        let got = engine.query(sql, &[]).await.map(|batches| rows(&batches)).map_err(|error| error.to_string());
        match (got, expected) {
            (Err(got), Err(expected)) => {
                assert!(got.contains("integer overflow") && expected.contains("integer overflow"), "{sql}: {got}");
            }
            (got, expected) => assert_eq!(got, expected, "{sql}"),
        }
        let error = engine.query_olap("SELECT sum(t.a + u.a) FROM t JOIN u ON t.id = u.id", &[]).await.unwrap_err();
        assert!(error.to_string().contains("verflow"), "{error}");
    }
}

/// The column `f` has 0.0, of which products make -0.0.
#[tokio::test]
async fn zeros_are_one_value() {
    by_replicas(&[
        "SELECT DISTINCT f * (id - 2) FROM t WHERE f = 0",
        "SELECT count(*), count(DISTINCT f * (id - 2)) FROM t WHERE f = 0",
        "SELECT count(*), min(id) FROM t WHERE f = 0 GROUP BY f * (id - 2)",
        "SELECT e, count(*) FROM (SELECT f * (id - 2) AS e FROM t) AS q GROUP BY e HAVING e = 0",
        "SELECT t.id, u.id FROM t JOIN u ON t.f * -1.0 = u.f * (u.id - 2)",
        "SELECT t.id, u.id FROM t LEFT JOIN u ON t.f * -1.0 = u.f",
        "SELECT f * -1.0 FROM t UNION SELECT f FROM u",
        "SELECT count(*) FROM (SELECT f * -1.0 FROM t WHERE f = 0 INTERSECT SELECT f FROM u) AS q",
        "SELECT f * -1.0 FROM t WHERE f = 0 EXCEPT SELECT f FROM u",
        "SELECT DISTINCT id FROM t WHERE f * -1.0 IN (SELECT f FROM u)",
        "SELECT DISTINCT id FROM t WHERE f * -1.0 = f OR f * -1.0 < f",
        "SELECT DISTINCT id, nullif(f * -1.0, f) IS NULL FROM t",
        "SELECT DISTINCT id, f * -1.0 IS NOT DISTINCT FROM f FROM t",
        "SELECT id, rank() OVER (ORDER BY f * (id - 2)), count(*) OVER (PARTITION BY f * (id - 2)) FROM t WHERE f = 0",
        "SELECT count(*) FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.f = t.f * -1.0)",
        "SELECT DISTINCT -f, -a, -small FROM t",
    ])
    .await;
}

#[tokio::test]
async fn literals_of_all_kinds() {
    by_replicas(&[
        "SELECT DISTINCT 0x1F, 0x7fffffffffffffff, 0xffffffffffffffff, a + 0x10 FROM t",
        "SELECT DISTINCT 0xF0 | 0X1, x'1F', X'', 1_000, 1e3, .5, 5. FROM t",
        "SELECT count(*) FROM t WHERE a < 0x0A",
    ])
    .await;
    by_sqlite(&["SELECT DISTINCT 9223372036854775808, -9223372036854775808 FROM t"]).await;
}

/// In SQLite the right side of IS is an expression: `a IS (NULL || 'a')`.
#[tokio::test]
async fn is_takes_an_expression() {
    by_sqlite(&[
        "SELECT DISTINCT a IS NULL || 'a' FROM t",
        "SELECT count(*) FROM t WHERE b IS NULL >= EXISTS (SELECT 1 FROM u WHERE u.a = t.a)",
        "SELECT DISTINCT b IS TRUE + 1, b IS NOT FALSE < 1 FROM t",
    ])
    .await;
    by_replicas(&["SELECT DISTINCT a IS NULL AND b IS NOT NULL FROM t", "SELECT DISTINCT a IS NULL = b FROM t"]).await;
}

#[tokio::test]
async fn names_that_hide_columns() {
    let queries = [
        "SELECT DISTINCT -a AS a FROM t ORDER BY a",
        "SELECT DISTINCT s AS a, a AS s FROM t ORDER BY a, s",
        "SELECT DISTINCT abs(a) AS id FROM t ORDER BY id",
        "SELECT DISTINCT -a AS a FROM t ORDER BY t.a",
        "SELECT DISTINCT -a AS a, b FROM t ORDER BY -a, b",
        "SELECT abs(a) AS a, count(*) FROM t GROUP BY a",
        "SELECT max(id) FROM (SELECT DISTINCT a AS id FROM t) AS q",
    ];
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&folder).await;
    for sql in queries {
        let answered = check(&engine, sql).await.unwrap_or_else(|problem| panic!("{problem}"));
        assert_ne!(answered, Answered::Refused, "{sql}");
    }
}

#[tokio::test]
async fn like_reads_up_to_a_nul() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&folder).await;
    let sql = "SELECT count(*) AS e FROM t WHERE s LIKE '%b'";
    assert_eq!(check(&engine, sql).await, Ok(Answered::Replicas));
    for table in ["t", "plain_t"] {
        let insert = format!("INSERT INTO {table}(id, s) VALUES (100, 'a' || char(0) || 'b')");
        engine.execute(&insert, &[]).await.unwrap();
    }
    engine.sync_all().await.unwrap();
    for sql in [sql, "SELECT count(*) AS e FROM (SELECT s || 'c' AS d FROM t) AS q WHERE d LIKE 'a%c'"] {
        assert_eq!(check(&engine, sql).await, Ok(Answered::Sqlite), "{sql}");
    }
}

/// Values of any type in one column: plain SELECTs, and those that the router leaves with SQLite.
#[tokio::test]
async fn values_without_a_common_type() {
    by_sqlite(&[
        "SELECT ifnull(a, 'none') FROM t",
        "SELECT coalesce(s, 0) FROM t",
        "SELECT CASE WHEN b THEN a ELSE 'none' END FROM t",
        "SELECT CASE a WHEN 7 THEN 1 ELSE 0.5 END FROM t",
        "SELECT s + 1, s * 2, -s, s || 1, s AND b FROM t",
        "SELECT a + 9223372036854775807, -9223372036854775808 - id FROM t",
        "SELECT CAST(s AS NUMERIC), CAST(a AS BOOLEAN), CAST(s AS DATE), CAST(300 AS TINYINT) FROM t",
        "SELECT max(coalesce(a, s)), sum(CASE WHEN b THEN '1' ELSE 2 END) FROM t",
        "SELECT DISTINCT coalesce(s, x, 1) FROM t",
    ])
    .await;
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&folder).await;
    let batch = &engine.query("SELECT ifnull(a, 'none') AS e FROM t ORDER BY id LIMIT 4", &[]).await.unwrap()[0];
    let union = batch.column(0).as_union();
    assert!(matches!(batch.column(0).data_type(), DataType::Union(..)));
    assert_eq!((0..4).map(|row| union.type_id(row)).collect::<Vec<_>>(), [0, 0, 0, 2]);
    assert_eq!(union.value(1).as_primitive::<Int64Type>().value(0), 7);
    assert_eq!(union.value(3).as_string::<i32>().value(0), "none");
}

#[tokio::test]
async fn table_valued_functions_of_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&folder).await;
    for (sql, expected) in [
        ("SELECT name FROM pragma_table_info('t') WHERE pk", vec!["id"]),
        ("SELECT count(*) FROM pragma_table_info('t')", vec!["9"]),
        ("SELECT value FROM json_each('[1,2]')", vec!["1", "2"]),
        ("SELECT t.id, e.value FROM t, json_each('[5]') AS e WHERE t.id < 3 ORDER BY t.id", vec!["1 | 5", "2 | 5"]),
        ("SELECT name, sum(pgsize) > 0 FROM dbstat WHERE name = 't' GROUP BY name", vec!["t | 1"]),
        (
            "SELECT m.name, p.name FROM sqlite_master AS m, pragma_table_info(m.name) AS p WHERE m.name = 't' AND p.pk",
            vec!["t | id"],
        ),
    ] {
        let got = engine.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(rows(&got), expected, "{sql}");
    }
}

async fn number(engine: &HtapEngine, sql: &str) -> i64 {
    let got = engine.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    got[0].column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test]
async fn functions_of_the_connection_are_those_of_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&folder).await;
    engine.execute("INSERT INTO t(id) VALUES (70), (71)", &[]).await.unwrap();
    engine.sync_all().await.unwrap();
    for (sql, expected) in [
        ("SELECT last_insert_rowid()", 71),
        ("SELECT changes()", 2),
        ("SELECT last_insert_rowid(), count(*) FROM t", 71),
        ("SELECT DISTINCT changes() FROM t", 2),
    ] {
        assert_eq!(number(&engine, sql).await, expected, "{sql}");
    }
    let before = number(&engine, "SELECT total_changes()").await;
    engine.execute("UPDATE t SET s = 'x' WHERE id > 69", &[]).await.unwrap();
    let after = number(&engine, "SELECT total_changes()").await;
    assert_eq!((after - before, number(&engine, "SELECT changes()").await), (2, 2));
    // Also where a statement reads it that comes after the mark of a transaction.
    engine.execute("INSERT INTO u(id) SELECT last_insert_rowid() + 100", &[]).await.unwrap();
    assert_eq!(number(&engine, "SELECT id FROM u WHERE id > 100").await, 171);
    assert_eq!(number(&engine, "SELECT last_insert_rowid()").await, 171);
}

/// An endless query is cancelled when its future is dropped.
#[tokio::test]
async fn a_query_without_end_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let engine = std::sync::Arc::new(open(&folder).await);
    let endless = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT";
    for is_olap in [true, false] {
        for selected in ["sum(i) FROM c", "i FROM c WHERE i < 0", "count(*) FROM c JOIN t ON t.id = c.i"] {
            let (engine, sql) = (std::sync::Arc::clone(&engine), format!("{endless} {selected}"));
            let query = async move {
                match is_olap {
                    true => engine.query_olap(&sql, &[] as &[Param]).await,
                    false => engine.query(&sql, &[]).await,
                }
            };
            let running = tokio::spawn(query);
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            running.abort();
            assert!(running.await.unwrap_err().is_cancelled(), "{selected}");
        }
    }
    engine.shutdown().await;
}
