//! SQL and searches on files.

use super::*;

const DOCS: &str = "id,title,lang,year,embedding\n\
    1,Ants,en,2020,[0.1 0.2]\n2,Bees,en,2021,[1 0]\n3,\"Käfer \"\"x\"\"\",de,2022,[0 1]\n4,,,,\n";

pub(super) fn with_csv() -> Folder {
    let folder = Folder::new();
    std::fs::write(folder.path("docs.csv"), DOCS).unwrap();
    folder
}

const SQL: [&str; 5] =
    ["csv-sql", "--csv", "docs.csv", "--query", "SELECT id, title FROM input_table ORDER BY id LIMIT 2"];

const SEARCH: [&str; 7] =
    ["vector-search", "--csv", "docs.csv", "--vector-column", "embedding", "--query-vector", "0.1,0.2"];

fn ids(answer: &Value) -> Vec<i64> {
    answer["rows"].as_array().unwrap().iter().map(|row| row["row_id"].as_i64().unwrap()).collect()
}

#[test]
fn sql_on_a_file_answers_with_its_rows() {
    let folder = with_csv();
    assert_eq!(
        folder.out(&SQL),
        "{\"ok\":true,\"table\":\"input_table\",\"query\":\"SELECT id, title FROM input_table ORDER BY id LIMIT 2\",\
         \"schema\":[{\"name\":\"id\",\"type\":\"int64\"},{\"name\":\"title\",\"type\":\"utf8\"}],\
         \"rows\":[{\"id\":1,\"title\":\"Ants\"},{\"id\":2,\"title\":\"Bees\"}]}\n"
    );
    let none = ["csv-sql", "--csv", "docs.csv", "--query", "SELECT id FROM input_table WHERE id > 99"];
    let answer = folder.answer(&none);
    assert_eq!((&answer["schema"], &answer["rows"]), (&json!([{"name": "id", "type": "int64"}]), &json!([])));
    let table = folder.out(&with(&SQL, &["--format", "table"]));
    assert_eq!(
        table,
        "+----+-------+\n| id | title |\n+----+-------+\n| 1  | Ants  |\n| 2  | Bees  |\n+----+-------+\n(2 rows)\n"
    );
}

#[test]
fn a_file_is_read_by_its_content_or_as_it_is_told() {
    let folder = with_csv();
    std::fs::write(folder.path("docs.tsv"), "a\tb\n1\tx\n").unwrap();
    std::fs::write(folder.path("lines"), "{\"a\": 1, \"b\": \"x\"}\n").unwrap();
    std::fs::write(folder.path("array.txt"), "[{\"a\": 1, \"b\": \"x\"}]").unwrap();
    std::fs::write(folder.path("semicolons.data"), "a;b\n1;x\n").unwrap();
    let write = ["csv-sql", "--csv", "docs.tsv", "--query", "SELECT * FROM input_table", "--output-path"];
    folder.answer(&with(&write, &["docs.parquet"]));
    for (file, more) in [
        ("docs.tsv", &[][..]),
        ("docs.tsv", &["--input-type", "csv"]),
        ("docs.tsv", &["--input-type", "csv", "--delimiter", "\\t"]),
        ("lines", &[]),
        ("lines", &["--input-type", "json"]),
        ("array.txt", &["--input-type", "json"]),
        ("semicolons.data", &["--delimiter", ";"]),
        ("docs.parquet", &[]),
        ("docs.parquet", &["--input-type", "parquet"]),
    ] {
        let sql = ["file-sql", "--input-path", file, "--table", "t", "--query", "SELECT * FROM t"];
        let answer = folder.answer(&with(&sql, more));
        assert_eq!((&answer["table"], &answer["rows"]), (&json!("t"), &json!([{"a": 1, "b": "x"}])), "{file} {more:?}");
    }
    for (file, kind) in [("docs.csv", "parquet"), ("docs.csv", "json"), ("lines", "parquet")] {
        let sql = ["file-sql", "--input-path", file, "--input-type", kind, "--query", "SELECT 1"];
        let error = failure(&sql, &folder.run(&sql), "value_error", "input");
        assert!(error.contains(file), "{error}");
    }
}

#[test]
fn rows_go_into_a_file_by_its_suffix() {
    let folder = with_csv();
    let all = "SELECT id, title, embedding FROM input_table ORDER BY id";
    for file in ["all.parquet", "all.csv", "ALL.CSV"] {
        let sql = ["csv-sql", "--csv", "docs.csv", "--query", all, "--output-path", file];
        let answer = folder.answer(&sql);
        assert_eq!((&answer["row_count"], &answer["truncated"]), (&json!(4), &json!(false)));
        assert_eq!(answer["output_path"], folder.path(file).canonicalize().unwrap().to_str().unwrap());
        let again =
            folder.answer(&["file-sql", "--input-path", file, "--query", "SELECT * FROM input_table ORDER BY id"]);
        assert_eq!((&again["rows"], &again["schema"]), (&answer["rows"], &answer["schema"]), "{file}");
    }
    let many = "SELECT value AS n FROM generate_series(1, 1000)";
    let answer = folder.answer(&["csv-sql", "--csv", "docs.csv", "--query", many, "--output-path", "many.arrow"]);
    assert_eq!(answer["rows"].as_array().unwrap().len(), 50);
    assert_eq!((&answer["row_count"], &answer["truncated"]), (&json!(1000), &json!(true)));
    assert!(std::fs::read(folder.path("many.arrow")).unwrap().starts_with(b"ARROW1"));
    let table =
        folder.out(&["csv-sql", "--csv", "docs.csv", "--query", many, "--output-path", "many.csv", "--format=table"]);
    assert!(table.contains("(first 50 of 1000 rows)\n") && table.trim_end().ends_with("many.csv"), "{table}");

    // A query that fails leaves the file as it was, and nothing else.
    let files = || std::fs::read_dir(folder.0.path()).unwrap().count();
    let (before, content) = (files(), std::fs::read(folder.path("all.csv")).unwrap());
    let sql =
        ["csv-sql", "--csv", "docs.csv", "--query", "SELECT 1 / (id - 4) FROM input_table", "--output-path", "all.csv"];
    failure(&sql, &folder.run(&sql), "value_error", "query");
    assert_eq!((files(), std::fs::read(folder.path("all.csv")).unwrap()), (before, content));
    for (path, error_type, phase) in [
        ("all.txt", "value_error", "arguments"),
        ("all", "value_error", "arguments"),
        ("no/all.csv", "file_not_found", "output"),
    ] {
        let sql = ["csv-sql", "--csv", "docs.csv", "--query", "SELECT 1", "--output-path", path];
        failure(&sql, &folder.run(&sql), error_type, phase);
    }
}

#[test]
fn a_search_of_a_file_returns_the_closest_first() {
    let folder = with_csv();
    let answer = folder.answer(&with(&SEARCH, &["--columns", "title"]));
    assert_eq!((&answer["metric"], &answer["top_k"]), (&json!("cosine"), &json!(5)));
    let names: Vec<&Value> = answer["schema"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(names, ["row_id", "score", "title"]);
    assert_eq!(ids(&answer), [0, 2, 1]);
    assert_eq!(answer["rows"][1], json!({"row_id": 2, "score": 0.10557280900008414, "title": "Käfer \"x\""}));
    assert!(answer["explain"]["strategy"].as_str().unwrap().contains("metric=cosine"));
    assert!(answer["explain"]["logical"].is_string() && answer["explain"]["physical"].is_string());
    std::fs::write(folder.path("query.json"), "[0.1, 0.2]").unwrap();
    let mut search = SEARCH;
    search[6] = "@query.json";
    assert_eq!(ids(&folder.answer(&with(&search, &["--top-k", "1", "--metric", "l2"]))), [0]);
    let table = folder.out(&with(&SEARCH, &["--format", "table"]));
    assert!(table.contains("| 2      | 0.1055") && table.contains("(3 rows)\nmode=exact-scan\n"), "{table}");
}

#[test]
fn a_search_is_narrowed_before_it_and_after_it() {
    let folder = with_csv();
    let within = |column: &'static str, op: &'static str, value: &'static str| {
        vec!["--where-column", column, "--where-op", op, "--where-value", value]
    };
    for (more, expected) in [
        (vec!["--where", "year > 2020"], vec![2, 1]),
        (within("lang", "=", "en"), vec![0, 1]),
        (within("lang", "eq", "en' OR '1'='1"), vec![]),
        (within("title", "=", "Käfer \"x\""), vec![2]),
        (within("title", "like", "%e%s"), vec![1]),
        (within("year", "ge", "2021"), vec![2, 1]),
        (within("year", "<", "2020.5"), vec![0]),
        (within("year", "!=", "-1"), vec![0, 2, 1]),
        ([within("lang", "=", "en"), vec!["--where", "id = 2 -- or more"]].concat(), vec![1]),
        (vec!["--score-threshold", "0.2"], vec![0, 2]),
        (vec!["--metric", "dot", "--score-threshold", "0.15"], vec![2]),
        (vec!["--score-threshold", "-1"], vec![]),
    ] {
        assert_eq!(ids(&folder.answer(&with(&SEARCH, &more))), expected, "{more:?}");
    }
    let answer = folder.answer(&with(&SEARCH, &["--score-threshold", "0.2"]));
    let strategy = answer["explain"]["strategy"].as_str().unwrap();
    assert!(strategy.contains("score_threshold=0.2") && strategy.contains("returned_rows=2"), "{strategy}");
    for (more, part) in [
        (within("nope", "=", "1"), "expected one of [id, title, lang, year, embedding], got \"nope\""),
        (within("year", "=", "x"), "expected Int64 for column \"year\", got \"x\""),
        (within("year", "like", "2%"), "like expects text"),
        (vec!["--where", "nope = 1"], "nope"),
        (vec!["--score-threshold", "nan"], "expected a number"),
        (vec!["--columns", "nope"], "nope"),
    ] {
        let search = with(&SEARCH, &more);
        let error = failure(&search, &folder.run(&search), "value_error", "search");
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn what_cannot_be_asked_of_a_file_says_why() {
    let folder = with_csv();
    std::fs::write(folder.path("bad.csv"), "v\n[1 2]\n[1 2]\n[1 2 3]\n").unwrap();
    std::fs::write(folder.path("empty.csv"), "").unwrap();
    let sql = |file: &'static str, query: &'static str| vec!["csv-sql", "--csv", file, "--query", query];
    for (arguments, error_type, phase, part) in [
        (sql("none.csv", "SELECT 1"), "file_not_found", "input", "file not found: none.csv"),
        (sql(".", "SELECT 1"), "value_error", "input", "columns: declared are"),
        (sql("empty.csv", "SELECT 1"), "value_error", "input", "empty.csv"),
        (sql("bad.csv", "SELECT 1"), "value_error", "input", "line 4"),
        (sql("docs.csv", "SELEC 1"), "value_error", "query", "SELEC"),
        (sql("docs.csv", "SELECT * FROM nope"), "value_error", "query", "nope"),
        (sql("docs.csv", "SELECT nope FROM input_table"), "value_error", "query", "nope"),
        (sql("docs.csv", "DELETE FROM input_table"), "value_error", "query", "DELETE is refused"),
        (sql("docs.csv", "SELECT id / 0 FROM input_table"), "value_error", "query", "Divide by zero"),
        (vec!["csv-sql", "--query", "SELECT 1"], "usage_error", "arguments", "--input-path"),
        (vec!["csv-sql", "--csv", "docs.csv"], "usage_error", "arguments", "--query"),
        (with(&sql("docs.csv", "SELECT 1"), &["--input-path", "x"]), "usage_error", "arguments", "cannot be used with"),
        (
            with(&sql("docs.csv", "SELECT 1"), &["--delimiter", ";;"]),
            "usage_error",
            "arguments",
            "expected one character",
        ),
        (with(&sql("docs.csv", "SELECT 1"), &["--input-type", "xml"]), "usage_error", "arguments", "xml"),
        (with(&SEARCH, &["--where-column", "id"]), "usage_error", "arguments", "--where-op"),
        (
            with(&SEARCH, &["--where-column", "id", "--where-op", "~", "--where-value", "1"]),
            "usage_error",
            "arguments",
            "'~'",
        ),
        (with(&SEARCH, &["--top-k", "-1"]), "usage_error", "arguments", "-1"),
    ] {
        let error = failure(&arguments, &folder.run(&arguments), error_type, phase);
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    let output = folder.run(&sql("none.csv", "SELECT 1"));
    let details = serde_json::from_slice::<Value>(&output.stdout).unwrap()["details"].take();
    assert_eq!(details, json!({"command": "csv-sql", "input_path": "none.csv"}));
    assert!(!folder.path("home").exists());
}

#[test]
fn shells_complete_the_commands() {
    let folder = Folder::new();
    for (shell, part) in [("bash", "-F _vexact vexact"), ("zsh", "#compdef vexact"), ("fish", "complete -c vexact")] {
        let script = folder.out(&["completions", shell]);
        assert!(script.contains(part) && script.contains("vexact __complete"), "{shell}");
    }
    assert!(folder.out(&["completions", "elvish"]).contains("vector-search"));
    assert_eq!(folder.out(&["__complete", "--", "run", "start", "--", "vec"]), "vector-search\n");
    assert_eq!(folder.out(&["__complete", "--", "db", "search", "--metric", ""]), "cosine\ndot\nl2\n");
    assert_eq!(folder.out(&["__complete", "--", "csv-sql", "--csv", ""]), "");
    failure(&["completions"], &folder.run(&["completions", "tcl"]), "usage_error", "arguments");
}
