//! INSERT into a text file: a copy of the file with the new rows appended replaces it atomically. A
//! reader sees either the old file or the new one, a failure leaves the old file, and writers,
//! including those of other processes, wait for each other. So the cost of an INSERT is
//! proportional to the length of the file.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::LineDelimitedWriter;
use async_trait::async_trait;
use datafusion::common::DataFusionError;
use datafusion::datasource::sink::DataSink;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use futures::TryStreamExt;
use vexact_core::atomic_file::{AtomicFile, AtomicWriter};
use vexact_core::error::{Error, Result};
use vexact_core::locked_file::LockedFile;
use vexact_core::temporary_file::is_at;

use super::csv_records::{CsvRecords, Dialect};
use super::csv_write::CsvEncoder;
use super::encoding::TextEncoding;
use super::file_form::FileForm;
use super::input::{Compression, Input};
use super::scan::{check_names, external};
use super::{bad_file, csv, refuse_open_database};

/// Format of the written rows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Encoding {
    /// Delimited, with a header line.
    Csv { delimiter: u8 },
    /// JSON, an object a line.
    JsonLines,
}

/// Sink of the rows of an INSERT.
#[derive(Debug)]
pub(super) struct TextSink {
    pub path: PathBuf,
    pub schema: SchemaRef,
    pub encoding: Encoding,
}

impl DisplayAs for TextSink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextSink(path={})", self.path.display())
    }
}

#[async_trait]
impl DataSink for TextSink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(
        &self,
        rows: SendableRecordBatchStream,
        _: &Arc<TaskContext>,
    ) -> datafusion::common::Result<u64> {
        self.form().check_schema(&self.schema).map_err(external)?;
        refuse_open_database(&self.path).map_err(external)?;
        let rows_file = AtomicFile::create(&self.path).map_err(external)?;
        let written = self.write_rows(rows, &rows_file).await;
        let count = written.map_err(|error| external(rows_file.error(error.into())))?;
        let (path, encoding, schema) = (self.path.clone(), self.encoding, Arc::clone(&self.schema));
        let append = move || append(&path, encoding, &schema, &rows_file);
        let appended = tokio::task::spawn_blocking(append).await;
        appended.map_err(|error| DataFusionError::External(Box::new(error)))?.map_err(external)?;
        Ok(count)
    }
}

impl TextSink {
    fn form(&self) -> FileForm {
        match self.encoding {
            Encoding::Csv { .. } => FileForm::Csv,
            Encoding::JsonLines => FileForm::Json,
        }
    }

    /// Writes only the rows, as they will appear in the file.
    async fn write_rows(
        &self,
        mut rows: SendableRecordBatchStream,
        into: &AtomicFile,
    ) -> datafusion::common::Result<u64> {
        let file = BufWriter::new(into.writer());
        let mut writer = match self.encoding {
            Encoding::Csv { delimiter } => RowWriter::Csv(file, CsvEncoder::new("INSERT", &self.schema, delimiter)),
            Encoding::JsonLines => RowWriter::Json(LineDelimitedWriter::new(file)),
        };
        let mut count = 0;
        while let Some(batch) = rows.try_next().await? {
            self.form().check_values(&batch).map_err(external)?;
            self.form().check_numbers(&batch).map_err(external)?;
            writer.write(&self.path, &batch).map_err(external)?;
            count += batch.num_rows() as u64;
        }
        writer.finish(&self.path).map_err(external)?;
        Ok(count)
    }
}

enum RowWriter {
    Csv(BufWriter<AtomicWriter>, CsvEncoder),
    Json(LineDelimitedWriter<BufWriter<AtomicWriter>>),
}

impl RowWriter {
    fn write(&mut self, path: &Path, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Csv(file, encoder) => {
                file.write_all(encoder.encode(batch)?.as_bytes()).map_err(|error| Error::io(path, error))
            }
            Self::Json(writer) => writer.write(batch).map_err(|error| bad_file(path, &error)),
        }
    }

    fn finish(self, path: &Path) -> Result<()> {
        let io = |error| Error::io(path, error);
        let mut file = match self {
            Self::Csv(file, _) => file,
            Self::Json(mut writer) => {
                writer.finish().map_err(|error| bad_file(path, &error))?;
                writer.into_inner()
            }
        };
        file.flush().map_err(io)
    }
}

/// Replaces a file by a copy with the rows appended.
fn append(path: &Path, encoding: Encoding, schema: &SchemaRef, rows: &AtomicFile) -> Result<()> {
    loop {
        match lock(path) {
            Ok(old) => {
                check_old(path, encoding, schema)?;
                let new = AtomicFile::create(path)?;
                copy(&old, rows, &new).map_err(|error| new.error(Error::io(path, error)))?;
                return new.commit();
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let new = AtomicFile::create(path)?;
                begin(&new, encoding, schema, rows).map_err(|error| new.error(Error::io(path, error)))?;
                if new.commit_new()? {
                    return Ok(());
                }
            }
            Err(error) => return Err(Error::io(path, error)),
        }
    }
}

/// Opens and locks a file, so that no other INSERT, in this process or another, can write it.
fn lock(path: &Path) -> io::Result<LockedFile> {
    loop {
        let file = LockedFile::wait_for(File::open(path)?)?;
        // The previous owner of the lock may have replaced the file.
        if is_at(&file, path) {
            return Ok(file);
        }
    }
}

/// Rejects a file whose columns have changed, one that ends within quotes, and one that is
/// compressed: rows after its end would not be readable.
fn check_old(path: &Path, encoding: Encoding, schema: &SchemaRef) -> Result<()> {
    let input = Input::of_file(path);
    let mut start = Vec::new();
    input.bytes()?.take(4).read_to_end(&mut start).map_err(|error| Error::io(path, error))?;
    if Compression::of(&start).is_some() {
        return Err(bad_file(path, &"INSERT: expected a file of text, got a compressed one"));
    }
    let Encoding::Csv { delimiter } = encoding else { return Ok(()) };
    let bad = |bad| csv::bad_record(&input, TextEncoding::Utf8, bad, &[]);
    let mut records = CsvRecords::new(input.text(TextEncoding::Utf8)?, &Dialect::delimited(delimiter), 0);
    let block = records.read(1, None).map_err(bad)?;
    let header: Vec<&str> = if block.len() > 0 { block.record(0).collect() } else { Vec::new() };
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    check_names(path, &columns, &header)?;
    while records.read(8192, None).map_err(bad)?.len() > 0 {}
    Ok(())
}

/// Writes the old file, a line end if it has none, and the rows.
fn copy(mut old: &File, rows: &AtomicFile, new: &AtomicFile) -> io::Result<()> {
    let mut output = new.writer();
    let copied = io::copy(&mut old, &mut output)?;
    let mut last = [b'\n'];
    if copied > 0 {
        old.seek(SeekFrom::Start(copied - 1))?;
        old.read_exact(&mut last)?;
    }
    if !matches!(last[0], b'\n' | b'\r') {
        output.write_all(b"\n")?;
    }
    copy_rows(rows, &mut output)
}

/// Writes the first rows of a file, under its header.
fn begin(new: &AtomicFile, encoding: Encoding, schema: &SchemaRef, rows: &AtomicFile) -> io::Result<()> {
    let mut output = new.writer();
    if let Encoding::Csv { delimiter } = encoding {
        output.write_all(CsvEncoder::new("INSERT", schema, delimiter).header(schema).as_bytes())?;
    }
    copy_rows(rows, &mut output)
}

fn copy_rows(rows: &AtomicFile, output: &mut AtomicWriter) -> io::Result<()> {
    let mut rows = rows.file();
    rows.seek(SeekFrom::Start(0))?;
    io::copy(&mut rows, output).map(drop)
}
