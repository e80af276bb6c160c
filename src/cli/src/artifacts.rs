//! `vexact artifacts`: the files of tracked runs.

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::answer::{Answer, Excerpt};
use super::failure::{During, Failure};
use super::run::workspace;

#[derive(Debug, Subcommand)]
pub(super) enum ArtifactsCommand {
    /// List artifacts, those of the newest run first
    List(List),
    /// Show the first rows of an artifact
    Preview(PreviewOne),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"artifacts\": [{\"artifact_id\", \"run_id\", \"kind\", \"format\", \"path\", \"size_bytes\", \"row_count\", \"schema\", \"created_at\"}]}
Kinds:  result (the rows), explain (the plans)

Example:
  vexact artifacts list --run-id 20260131T120000Z_0123abcd --format table")]
pub(super) struct List {
    /// List only artifacts of this run, or of latest, the newest
    #[arg(long, value_name = "ID")]
    pub run_id: Option<String>,
    /// Maximum number of artifacts
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"artifact_id\", \"preview\": {\"schema\", \"rows\", \"row_count\", \"truncated\"}, \"artifact\"}
The workspace keeps the first 50 rows, and 200 KiB of them at most; run result reads more.

Example:
  vexact artifacts preview --artifact-id 20260131T120000Z_0123abcd.result --limit 10")]
pub(super) struct PreviewOne {
    /// Id of the artifact, as artifacts list reports it
    #[arg(long, value_name = "ID")]
    pub artifact_id: String,
    /// Maximum number of rows
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

impl ArtifactsCommand {
    /// Returns the details of a failure of this command.
    pub fn details(&self) -> Map<String, Value> {
        let name = match self {
            Self::List(_) => "artifacts list",
            Self::Preview(_) => "artifacts preview",
        };
        Map::from_iter([("command".to_owned(), name.into())])
    }
}

/// Runs a command.
pub(super) fn run(command: ArtifactsCommand) -> Result<Answer, Failure> {
    let workspace = workspace()?;
    match command {
        ArtifactsCommand::List(List { run_id, limit }) => {
            let run_id = run_id.map(|run_id| super::run::run_id(&workspace, run_id)).transpose()?;
            let artifacts = workspace.artifacts(run_id.as_deref(), limit).during("workspace")?;
            Ok(Answer::Artifacts { artifacts })
        }
        ArtifactsCommand::Preview(PreviewOne { artifact_id, limit }) => {
            let artifact = workspace.artifact(&artifact_id).during("workspace")?;
            let preview = workspace.preview(&artifact_id).during("workspace")?;
            let preview = limit.map_or(preview.clone(), |limit| preview.limited(limit));
            Ok(Answer::Previewed { artifact_id, preview: Excerpt::from(&preview), artifact })
        }
    }
}
