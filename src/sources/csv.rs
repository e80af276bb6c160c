//! Delimited text with a header line, and vectors in its cells.

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Builder, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema};
use csv::ByteRecord;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::prelude::{CsvReadOptions, SessionContext};

use super::vector_text::{self, Shape};
use super::{arrow as memory, bad_file, location, open_file};
use crate::error::{Error, Result};

/// Rows that decide which columns hold vectors.
const SAMPLE_ROWS: usize = 100;
/// Rows that decide the types of the other columns.
const TYPED_ROWS: usize = 1000;

/// A CSV file as a table. It is read as queries need it, unless cells hold vectors: then it is read once.
///
/// A column holds vectors if most of its cells in the first rows have the form of one (see [`vector_text::shape`]). Then each
/// cell is a vector of the length that most of those have, or empty, which is NULL.
///
/// # Errors
/// A missing or empty file; a delimiter that is not one ASCII character; a bad vector cell, with its line.
pub async fn open(ctx: &SessionContext, path: &Path, delimiter: char) -> Result<Arc<dyn TableProvider>> {
    let location = location(path, "a header line")?;
    let delimiter = delimiter_byte(delimiter)?;
    let columns = vector_columns(path, delimiter)?;
    let schema = infer_schema(path, delimiter)?;
    let bad = |error: DataFusionError| bad_file(path, &error.strip_backtrace());
    // A file is not cut at its line ends to be read in parallel: a cell in quotes may hold some.
    let options = CsvReadOptions::new().schema(&schema).newlines_in_values(true);
    let options = options.delimiter(delimiter).file_extension("");
    let frame = ctx.read_csv(location, options).await.map_err(bad)?;
    if columns.is_empty() {
        return Ok(frame.into_view());
    }
    let mut schema = Arc::clone(frame.schema().inner());
    let mut batches = frame.collect().await.map_err(bad)?;
    for column in columns {
        let name = schema.field(column.ordinal).name().clone();
        let arrays = column.parse(&batches).map_err(|problem| {
            let line = line_of(path, delimiter, problem.row).map_or(String::new(), |line| format!("line {line}, "));
            Error::BadFile { path: path.into(), problem: format!("{line}column {name:?}: {}", problem.text) }
        })?;
        (schema, batches) = memory::replace(&schema, &batches, column.ordinal, arrays)?;
    }
    memory::open(schema, batches)
}

/// The columns' types by the first rows; text where these have no values. (DataFusion's own inference cuts cells that hold line
/// ends in the middle, and takes a column without values for one of NULLs to the end.)
fn infer_schema(path: &Path, delimiter: u8) -> Result<Schema> {
    let format = Format::default().with_header(true).with_delimiter(delimiter);
    let file = BufReader::new(open_file(path)?);
    let (schema, _) = format.infer_schema(file, Some(TYPED_ROWS)).map_err(|error| bad_file(path, &error))?;
    let typed = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Null => field.as_ref().clone().with_data_type(DataType::Utf8),
        _ => field.as_ref().clone(),
    });
    Ok(Schema::new(typed.collect::<Vec<_>>()))
}

fn delimiter_byte(delimiter: char) -> Result<u8> {
    let expected = match u8::try_from(delimiter) {
        Ok(b'"' | b'\n' | b'\r') => "another character than a quote and a line end",
        Ok(byte) if byte.is_ascii() => return Ok(byte),
        _ => "one ASCII character",
    };
    Err(Error::InvalidArgument(format!("delimiter: expected {expected}, got {delimiter:?}")))
}

fn reader(delimiter: u8) -> csv::ReaderBuilder {
    let mut reader = csv::ReaderBuilder::new();
    reader.delimiter(delimiter).flexible(true);
    reader
}

/// A column of vectors.
struct VectorColumn {
    ordinal: usize,
    dim: usize,
}

/// The columns that hold vectors, by the first rows.
fn vector_columns(path: &Path, delimiter: u8) -> Result<Vec<VectorColumn>> {
    let bad = |error: csv::Error| bad_file(path, &error);
    let mut reader = reader(delimiter).from_path(path).map_err(bad)?;
    let width = reader.byte_headers().map_err(bad)?.len();
    if width == 0 {
        return Err(bad_file(path, &"expected a header line, got only line ends"));
    }
    let sample: Vec<ByteRecord> = reader.byte_records().take(SAMPLE_ROWS).collect::<Result<_, _>>().map_err(bad)?;
    let dim = |ordinal| vector_dim(sample.iter().filter_map(|row| str::from_utf8(row.get(ordinal)?).ok()));
    Ok((0..width).filter_map(|ordinal| Some(VectorColumn { ordinal, dim: dim(ordinal)? })).collect())
}

/// The length of the vectors in a column that begins with these cells; `None` if it does not hold vectors.
fn vector_dim<'a>(cells: impl Iterator<Item = &'a str>) -> Option<usize> {
    let (mut vectors, mut brackets, mut others) = (0, 0, 0);
    // Lengths in the order in which they come, with the number of vectors.
    let mut lengths: Vec<(usize, usize)> = Vec::new();
    for cell in cells {
        match vector_text::shape(cell) {
            Shape::Empty => {}
            Shape::Bracket => brackets += 1,
            Shape::Other => others += 1,
            Shape::Vector => {
                vectors += 1;
                // What is no vector has no length, and is an error once the column is known to hold them.
                let Ok(vector) = vector_text::parse(cell) else { continue };
                match lengths.iter_mut().find(|(length, _)| *length == vector.len()) {
                    Some((_, count)) => *count += 1,
                    None => lengths.push((vector.len(), 1)),
                }
            }
        }
    }
    let most = lengths.iter().rev().max_by_key(|(_, count)| *count);
    // Text in brackets is a broken vector where it is among vectors, and text where it is not.
    (vectors > others && vectors >= brackets).then(|| most.map_or(1, |(length, _)| *length))
}

/// A bad cell.
struct Problem {
    row: usize,
    text: String,
}

impl VectorColumn {
    /// The cells as vectors.
    fn parse(&self, batches: &[RecordBatch]) -> Result<Vec<ArrayRef>, Problem> {
        let mut first = 0;
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(batches.len());
        for batch in batches {
            let cells = cast(batch.column(self.ordinal), &DataType::Utf8)
                .map_err(|error| Problem { row: first, text: error.to_string() })?;
            let mut values = Float32Builder::with_capacity(cells.len() * self.dim);
            let mut valid = Vec::with_capacity(cells.len());
            for (row, cell) in cells.as_string::<i32>().iter().enumerate() {
                let cell = cell.filter(|cell| !cell.trim().is_empty());
                match cell {
                    Some(cell) => {
                        let vector = self.parse_cell(cell).map_err(|text| Problem { row: first + row, text })?;
                        vector.iter().for_each(|x| values.append_value(*x as f32));
                    }
                    None => values.append_nulls(self.dim),
                }
                valid.push(cell.is_some());
            }
            first += cells.len();
            let item = Arc::new(Field::new_list_field(DataType::Float32, true));
            let values = Arc::new(values.finish());
            let nulls = Some(NullBuffer::from(valid));
            arrays.push(Arc::new(FixedSizeListArray::new(item, self.dim as i32, values, nulls)));
        }
        Ok(arrays)
    }

    fn parse_cell(&self, cell: &str) -> Result<Vec<f64>, String> {
        let vector = vector_text::parse(cell).map_err(|error| error.to_string())?;
        if vector.len() != self.dim {
            let (expected, got) = (self.dim, vector.len());
            return Err(format!("vectors of different lengths: expected {expected} components, got {got}"));
        }
        match vector.iter().find(|x| x.is_finite() && !(**x as f32).is_finite()) {
            Some(x) => Err(format!("expected components within Float32, got {x}")),
            None => Ok(vector),
        }
    }
}

/// The line on which a row of the file begins, counting from 1 with the header.
fn line_of(path: &Path, delimiter: u8, row: usize) -> Option<usize> {
    let text = std::fs::read(path).ok()?;
    let record = reader(delimiter).from_reader(text.as_slice()).into_byte_records().nth(row)?.ok()?;
    // The reader stands before what is left of the last line's end, and before blank lines.
    let mut start = usize::try_from(record.position()?.byte()).ok()?;
    start += text[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let ends_line = |i: &usize| text[*i] == b'\n' || text[*i] == b'\r' && text.get(i + 1) != Some(&b'\n');
    Some(1 + (0..start).filter(ends_line).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_cells_decide_on_vectors_and_their_length() {
        for (cells, expected) in [
            (&["[1 2]", "[3 4]"][..], Some(2)),
            (&["[1]", "[1 2]", "[3 4]"], Some(2)),
            (&["[1 2 3]", "[1 2]"], Some(3)),
            (&["", " [1 2]", "[]"], Some(2)),
            (&["[1 x]"], Some(1)),
            (&["[1 2]", "[1 2", "hello", "[3 4]"], Some(2)),
            (&["[1 2]", "hello"], None),
            (&["[1]", "[draft] 1", "[draft] 2"], None),
            (&["[]", "[]"], None),
            (&["[\"a\"]", "[]"], None),
            (&["", ""], None),
            (&[], None),
        ] {
            assert_eq!(vector_dim(cells.iter().copied()), expected, "{cells:?}");
        }
    }

    #[test]
    fn a_row_begins_on_its_line_whatever_ends_the_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.csv");
        for (text, lines) in [
            ("h,v\n1,a\n2,b\n", [2, 3]),
            ("h,v\r\n1,a\r\n2,b\r\n", [2, 3]),
            ("h,v\r1,a\r2,b\r", [2, 3]),
            ("\n\nh,v\n\n1,a\n\n\n2,b", [5, 8]),
            ("\r\nh,v\r\n\r\n1,a\r\n\r\n2,b", [4, 6]),
            ("\"h\n\",v\n1,\"a\n\n\"\n2,b\n", [3, 6]),
            ("\"h\r\n\",v\r\n1,\"a\r\n\r\n\"\r\n\r\n2,b\r\n", [3, 7]),
            ("\u{feff}h,v\n1,a\n2,b\n", [2, 3]),
        ] {
            std::fs::write(&path, text).unwrap();
            let found = [0, 1].map(|row| line_of(&path, b',', row));
            assert_eq!(found, lines.map(Some), "{text:?}");
        }
    }
}
