//! How a file or Arrow data becomes a table, and rows become a file.

pub mod arrow;
pub mod create;
pub mod csv;
pub(crate) mod csv_write;
pub mod json;
pub mod parquet;
pub mod row_file;
pub(crate) mod sql_type;
mod vector_text;

use std::io::{self, Read};
use std::path::Path;

use url::Url;

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
        ("parquet", _) => Format::Parquet,
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

/// A file to read, as DataFusion takes it. An empty one is refused: DataFusion would read it as a table without columns.
fn location(path: &Path, expected: &str) -> Result<String> {
    let file = open_file(path)?;
    if file.metadata().map_err(|error| Error::io(path, error))?.len() == 0 {
        return Err(bad_file(path, &format!("expected {expected}, got an empty file")));
    }
    file_url(path)
}

/// A path as a URL, for DataFusion: it would take `*`, `?` and `[` in a path as a pattern.
pub(crate) fn file_url(path: &Path) -> Result<String> {
    let absolute = std::path::absolute(path).map_err(|error| Error::io(path, error))?;
    match (absolute.to_str(), Url::from_file_path(&absolute)) {
        (Some(_), Ok(url)) => Ok(url.into()),
        _ => Err(Error::InvalidArgument(format!("path {path:?}: expected UTF-8"))),
    }
}

/// Refuses a path that cannot become a file: a folder, or one in a folder that is not there.
pub(crate) fn check_target(path: &Path) -> Result<()> {
    if path.is_dir() {
        let source = io::Error::new(io::ErrorKind::IsADirectory, "expected a file to write, got a folder");
        return Err(Error::Io { path: path.into(), source });
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.exists() => {
            Err(Error::FolderNotFound { path: folder.into() })
        }
        _ => Ok(()),
    }
}

/// A failure to read a file, with its path.
fn bad_file(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::BadFile { path: path.into(), problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_the_file_and_is_no_pattern() {
        let url = file_url(Path::new("/a b/x*?[1]#%20é.csv")).unwrap();
        assert_eq!(Url::parse(&url).unwrap().to_file_path().unwrap(), Path::new("/a b/x*?[1]#%20é.csv"));
        assert!(file_url(Path::new("relative.csv")).unwrap().starts_with("file:///"));
    }
}
