//! JSON: one object a line, or one array of objects.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use ::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::prelude::{JsonReadOptions, SessionContext};

use super::{arrow, bad_file, location, open_file};
use crate::error::{Error, Result};

/// How objects follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonFormat {
    /// One object a line.
    Lines,
    /// One array.
    Array,
}

impl FromStr for JsonFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "json_lines" | "jsonl" | "ndjson" => Ok(Self::Lines),
            "json_array" | "json" => Ok(Self::Array),
            _ => Err(Error::InvalidArgument(format!("format: expected one of json_lines, json_array, got {name:?}"))),
        }
    }
}

impl JsonFormat {
    /// The byte with which such a file begins, and its name for people.
    fn start(self) -> (u8, &'static str) {
        match self {
            Self::Lines => (b'{', "JSON lines, an object on each (json_lines)"),
            Self::Array => (b'[', "a JSON array of objects (json_array)"),
        }
    }
}

/// A JSON file as a table. It is read as queries need it, unless it holds lists: then it is read once, and lists of numbers of
/// one length become vectors, but for those of whole numbers alone.
///
/// # Errors
/// A missing or empty file, or content of another form.
pub async fn open(ctx: &SessionContext, path: &Path, format: JsonFormat) -> Result<Arc<dyn TableProvider>> {
    let location = location(path, format.start().1)?;
    check_form(path, format)?;
    let bad = |error: datafusion::error::DataFusionError| bad_file(path, &error.strip_backtrace());
    let options = JsonReadOptions { newline_delimited: format == JsonFormat::Lines, ..JsonReadOptions::default() }
        .file_extension("");
    let mut frame = ctx.read_json(location.as_str(), options.clone()).await.map_err(bad)?;
    if !frame.schema().fields().iter().any(|field| field.data_type().is_list()) {
        return Ok(frame.into_view());
    }
    // The first lists may be of whole numbers, or empty, and later ones of others.
    let is_undecided = |data_type: &DataType| match data_type {
        DataType::List(item) => item.data_type().is_integer() || item.data_type().is_null(),
        _ => false,
    };
    if frame.schema().fields().iter().any(|field| is_undecided(field.data_type())) {
        let options = options.schema_infer_max_records(usize::MAX);
        frame = ctx.read_json(location, options).await.map_err(bad)?;
    }
    let schema = Arc::clone(frame.schema().inner());
    arrow::open(schema, frame.collect().await.map_err(bad)?)
}

/// Refuses a file of the other form, and an array that is cut off: DataFusion reads the one as no rows, the other as those
/// that are left.
fn check_form(path: &Path, format: JsonFormat) -> Result<()> {
    let io = |error| Error::io(path, error);
    let (start, expected) = format.start();
    let mut file = BufReader::new(open_file(path)?);
    let is_space = |byte: &io::Result<u8>| byte.as_ref().is_ok_and(u8::is_ascii_whitespace);
    let got = match file.by_ref().bytes().find(|byte| !is_space(byte)).transpose().map_err(io)? {
        Some(first) if first == start => None,
        Some(first) => Some(format!("a file that begins with '{}'", first.escape_ascii())),
        None => Some("a file of white space".into()),
    };
    if let Some(got) = got {
        let start = char::from(start);
        return Err(bad_file(path, &format!("expected {expected}, beginning with '{start}', got {got}")));
    }
    if format == JsonFormat::Array {
        let len = file.seek(SeekFrom::End(0)).map_err(io)?;
        file.seek(SeekFrom::Start(len.saturating_sub(4096))).map_err(io)?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail).map_err(io)?;
        let last = tail.trim_ascii_end().last().map_or(String::new(), |last| last.escape_ascii().to_string());
        if last != "]" {
            return Err(bad_file(
                path,
                &format!("expected {expected}, ending with ']', got a file that ends with '{last}'"),
            ));
        }
    }
    Ok(())
}
