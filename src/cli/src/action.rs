//! What can be tracked: the commands that `vexact run start` takes after its `--`.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::failure::Failure;
use super::input::fingerprint;
use super::search::FileSearch;
use super::sql::FileSql;
use super::stream::StreamSqlOnce;
use super::track::Track;

#[derive(Debug, Clone, Subcommand, Serialize)]
#[serde(untagged)]
pub(super) enum Action {
    /// SQL on a CSV file
    CsvSql(FileSql),
    /// SQL on a file of any kind
    FileSql(FileSql),
    /// Find the rows of a file whose vectors are closest to a query
    VectorSearch(FileSearch),
    /// Streaming SQL: what comes into a folder of CSV files, micro-batch by micro-batch into a file
    StreamSqlOnce(StreamSqlOnce),
}

/// What stands before an action, as usage texts show it.
const CALLED: &str = "vexact run start --";

/// The arguments of an action alone.
#[derive(Debug, Parser)]
#[command(name = CALLED, disable_help_subcommand = true)]
struct Only {
    #[command(subcommand)]
    action: Action,
}

impl Action {
    /// Reads an action and its arguments.
    ///
    /// # Errors
    /// Arguments that make none; `Ok(Err(help))` where its help is asked for.
    pub fn parse(arguments: &[OsString]) -> Result<Result<Self, String>, Failure> {
        match Only::try_parse_from(std::iter::once(&OsString::from(CALLED)).chain(arguments)) {
            Ok(only) => Ok(Ok(only.action)),
            Err(asked) if asked.kind() == ErrorKind::DisplayHelp => Ok(Err(asked.render().to_string())),
            Err(error) => Err(Failure::of_usage(&error)),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CsvSql(_) => "csv-sql",
            Self::FileSql(_) => "file-sql",
            Self::VectorSearch(_) => "vector-search",
            Self::StreamSqlOnce(_) => "stream-sql-once",
        }
    }

    /// The file or the folder that it reads.
    fn input_path(&self) -> &Path {
        match self {
            Self::CsvSql(command) | Self::FileSql(command) => command.input.path(),
            Self::VectorSearch(command) => command.input.path(),
            Self::StreamSqlOnce(command) => &command.source_csv_dir,
        }
    }

    /// Whether it ends by itself when it is asked to.
    pub fn listens(&self) -> bool {
        matches!(self, Self::StreamSqlOnce(_))
    }

    /// The file that it is told to write, and that appears when it is whole.
    pub fn output_path(&self) -> Option<&Path> {
        match self {
            Self::CsvSql(command) | Self::FileSql(command) => command.output_path.as_deref(),
            Self::VectorSearch(command) => command.output_path.as_deref(),
            Self::StreamSqlOnce(_) => None,
        }
    }

    /// What a failure says of it.
    pub fn details(&self) -> Map<String, Value> {
        let input = self.input_path().display().to_string();
        [("command", self.name().to_owned()), ("input_path", input)]
            .map(|(name, value)| (name.into(), value.into()))
            .into_iter()
            .collect()
    }

    /// What a run of it keeps as its inputs.
    pub fn inputs(&self) -> Value {
        json!({
            "action": self.name(),
            "options": serde_json::to_value(self).unwrap_or_default(),
            "input_file": fingerprint(self.input_path()),
            "working_directory": std::env::current_dir().ok(),
        })
    }

    pub async fn run(self, track: &Track) -> Result<Answer, Failure> {
        match self {
            Self::CsvSql(command) | Self::FileSql(command) => command.run(track).await,
            Self::VectorSearch(command) => command.run(track).await,
            Self::StreamSqlOnce(command) => command.run(track).await,
        }
    }
}
