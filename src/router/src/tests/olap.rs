//! Tests of the spelling of names: by text, by planning with DataFusion, and against SQLite.

use std::sync::Arc;

use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use vexact_core::error::Result;

use super::{REPLICAS, SESSION, World, read_only, route, schema};
use crate::{Side, for_olap};

fn spelled(sql: &str) -> Result<String> {
    Ok(for_olap(read_only(sql)?, &World)?.to_string())
}

#[test]
fn names_take_the_spelling_of_the_replica() {
    for (sql, expected) in [
        ("SELECT ID, title FROM docs", r#"SELECT "Id", "Title" FROM "Docs""#),
        ("SELECT `ID`, [TITLE], \"title\" FROM `DOCS`", r#"SELECT "Id", "Title", "Title" FROM "Docs""#),
        ("SELECT DOCS.id, Docs.* FROM main.docs", r#"SELECT "Docs"."Id", "Docs".* FROM "Docs""#),
        ("SELECT main.docs.id, MAIN.docs.* FROM docs", r#"SELECT "Docs"."Id", "Docs".* FROM "Docs""#),
        ("SELECT D.id FROM docs d", r#"SELECT "d"."Id" FROM "Docs" "d""#),
        ("SELECT \"SELECT\", \"From\" FROM \"group by\"", r#"SELECT "Select", "from" FROM "Group By""#),
        (
            "SELECT count(*) AS Total FROM docs ORDER BY TOTAL",
            r#"SELECT count(*) AS "Total" FROM "Docs" ORDER BY "Total""#,
        ),
        ("SELECT COUNT(*), \"Sum\"(price) FROM docs", r#"SELECT count(*), sum("price") FROM "Docs""#),
        // The alias of the result is unchanged; the column gets its canonical name.
        (
            "SELECT -price AS PRICE FROM docs GROUP BY price ORDER BY Price",
            r#"SELECT 0 - ("price") AS "PRICE" FROM "Docs" GROUP BY "price" ORDER BY "PRICE""#,
        ),
        (
            "SELECT T FROM (SELECT title AS t, id AS TITLE FROM docs)",
            r#"SELECT "t" FROM (SELECT "Title" AS "t", "Id" AS "Title" FROM "Docs")"#,
        ),
        (
            "SELECT x.id, y.id FROM docs x JOIN orders y ON x.ID = Y.doc_ID",
            r#"SELECT "x"."Id", "y"."id" FROM "Docs" "x" JOIN "orders" "y" ON "x"."Id" = "y"."doc_id""#,
        ),
        (
            "SELECT id FROM docs WHERE id IN (SELECT ID FROM orders WHERE TITLE = 'a')",
            r#"SELECT "Id" FROM "Docs" WHERE "Id" IN (SELECT "id" FROM "orders" WHERE "Title" = 'a')"#,
        ),
        (
            "SELECT id FROM docs UNION SELECT id FROM orders ORDER BY ID",
            r#"SELECT "Id" FROM "Docs" UNION SELECT "id" FROM "orders" ORDER BY "Id""#,
        ),
        (
            "WITH Top AS (SELECT id AS Best FROM docs) SELECT BEST FROM top AS T WHERE t.best > 1",
            r#"WITH "Top" AS (SELECT "Id" AS "Best" FROM "Docs") SELECT "Best" FROM "Top" AS "T" WHERE "T"."Best" > 1"#,
        ),
        (
            "WITH docs AS (SELECT * FROM orders) SELECT amount FROM DOCS, main.docs AS d",
            r#"WITH "Docs" AS (SELECT * FROM "orders") SELECT "Amount" FROM "Docs", "public"."Docs" AS "d""#,
        ),
        ("SELECT * EXCLUDE (ID) FROM docs", r#"SELECT * EXCLUDE ("Id") FROM "Docs""#),
        ("SELECT unknown, \"Unknown\" FROM docs", r#"SELECT unknown, "Unknown" FROM "Docs""#),
        ("SELECT y FROM public.frame WHERE Y = ?", r#"SELECT "Y" FROM "Frame" WHERE "Y" = $1"#),
        (
            "SELECT id + 1 AS ID, price FROM docs d ORDER BY id, -Id, PRICE + 1",
            r#"SELECT "Id" + 1 AS "ID", "price" FROM "Docs" "d" ORDER BY "ID", 0 - ("d"."Id"), "price" + 1"#,
        ),
        (
            "SELECT *, 1 FROM orders o LEFT JOIN orders p USING (ID)",
            r#"SELECT "o"."id", "o"."doc_id", "o"."Amount", "p"."doc_id", "p"."Amount", 1 FROM "orders" "o" LEFT JOIN "orders" "p" USING("id")"#,
        ),
        (
            "SELECT * FROM feed NATURAL JOIN orders",
            r#"SELECT "feed"."id", "feed"."updated_at", "orders"."doc_id", "orders"."Amount" FROM "feed" NATURAL JOIN "orders""#,
        ),
        ("SELECT 0x1F, -0x1f, x'1F', 0X1f FROM docs", r#"SELECT 31, -31, X'1F', 31 FROM "Docs""#),
        ("SELECT 0 x1, id FROM docs", r#"SELECT 0 AS "x1", "Id" FROM "Docs""#),
        ("SELECT 0xFFFFFFFFFFFFFFFF, '0x1F' FROM docs", r#"SELECT (-1), '0x1F' FROM "Docs""#),
        ("SELECT 1 UNION SELECT 2 INTERSECT SELECT 3", "(SELECT 1 UNION SELECT 2) INTERSECT SELECT 3"),
        (
            "SELECT 1 UNION ALL SELECT 2 INTERSECT SELECT 3 EXCEPT SELECT 4 INTERSECT SELECT 5 ORDER BY 1",
            "((SELECT 1 UNION ALL SELECT 2) INTERSECT SELECT 3 EXCEPT SELECT 4) INTERSECT SELECT 5 ORDER BY 1",
        ),
        ("SELECT 1 EXCEPT SELECT 2 UNION SELECT 3", "SELECT 1 EXCEPT SELECT 2 UNION SELECT 3"),
        ("SELECT 1 UNION (SELECT 2 INTERSECT SELECT 3)", "SELECT 1 UNION (SELECT 2 INTERSECT SELECT 3)"),
        ("DESCRIBE docs", r#"DESCRIBE "Docs""#),
        ("EXPLAIN SELECT id FROM docs", r#"EXPLAIN SELECT "Id" FROM "Docs""#),
        ("SELECT 'id' FROM docs WHERE title = 'DOCS ?'", r#"SELECT 'id' FROM "Docs" WHERE "Title" = 'DOCS ?'"#),
        (
            "SELECT ID FROM VECTOR_SEARCH('docs', 'EMBEDDING', ?, 10) AS v WHERE V.title = 'a'",
            r#"SELECT "Id" FROM vector_search('Docs', 'Embedding', $1, 10) AS "v" WHERE "v"."Title" = 'a'"#,
        ),
        ("SELECT * FROM as_of('MAIN.docs', 3)", r#"SELECT * FROM as_of('Docs', 3)"#),
        ("SELECT table_name FROM information_schema.tables", r#"SELECT table_name FROM information_schema.tables"#),
    ] {
        assert_eq!(spelled(sql).unwrap_or_else(|error| panic!("{sql}: {error}")), expected, "{sql}");
    }
}

#[test]
fn what_the_olap_side_lacks_is_named() {
    for (sql, expected) in [
        (
            "SELECT * FROM notes",
            "table \"notes\" is not replicated: expected a replicated table (register_table makes it one)",
        ),
        ("SELECT (SELECT 1 FROM main.a_view)", "table \"a_view\" is not replicated"),
        ("SELECT * FROM nowhere", "no such table: nowhere: expected a replicated table or one of the session"),
        ("SELECT * FROM \"x.parquet\"", "no such table: \"x.parquet\": expected a replicated table"),
        ("SELECT * FROM vector_search('nowhere', 'e', [1], 3)", "no such table: nowhere"),
        ("SELECT * FROM as_of('notes', 3)", "table \"notes\" is not replicated"),
        ("DESCRIBE notes", "table \"notes\" is not replicated"),
        ("SELECT @x FROM docs", "parameter @x: expected ? or $1"),
        (
            "SELECT ID FROM docs, orders",
            "column \"ID\" is ambiguous: expected a table's name before it, got \"Id\" of table \"Docs\" and \"id\" of table \"orders\"",
        ),
        ("SELECT 1 FROM docs JOIN orders USING (id)", "column \"id\" is ambiguous"),
        ("SELECT 1 FROM docs NATURAL JOIN orders", "column \"Id\" is ambiguous"),
    ] {
        let message = spelled(sql).expect_err(sql).to_string();
        assert!(message.starts_with(expected), "{sql}: {message}");
    }
}

fn context() -> SessionContext {
    let ctx = SessionContext::new();
    vexact_sql::register(&ctx).expect("functions");
    for (name, columns) in REPLICAS.iter().chain(&SESSION) {
        let table = MemTable::try_new(schema(columns), vec![vec![]]).expect("table");
        ctx.register_table(datafusion::common::TableReference::bare(*name), Arc::new(table)).expect("name");
    }
    ctx
}

/// Queries in the wrong case that both sides support.
const BOTH: [&str; 19] = [
    "select ID, Title as HEADING from DOCS order by heading",
    "SELECT CATEGORY, count(*) AS N FROM docs GROUP BY Category HAVING COUNT(*) > 1 ORDER BY n DESC, CATEGORY",
    "SELECT d.CATEGORY AS C, sum(o.AMOUNT) AS Sum FROM docs D JOIN orders O ON o.DOC_ID = d.ID GROUP BY D.category ORDER BY SUM",
    "WITH Big AS (SELECT * FROM docs WHERE PRICE > 3) SELECT ID FROM big WHERE title IN (SELECT TITLE FROM BIG)",
    "SELECT T.X AS Y FROM (SELECT id AS X FROM docs) t WHERE t.x > 1",
    "SELECT \"select\", \"FROM\" FROM \"group by\" UNION ALL SELECT id, price FROM docs ORDER BY \"SELECT\"",
    "SELECT row_number() OVER (PARTITION BY Category ORDER BY ID) AS Rn FROM docs",
    "SELECT DISTINCT CATEGORY FROM Docs WHERE EXISTS (SELECT 1 FROM orders WHERE DOC_ID = docs.ID)",
    "SELECT (SELECT max(AMOUNT) FROM orders WHERE orders.doc_id = DOCS.id) AS Best FROM docs",
    "SELECT main.docs.id FROM main.docs, main.orders WHERE main.orders.doc_id = main.docs.id",
    "SELECT price AS Id FROM docs ORDER BY id",
    "SELECT -price AS Price, Title FROM docs ORDER BY PRICE",
    "SELECT CATEGORY AS Category FROM docs GROUP BY category ORDER BY CATEGORY",
    "SELECT sum(PRICE) FILTER (WHERE ID > 1) AS S FROM docs",
    "WITH RECURSIVE N(I) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE I < 3) SELECT I FROM n",
    "SELECT a.ID AS Left, b.ID AS Right FROM docs A LEFT JOIN docs B USING (ID)",
    "SELECT O.* FROM docs JOIN ORDERS o ON o.id = docs.ID",
    "SELECT CASE WHEN PRICE > 1 THEN Title ELSE CATEGORY END AS Label FROM docs UNION SELECT title FROM docs ORDER BY LABEL",
    "WITH docs AS (SELECT ID AS Key FROM main.docs) SELECT KEY FROM DOCS",
];

#[test]
fn datafusion_finds_what_sqlite_finds_and_names_it_alike() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let ctx = context();
    let sqlite = rusqlite::Connection::open_in_memory().expect("SQLite");
    for (name, columns) in REPLICAS {
        let columns: Vec<String> = columns.iter().map(|column| format!("\"{column}\"")).collect();
        sqlite.execute_batch(&format!("CREATE TABLE \"{name}\" ({})", columns.join(", "))).expect("table");
    }
    for sql in BOTH {
        let prepared = match sqlite.prepare(sql) {
            Ok(prepared) => prepared,
            Err(error) => panic!("{sql}: {error}"),
        };
        let expected: Vec<String> = prepared.column_names().map(str::to_owned).collect();
        let statement = read_only(sql).and_then(|statement| for_olap(statement, &World)).expect(sql);
        let text = statement.to_string();
        let plan = runtime.block_on(async {
            let plan = ctx.state().statement_to_plan(statement).await?;
            ctx.state().create_physical_plan(&plan).await
        });
        let plan = plan.unwrap_or_else(|error| panic!("{sql}\n{text}\n{error}"));
        let names: Vec<String> = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, expected, "{sql}\n{text}");
    }
}

#[test]
fn vector_queries_plan() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let ctx = context();
    for sql in [
        "SELECT ID FROM docs ORDER BY COSINE_DISTANCE(EMBEDDING, [1.0, 2.0]) LIMIT 3",
        "SELECT id, SCORE FROM VECTOR_SEARCH('DOCS', 'embedding', [1, 2], 3, 'l2', 'price > 1') WHERE CATEGORY = 'a'",
        "SELECT v.ID, d.TITLE FROM vector_search('main.docs', 'EMBEDDING', '[1 2]', 3) V JOIN docs D ON D.id = v.id",
        "SELECT count(*) FROM docs WHERE l2_distance(embedding, to_vector('[1,2]')) < 1",
    ] {
        assert_eq!(route(sql, &World).expect(sql).side, Side::Olap, "{sql}");
        let statement = read_only(sql).and_then(|statement| for_olap(statement, &World)).expect(sql);
        let plan = runtime.block_on(ctx.state().statement_to_plan(statement));
        assert!(plan.is_ok(), "{sql}: {}", plan.unwrap_err());
    }
}
