//! Answers as tables for people.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::util::display::FormatOptions;
use arrow::util::pretty::{pretty_format_batches, pretty_format_batches_with_options};
use serde_json::Value;
use vexact::replication::{SyncResult, SyncStatus};
use vexact_core::error::{Error, Result};
use vexact_core::rows::shortened;
use vexact_workspace::{Artifact, Change, Run, RunError};

use super::answer::Written;
use super::answer::{Answer, Copied, Excerpt, Explained, Ran, SoFar, Streamed, Table};
use super::failure::{During, Failure};
use super::rows_diff::RowsDiff;
use super::sketch::Sketched;
use super::workers::State;

impl Answer {
    /// Formats the answer as tables for people.
    pub fn table(&self) -> Result<String, Failure> {
        Ok(match self {
            Self::Serving { url } => format!("{url}\n"),
            Self::Listening { listening, version, threads } => {
                format!("{listening}  version {version}, {threads} threads\n")
            }
            Self::Cluster { workers, .. } => workers.iter().map(worker_line).collect(),
            Self::Sketched { path, sketches } => {
                let of = |sketch: &Sketched| match &sketch.tier {
                    Some(_) => {
                        format!("{}: column {} has a sketch: {}\n", path.display(), sketch.column, sketch.reason)
                    }
                    None => format!("{}: column {} has no sketch: {}\n", path.display(), sketch.column, sketch.reason),
                };
                sketches.iter().map(of).collect()
            }
            Self::Executed { rows_affected } => format!("{rows_affected} rows affected\n"),
            Self::Queried { route, table } => {
                let count: usize = table.batches().iter().map(RecordBatch::num_rows).sum();
                format!("{}{}{}: {}\n", pretty(table.batches())?, counted(count), route.side, route.reason)
            }
            Self::Registered { table, rows, unloaded_rows, .. } => {
                format!("{table}: registered, {rows} rows in the replica, {unloaded_rows} not loaded\n")
            }
            Self::Unregistered { table } => format!("{table}: not registered any more\n"),
            Self::Uninstalled { dropped } => format!("{} triggers and tables dropped\n", dropped.len()),
            Self::Synced { copied, result } => {
                let copied =
                    copied.iter().map(|Copied { table, rows_copied }| format!("{table}: {rows_copied} rows copied\n"));
                format!("{}{}", copied.collect::<String>(), synced(result)?)
            }
            Self::Found { table, explain, .. } => {
                let mut text = pretty(table.batches())?;
                if let Some(Explained { logical, physical, strategy }) = explain {
                    for (title, plan) in [("logical", logical), ("physical", physical), ("strategy", strategy)] {
                        // Writing to a String never fails.
                        let _ = write!(text, "\n{title}\n{}\n", plan.trim_end());
                    }
                }
                text
            }
            Self::TextRegistered { table, columns, tokenizer } => {
                format!("{table}: text of {} indexed by {tokenizer}\n", columns.join(", "))
            }
            Self::TextFound { table, .. } => pretty(table.batches())?,
            Self::Status(status) => status_table(status)?,
            Self::PositionDropped { position, pruned_count } => {
                format!("{position}: dropped, {pruned_count} changes pruned\n")
            }
            Self::FileQueried { rows, written, .. } => result_table(rows, written.as_ref())?,
            Self::FileSearched { rows, written, explain, .. } => {
                format!("{}{}\n", result_table(rows, written.as_ref())?, explain.strategy.trim_end())
            }
            Self::Streamed(streamed) => streamed_table(streamed)?,
            Self::Ran(Ran { run_id, run_dir, status, result, .. }) => {
                format!("{}run {run_id}: {status}, in {}\n", result.table()?, run_dir.display())
            }
            Self::Run { run, artifacts, so_far } => {
                format!("{}{}{}", run_lines(run), so_far_lines(so_far)?, artifacts_table(artifacts)?)
            }
            Self::RunStatus { run_id, status, action, artifacts, duration_ms, so_far, error, .. } => {
                let (so_far, error) = (so_far_lines(so_far)?, error_lines(error.as_ref()));
                let artifacts = artifacts_table(artifacts)?;
                format!("run {run_id}: {action}, {status}, {duration_ms} ms\n{error}{so_far}{artifacts}")
            }
            Self::Runs { runs } => runs_table(runs)?,
            Self::RunResult { result, artifact, .. } | Self::Previewed { preview: result, artifact, .. } => {
                format!("{}{}\n", excerpt_table(result)?, artifact.path.display())
            }
            Self::Diff { changes, rows, .. } => format!("{}{}", changes_table(changes)?, rows_lines(rows.as_ref())),
            Self::Cleaned(cleaned) => {
                let folders = cleaned.deleted_run_dirs.len();
                let ids: String = cleaned.deleted_run_ids.iter().map(|id| format!("{id}\n")).collect();
                format!("{ids}{} runs forgotten, {folders} folders deleted\n", cleaned.deleted_run_ids.len())
            }
            Self::Artifacts { artifacts } => artifacts_table(artifacts)?,
            Self::Rows { table, truncated } => {
                let rows: usize = table.batches().iter().map(RecordBatch::num_rows).sum();
                let count = if *truncated { format!("(first {rows} rows)\n") } else { counted(rows) };
                format!("{}{count}", pretty(table.batches())?)
            }
            Self::Done {} => "done\n".into(),
            Self::Text(text) => text.clone(),
        })
    }
}

fn worker_line(state: &State) -> String {
    match state {
        State::Ready { worker, version, threads, memory_bytes, tasks } => {
            let memory = memory_bytes.map_or_else(|| "no own memory limit".into(), |bytes| format!("{bytes} bytes"));
            format!("{worker}  version {version}, {threads} threads, {memory}, {tasks} tasks\n")
        }
        State::Failed { worker, error } => format!("{worker}  {error}\n"),
    }
}

fn so_far_lines(SoFar { result, latest_progress }: &SoFar) -> Result<String, Failure> {
    let progress = latest_progress.iter().map(|progress| format!("progress: {progress}\n")).collect::<String>();
    Ok(format!("{progress}{}", result.as_ref().map_or(Ok(String::new()), excerpt_table)?))
}

fn counted(rows: usize) -> String {
    format!("({rows} row{})\n", if rows == 1 { "" } else { "s" })
}

fn result_table(table: &Table, written: Option<&Written>) -> Result<String, Failure> {
    let rows: usize = table.batches().iter().map(RecordBatch::num_rows).sum();
    let shown = pretty(table.batches())?;
    Ok(match written {
        None => format!("{shown}{}", counted(rows)),
        Some(Written { row_count, truncated, output_path }) => {
            let count = if *truncated { format!("(first {rows} of {row_count} rows)\n") } else { counted(rows) };
            format!("{shown}{count}{}\n", output_path.display())
        }
    })
}

fn streamed_table(streamed: &Streamed) -> Result<String, Failure> {
    let Streamed { rows, rows_written, truncated, sink_path, batches_processed, progress, .. } = streamed;
    let shown: usize = rows.batches().iter().map(RecordBatch::num_rows).sum();
    let count = if *truncated { format!("(first {shown} of {rows_written} rows)\n") } else { counted(shown) };
    let batches = format!("{batches_processed} micro-batch{}", if *batches_processed == 1 { "" } else { "es" });
    let late = if progress.late_rows > 0 { format!(", {} late rows", progress.late_rows) } else { String::new() };
    let path = sink_path.as_ref().map_or(String::new(), |path| format!("{}\n", path.display()));
    Ok(format!("{}{count}{path}{batches}{late}\n", pretty(rows.batches())?))
}

fn excerpt_table(Excerpt { table, row_count, truncated }: &Excerpt) -> Result<String, Failure> {
    let rows: usize = table.batches().iter().map(RecordBatch::num_rows).sum();
    let count = if *truncated { format!("(first {rows} of {row_count} rows)\n") } else { counted(rows) };
    Ok(format!("{}{count}", pretty(table.batches())?))
}

fn runs_table(runs: &[Run]) -> Result<String, Failure> {
    let count = |run: &Run| run.row_count.map_or(String::new(), |count| count.to_string());
    let table = pretty_columns(vec![
        ("run_id", texts(runs, |run| run.run_id.clone())),
        ("run_name", texts(runs, |run| run.run_name.clone().unwrap_or_default())),
        ("action", texts(runs, |run| run.action.clone())),
        ("status", texts(runs, |run| run.status.to_string())),
        ("tags", texts(runs, |run| run.tags.join(", "))),
        ("duration_ms", numbers(runs.iter().map(|run| run.duration_ms))),
        ("rows", texts(runs, count)),
        ("error", texts(runs, |run| run.error.as_ref().map_or(String::new(), |error| cut(&error.error)))),
    ])?;
    Ok(format!("{table}{}", counted(runs.len()).replace("row", "run")))
}

fn run_lines(run: &Run) -> String {
    let mut text = format!("run {}: {}, {}, {} ms\n", run.run_id, run.action, run.status, run.duration_ms);
    let lines = [
        ("name", run.run_name.clone()),
        ("description", run.description.clone()),
        ("tags", (!run.tags.is_empty()).then(|| run.tags.join(", "))),
        ("started", Some(run.started_at.clone())),
        ("finished", run.finished_at.clone()),
        ("rows", run.row_count.map(|count| count.to_string())),
        ("folder", Some(run.run_dir.display().to_string())),
    ];
    for (name, line) in lines {
        if let Some(line) = line {
            // Writing to a String never fails.
            let _ = writeln!(text, "  {name}: {line}");
        }
    }
    text + &error_lines(run.error.as_ref())
}

fn error_lines(error: Option<&RunError>) -> String {
    error.map_or(String::new(), |error| format!("  error: {} ({}, {})\n", error.error, error.error_type, error.phase))
}

fn artifacts_table(artifacts: &[Artifact]) -> Result<String, Failure> {
    if artifacts.is_empty() {
        return Ok("no artifacts\n".into());
    }
    pretty_columns(vec![
        ("artifact_id", texts(artifacts, |artifact| artifact.artifact_id.clone())),
        ("format", texts(artifacts, |artifact| artifact.format.clone())),
        ("rows", numbers(artifacts.iter().map(|artifact| artifact.row_count))),
        ("size_bytes", numbers(artifacts.iter().map(|artifact| artifact.size_bytes))),
        ("path", texts(artifacts, |artifact| artifact.path.display().to_string())),
    ])
}

fn changes_table(changes: &[Change]) -> Result<String, Failure> {
    if changes.is_empty() {
        return Ok("what was asked and how it ended: the same\n".into());
    }
    let text = |value: &Value| cut(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    pretty_columns(vec![
        ("field", texts(changes, |change| change.field.clone())),
        ("run", texts(changes, |change| text(&change.run))),
        ("other", texts(changes, |change| text(&change.other))),
    ])
}

fn rows_lines(rows: Option<&RowsDiff>) -> String {
    let Some(rows) = rows else { return "rows: not compared\n".into() };
    let RowsDiff { same, only_in_run, only_in_other, examples_only_in_run, examples_only_in_other } = rows;
    let mut text = format!("rows: {same} the same, {only_in_run} only in run, {only_in_other} only in other\n");
    for (sign, examples) in [('-', examples_only_in_run), ('+', examples_only_in_other)] {
        for row in examples {
            // Writing to a String never fails.
            let _ = writeln!(text, "  {sign} {row}");
        }
    }
    text
}

/// Returns the beginning of a text, on one line.
fn cut(text: &str) -> String {
    const CHARS: usize = 80;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn texts<T>(items: &[T], text: impl Fn(&T) -> String) -> ArrayRef {
    Arc::new(items.iter().map(|item| Some(text(item))).collect::<StringArray>())
}

fn pretty(batches: &[RecordBatch]) -> Result<String, Failure> {
    let options = FormatOptions::default().with_null("NULL");
    let shown = batches.iter().map(shortened).collect::<Result<Vec<_>>>();
    let table = shown.and_then(|shown| pretty_format_batches_with_options(&shown, &options).map_err(Error::arrow));
    Ok(format!("{}\n", table.during("output")?))
}

/// Formats a table of the command's own columns. Their texts are not cut.
fn pretty_columns(columns: Vec<(&str, ArrayRef)>) -> Result<String, Failure> {
    let batch = RecordBatch::try_from_iter(columns);
    let table = batch.and_then(|batch| pretty_format_batches(&[batch])).map_err(Error::arrow);
    Ok(format!("{}\n", table.during("output")?))
}

fn numbers(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn synced(result: &SyncResult) -> Result<String, Failure> {
    pretty_columns(vec![
        ("events", numbers([result.events_processed])),
        ("inserted", numbers([result.rows_inserted])),
        ("updated", numbers([result.rows_updated])),
        ("deleted", numbers([result.rows_deleted])),
        ("pruned", numbers([result.pruned_count.unwrap_or(0)])),
    ])
}

fn status_table(status: &SyncStatus) -> Result<String, Failure> {
    let tables = &status.tables;
    let table = pretty_columns(vec![
        ("table", texts(tables, |table| table.name.clone())),
        ("rows", numbers(tables.iter().map(|table| table.rows))),
        ("lag", numbers(tables.iter().map(|table| table.lag))),
        ("state", texts(tables, |table| table.state.to_string())),
        ("last_error", texts(tables, |table| table.last_error().unwrap_or_default().to_owned())),
    ])?;
    let last = status.last_synced_seq.map_or_else(|| "none".to_owned(), |seq| seq.to_string());
    let error = status.last_error.iter().map(|error| format!("last error: {error}\n")).collect::<String>();
    let warnings = tables.iter().filter_map(|table| Some(format!("{}: {}\n", table.name, table.warning()?)));
    let warnings = warnings.collect::<String>();
    let positions = &status.positions;
    let positions = pretty_columns(vec![
        ("position", texts(positions, |position| position.id.clone())),
        ("lag", numbers(positions.iter().map(|position| position.lag))),
        ("folder", texts(positions, |position| position.folder.clone().unwrap_or_default())),
        ("running", texts(positions, |position| position.is_running.to_string())),
    ])?;
    Ok(format!(
        "{table}lag {}, last synced seq {last}\n{error}{warnings}{positions}{} rows in the change log\n",
        status.lag, status.log_rows
    ))
}
