//! Statements that the engine's connections run, and statements that they reject.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type};
use vexact_core::error::{Error, Result};
use vexact_core::param::vector_value;
use vexact_core::schema::ColumnType;

use super::*;
use crate::oltp::{Oltp, OltpOptions, ResultTypes};

pub(super) struct File {
    pub oltp: Arc<Oltp>,
    pub runtime: tokio::runtime::Runtime,
    pub folder: tempfile::TempDir,
}

impl File {
    pub fn new(ddl: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let oltp = Arc::new(Oltp::open(folder.path().join("file.db"), OltpOptions::default()).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let file = Self { oltp, runtime, folder };
        file.batch(ddl).unwrap();
        file
    }

    pub fn execute(&self, sql: &str, params: Vec<Value>) -> Result<u64> {
        self.runtime.block_on(self.oltp.execute(sql, params))
    }

    fn batch(&self, statements: &[&str]) -> Result<()> {
        let statements = statements.iter().map(|sql| (sql.to_string(), vec![])).collect();
        self.runtime.block_on(self.oltp.execute_batch(statements)).map(drop)
    }

    fn many(&self, sql: &str, rows: Vec<Vec<Value>>) -> Result<u64> {
        self.runtime.block_on(self.oltp.execute_many(sql, rows))
    }

    pub fn query(&self, sql: &str, params: Vec<Value>) -> Result<arrow::array::RecordBatch> {
        Ok(self.runtime.block_on(self.oltp.query(sql, params, ResultTypes::default()))?.remove(0))
    }

    pub fn number(&self, sql: &str) -> i64 {
        self.query(sql, vec![]).unwrap().column(0).as_primitive::<Int64Type>().value(0)
    }

    pub fn register(&self, schema: TableSchema) -> Registered {
        self.runtime.block_on(self.oltp.write(move |tx| capture::install(tx, &schema))).unwrap()
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[test]
fn execute_answers_the_rows_affected() {
    let file = File::new(&[]);
    assert_eq!(file.execute("CREATE TABLE t(a INTEGER, b TEXT)", vec![]).unwrap(), 0);
    assert_eq!(file.execute("INSERT INTO t VALUES (?, ?), (3, 'c')", vec![Value::Integer(1), text("a")]).unwrap(), 2);
    assert_eq!(file.execute("UPDATE t SET b = $2 WHERE a = $1", vec![Value::Integer(3), text("d")]).unwrap(), 1);
    assert_eq!(file.execute("UPDATE t SET b = $1 WHERE b = $1", vec![text("d")]).unwrap(), 1);
    assert_eq!(file.execute("CREATE INDEX i ON t(a)", vec![]).unwrap(), 0);
    assert_eq!(
        file.execute(" /* all */ WITH x AS (SELECT 3 AS a) DELETE FROM t WHERE a IN (SELECT a FROM x);", vec![])
            .unwrap(),
        1
    );
    assert_eq!(file.execute("DELETE FROM t WHERE a = 77", vec![]).unwrap(), 0);
    assert_eq!(file.number("SELECT count(*) FROM t"), 1);
}

#[test]
fn execute_refuses_before_any_effect() {
    let file = File::new(&["CREATE TABLE t(a INTEGER)"]);
    for (sql, expected) in [
        ("SELECT 1", "query returns rows"),
        ("INSERT INTO t VALUES (1) RETURNING a", "query returns rows"),
        ("EXPLAIN INSERT INTO t VALUES (1)", "query returns rows"),
        ("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)", "expected one statement"),
        ("BEGIN", "execute_batch"),
        ("commit", "execute_batch"),
        ("ROLLBACK", "execute_batch"),
        ("SAVEPOINT s", "execute_batch"),
        ("ATTACH ':memory:' AS other", "ATTACH"),
        ("VACUUM", "VACUUM"),
        ("PRAGMA journal_mode = DELETE", "PRAGMA journal_mode is refused"),
        ("PRAGMA writable_schema = ON", "PRAGMA writable_schema is refused"),
        ("", "expected a DML or DDL statement"),
        ("-- nothing", "expected a DML or DDL statement"),
        ("INSERT INTO nope VALUES (1)", "no such table: nope"),
        ("INSERT INTO t VALUES (?, ?)", "1 columns but 2 values"),
        ("INSERT INTO t VALUES (?)", "expected 1 parameters, got 0"),
        ("INSERT INTO t VALUES (:a)", "parameter :a: expected ? or $1"),
        ("nonsense", "syntax error"),
    ] {
        let error = file.execute(sql, vec![]).unwrap_err().to_string();
        assert!(error.contains(expected), "{sql}: {error}");
    }
    assert_eq!(file.number("SELECT count(*) FROM t"), 0);
}

#[test]
fn no_statement_is_cut_at_a_nul() {
    let file = File::new(&["CREATE TABLE t(a INTEGER)", "INSERT INTO t VALUES (1), (2)"]);
    for sql in ["DELETE FROM t\0 WHERE a = 1", "DELETE FROM t -- \0", "DELETE FROM t WHERE a = '\0'", "DROP TABLE t\0"]
    {
        let all = [file.execute(sql, vec![]).map(drop), file.batch(&[sql]), file.many(sql, vec![vec![]]).map(drop)];
        for refused in all {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("without NUL characters, got one at position"), "{sql:?}: {error}");
        }
    }
    let error = file.query("SELECT a FROM t\0 WHERE a = 1", vec![]).unwrap_err().to_string();
    assert!(error.contains("got one at position 15, behind: SELECT a FROM t"), "{error}");
    assert_eq!(file.number("SELECT count(*) FROM t"), 2);
}

#[test]
fn settings_that_are_the_users_can_be_set() {
    let file = File::new(&["CREATE TABLE p(id INTEGER PRIMARY KEY)", "CREATE TABLE c(p REFERENCES p(id))"]);
    assert!(file.execute("INSERT INTO c VALUES (7)", vec![]).unwrap_err().to_string().contains("FOREIGN KEY"));
    file.execute("PRAGMA foreign_keys = OFF", vec![]).unwrap();
    file.execute("INSERT INTO c VALUES (7)", vec![]).unwrap();
    let error = file.batch(&["PRAGMA foreign_keys = ON"]).unwrap_err().to_string();
    assert!(error.contains("statement 1 of 1") && error.contains("use execute"), "{error}");
    file.batch(&["PRAGMA user_version = 9"]).unwrap();
    assert_eq!(file.number("PRAGMA user_version"), 9);
}

#[test]
fn a_batch_is_all_or_nothing_and_names_the_statement() {
    let file = File::new(&["CREATE TABLE t(a INTEGER PRIMARY KEY)"]);
    let error = file
        .batch(&["INSERT INTO t VALUES (1)", "CREATE TABLE u(a)", "INSERT INTO t VALUES (1)"])
        .unwrap_err()
        .to_string();
    assert!(error.contains("statement 3 of 3 (INSERT INTO t VALUES (1))") && error.contains("UNIQUE"), "{error}");
    assert_eq!(
        file.number("SELECT count(*) FROM t") + file.number("SELECT count(*) FROM sqlite_master WHERE name = 'u'"),
        0
    );
    let error = file.batch(&["INSERT OR ROLLBACK INTO t VALUES (1), (1)"]).unwrap_err().to_string();
    assert!(error.contains("statement 1 of 1"), "{error}");
    file.batch(&["INSERT INTO t VALUES (1)", "UPDATE t SET a = 2"]).unwrap();
    assert_eq!(file.number("SELECT a FROM t"), 2);
}

#[test]
fn many_rows_are_one_transaction_and_an_error_names_the_row() {
    let file = File::new(&["CREATE TABLE t(a INTEGER PRIMARY KEY)"]);
    let rows = |values: &[i64]| values.iter().map(|value| vec![Value::Integer(*value)]).collect();
    assert_eq!(file.many("INSERT INTO t VALUES (?)", rows(&[1, 2, 3])).unwrap(), 3);
    let error = file.many("INSERT INTO t VALUES (?)", rows(&[4, 2])).unwrap_err().to_string();
    assert!(error.contains("row 2 of 2") && error.contains("UNIQUE"), "{error}");
    let error = file.many("INSERT INTO t VALUES (?)", vec![vec![Value::Integer(9)], vec![]]).unwrap_err().to_string();
    assert!(error.contains("row 2 of 2: expected 1 parameters, got 0"), "{error}");
    assert_eq!(file.many("INSERT INTO t VALUES (?)", vec![]).unwrap(), 0);
    assert_eq!(file.number("SELECT count(*) FROM t"), 3);
}

#[test]
fn query_refuses_everything_that_does_not_read() {
    let file = File::new(&["CREATE TABLE t(a INTEGER)"]);
    for sql in [
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (1) RETURNING a",
        "DROP TABLE t",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA wal_checkpoint",
        "ATTACH 'x.db' AS x",
        "BEGIN",
        "SELECT 1; SELECT 2",
        "",
    ] {
        let error = file.query(sql, vec![]).expect_err(sql);
        assert!(matches!(error, Error::Engine(_)), "{sql}: {error:?}");
    }
    assert_eq!(file.number("SELECT count(*) FROM t"), 0);
    assert_eq!(file.query("PRAGMA table_info(t)", vec![]).unwrap().num_rows(), 1);
    assert!(file.query("EXPLAIN QUERY PLAN SELECT * FROM t", vec![]).is_ok());
    assert!(!file.folder.path().join("x.db").exists());
}

#[test]
fn result_columns_have_declared_or_registered_types() {
    let file = File::new(&[
        "CREATE TABLE t(i INTEGER, r REAL, s TEXT, b BLOB, f BOOLEAN, n NUMERIC, x)",
        "CREATE TABLE v(id INTEGER PRIMARY KEY, e BLOB, small INTEGER)",
    ]);
    let types = |batch: &arrow::array::RecordBatch| {
        batch.schema().fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>()
    };
    let declared = vec![
        DataType::Int64,
        DataType::Float64,
        DataType::Utf8,
        DataType::Binary,
        DataType::Boolean,
        DataType::Null,
        DataType::Null,
    ];
    let empty = file.query("SELECT * FROM t", vec![]).unwrap();
    assert_eq!((types(&empty), empty.num_rows()), (declared, 0));
    file.execute(
        "INSERT INTO t VALUES (1, 2, 'a', x'01', 1, 5, NULL), (NULL, NULL, NULL, NULL, NULL, 1.5, 'x')",
        vec![],
    )
    .unwrap();
    let full = file.query("SELECT r, f, n AS m, x FROM t", vec![]).unwrap();
    assert_eq!(types(&full), [DataType::Float64, DataType::Boolean, DataType::Float64, DataType::Utf8]);
    assert_eq!(full.column(2).as_primitive::<Float64Type>().values(), &[5.0, 1.5]);

    let schema = schema("v", &[("id", "int64"), ("e", "vector(2)"), ("small", "int8")], &["id"]);
    file.execute("INSERT INTO v VALUES (1, vector('[1, -2.5]'), 3), (2, ?, NULL)", vec![vector_value(&[0.5, 4.0])])
        .unwrap();
    let known = Arc::new(schema);
    let types = ResultTypes {
        registered: Some(Arc::new(move |table| (table == "v").then(|| Arc::clone(&known)))),
        expressions: vec![None, None, None, Some(ColumnType::Int32)],
    };
    let sql = "SELECT id, e AS vec, small, small + 1 FROM v ORDER BY id";
    let batch = file.runtime.block_on(file.oltp.query(sql, vec![], types)).unwrap().remove(0);
    assert_eq!(batch.schema().field(1).data_type(), &DataType::new_fixed_size_list(DataType::Float32, 2, true));
    assert_eq!(
        batch.column(1).as_fixed_size_list().values().as_primitive::<Float32Type>().values(),
        &[1.0, -2.5, 0.5, 4.0]
    );
    assert_eq!((batch.column(2).data_type(), batch.column(3).data_type()), (&DataType::Int8, &DataType::Int32));
    assert_eq!((batch.schema().field(0).is_nullable(), batch.schema().field(2).is_nullable()), (false, true));
    assert!(batch.column(3).is_null(1));
}

#[test]
fn values_that_share_no_type_are_a_union() {
    let file = File::new(&["CREATE TABLE t(i INTEGER)", "INSERT INTO t VALUES (1), ('abc'), (NULL), (x'01'), (2.5)"]);
    let types = |batch: &arrow::array::RecordBatch| {
        let union = batch.column(0).as_union();
        (0..union.len()).map(|row| union.type_id(row)).collect::<Vec<_>>()
    };
    let mixed = file.query("SELECT i FROM t", vec![]).unwrap();
    assert_eq!(types(&mixed), [0, 2, 0, 3, 1]);
    let values = mixed.column(0).as_union();
    assert_eq!(values.value(0).as_primitive::<Int64Type>().value(0), 1);
    assert_eq!(values.value(1).as_string::<i32>().value(0), "abc");
    assert!(values.value(2).is_null(0));
    assert_eq!(values.value(3).as_binary::<i32>().value(0), [1]);
    assert_eq!(values.value(4).as_primitive::<Float64Type>().value(0), 2.5);
    assert_eq!(types(&file.query("SELECT 1 AS a UNION ALL SELECT 'x'", vec![]).unwrap()), [0, 2]);
    // Beyond 2^53 an integer is no real.
    assert_eq!(types(&file.query("SELECT 9007199254740993 AS a UNION ALL SELECT 2.5", vec![]).unwrap()), [0, 1]);
    let numbers =
        file.query("SELECT NULL AS a UNION ALL SELECT 1 UNION ALL SELECT 2.5 UNION ALL SELECT 7", vec![]).unwrap();
    assert_eq!(
        numbers.column(0).as_primitive::<Float64Type>().iter().collect::<Vec<_>>(),
        [None, Some(1.0), Some(2.5), Some(7.0)]
    );
}

#[test]
fn values_decide_where_one_does_not_have_the_expected_type() {
    let file = File::new(&[]);
    let query = |sql: &str, expected| {
        let types = ResultTypes { registered: None, expressions: vec![Some(expected)] };
        file.runtime.block_on(file.oltp.query(sql, vec![], types)).map(|batches| batches[0].column(0).clone())
    };
    let column = query("SELECT 1 AS a UNION ALL SELECT NULL UNION ALL SELECT 300", ColumnType::Int8).unwrap();
    assert_eq!(column.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None, Some(300)]);
    let column = query("SELECT 1 AS a UNION ALL SELECT 2", ColumnType::Utf8).unwrap();
    assert_eq!(column.as_primitive::<Int64Type>().values(), &[1, 2]);
    let column = query("SELECT 1 AS a UNION ALL SELECT 9.3e18", ColumnType::Int64).unwrap();
    assert_eq!(column.as_primitive::<Float64Type>().values(), &[1.0, 9.3e18]);
    let column = query("SELECT 1 AS a UNION ALL SELECT 2", ColumnType::Boolean).unwrap();
    assert_eq!(column.as_primitive::<Int64Type>().values(), &[1, 2]);
    let vector = ColumnType::parse("vector(1)").unwrap();
    let column = query("SELECT x'0000803f' AS a UNION ALL SELECT x'01'", vector).unwrap();
    assert_eq!(column.as_binary::<i32>().iter().collect::<Vec<_>>(), [Some(&[0, 0, 0x80, 0x3f][..]), Some(&[1])]);
    let error = query("SELECT CAST(x'ff' AS TEXT) AS a", ColumnType::Utf8).unwrap_err().to_string();
    assert_eq!(
        error,
        "column \"a\", row 1 of the result: expected text in UTF-8, got text that is not UTF-8 (1 bytes)"
    );
}

#[test]
fn like_is_case_sensitive_in_queries() {
    let file = File::new(&[]);
    assert_eq!(file.number("SELECT 'A' LIKE 'a'"), 0);
    assert_eq!(file.number("SELECT 'A' LIKE 'A'"), 1);
}

#[test]
fn the_vector_function_refuses_what_is_no_vector() {
    let file = File::new(&["CREATE TABLE t(a)"]);
    for (argument, expected) in
        [("'1,2'", "brackets"), ("5", "got integer 5"), ("'[1e39]'", "component 0"), ("'[a]'", "component 0")]
    {
        let error = file.query(&format!("SELECT vector({argument})"), vec![]).unwrap_err().to_string();
        assert!(error.contains("vector()"), "{argument}: {error}");
        assert!(expected.starts_with("component") || error.contains(expected), "{argument}: {error}");
    }
    assert_eq!(file.query("SELECT vector(NULL)", vec![]).unwrap().column(0).data_type(), &DataType::Null);
    // It must not get into the schema, where other programs would miss it.
    file.execute("CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT vector('[1]'); END", vec![]).unwrap();
    assert!(file.execute("INSERT INTO t VALUES (1)", vec![]).unwrap_err().to_string().contains("unsafe use of vector"));
}

#[test]
fn the_engines_own_tables_are_not_written_by_users() {
    let file = File::new(&[USERS]);
    file.register(schema("users", &USER_COLUMNS, &["id"]));
    for sql in [
        "DELETE FROM _vexact_log",
        "UPDATE _VEXACT_tables SET version = 5",
        "DROP TABLE _vexact_log",
        "ALTER TABLE _vexact_log ADD COLUMN x",
        "CREATE INDEX i ON _vexact_log(op)",
        "CREATE TABLE _vexact_mine(a)",
        "DROP TRIGGER _vexact_1_insert",
        "CREATE TRIGGER _vexact_mine AFTER INSERT ON users BEGIN SELECT 1; END",
    ] {
        let error = file.execute(sql, vec![]).unwrap_err().to_string();
        assert!(error.contains("belongs to the engine"), "{sql}: {error}");
    }
    file.execute("CREATE TRIGGER sly AFTER INSERT ON users BEGIN DELETE FROM _vexact_log; END", vec![]).unwrap();
    assert!(
        file.execute("INSERT INTO users VALUES (1, 'a', 1)", vec![])
            .unwrap_err()
            .to_string()
            .contains("belongs to the engine")
    );
    file.execute("DROP TRIGGER sly", vec![]).unwrap();
    file.execute("REPLACE INTO users VALUES (1, 'a', 1), (2, 'a', 1)", vec![]).unwrap();
    assert_eq!(file.number("SELECT count(*) FROM _vexact_log WHERE op = 0"), 2);
    // A migration may drop a captured table, and its triggers with it.
    file.execute("DROP TABLE users", vec![]).unwrap();
}

#[test]
fn a_refused_value_is_named_with_its_parameter() {
    let file = File::new(&[USERS]);
    file.register(schema("users", &[("id", "int64"), ("email", "utf8"), ("n", "int8")], &["id"]));
    let error =
        file.execute("INSERT INTO users VALUES (?, ?, ?)", vec![Value::Integer(1), text("a"), Value::Integer(300)]);
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("users.n: expected int8 (an integer from -128 to 127), got"), "{error}");
    assert!(error.contains("integer 300 (parameter 3)"), "{error}");
    let error = file.execute("INSERT INTO users VALUES (1, 'a', 300)", vec![]).unwrap_err().to_string();
    assert_eq!(error, "users.n: expected int8 (an integer from -128 to 127)");
}

#[test]
fn each_transaction_of_the_engine_ends_with_a_mark() {
    let file = File::new(&[USERS]);
    file.register(schema("users", &USER_COLUMNS, &["id"]));
    let operations = || {
        let work = |conn: &Connection| {
            let mut operations = Vec::new();
            log::each_change(conn, 0, i64::MAX, 0, |change| {
                operations.push(change.operation);
                Ok(())
            })?;
            Ok(operations)
        };
        file.runtime.block_on(file.oltp.read(work)).unwrap()
    };
    file.execute("INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 1)", vec![]).unwrap();
    file.execute("CREATE TABLE other(a)", vec![]).unwrap();
    file.batch(&["DELETE FROM users WHERE id = 1", "INSERT INTO other VALUES (1)"]).unwrap();
    use Operation::*;
    assert_eq!(operations(), [Commit, Row, Row, Commit, Gone, Commit]);
}
