//! All failures are reported in one form.

use super::*;

#[test]
fn a_search_that_cannot_be_done_says_why() {
    let folder = Folder::with_docs();
    let mut search = SEARCH;
    for (query, error_type, phase, part) in [
        ("0.1,x", "usage_error", "arguments", "component 1"),
        ("", "usage_error", "arguments", "no components"),
        ("@none.json", "file_not_found", "arguments", "none.json"),
        ("1,2,3", "value_error", "search", "expected 2 components, got 3"),
    ] {
        search[6] = query;
        let error = folder.fails(&search, error_type, phase);
        assert!(error.contains(part), "{error}");
    }
    std::fs::write(folder.path("query.json"), "{}").unwrap();
    search[6] = "@query.json";
    folder.fails(&search, "value_error", "arguments");
    folder.fails(&with(&SEARCH, &["--top-k", "x"]), "usage_error", "arguments");
    folder.fails(&with(&SEARCH, &["--metric", "manhattan"]), "usage_error", "arguments");
    folder.fails(&with(&SEARCH, &["--where", "nope = 1"]), "value_error", "search");
    folder.fails(&with(&SEARCH, &["--columns", "nope"]), "value_error", "search");
}

#[test]
fn a_table_that_is_gone_is_on_stderr_and_in_the_status() {
    let folder = Folder::with_docs();
    folder.ok(&["exec", "DROP TABLE docs"]);
    let output = folder.db(&["sync"]);
    assert!(output.status.success());
    let remark = String::from_utf8(output.stderr).unwrap();
    assert!(remark.starts_with("table \"docs\" does not follow: "), "{remark}");
    assert_eq!(folder.ok(&["status"])["tables"][0]["state"], "failed");
}

#[test]
fn a_misspelled_path_makes_no_file() {
    let folder = Folder::new();
    for arguments in [with(&["query", "SELECT 1"], &[]), vec!["sync"], vec!["status"], SEARCH.to_vec()] {
        let error = folder.fails(&arguments, "file_not_found", "open");
        assert_eq!(error, "file not found: app.db");
    }
    let output = folder.db(&["exec", "CREATE TABLE t(a)"]);
    failure(&["exec"], &output, "file_not_found", "open");
    let details = serde_json::from_slice::<Value>(&output.stdout).unwrap()["details"].take();
    assert_eq!(details["hint"], "--create creates the database");
    folder.fails(&["exec", "--param", "1", "a; b"], "usage_error", "arguments");
    assert!(std::fs::read_dir(folder.0.path()).unwrap().next().is_none());
    let output = folder.run(&["db", "exec", "--create", "--db", "no/app.db", "CREATE TABLE t(a)"]);
    failure(&["exec"], &output, "file_not_found", "open");
    std::fs::write(
        folder.path("app.db"),
        "This is text, and longer than the header that SQLite reads first. ".repeat(20),
    )
    .unwrap();
    let error = folder.fails(&["query", "SELECT 1"], "value_error", "open");
    assert!(error.contains("not a database"), "{error}");
}

#[test]
fn errors_have_their_root_cause() {
    let folder = Folder::with_docs();
    for (arguments, phase, part) in [
        (["query", "SELEC 1"], "query", "syntax error"),
        (["query", "SELECT * FROM nope"], "query", "no such table: nope"),
        (["query", "DELETE FROM docs"], "query", "only read"),
        (["query", "SELECT count(*) FROM docs GROUP BY arrow_cast(title, 'Int64')"], "query", "'Ants'"),
        (["exec", "INSERT INTO docs(id) VALUES (1)"], "execute", "UNIQUE constraint failed: docs.id"),
        (["exec", "INSERT INTO docs VALUES (9, 'x', 'y', x'00')"], "execute", "docs.embedding: expected vector(2)"),
        (["exec", "SELECT 1"], "execute", "return no rows"),
        (["exec", "BEGIN"], "execute", "transaction"),
    ] {
        let error = folder.fails(&arguments, "value_error", phase);
        assert!(error.contains(part), "{error}");
    }
    let output = folder.db(&["exec", "INSERT INTO docs(id) VALUES (1)"]);
    let details = serde_json::from_slice::<Value>(&output.stdout).unwrap()["details"].take();
    assert_eq!(details, json!({"command": "db exec", "db": "app.db", "sqlite_code": 1555}));
}

#[test]
fn usage_errors_are_error_objects() {
    let folder = Folder::new();
    for (arguments, part) in [
        (&["db"][..], "expected a command"),
        (&["nope"], "'nope'"),
        (&["db", "nope"], "'nope'"),
        (&["db", "exec"], "--db"),
        (&["db", "exec", "--db", "app.db"], "SQL"),
        (&["db", "exec", "--db", "app.db", " ; "], "expected a statement"),
        (&["db", "query", "--db", "app.db", "--frmat", "x", "SELECT 1"], "--frmat"),
        (&["db", "query", "--db", "app.db", "--timeout-ms", "soon", "SELECT 1"], "'soon'"),
        (&["db", "query", "--db", "app.db", "SELECT 1", "SELECT 2"], "SELECT 2"),
        (&["db", "status", "--db", "app.db", "--format", "xml"], "'xml'"),
    ] {
        let output = folder.run(arguments);
        let error = failure(arguments, &output, "usage_error", "arguments");
        assert!(error.contains(part), "{error}");
        assert!(output.stderr.is_empty());
    }
    assert!(std::fs::read_dir(folder.0.path()).unwrap().next().is_none());
}

#[test]
fn a_query_is_given_up_in_time() {
    let folder = Folder::with_docs();
    folder.ok(&["exec", "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO docs(id) SELECT i FROM n"]);
    for sql in [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "SELECT count(*) FROM docs a, docs b, docs c WHERE a.id * b.id + c.id = -1",
    ] {
        let error = folder.fails(&["query", "--timeout-ms", "500", sql], "timeout", "run");
        assert_eq!(error, "expected an end within 500 ms, got none");
    }
}

#[test]
fn a_lock_that_another_program_keeps_is_a_timeout() {
    let folder = Folder::with_docs();
    let other = rusqlite::Connection::open(folder.path("app.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = folder.fails(&["exec", "DELETE FROM docs"], "timeout", "execute");
    assert!(error.contains("locked"), "{error}");
    // Commands that only read do not wait for locks.
    let count = folder.ok(&["query", "SELECT count(*) AS n FROM docs"]);
    let status = folder.ok(&["status"]);
    assert_eq!(status["tables"][0]["rows"], count["rows"][0]["n"]);
    folder.ok(&SEARCH);
    other.execute_batch("COMMIT").unwrap();
}

#[test]
fn a_position_is_dropped_by_its_name_alone() {
    let folder = Folder::with_docs();
    folder.ok(&["sync", "--storage-path", "store", "--mode", "temporal"]);
    let is_absent = |position: &&Value| position["is_running"] == false;
    let absent =
        |status: Value| status["positions"].as_array().unwrap().iter().filter(is_absent).cloned().collect::<Vec<_>>();
    let positions = absent(folder.ok(&["status"]));
    assert_eq!(positions.len(), 1);
    assert!(positions[0]["folder"].as_str().unwrap().ends_with("store"));
    let error = folder.fails(&["drop-position", "--position", "none"], "value_error", "drop-position");
    assert!(error.ends_with("got \"none\""), "{error}");
    let id = positions[0]["id"].as_str().unwrap();
    assert_eq!(folder.ok(&["drop-position", "--position", id])["position"], id);
    assert_eq!(absent(folder.ok(&["status"])), Vec::<Value>::new());
}

#[cfg(target_os = "linux")]
#[test]
fn a_stdout_that_was_closed_before_the_start_is_a_failure() {
    let folder = Folder::new();
    let run = |redirection: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("exec \"$0\" artifacts list {redirection}"), env!("CARGO_BIN_EXE_vexact")]);
        command.env("VEXACT_HOME", folder.path("home")).output().unwrap()
    };
    let closed = run(">&-");
    let problem = String::from_utf8(closed.stderr).unwrap();
    assert!(!closed.status.success() && problem.contains("stdout: expected an open file"), "{problem}");
    assert!(run("> /dev/null").status.success() && run("<&- 2>&-").status.success());
}
