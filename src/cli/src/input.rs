//! A file as the table of a command.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use clap::{ArgGroup, Args, ValueEnum};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use vexact::session::{DataFrame, Session};
use vexact::sources::download;
use vexact::sources::inputs::Paths;
use vexact::sources::json::JsonFormat;
use vexact::sources::object_stores::{is_remote, shown};
use vexact::sources::parquet::is_partitioned;
use vexact::sources::probe::{Format, detect};
use vexact_core::error::{Error, Result};

/// The input that `-` stands for.
const STDIN: &str = "/dev/stdin";

/// Reads the first sheet of an Excel workbook, or returns a description of the error.
pub type SheetReader = fn(&Path) -> Result<(SchemaRef, Vec<RecordBatch>), String>;

static SHEET_READER: OnceLock<SheetReader> = OnceLock::new();

/// Sets the reader of Excel workbooks. The Python package calls this.
pub fn set_sheet_reader(reader: SheetReader) {
    // The first reader is kept.
    let _ = SHEET_READER.set(reader);
}

fn read_sheet(session: &Session, path: &Path) -> Result<DataFrame> {
    let Some(reader) = SHEET_READER.get() else {
        let problem = "Excel workbooks are read by the command of the Python package".into();
        return Err(Error::BadFile { path: path.into(), problem });
    };
    let (schema, batches) = reader(path).map_err(Error::InvalidArgument)?;
    session.create_dataframe_from_arrow(schema, batches)
}

/// The file of a command, and the name of its table in SQL.
#[derive(Debug, Clone, Args, Serialize)]
#[command(group = ArgGroup::new("file").required(true).args(["csv", "input_path"]))]
pub(super) struct Input {
    /// A CSV file with a header line; - is stdin; also a URL, as below
    #[arg(long, value_name = "PATH")]
    #[serde(serialize_with = "shown_path")]
    pub csv: Option<PathBuf>,
    /// A file of any kind, also compressed (.gz, .zst); a folder or a pattern of files of one kind; a URL of s3, gs, az,
    /// http or https with credentials from the environment; - is stdin
    #[arg(long, value_name = "PATH")]
    #[serde(serialize_with = "shown_path")]
    pub input_path: Option<PathBuf>,
    /// Format of the file; auto: detected from its content and name
    #[arg(long, value_enum, default_value_t = InputType::Auto, value_name = "TYPE")]
    pub input_type: InputType,
    /// Delimiter of a CSV file: one character, \t for a tab. [default: detected from the file]
    #[arg(long, value_name = "CHAR", value_parser = delimiter)]
    pub delimiter: Option<char>,
    /// Name of the file's table in SQL
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

/// Serializes a path as it may be recorded: without credentials in a URL.
pub(super) fn shown_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| shown(&path.to_string_lossy()).into_owned()).serialize(serializer)
}

/// Returns the path, size and modification time of a file or a folder, so that two runs can be told
/// apart.
///
/// A URL of an object store has neither.
pub(super) fn fingerprint(path: &Path) -> Value {
    if is_remote(path) {
        return json!({"path": shown(&path.to_string_lossy()), "size_bytes": null, "modified_ms": null});
    }
    let Ok(metadata) = std::fs::metadata(path) else { return Value::Null };
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    json!({
        "path": std::path::absolute(path).unwrap_or(path.into()),
        // The size of a folder is not that of its files.
        "size_bytes": metadata.is_file().then_some(metadata.len()),
        "modified_ms": modified.map(|modified| modified.as_millis() as u64),
    })
}

impl Input {
    /// The file.
    pub fn path(&self) -> &Path {
        // Clap requires one of the two.
        self.csv.as_deref().or(self.input_path.as_deref()).unwrap_or(Path::new(""))
    }

    /// Opens the file and registers it as a table of a session.
    ///
    /// # Errors
    /// A file that is missing, or not of its format.
    pub async fn open(&self, session: &Session) -> Result<DataFrame> {
        let frame = self.read(session).await?;
        session.create_temp_view(&self.table, &frame)?;
        Ok(frame)
    }

    async fn read(&self, session: &Session) -> Result<DataFrame> {
        let kind = if self.csv.is_some() { InputType::Csv } else { self.input_type };
        let paths = self.paths();
        let has_no_inputs = paths.is_remote() || is_partitioned(&[self.path().to_owned()]);
        if kind == InputType::Auto && self.delimiter.is_none() && has_no_inputs {
            return session.read(paths).await;
        }
        let stores = session.object_stores();
        match kind {
            InputType::Auto => {
                let inputs = download::any_inputs(stores, paths).await?;
                match (detect(&inputs[0])?, self.delimiter) {
                    (Format::Excel, _) => read_sheet(session, inputs[0].path()),
                    (Format::Csv(_), Some(delimiter)) => session.read_csv(inputs, delimiter).await,
                    _ => session.read(inputs).await,
                }
            }
            InputType::Csv => {
                let inputs = download::inputs(stores, paths, Format::Csv(',')).await?;
                let delimiter = match (self.delimiter, detect(&inputs[0])) {
                    (Some(delimiter), _) | (None, Ok(Format::Csv(delimiter))) => delimiter,
                    (None, _) => ',',
                };
                session.read_csv(inputs, delimiter).await
            }
            InputType::Line => session.read_lines(paths).await,
            InputType::Json => {
                let inputs = download::inputs(stores, paths, Format::Json(JsonFormat::Lines)).await?;
                match detect(&inputs[0])? {
                    Format::Json(form) => session.read_json(inputs, None, form).await,
                    _ => Err(Error::BadFile {
                        path: inputs[0].path().into(),
                        problem: "expected JSON: an object on each line, or an array of objects".into(),
                    }),
                }
            }
            InputType::Parquet => session.read_parquet(paths).await,
        }
    }

    /// The files; `-` is the input of the command.
    fn paths(&self) -> Paths {
        match self.path().to_str() {
            Some("-") => Paths::from(STDIN),
            _ => Paths::from(self.path()),
        }
    }
}
