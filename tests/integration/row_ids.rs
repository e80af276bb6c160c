//! Tables without a key, replicated by their row ids. Queries on the replicas answer as SQLite
//! does: `*` does not include the row id.

use vexact::TableSchema;
use vexact::htap::{HtapConfig, HtapEngine};
use vexact::router::Side;

use crate::routes::rows;

#[tokio::test]
async fn a_row_id_is_there_by_name_and_not_in_a_wildcard() {
    let folder = tempfile::tempdir().unwrap();
    let config = HtapConfig { oltp_path: folder.path().join("a.db"), ..HtapConfig::default() };
    let engine = HtapEngine::open(config).await.unwrap();
    for table in ["words", "others", "plain_words", "plain_others"] {
        engine.execute(&format!("CREATE TABLE {table}(word TEXT, n INTEGER)"), &[]).await.unwrap();
        let insert = format!("INSERT INTO {table}(rowid, word, n) VALUES (7, 'a', 1), (9, 'b', 2), (12, 'a', 3)");
        engine.execute(&insert, &[]).await.unwrap();
    }
    for table in ["words", "others"] {
        let columns = [("word", "utf8"), ("n", "int64")].map(|(name, kind)| (name.to_owned(), kind.to_owned()));
        engine.register_table(TableSchema::try_new(table, &columns, &["rowid".into()]).unwrap(), true).await.unwrap();
    }
    for (sql, side) in [
        ("SELECT DISTINCT * FROM words", Side::Olap),
        ("SELECT count(*), max(rowid) FROM words", Side::Olap),
        ("SELECT rowid, count(*) FROM words GROUP BY rowid", Side::Olap),
        ("SELECT * FROM (SELECT * FROM words) AS q WHERE n > 1", Side::Olap),
        ("SELECT q.* FROM words AS q JOIN others AS p ON q.n = p.n", Side::Olap),
        ("SELECT * FROM words AS q JOIN others AS p ON q.rowid = p.rowid", Side::Olap),
        ("SELECT * FROM words AS q LEFT JOIN others AS p USING (n)", Side::Olap),
        ("SELECT p.*, q.rowid FROM words AS q JOIN others AS p ON q.n < p.n", Side::Olap),
        ("SELECT * FROM words UNION SELECT * FROM others", Side::Olap),
        ("WITH w AS (SELECT * FROM words) SELECT count(*), max(n) FROM w", Side::Olap),
        ("SELECT * FROM words AS q NATURAL JOIN others AS p", Side::Sqlite),
        ("SELECT DISTINCT * FROM words AS q, others AS p", Side::Sqlite),
        ("SELECT _rowid_, count(*) FROM words GROUP BY 1", Side::Sqlite),
        ("SELECT * FROM words", Side::Sqlite),
    ] {
        let plain = sql.replace("FROM words", "FROM plain_words").replace("others", "plain_others");
        let [mut got, mut expected] = [
            rows(&engine.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"))),
            rows(&engine.query(&plain, &[]).await.unwrap_or_else(|error| panic!("{plain}: {error}"))),
        ];
        got.sort();
        expected.sort();
        assert_eq!(got, expected, "{sql}");
        assert_eq!(engine.route(sql).await.unwrap().side, side, "{sql}");
    }
    let error = engine.query_olap("SELECT * FROM words, others", &[]).await.unwrap_err().to_string();
    assert!(error.contains("expected columns by name"), "{error}");
    assert_eq!(rows(&engine.query_olap("SELECT * FROM words WHERE rowid = 9", &[]).await.unwrap()), ["b | 2"]);
}
