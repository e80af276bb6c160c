//! How a file or Arrow data becomes a table.

pub mod arrow;
pub mod csv;
pub mod json;
pub mod parquet;

use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// A form of file, recognised by content and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Delimited text with a header line.
    Csv(char),
    /// JSON.
    Json(json::JsonFormat),
}

/// Recognises a file.
///
/// # Errors
/// A missing or unreadable file.
pub fn detect(path: &Path) -> Result<Format> {
    let mut start = Vec::new();
    let file = open_file(path)?;
    file.take(4096).read_to_end(&mut start).map_err(|error| Error::io(path, error))?;
    if start.starts_with(b"PAR1") {
        return Ok(Format::Parquet);
    }
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_lowercase();
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
    Ok(match (extension.as_str(), first) {
        ("csv", _) => Format::Csv(','),
        ("tsv", _) => Format::Csv('\t'),
        (_, Some(b'{')) => Format::Json(json::JsonFormat::Lines),
        (_, Some(b'[')) => Format::Json(json::JsonFormat::Array),
        ("json" | "jsonl" | "ndjson", _) => Format::Json(json::JsonFormat::Lines),
        _ => Format::Csv(','),
    })
}

/// Opens a file, or says that it is not there.
fn open_file(path: &Path) -> Result<std::fs::File> {
    let file = std::fs::File::open(path).map_err(|error| Error::io(path, error))?;
    let is_folder = file.metadata().map_err(|error| Error::io(path, error))?.is_dir();
    if is_folder {
        return Err(Error::InvalidArgument(format!("{}: expected a file, got a folder", path.display())));
    }
    Ok(file)
}

/// The path as DataFusion takes it, and its extension.
fn location(path: &Path) -> Result<(String, String)> {
    open_file(path)?;
    let absolute = std::path::absolute(path).map_err(|error| Error::io(path, error))?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_owned();
    match absolute.to_str() {
        Some(text) => Ok((text.to_owned(), extension)),
        None => Err(Error::InvalidArgument(format!("path {path:?}: expected UTF-8"))),
    }
}

/// A failure to read a file, with its path.
fn bad_file(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::BadFile { path: path.into(), problem: error.to_string() }
}
