//! JSON: one object a line, or one array of objects.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::{DataType, Schema, SchemaRef};
use ::arrow::error::ArrowError;
use ::arrow::json::ReaderBuilder;
use ::arrow::json::reader::{Reader, infer_json_schema_from_iterator};
use datafusion::catalog::TableProvider;
use serde_json::Value;
use vexact_core::error::{Error, Result};

pub use super::json_objects::JsonFormat;
use super::json_objects::{Failure, Object, ObjectLines, Objects};
use super::scan::{self, Batches, FileTable, Records};
use super::{READ_ONLY, arrow, bad_file, lines, open_file, open_full};

/// Objects that decide the columns and their types.
const TYPED_OBJECTS: usize = 1000;
const BUFFER_BYTES: usize = 1 << 18;

/// A JSON file as a table. It is read as queries need it, unless it holds lists: then it is read once, and lists of numbers of
/// one length become vectors, but for those of whole numbers alone.
///
/// # Errors
/// A missing or empty file, or content of another form.
pub async fn open(path: &Path, format: JsonFormat) -> Result<Arc<dyn TableProvider>> {
    let file = JsonFile::infer(path, format)?;
    let has_lists = file.schema.fields().iter().any(|field| field.data_type().is_list());
    let records: Arc<dyn Records> = Arc::new(file);
    if !has_lists {
        return Ok(FileTable::read_only(records, READ_ONLY));
    }
    let batches = scan::collect(&records).await?;
    arrow::open(Arc::clone(records.schema()), batches)
}

/// A JSON file and its columns.
#[derive(Debug, Clone)]
pub(super) struct JsonFile {
    path: PathBuf,
    format: JsonFormat,
    schema: SchemaRef,
}

impl JsonFile {
    /// With the columns of the first objects, or of all where lists in them leave it open.
    pub fn infer(path: &Path, format: JsonFormat) -> Result<Self> {
        open_full(path, format.start().1)?;
        check_form(path, format)?;
        // The first lists may be of whole numbers, or empty, and later ones of others.
        let is_undecided = |data_type: &DataType| match data_type {
            DataType::List(item) => item.data_type().is_integer() || item.data_type().is_null(),
            _ => false,
        };
        let mut schema = infer_schema(path, format, TYPED_OBJECTS)?;
        if schema.fields().iter().any(|field| is_undecided(field.data_type())) {
            schema = infer_schema(path, format, usize::MAX)?;
        }
        Ok(Self { path: path.into(), format, schema: Arc::new(schema) })
    }

    /// With declared columns. A file that is there is checked: its form, and the columns of its first objects.
    pub fn declared(path: &Path, format: JsonFormat, schema: &SchemaRef) -> Result<Self> {
        let file = Self { path: path.into(), format, schema: Arc::clone(schema) };
        if path.exists() && open_file(path)?.metadata().map_err(|error| Error::io(path, error))?.len() > 0 {
            check_form(path, format)?;
            file.check()?;
        }
        Ok(file)
    }

    /// With vectors for lists of floats, if all of them are of one length.
    pub fn with_vectors(mut self) -> Result<Self> {
        let has_lists = self.schema.fields().iter().any(|field| field.data_type().is_list());
        if has_lists {
            let all: Vec<usize> = (0..self.schema.fields().len()).collect();
            let batches = self.read(&all, TYPED_OBJECTS)?.collect::<Result<Vec<_>>>()?;
            self.schema = arrow::with_vectors(Arc::clone(&self.schema), batches)?.0;
        }
        Ok(self)
    }

    /// Refuses declared columns that the first objects do not have, and values that are not of their types.
    fn check(&self) -> Result<()> {
        let found = infer_schema(&self.path, self.format, TYPED_OBJECTS)?;
        if let Some(missing) = self.schema.fields().iter().find(|field| found.index_of(field.name()).is_err()) {
            let found: Vec<&str> = found.fields().iter().map(|field| field.name().as_str()).collect();
            let (name, found) = (missing.name(), found.join(", "));
            return Err(bad_file(&self.path, &format!("column {name:?} is declared, the file has [{found}]")));
        }
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        self.read(&all, TYPED_OBJECTS)?.next().transpose().map(|_| ())
    }

    fn objects(&self) -> Result<Objects<BufReader<File>>> {
        objects(&self.path, self.format)
    }

    /// The error for the first bad object from this one on, which reading the file has met.
    fn find(&self, first: usize, columns: &Schema, met: &ArrowError) -> Error {
        let Ok(mut objects) = self.objects() else { return bad_file(&self.path, met) };
        let mut object = Object::default();
        for count in 0_usize.. {
            match objects.read(&mut object) {
                Ok(true) if count < first => {}
                Ok(true) => {
                    let parsed = parse(&self.path, &object);
                    let problem = parsed.map(|value| problem(&object, &value, columns));
                    match problem {
                        Err(error) => return error,
                        Ok(Some(problem)) => return bad_file(&self.path, &format!("line {}, {problem}", object.line)),
                        Ok(None) => {}
                    }
                }
                Ok(false) => break,
                Err(failure) => return failed(&self.path, failure),
            }
        }
        bad_file(&self.path, met)
    }
}

impl Records for JsonFile {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn read(&self, columns: &[usize], batch_rows: usize) -> Result<Batches> {
        let schema = Arc::new(self.schema.project(columns).map_err(Error::arrow)?);
        let builder = ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(batch_rows);
        let reader = builder.build(ObjectLines::new(self.objects()?)).map_err(Error::arrow)?;
        Ok(Box::new(JsonBatches { reader, file: self.clone(), schema, rows: 0, is_over: false }))
    }
}

struct JsonBatches {
    reader: Reader<ObjectLines<BufReader<File>>>,
    file: JsonFile,
    schema: SchemaRef,
    /// Rows given so far.
    rows: usize,
    is_over: bool,
}

impl Iterator for JsonBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let batch = self.reader.next()?.map_err(|error| self.file.find(self.rows, &self.schema, &error));
        match &batch {
            Ok(batch) => self.rows += batch.num_rows(),
            Err(_) => self.is_over = true,
        }
        Some(batch)
    }
}

fn objects(path: &Path, format: JsonFormat) -> Result<Objects<BufReader<File>>> {
    Ok(Objects::new(BufReader::with_capacity(BUFFER_BYTES, open_file(path)?), format))
}

/// The columns of the first objects.
fn infer_schema(path: &Path, format: JsonFormat, most: usize) -> Result<Schema> {
    let mut objects = objects(path, format)?;
    let mut object = Object::default();
    let mut refused = None;
    let values = std::iter::from_fn(|| {
        let value = match objects.read(&mut object) {
            Ok(true) => parse(path, &object),
            Ok(false) => return None,
            Err(failure) => Err(failed(path, failure)),
        };
        Some(value.map_err(|error| {
            refused = Some(error);
            ArrowError::JsonError(String::new())
        }))
    });
    let schema = infer_json_schema_from_iterator(values.take(most));
    match (schema, refused) {
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(bad_file(path, &error)),
        (Ok(schema), None) => Ok(schema),
    }
}

fn failed(path: &Path, failure: Failure) -> Error {
    match failure {
        Failure::Io(error) => Error::io(path, error),
        Failure::Misplaced(at) => bad_file(path, &format!("line {}, column {}: {}", at.line, at.column, at.problem)),
    }
}

/// An object as a value.
fn parse(path: &Path, object: &Object) -> Result<Value> {
    let at = |column: u64, problem: &str| bad_file(path, &format!("line {}, column {column}: {problem}", object.line));
    match serde_json::from_slice(object.text.trim_ascii_end()) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(other) => {
            Err(at(object.column, &format!("expected an object, got {}", lines::shown(other.to_string().as_bytes()))))
        }
        Err(error) => {
            let text = error.to_string();
            let problem = text.split(" at line ").next().unwrap_or_default();
            Err(at(object.column + (error.column() as u64).saturating_sub(1), problem))
        }
    }
}

/// What is wrong in an object that is JSON.
fn problem(object: &Object, value: &Value, columns: &Schema) -> Option<String> {
    let is_good = |schema: Schema| {
        let reader = ReaderBuilder::new(Arc::new(schema)).build(object.text.as_slice());
        reader.is_ok_and(|mut reader| matches!(reader.next(), Some(Ok(_))))
    };
    let field = columns.fields().iter().find(|field| !is_good(Schema::new(vec![Arc::clone(field)])))?;
    let (name, expected) = (field.name(), field.data_type());
    let got = value.get(name).map_or("nothing".into(), Value::to_string);
    Some(format!("column {name:?}: expected {expected}, got {}", lines::cut(&got)))
}

/// Refuses a file of the other form, and an array that is cut off, before any of it is read.
fn check_form(path: &Path, format: JsonFormat) -> Result<()> {
    let io = |error| Error::io(path, error);
    let (start, expected) = format.start();
    let mut file = BufReader::new(open_file(path)?);
    let is_space = |byte: &io::Result<u8>| byte.as_ref().is_ok_and(u8::is_ascii_whitespace);
    let got = match file.by_ref().bytes().find(|byte| !is_space(byte)).transpose().map_err(io)? {
        Some(first) if first == start => None,
        Some(first) => Some(format!("a file that begins with '{}'", first.escape_ascii())),
        None => Some("a file of white space".into()),
    };
    if let Some(got) = got {
        let start = char::from(start);
        return Err(bad_file(path, &format!("expected {expected}, beginning with '{start}', got {got}")));
    }
    if format == JsonFormat::Array {
        let len = file.seek(SeekFrom::End(0)).map_err(io)?;
        file.seek(SeekFrom::Start(len.saturating_sub(4096))).map_err(io)?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail).map_err(io)?;
        let last = tail.trim_ascii_end().last().map_or(String::new(), |last| last.escape_ascii().to_string());
        if last != "]" {
            return Err(bad_file(
                path,
                &format!("expected {expected}, ending with ']', got a file that ends with '{last}'"),
            ));
        }
    }
    Ok(())
}
