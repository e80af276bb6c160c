//! Sources: reads files or Arrow data as tables, and writes rows to files.

pub mod arrow;
pub mod cell;
mod cell_types;
pub mod create;
pub mod csv;
mod csv_options;
pub mod csv_part;
mod csv_place;
pub mod csv_records;
mod csv_sample;
mod csv_vectors;
pub mod csv_write;
mod dataset_statistics;
mod decimal_text;
mod describe;
pub mod download;
pub mod encoding;
pub mod file_form;
mod hive;
pub mod input;
pub mod inputs;
mod insert;
pub mod ipc;
mod ipc_check;
pub mod json;
mod json_columns;
mod json_floats;
mod json_objects;
mod json_scan;
mod json_shape;
mod json_values;
pub mod keep;
pub mod keep_expr;
pub mod line_columns;
pub mod line_file;
mod many;
pub mod object_stores;
pub mod parquet;
mod parquet_dataset;
mod parquet_delta;
mod parquet_pages;
pub mod parquet_reader;
mod parquet_sink;
pub mod parquet_sketch;
mod parquet_table;
pub mod probe;
pub mod row_file;
pub mod scan;
pub mod sql_type;
pub mod store_file;
mod store_reader;
mod struct_nulls;
pub mod table;
mod time_text;
mod vector_text;

use std::path::{Path, PathBuf};

use url::Url;
use vexact_core::error::{Error, Result};

/// Reason why a table that was read, and not created, does not accept rows.
const READ_ONLY: &str = "the table was read from a file: expected one made by CREATE TABLE";

/// Rejects a database that SQLite has open: opening and closing it as a file would release the
/// locks that another SQLite library in this process has on it.
///
/// # Errors
/// A database that SQLite has open.
pub fn refuse_open_database(path: &Path) -> Result<()> {
    if vexact_locks::has_open(path) {
        return Err(bad_file(path, &"expected a file of rows, got a SQLite database that is open in this process"));
    }
    Ok(())
}

/// Opens a file, or reports that it does not exist.
fn open_file(path: &Path) -> Result<std::fs::File> {
    refuse_open_database(path)?;
    let file = std::fs::File::open(path).map_err(|error| Error::io(path, error))?;
    let is_folder = file.metadata().map_err(|error| Error::io(path, error))?.is_dir();
    if is_folder {
        return Err(Error::InvalidArgument(format!("{}: expected a file, got a folder", path.display())));
    }
    Ok(file)
}

/// Returns an Arrow type by its name in SQL, as `BIGINT` or `VECTOR(3)`.
///
/// # Errors
/// Text that is not a type; the message lists the supported types.
pub fn parse_type(name: &str) -> Result<::arrow::datatypes::DataType, String> {
    sql_type::parse(name)
}

/// Converts a path to a URL for DataFusion, which would interpret `*`, `?` and `[` in a path as a
/// pattern.
pub fn file_url(path: &Path) -> Result<String> {
    let absolute = std::path::absolute(path).map_err(|error| Error::io(path, error))?;
    match (absolute.to_str(), Url::from_file_path(&absolute)) {
        (Some(_), Ok(url)) => Ok(url.into()),
        _ => Err(Error::InvalidArgument(format!("path {path:?}: expected UTF-8"))),
    }
}

/// Returns the path of a file to write from its name in SQL, which may be a `file:` URL.
///
/// # Errors
/// A folder; a URL of another machine.
pub fn local_file(name: &str) -> Result<PathBuf> {
    let refused = |expected: &str| Error::InvalidArgument(format!("expected the path of {expected}, got {name:?}"));
    if name.ends_with('/') {
        return Err(refused("a file"));
    }
    match Url::parse(name) {
        Ok(url) if url.scheme() == "file" => url.to_file_path().map_err(|()| refused("a file")),
        Ok(_) if name.contains("://") => Err(refused("a local file")),
        _ => Ok(name.into()),
    }
}

/// Builds the error of a file that cannot be read, with its path.
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
