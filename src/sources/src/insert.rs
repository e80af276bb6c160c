//! INSERT into a file of text: a copy of the file with the new rows at its end takes its place. A reader sees the one or the
//! other, a failure leaves what was there, and writers, of other processes too, wait for each other. So an INSERT costs what
//! the file is long.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::csv::{Writer as CsvWriter, WriterBuilder};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::json::LineDelimitedWriter;
use async_trait::async_trait;
use datafusion::common::DataFusionError;
use datafusion::datasource::sink::DataSink;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use futures::TryStreamExt;
use vexact_core::error::{Error, Result};

use super::csv_write::ListTexts;
use super::replace::{Unfinished, lock};
use super::scan::{check_names, external};
use super::{bad_file, csv};

/// How rows are written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Encoding {
    /// Delimited, with a header line.
    Csv { delimiter: u8 },
    /// JSON, an object a line.
    JsonLines,
}

/// What takes the rows.
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
        let rows_file = Unfinished::beside(&self.path).map_err(external)?;
        let count = self.write_rows(rows, &rows_file).await?;
        let (path, encoding, schema) = (self.path.clone(), self.encoding, Arc::clone(&self.schema));
        let append = move || append(&path, encoding, &schema, &rows_file);
        let appended = tokio::task::spawn_blocking(append).await;
        appended.map_err(|error| DataFusionError::External(Box::new(error)))?.map_err(external)?;
        Ok(count)
    }
}

impl TextSink {
    /// The rows alone, as they will stand in the file.
    async fn write_rows(
        &self,
        mut rows: SendableRecordBatchStream,
        into: &Unfinished,
    ) -> datafusion::common::Result<u64> {
        let file = BufWriter::new(into.create().map_err(external)?);
        let mut writer = match self.encoding {
            Encoding::Csv { delimiter } => {
                let builder = WriterBuilder::new().with_header(false).with_delimiter(delimiter);
                RowWriter::Csv(Box::new(builder.build(file)), ListTexts::new("INSERT", &self.schema))
            }
            Encoding::JsonLines => RowWriter::Json(LineDelimitedWriter::new(file)),
        };
        let mut count = 0;
        while let Some(batch) = rows.try_next().await? {
            writer.write(&self.path, &batch).map_err(external)?;
            count += batch.num_rows() as u64;
        }
        writer.finish(&self.path).map_err(external)?;
        Ok(count)
    }
}

enum RowWriter {
    Csv(Box<CsvWriter<BufWriter<File>>>, ListTexts),
    Json(LineDelimitedWriter<BufWriter<File>>),
}

impl RowWriter {
    fn write(&mut self, path: &Path, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Csv(writer, texts) => writer.write(&texts.replace(batch)?),
            Self::Json(writer) => {
                refuse_non_finite(batch)?;
                writer.write(batch)
            }
        }
        .map_err(|error| bad_file(path, &error))
    }

    fn finish(self, path: &Path) -> Result<()> {
        let io = |error| Error::io(path, error);
        let mut file = match self {
            Self::Csv(writer, _) => writer.into_inner(),
            Self::Json(mut writer) => {
                writer.finish().map_err(|error| bad_file(path, &error))?;
                writer.into_inner()
            }
        };
        file.flush().map_err(io)
    }
}

/// Refuses what JSON has no form for: it would be written as null.
fn refuse_non_finite(batch: &RecordBatch) -> Result<()> {
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !is_finite(column.as_ref()) {
            let name = field.name();
            return Err(Error::InvalidArgument(format!(
                "INSERT: column {name:?}: expected finite numbers in a JSON file, got NaN or an infinity"
            )));
        }
    }
    Ok(())
}

fn is_finite(array: &dyn Array) -> bool {
    use arrow::datatypes::{Float16Type, Float32Type, Float64Type};
    match array.data_type() {
        DataType::Float16 => array.as_primitive::<Float16Type>().iter().flatten().all(|x| x.is_finite()),
        DataType::Float32 => array.as_primitive::<Float32Type>().iter().flatten().all(f32::is_finite),
        DataType::Float64 => array.as_primitive::<Float64Type>().iter().flatten().all(f64::is_finite),
        DataType::List(_) => array.as_list::<i32>().iter().flatten().all(|list| is_finite(&list)),
        DataType::LargeList(_) => array.as_list::<i64>().iter().flatten().all(|list| is_finite(&list)),
        DataType::FixedSizeList(..) => array.as_fixed_size_list().iter().flatten().all(|list| is_finite(&list)),
        DataType::Struct(_) => array.as_struct().columns().iter().all(|column| is_finite(column)),
        _ => true,
    }
}

/// Puts a file with the rows behind the old ones in the place of the old one.
fn append(path: &Path, encoding: Encoding, schema: &SchemaRef, rows: &Unfinished) -> Result<()> {
    loop {
        match lock(path) {
            Ok(old) => {
                let new = Unfinished::beside(path)?;
                check_header(path, encoding, schema)?;
                let io = |error| Error::io(path, error);
                let permissions = old.metadata().map_err(io)?.permissions();
                let file = copy(&old, rows, &new).map_err(io)?;
                file.set_permissions(permissions).map_err(io)?;
                return new.replace();
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let new = Unfinished::beside(path)?;
                begin(&new, encoding, schema, rows).map_err(|error| Error::io(path, error))?;
                if new.place()? {
                    return Ok(());
                }
            }
            Err(error) => return Err(Error::io(path, error)),
        }
    }
}

/// Refuses a file whose columns are others by now.
fn check_header(path: &Path, encoding: Encoding, schema: &SchemaRef) -> Result<()> {
    let Encoding::Csv { delimiter } = encoding else { return Ok(()) };
    let bad = |error: ::csv::Error| bad_file(path, &error);
    let mut reader = csv::reader(delimiter).from_path(path).map_err(bad)?;
    let header: Vec<&str> = reader.headers().map_err(bad)?.iter().collect();
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    check_names(path, &columns, &header)
}

/// The old file, a line end if it has none, and the rows.
fn copy(mut old: &File, rows: &Unfinished, new: &Unfinished) -> io::Result<File> {
    let mut file = create(new)?;
    let copied = io::copy(&mut old, &mut file)?;
    let mut last = [b'\n'];
    if copied > 0 {
        old.seek(SeekFrom::Start(copied - 1))?;
        old.read_exact(&mut last)?;
    }
    if !matches!(last[0], b'\n' | b'\r') {
        file.write_all(b"\n")?;
    }
    io::copy(&mut File::open(rows.path())?, &mut file)?;
    Ok(file)
}

/// The first rows of a file, under its header.
fn begin(new: &Unfinished, encoding: Encoding, schema: &SchemaRef, rows: &Unfinished) -> io::Result<()> {
    let mut file = create(new)?;
    if let Encoding::Csv { delimiter } = encoding {
        let mut writer = ::csv::WriterBuilder::new().delimiter(delimiter).from_writer(&mut file);
        writer.write_record(schema.fields().iter().map(|field| field.name()))?;
        writer.flush()?;
    }
    io::copy(&mut File::open(rows.path())?, &mut file)?;
    Ok(())
}

fn create(new: &Unfinished) -> io::Result<File> {
    File::options().write(true).create_new(true).open(new.path())
}
