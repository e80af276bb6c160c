//! `vexact run`: tracked runs and their records.

use std::ffi::OsString;
use std::sync::Arc;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value};
use vexact::session::{DataFrame, Session};
use vexact_core::error::{Error, Result};
use vexact_workspace::{
    Artifact, ArtifactKind, Cleanup, NewRun, Preview, Run, RunFilter, RunOutcome, RunStatus, Workspace,
};

use super::action::Action;
use super::answer::{Answer, Excerpt, Ran, SoFar};
use super::failure::{During, Failure};
use super::rows_diff::RowsDiff;
use super::threads::Threads;
use super::track::Track;

#[derive(Debug, Subcommand)]
pub(super) enum RunCommand {
    /// Run a command and record its inputs and results
    Start(Start),
    /// Show the record of a run
    Show(OfRun),
    /// Show the status of a run
    Status(OfRun),
    /// List runs, the newest first
    List(List),
    /// Read the rows of a run's result
    Result(OfRun),
    /// Show the differences between two runs
    Diff(DiffRuns),
    /// Delete old runs
    Cleanup(CleanupRuns),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"run_id\", \"run_dir\", \"status\", \"action\", \"tags\", \"result\", \"artifacts\"}; result is the action's own answer, with
        its first rows (50, and 200 KiB at most). A run that fails is kept too; the failure has its \"run_id\".
Files:  $VEXACT_HOME/runs/RUN_ID/ ($VEXACT_HOME is ~/.vexact where it is not set): run.json, inputs.json, stdout.log, stderr.log,
        progress.jsonl, explain.json, artifacts/. The rows are in artifacts/result.parquet, also if they go to --output-path.

Examples:
  vexact run start --tag nightly -- csv-sql --csv docs.csv --query \"SELECT count(*) AS n FROM input_table\"
  vexact run start --run-name ants --timeout-ms 60000 -- \\
      vector-search --csv docs.csv --vector-column embedding --query-vector \"0.1,0.2\"
  vexact run start --tag live -- stream-sql-once --source-csv-dir in --sink-path out.csv --query \"SELECT * FROM input_stream\"")]
pub(super) struct Start {
    /// Name of the run
    #[arg(long, value_name = "NAME")]
    pub run_name: Option<String>,
    /// Description of the run
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// A tag to find the run by. Repeat it
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Timeout in milliseconds; the run's status is timed_out then
    #[arg(long, value_name = "N")]
    pub timeout_ms: Option<u64>,
    /// csv-sql, file-sql, vector-search or stream-sql-once, with its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "ACTION")]
    pub action: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answers: show    {\"ok\": true, \"run\": {...}, \"artifacts\": [...], \"result\"?, \"latest_progress\"?}
         status  {\"ok\": true, \"run_id\", \"status\", \"action\", \"artifacts\", \"artifact_count\", \"duration_ms\", \"row_count\", \"result\"?,
                 \"latest_progress\"?, \"error\"?}; result has the first rows
         result  {\"ok\": true, \"run_id\", \"status\", \"result\": {\"schema\", \"rows\", \"row_count\", \"truncated\"}, \"artifact\"}
Status:  running, succeeded, failed, timed_out, cancelled. A run whose process died is failed; its error has error_type orphaned.

Examples:
  vexact run show --run-id 20260131T120000Z_0123abcd
  vexact run status --run-id 20260131T120000Z_0123abcd
  vexact run result --run-id latest --limit 1000")]
pub(super) struct OfRun {
    /// Id of the run, as run start and run list report it; latest is the newest, latest~1 the one before it
    #[arg(long, value_name = "ID")]
    pub run_id: String,
    /// Maximum number of artifacts; of a result, rows [default: all artifacts, 50 rows]
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"runs\": [{\"run_id\", \"run_name\", \"action\", \"status\", \"tags\", \"started_at\", \"duration_ms\", \"row_count\", ...}]}

Examples:
  vexact run list --status failed --limit 10 --format table
  vexact run list --tag nightly --query docs.csv")]
pub(super) struct List {
    /// Status: running, succeeded, failed, timed_out or cancelled
    #[arg(long)]
    pub status: Option<RunStatus>,
    /// Action, such as csv-sql
    #[arg(long)]
    pub action: Option<String>,
    /// Tag that the runs have
    #[arg(long)]
    pub tag: Option<String>,
    /// Text, in any case, in the name, description, tags or inputs
    #[arg(long, value_name = "TEXT")]
    pub query: Option<String>,
    /// Maximum number of runs, the newest first
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"run_id\", \"other_run_id\", \"changes\": [{\"field\", \"run\", \"other\"}], \"rows\": {\"same\", \"only_in_run\",
        \"only_in_other\", \"examples_only_in_run\", \"examples_only_in_other\"}}; rows are compared as multisets, whatever their
        order, and null where a run has no result or their columns differ.

Example:
  vexact run diff --run-id 20260131T120000Z_0123abcd --other-run-id 20260201T120000Z_4567cdef")]
pub(super) struct DiffRuns {
    /// Id of the one run, or latest, latest~1, ...
    #[arg(long, value_name = "ID")]
    pub run_id: String,
    /// Id of the other run
    #[arg(long, value_name = "ID")]
    pub other_run_id: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"deleted_run_ids\", \"deleted_run_dirs\"}
With both rules a run goes that neither keeps. A run that is running stays, and so do files that a run wrote elsewhere.

Examples:
  vexact run cleanup --keep-last 100
  vexact run cleanup --ttl-days 30 --delete-files")]
#[command(group = ArgGroup::new("rule").required(true).multiple(true).args(["keep_last", "ttl_days"]))]
pub(super) struct CleanupRuns {
    /// Keep this many runs, the newest
    #[arg(long, value_name = "N")]
    pub keep_last: Option<usize>,
    /// Keep the runs of this many days, the last ones
    #[arg(long, value_name = "D")]
    pub ttl_days: Option<u32>,
    /// Delete their folders too
    #[arg(long)]
    pub delete_files: bool,
}

impl RunCommand {
    /// Returns the details of a failure of this command.
    pub fn details(&self) -> Map<String, Value> {
        let name = match self {
            Self::Start(_) => "run start",
            Self::Show(_) => "run show",
            Self::Status(_) => "run status",
            Self::List(_) => "run list",
            Self::Result(_) => "run result",
            Self::Diff(_) => "run diff",
            Self::Cleanup(_) => "run cleanup",
        };
        Map::from_iter([("command".to_owned(), name.into())])
    }
}

/// The workspace of this process.
pub(super) fn workspace() -> Result<Workspace, Failure> {
    Workspace::default_root().and_then(|root| Workspace::open(&root)).during("workspace")
}

/// Returns the id of a run that is given as `latest`, or as `latest~1` for the one before it; other
/// ids are unchanged.
pub(super) fn run_id(workspace: &Workspace, given: String) -> Result<String, Failure> {
    let before = match given.strip_prefix("latest") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix('~').and_then(|before| before.parse::<usize>().ok()),
        None => None,
    };
    let Some(before) = before else { return Ok(given) };
    let newest = RunFilter { limit: Some(before.saturating_add(1)), ..RunFilter::default() };
    let runs = workspace.runs(&newest).during("workspace")?;
    let count = runs.len();
    let found = runs.into_iter().nth(before).map(|run| run.run_id);
    found.ok_or_else(|| Failure::usage(format!("--run-id {given}: expected a run of the workspace, which has {count}")))
}

/// Runs a command.
pub(super) fn run(command: RunCommand) -> Result<Answer, Failure> {
    match command {
        RunCommand::Start(command) => start(command),
        RunCommand::Show(OfRun { run_id, limit }) => {
            let workspace = workspace()?;
            let run = workspace.run(&self::run_id(&workspace, run_id)?).during("workspace")?;
            let artifacts = workspace.artifacts(Some(&run.run_id), limit).during("workspace")?;
            let so_far = so_far(&workspace, &run)?;
            Ok(Answer::Run { run, artifacts, so_far })
        }
        RunCommand::Status(command) => status(command),
        RunCommand::List(List { status, action, tag, query, limit }) => {
            let filter = RunFilter { status, action, tag, query, limit };
            Ok(Answer::Runs { runs: workspace()?.runs(&filter).during("workspace")? })
        }
        RunCommand::Result(command) => Threads::default().run(result(command)),
        RunCommand::Diff(command) => Threads::default().run(diff(command)),
        RunCommand::Cleanup(CleanupRuns { keep_last, ttl_days, delete_files }) => {
            let cleanup = Cleanup { keep_last, ttl_days, delete_files };
            Ok(Answer::Cleaned(workspace()?.cleanup(&cleanup).during("workspace")?))
        }
    }
}

fn start(command: Start) -> Result<Answer, Failure> {
    let Start { run_name, description, tags, timeout_ms, action } = command;
    let action = match Action::parse(&action)? {
        Ok(action) => action,
        Err(help) => return Ok(Answer::Text(help)),
    };
    let (name, mut details) = (action.name(), action.details());
    details.insert("command".into(), "run start".into());
    details.insert("action".into(), name.into());
    // Signals are caught before the run exists: a signal must end the run with a status.
    let threads = Threads::catching_signals();
    let workspace = workspace()?;
    let new = NewRun { action: name.into(), run_name, description, tags, timeout_ms, inputs: action.inputs() };
    let run = Arc::new(workspace.start(new).during("workspace")?);
    let track = Track::of(&run);
    let threads = threads.with_limit(timeout_ms).with_stop(&track.stop);
    let ended = threads.run(async move { action.run(&track).await });
    let of_run = |failure: Failure| failure.with_details(details.clone()).of_run(run.run_id());
    let ended = ended.map_err(of_run);
    // The output that the action prints when it is not tracked.
    let (printed, outcome) = match &ended {
        Ok(answer) => (answer.json()?, RunOutcome::Succeeded),
        Err(failure) => (failure.json(), failure.outcome()),
    };
    run.stdout(&printed).during("workspace").map_err(of_run)?;
    if let Err(failure) = &ended {
        run.stderr(&failure.to_string()).during("workspace").map_err(of_run)?;
    }
    let stored = run.finish(outcome).during("workspace").map_err(of_run)?;
    let result = Box::new(ended?);
    let artifacts = workspace.artifacts(Some(run.run_id()), None).during("workspace")?;
    let Run { run_id, run_dir, status, action, tags, .. } = stored;
    Ok(Answer::Ran(Ran { run_id, run_dir, status, action, tags, result, artifacts }))
}

/// The first rows of a run's result and its last snapshot.
fn so_far(workspace: &Workspace, run: &Run) -> Result<SoFar, Failure> {
    let preview = match result_of(workspace, run)? {
        // A workspace whose index was deleted has no previews.
        Some(artifact) => workspace.preview(&artifact.artifact_id).ok(),
        None => None,
    };
    let latest_progress = workspace.progress(&run.run_id, Some(1)).during("workspace")?.pop();
    Ok(SoFar { result: preview.as_ref().map(Excerpt::from), latest_progress })
}

fn status(OfRun { run_id, limit }: OfRun) -> Result<Answer, Failure> {
    let workspace = workspace()?;
    let run_id = self::run_id(&workspace, run_id)?;
    let run = workspace.run(&run_id).during("workspace")?;
    let mut artifacts = workspace.artifacts(Some(&run_id), None).during("workspace")?;
    let artifact_count = artifacts.len();
    artifacts.truncate(limit.unwrap_or(artifact_count));
    let so_far = so_far(&workspace, &run)?;
    Ok(Answer::RunStatus {
        run_id,
        status: run.status,
        action: run.action,
        artifacts,
        artifact_count,
        duration_ms: run.duration_ms,
        row_count: run.row_count,
        so_far,
        error: run.error,
    })
}

async fn result(OfRun { run_id, limit }: OfRun) -> Result<Answer, Failure> {
    let workspace = workspace()?;
    let run_id = self::run_id(&workspace, run_id)?;
    let run = workspace.run(&run_id).during("workspace")?;
    let Some(artifact) = result_of(&workspace, &run)? else {
        let why = run.error.as_ref().map_or(String::new(), |error| format!(": {}", error.error));
        let problem = format!("run {run_id} has no result: it is {}{why}", run.status);
        return Err(Error::InvalidArgument(problem)).during("workspace").map_err(|failure| failure.of_run(&run_id));
    };
    let max_rows = limit.unwrap_or(Preview::MAX_ROWS);
    let rows = rows_of(&artifact).await?.head(max_rows).await.during("output")?;
    let rows = rows.slice(0, rows.num_rows().min(max_rows));
    let row_count = artifact.row_count;
    Ok(Answer::RunResult { run_id, status: run.status, result: Excerpt::new(rows, row_count), artifact })
}

fn result_of(workspace: &Workspace, run: &Run) -> Result<Option<Artifact>, Failure> {
    let artifacts = workspace.artifacts(Some(&run.run_id), None).during("workspace")?;
    Ok(artifacts.into_iter().find(|artifact| artifact.kind == ArtifactKind::Result))
}

/// Returns the rows that a run made, from its own copy: other programs may write a file elsewhere.
async fn rows_of(artifact: &Artifact) -> Result<DataFrame, Failure> {
    let session = Session::new().during("start")?;
    session.read(artifact.rows_path.as_ref().unwrap_or(&artifact.path)).await.during("output")
}

async fn diff(DiffRuns { run_id, other_run_id }: DiffRuns) -> Result<Answer, Failure> {
    let workspace = workspace()?;
    let (run_id, other_run_id) = (self::run_id(&workspace, run_id)?, self::run_id(&workspace, other_run_id)?);
    let diff = workspace.diff(&run_id, &other_run_id).during("workspace")?;
    let results = (result_of(&workspace, &diff.run)?, result_of(&workspace, &diff.other)?);
    let rows = match &results {
        (Some(run), Some(other)) => RowsDiff::of(&rows_of(run).await?, &rows_of(other).await?).await?,
        _ => None,
    };
    Ok(Answer::Diff { run_id, other_run_id, changes: diff.changes, rows })
}
