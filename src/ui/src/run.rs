//! One run: what it was asked, how it goes, what it made, and how.

use maud::{Markup, html};
use serde_json::Value;
use vexact_core::error::Result;
use vexact_html::{Explain, explain, table};
use vexact_workspace::{Artifact, ArtifactKind, LogKind, Run, RunError, RunStatus, Workspace};

use super::artifact::{files, preview};
use super::asked;
use super::layout::{Page, status, tags, time};
use super::plot::{Plot, plot};
use super::series::series;
use super::text::{bytes, count, counted, duration};

/// Snapshots that are read, the newest.
const SNAPSHOTS: usize = 2000;
/// The end of a log that is shown.
const LOG_BYTES: u64 = 32 * 1024;
/// Milliseconds from which on a number is no duration but a time since 1970.
const EPOCH_MS: f64 = 1e11;
/// Characters of a plan that are shown, and of each of its lines.
const SHOWN: usize = 65_536;
const SHOWN_LINE: usize = 2_000;

pub(super) fn page(workspace: &Workspace, run_id: &str) -> Result<Markup> {
    let run = workspace.run(run_id)?;
    let asked = workspace.inputs(run_id)?;
    let name = &asked::title(&run, asked.as_ref());
    let artifacts = workspace.artifacts(Some(run_id), None)?;
    let body = html! {
        p.path { a href="/" { "Runs" } " /" }
        div #head data-live { (head(&run, name)) }
        @if let Some(query) = asked::query(asked.as_ref()) { section { h2 { "Query" } pre.query { (cut(query)) } } }
        div #rows data-live { (rows(workspace, &artifacts)?) }
        div #latest data-live { @if run.status == RunStatus::Running { (latest(workspace, run_id)?) } }
        div #progress data-live { (progress(&workspace.progress(run_id, Some(SNAPSHOTS))?, &run)) }
        div #artifacts data-live {
            @if !artifacts.is_empty() { section { h2 { "Artifacts" } (files(&artifacts, false)) } }
        }
        (inputs(asked.as_ref()))
        div #explain data-live { (explained(workspace.explain(run_id)?.as_ref())) }
        div #logs data-live {
            @for (kind, title) in [(LogKind::Stderr, "Log"), (LogKind::Stdout, "Output")] {
                (log(title, &workspace.log_end(run_id, kind, LOG_BYTES)?))
            }
        }
    };
    let is_running = run.status == RunStatus::Running;
    Ok(Page { title: name, place: "/", refresh_ms: is_running.then_some(1000), body }.render())
}

/// The first rows of the result, once there is one.
fn rows(workspace: &Workspace, artifacts: &[Artifact]) -> Result<Markup> {
    match artifacts.iter().find(|artifact| artifact.kind == ArtifactKind::Result) {
        Some(result) => Ok(html! { section { h2 { "First rows" } (preview(workspace, result)?) } }),
        None => Ok(html! {}),
    }
}

/// The newest rows that a running stream has written.
fn latest(workspace: &Workspace, run_id: &str) -> Result<Markup> {
    match workspace.latest(run_id)? {
        Some(rows) => {
            let note = format!("the newest {}", counted(rows.num_rows() as u64, "row"));
            Ok(html! { section { h2 { "Latest output" } (table(&rows, Some(&note))?) } })
        }
        None => Ok(html! {}),
    }
}

fn head(run: &Run, name: &str) -> Markup {
    html! {
        h1 { (name) " " (status(run.status)) }
        @if let Some(description) = &run.description { p.description { (description) } }
        (tags(&run.tags))
        @if let Some(error) = &run.error { (failure(error)) }
        dl.facts {
            div { dt { "Action" } dd { (run.action) } }
            div { dt { "Started" } dd { (time(&run.started_at)) } }
            @if let Some(finished_at) = &run.finished_at { div { dt { "Ended" } dd { (time(finished_at)) } } }
            div { dt { "Duration" } dd { (duration(run.duration_ms)) } }
            @if let Some(limit) = run.timeout_ms { div { dt { "Time limit" } dd { (duration(limit)) } } }
            @if let Some(rows) = run.row_count { div { dt { "Rows" } dd { (count(rows)) } } }
            div { dt { "Process" } dd { (run.pid) } }
            div { dt { "Version" } dd { (run.version) } }
            div.wide { dt { "Run" } dd { code { (run.run_id) } } }
            div.whole { dt { "Folder" } dd { code { (run.run_dir.display()) } } }
        }
    }
}

fn failure(error: &RunError) -> Markup {
    html! {
        div.problem role="alert" {
            p { b { (error.error_type.replace('_', " ")) } ", in phase " (error.phase) }
            pre { (error.error) }
            @if !error.details.is_empty() {
                dl.pairs { @for (name, value) in &error.details { div { dt { (name) } dd { (json(value)) } } } }
            }
        }
    }
}

fn progress(snapshots: &[Value], run: &Run) -> Markup {
    let Some(newest) = snapshots.last() else { return html! {} };
    let series = series(snapshots, &run.started_at);
    let plots = [
        Plot { id: "rate", title: "Rows per second", unit: "rows/s", points: &series.rates },
        Plot { id: "latency", title: "Micro-batch latency", unit: "ms", points: &series.latencies },
        Plot { id: "backlog", title: "Backlog of micro-batches", unit: "", points: &series.backlogs },
    ];
    html! {
        section {
            h2 { "Progress" }
            (totals(newest))
            // A single snapshot makes no line, and what is no stream has no micro-batches.
            @if snapshots.len() > 1 {
                div.plots { @for of in plots.iter().filter(|of| !of.points.is_empty()) { (plot(of)) } }
                details { summary { "Newest snapshot" } (pairs(newest)) }
            } @else {
                (pairs(newest))
            }
        }
    }
}

/// The totals of a stream, as its newest snapshot has them.
fn totals(newest: &Value) -> Markup {
    const TOTALS: [(&str, &str); 5] = [
        ("rows_processed", "Rows processed"),
        ("rows_written", "Rows written"),
        ("batches_processed", "Micro-batches"),
        ("late_rows", "Late rows"),
        ("groups", "Groups"),
    ];
    let found: Vec<(&str, u64)> =
        TOTALS.iter().filter_map(|(name, title)| Some((*title, newest[*name].as_u64()?))).collect();
    html! {
        @if !found.is_empty() {
            dl.facts.totals { @for (title, total) in found { div { dt { (title) } dd { (count(total)) } } } }
        }
    }
}

fn inputs(inputs: Option<&Value>) -> Markup {
    html! {
        @if let Some(inputs) = inputs.filter(|inputs| !inputs.is_null()) { section { h2 { "Inputs" } (pairs(inputs)) } }
    }
}

/// The entries of an object and of those in it, `outer.inner`; what has no value is left out.
fn pairs(object: &Value) -> Markup {
    let mut found = Vec::new();
    entries("", object, &mut found);
    html! {
        dl.pairs {
            @for (name, value) in &found {
                @match measured(name, value) {
                    Some((name, text)) => div { dt { (name) } dd { (text) } },
                    None => div class=[is_long(value).then_some("wide")] { dt { (name) } dd { (shown(value)) } },
                }
            }
        }
    }
}

/// Returns an entry with a unit or an instant as people read it, and its name without the unit.
fn measured<'n>(name: &'n str, value: &Value) -> Option<(&'n str, Markup)> {
    if let Some(name) = name.strip_suffix("_ms") {
        let millis = value.as_f64().filter(|millis| *millis >= 0.0)?.round();
        // A file's time is since 1970.
        let instant = chrono::DateTime::from_timestamp_millis(millis as i64).filter(|_| millis >= EPOCH_MS);
        return Some((name, instant.map_or_else(|| html! { (duration(millis as u64)) }, |at| time(&at.to_rfc3339()))));
    }
    if let Some(name) = name.strip_suffix("_bytes") {
        let size = value.as_u64()?;
        return Some((name, html! { (bytes(size)) }));
    }
    let instant = value.as_str().filter(|text| chrono::DateTime::parse_from_rfc3339(text).is_ok())?;
    Some((name, time(instant)))
}

fn entries<'a>(name: &str, value: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Null => {}
        Value::Array(items) if items.is_empty() => {}
        // serde_json reads no deeper than 128.
        Value::Object(inner) => {
            let prefix = if name.is_empty() { String::new() } else { format!("{name}.") };
            inner.iter().for_each(|(inner, value)| entries(&format!("{prefix}{inner}"), value, found));
        }
        value => found.push((name.to_owned(), value)),
    }
}

fn is_long(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() > 30,
        Value::Array(_) | Value::Object(_) => true,
        _ => false,
    }
}

fn shown(value: &Value) -> Markup {
    html! { @if is_long(value) { code { (json(value)) } } @else { (json(value)) } }
}

/// A value as text: a long list by its first items.
fn json(value: &Value) -> String {
    const ITEMS: usize = 8;
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.len() > ITEMS => {
            let first: Vec<String> = items[..ITEMS].iter().map(Value::to_string).collect();
            format!("[{}, … {} items]", first.join(", "), items.len())
        }
        other => other.to_string(),
    }
}

fn explained(stored: Option<&Value>) -> Markup {
    let Some(stored) = stored else { return html! {} };
    // A plan of thousands of conditions would be a page that no browser shows.
    let text = |section: &str| cut(stored[section].as_str().unwrap_or_default());
    let (logical, physical, strategy) = (text("logical"), text("physical"), text("strategy"));
    let whole = format!("logical\n{logical}\nphysical\n{physical}\nstrategy\n{strategy}\n");
    // The file has the strategy as `key=value` lines, with an empty line between sections.
    let sections = strategy.split("\n\n").filter(|section| !section.trim().is_empty());
    let pairs = |section| str::lines(section).map(|line| line.split_once('=').unwrap_or((line, ""))).collect();
    let explained =
        Explain { logical: &logical, physical: &physical, strategy: sections.map(pairs).collect(), text: &whole };
    html! { section { h2 { "Explain" } (explain(&explained)) } }
}

/// The beginning of a text that is too long to be shown, and how long it is; each line of it, too.
fn cut(text: &str) -> String {
    let shortened = |text: &str, most: usize, of: &str| match text.char_indices().nth(most) {
        Some((end, _)) => format!("{} … {of} of {} characters", &text[..end], count(text.chars().count() as u64)),
        None => text.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(|line| shortened(line, SHOWN_LINE, "a line")).collect();
    shortened(&lines.join("\n"), SHOWN, "a plan")
}

fn log(title: &str, end: &str) -> Markup {
    html! {
        @if !end.trim().is_empty() { section { h2 { (title) } pre.log { (end.trim_end()) } } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_instants_are_shown_as_people_read_them() {
        let shown = |name: &str, value: Value| {
            measured(name, &value).map(|(name, text)| format!("{name}: {}", text.into_string()))
        };
        assert_eq!(shown("timeout_ms", 90_000.into()).unwrap(), "timeout: 1 min 30 s");
        assert_eq!(shown("size_bytes", 12_345.into()).unwrap(), "size: 12.3 kB");
        assert!(shown("modified_ms", 1_769_860_800_000_i64.into()).unwrap().contains("2026-01-31 12:00:00 UTC"));
        assert!(shown("at", "2026-01-31T12:00:00Z".into()).unwrap().contains("<time datetime="));
        assert_eq!(
            [shown("rows", 7.into()), shown("timeout_ms", Value::Null), shown("name", "x".into())],
            [None, None, None]
        );
    }

    #[test]
    fn long_plans_are_cut_and_say_so() {
        assert_eq!(cut("Limit\n  Scan"), "Limit\n  Scan");
        let line = cut(&"é".repeat(3_000));
        assert!(line.starts_with("éé") && line.contains("a line of 3\u{202f}000 characters"), "{line}");
        let plan = cut(&"  Filter\n".repeat(1_000_000));
        assert!(plan.len() < 2 * SHOWN && plan.contains("a plan of"), "{}", plan.len());
    }
}
