//! Tracked runs: what they leave, how they end, and that processes share a workspace.

use std::process::Child;
use std::time::{Duration, Instant};

use super::files::with_csv;
use super::*;

const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 10000000) AS a, generate_series(1, 10000000) AS b";

fn sql<'a>(options: &[&'a str], query: &'a str) -> Vec<&'a str> {
    [&["run", "start"], options, &["--", "csv-sql", "--csv", "docs.csv", "--query", query]].concat()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The error object of a tracked run, with the run's id.
fn run_failure(output: &Output, error_type: &str, phase: &str) -> (String, Value) {
    assert_eq!(output.status.code(), Some(1));
    let failure: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&failure["ok"], &failure["error_type"], &failure["phase"]),
        (&json!(false), &json!(error_type), &json!(phase)),
        "{failure}"
    );
    (text(&failure["run_id"]), failure)
}

/// The only run, once it is running.
fn running(folder: &Folder) -> String {
    let start = Instant::now();
    loop {
        let runs = folder.answer(&["run", "list", "--status", "running"])["runs"].take();
        if let Some(run) = runs.as_array().unwrap().first() {
            return text(&run["run_id"]);
        }
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn a_run_keeps_what_was_asked_and_what_came_of_it() {
    let folder = with_csv();
    let options = ["--run-name", "ants", "--description", "all of them", "--tag", "a", "--tag", "b", "--tag", "a"];
    let started = folder.answer(&sql(&options, "SELECT * FROM input_table ORDER BY id"));
    let keys: Vec<&String> = started.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["action", "artifacts", "ok", "result", "run_dir", "run_id", "status", "tags"]);
    assert_eq!(
        (&started["status"], &started["action"], &started["tags"]),
        (&json!("succeeded"), &json!("csv-sql"), &json!(["a", "b"]))
    );
    assert_eq!(started["result"]["rows"][2]["title"], "Käfer \"x\"");
    assert_eq!((&started["result"]["row_count"], &started["result"]["truncated"]), (&json!(4), &json!(false)));
    let (run_id, run_dir) = (text(&started["run_id"]), PathBuf::from(text(&started["run_dir"])));
    assert_eq!(run_dir, folder.path("home").join("runs").join(&run_id));

    let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(run_dir.join(name)).unwrap()).unwrap() };
    assert_eq!((&read("run.json")["status"], &read("run.json")["row_count"]), (&json!("succeeded"), &json!(4)));
    assert_eq!(read("inputs.json")["options"]["query"], "SELECT * FROM input_table ORDER BY id");
    assert_eq!(read("stdout.log")["rows"], started["result"]["rows"]);
    assert!(read("explain.json")["logical"].as_str().unwrap().contains("TableScan"));
    assert_eq!(std::fs::read_to_string(run_dir.join("stderr.log")).unwrap(), "");
    assert!(!run_dir.join("lock").exists());

    let of_run = |command: &'static str| vec!["run", command, "--run-id", run_id.as_str()];
    let shown = folder.answer(&of_run("show"));
    assert_eq!((&shown["run"]["run_name"], &shown["run"]["description"]), (&json!("ants"), &json!("all of them")));
    assert_eq!(shown["artifacts"], started["artifacts"]);
    let status = folder.answer(&of_run("status"));
    assert_eq!((&status["artifact_count"], &status["latest_progress"]["rows"]), (&json!(2), &json!(4)));
    assert_eq!(folder.answer(&with(&of_run("status"), &["--limit", "1"]))["artifacts"].as_array().unwrap().len(), 1);
    let result = folder.answer(&with(&of_run("result"), &["--limit", "2"]));
    assert_eq!(result["result"]["rows"], json!(started["result"]["rows"].as_array().unwrap()[..2]));
    assert_eq!((&result["result"]["row_count"], &result["result"]["truncated"]), (&json!(4), &json!(true)));
    assert_eq!(result["artifact"]["format"], "parquet");

    let artifacts = folder.answer(&["artifacts", "list", "--run-id", &run_id])["artifacts"].take();
    assert_eq!(artifacts, started["artifacts"]);
    let id = text(&artifacts[0]["artifact_id"]);
    let preview = folder.answer(&["artifacts", "preview", "--artifact-id", &id, "--limit", "1"]);
    assert_eq!((&preview["artifact_id"], &preview["preview"]["rows"][0]["id"]), (&json!(id), &json!(1)));
    assert_eq!((&preview["preview"]["row_count"], &preview["preview"]["truncated"]), (&json!(4), &json!(true)));
    assert_eq!(preview["artifact"], artifacts[0]);
}

#[test]
fn a_large_result_stays_in_its_file() {
    let folder = with_csv();
    let started =
        folder.answer(&sql(&[], "SELECT value AS n, repeat('x', 10000) AS text FROM generate_series(1, 300)"));
    let rows = started["result"]["rows"].as_array().unwrap().len();
    assert!(rows > 0 && rows < 25, "{rows}");
    assert_eq!((&started["result"]["row_count"], &started["result"]["truncated"]), (&json!(300), &json!(true)));
    let result = folder.answer(&["run", "result", "--run-id", &text(&started["run_id"]), "--limit", "1000"]);
    assert_eq!(result["result"]["rows"].as_array().unwrap().len(), 300);
    assert_eq!(result["result"]["truncated"], false);
    // Into a file of one's own, in a form that is not Parquet's.
    let query = "SELECT value AS n FROM generate_series(1, 3) ORDER BY n DESC";
    let started = folder.answer(&with(&sql(&[], query), &["--output-path", "out.csv"]));
    assert_eq!(started["artifacts"][0]["path"], folder.path("out.csv").to_str().unwrap());
    let result = folder.answer(&["run", "result", "--run-id", &text(&started["run_id"])]);
    assert_eq!(result["result"]["rows"], json!([{"n": 3}, {"n": 2}, {"n": 1}]));
}

#[test]
fn runs_are_found_by_what_they_were() {
    let folder = with_csv();
    let first = folder.answer(&sql(&["--tag", "nightly"], "SELECT 'Needle' AS x"))["run_id"].take();
    let search = [
        "run",
        "start",
        "--",
        "vector-search",
        "--csv",
        "docs.csv",
        "--vector-column",
        "embedding",
        "--query-vector",
        "-0.1,0.2",
    ];
    let second = folder.answer(&search)["run_id"].take();
    run_failure(&folder.run(&sql(&[], "SELECT nope")), "value_error", "query");
    let found = |more: &[&str]| -> Vec<Value> {
        let runs = folder.answer(&[&["run", "list"], more].concat())["runs"].take();
        runs.as_array().unwrap().iter().map(|run| run["run_id"].clone()).collect()
    };
    assert_eq!(found(&[]).len(), 3);
    assert_eq!(found(&["--tag", "nightly"]), std::slice::from_ref(&first));
    assert_eq!(found(&["--query", "needle"]), [first]);
    assert_eq!(found(&["--action", "vector-search"]), std::slice::from_ref(&second));
    assert_eq!(found(&["--status", "succeeded", "--limit", "1"]), [second]);
    assert_eq!(found(&["--status", "failed"]).len(), 1);
    assert_eq!(found(&["--status", "timed_out"]).len(), 0);
    let list = ["run", "list", "--status", "done"];
    let error = failure(&list, &folder.run(&list), "usage_error", "arguments");
    assert!(error.contains("timed_out"), "{error}");
    let table = folder.out(&["run", "list", "--format", "table"]);
    assert!(table.contains("| vector-search | succeeded |") && table.contains("(3 runs)\n"), "{table}");
}

#[test]
fn a_run_that_fails_is_kept_with_its_reason() {
    let folder = with_csv();
    let (run_id, failure) =
        run_failure(&folder.run(&sql(&[], "SELECT id / 0 FROM input_table")), "value_error", "query");
    assert!(failure["error"].as_str().unwrap().contains("Divide by zero"));
    assert_eq!(failure["details"], json!({"command": "run start", "action": "csv-sql", "input_path": "docs.csv"}));
    let shown = folder.answer(&["run", "show", "--run-id", &run_id]);
    assert_eq!(
        (&shown["run"]["status"], &shown["run"]["error"]["error_type"]),
        (&json!("failed"), &json!("value_error"))
    );
    assert_eq!((&shown["run"]["error"]["error"], &shown["artifacts"]), (&failure["error"], &json!([])));
    let run_dir = PathBuf::from(text(&shown["run"]["run_dir"]));
    assert!(std::fs::read_to_string(run_dir.join("stderr.log")).unwrap().starts_with("error: "));
    assert_eq!(std::fs::read_dir(run_dir.join("artifacts")).unwrap().count(), 0);
    let (of_run, failure) =
        run_failure(&folder.run(&["run", "result", "--run-id", &run_id]), "value_error", "workspace");
    assert!(of_run == run_id && failure["error"].as_str().unwrap().contains("Divide by zero"), "{failure}");

    let missing = ["run", "start", "--", "csv-sql", "--csv", "none.csv", "--query", "SELECT 1"];
    run_failure(&folder.run(&missing), "file_not_found", "input");
    // Arguments that are no valid command start no run.
    let count = folder.answer(&["run", "list"])["runs"].as_array().unwrap().len();
    for (arguments, part) in [
        (&["run", "start"][..], "ACTION"),
        (&["run", "start", "--"], "ACTION"),
        (&["run", "start", "--", "csv-sq"], "csv-sq"),
        (&["run", "start", "--", "csv-sql", "--csv", "docs.csv"], "--query"),
        (&["run", "show"], "--run-id"),
        (&["run", "cleanup"], "--keep-last"),
    ] {
        let error = super::failure(arguments, &folder.run(arguments), "usage_error", "arguments");
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(folder.answer(&["run", "list"])["runs"].as_array().unwrap().len(), count);
    for arguments in [&["run", "show", "--run-id", "../x"][..], &["artifacts", "preview", "--artifact-id", "x"]] {
        super::failure(arguments, &folder.run(arguments), "value_error", "workspace");
    }
    let help = folder.out(&["run", "start", "--", "csv-sql", "--help"]);
    assert!(help.contains("vexact run start -- csv-sql [OPTIONS]"), "{help}");
}

#[test]
fn a_timeout_ends_a_run_as_timed_out() {
    let folder = with_csv();
    let (run_id, failure) = run_failure(&folder.run(&sql(&["--timeout-ms", "300"], ENDLESS)), "timeout", "run");
    assert_eq!(
        (&failure["error"], &failure["details"]["timeout_ms"]),
        (&json!("expected an end within 300 ms, got none"), &json!(300))
    );
    let run = folder.answer(&["run", "show", "--run-id", &run_id])["run"].take();
    assert_eq!((&run["status"], &run["timeout_ms"]), (&json!("timed_out"), &json!(300)));
    assert!(run["duration_ms"].as_u64().unwrap() >= 300);
    assert_eq!(std::fs::read_dir(PathBuf::from(text(&run["run_dir"])).join("artifacts")).unwrap().count(), 0);
}

#[test]
fn a_run_whose_process_is_killed_is_orphaned() {
    let folder = with_csv();
    let mut process: Child = folder.command(&sql(&[], ENDLESS)).spawn().unwrap();
    let run_id = running(&folder);
    assert_eq!(folder.answer(&["run", "status", "--run-id", &run_id])["status"], "running");
    assert_eq!(folder.answer(&["run", "cleanup", "--keep-last", "0", "--delete-files"])["deleted_run_ids"], json!([]));
    process.kill().unwrap();
    process.wait().unwrap();
    let status = folder.answer(&["run", "status", "--run-id", &run_id]);
    assert_eq!((&status["status"], &status["error"]["error_type"]), (&json!("failed"), &json!("orphaned")));
    assert_eq!(folder.answer(&["run", "list", "--status", "running"])["runs"], json!([]));
    let cleaned = folder.answer(&["run", "cleanup", "--keep-last", "0", "--delete-files"]);
    assert_eq!(cleaned["deleted_run_ids"], json!([run_id]));
    assert!(!folder.path("home").join("runs").join(run_id).exists());
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_run_as_cancelled() {
    let folder = with_csv();
    for signal in ["INT", "TERM"] {
        let process = folder.command(&with(&sql(&[], ENDLESS), &["--output-path", "out.parquet"])).spawn().unwrap();
        let run_id = running(&folder);
        let sent = Command::new("kill").args([format!("-{signal}"), process.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let (of_run, failure) = run_failure(&process.wait_with_output().unwrap(), "internal_error", "run");
        assert_eq!((of_run, &failure["error"]), (run_id.clone(), &json!(format!("cancelled by SIG{signal}"))));
        assert_eq!(folder.answer(&["run", "status", "--run-id", &run_id])["status"], "cancelled");
        let left: Vec<_> =
            std::fs::read_dir(folder.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}

#[test]
fn a_diff_compares_what_was_asked_and_the_rows() {
    let folder = with_csv();
    let run = |query: &str, more: &[&str]| text(&folder.answer(&with(&sql(&[], query), more))["run_id"]);
    let first = run("SELECT id, title FROM input_table ORDER BY id", &[]);
    let reversed = run("SELECT id, title FROM input_table ORDER BY id DESC", &["--output-path", "out.csv"]);
    let changed = run("SELECT id + id / 4 AS id, title FROM input_table", &[]);
    let other = run("SELECT id FROM input_table", &[]);
    let diff = |other: &str| folder.answer(&["run", "diff", "--run-id", &first, "--other-run-id", other]);
    let nothing = json!({"same": 4, "only_in_run": 0, "only_in_other": 0, "examples_only_in_run": [], "examples_only_in_other": []});
    assert_eq!((&diff(&first)["changes"], &diff(&first)["rows"]), (&json!([]), &nothing));
    let found = diff(&reversed);
    assert_eq!(found["rows"], nothing);
    let fields: Vec<&Value> = found["changes"].as_array().unwrap().iter().map(|change| &change["field"]).collect();
    assert_eq!(fields, ["inputs.options.output_path", "inputs.options.query"]);
    assert_eq!(
        diff(&changed)["rows"],
        json!({
            "same": 3, "only_in_run": 1, "only_in_other": 1,
            "examples_only_in_run": [{"id": 4, "title": null}], "examples_only_in_other": [{"id": 5, "title": null}],
        })
    );
    assert_eq!(diff(&other)["rows"], Value::Null);
    let table = folder.out(&["run", "diff", "--run-id", &first, "--other-run-id", &changed, "--format", "table"]);
    assert!(table.contains("rows: 3 the same, 1 only in run, 1 only in other\n  - {\"id\":4"), "{table}");
}

#[test]
fn tables_of_runs_are_for_people() {
    let folder = with_csv();
    let table = folder.out(&with(
        &["run", "start", "--format=table", "--tag", "x", "--"],
        &["csv-sql", "--csv", "docs.csv", "--query", "SELECT 1 AS one"],
    ));
    assert!(table.starts_with("+-----+\n| one |\n") && table.contains(": succeeded, in "), "{table}");
    let run_id = text(&folder.answer(&["run", "list"])["runs"][0]["run_id"]);
    for (arguments, part) in [
        (&["run", "show", "--run-id", &run_id][..], "  tags: x\n"),
        (&["run", "status", "--run-id", &run_id], "csv-sql, succeeded, "),
        (&["run", "result", "--run-id", &run_id], "(1 row)\n"),
        (&["artifacts", "list"], "result.parquet |\n"),
        (&["artifacts", "preview", "--artifact-id", &format!("{run_id}.explain")], "| mode=sql |"),
        (&["run", "cleanup", "--keep-last", "0"], "1 runs forgotten, 0 folders deleted\n"),
    ] {
        let table = folder.out(&with(arguments, &["--format", "table"]));
        assert!(table.contains(part), "{arguments:?}: {table}");
    }
    assert_eq!(folder.out(&["artifacts", "list", "--format", "table"]), "no artifacts\n");
}

#[test]
fn processes_share_one_workspace() {
    let folder = with_csv();
    let processes: Vec<Child> = (0..6)
        .map(|number| folder.command(&sql(&["--tag", "together"], &format!("SELECT {number} AS n"))).spawn().unwrap())
        .collect();
    for process in processes {
        succeeded(&["run", "start"], process.wait_with_output().unwrap());
    }
    let runs = folder.answer(&["run", "list", "--tag", "together", "--status", "succeeded"]);
    assert_eq!(runs["runs"].as_array().unwrap().len(), 6);
    assert_eq!(folder.answer(&["artifacts", "list"])["artifacts"].as_array().unwrap().len(), 12);
}

#[test]
fn a_workspace_that_cannot_be_made_is_named() {
    let folder = with_csv();
    std::fs::write(folder.path("home"), "a file").unwrap();
    let list = ["run", "list"];
    let error = failure(&list, &folder.run(&list), "internal_error", "workspace");
    assert!(error.contains("home"), "{error}");
}

#[test]
fn a_result_is_what_the_run_made_with_its_types_whatever_became_of_its_file() {
    let folder = Folder::new();
    std::fs::write(folder.path("a.csv"), "a\n1\n").unwrap();
    let start = |query: &str, file: &str| {
        let sql = ["run", "start", "--", "csv-sql", "--csv", "a.csv", "--query", query, "--output-path", file];
        folder.answer(&sql)["run_id"].as_str().unwrap().to_owned()
    };
    let rows = |id: &str| folder.answer(&["run", "result", "--run-id", id])["result"]["rows"].clone();
    let one = start("SELECT '007' AS zip, '' AS empty, arrow_cast(1, 'Date32') AS d", "same.csv");
    let two = start("SELECT '7' AS zip, '' AS empty, arrow_cast(1, 'Date32') AS d", "same.csv");
    assert_eq!(rows(&one), json!([{"zip": "007", "empty": "", "d": "1970-01-02"}]));
    assert_eq!(rows(&two), json!([{"zip": "7", "empty": "", "d": "1970-01-02"}]));
    let diff = folder.answer(&["run", "diff", "--run-id", &one, "--other-run-id", &two]);
    assert_eq!(diff["rows"]["same"], 0);
}

#[test]
fn a_value_without_text_is_named_and_costs_no_other_cell() {
    let folder = Folder::new();
    std::fs::write(folder.path("a.csv"), "a\n1\n").unwrap();
    let sql = ["csv-sql", "--csv", "a.csv", "--query", "SELECT 7 AS id, arrow_cast(2000000000, 'Date32') AS d"];
    let answer = folder.answer(&sql);
    assert_eq!((&answer["rows"][0]["id"], &answer["unreadable"]), (&json!(7), &json!(["column \"d\", row 0"])));
    assert!(answer["rows"][0]["d"].as_str().unwrap().starts_with("ERROR: "));
    assert!(folder.out(&[&sql[..], &["--format", "table"]].concat()).contains("ERROR: "));
    let csv = folder.run(&[&sql[..], &["--format", "csv"]].concat());
    assert!(String::from_utf8_lossy(&csv.stdout).starts_with("id,d\n7,ERROR: "));
    assert!(String::from_utf8_lossy(&csv.stderr).contains("column \"d\", row 0"));
    let run = folder.answer(&[&["run", "start", "--"], &sql[..]].concat());
    assert_eq!(run["result"]["rows"][0]["id"], 7);
}

#[test]
fn rows_alone_are_csv_or_arrow_and_all_else_is_refused() {
    let folder = Folder::new();
    std::fs::write(folder.path("a.csv"), "a,b\n1,x\n").unwrap();
    let sql = ["csv-sql", "--csv", "a.csv", "--query", "SELECT * FROM input_table"];
    assert_eq!(folder.out(&[&sql[..], &["--format", "csv"]].concat()), "a,b\n1,x\n");
    let arrow = folder.run(&[&sql[..], &["--format=arrow"]].concat()).stdout;
    let mut batches = arrow::ipc::reader::StreamReader::try_new(arrow.as_slice(), None).unwrap();
    assert_eq!(batches.next().unwrap().unwrap().num_rows(), 1);
    for refused in
        [&["run", "list", "--format", "csv"][..], &[&sql[..], &["--output-path", "b.csv", "--format", "csv"]].concat()]
    {
        let output = folder.run(refused);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
        assert!(String::from_utf8_lossy(&output.stderr).contains("error: --format csv: expected"));
    }
}
