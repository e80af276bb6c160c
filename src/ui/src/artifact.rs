//! Artifacts: the list of all, and the first rows of one.

use maud::{Markup, html};
use vexact_core::error::Result;
use vexact_html::table;
use vexact_workspace::{Artifact, ArtifactKind, Workspace};

use super::layout::{Page, link, time};
use super::text::{bytes, count, counted};

/// Artifacts of the list.
const LIMIT: usize = 200;

pub(super) fn list(workspace: &Workspace) -> Result<Markup> {
    let artifacts = workspace.artifacts(None, Some(LIMIT))?;
    let body = html! {
        h1 { "Artifacts" }
        div #artifacts data-live {
            @if artifacts.is_empty() {
                div.empty { p { "No run has made a file yet." } }
            } @else {
                (files(&artifacts, true))
                p.note {
                    (counted(artifacts.len() as u64, "artifact")) ", of the newest run first"
                    @if artifacts.len() == LIMIT { "; those of older runs are on the runs' pages" }
                }
            }
        }
    };
    Ok(Page { title: "Artifacts", place: "/artifacts", refresh_ms: Some(5000), body }.render())
}

/// Artifacts as a table, of one run or with their runs.
pub(super) fn files(artifacts: &[Artifact], is_of_all_runs: bool) -> Markup {
    html! {
        table.files {
            thead { tr {
                th scope="col" { "Artifact" }
                @if is_of_all_runs { th scope="col" { "Run" } }
                th scope="col" { "Format" } th.number scope="col" { "Rows" } th.number scope="col" { "Size" } th scope="col" { "Made" }
            } }
            tbody {
                @for artifact in artifacts { tr {
                    td.name { a href=(link("artifacts", &artifact.artifact_id)) { (artifact.kind) } }
                    @if is_of_all_runs { td.run { a href=(link("runs", &artifact.run_id)) { (artifact.run_id) } } }
                    td.format { (artifact.format) }
                    td.number.rows { (count(artifact.row_count)) span.unit { " rows" } }
                    td.number.size { (bytes(artifact.size_bytes)) }
                    td.started { (time(&artifact.created_at)) }
                } }
            }
        }
    }
}

pub(super) fn page(workspace: &Workspace, artifact_id: &str) -> Result<Markup> {
    let artifact = workspace.artifact(artifact_id)?;
    let run = workspace.run(&artifact.run_id)?;
    let name = &super::asked::title(&run, workspace.inputs(&run.run_id)?.as_ref());
    let body = html! {
        p.path { a href="/" { "Runs" } " / " a href=(link("runs", &run.run_id)) { (name) } " /" }
        h1 { (artifact.kind) }
        dl.facts {
            div { dt { "Format" } dd { (artifact.format) } }
            div { dt { "Rows" } dd { (count(artifact.row_count)) } }
            div { dt { "Columns" } dd { (artifact.schema.len()) } }
            div { dt { "Size" } dd { (bytes(artifact.size_bytes)) } }
            div { dt { "Made" } dd { (time(&artifact.created_at)) } }
            div.whole { dt { "File" } dd { code { (artifact.path.display()) } } }
        }
        section {
            h2 { "First rows" }
            (preview(workspace, &artifact)?)
        }
    };
    let title = format!("{} of {name}", artifact.kind);
    Ok(Page { title: &title, place: "/artifacts", refresh_ms: None, body }.render())
}

pub(super) fn preview(workspace: &Workspace, artifact: &Artifact) -> Result<Markup> {
    if artifact.kind == ArtifactKind::Explain {
        return Ok(
            html! { p { a href=(format!("{}#explain", link("runs", &artifact.run_id))) { "Shown with its run" } } },
        );
    }
    let preview = match workspace.preview(&artifact.artifact_id) {
        Ok(preview) => preview,
        // A rebuilt index has no previews.
        Err(error) => return Ok(html! { p.note { (error) } }),
    };
    let shown = preview.rows().num_rows() as u64;
    let note = match preview.is_truncated() {
        true => format!("{} of {}", counted(shown, "row"), count(preview.row_count())),
        false => counted(shown, "row"),
    };
    table(preview.rows(), Some(&note))
}
