//! Streaming SQL over a folder of files.

use super::*;

const SUM: &str = "INSERT INTO output_sink SELECT key, sum(value) AS value_sum FROM input_stream GROUP BY key";

/// A folder `in` with one file of events.
fn with_events() -> Folder {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("in")).unwrap();
    folder.events("a.csv", "key,value\nx,1\ny,2\nx,3\n");
    folder
}

impl Folder {
    fn events(&self, name: &str, text: &str) {
        std::fs::write(self.path("in").join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

fn stream<'a>(query: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["stream-sql-once", "--source-csv-dir", "in", "--query", query], more].concat()
}

/// The artifact of a run that has its rows.
fn result_of(run: &Value) -> &Value {
    run["artifacts"].as_array().unwrap().iter().find(|artifact| artifact["kind"] == "result").unwrap()
}

fn names(value: &Value) -> Vec<&String> {
    value.as_object().unwrap().keys().collect()
}

#[test]
fn a_micro_batch_goes_through_a_query_into_a_file() {
    let folder = with_events();
    let declared = ["--sink-schema", "key STRING, value_sum INT", "--sink-path", "out.csv"];
    let answer = folder.answer(&stream(SUM, &declared));
    #[rustfmt::skip]
    assert_eq!(names(&answer), [
        "batches_processed", "ok", "progress", "query", "rows", "rows_written", "schema", "sink_path", "sink_table",
        "source_table", "truncated",
    ]);
    assert_eq!((&answer["batches_processed"], &answer["rows_written"]), (&json!(1), &json!(2)));
    assert_eq!(answer["schema"], json!([{"name": "key", "type": "utf8"}, {"name": "value_sum", "type": "int32"}]));
    assert_eq!(answer["rows"], json!([{"key": "x", "value_sum": 4}, {"key": "y", "value_sum": 2}]));
    assert_eq!((&answer["truncated"], &answer["sink_table"]), (&json!(false), &json!("output_sink")));
    assert_eq!(answer["sink_path"], folder.path("out.csv").to_str().unwrap());
    let progress = &answer["progress"];
    assert_eq!((&progress["status"], &progress["rows_processed"]), (&json!("stopped"), &json!(3)));
    assert_eq!(progress["checkpoint_delivery_mode"], "at-least-once");
    assert_eq!(folder.read("out.csv"), "key,value_sum\nx,4\ny,2\n");

    // Other names and delimiters, and the columns of the query.
    folder.events("a.csv", "key;value\nx;1\ny;2\n");
    let named = ["--source-table", "s", "--source-delimiter", ";", "--sink-table", "t", "--sink-delimiter", "\\t"];
    let named = [&named[..], &["--sink-path", "out.tsv", "--format", "table"]].concat();
    let table = folder.out(&stream("INSERT INTO t SELECT key, value * 2 AS twice FROM s", &named));
    assert!(table.starts_with("+-----+-------+\n| key | twice |\n"), "{table}");
    assert!(table.contains("(2 rows)\n") && table.ends_with("out.tsv\n1 micro-batch\n"), "{table}");
    assert_eq!(folder.read("out.tsv"), "key\ttwice\nx\t2\ny\t4\n");
}

#[test]
fn a_select_goes_into_the_sink_whose_form_is_told_by_its_suffix() {
    let folder = with_events();
    for name in ["out.json", "out.parquet", "out.csv", "out"] {
        let select = "SELECT key, value FROM input_stream WHERE value > 1";
        let answer = folder.answer(&stream(select, &["--sink-path", name, "--trigger-interval-ms", "0"]));
        assert_eq!(answer["rows"], json!([{"key": "y", "value": 2}, {"key": "x", "value": 3}]));
        let again = ["file-sql", "--input-path", name, "--query", "SELECT * FROM input_table ORDER BY value"];
        assert_eq!(folder.answer(&again)["rows"], answer["rows"], "{name}");
    }
    assert_eq!(folder.read("out.json"), "{\"key\":\"y\",\"value\":2}\n{\"key\":\"x\",\"value\":3}\n");
}

#[test]
fn a_checkpoint_lets_a_later_command_go_on() {
    let folder = with_events();
    let kept = ["--sink-path", "out.csv", "--checkpoint-path", "state", "--checkpoint-delivery-mode", "exactly-once"];
    let arguments = ["run", "start", "--"].into_iter().chain(stream(SUM, &kept)).collect::<Vec<_>>();
    folder.answer(&arguments);
    folder.events("b.csv", "key,value\nx,5\nz,6\n");
    let started = folder.answer(&arguments);
    let answer = &started["result"];
    assert_eq!(answer["rows"], json!([{"key": "x", "value_sum": 9}, {"key": "z", "value_sum": 6}]));
    assert_eq!((&answer["batches_processed"], &answer["progress"]["batches_processed"]), (&json!(1), &json!(2)));
    assert_eq!(folder.read("out.csv"), "key,value_sum\nx,4\ny,2\nx,9\nz,6\n");
    // The result is what this run made; the file has what was there before as well.
    assert_eq!(result_of(&started)["row_count"], 2);
    let result = folder.answer(&["run", "result", "--run-id", started["run_id"].as_str().unwrap(), "--limit", "1"]);
    assert_eq!((&result["result"]["rows"][0]["value_sum"], &result["result"]["row_count"]), (&json!(9), &json!(2)));
}

#[test]
fn a_tracked_stream_keeps_its_snapshots_its_plans_and_its_file() {
    let folder = with_events();
    let options = ["--execution-mode", "local-workers", "--local-workers", "2", "--max-inflight-partitions", "1"];
    let options = [&["--sink-path", "out.csv"], &options[..]].concat();
    let arguments =
        ["run", "start", "--tag", "live", "--"].into_iter().chain(stream(SUM, &options)).collect::<Vec<_>>();
    let started = folder.answer(&arguments);
    assert_eq!((&started["status"], &started["action"]), (&json!("succeeded"), &json!("stream-sql-once")));
    let run_dir = PathBuf::from(started["run_dir"].as_str().unwrap());
    let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(run_dir.join(name)).unwrap()).unwrap() };
    let inputs = read("inputs.json");
    assert_eq!((&inputs["options"]["query"], &inputs["options"]["max_batches"]), (&json!(SUM), &json!(1)));
    assert_eq!(inputs["options"]["execution_mode"], "local-workers");
    assert_eq!(inputs["input_file"]["path"], folder.path("in").to_str().unwrap());
    let lines = std::fs::read_to_string(run_dir.join("progress.jsonl")).unwrap();
    let snapshots: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = snapshots.last().unwrap();
    assert!(snapshots.iter().all(|snapshot| snapshot["at"].is_string() && snapshot["query_id"] == last["query_id"]));
    assert_eq!((&last["status"], &last["batches_processed"]), (&json!("stopped"), &json!(1)));
    let reason = last["execution_reason"].as_str().unwrap();
    assert!(reason.contains("expected at least 2 partitions"), "{reason}");
    let explain = read("explain.json");
    assert!(explain["physical"].as_str().unwrap().contains("MicroBatchExec"), "{explain}");
    assert!(explain["strategy"].as_str().unwrap().contains("sink=output_sink\n"), "{explain}");
    let artifact = result_of(&started);
    assert_eq!(
        (&artifact["kind"], &artifact["format"], &artifact["row_count"]),
        (&json!("result"), &json!("csv"), &json!(2))
    );
    assert_eq!(artifact["path"], folder.path("out.csv").to_str().unwrap());
    let of_run = |command: &'static str| vec!["run", command, "--run-id", started["run_id"].as_str().unwrap()];
    assert_eq!(folder.answer(&of_run("result"))["result"]["rows"], started["result"]["rows"]);
    assert_eq!(folder.answer(&of_run("status"))["latest_progress"], *last);
}

#[test]
fn a_timeout_ends_a_stream_and_what_it_wrote_stays() {
    let folder = with_events();
    let endless = stream(SUM, &["--sink-path", "out.parquet", "--max-batches", "0"]);
    let arguments = ["run", "start", "--timeout-ms", "2500", "--"].into_iter().chain(endless).collect::<Vec<_>>();
    let failure: Value = serde_json::from_slice(&folder.run(&arguments).stdout).unwrap();
    assert_eq!((&failure["error_type"], &failure["details"]["input_path"]), (&json!("timeout"), &json!("in")));
    let run_id = failure["run_id"].as_str().unwrap();
    let shown = folder.answer(&["run", "show", "--run-id", run_id]);
    assert_eq!(shown["run"]["status"], "timed_out");
    // It was asked to end, so that its file is whole.
    let status = folder.answer(&["run", "status", "--run-id", run_id]);
    assert_eq!(status["latest_progress"]["status"], "stopped");
    assert_eq!(result_of(&shown)["path"], folder.path("out.parquet").to_str().unwrap());
    folder.answer(&["run", "result", "--run-id", run_id]);
}

#[test]
fn what_cannot_be_streamed_says_why() {
    let folder = with_events();
    std::fs::create_dir(folder.path("empty")).unwrap();
    let with_sink = |query, more: &[&'static str]| stream(query, &[&["--sink-path", "out.csv"], more].concat());
    let of_folder = |path| vec!["stream-sql-once", "--source-csv-dir", path, "--query", SUM, "--sink-path", "out.csv"];
    #[rustfmt::skip]
    let refusals = [
        (of_folder("none"), "file_not_found", "input", "folder not found: none"),
        (of_folder("empty"), "value_error", "input", "at least one CSV file"),
        (stream(SUM, &["--sink-path", "no/out.csv"]), "file_not_found", "output", "folder not found: no"),
        (stream(SUM, &["--sink-path", "in/out.csv"]), "value_error", "arguments", "outside of --source-csv-dir"),
        (stream(SUM, &["--sink-path"]), "usage_error", "arguments", "--sink-path"),
        (with_sink(SUM, &["--sink-schema", "key STRIN"]), "value_error", "arguments", "column \"key\""),
        (with_sink(SUM, &["--sink-schema", "key STRING, value_sum STRING"]), "value_error", "query", "cannot hold Int64"),
        (with_sink(SUM, &["--sink-schema", "key STRING"]), "value_error", "query", "another number of columns"),
        (with_sink(SUM, &["--checkpoint-delivery-mode", "once"]), "usage_error", "arguments", "exactly-once"),
        (with_sink(SUM, &["--checkpoint-delivery-mode", "exactly-once"]), "value_error", "query", "expected a checkpoint_path"),
        (with_sink(SUM, &["--execution-mode", "threads"]), "usage_error", "arguments", "local-workers"),
        (with_sink(SUM, &["--local-workers", "0"]), "value_error", "query", "expected at least 1, got 0"),
        (with_sink(SUM, &["--max-batches", "-1"]), "usage_error", "arguments", "-1"),
        (with_sink(SUM, &["--source-delimiter", ";;"]), "usage_error", "arguments", "expected one character"),
        (with_sink("DELETE FROM input_stream", &[]), "value_error", "query", "expected SELECT or INSERT INTO sink SELECT, got DELETE"),
        (with_sink("SELEC 1", &[]), "value_error", "query", "SELEC"),
        (with_sink("INSERT INTO nope SELECT * FROM input_stream", &[]), "value_error", "query", "sink nope not found"),
        (with_sink("SELECT 1 AS one", &[]), "value_error", "query", "expected a query of a stream"),
        (with_sink("SELECT nope FROM input_stream", &[]), "value_error", "query", "nope"),
        (with_sink("SELECT * FROM input_stream ORDER BY key", &[]), "value_error", "query", "ORDER BY needs a bounded source"),
        (with_sink("SELECT value / 0 AS x FROM input_stream", &[]), "value_error", "query", "Divide by zero"),
    ];
    for (arguments, error_type, phase, part) in refusals {
        let error = failure(&arguments, &folder.run(&arguments), error_type, phase);
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    let help = folder.out(&["stream-sql-once", "--help"]);
    assert!(help.contains("INSERT INTO output_sink SELECT key, sum(value) AS value_sum"), "{help}");
}

#[test]
fn without_a_sink_the_rows_are_in_the_answer_and_an_artifact_of_a_run() {
    let folder = with_events();
    let declared = ["--sink-schema", "key STRING, value_sum INT"];
    let rows = json!([{"key": "x", "value_sum": 4}, {"key": "y", "value_sum": 2}]);
    let answer = folder.answer(&stream(SUM, &declared));
    assert_eq!((&answer["rows"], &answer["truncated"]), (&rows, &json!(false)));
    assert!(answer.get("sink_path").is_none());
    assert_eq!(folder.out(&stream(SUM, &["--format", "csv"])), "key,value_sum\nx,4\ny,2\n");

    let tracked = [&["run", "start", "--"], &stream(SUM, &declared)[..]].concat();
    let run = folder.answer(&tracked);
    let id = run["run_id"].as_str().unwrap();
    assert_eq!((&run["status"], &run["result"]["rows"]), (&json!("succeeded"), &rows));
    assert_eq!(result_of(&run)["path"], run["result"]["sink_path"]);
    for command in ["show", "status"] {
        let told = folder.answer(&["run", command, "--run-id", id]);
        assert_eq!((&told["result"]["rows"], &told["result"]["row_count"]), (&rows, &json!(2)), "{command}");
        assert_eq!(told["latest_progress"]["rows_processed"], 3);
    }
    assert_eq!(folder.answer(&["run", "result", "--run-id", id])["result"]["rows"], rows);
    let sql = stream(SUM, &["--checkpoint-path", "state", "--checkpoint-delivery-mode", "exactly-once"]);
    assert!(failure(&sql, &folder.run(&sql), "value_error", "query").contains("a sink that can be cut back"));
}

#[test]
fn a_checkpoint_of_another_sink_or_source_touches_no_file() {
    let folder = with_events();
    std::fs::create_dir(folder.path("other")).unwrap();
    std::fs::write(folder.path("other").join("a.csv"), "key,value\nx,1\n").unwrap();
    std::fs::write(folder.path("mine.csv"), "my own\n").unwrap();
    let state = ["--checkpoint-path", "state", "--sink-path"];
    folder.answer(&stream(SUM, &[&state[..], &["out.csv"]].concat()));
    for sink in ["mine.csv", "new.csv"] {
        let sql = stream(SUM, &[&state[..], &[sink]].concat());
        assert!(failure(&sql, &folder.run(&sql), "value_error", "query").contains("of another sink"));
    }
    let sql = [
        "stream-sql-once",
        "--source-csv-dir",
        "other",
        "--query",
        SUM,
        "--checkpoint-path",
        "state",
        "--sink-path",
        "out.csv",
    ];
    assert!(failure(&sql, &folder.run(&sql), "value_error", "query").contains("of another source"));
    assert_eq!(folder.read("mine.csv"), "my own\n");
    assert!(!folder.path("new.csv").exists());
}
