//! The commands and their arguments. The comments are the texts of `--help`.

use clap::{Parser, Subcommand};
use serde_json::{Map, Value};

use super::action::Action;
use super::artifacts::ArtifactsCommand;
use super::completions::{Complete, Completions};
use super::db::DbCommand;
use super::failure::Failure;
use super::format::Format;
use super::run::RunCommand;
use super::shell::Sql;
use super::sketch::SketchCommand;
use super::ui::UiCommand;
use super::worker::WorkerCommand;
use super::workers::ClusterCommand;

/// Exact vector search inside SQL analytics over live data
#[derive(Debug, Parser)]
#[command(
    name = "vexact",
    version,
    after_help = "\
Output: tables at a terminal; elsewhere, and with --format json, one JSON object on stdout, exit 0; on failure
        {\"ok\": false, \"error\", \"error_type\", \"phase\", \"details\"}, exit 1. Remarks go to stderr.

Examples:
  vexact csv-sql --csv docs.csv --query \"SELECT lang, count(*) AS n FROM input_table GROUP BY lang\" --format table
  vexact vector-search --csv docs.csv --vector-column embedding --query-vector \"0.1,0.2\" --columns title
  vexact run start --tag nightly -- csv-sql --csv docs.csv --query \"SELECT * FROM input_table\"
  vexact db query --db app.db \"SELECT count(*) FROM docs\"
  vexact sql docs.parquet"
)]
pub(super) struct Cli {
    /// JSON for programs; for people tables; the rows alone as CSV, or as an Arrow IPC stream.
    /// Errors of all but JSON are on stderr [default: table at a terminal, json elsewhere]
    #[arg(long, global = true, value_enum, display_order = 100)]
    pub format: Option<Format>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    #[command(flatten)]
    Action(Action),
    /// Run a command and record its inputs, results, logs and plans
    #[command(subcommand)]
    Run(RunCommand),
    /// The files of tracked runs
    #[command(subcommand)]
    Artifacts(ArtifactsCommand),
    /// A SQLite database with columnar replicas: statements, queries, sync, vector search
    #[command(subcommand)]
    Db(DbCommand),
    /// SQL on files or on a database: an interactive shell at a terminal, else the statements of stdin
    Sql(Sql),
    /// Add a sketch to a Parquet file, by which searches read fewer bytes of it
    Sketch(SketchCommand),
    /// Show runs, their progress, artifacts and explains on a local page
    Ui(UiCommand),
    /// Run parts of the queries of other processes: scans of Parquet files, searches and aggregations
    Worker(WorkerCommand),
    /// The workers of queries
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Print a script that completes commands in a shell
    Completions(Completions),
    /// Print the completions of a word, for those scripts
    #[command(name = "__complete", hide = true)]
    Complete(Complete),
}

impl Command {
    /// Rejects a format of rows alone if the command returns no rows, or if they are written to a
    /// file.
    pub fn check_format(&self, format: Format) -> Result<(), Failure> {
        let Some(form) = format.rows() else { return Ok(()) };
        let has_rows = match self {
            Self::Action(_) => true,
            Self::Run(command) => matches!(command, RunCommand::Start(_) | RunCommand::Result(_)),
            Self::Artifacts(command) => matches!(command, ArtifactsCommand::Preview(_)),
            Self::Db(command) => matches!(command, DbCommand::Query(_) | DbCommand::Search(_)),
            Self::Sql(_) => true,
            Self::Ui(_) | Self::Worker(_) | Self::Cluster(_) | Self::Sketch(_) => false,
            Self::Completions(_) | Self::Complete(_) => false,
        };
        match self {
            Self::Action(action) if action.output_path().is_some() => Err(Failure::usage(format!(
                "--format {}: expected all rows on the standard output, got --output-path",
                form.name()
            ))),
            _ if !has_rows => {
                Err(Failure::usage(format!("--format {}: expected a command that answers with rows", form.name())))
            }
            _ => Ok(()),
        }
    }

    /// Returns the details of a failure of this command.
    pub fn details(&self) -> Map<String, Value> {
        match self {
            Self::Action(command) => command.details(),
            Self::Run(command) => command.details(),
            Self::Artifacts(command) => command.details(),
            Self::Db(command) => command.details(),
            Self::Ui(command) => command.details(),
            Self::Worker(command) => command.details(),
            Self::Cluster(command) => command.details(),
            Self::Sketch(command) => command.details(),
            Self::Sql(_) => Map::from_iter([("command".to_owned(), "sql".into())]),
            Self::Completions(_) | Self::Complete(_) => Map::from_iter([("command".to_owned(), "completions".into())]),
        }
    }
}
