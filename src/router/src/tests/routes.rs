//! Tests of the route of each shape of statement, and its reason.

use super::{World, route};
use crate::{Reason, Route, Shape, Side};

fn routed(sql: &str) -> Route {
    route(sql, &World).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn goes_to_olap(shape: Shape, queries: &[&str]) {
    for sql in queries {
        let route = routed(sql);
        assert_eq!((route.side, &route.reason), (Side::Olap, &Reason::Shape(shape.clone())), "{sql}");
    }
}

fn goes(side: Side, reason: Reason, queries: &[&str]) {
    for sql in queries {
        let route = routed(sql);
        assert_eq!((route.side, &route.reason), (side, &reason), "{sql}");
    }
}

fn aggregate(name: &str) -> Shape {
    Shape::Aggregate(name.into())
}

#[test]
fn plain_selects_go_to_sqlite() {
    goes(
        Side::Sqlite,
        Reason::Plain,
        &[
            "SELECT 1",
            "select 1;",
            "SELECT * FROM docs",
            "SELECT * FROM DOCS WHERE id = ?",
            "SELECT ALL title FROM docs",
            "SELECT d.* FROM main.docs AS d ORDER BY d.id DESC NULLS LAST LIMIT 10 OFFSET 5",
            "SELECT * FROM docs LIMIT 5, 10",
            "SELECT max(id, 3), min(id, price) FROM docs",
            "SELECT upper(title) || 'count(*)' AS \"count(*)\" FROM docs",
            "SELECT [title], `id`, \"price\" FROM [docs]",
            "SELECT CASE WHEN id > 1 THEN 'a' ELSE 'b' END FROM docs",
            "SELECT id FROM docs WHERE id IN (1, 2, 3) AND title LIKE '%join%'",
            "SELECT id /* union */ FROM docs -- GROUP BY id",
            "SELECT json_extract(title, '$.a'), strftime('%Y', id) FROM docs",
            "SELECT title -> 'a', title ->> '$.b' FROM docs",
            "SELECT vector('[1,2]')",
            "SELECT count FROM docs",
            "SELECT * FROM \"Group By\" WHERE \"Select\" = $1",
            "SELECT id FROM docs WHERE (id, price) = (1, 2)",
            "VALUES (1), (2)",
            "SELECT cast(id AS text) COLLATE NOCASE FROM docs",
            "SELECT id AS vector_search FROM docs",
            "SELECT 'cosine_distance(a, b)' FROM docs",
            "EXPLAIN SELECT * FROM docs",
        ],
    );
}

#[test]
fn analytics_goes_to_the_replicas_wherever_it_stands() {
    goes_to_olap(
        aggregate("count"),
        &[
            "SELECT count(*) FROM docs",
            "SELECT COUNT(DISTINCT category) FROM Docs",
            "SELECT \"count\"(*) FROM docs",
            "SELECT abs(1 + count(*)) FROM docs",
            "SELECT CASE WHEN 1 THEN coalesce(count(id), 0) END FROM docs",
            "SELECT id FROM docs ORDER BY count(*)",
            "SELECT count(*)",
            "SELECT count /* ( */ (*) FROM main.docs",
            "EXPLAIN SELECT count(*) FROM docs",
            "VALUES (count(1))",
        ],
    );
    goes_to_olap(aggregate("max"), &["SELECT max(id) FROM docs", "SELECT MAX(DISTINCT id) FROM docs"]);
    goes_to_olap(aggregate("min"), &["SELECT max(min(id), 3) FROM docs"]);
    for name in ["sum", "avg", "total", "group_concat", "string_agg", "median", "stddev", "var_pop", "json_group_array"]
    {
        let sql = format!("SELECT {name}(price) FROM docs");
        assert_eq!(routed(&sql).reason, Reason::Shape(aggregate(name)), "{sql}");
    }
    goes_to_olap(aggregate("abs"), &["SELECT abs(price) FILTER (WHERE id > 1) FROM docs"]);
    goes_to_olap(
        aggregate("mine"),
        &["SELECT mine(DISTINCT price) FROM docs", "SELECT mine(price ORDER BY id) FROM docs"],
    );
    goes_to_olap(
        Shape::Join,
        &[
            "SELECT * FROM docs, orders",
            "SELECT * FROM docs JOIN orders ON docs.id = orders.doc_id",
            "SELECT * FROM docs LEFT JOIN orders USING (id)",
            "SELECT * FROM docs NATURAL JOIN orders",
            "SELECT * FROM docs CROSS JOIN docs AS again",
            "SELECT * FROM (docs JOIN orders ON true)",
        ],
    );
    goes_to_olap(
        Shape::SetOperation,
        &[
            "SELECT id FROM docs UNION SELECT id FROM orders",
            "SELECT id FROM docs UNION ALL SELECT id FROM docs",
            "SELECT id FROM docs EXCEPT SELECT doc_id FROM orders ORDER BY 1",
            "SELECT 1 INTERSECT SELECT 2",
        ],
    );
    goes_to_olap(
        Shape::Subquery,
        &[
            "SELECT * FROM docs WHERE id IN (SELECT doc_id FROM orders)",
            "SELECT * FROM docs WHERE EXISTS (SELECT 1 FROM orders)",
            "SELECT (SELECT 1)",
            "SELECT coalesce((SELECT id FROM docs LIMIT 1), 0)",
            "SELECT * FROM (SELECT * FROM docs)",
            "SELECT * FROM docs LIMIT (SELECT 3)",
            "SELECT * FROM docs ORDER BY (SELECT id FROM orders LIMIT 1)",
            "SELECT * FROM (VALUES (1), (2))",
            "VALUES ((SELECT id FROM docs))",
            "SELECT id + CASE WHEN id > (SELECT 1) THEN 1 END FROM docs",
            "(SELECT * FROM docs)",
        ],
    );
    goes_to_olap(
        Shape::Cte,
        &[
            "WITH d AS (SELECT * FROM docs) SELECT * FROM d",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT i FROM n",
            "WITH d AS (SELECT 1) SELECT * FROM docs",
        ],
    );
    goes_to_olap(
        Shape::Window,
        &[
            "SELECT row_number() OVER (ORDER BY id) FROM docs",
            "SELECT sum(price) OVER w FROM docs WINDOW w AS (PARTITION BY category)",
            "SELECT id FROM docs ORDER BY rank() OVER (ORDER BY price)",
        ],
    );
    goes_to_olap(Shape::Distinct, &["SELECT DISTINCT category FROM docs"]);
    goes_to_olap(
        Shape::GroupBy,
        &["SELECT category FROM docs GROUP BY category", "SELECT 1 FROM docs GROUP BY id HAVING id > 1"],
    );
    goes_to_olap(Shape::Having, &["SELECT 1 FROM docs HAVING 1"]);
}

#[test]
fn vector_functions_and_session_tables_need_the_replicas() {
    let vector = |name: &str| Reason::VectorFunction(name.into());
    let cosine = [
        "SELECT id FROM docs ORDER BY cosine_distance(embedding, '[1 2]') LIMIT 3",
        "SELECT id FROM docs WHERE COSINE_DISTANCE(embedding, [1.0, 2.0]) < 0.5",
        "SELECT \"Cosine_Distance\"([1, 2], [3, 4])",
        "SELECT 1 WHERE EXISTS (SELECT abs(cosine_distance(embedding, $1)) FROM docs)",
        "EXPLAIN ANALYZE SELECT cosine_distance(embedding, ?) FROM docs",
    ];
    goes(Side::Olap, vector("cosine_distance"), &cosine);
    for name in ["cosine_similarity", "inner_product", "dot_product", "l2_distance", "l2_distance_squared"] {
        let sql = format!("SELECT {name}(embedding, [1, 2]) FROM docs");
        goes(Side::Olap, vector(name), &[&sql]);
    }
    for name in ["vector_dims", "l2_norm", "to_vector"] {
        goes(Side::Olap, vector(name), &[&format!("SELECT {name}(embedding) FROM docs")]);
    }
    let search = "SELECT * FROM Vector_Search('docs', 'embedding', [1, 2], 10, 'cosine')";
    goes(Side::Olap, vector("vector_search"), &[search]);
    goes(Side::Olap, vector("vector_join"), &["SELECT * FROM vector_join('docs', 'embedding', 'frame', 'x', 3)"]);
    goes(Side::Olap, vector("as_of"), &["SELECT * FROM as_of('main.docs', 17)"]);
    goes(
        Side::Olap,
        Reason::SessionTable("Frame".into()),
        &["SELECT * FROM frame", "SELECT x FROM public.FRAME, docs"],
    );
    goes(Side::Olap, Reason::SessionTable("shared".into()), &["SELECT * FROM shared"]);
}

#[test]
fn tables_of_one_side_decide_whatever_the_shape() {
    let not_replicated = |name: &str| Reason::NotReplicated(name.into());
    goes(
        Side::Sqlite,
        not_replicated("notes"),
        &[
            "SELECT count(*) FROM notes",
            "SELECT * FROM docs JOIN notes USING (id)",
            "WITH d AS (SELECT * FROM docs) SELECT count(*) FROM d WHERE id IN (SELECT id FROM notes)",
        ],
    );
    goes(Side::Sqlite, not_replicated("a_view"), &["SELECT DISTINCT x FROM a_view"]);
    goes(Side::Sqlite, not_replicated("temp.docs"), &["SELECT count(*) FROM temp.docs"]);
    goes(Side::Sqlite, not_replicated("sqlite_master"), &["SELECT count(*) FROM sqlite_master"]);
    goes(Side::Sqlite, not_replicated("sqlite_schema"), &["SELECT name FROM main.sqlite_schema"]);
    goes(Side::Sqlite, not_replicated("shared"), &["SELECT count(*) FROM main.shared"]);
    goes(
        Side::Sqlite,
        Reason::SqliteFunction("json_each".into()),
        &["SELECT count(*) FROM docs, json_each(docs.title)"],
    );
    let pragma = Reason::SqliteFunction("pragma_table_info".into());
    goes(Side::Sqlite, pragma, &["SELECT count(*) FROM pragma_table_info('docs')"]);
    goes(Side::Olap, Reason::OnlyInOlap("feed".into()), &["SELECT * FROM feed", "SELECT count(*) FROM Feed"]);
    let tables = Reason::OnlyInOlap("information_schema.tables".into());
    goes(Side::Olap, tables, &["SELECT * FROM information_schema.tables"]);
    goes(Side::Olap, Reason::OnlyInOlap("generate_series".into()), &["SELECT * FROM generate_series(1, 3)"]);
    goes(Side::Olap, Reason::OnlyInOlap("Docs".into()), &["SELECT * FROM public.docs"]);
    goes(Side::Olap, Reason::Shape(Shape::Join), &["SELECT * FROM feed JOIN docs USING (id)"]);
    goes(Side::Olap, Reason::OlapStatement("SHOW"), &["SHOW TABLES"]);
    goes(Side::Olap, Reason::OlapStatement("DESCRIBE"), &["DESCRIBE docs"]);
    let missing = |name: &str| Reason::NoSuchTable(name.into());
    goes(Side::Sqlite, missing("nowhere"), &["SELECT count(*) FROM nowhere", "SELECT * FROM docs, nowhere"]);
    goes(Side::Sqlite, missing("other.docs"), &["SELECT * FROM other.docs"]);
    goes(Side::Sqlite, missing("main.feed"), &["SELECT * FROM main.feed"]);
}

#[test]
fn ctes_shadow_tables_in_their_scope_only() {
    let not_replicated = Reason::NotReplicated("notes".into());
    goes(
        Side::Olap,
        Reason::Shape(Shape::Cte),
        &[
            "WITH notes AS (SELECT * FROM docs) SELECT * FROM NOTES",
            "WITH notes AS (SELECT 1), b AS (SELECT * FROM notes) SELECT * FROM b",
            "WITH RECURSIVE notes AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM notes WHERE i < 3) SELECT * FROM notes",
            "WITH notes AS (SELECT 1) SELECT (SELECT x FROM (SELECT * FROM notes))",
        ],
    );
    goes(
        Side::Sqlite,
        not_replicated,
        &[
            "WITH notes AS (SELECT * FROM notes) SELECT * FROM notes",
            "WITH a AS (SELECT * FROM notes), notes AS (SELECT 1) SELECT * FROM a",
            "SELECT * FROM (WITH notes AS (SELECT 1) SELECT * FROM notes), notes",
            "(WITH notes AS (SELECT 1) SELECT * FROM notes) UNION SELECT * FROM notes",
            "WITH notes AS (SELECT 1) SELECT * FROM main.notes",
            "WITH a AS (WITH notes AS (SELECT 1) SELECT * FROM notes) SELECT * FROM a, notes",
        ],
    );
    // An alias is not a table.
    goes(Side::Olap, Reason::Shape(Shape::Join), &["SELECT notes.id FROM docs AS notes, orders nowhere"]);
}

#[test]
fn what_is_no_query_goes_to_sqlite() {
    for (sql, word) in [
        ("INSERT INTO docs SELECT * FROM docs", "INSERT"),
        ("REPLACE INTO docs VALUES (1)", "REPLACE"),
        ("UPDATE docs SET id = (SELECT max(id) FROM docs)", "UPDATE"),
        ("DELETE FROM docs", "DELETE"),
        ("WITH d AS (SELECT 1) DELETE FROM docs WHERE id IN (SELECT * FROM d)", "DELETE"),
        ("CREATE TABLE t (a)", "CREATE"),
        ("CREATE VIEW v AS SELECT count(*) FROM docs", "CREATE"),
        ("DROP TABLE docs", "DROP"),
        ("BEGIN", "BEGIN"),
        ("PRAGMA user_version", "PRAGMA"),
        ("PRAGMA table_info(docs)", "PRAGMA"),
        ("VACUUM", "VACUUM"),
        ("nonsense", "NONSENSE"),
        ("INSERT INTO docs SELECT l2_norm(", "INSERT"),
        ("EXPLAIN DELETE FROM docs", "DELETE"),
        ("COPY docs TO 'x.csv'", "COPY"),
        ("SELECT * INTO t FROM docs", "SELECT INTO"),
        ("", "an empty statement"),
        (" ; -- nothing", "an empty statement"),
    ] {
        goes(Side::Sqlite, Reason::NotAQuery(word.into()), &[sql]);
    }
}

#[test]
fn syntax_that_the_parser_does_not_know_goes_to_sqlite() {
    for sql in [
        "SELECT count(*) FROM docs WHERE title GLOB 'a*'",
        "SELECT count(*) FROM docs INDEXED BY i",
        "SELECT count(*) FROM docs WHERE title NOTNULL",
        "SELECT * FROM docs WHERE id IN orders",
        "EXPLAIN QUERY PLAN SELECT * FROM docs",
        "SELECT 'open",
        "WITH d AS NOT MATERIALIZED (SELECT 1) SELECT * FROM d",
        "SELECT * FROM docs WHERE",
        "SELECT count(*), 0x1FFFFFFFFFFFFFFFF FROM docs",
        "SELECT DISTINCT id IS NULL || 'a' FROM docs",
        "SELECT count(*) FROM docs WHERE id IS NOT NULL >= price",
        "/* open",
    ] {
        let route = routed(sql);
        assert_eq!(route.side, Side::Sqlite, "{sql}");
        assert!(matches!(route.reason, Reason::NotParsed(_)), "{sql}: {:?}", route.reason);
    }
    goes(Side::Sqlite, Reason::SqliteSyntax("a table name in single quotes"), &["SELECT count(*) FROM 'docs'"]);
    let open = route("SELECT id FROM docs ORDER BY cosine_distance(embedding, [1, 2) LIMIT 3", &World);
    assert!(open.unwrap_err().to_string().contains("Expected: ], found: )"));
}

#[test]
fn the_shape_of_the_text_is_that_of_sqlite() {
    // Comments do not nest, and `/*!` begins one.
    goes(Side::Sqlite, Reason::Plain, &["SELECT id /*! , count(*) */ FROM docs", "/* /* */ SELECT id FROM docs"]);
    let long = format!("SELECT count(*) FROM docs WHERE id = 1{}", " OR id = 2".repeat(100_000));
    assert!(matches!(routed(&long).reason, Reason::NotParsed(message) if message.contains("at most 20000 conditions")));
    let list = format!("SELECT count(*) FROM docs WHERE id IN (1{})", ", 2".repeat(100_000));
    assert_eq!(routed(&list).side, Side::Olap);
    let nested = format!("SELECT {}1{} FROM docs", "(".repeat(10_000), ")".repeat(10_000));
    assert!(matches!(routed(&nested).reason, Reason::NotParsed(_)));
    let deep = format!("{} SELECT 1 {}", "WITH a AS (".repeat(20), ") SELECT * FROM a".repeat(20));
    assert_eq!(routed(&deep).reason, Reason::Shape(Shape::Cte));
}

#[test]
fn a_query_that_neither_side_can_answer_is_an_error() {
    for (sql, expected) in [
        (
            "SELECT l2_norm(e) FROM notes",
            "table \"notes\" is not replicated, which l2_norm needs: expected a replicated table (register_table makes it one)",
        ),
        (
            "SELECT * FROM vector_search('Notes', 'e', [1], 3)",
            "table \"Notes\" is not replicated, which vector_search needs",
        ),
        (
            "SELECT * FROM frame JOIN notes",
            "table \"notes\" is not replicated, which table \"Frame\" of the session needs",
        ),
        (
            "SELECT * FROM feed, notes",
            "table \"notes\" is not replicated, which \"feed\" needs, that only the replicas have",
        ),
        ("SELECT l2_norm(e) FROM nowhere", "no such table: nowhere: expected a replicated table or one of the session"),
        ("DESCRIBE notes", "table \"notes\" is not replicated, which only the replicas answer DESCRIBE needs"),
        (
            "SELECT l2_norm(value) FROM json_each('[]')",
            "table function json_each is SQLite's and does not run on the replicas",
        ),
        ("SELECT 1; SELECT 2; SELECT 3", "expected one statement, got 3"),
        ("SELECT ?0", "parameter ?0: expected ?, or a number from 1 to 32766 as in $1 or ?1"),
        ("SELECT $40000", "parameter $40000: expected ?"),
    ] {
        let message = route(sql, &World).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{sql}: {message}");
    }
}

#[test]
fn the_route_names_its_tables_and_whether_sqlite_could_answer() {
    let able = |sql| {
        let route = routed(sql);
        (route.tables, route.can_fall_back, route.is_explain)
    };
    let tables = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let sql = "SELECT count(*) FROM ORDERS, docs d, main.Docs WHERE 1 IN (SELECT id FROM orders)";
    assert_eq!(able(sql), (tables(&["orders", "Docs"]), true, false));
    assert_eq!(able("EXPLAIN SELECT sum(id) FROM docs"), (tables(&["Docs"]), true, true));
    assert_eq!(able("SELECT * FROM vector_search('docs', 'embedding', [1, 2], 3)"), (tables(&["Docs"]), false, false));
    assert_eq!(able("SELECT * FROM feed f JOIN docs USING (id)"), (tables(&["feed", "Docs"]), false, false));
    assert_eq!(able("SELECT count(*) FROM frame"), (tables(&["Frame"]), false, false));
    assert_eq!(able("SELECT count(*) FROM docs, generate_series(1, 3)"), (tables(&["Docs"]), false, false));
    assert_eq!(able("SELECT * FROM docs"), (vec![], true, false));
}

#[test]
fn reasons_read_as_text() {
    for (sql, expected) in [
        ("SELECT 1", "a plain SELECT of rows"),
        ("SELECT sum(id) FROM docs", "the query has the aggregate sum"),
        ("SELECT * FROM docs, orders", "the query has a join"),
        ("SELECT * FROM notes", "table \"notes\" is not replicated"),
        ("SELECT * FROM frame", "table \"Frame\" is the session's"),
        ("SELECT * FROM feed", "only the replicas have \"feed\""),
        ("SELECT l2_norm(embedding) FROM docs", "function l2_norm runs on the replicas"),
        ("DELETE FROM docs", "DELETE is not a query"),
        ("SELECT * FROM nowhere", "neither side has table nowhere"),
        ("SELECT 1 FROM docs NOT INDEXED", "only SQLite may know this syntax (SQL error: "),
    ] {
        let text = routed(sql).reason.to_string();
        assert!(text.starts_with(expected), "{sql}: {text}");
    }
}
