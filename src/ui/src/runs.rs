//! The list of runs.

use std::collections::BTreeSet;

use maud::{Markup, html};
use serde::Deserialize;
use url::form_urlencoded;
use vexact_core::error::Result;
use vexact_workspace::{Run, RunFilter, RunStatus, Workspace};

use super::asked;
use super::layout::{Page, link, status, tags, time};
use super::text::{count, counted, duration};

/// Number of runs on a page.
const LIMIT: usize = 100;
/// The actions in the filter's list.
const ACTIONS: [&str; 4] = ["csv-sql", "file-sql", "vector-search", "stream-sql-once"];
const STATUSES: [RunStatus; 5] =
    [RunStatus::Running, RunStatus::Succeeded, RunStatus::Failed, RunStatus::TimedOut, RunStatus::Cancelled];

/// The filter of the form; an empty text is no condition.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RunsQuery {
    status: String,
    action: String,
    tag: String,
    q: String,
    limit: String,
}

impl RunsQuery {
    fn filter(&self) -> Result<RunFilter> {
        let given = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_owned());
        Ok(RunFilter {
            status: given(&self.status).map(|name| name.parse()).transpose()?,
            action: given(&self.action),
            tag: given(&self.tag),
            query: given(&self.q),
            limit: Some(self.limit()),
        })
    }

    fn limit(&self) -> usize {
        self.limit.parse().ok().filter(|limit| (1..=100_000).contains(limit)).unwrap_or(LIMIT)
    }

    fn is_filtered(&self) -> bool {
        [&self.status, &self.action, &self.tag, &self.q].into_iter().any(|text| !text.trim().is_empty())
    }

    /// The address of the same list with more runs.
    fn more(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("status", &self.status), ("action", &self.action), ("tag", &self.tag), ("q", &self.q)] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        format!("/?{}", query.append_pair("limit", &(self.limit() * 5).to_string()).finish())
    }
}

pub(super) fn page(workspace: &Workspace, asked: &RunsQuery) -> Result<Markup> {
    let runs = workspace.runs(&asked.filter()?)?;
    let is_running = runs.iter().any(|run| run.status == RunStatus::Running);
    let body = html! {
        h1 { "Runs" }
        (form(asked, &runs))
        div #runs data-live {
            @if runs.is_empty() {
                (empty(asked, workspace))
            } @else {
                (table(&runs, workspace)?)
                p.note {
                    (counted(runs.len() as u64, "run")) ", newest first"
                    @if runs.len() == asked.limit() { " · " a href=(asked.more()) { "show more" } }
                }
            }
        }
    };
    Ok(Page { title: "Runs", place: "/", refresh_ms: Some(if is_running { 1000 } else { 5000 }), body }.render())
}

fn form(asked: &RunsQuery, runs: &[Run]) -> Markup {
    let mut actions: BTreeSet<&str> = ACTIONS.into_iter().chain(runs.iter().map(|run| run.action.as_str())).collect();
    actions.extend((!asked.action.is_empty()).then_some(asked.action.as_str()));
    let known_tags: BTreeSet<&String> = runs.iter().flat_map(|run| &run.tags).collect();
    html! {
        form.filters method="get" action="/" {
            label { "Text" input type="search" name="q" value=(asked.q) placeholder="name, tag, query, path …"; }
            label { "Status" select name="status" {
                option value="" { "any" }
                @for status in STATUSES {
                    option value=(status.name()) selected[asked.status == status.name()] { (status.name().replace('_', " ")) }
                }
            } }
            label { "Action" select name="action" {
                option value="" { "any" }
                @for action in actions { option value=(action) selected[asked.action == action] { (action) } }
            } }
            label { "Tag" input type="text" name="tag" value=(asked.tag) list="tags" placeholder="any"; }
            datalist #tags { @for tag in known_tags { option value=(tag) {} } }
            button type="submit" { "Filter" }
            @if asked.is_filtered() { a.clear href="/" { "Clear" } }
        }
    }
}

fn table(runs: &[Run], workspace: &Workspace) -> Result<Markup> {
    let titles = runs.iter().map(|run| Ok(asked::title(run, workspace.inputs(&run.run_id)?.as_ref())));
    let titles = titles.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        table.runs {
            thead { tr {
                th scope="col" { "Status" } th scope="col" { "Run" } th scope="col" { "Action" } th scope="col" { "Started" }
                th.number scope="col" { "Duration" } th.number scope="col" { "Rows" }
            } }
            tbody {
                @for (run, title) in runs.iter().zip(&titles) { tr {
                    td.state { (status(run.status)) }
                    td.name {
                        a href=(link("runs", &run.run_id)) title=(run.run_id) { (title) }
                        " " (tags(&run.tags))
                        @if let Some(error) = &run.error { div.reason title=(error.error) { (error.error) } }
                    }
                    td.action { (run.action) }
                    td.started { (time(&run.started_at)) }
                    td.number.duration { (duration(run.duration_ms)) }
                    td.number.rows { @if let Some(rows) = run.row_count { (count(rows)) span.unit { " rows" } } }
                } }
            }
        }
    })
}

fn empty(asked: &RunsQuery, workspace: &Workspace) -> Markup {
    html! {
        div.empty {
            @if asked.is_filtered() {
                p { "No run fits. " a href="/" { "Show all runs" } }
            } @else {
                p { "There are no runs yet in " code { (workspace.root().display()) } "." }
                pre { "vexact run start --run-name first -- csv-sql --csv data.csv --query \"SELECT count(*) FROM input_table\"" }
            }
        }
    }
}
