//! Replicas that have only some columns of their tables, and the types of queries that DataFusion
//! cannot plan.

use arrow::datatypes::DataType;
use vexact::TableSchema;
use vexact::htap::{HtapConfig, HtapEngine};
use vexact::router::Side;

use crate::routes::rows;

async fn engine(folder: &tempfile::TempDir) -> HtapEngine {
    let config = HtapConfig { oltp_path: folder.path().join("a.db"), ..HtapConfig::default() };
    let engine = HtapEngine::open(config).await.unwrap();
    for table in ["docs", "whole", "unregistered"] {
        let columns = "id INTEGER PRIMARY KEY, title TEXT, n NUMERIC, upper_title TEXT AS (upper(title))";
        engine.execute(&format!("CREATE TABLE {table}({columns})"), &[]).await.unwrap();
        let insert = format!("INSERT INTO {table} VALUES (1, 'a', 1), (2, 'b', 2.5), (3, NULL, 'x')");
        engine.execute(&insert, &[]).await.unwrap();
    }
    let register = async |table: &str, names: &[&str]| {
        let columns = [("id", "int64"), ("title", "utf8"), ("upper_title", "utf8")];
        let columns = columns.iter().filter(|(name, _)| names.contains(name));
        let columns: Vec<_> = columns.map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect();
        engine.register_table(TableSchema::try_new(table, &columns, &["id".into()]).unwrap(), true).await.unwrap();
    };
    engine.execute("ALTER TABLE whole DROP COLUMN n", &[]).await.unwrap();
    register("docs", &["id", "title"]).await;
    register("whole", &["id", "title", "upper_title"]).await;
    engine
}

#[tokio::test]
async fn a_wildcard_has_the_columns_of_the_table_and_not_of_its_replica() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&folder).await;
    for (sql, side) in [
        ("SELECT * FROM docs JOIN whole USING (id) ORDER BY id", Side::Sqlite),
        ("SELECT whole.* FROM docs JOIN whole USING (id) ORDER BY id", Side::Sqlite),
        ("SELECT DISTINCT * FROM docs ORDER BY id", Side::Sqlite),
        ("SELECT count(*) FROM (SELECT * FROM docs) WHERE n > 1", Side::Sqlite),
        ("SELECT * FROM docs UNION ALL SELECT * FROM docs ORDER BY 1", Side::Sqlite),
        ("WITH d AS (SELECT * FROM docs) SELECT n, count(*) FROM d GROUP BY n ORDER BY 1", Side::Sqlite),
        ("SELECT count(*) FROM docs NATURAL JOIN whole", Side::Sqlite),
        ("SELECT id FROM whole WHERE EXISTS (SELECT * FROM docs WHERE docs.id = whole.id)", Side::Sqlite),
        ("SELECT count(*) FROM docs JOIN whole USING (id)", Side::Olap),
        ("SELECT DISTINCT * FROM whole ORDER BY id", Side::Olap),
        ("SELECT title, count(*) FROM docs GROUP BY title ORDER BY 1", Side::Olap),
    ] {
        assert_eq!(engine.route(sql).await.unwrap().side, side, "{sql}");
        let plain = sql.replace("docs", "unregistered");
        let [got, expected] = [
            rows(&engine.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"))),
            rows(&engine.query(&plain, &[]).await.unwrap_or_else(|error| panic!("{plain}: {error}"))),
        ];
        assert_eq!(got, expected, "{sql}");
    }
    // A query that names the replicas as its side sees only their columns.
    let batches = engine.query_olap("SELECT * FROM docs", &[]).await.unwrap();
    assert_eq!(batches[0].num_columns(), 2);
}

#[tokio::test]
async fn what_datafusion_cannot_plan_has_the_types_of_what_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&folder).await;
    for (sql, known) in [
        ("SELECT id > 1 FROM docs ORDER BY id LIMIT 2 OFFSET -1", vec![DataType::Boolean]),
        ("SELECT n > 1 FROM unregistered ORDER BY id LIMIT 2 OFFSET -1", vec![DataType::Boolean]),
        ("SELECT id > 1 FROM (SELECT id FROM unregistered LIMIT -1)", vec![DataType::Boolean]),
        (
            "SELECT typeof(n), n > 1, id IN (1) FROM unregistered",
            vec![DataType::Utf8, DataType::Boolean, DataType::Boolean],
        ),
        ("SELECT id > 1 AND title = 'a', quote(title) FROM docs", vec![DataType::Boolean, DataType::Utf8]),
        ("SELECT max(id) > 1, json_group_array(title) FROM docs", vec![DataType::Boolean, DataType::Utf8]),
        ("SELECT quote(title) AS q, count(*) > 1 FROM docs GROUP BY 1", vec![DataType::Utf8, DataType::Boolean]),
        ("SELECT id > 1 AS late FROM docs WHERE late AND quote(title) <> ''", vec![DataType::Boolean]),
        ("SELECT id > 1 FROM docs WHERE unicode(title) IS NULL", vec![DataType::Boolean]),
    ] {
        let batches = engine.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let schema = batches[0].schema();
        let types: Vec<&DataType> = schema.fields().iter().map(|field| field.data_type()).collect();
        assert_eq!(types, known.iter().collect::<Vec<_>>(), "{sql}");
    }
}
