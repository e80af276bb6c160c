//! The program `vexact` on real files: what it prints, where, and how it exits.

mod failures;
mod files;
mod runs;
mod streams;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with, in the end, the database `app.db`.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Four documents in a registered table.
    fn with_docs() -> Self {
        let folder = Self::new();
        folder.ok(&[
            "exec",
            "--create",
            "CREATE TABLE docs(id INTEGER PRIMARY KEY, title TEXT, lang TEXT, embedding BLOB)",
        ]);
        folder.ok(&["exec", "INSERT INTO docs VALUES (1, 'Ants', 'en', vector('[0.1,0.2]')), (2, 'Bees', 'en', vector('[1,0]')), (3, 'Käfer', 'de', vector('[0,1]')), (4, NULL, NULL, NULL)"]);
        folder.ok(&REGISTER);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A process of the program, its workspace within the folder.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vexact"));
        command.args(arguments).current_dir(self.0.path()).env("VEXACT_HOME", self.path("home"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// A command of `db` on `app.db`.
    fn db(&self, arguments: &[&str]) -> Output {
        let (command, rest) = arguments.split_first().unwrap();
        self.run(&[&["db", command, "--db", "app.db"], rest].concat())
    }

    /// The text of one that succeeds, with nothing on the standard error.
    fn text(&self, arguments: &[&str]) -> String {
        succeeded(arguments, self.db(arguments))
    }

    /// The text of any command that succeeds, with nothing on the standard error.
    fn out(&self, arguments: &[&str]) -> String {
        succeeded(arguments, self.run(arguments))
    }

    /// Its answer.
    fn answer(&self, arguments: &[&str]) -> Value {
        let answer: Value = serde_json::from_str(&self.out(arguments)).unwrap();
        assert_eq!(answer["ok"], true);
        answer
    }

    fn ok(&self, arguments: &[&str]) -> Value {
        let answer: Value = serde_json::from_str(&self.text(arguments)).unwrap();
        assert_eq!(answer["ok"], true);
        answer
    }

    fn rows(&self, sql: &str) -> Value {
        self.ok(&["query", sql])["rows"].take()
    }

    /// The error object of a command that fails with this type, in this phase.
    fn fails(&self, arguments: &[&str], error_type: &str, phase: &str) -> String {
        failure(arguments, &self.db(arguments), error_type, phase)
    }
}

/// The text of a success, with nothing on the standard error.
fn succeeded(arguments: &[&str], output: Output) -> String {
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{arguments:?}: {stdout}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{arguments:?}");
    stdout
}

/// The error of a failure; its object is all that was printed.
fn failure(arguments: &[&str], output: &Output, error_type: &str, phase: &str) -> String {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stdout}");
    assert_eq!(stdout.matches('\n').count(), 1, "{stdout}");
    let failure: Value = serde_json::from_str(&stdout).unwrap();
    let names: Vec<&String> = failure.as_object().unwrap().keys().collect();
    assert_eq!(names, ["details", "error", "error_type", "ok", "phase"]);
    assert_eq!(failure["ok"], false);
    assert_eq!(failure["error_type"], error_type, "{arguments:?}: {stdout}");
    assert_eq!(failure["phase"], phase, "{arguments:?}: {stdout}");
    assert!(failure["details"].is_object());
    failure["error"].as_str().unwrap().to_owned()
}

#[rustfmt::skip]
const REGISTER: [&str; 14] = [
    "register", "--table", "docs", "--column", "id:int64", "--column", "title:utf8", "--column", "lang:utf8",
    "--column", "embedding:vector(2)", "--key", "id", "--initial-sync",
];

const SEARCH: [&str; 7] = ["search", "--table", "docs", "--column", "embedding", "--query-vector", "0.1,0.2"];

fn with<'a>(arguments: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [arguments, more].concat()
}

#[test]
fn exec_says_how_many_rows_and_creates_the_file_if_it_is_told() {
    let folder = Folder::new();
    assert_eq!(folder.text(&["exec", "--create", "CREATE TABLE t(a, b)"]), "{\"ok\":true,\"rows_affected\":0}\n");
    assert_eq!(folder.ok(&["exec", "INSERT INTO t VALUES (1, 2), (3, 4)"])["rows_affected"], 2);
    let several = ["exec", "INSERT INTO t VALUES (5, 6); UPDATE t SET b = 0;", "DELETE FROM t WHERE a = 1"];
    assert_eq!(folder.ok(&several)["rows_affected"], 5);
    assert_eq!(folder.rows("SELECT a FROM t"), json!([{"a": 3}, {"a": 5}]));
}

#[test]
fn several_statements_are_all_or_nothing() {
    let folder = Folder::with_docs();
    let error =
        folder.fails(&["exec", "DELETE FROM docs", "INSERT INTO docs(id) VALUES (9), (9)"], "value_error", "execute");
    assert!(error.contains("statement 2 of 2") && error.contains("UNIQUE constraint failed: docs.id"), "{error}");
    assert_eq!(folder.rows("SELECT count(*) AS n FROM docs"), json!([{"n": 4}]));
}

#[test]
fn a_file_of_statements_may_have_triggers_and_comments() {
    let folder = Folder::new();
    let script = "-- tables;\nCREATE TABLE t(a); CREATE TABLE log(a);\n\
        CREATE TRIGGER copy AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.a); INSERT INTO log VALUES (';'); END;\n\
        INSERT INTO t VALUES ('it''s;'); /* the end; */\n";
    std::fs::write(folder.path("schema.sql"), script).unwrap();
    folder.ok(&["exec", "--create", "--file", "schema.sql"]);
    assert_eq!(folder.rows("SELECT a FROM log"), json!([{"a": "it's;"}, {"a": ";"}]));
    folder.fails(&["exec", "--file", "none.sql"], "file_not_found", "arguments");
}

#[test]
fn parameters_are_json_where_they_are_json() {
    let folder = Folder::new();
    folder.ok(&["exec", "--create", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)"]);
    std::fs::write(folder.path("vector.json"), "[1, 2.5]\n").unwrap();
    std::fs::write(folder.path("text.txt"), "two\nlines\r\n").unwrap();
    for (param, kind, shown) in [
        ("5", "integer", json!("5")),
        ("-5", "integer", json!("-5")),
        ("9223372036854775807", "integer", json!("9223372036854775807")),
        ("9223372036854775808", "text", json!("9223372036854775808")),
        ("123456789012345678901234567890", "text", json!("123456789012345678901234567890")),
        ("1.5", "real", json!("1.5")),
        ("1e3", "real", json!("1000.0")),
        ("true", "integer", json!("1")),
        ("null", "null", json!("NULL")),
        ("\"5\"", "text", json!("'5'")),
        ("05", "text", json!("'05'")),
        ("", "text", json!("''")),
        ("it's", "text", json!("'it''s'")),
        ("--x", "text", json!("'--x'")),
        ("[1, 2.5]", "blob", json!("X'0000803F00002040'")),
        ("[1, \"x\"]", "text", json!("'[1, \"x\"]'")),
        ("{\"a\": 1}", "text", json!("'{\"a\": 1}'")),
        ("@vector.json", "blob", json!("X'0000803F00002040'")),
        ("@text.txt", "text", json!("'two\nlines'")),
        ("\"@text.txt\"", "text", json!("'@text.txt'")),
    ] {
        folder.ok(&["exec", "--param", param, "INSERT OR REPLACE INTO t VALUES (1, ?)"]);
        let row = &folder.rows("SELECT typeof(v) AS kind, quote(v) AS shown FROM t")[0];
        let shown = if kind == "text" && !shown.as_str().unwrap().starts_with('\'') {
            json!(format!("'{}'", shown.as_str().unwrap()))
        } else {
            shown
        };
        assert_eq!(*row, json!({"kind": kind, "shown": shown}), "{param}");
    }
    folder.fails(&["exec", "--param", "[1e300]", "INSERT INTO t VALUES (2, ?)"], "usage_error", "arguments");
    let error = folder.fails(&["exec", "--param", "@none.json", "SELECT ?"], "usage_error", "arguments");
    assert!(error.contains("none.json"), "{error}");
    folder.fails(&["exec", "--param", "1", "SELECT ?; SELECT ?"], "usage_error", "arguments");
    folder.fails(&["exec", "INSERT INTO t VALUES (2, ?)"], "value_error", "execute");
}

#[test]
fn a_query_names_its_route_and_its_columns_in_order() {
    let folder = Folder::with_docs();
    assert_eq!(
        folder.text(&["query", "--param", "1", "SELECT title, id, embedding FROM docs WHERE id = ?"]),
        "{\"ok\":true,\"route\":{\"side\":\"sqlite\",\"reason\":\"a plain SELECT of rows\"},\"schema\":[{\"name\":\"title\",\
         \"type\":\"utf8\"},{\"name\":\"id\",\"type\":\"int64\"},{\"name\":\"embedding\",\"type\":\"vector(2)\"}],\"rows\":\
         [{\"title\":\"Ants\",\"id\":1,\"embedding\":[0.1,0.2]}]}\n"
    );
    let answer =
        folder.ok(&["query", "--param", "en", "SELECT lang, count(*) AS n FROM docs WHERE lang = $1 GROUP BY 1"]);
    assert_eq!(answer["route"]["side"], "olap");
    assert_eq!(answer["rows"], json!([{"lang": "en", "n": 2}]));
    let answer = folder.ok(&["query", "--olap", "SELECT id FROM docs WHERE id > 99"]);
    assert_eq!(answer["route"], json!({"side": "olap", "reason": "asked for"}));
    assert_eq!((&answer["schema"], &answer["rows"]), (&json!([{"name": "id", "type": "int64"}]), &json!([])));
}

#[test]
fn values_keep_what_json_can_keep() {
    let folder = Folder::with_docs();
    let text = folder.text(&[
        "query",
        "SELECT 9007199254740993 AS big, 0.1 AS tenth, -0.0 AS zero, 9e999 AS inf, x'00ff' AS blob, NULL AS none, \
         'é\"' AS text, 1 AS n, 2 AS n, 3 AS n_2",
    ]);
    let rows = "[{\"big\":9007199254740993,\"tenth\":0.1,\"zero\":-0.0,\"inf\":\"Infinity\",\"blob\":\"00ff\",\"none\":null,\
        \"text\":\"é\\\"\",\"n\":1,\"n_3\":2,\"n_2\":3}]}\n";
    assert!(text.ends_with(rows), "{text}");
    let text = folder.text(&[
        "query",
        "--olap",
        "SELECT arrow_cast('NaN', 'Float64') AS nan, arrow_cast('-inf', 'Float64') AS low, arrow_cast(0.1, 'Float32') AS f32, \
         arrow_cast(18446744073709551615, 'UInt64') AS u64, arrow_cast(1.5, 'Decimal128(5,2)') AS decimal, \
         timestamp '2024-01-02T03:04:05' AS time, date '2024-01-02' AS day, struct(1 AS a, 'b' AS b) AS s, \
         make_array(1, NULL) AS list, arrow_cast('x', 'Dictionary(Int32, Utf8)') AS dictionary, true AS yes",
    ]);
    let rows = "[{\"nan\":\"NaN\",\"low\":\"-Infinity\",\"f32\":0.1,\"u64\":18446744073709551615,\"decimal\":\"1.50\",\
        \"time\":\"2024-01-02T03:04:05\",\"day\":\"2024-01-02\",\"s\":{\"a\":1,\"b\":\"b\"},\"list\":[1,null],\
        \"dictionary\":\"x\",\"yes\":true}]}\n";
    assert!(text.ends_with(rows), "{text}");
}

#[test]
fn values_of_a_mixed_column_keep_their_types() {
    let folder = Folder::with_docs();
    let mixed = "SELECT CASE id WHEN 1 THEN 7 WHEN 2 THEN 'x' WHEN 3 THEN 0.5 END AS v FROM docs ORDER BY id";
    let answer = folder.ok(&["query", mixed]);
    assert_eq!(answer["schema"], json!([{"name": "v", "type": "any"}]));
    assert_eq!(answer["rows"], json!([{"v": 7}, {"v": "x"}, {"v": 0.5}, {"v": null}]));
    let table = folder.text(&["query", "--format", "table", mixed]);
    assert!(
        table.starts_with("+------+\n| v    |\n+------+\n| 7    |\n| x    |\n| 0.5  |\n| NULL |\n+------+\n"),
        "{table}"
    );
}

#[test]
fn a_registration_stays_in_the_file() {
    let folder = Folder::new();
    folder.ok(&["exec", "--create", "CREATE TABLE docs(id INTEGER PRIMARY KEY, title TEXT, lang TEXT, embedding BLOB); INSERT INTO docs(id) VALUES (1)"]);
    let answer = folder.ok(&REGISTER);
    assert_eq!((&answer["table"], &answer["key"], &answer["rows"]), (&json!("docs"), &json!(["id"]), &json!(1)));
    assert_eq!(answer["columns"][3], json!({"name": "embedding", "type": "vector(2)"}));
    assert_eq!(folder.ok(&REGISTER)["rows"], 1);
    let other = ["register", "--table", "docs", "--column", "id:int32", "--key", "id"];
    let error = folder.fails(&other, "value_error", "register");
    assert!(error.contains("another schema"), "{error}");
    let unknown = ["register", "--table", "docs", "--column", "id:int128", "--key", "id"];
    let error = folder.fails(&unknown, "value_error", "arguments");
    assert!(error.contains("unknown type: int128"), "{error}");
    folder.fails(&["register", "--table", "docs", "--column", "id", "--key", "id"], "usage_error", "arguments");
    let missing = ["register", "--table", "none", "--column", "id:int64", "--key", "id"];
    folder.fails(&missing, "value_error", "register");
}

#[test]
fn two_key_columns_are_a_list() {
    let folder = Folder::new();
    folder.ok(&[
        "exec",
        "--create",
        "CREATE TABLE t(a INTEGER, b TEXT, PRIMARY KEY (a, b)); INSERT INTO t VALUES (1, 'x')",
    ]);
    let register = ["register", "--table", "t", "--column", "a:int64", "--column", "b:utf8", "--key", "a,b"];
    let answer = folder.ok(&register);
    assert_eq!((&answer["key"], &answer["unloaded_rows"]), (&json!(["a", "b"]), &json!(1)));
}

#[test]
fn a_search_returns_the_closest_first() {
    let folder = Folder::with_docs();
    let answer = folder.ok(&with(&SEARCH, &["--top-k", "2", "--columns", "title,lang"]));
    assert_eq!((&answer["metric"], &answer["top_k"]), (&json!("cosine"), &json!(2)));
    let names: Vec<&str> = answer["schema"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["id", "score", "title", "lang"]);
    assert_eq!(answer["rows"][0]["title"], "Ants");
    assert_eq!(answer["rows"][1]["title"], "Käfer");
    assert!(answer.get("explain").is_none());

    let answer = folder.ok(&with(&SEARCH, &["--metric", "l2", "--where", "lang = 'de'", "--explain"]));
    assert_eq!(answer["rows"].as_array().unwrap().len(), 1);
    assert!(answer["explain"]["strategy"].as_str().unwrap().contains("metric=l2"));
    assert!(answer["explain"]["logical"].is_string() && answer["explain"]["physical"].is_string());

    std::fs::write(folder.path("query.json"), "[-0.1,\n 0.2]\n").unwrap();
    let mut search = SEARCH;
    for same in ["-0.1,0.2", "[-0.1, 0.2]", "@query.json"] {
        search[6] = same;
        assert_eq!(folder.ok(&search)["rows"][0], json!({"id": 3, "score": 0.10557280900008414}), "{same}");
    }
}

#[test]
fn sync_and_status_say_where_replication_stands() {
    let folder = Folder::with_docs();
    let nothing = json!({"ok": true, "events_processed": 0, "rows_inserted": 0, "rows_updated": 0, "rows_deleted": 0, "pruned_count": null});
    assert_eq!(folder.ok(&["sync"]), nothing);
    assert_eq!(folder.ok(&["sync", "--mode", "temporal"]), nothing);
    let copied = folder.ok(&["sync", "--table", "docs"]);
    assert_eq!((&copied["table"], &copied["rows_copied"]), (&json!("docs"), &json!(4)));
    let docs = json!({"name": "docs", "rows": 4, "lag": 0, "state": "ready", "last_error": null, "warning": null});
    let status = folder.ok(&["status"]);
    assert_eq!((&status["lag"], &status["last_error"]), (&json!(0), &Value::Null));
    assert_eq!(status["tables"], json!([docs]));
    folder.fails(&["sync", "--table", "none"], "value_error", "sync");
    folder.fails(&["sync", "--mode", "mirror"], "usage_error", "arguments");
}

#[test]
fn replicas_that_are_kept_in_files_are_opened_by_each_command() {
    let folder = Folder::with_docs();
    for (storage, mode) in [("parquet", "destructive"), ("arrow_ipc", "temporal")] {
        let kept = ["--storage-path", storage];
        let made = with(&["sync", "--storage-mode", storage, "--mode", mode], &kept);
        assert_eq!(folder.ok(&made)["events_processed"], 0);
        assert!(folder.path(storage).join("manifest.json").is_file());
        // From here on the folder says what it is.
        let rows = folder.ok(&with(&["query", "--olap", "SELECT count(*) AS n FROM docs"], &kept))["rows"].take();
        assert_eq!(rows, json!([{"n": 4}]));
        folder.ok(&["exec", "UPDATE docs SET title = 'Wasps' WHERE id = 2"]);
        // Applied as the file is opened.
        assert_eq!(folder.ok(&with(&["sync"], &kept))["events_processed"], 0);
        let found = folder.ok(&with(&with(&SEARCH, &["--columns", "title", "--metric", "l2"]), &kept));
        assert!(found["rows"].as_array().unwrap().iter().any(|row| row["title"] == "Wasps"), "{found}");
        let history = with(&["query", "--olap", "SELECT count(*) AS n FROM docs"], &kept);
        let rows = if mode == "temporal" { 5 } else { 4 };
        assert_eq!(folder.ok(&history)["rows"], json!([{"n": rows}]));
        let other = if storage == "parquet" { "arrow_ipc" } else { "parquet" };
        let error = folder.fails(&with(&["status", "--storage-mode", other], &kept), "value_error", "open");
        assert!(error.contains("expected a folder of"), "{error}");
    }
    folder.fails(&["status", "--storage-mode", "parquet"], "usage_error", "arguments");
}

#[test]
fn tables_for_people_have_no_json() {
    let folder = Folder::with_docs();
    let query = folder.text(&[
        "query",
        "--format",
        "table",
        "SELECT lang, count(*) AS n FROM docs GROUP BY lang ORDER BY n, lang",
    ]);
    assert_eq!(
        query,
        "+------+---+\n| lang | n |\n+------+---+\n| NULL | 1 |\n| de   | 1 |\n| en   | 2 |\n+------+---+\n(3 rows)\n\
         olap: the query has GROUP BY\n"
    );
    let search = folder.text(&with(&SEARCH, &["--format=table", "--columns", "title", "--explain"]));
    assert!(search.contains("| title |") && search.contains("\nstrategy\n"), "{search}");
    assert!(folder.text(&["status", "--format", "table"]).contains("| docs  | 4    | 0   | ready |"));
    assert!(folder.text(&["sync", "--table", "docs", "--format", "table"]).starts_with("docs: 4 rows copied\n+"));
    assert_eq!(folder.text(&["exec", "--format", "table", "DELETE FROM docs WHERE id = 4"]), "1 rows affected\n");
    assert!(folder.text(&with(&REGISTER, &["--format", "table"])).starts_with("docs: registered, 3 rows"));
    for arguments in [["--format", "table", "db", "nope"], ["db", "status", "--format=table", "--db=none.db"]] {
        let output = folder.run(&arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        assert!(String::from_utf8(output.stderr).unwrap().starts_with("error: "));
    }
}

#[test]
fn help_teaches_by_example() {
    let folder = Folder::new();
    for command in ["exec", "query", "register", "sync", "search", "status"] {
        for arguments in [["db", command, "--help"], ["db", "help", command]] {
            let output = folder.run(&arguments);
            let help = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success() && output.stderr.is_empty());
            assert!(help.contains("Answer: {\"ok\": true"), "{help}");
            assert!(help.contains(&format!("  vexact db {command} --db app.db")), "{help}");
        }
    }
    for (arguments, part) in [(&["--help"][..], "vexact db query"), (&["db", "-h"], "register")] {
        let output = folder.run(arguments);
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(part));
    }
    let version = folder.run(&["--version"]);
    assert!(version.status.success());
    assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("vexact {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn processes_share_one_file() {
    let folder = Folder::with_docs();
    let command = |arguments: &[&str]| folder.command(arguments).spawn().unwrap();
    let mut running = Vec::new();
    for id in 10..16 {
        let id = id.to_string();
        let insert = "INSERT INTO docs VALUES (?, 'x', 'fr', vector('[1,1]'))";
        running.push(command(&["db", "exec", "--db", "app.db", "--param", &id, insert]));
        running.push(command(&["db", "query", "--db", "app.db", "SELECT count(*) FROM docs"]));
    }
    for process in running {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let french = "SELECT count(*) AS n FROM docs WHERE lang = 'fr'";
    assert_eq!(folder.rows(french), json!([{"n": 6}]));
    assert_eq!(folder.ok(&["status"])["tables"][0]["rows"], 10);
}
