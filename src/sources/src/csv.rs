//! Delimited text with a header line, and vectors in its cells.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::csv::reader::{BufReader as CsvReader, Format, ReaderBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use csv::ByteRecord;
use datafusion::catalog::TableProvider;
use vexact_core::error::{Error, Result};

pub(super) use super::csv_place::reader;
use super::csv_vectors::{VectorColumn, vector_dim};
use super::scan::{self, Batches, FileTable, Records};
use super::{READ_ONLY, arrow as memory, bad_file, csv_place, open_file, open_full};

/// Rows that decide which columns hold vectors.
const SAMPLE_ROWS: usize = 100;
/// Rows that decide the types of the other columns, and that are read to check declared types.
const TYPED_ROWS: usize = 1000;
const BUFFER_BYTES: usize = 1 << 18;

/// A CSV file as a table. It is read as queries need it, unless cells hold vectors: then it is read once.
///
/// A column holds vectors if most of its cells in the first rows have the form of one (see [`super::vector_text::shape`]). Then
/// each cell is a vector of the length that most of those have, or empty, which is NULL.
///
/// # Errors
/// A missing or empty file; a delimiter that is not one ASCII character; a bad vector cell, with its line.
pub async fn open(path: &Path, delimiter: char) -> Result<Arc<dyn TableProvider>> {
    let file = CsvFile::infer(path, delimiter)?;
    let has_vectors = !file.vectors.is_empty();
    let records: Arc<dyn Records> = Arc::new(file);
    if !has_vectors {
        return Ok(FileTable::read_only(records, READ_ONLY));
    }
    let batches = scan::collect(&records).await?;
    memory::open(Arc::clone(records.schema()), batches)
}

/// A CSV file and its columns.
#[derive(Debug)]
pub(super) struct CsvFile {
    path: PathBuf,
    delimiter: u8,
    schema: SchemaRef,
    /// The same, with text for vectors.
    text: SchemaRef,
    vectors: Vec<VectorColumn>,
}

impl CsvFile {
    /// With the columns of the header line, typed by the first rows.
    pub fn infer(path: &Path, delimiter: char) -> Result<Self> {
        open_full(path, "a header line")?;
        let delimiter = delimiter_byte(delimiter)?;
        let (text, vectors) = infer_columns(path, delimiter, || open_file(path))?;
        Ok(Self::new(path, delimiter, &text, vectors))
    }

    /// With declared columns. A file that is there is checked: its header line, and the values of its first rows.
    pub fn declared(path: &Path, delimiter: char, schema: &SchemaRef) -> Result<Self> {
        let file = Self::new(path, delimiter_byte(delimiter)?, schema, declared_vectors(schema)?);
        if path.exists() {
            file.check()?;
        }
        Ok(file)
    }

    fn new(path: &Path, delimiter: u8, schema: &Schema, vectors: Vec<VectorColumn>) -> Self {
        let (typed, text) = typed_and_text(schema, &vectors);
        Self { path: path.into(), delimiter, schema: typed, text, vectors }
    }

    fn check(&self) -> Result<()> {
        open_full(&self.path, "a header line")?;
        let bad = |error: csv::Error| bad_file(&self.path, &error);
        let mut reader = reader(self.delimiter).from_path(&self.path).map_err(bad)?;
        let header: Vec<&str> = reader.headers().map_err(bad)?.iter().collect();
        let declared: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        scan::check_names(&self.path, &declared, &header)?;
        let all: Vec<usize> = (0..declared.len()).collect();
        self.read(&all, TYPED_ROWS)?.next().transpose().map(|_| ())
    }
}

impl Records for CsvFile {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn read(&self, columns: &[usize], batch_rows: usize) -> Result<Batches> {
        let source = BufReader::with_capacity(BUFFER_BYTES, open_file(&self.path)?);
        let format = Format::default().with_header(true).with_delimiter(self.delimiter);
        let builder = ReaderBuilder::new(Arc::clone(&self.text)).with_format(format).with_batch_size(batch_rows);
        let reader = builder.with_projection(columns.to_vec()).build_buffered(source).map_err(Error::arrow)?;
        // The vectors among these columns, by their place among them.
        let vectors = columns.iter().enumerate().filter_map(|(place, column)| {
            let vector = self.vectors.iter().find(|vector| vector.ordinal == *column)?;
            Some((place, *vector))
        });
        let place = csv_place::Place {
            path: self.path.clone(),
            delimiter: self.delimiter,
            text: Arc::clone(&self.text),
            columns: columns.to_vec(),
        };
        let schema = Arc::new(self.schema.project(columns).map_err(Error::arrow)?);
        Ok(Box::new(CsvBatches { reader, vectors: vectors.collect(), schema, place, rows: 0, is_over: false }))
    }
}

struct CsvBatches {
    reader: CsvReader<BufReader<File>>,
    vectors: Vec<(usize, VectorColumn)>,
    schema: SchemaRef,
    place: csv_place::Place,
    /// Rows given so far.
    rows: usize,
    is_over: bool,
}

impl CsvBatches {
    fn with_vectors(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.vectors.is_empty() {
            return Ok(batch);
        }
        let mut columns = batch.columns().to_vec();
        for (place, vector) in &self.vectors {
            columns[*place] = vector.parse(&columns[*place]).map_err(|bad| {
                self.place.error(self.rows + bad.row, &format!("column {:?}: {}", self.name(*place), bad.problem))
            })?;
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(Error::arrow)
    }

    fn name(&self, place: usize) -> &str {
        self.schema.field(place).name()
    }
}

impl Iterator for CsvBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let batch = match self.reader.next()? {
            Ok(batch) => self.with_vectors(batch),
            Err(error) => Err(self.place.find(self.rows, &error)),
        };
        match &batch {
            Ok(batch) => self.rows += batch.num_rows(),
            Err(_) => self.is_over = true,
        }
        Some(batch)
    }
}

/// The vectors among declared columns.
///
/// # Errors
/// A type that a cell cannot hold.
pub(super) fn declared_vectors(schema: &Schema) -> Result<Vec<VectorColumn>> {
    let mut vectors = Vec::new();
    for (ordinal, field) in schema.fields().iter().enumerate() {
        match field.data_type() {
            DataType::FixedSizeList(item, dim) if *item.data_type() == DataType::Float32 => {
                vectors.push(VectorColumn { ordinal, dim: *dim as usize });
            }
            nested if nested.is_nested() || matches!(nested, DataType::Binary) => {
                let name = field.name();
                let problem = format!("expected VECTOR(n), a number, text or a time in a CSV file, got {nested}");
                return Err(Error::InvalidArgument(format!("column {name:?}: {problem}")));
            }
            _ => {}
        }
    }
    Ok(vectors)
}

/// The columns, and the same with text for vectors.
pub(super) fn typed_and_text(schema: &Schema, vectors: &[VectorColumn]) -> (SchemaRef, SchemaRef) {
    let with = |data_type: &dyn Fn(&VectorColumn) -> DataType| {
        let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        for column in vectors {
            fields[column.ordinal].set_data_type(data_type(column));
        }
        Arc::new(Schema::new(fields))
    };
    (with(&VectorColumn::data_type), with(&|_| DataType::Utf8))
}

/// The columns of a text by its header line and first rows, and which of them hold vectors. `open` gives the text anew.
pub(super) fn infer_columns<R: Read>(
    path: &Path,
    delimiter: u8,
    open: impl Fn() -> Result<R>,
) -> Result<(Schema, Vec<VectorColumn>)> {
    let vectors = vector_columns(path, delimiter, open()?)?;
    Ok((infer_schema(path, delimiter, open()?)?, vectors))
}

/// The columns' types by the first rows; text where these have no values.
fn infer_schema(path: &Path, delimiter: u8, source: impl Read) -> Result<Schema> {
    let format = Format::default().with_header(true).with_delimiter(delimiter).with_truncated_rows(true);
    let (schema, _) = format.infer_schema(BufReader::new(source), Some(TYPED_ROWS)).map_err(|error| {
        // Text in another encoding, among the first rows.
        let header = reader(delimiter).from_path(path).ok().and_then(|mut reader| reader.headers().ok().cloned());
        let names = header.iter().flatten().map(|name| Field::new(name, DataType::Utf8, true));
        let text = Arc::new(Schema::new(names.collect::<Vec<_>>()));
        csv_place::Place { path: path.into(), delimiter, text, columns: Vec::new() }.find(0, &error)
    })?;
    let typed = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Null => field.as_ref().clone().with_data_type(DataType::Utf8),
        _ => field.as_ref().clone(),
    });
    Ok(Schema::new(typed.collect::<Vec<_>>()))
}

/// A delimiter as one byte.
///
/// # Errors
/// A delimiter that is not one ASCII character, or stands for something else in CSV.
pub fn delimiter_byte(delimiter: char) -> Result<u8> {
    let expected = match u8::try_from(delimiter) {
        Ok(b'"' | b'\n' | b'\r') => "another character than a quote and a line end",
        Ok(byte) if byte.is_ascii() => return Ok(byte),
        _ => "one ASCII character",
    };
    Err(Error::InvalidArgument(format!("delimiter: expected {expected}, got {delimiter:?}")))
}

/// The columns that hold vectors, by the first rows.
fn vector_columns(path: &Path, delimiter: u8, source: impl Read) -> Result<Vec<VectorColumn>> {
    let bad = |error: csv::Error| bad_file(path, &error);
    let mut reader = reader(delimiter).from_reader(source);
    let width = reader.byte_headers().map_err(bad)?.len();
    if width == 0 {
        return Err(bad_file(path, &"expected a header line, got only line ends"));
    }
    let sample: Vec<ByteRecord> = reader.byte_records().take(SAMPLE_ROWS).collect::<Result<_, _>>().map_err(bad)?;
    let dim = |ordinal| vector_dim(sample.iter().filter_map(|row| str::from_utf8(row.get(ordinal)?).ok()));
    Ok((0..width).filter_map(|ordinal| Some(VectorColumn { ordinal, dim: dim(ordinal)? })).collect())
}
