//! A file of rows that is being written: Parquet, Arrow IPC or CSV, by its suffix. It has its name once it is whole.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::FileWriter;
use datafusion::error::DataFusionError;
use datafusion::parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;
use vexact_core::error::{Error, Result};

use super::csv_write::CsvWriter;
use super::{bad_file, check_target};

/// The form of such a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    /// Apache Parquet.
    Parquet,
    /// An Arrow IPC file.
    Arrow,
    /// Comma-separated text with a header line.
    Csv,
}

impl RowFormat {
    /// By a path's suffix.
    ///
    /// # Errors
    /// Another suffix than parquet, arrow and csv.
    pub fn of_suffix(path: &Path) -> Result<Self> {
        let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default().to_lowercase();
        match suffix.as_str() {
            "parquet" => Ok(Self::Parquet),
            "arrow" => Ok(Self::Arrow),
            "csv" => Ok(Self::Csv),
            _ => Err(Error::InvalidArgument(format!(
                "{}: expected a suffix of .parquet, .arrow, .csv, got {suffix:?}",
                path.display()
            ))),
        }
    }

    /// Parquet where it has all types of a schema, else Arrow.
    pub fn for_schema(schema: &Schema) -> Self {
        match ArrowSchemaConverter::new().convert(schema) {
            Ok(_) => Self::Parquet,
            Err(_) => Self::Arrow,
        }
    }

    /// Its name, which is its suffix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Csv => "csv",
        }
    }
}

/// A file that is being written beside its name and then renamed: a query that fails, or reads this very file, harms nothing.
/// One that is dropped unfinished is removed.
pub struct RowFile {
    path: PathBuf,
    unfinished: PathBuf,
    writer: Option<Writer>,
}

enum Writer {
    Parquet(Box<ArrowWriter<File>>),
    Arrow(Box<FileWriter<BufWriter<File>>>),
    Csv(Box<CsvWriter>),
}

impl RowFile {
    /// Begins a file.
    ///
    /// # Errors
    /// A folder that is not there or cannot be written; types that the format does not have.
    pub fn create(path: &Path, format: RowFormat, schema: &SchemaRef) -> Result<Self> {
        check_target(path)?;
        let unfinished = Self::unfinished(path);
        let file = File::create(&unfinished).map_err(|error| Error::io(path, error))?;
        // From here on it is removed with this.
        let mut begun = Self { path: path.into(), unfinished, writer: None };
        begun.writer = Some(match format {
            RowFormat::Parquet => {
                let level = ZstdLevel::try_new(1).map_err(|error| parquet(path, error))?;
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
                let writer = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties));
                Writer::Parquet(Box::new(writer.map_err(|error| parquet(path, error))?))
            }
            RowFormat::Arrow => {
                let writer = FileWriter::try_new_buffered(file, schema).map_err(|error| bad_file(path, &error))?;
                Writer::Arrow(Box::new(writer))
            }
            RowFormat::Csv => Writer::Csv(Box::new(CsvWriter::begin(file, path, schema)?)),
        });
        Ok(begun)
    }

    /// What a file is called until it is whole, in this process.
    pub fn unfinished(path: &Path) -> PathBuf {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.tmp", std::process::id()));
        path.with_file_name(name)
    }

    /// Adds rows.
    ///
    /// # Errors
    /// A disk that is full; values that the format cannot keep.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.writer {
            Some(Writer::Parquet(writer)) => writer.write(batch).map_err(|error| parquet(&self.path, error)),
            Some(Writer::Arrow(writer)) => writer.write(batch).map_err(|error| bad_file(&self.path, &error)),
            Some(Writer::Csv(writer)) => writer.write(batch),
            None => Ok(()),
        }
    }

    /// Ends the file and gives it its name.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn finish(mut self) -> Result<()> {
        match self.writer.take() {
            Some(Writer::Parquet(writer)) => drop(writer.close().map_err(|error| parquet(&self.path, error))?),
            Some(Writer::Arrow(mut writer)) => writer.finish().map_err(|error| bad_file(&self.path, &error))?,
            Some(Writer::Csv(_)) | None => {}
        }
        std::fs::rename(&self.unfinished, &self.path).map_err(|error| Error::io(&self.path, error))
    }
}

impl Drop for RowFile {
    fn drop(&mut self) {
        // After it was renamed there is nothing to remove.
        let _ = std::fs::remove_file(&self.unfinished);
    }
}

fn parquet(path: &Path, error: ParquetError) -> Error {
    match error {
        ParquetError::External(source) => Error::Query(DataFusionError::External(source)),
        error => bad_file(path, &error),
    }
}
