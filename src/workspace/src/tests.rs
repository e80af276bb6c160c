//! Workspaces on real folders.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringViewArray};
use serde_json::json;

use super::*;

fn workspace() -> (tempfile::TempDir, Workspace) {
    let folder = tempfile::tempdir().unwrap();
    let workspace = Workspace::open(folder.path()).unwrap();
    (folder, workspace)
}

fn new_run(name: &str) -> NewRun {
    NewRun {
        action: "csv-sql".into(),
        run_name: Some(name.into()),
        tags: vec!["nightly".into(), "a\"b".into(), "nightly".into()],
        inputs: json!({"options": {"query": "SELECT 'Käfer'"}}),
        ..NewRun::default()
    }
}

fn rows(count: i64, text: &str) -> RecordBatch {
    let texts = StringViewArray::from_iter_values((0..count).map(|row| format!("{text}{row}")));
    RecordBatch::try_from_iter([
        ("n", Arc::new(Int64Array::from_iter_values(0..count)) as _),
        ("text", Arc::new(texts) as _),
    ])
    .unwrap()
}

fn add_result(run: &ActiveRun, rows: &RecordBatch) -> Artifact {
    let path = run.artifact_path("result.parquet");
    std::fs::write(&path, "content").unwrap();
    let preview = Preview::new(&rows.schema(), std::slice::from_ref(rows), rows.num_rows() as u64).unwrap();
    run.add_artifact(NewArtifact { kind: ArtifactKind::Result, format: "parquet", path, rows_path: None, preview })
        .unwrap()
}

fn error() -> RunError {
    let details = serde_json::Map::new();
    RunError { error: "no".into(), error_type: "value_error".into(), phase: "query".into(), details }
}

#[cfg(unix)]
#[test]
fn a_workspace_is_its_users_alone() {
    use std::os::unix::fs::PermissionsExt;

    fn walk(path: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            let expected = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, expected, "{}: {mode:o}", path.display());
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            if path.is_dir() {
                walk(&path, found);
            }
        }
    }

    let (folder, workspace) = workspace();
    let run = workspace.start(new_run("private")).unwrap();
    run.progress(&json!({"rows": 1})).unwrap();
    run.explain(&json!({"logical": "Scan"})).unwrap();
    add_result(&run, &rows(1, "a"));
    let mut found = Vec::new();
    walk(folder.path(), &mut found);
    for name in [
        "runs",
        "artifacts",
        "run.json",
        "inputs.json",
        "explain.json",
        "result.parquet",
        "artifacts.sqlite-wal",
        "lock",
    ] {
        assert!(found.iter().any(|known| known == name), "{name}: {found:?}");
    }
}

#[test]
fn what_a_run_leaves_is_found_again() {
    let (_folder, workspace) = workspace();
    let run = workspace.start(new_run("first")).unwrap();
    let (time, number) = run.run_id().split_once('_').unwrap();
    assert!(time.len() == 16 && time.ends_with('Z') && time.as_bytes()[8] == b'T');
    assert!(number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(workspace.run(run.run_id()).unwrap().status, RunStatus::Running);

    run.progress(&json!({"rows": 1})).unwrap();
    run.progress(&json!({"rows": 2})).unwrap();
    run.explain(&json!({"logical": "Scan"})).unwrap();
    run.stdout("out").unwrap();
    run.stderr("err").unwrap();
    let artifact = add_result(&run, &rows(60, "t"));
    let ended = run.finish(RunOutcome::Succeeded).unwrap();
    assert_eq!(workspace.run(run.run_id()).unwrap(), ended);
    assert_eq!((ended.status, ended.row_count, ended.tags.len()), (RunStatus::Succeeded, Some(60), 2));
    assert_eq!(std::fs::read_to_string(ended.run_dir.join("stdout.log")).unwrap(), "out");
    assert_eq!(std::fs::read_to_string(ended.run_dir.join("stderr.log")).unwrap(), "err");
    assert!(!ended.run_dir.join("lock").exists());

    let progress = workspace.progress(run.run_id(), None).unwrap();
    assert_eq!(progress.iter().map(|snapshot| &snapshot["rows"]).collect::<Vec<_>>(), [1, 2]);
    assert!(progress[0]["at"].as_str().is_some_and(|at| at >= run.run().started_at.as_str()), "{progress:?}");
    assert_eq!(workspace.progress(run.run_id(), Some(1)).unwrap(), progress[1..]);
    assert_eq!(workspace.explain(run.run_id()).unwrap(), Some(json!({"logical": "Scan"})));
    assert_eq!(workspace.inputs(run.run_id()).unwrap().unwrap()["options"]["query"], "SELECT 'Käfer'");
    assert_eq!(workspace.artifacts(Some(run.run_id()), None).unwrap(), std::slice::from_ref(&artifact));
    assert_eq!(workspace.artifact(&artifact.artifact_id).unwrap().size_bytes, 7);
    let preview = workspace.preview(&artifact.artifact_id).unwrap();
    assert_eq!((preview.rows().num_rows(), preview.row_count(), preview.is_truncated()), (50, 60, true));
    assert_eq!(preview.limited(2).rows().num_rows(), 2);

    let late = run.progress(&json!({})).unwrap_err().to_string();
    assert!(late.contains("has ended: succeeded"), "{late}");
    assert_eq!(run.finish(RunOutcome::TimedOut(error())).unwrap().status, RunStatus::Succeeded);
    for unknown in ["20260101T000000Z_00000000", "../x", ""] {
        let error = workspace.run(unknown).unwrap_err().to_string();
        assert!(error.starts_with("run_id: expected a run of the workspace"), "{error}");
        assert!(workspace.preview(unknown).is_err());
    }
}

#[test]
fn filters_are_texts_and_no_patterns() {
    let (_folder, workspace) = workspace();
    let first = workspace.start(new_run("100% sure")).unwrap();
    first.finish(RunOutcome::Failed(error())).unwrap();
    let second = workspace.start(NewRun { action: "vector-search".into(), ..NewRun::default() }).unwrap();
    let found = |filter: RunFilter| -> Vec<String> {
        workspace.runs(&filter).unwrap().into_iter().map(|run| run.run_id).collect()
    };
    let query = |query: &str| RunFilter { query: Some(query.into()), ..RunFilter::default() };
    assert_eq!(found(RunFilter::default()).len(), 2);
    assert_eq!(found(RunFilter { limit: Some(1), ..RunFilter::default() }).len(), 1);
    for filter in [
        RunFilter { status: Some(RunStatus::Failed), ..RunFilter::default() },
        RunFilter { action: Some("csv-sql".into()), ..RunFilter::default() },
        RunFilter { tag: Some("a\"b".into()), ..RunFilter::default() },
        query("0% S"),
        query("käfer"),
        query("NIGHTLY"),
    ] {
        assert_eq!(found(filter.clone()), [first.run_id()], "{filter:?}");
    }
    assert_eq!(found(RunFilter { status: Some(RunStatus::Running), ..RunFilter::default() }), [second.run_id()]);
    for nothing in ["1%sure", "status", "null"] {
        assert!(found(query(nothing)).is_empty(), "{nothing}");
    }
    assert!(found(RunFilter { tag: Some("night".into()), ..RunFilter::default() }).is_empty());
    assert_eq!("done".parse::<RunStatus>().unwrap_err().to_string().matches("timed_out").count(), 1);
}

#[test]
fn a_run_whose_process_died_is_orphaned() {
    let (folder, workspace) = workspace();
    let run = workspace.start(new_run("dies")).unwrap();
    let alive = workspace.start(new_run("lives")).unwrap();
    let run_id = run.run_id().to_owned();
    // The state after a kill: the folder is unchanged, and nobody holds the lock.
    run.state.lock().lock.take();
    drop(run);
    let others = Workspace::open(folder.path()).unwrap();
    let found = others.run(&run_id).unwrap();
    assert_eq!((found.status, found.error.as_ref().unwrap().error_type.as_str()), (RunStatus::Failed, "orphaned"));
    assert_eq!(others.run(&run_id).unwrap(), found);
    assert_eq!(files::stored_run(&found.run_dir).unwrap().run, found);
    assert_eq!(others.run(alive.run_id()).unwrap().status, RunStatus::Running);
    assert_eq!(workspace.run(&run_id).unwrap(), found);

    // A process that died after it wrote its last file and before it updated the index.
    let told = alive.run().ended(RunStatus::Succeeded, None);
    files::write_run(alive.run_dir(), &told, &[]).unwrap();
    alive.state.lock().lock.take();
    assert_eq!(others.run(alive.run_id()).unwrap().status, RunStatus::Succeeded);
}

#[test]
fn a_run_that_is_dropped_has_failed() {
    let (_folder, workspace) = workspace();
    let run = workspace.start(new_run("dropped")).unwrap();
    let run_id = run.run_id().to_owned();
    drop(run);
    assert_eq!(workspace.run(&run_id).unwrap().status, RunStatus::Failed);
}

#[test]
fn the_index_can_be_made_of_the_folders() {
    let (folder, workspace) = workspace();
    let run = workspace.start(new_run("kept")).unwrap();
    let artifact = add_result(&run, &rows(3, "t"));
    let ended = run.finish(RunOutcome::Succeeded).unwrap();
    drop((run, workspace));
    std::fs::remove_dir_all(folder.path().join("index")).unwrap();
    std::fs::create_dir(folder.path().join("runs").join("notes")).unwrap();
    let again = Workspace::open(folder.path()).unwrap();
    assert_eq!(again.runs(&RunFilter::default()).unwrap(), [ended]);
    assert_eq!(again.artifacts(None, None).unwrap(), std::slice::from_ref(&artifact));
    assert_eq!(again.runs(&RunFilter { query: Some("KÄFER".into()), ..RunFilter::default() }).unwrap().len(), 1);
    let error = again.preview(&artifact.artifact_id).unwrap_err().to_string();
    assert!(error.contains("expected one with a preview"), "{error}");
}

#[test]
fn previews_are_small() {
    for (count, text, expected) in [(10, "x".to_owned(), 10), (60, "x".to_owned(), 50), (40, "x".repeat(9_000), 20)] {
        let rows = rows(count, &text);
        let preview = Preview::new(&rows.schema(), &[rows.slice(0, 1), rows.slice(1, count as usize - 1)], 99).unwrap();
        assert_eq!(preview.rows().num_rows(), expected);
        let stored = preview.stored().unwrap();
        assert!(stored.len() <= Preview::MAX_BYTES);
        let read = Preview::of_stored(&stored, 99).unwrap();
        assert_eq!((read.rows(), read.row_count()), (preview.rows(), 99));
    }
    let wide = rows(1, &"x".repeat(300_000));
    let preview = Preview::new(&wide.schema(), std::slice::from_ref(&wide), 1).unwrap();
    assert_eq!((preview.rows().num_rows(), preview.is_truncated()), (0, true));
    let none = Preview::new(&wide.schema(), &[], 0).unwrap();
    assert_eq!((none.rows().num_rows(), none.is_truncated()), (0, false));
}

#[test]
fn cleanup_keeps_what_either_rule_keeps() {
    let (_folder, workspace) = workspace();
    let started = |days: i64| {
        let run = workspace.start(new_run("old")).unwrap();
        let then = time::text(time::now() - chrono::Duration::days(days));
        run.state.lock().run.started_at = then.clone();
        let sql = "UPDATE runs SET started_at = ?2, record = json_set(record, '$.started_at', ?2) WHERE run_id = ?1";
        workspace.index().execute(sql, [run.run_id(), &then]);
        run
    };
    let runs: Vec<ActiveRun> = [40, 30, 20, 10, 0].into_iter().map(started).collect();
    let ids: Vec<&str> = runs.iter().map(ActiveRun::run_id).collect();
    for run in &runs[1..] {
        run.finish(RunOutcome::Succeeded).unwrap();
    }
    assert!(workspace.cleanup(&Cleanup::default()).is_err());
    let both = Cleanup { keep_last: Some(1), ttl_days: Some(25), delete_files: false };
    let cleaned = workspace.cleanup(&both).unwrap();
    assert_eq!((cleaned.deleted_run_ids, cleaned.deleted_run_dirs.len()), (vec![ids[1].to_owned()], 0));
    assert!(runs[1].run_dir().is_dir() && workspace.run(ids[1]).is_err());
    let newest = Cleanup { keep_last: Some(2), delete_files: true, ..Cleanup::default() };
    let cleaned = workspace.cleanup(&newest).unwrap();
    assert_eq!(cleaned.deleted_run_ids, [ids[2]]);
    assert_eq!(cleaned.deleted_run_dirs, [workspace.run_dir(ids[2])]);
    assert!(!runs[2].run_dir().exists());
    // The oldest is still running.
    let left: Vec<String> = workspace.runs(&RunFilter::default()).unwrap().into_iter().map(|run| run.run_id).collect();
    assert_eq!(left, [ids[4], ids[3], ids[0]]);
    assert!(workspace.artifacts(Some(ids[2]), None).is_err());
}

#[test]
fn a_diff_names_what_differs() {
    let (_folder, workspace) = workspace();
    let first = workspace.start(new_run("first")).unwrap();
    let second =
        workspace.start(NewRun { inputs: json!({"options": {"query": "SELECT 2"}}), ..new_run("second") }).unwrap();
    add_result(&first, &rows(3, "t"));
    add_result(&second, &rows(4, "t"));
    first.finish(RunOutcome::Succeeded).unwrap();
    second.finish(RunOutcome::Cancelled(error())).unwrap();
    let diff = workspace.diff(first.run_id(), second.run_id()).unwrap();
    let fields: Vec<&str> = diff.changes.iter().map(|change| change.field.as_str()).collect();
    assert_eq!(fields, ["error", "inputs.options.query", "result.row_count", "status"]);
    assert_eq!((&diff.changes[2].run, &diff.changes[2].other), (&json!(3), &json!(4)));
    assert!(workspace.diff(first.run_id(), first.run_id()).unwrap().changes.is_empty());
}

#[test]
fn threads_and_connections_share_a_workspace() {
    let folder = tempfile::tempdir().unwrap();
    let work = || {
        let workspace = Workspace::open(folder.path()).unwrap();
        for _ in 0..5 {
            let run = workspace.start(new_run("shared")).unwrap();
            add_result(&run, &rows(3, "t"));
            assert_eq!(workspace.run(run.run_id()).unwrap().status, RunStatus::Running);
            run.finish(RunOutcome::Succeeded).unwrap();
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
    let workspace = Workspace::open(folder.path()).unwrap();
    let runs = workspace.runs(&RunFilter::default()).unwrap();
    assert!(runs.len() == 20 && runs.iter().all(|run| run.status == RunStatus::Succeeded), "{runs:?}");
    assert_eq!(workspace.artifacts(None, None).unwrap().len(), 20);
    assert_eq!(workspace.artifacts(None, Some(7)).unwrap().len(), 7);
}
