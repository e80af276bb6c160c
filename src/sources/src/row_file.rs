//! Writes a file of rows: Parquet, Arrow IPC, CSV or JSON lines. The file gets its name when it is
//! complete.

use std::fmt;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::FileWriter;
use arrow::json::writer::LineDelimited;
use datafusion::error::DataFusionError;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;
use vexact_core::atomic_file::{AtomicFile, AtomicWriter};
use vexact_core::error::{Error, Result};

use super::csv_write::CsvWriter;
pub use super::file_form::FileForm as RowFormat;
use super::json_floats::FloatTexts;
use super::parquet_sketch::{SketchColumn, SketchWriter};
use super::{bad_file, refuse_open_database};

impl RowFormat {
    /// Returns the format of a path's suffix.
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

    /// Returns Parquet if it supports all types of a schema, else Arrow.
    pub fn for_schema(schema: &Schema) -> Self {
        match Self::Parquet.check_schema(schema) {
            Ok(()) => Self::Parquet,
            Err(_) => Self::Arrow,
        }
    }

    /// Returns the name of the format, which is its suffix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }
}

/// Options for writing a file, besides its format.
#[derive(Debug, Clone)]
pub struct RowFileOptions {
    /// Delimiter between the cells of a CSV file.
    pub delimiter: u8,
    /// True if a CSV file begins with the names of its columns.
    pub has_header: bool,
    /// Compression of a Parquet file.
    pub compression: Compression,
    /// Columns of vectors of a Parquet file that get a sketch.
    pub sketches: Vec<SketchColumn>,
}

impl Default for RowFileOptions {
    fn default() -> Self {
        // Level 1 writes about as fast as no compression.
        let compression = ZstdLevel::try_new(1).map_or(Compression::SNAPPY, Compression::ZSTD);
        Self { delimiter: b',', has_header: true, compression, sketches: Vec::new() }
    }
}

/// A file that is written under a temporary name: a query that fails, or that reads the same file,
/// leaves the old file unchanged.
pub struct RowFile {
    path: PathBuf,
    encoder: RowEncoder<AtomicWriter>,
    file: AtomicFile,
}

impl fmt::Debug for RowFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowFile({})", self.path.display())
    }
}

impl RowFile {
    /// Creates a file.
    ///
    /// # Errors
    /// A folder that is missing or cannot be written; columns that the format cannot hold.
    pub fn create(path: &Path, form: RowFormat, schema: &SchemaRef) -> Result<Self> {
        Self::create_with(path, form, schema, &RowFileOptions::default())
    }

    /// As [`Self::create`], with options.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_with(path: &Path, form: RowFormat, schema: &SchemaRef, options: &RowFileOptions) -> Result<Self> {
        form.check_schema(schema)?;
        refuse_open_database(path)?;
        let file = AtomicFile::create(path)?;
        match RowEncoder::begin(&|| file.writer(), path, form, schema, options) {
            Ok(encoder) => Ok(Self { path: path.into(), encoder, file }),
            Err(error) => Err(file.error(error)),
        }
    }

    /// Adds rows.
    ///
    /// # Errors
    /// A full disk; values that the format cannot hold.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.encoder.form.check_values(batch)?;
        self.encoder.write(batch).map_err(|error| self.file.error(error))
    }

    /// Completes the file and renames it, durably.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn finish(self) -> Result<()> {
        match self.encoder.finish() {
            Ok(()) => self.file.commit(),
            Err(error) => Err(self.file.error(error)),
        }
    }
}

/// Encodes rows in a format.
pub(crate) struct RowEncoder<W: Write + Send> {
    /// Path or URL of the file, for errors.
    path: PathBuf,
    form: RowFormat,
    writer: Writer<W>,
}

enum Writer<W: Write + Send> {
    Parquet(Box<ArrowWriter<W>>),
    Sketched(Box<SketchWriter<W>>),
    Arrow(Box<FileWriter<BufWriter<W>>>),
    Csv(Box<CsvWriter<BufWriter<W>>>),
    Json(Box<arrow::json::Writer<BufWriter<W>, LineDelimited>>),
}

impl<W: Write + Send> RowEncoder<W> {
    /// Begins a file. The columns have been checked.
    pub fn begin(
        output: &dyn Fn() -> W,
        path: &Path,
        form: RowFormat,
        schema: &SchemaRef,
        options: &RowFileOptions,
    ) -> Result<Self> {
        let buffered = || BufWriter::with_capacity(1 << 18, output());
        let writer = match form {
            RowFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(options.compression);
                match options.sketches.as_slice() {
                    [] => ArrowWriter::try_new(output(), Arc::clone(schema), Some(properties.build()))
                        .map(|writer| Writer::Parquet(Box::new(writer)))
                        .map_err(|error| parquet(path, error))?,
                    sketches => {
                        Writer::Sketched(Box::new(SketchWriter::begin(output(), schema, properties, sketches)?))
                    }
                }
            }
            RowFormat::Arrow => FileWriter::try_new(buffered(), schema)
                .map(|writer| Writer::Arrow(Box::new(writer)))
                .map_err(|error| bad_file(path, &error))?,
            RowFormat::Csv => CsvWriter::begin(buffered(), path, schema, options.delimiter, options.has_header)
                .map(|writer| Writer::Csv(Box::new(writer)))?,
            RowFormat::Json => {
                let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
                Writer::Json(Box::new(builder.with_encoder_factory(Arc::new(FloatTexts)).build(buffered())))
            }
        };
        Ok(Self { path: path.into(), form, writer })
    }

    /// Adds rows, whose values have been checked.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let path = &self.path;
        match &mut self.writer {
            Writer::Parquet(writer) => writer.write(batch).map_err(|error| parquet(path, error)),
            Writer::Sketched(writer) => writer.write(path, batch),
            Writer::Arrow(writer) => writer.write(batch).map_err(|error| bad_file(path, &error)),
            Writer::Csv(writer) => writer.write(batch),
            Writer::Json(writer) => writer.write(batch).map_err(|error| bad_file(path, &error)),
        }
    }

    /// Writes the end of the file.
    pub fn finish(self) -> Result<()> {
        let Self { path, writer, .. } = self;
        let flushed = |mut output: BufWriter<W>| output.flush().map_err(|error| Error::io(&path, error));
        match writer {
            Writer::Parquet(writer) => writer.close().map(drop).map_err(|error| parquet(&path, error)),
            Writer::Sketched(writer) => writer.finish(&path).map(drop),
            Writer::Arrow(mut writer) => {
                let output = writer.finish().and_then(|()| writer.into_inner());
                output.map_err(|error| bad_file(&path, &error)).and_then(flushed)
            }
            Writer::Csv(writer) => flushed(writer.into_inner()),
            Writer::Json(mut writer) => {
                let ended = writer.finish().map_err(|error| bad_file(&path, &error));
                ended.and_then(|()| flushed(writer.into_inner()))
            }
        }
    }
}

fn parquet(path: &Path, error: ParquetError) -> Error {
    match error {
        ParquetError::External(source) => Error::Query(DataFusionError::External(source)),
        error => bad_file(path, &error),
    }
}
