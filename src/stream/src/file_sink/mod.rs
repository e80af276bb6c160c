//! Files as sinks: csv, json (an object on each line) and parquet.
//!
//! A new query starts its file anew once it has rows; one that resumes from a checkpoint appends to
//! it. A lock ensures that only one query at a time writes a file. A csv or json file grows with
//! each micro-batch, and can be truncated to any earlier length. A parquet file appears when the
//! query ends or is stopped; until then its rows are stored beside it, in the folder `.NAME.parts`.

mod lines;
mod parquet;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use vexact_core::atomic_file::check_target;
use vexact_core::error::{Error, Result};
use vexact_core::locked_file::LockedFile;

use super::sink::{Sink, SinkTable};

/// The form of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Delimited text under a header line; vectors and lists of numbers as `[1,2,3]`, NULL as an
    /// empty cell.
    Csv {
        /// One ASCII character between cells.
        delimiter: char,
    },
    /// An object on each line, with every column; NaN and the infinities, which JSON lacks, are
    /// rejected.
    Json,
    /// Apache Parquet.
    Parquet,
}

impl FileFormat {
    /// Returns the name in SQL, after USING.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv { .. } => "csv",
            Self::Json => "json",
            Self::Parquet => "parquet",
        }
    }
}

/// A file sink, by its path.
#[derive(Debug, Clone)]
pub struct FileSink {
    path: PathBuf,
    format: FileFormat,
    schema: Option<SchemaRef>,
}

impl FileSink {
    /// Creates a sink; `schema` has the declared columns, if any. The file is not changed before a
    /// query opens the sink.
    ///
    /// # Errors
    /// A missing folder, a path that is a folder; an invalid delimiter.
    pub fn try_new(path: &Path, format: FileFormat, schema: Option<SchemaRef>) -> Result<Self> {
        check_target(path)?;
        if let FileFormat::Csv { delimiter } = format {
            vexact_sources::csv::delimiter_byte(delimiter)?;
        }
        Ok(Self { path: path.into(), format, schema })
    }
}

#[async_trait]
impl SinkTable for FileSink {
    fn schema(&self) -> Option<SchemaRef> {
        self.schema.clone()
    }

    fn can_truncate(&self) -> bool {
        self.format != FileFormat::Parquet
    }

    fn identity(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let path = self.path.canonicalize().or_else(|_| folder.canonicalize().map(|folder| folder.join(name)));
        format!("{} file {}", self.format.name(), path.unwrap_or_else(|_| self.path.clone()).display())
    }

    async fn open(&self, schema: SchemaRef, is_restored: bool) -> Result<Box<dyn Sink>> {
        let sink = self.clone();
        blocking(move || {
            let path = &sink.path;
            Ok(match sink.format {
                FileFormat::Csv { delimiter } => {
                    Box::new(lines::LinesFile::csv(path, &schema, delimiter, is_restored)?) as Box<dyn Sink>
                }
                FileFormat::Json => Box::new(lines::LinesFile::json(path, &schema, is_restored)?),
                FileFormat::Parquet => Box::new(parquet::ParquetFile::open(path, schema, is_restored)?),
            })
        })
        .await
    }
}

/// Runs work that blocks on the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Interrupted(error.to_string()))?
}

/// Opens a file to append to, and locks it for this writer.
fn open_locked(path: &Path) -> Result<LockedFile> {
    vexact_sources::refuse_open_database(path)?;
    let io = |error| Error::io(path, error);
    let file = OpenOptions::new().create(true).append(true).read(true).open(path).map_err(io)?;
    match LockedFile::try_new(file) {
        Ok(locked) => Ok(locked),
        Err(TryLockError::WouldBlock) => Err(Error::InvalidArgument(format!(
            "{}: expected one query at a time to write the file, got another one that does",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// Makes the names in the folder of a file durable.
fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| Error::io(folder, error))
}

#[cfg(test)]
mod tests;
