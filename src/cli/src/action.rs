//! The actions that can be tracked: the commands that `vexact run start` takes after its `--`.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value, json};
use vexact::sources::object_stores::shown;

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

/// The words before an action in usage texts.
const CALLED: &str = "vexact run start --";

/// The arguments of an action alone.
#[derive(Debug, Parser)]
#[command(name = CALLED, disable_help_subcommand = true)]
pub(super) struct Only {
    #[command(subcommand)]
    action: Action,
}

impl Action {
    /// Parses an action and its arguments. Returns `Ok(Err(help))` if the arguments ask for help.
    ///
    /// # Errors
    /// Arguments that are no valid action.
    pub fn parse(arguments: &[OsString]) -> Result<Result<Self, String>, Failure> {
        match Only::try_parse_from(std::iter::once(&OsString::from(CALLED)).chain(arguments)) {
            Ok(only) => Ok(Ok(only.action)),
            Err(asked) if asked.kind() == ErrorKind::DisplayHelp => Ok(Err(asked.render().to_string())),
            Err(error) => Err(Failure::of_usage(&error)),
        }
    }

    /// Returns its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CsvSql(_) => "csv-sql",
            Self::FileSql(_) => "file-sql",
            Self::VectorSearch(_) => "vector-search",
            Self::StreamSqlOnce(_) => "stream-sql-once",
        }
    }

    /// Returns the file or the folder that it reads.
    fn input_path(&self) -> &Path {
        match self {
            Self::CsvSql(command) | Self::FileSql(command) => command.input.path(),
            Self::VectorSearch(command) => command.input.path(),
            Self::StreamSqlOnce(command) => &command.source_csv_dir,
        }
    }

    /// Returns true if the action stops by itself on a stop request.
    pub fn listens(&self) -> bool {
        matches!(self, Self::StreamSqlOnce(_))
    }

    /// Returns the output file that the arguments name. It appears under its name when it is
    /// complete.
    pub fn output_path(&self) -> Option<&Path> {
        match self {
            Self::CsvSql(command) | Self::FileSql(command) => command.output_path.as_deref(),
            Self::VectorSearch(command) => command.output_path.as_deref(),
            Self::StreamSqlOnce(_) => None,
        }
    }

    /// Returns the details of a failure of this action.
    pub fn details(&self) -> Map<String, Value> {
        let input = self.input_path().to_string_lossy();
        let input = shown(&input).into_owned();
        [("command", self.name().to_owned()), ("input_path", input)]
            .map(|(name, value)| (name.into(), value.into()))
            .into_iter()
            .collect()
    }

    /// Returns the inputs that a tracked run of this action stores.
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
