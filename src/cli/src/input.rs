//! A file as the table of a command.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};
use vexact::session::{DataFrame, Session};
use vexact::sources::probe::{Format, detect};
use vexact_core::error::{Error, Result};

/// The file of a command, and what it is called in SQL.
#[derive(Debug, Clone, Args, Serialize)]
#[command(group = ArgGroup::new("file").required(true).args(["csv", "input_path"]))]
pub(super) struct Input {
    /// A CSV file with a header line
    #[arg(long, value_name = "PATH")]
    pub csv: Option<PathBuf>,
    /// A file of any kind
    #[arg(long, value_name = "PATH")]
    pub input_path: Option<PathBuf>,
    /// What kind of file it is; auto: by its content and name
    #[arg(long, value_enum, default_value_t = InputType::Auto, value_name = "TYPE")]
    pub input_type: InputType,
    /// What separates the cells of a CSV file: one character, \t for a tab. [default: what the file has]
    #[arg(long, value_name = "CHAR", value_parser = delimiter)]
    pub delimiter: Option<char>,
    /// What the file is called in SQL
    #[arg(long, value_name = "NAME", default_value = "input_table")]
    pub table: String,
}

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum InputType {
    Auto,
    Csv,
    Line,
    Json,
    Parquet,
}

/// One character, `\t` for a tab.
pub(super) fn delimiter(text: &str) -> Result<char, String> {
    let mut chars = text.chars();
    match (text, chars.next(), chars.next()) {
        ("\\t", ..) => Ok('\t'),
        (_, Some(one), None) => Ok(one),
        _ => Err(format!("expected one character, got {text:?}")),
    }
}

/// A file or a folder as it is now, so that two runs can be told apart.
pub(super) fn fingerprint(path: &Path) -> Value {
    let Ok(metadata) = std::fs::metadata(path) else { return Value::Null };
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    json!({
        "path": std::path::absolute(path).unwrap_or(path.into()),
        // Of a folder it says nothing.
        "size_bytes": metadata.is_file().then_some(metadata.len()),
        "modified_ms": modified.map(|modified| modified.as_millis() as u64),
    })
}

impl Input {
    /// The file.
    pub fn path(&self) -> &Path {
        // Clap sees to it that there is one.
        self.csv.as_deref().or(self.input_path.as_deref()).unwrap_or(Path::new(""))
    }

    /// Opens the file and names it in a session.
    ///
    /// # Errors
    /// A file that is missing, or not of its kind.
    pub async fn open(&self, session: &Session) -> Result<DataFrame> {
        let frame = self.read(session).await?;
        session.create_temp_view(&self.table, &frame)?;
        Ok(frame)
    }

    async fn read(&self, session: &Session) -> Result<DataFrame> {
        let path = self.path();
        let kind = if self.csv.is_some() { InputType::Csv } else { self.input_type };
        match kind {
            InputType::Auto => match (detect(path)?, self.delimiter) {
                (Format::Csv(_), Some(delimiter)) => session.read_csv(path, delimiter).await,
                _ => session.read(path).await,
            },
            InputType::Csv => {
                let found = || match detect(path) {
                    Ok(Format::Csv(delimiter)) => delimiter,
                    _ => ',',
                };
                session.read_csv(path, self.delimiter.unwrap_or_else(found)).await
            }
            InputType::Line => session.read_lines(path).await,
            InputType::Json => match detect(path)? {
                Format::Json(form) => session.read_json(path, None, form).await,
                _ => Err(Error::BadFile {
                    path: path.into(),
                    problem: "expected JSON: an object on each line, or an array of objects".into(),
                }),
            },
            InputType::Parquet => session.read_parquet(path).await,
        }
    }
}
