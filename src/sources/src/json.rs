//! JSON files: objects, one a line or each over several lines, or one array of objects.

use std::path::Path;
use std::sync::Arc;

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use serde_json::Value;
use vexact_core::error::{Error, Result};

use super::encoding::TextEncoding;
use super::input::{Compression, Input, TextReader};
use super::json_columns::JsonRows;
pub use super::json_objects::JsonFormat;
use super::json_objects::{Failure, Object, Objects, too_deep};
use super::json_scan::Cursor;
use super::json_shape::Members;
use super::json_values::is_readable;
use super::scan::{self, Batches, FileTable, Records};
use super::{READ_ONLY, arrow, bad_file, describe};

/// Number of objects that determine the kind of a column's values: numbers, text, lists and so on.
/// All objects determine the set of columns and their widths.
const TYPED_OBJECTS: usize = 1000;

/// Opens JSON files as a table. They are read on demand, unless they contain lists: then they are
/// read once, and lists of numbers of one length become vectors, except for lists of only integers.
///
/// # Errors
/// An empty file, or content of another format.
pub async fn open(inputs: Vec<Input>, format: JsonFormat) -> Result<Arc<dyn TableProvider>> {
    let file = JsonFile::infer(inputs, format)?;
    let has_lists = file.schema.fields().iter().any(|field| field.data_type().is_list());
    let records: Arc<dyn Records> = Arc::new(file);
    if !has_lists {
        return Ok(FileTable::read_only(records, READ_ONLY));
    }
    let batches = scan::collect(&records).await?;
    arrow::open(Arc::clone(records.schema()), batches)
}

/// JSON files and their columns.
#[derive(Debug, Clone)]
pub(super) struct JsonFile {
    inputs: Arc<[Input]>,
    format: JsonFormat,
    schema: SchemaRef,
    /// True if the columns are declared; the file may have others.
    is_declared: bool,
}

impl JsonFile {
    /// Opens files with the columns that the objects have.
    pub fn infer(inputs: Vec<Input>, format: JsonFormat) -> Result<Self> {
        Self::infer_by(inputs, format, usize::MAX)
    }

    /// Opens a file with the columns of only the first objects, for a preview.
    pub fn infer_by_first(input: &Input, format: JsonFormat) -> Result<Self> {
        Self::infer_by(vec![input.clone()], format, TYPED_OBJECTS)
    }

    fn infer_by(inputs: Vec<Input>, format: JsonFormat, most: usize) -> Result<Self> {
        let mut shape = Members::default();
        let mut count = 0;
        for input in &inputs {
            input.full_bytes(format.start().1)?;
            check_form(input, format)?;
            let add = |cursor: &mut Cursor<'_>| {
                count += 1;
                shape.add(cursor, count <= TYPED_OBJECTS).map(|()| count < most)
            };
            each_object(input, format, add)?;
        }
        let schema = Arc::new(Schema::new(shape.fields()));
        Ok(Self { inputs: inputs.into(), format, schema, is_declared: false })
    }

    /// Opens files with declared columns. Files that exist are checked: their format, and the
    /// columns of their first objects.
    pub fn declared(inputs: Vec<Input>, format: JsonFormat, schema: &SchemaRef) -> Result<Self> {
        if let Some(field) = schema.fields().iter().find(|field| !is_readable(field.data_type())) {
            let (name, got) = (field.name(), field.data_type());
            let problem = format!("expected a number, text, a time or lists of these in a JSON file, got {got}");
            return Err(Error::InvalidArgument(format!("column {name:?}: {problem}")));
        }
        let file = Self { inputs: inputs.into(), format, schema: Arc::clone(schema), is_declared: true };
        for input in file.inputs.iter().filter(|input| input.is_there()) {
            if input.bytes()?.len().map_err(|error| Error::io(input.path(), error))? > 0 {
                check_form(input, format)?;
                Self { inputs: Arc::from([input.clone()]), ..file.clone() }.check()?;
            }
        }
        Ok(file)
    }

    /// Converts lists of floats to vectors, if all of them have one length.
    pub fn with_vectors(mut self) -> Result<Self> {
        let has_lists = self.schema.fields().iter().any(|field| field.data_type().is_list());
        if has_lists {
            let all: Vec<usize> = (0..self.schema.fields().len()).collect();
            let batches = self.read(&all, TYPED_OBJECTS)?.collect::<Result<Vec<_>>>()?;
            self.schema = arrow::with_vectors(Arc::clone(&self.schema), batches)?.0;
        }
        Ok(self)
    }

    /// Rejects declared columns that the first objects do not have, and values that are not of
    /// their types.
    fn check(&self) -> Result<()> {
        let input = &self.inputs[0];
        let mut shape = Members::default();
        let mut count = 0;
        each_object(input, self.format, |cursor| {
            count += 1;
            shape.add(cursor, true).map(|()| count < TYPED_OBJECTS)
        })?;
        let found = Schema::new(shape.fields());
        if let Some(missing) = self.schema.fields().iter().find(|field| found.index_of(field.name()).is_err()) {
            let found: Vec<&str> = found.fields().iter().map(|field| field.name().as_str()).collect();
            let (name, hint) = (missing.name(), scan::case_hint(&[missing.name()], &found));
            let found = found.join(", ");
            return Err(bad_file(input.path(), &format!("column {name:?} is declared, the file has [{found}]{hint}")));
        }
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        self.read(&all, TYPED_OBJECTS)?.next().transpose().map(|_| ())
    }
}

impl Records for JsonFile {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn read(&self, columns: &[usize], batch_rows: usize) -> Result<Batches> {
        let rows = JsonRows::new(&self.schema, columns, self.is_declared)?;
        let file = self.clone();
        let object = Object::default();
        let mut batches = JsonBatches { file, rows, batch_rows, next: 0, objects: None, object, is_over: false };
        // A file that cannot be opened is reported at once.
        batches.open_next()?;
        Ok(Box::new(batches))
    }
}

struct JsonBatches {
    file: JsonFile,
    rows: JsonRows,
    batch_rows: usize,
    /// The next input.
    next: usize,
    objects: Option<Objects<TextReader>>,
    object: Object,
    is_over: bool,
}

impl JsonBatches {
    fn open_next(&mut self) -> Result<()> {
        let input = self.file.inputs.get(self.next);
        self.objects = input.map(|input| objects(input, self.file.format)).transpose()?;
        self.next += 1;
        Ok(())
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        while let (true, Some(objects)) = (self.rows.len() < self.batch_rows, &mut self.objects) {
            let input = &self.file.inputs[self.next - 1];
            if !objects.read(&mut self.object).map_err(|failure| failed(input, failure))? {
                self.open_next()?;
                continue;
            }
            let pushed = match str::from_utf8(&self.object.text) {
                Ok(text) => self.rows.push(text),
                Err(_) => Err(None),
            };
            pushed.map_err(|problem| match problem {
                Some(problem) => bad_file(input.path(), &format!("line {}, {problem}", self.object.line)),
                None => refusal(input.path(), &self.object),
            })?;
        }
        if self.rows.len() > 0 { self.rows.finish().map(Some) } else { Ok(None) }
    }
}

impl Iterator for JsonBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let batch = self.batch().transpose();
        self.is_over = !matches!(batch, Some(Ok(_)));
        batch.map(|batch| batch.map_err(|error| blame(self.objects.as_ref(), error)))
    }
}

/// Builds the error of these objects.
fn blame(objects: Option<&Objects<TextReader>>, error: Error) -> Error {
    match objects {
        Some(objects) => objects.input().blame(error),
        None => error,
    }
}

fn objects(input: &Input, format: JsonFormat) -> Result<Objects<TextReader>> {
    Ok(Objects::new(input.text(TextEncoding::Utf8)?, format))
}

/// Calls a function at the start of each object of an input, until it returns false; `None` from it
/// means that there is no object.
fn each_object(input: &Input, format: JsonFormat, mut call: impl FnMut(&mut Cursor<'_>) -> Option<bool>) -> Result<()> {
    let mut objects = objects(input, format)?;
    let mut object = Object::default();
    while objects.read(&mut object).map_err(|failure| objects.input().blame(failed(input, failure)))? {
        let refused = || objects.input().blame(refusal(input.path(), &object));
        let mut cursor = Cursor::new(str::from_utf8(&object.text).map_err(|_| refused())?);
        let goes_on = call(&mut cursor).filter(|_| cursor.is_at_end()).ok_or_else(refused)?;
        if !goes_on {
            break;
        }
    }
    Ok(())
}

/// Builds the error of a text that is not an object.
fn refusal(path: &Path, object: &Object) -> Error {
    let at =
        |line: u64, column: u64, problem: &str| bad_file(path, &format!("line {line}, column {column}: {problem}"));
    let here = |problem: &str| at(object.line, object.column, problem);
    if str::from_utf8(&object.text).is_err() {
        return here(&format!("expected UTF-8, got {}", describe::shown(&object.text)));
    }
    if let Some(problem) = too_deep(&object.text) {
        return here(&problem);
    }
    match serde_json::from_slice::<Value>(object.text.trim_ascii_end()) {
        Ok(other) => here(&format!("expected an object, got {}", describe::shown(other.to_string().as_bytes()))),
        Err(error) => {
            let text = error.to_string();
            let problem = text.split(" at line ").next().unwrap_or_default();
            let (line, column) = (error.line() as u64, error.column() as u64);
            match line {
                0 | 1 => at(object.line, object.column + column.saturating_sub(1), problem),
                _ => at(object.line + line - 1, column, problem),
            }
        }
    }
}

fn failed(input: &Input, failure: Failure) -> Error {
    match failure {
        Failure::Io(error) => input.failed(error),
        Failure::Misplaced(at) => {
            bad_file(input.path(), &format!("line {}, column {}: {}", at.line, at.column, at.problem))
        }
    }
}

/// Rejects a file of the other format, and a truncated array, before any of it is read.
fn check_form(input: &Input, format: JsonFormat) -> Result<()> {
    use std::io::{BufRead, Read, Seek, SeekFrom};

    let (start, expected) = format.start();
    let mut text = input.text(TextEncoding::Utf8)?;
    let first = loop {
        let bytes = text.fill_buf().map_err(|error| input.failed(error))?;
        match bytes.iter().position(|byte| !byte.is_ascii_whitespace()) {
            Some(place) => break Some(bytes[place]),
            None if bytes.is_empty() => break None,
            None => {
                let read = bytes.len();
                text.consume(read);
            }
        }
    };
    let got = match first {
        Some(first) if first == start => None,
        Some(first) => Some(format!("a file that begins with '{}'", first.escape_ascii())),
        None => Some("a file of white space".into()),
    };
    if let Some(got) = got {
        let start = char::from(start);
        return Err(bad_file(input.path(), &format!("expected {expected}, beginning with '{start}', got {got}")));
    }
    let io = |error| input.failed(error);
    let mut bytes = input.bytes()?;
    let mut begin = Vec::new();
    bytes.by_ref().take(4).read_to_end(&mut begin).map_err(io)?;
    if format == JsonFormat::Array && Compression::of(&begin).is_none() {
        let len = bytes.len().map_err(io)?;
        bytes.seek(SeekFrom::Start(len.saturating_sub(4096))).map_err(io)?;
        let mut tail = Vec::new();
        bytes.read_to_end(&mut tail).map_err(io)?;
        let last = tail.trim_ascii_end().last().map_or(String::new(), |last| last.escape_ascii().to_string());
        if last != "]" {
            let problem = format!("expected {expected}, ending with ']', got a file that ends with '{last}'");
            return Err(bad_file(input.path(), &problem));
        }
    }
    Ok(())
}
