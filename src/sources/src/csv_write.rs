//! Writes rows as delimited text under a header line. NULL is an empty cell and an empty text is a
//! quoted one, as in PostgreSQL. A list of numbers becomes text `[1,2,3]`, which
//! [`super::csv::open`] reads as the same vector; so the lists of a column must have one length and
//! no NULL components.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use vexact_core::error::{Error, Result};

use super::{bad_file, vector_text};

/// Writer of CSV text.
pub struct CsvWriter<W: Write> {
    output: W,
    encoder: CsvEncoder,
    path: PathBuf,
}

impl<W: Write> CsvWriter<W> {
    /// Writes the header line. The path is for messages.
    ///
    /// # Errors
    /// An output that cannot be written.
    pub fn begin(output: W, path: &Path, schema: &SchemaRef, delimiter: u8, has_header: bool) -> Result<Self> {
        let mut begun = Self { output, encoder: CsvEncoder::new("write_csv", schema, delimiter), path: path.into() };
        if has_header {
            begun.put(&begun.encoder.header(schema))?;
        }
        Ok(begun)
    }

    /// Adds rows.
    ///
    /// # Errors
    /// Lists that could not be read back; values without a text form; an output that cannot be
    /// written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let text = self.encoder.encode(batch)?;
        self.put(&text)
    }

    /// Returns the output, with everything written to it.
    pub fn into_inner(self) -> W {
        self.output
    }

    fn put(&mut self, text: &str) -> Result<()> {
        self.output.write_all(text.as_bytes()).map_err(|error| bad_file(&self.path, &error))
    }
}

/// Encodes rows as lines of cells.
pub struct CsvEncoder {
    delimiter: u8,
    lists: ListTexts,
}

impl CsvEncoder {
    /// Creates an encoder with this delimiter; `caller` is for messages.
    pub fn new(caller: &'static str, schema: &Schema, delimiter: u8) -> Self {
        Self { delimiter, lists: ListTexts::new(caller, schema) }
    }

    /// Returns the delimiter of cells.
    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Returns the header line.
    pub fn header(&self, schema: &Schema) -> String {
        let mut line = String::new();
        for (place, field) in schema.fields().iter().enumerate() {
            self.begin_cell(place, &mut line);
            // A line without any character would not be a record.
            if !field.name().is_empty() || schema.fields().len() == 1 {
                self.put(field.name(), &mut line);
            }
        }
        line.push('\n');
        line
    }

    /// Encodes some rows as lines.
    ///
    /// # Errors
    /// Lists that could not be read back; values without a text form; an empty text as the only
    /// cell of its line, which is the form of NULL there.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<String> {
        let first = self.lists.rows;
        let batch = self.lists.replace(batch)?;
        if let Some(field) = batch.schema().fields().iter().find(|field| field.data_type().is_nested()) {
            let (caller, name, got) = (self.lists.caller, field.name(), field.data_type());
            let problem = format!("{caller}: column {name:?}: expected a type that a CSV cell holds, got {got}");
            return Err(Error::InvalidArgument(problem));
        }
        let options = FormatOptions::default();
        let formatters = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let formatters = formatters.collect::<Result<Vec<_>, _>>().map_err(Error::arrow)?;
        let nulls: Vec<_> = batch.columns().iter().map(|column| column.logical_nulls()).collect();
        let (mut lines, mut cell) = (String::new(), String::new());
        for row in 0..batch.num_rows() {
            for (place, (formatter, nulls)) in formatters.iter().zip(&nulls).enumerate() {
                self.begin_cell(place, &mut lines);
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    // A line without any character is not a record.
                    lines.push_str(if formatters.len() == 1 { "\"\"" } else { "" });
                    continue;
                }
                cell.clear();
                let bad = |problem: &dyn Display| {
                    let (caller, name) = (self.lists.caller, batch.schema().field(place).name().clone());
                    Error::InvalidArgument(format!("{caller}: column {name:?}, row {}: {problem}", first + row))
                };
                formatter.value(row).write(&mut cell).map_err(|error| bad(&error))?;
                if cell.is_empty() && formatters.len() == 1 {
                    return Err(bad(&"expected a text with characters, as NULL is an empty one in a single column"));
                }
                self.put(&cell, &mut lines);
            }
            lines.push('\n');
        }
        Ok(lines)
    }

    fn begin_cell(&self, place: usize, line: &mut String) {
        if place > 0 {
            line.push(char::from(self.delimiter));
        }
    }

    /// Adds a text, in quotes if it would be read differently without them.
    fn put(&self, text: &str, line: &mut String) {
        let is_special = |byte: u8| byte == self.delimiter || matches!(byte, b'"' | b'\n' | b'\r');
        if !text.is_empty() && !text.bytes().any(is_special) {
            line.push_str(text);
            return;
        }
        line.push('"');
        for (place, part) in text.split('"').enumerate() {
            line.push_str(if place > 0 { "\"\"" } else { "" });
            line.push_str(part);
        }
        line.push('"');
    }
}

/// Lists written so far: the lengths of each column's lists, the number of rows, and the caller's
/// name for error messages.
struct ListTexts {
    caller: &'static str,
    /// Length of each column's lists; `None` before its first list.
    dims: Vec<Option<usize>>,
    rows: usize,
}

impl ListTexts {
    /// Starts before the first row. Vectors have the length of their column's type.
    fn new(caller: &'static str, schema: &Schema) -> Self {
        let dim = |field: &Arc<Field>| match field.data_type() {
            DataType::FixedSizeList(_, dim) => usize::try_from(*dim).ok().filter(|dim| *dim > 0),
            _ => None,
        };
        Self { caller, dims: schema.fields().iter().map(dim).collect(), rows: 0 }
    }

    /// Returns the batch with lists of numbers converted to text.
    fn replace(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut fields = Vec::with_capacity(batch.num_columns());
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (ordinal, (field, column)) in batch.schema().fields().iter().zip(batch.columns()).enumerate() {
            match lists(column) {
                None => {
                    fields.push(field.as_ref().clone());
                    columns.push(Arc::clone(column));
                }
                Some(lists) => {
                    let texts = lists.enumerate().map(|(row, list)| match list {
                        None => Ok(None),
                        Some(list) => text(&list, &mut self.dims[ordinal]).map(Some).map_err(|problem| {
                            let row = self.rows + row;
                            Error::InvalidArgument(format!(
                                "{}: column {:?}, row {row}: {problem}",
                                self.caller,
                                field.name()
                            ))
                        }),
                    });
                    columns.push(Arc::new(texts.collect::<Result<StringArray>>()?));
                    fields.push(Field::new(field.name(), DataType::Utf8, true));
                }
            }
        }
        self.rows += batch.num_rows();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options);
        Ok(batch.map_err(DataFusionError::from)?)
    }
}

/// Returns the rows of a column of lists of numbers; `None` for any other column.
fn lists(column: &ArrayRef) -> Option<Box<dyn Iterator<Item = Option<ArrayRef>> + '_>> {
    match column.data_type() {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item)
            if item.data_type().is_integer() || item.data_type().is_floating() => {}
        _ => return None,
    }
    Some(match column.data_type() {
        DataType::FixedSizeList(..) => Box::new(column.as_fixed_size_list().iter()),
        DataType::List(_) => Box::new(column.as_list::<i32>().iter()),
        _ => Box::new(column.as_list::<i64>().iter()),
    })
}

/// Converts a list to text, or returns the reason why it could not be read back.
fn text(list: &ArrayRef, dim: &mut Option<usize>) -> Result<String, String> {
    if let Some(position) = (0..list.len()).find(|i| list.is_null(*i)) {
        return Err(format!("expected a number, got NULL as component {position} (write_parquet keeps it)"));
    }
    let expected = *dim.get_or_insert(list.len().max(1));
    if list.len() != expected {
        let got = list.len();
        return Err(format!("expected a list of {expected} numbers, got one of {got} (write_parquet keeps it)"));
    }
    match list.data_type() {
        DataType::Float32 => numbers::<Float32Type>(list),
        float if float.is_floating() => numbers::<Float64Type>(list),
        integer if integer.is_signed_integer() => numbers::<Int64Type>(list),
        _ => numbers::<UInt64Type>(list),
    }
}

fn numbers<T: ArrowPrimitiveType<Native: Display>>(list: &ArrayRef) -> Result<String, String> {
    let wide = cast(list, &T::DATA_TYPE).map_err(|error| error.to_string())?;
    Ok(vector_text::write(wide.as_primitive::<T>().values()))
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::super::input::Input;
    use super::super::scan::Records;
    use super::super::{csv::CsvFile, csv::CsvOptions};
    use super::*;

    fn encoded(columns: &[(&str, ArrayRef)]) -> Result<String> {
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(n, c)| (*n, Arc::clone(c), true))).unwrap();
        let mut encoder = CsvEncoder::new("write_csv", &batch.schema(), b',');
        Ok(encoder.header(&batch.schema()) + &encoder.encode(&batch)?)
    }

    #[test]
    fn null_and_the_empty_text_are_two_cells_and_come_back() {
        let texts = [Some(""), None, Some("\""), Some("\"\""), Some("a,\"\",b"), Some("x\ny"), Some(" "), Some("é")];
        let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter((0..8).map(|row| (row % 2 == 0).then_some(row))));
        for columns in [
            vec![("s", Arc::clone(&texts)), ("n", Arc::clone(&numbers))],
            vec![("n", Arc::clone(&numbers)), ("s", Arc::clone(&texts)), ("t", Arc::clone(&texts))],
        ] {
            let text = encoded(&columns).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.csv");
            for text in [text.clone(), text.trim_end().to_owned(), text.replace('\n', "\r\n").replace("x\r\ny", "x\ny")]
            {
                std::fs::write(&path, text).unwrap();
                let file = CsvFile::infer(vec![Input::open(&path).unwrap()], CsvOptions::default()).unwrap();
                for batch_rows in [1, 3, 100] {
                    let all: Vec<usize> = (0..columns.len()).collect();
                    let batches: Vec<_> = file.read(&all, batch_rows).unwrap().collect::<Result<_>>().unwrap();
                    let read = arrow::compute::concat_batches(file.schema(), &batches).unwrap();
                    for ((_, expected), found) in columns.iter().zip(read.columns()) {
                        assert_eq!(found, expected);
                    }
                }
            }
        }
    }

    #[test]
    fn a_single_column_has_null_and_no_empty_text() {
        let one = |value| encoded(&[("s", Arc::new(StringArray::from(vec![Some("a"), value])) as ArrayRef)]);
        assert_eq!(one(None).unwrap(), "s\na\n\"\"\n");
        let error = one(Some("")).unwrap_err().to_string();
        assert!(error.starts_with("write_csv: column \"s\", row 1: expected a text with characters"), "{error}");
    }
}
