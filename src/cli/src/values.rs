//! Values in arguments: parameters, columns, vectors.

use std::convert::Infallible;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::Value;
use vexact::htap::{Blobs, Param};
use vexact_core::error::{Error, Result};
use vexact_kernel::{KernelError, Metric};
use vexact_sql::VectorError;

use super::failure::{During, Failure};

/// Parses a parameter: JSON if the text is JSON, else the text. `@FILE` is the text of a file,
/// without the line break at its end.
pub(super) fn param(text: &str) -> Result<Param, String> {
    match text.strip_prefix('@') {
        Some(path) => {
            let text = read_text(Path::new(path)).map_err(|error| error.to_string())?;
            literal(text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line)))
        }
        None => literal(text),
    }
}

fn literal(text: &str) -> Result<Param, String> {
    let as_text = || Param::Text(text.to_owned());
    Ok(match serde_json::from_str::<Value>(text) {
        Ok(Value::Null) => Param::Null,
        Ok(Value::Bool(value)) => Param::Boolean(value),
        Ok(Value::Number(number)) => {
            let digits = text.trim();
            let is_whole = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
            match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => Param::Integer(number),
                // SQLite has no larger integers; a float would lose digits.
                (None, Some(number)) if !is_whole => Param::Real(number),
                _ => Param::Text(digits.to_owned()),
            }
        }
        Ok(Value::String(text)) => Param::Text(text),
        Ok(Value::Array(items)) if !items.is_empty() && items.iter().all(Value::is_number) => {
            Param::Vector(items.iter().enumerate().map(component).collect::<Result<_, _>>()?)
        }
        Ok(Value::Array(_) | Value::Object(_)) | Err(_) => as_text(),
    })
}

fn component((at, item): (usize, &Value)) -> Result<f32, String> {
    let narrow = item.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
    narrow.ok_or_else(|| format!("component {at}: expected a number within float32, got {item}"))
}

/// Parses a column `name:type`; the type is checked with the schema.
pub(super) fn column(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once(':') {
        Some((name, kind)) if !name.is_empty() && !kind.is_empty() => Ok((name.to_owned(), kind.to_owned())),
        _ => Err("expected NAME:TYPE, such as id:int64".into()),
    }
}

/// Parses a BLOB column `name:dim` of vectors, or `name:bytes`.
pub(super) fn blobs(text: &str) -> Result<(String, Blobs), String> {
    let (name, kind) = text.rsplit_once(':').unwrap_or_default();
    let kind = match kind {
        "bytes" => Some(Blobs::Bytes),
        dim => dim.parse().ok().map(Blobs::Vectors),
    };
    let column = kind.filter(|_| !name.is_empty()).map(|kind| (name.to_owned(), kind));
    column.ok_or_else(|| "expected NAME:DIM or NAME:bytes, such as embedding:384".into())
}

/// Parses a metric's name.
pub(super) fn metric(text: &str) -> Result<Metric, KernelError> {
    text.parse()
}

/// A query vector, or the file that holds it.
#[derive(Debug, Clone)]
pub(super) enum QueryVector {
    Components(String),
    File(PathBuf),
}

impl FromStr for QueryVector {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.strip_prefix('@') {
            Some(path) => Self::File(path.into()),
            None => Self::Components(text.to_owned()),
        })
    }
}

impl QueryVector {
    /// Returns its components, read from the file if it is in one.
    pub fn components(&self) -> Result<Vec<f64>, Failure> {
        match self {
            Self::Components(text) => {
                components(text).map_err(|error| Failure::usage(format!("--query-vector: {error}")))
            }
            Self::File(path) => {
                let text = read_text(path).during("arguments")?;
                let problem = |error: VectorError| Error::BadFile { path: path.clone(), problem: error.to_string() };
                components(&text).map_err(problem).during("arguments")
            }
        }
    }
}

/// Serialized as it was given.
impl Serialize for QueryVector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Components(text) => serializer.serialize_str(text),
            Self::File(path) => serializer.collect_str(&format_args!("@{}", path.display())),
        }
    }
}

/// Parses the components of `0.1,0.2` or `[0.1, 0.2]`.
fn components(text: &str) -> Result<Vec<f64>, VectorError> {
    match text.trim() {
        bracketed if bracketed.starts_with('[') => vexact_sql::parse_vector(bracketed),
        bare => vexact_sql::parse_vector(&format!("[{bare}]")),
    }
}

/// Reads the text of a file; `-` is the standard input.
///
/// # Errors
/// A file that is missing, cannot be read or is not UTF-8.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().lock().read_to_end(&mut bytes).map(drop),
        false => std::fs::read(path).map(|content| bytes = content),
    };
    read.map_err(|error| Error::io(path, error))?;
    String::from_utf8(bytes).map_err(|error| Error::BadFile {
        path: path.into(),
        problem: format!("expected text in UTF-8, got another byte at {}", error.utf8_error().valid_up_to()),
    })
}
