//! Text files whose lines are rows.

use std::io::BufRead;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use vexact_core::error::{Error, Result};

use super::cell::{self, BadCell, CellRules, Cells};
use super::cell_types;
use super::encoding::TextEncoding;
use super::input::{Input, TextReader};
use super::line_columns::{FieldOfLine, LineColumn, LineField, LineMode};
use super::scan::{Batches, FileTable, Records};
use super::{READ_ONLY, bad_file, describe};

/// Number of lines from which types are inferred.
const TYPED_LINES: usize = 1000;

/// Opens a file of lines as a table, read on demand. White space around values that are not text is
/// ignored; an empty value and a group without a match are NULL.
///
/// # Errors
/// A missing or empty file, columns that the mode cannot have. A line that does not match, that has
/// too few fields, or whose value is not of its type is an error of the query, with its line.
pub fn open(
    inputs: Vec<Input>,
    columns: Vec<LineColumn>,
    mode: LineMode,
    skip_empty_lines: bool,
) -> Result<Arc<dyn TableProvider>> {
    let file = LineFile::open(inputs, columns, mode, skip_empty_lines)?;
    Ok(FileTable::read_only(Arc::new(file), READ_ONLY))
}

/// Files of lines and their columns.
#[derive(Debug, Clone)]
pub(super) struct LineFile {
    inputs: Arc<[Input]>,
    mode: LineMode,
    skip_empty_lines: bool,
    schema: SchemaRef,
    /// Positions of the values, one for each column.
    fields: Vec<FieldOfLine>,
}

impl LineFile {
    pub fn open(
        inputs: Vec<Input>,
        mut columns: Vec<LineColumn>,
        mode: LineMode,
        skip_empty_lines: bool,
    ) -> Result<Self> {
        if let (LineMode::Regex(regex), true) = (&mode, columns.is_empty()) {
            let named =
                |name: &str| LineColumn { name: name.into(), field: LineField::Group(name.into()), data_type: None };
            columns = regex.capture_names().flatten().map(named).collect();
        }
        if columns.is_empty() {
            let expected = "expected at least one column, or a pattern with named groups";
            return Err(Error::InvalidArgument(format!("mappings: {expected}, got none")));
        }
        let field = |column: &LineColumn| {
            Ok(FieldOfLine { number: mode.field(column)?, is_inferred: column.data_type.is_none() })
        };
        let fields = columns.iter().map(field).collect::<Result<Vec<_>>>()?;
        for (place, column) in columns.iter().enumerate() {
            let refuse = |problem: String| Err(Error::InvalidArgument(format!("column {:?}: {problem}", column.name)));
            if columns[..place].iter().any(|other| other.name == column.name) {
                return refuse("expected one of each name, got two".into());
            }
            if let Some(data_type) = column.data_type.as_ref().filter(|data_type| !cell::is_readable(data_type)) {
                return refuse(format!("expected VECTOR(n), a number, text or a time in a line, got {data_type}"));
            }
        }
        for input in &inputs {
            input.full_bytes("lines")?;
        }
        // All columns are read as text first, to infer the missing types.
        let text = |column: &LineColumn| Field::new(&column.name, DataType::Utf8, true);
        let schema = Arc::new(Schema::new(columns.iter().map(text).collect::<Vec<_>>()));
        let mut file = Self { inputs: inputs.into(), mode, skip_empty_lines, schema, fields };
        let inferred = match columns.iter().all(|column| column.data_type.is_some()) {
            true => None,
            false => Some(file.infer()?),
        };
        let typed = columns.iter().enumerate().map(|(place, column)| {
            // Without a line, nothing is inferred.
            let inferred = inferred.as_ref().and_then(|types| types.get(place).cloned());
            Field::new(&column.name, column.data_type.clone().or(inferred).unwrap_or(DataType::Utf8), true)
        });
        file.schema = Arc::new(Schema::new(typed.collect::<Vec<_>>()));
        Ok(file)
    }

    /// Reads the first lines, to check declared columns.
    pub fn check(&self) -> Result<()> {
        let all: Vec<usize> = (0..self.fields.len()).collect();
        self.read(&all, TYPED_LINES)?.next().transpose().map(|_| ())
    }

    /// Infers the types of the first lines' values, as in a CSV file: text if there are none.
    fn infer(&self) -> Result<Vec<DataType>> {
        let all: Vec<usize> = (0..self.fields.len()).collect();
        let rules = CellRules::default();
        Ok(match self.read(&all, TYPED_LINES)?.next().transpose()? {
            Some(batch) => {
                let columns = batch.columns().iter().map(|column| column.as_string::<i32>());
                columns.map(|texts| cell_types::infer(&Trimmed(texts), &rules)).collect()
            }
            None => vec![DataType::Utf8; self.fields.len()],
        })
    }
}

impl Records for LineFile {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn read(&self, columns: &[usize], batch_rows: usize) -> Result<Batches> {
        let mut batches = LineBatches {
            text: None,
            next: 0,
            schema: Arc::new(self.schema.project(columns).map_err(Error::arrow)?),
            fields: columns.iter().map(|column| self.fields[*column]).collect(),
            file: self.clone(),
            batch_rows,
            line: 0,
        };
        // A file that cannot be opened is an error at once.
        batches.open_next()?;
        Ok(Box::new(batches))
    }
}

struct LineBatches {
    /// Text of the input before `next`; `None` if that input is at its end.
    text: Option<TextReader>,
    next: usize,
    file: LineFile,
    /// Schema of the columns that are read.
    schema: SchemaRef,
    fields: Vec<FieldOfLine>,
    batch_rows: usize,
    /// The last line that was read, counting from 1.
    line: u64,
}

impl LineBatches {
    fn open_next(&mut self) -> Result<()> {
        self.text = self.file.inputs.get(self.next).map(|input| input.text(TextEncoding::Utf8)).transpose()?;
        (self.next, self.line) = (self.next + 1, 0);
        Ok(())
    }

    fn input(&self) -> &Input {
        &self.file.inputs[self.next - 1]
    }

    fn error(&self, line: u64, problem: &str) -> Error {
        bad_file(self.input().path(), &format!("line {line}: {problem}"))
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut texts: Vec<StringBuilder> = self.fields.iter().map(|_| StringBuilder::new()).collect();
        let mut places: Vec<u64> = Vec::new();
        let mut bytes = Vec::new();
        while let (true, Some(text)) = (places.len() < self.batch_rows, &mut self.text) {
            bytes.clear();
            let read = text.read_until(b'\n', &mut bytes);
            if read.map_err(|error| self.input().failed(error))? == 0 {
                if places.is_empty() {
                    self.open_next()?;
                    continue;
                }
                break;
            }
            self.line += 1;
            let end = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let end = end.strip_suffix(b"\r").unwrap_or(end);
            if self.file.skip_empty_lines && end.trim_ascii().is_empty() {
                continue;
            }
            let refuse = |problem: &str| self.error(self.line, &format!("{problem}: {}", describe::shown(end)));
            let line = str::from_utf8(end).map_err(|_| refuse("expected UTF-8"))?;
            self.file.mode.take_apart(line, &self.fields, &mut texts).map_err(|problem| refuse(&problem))?;
            places.push(self.line);
        }
        if places.is_empty() {
            return Ok(None);
        }
        let typed = texts.into_iter().zip(&self.fields).zip(self.schema.fields()).map(|((mut text, column), field)| {
            let rules = CellRules { is_inferred: column.is_inferred, ..CellRules::default() };
            typed(&text.finish(), field.data_type(), &rules)
                .map_err(|bad| self.error(places[bad.row], &format!("column {:?}: {}", field.name(), bad.problem)))
        });
        let columns = typed.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        batch.map(Some).map_err(Error::arrow)
    }
}

impl Iterator for LineBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.batch() {
            Ok(batch) => batch.map(Ok),
            Err(error) => Some(Err(match self.text.take() {
                Some(text) => text.blame(error),
                None => error,
            })),
        }
    }
}

/// Parses the values of a column, or returns the first row with an invalid text. White space around
/// values that are not text is ignored.
fn typed(texts: &StringArray, data_type: &DataType, rules: &CellRules) -> Result<ArrayRef, BadCell> {
    match data_type {
        DataType::Utf8 => Ok(Arc::new(texts.clone())),
        _ => cell::column(&Trimmed(texts), data_type, rules),
    }
}

/// Texts without the white space around them.
struct Trimmed<'a>(&'a StringArray);

impl Cells for Trimmed<'_> {
    fn len(&self) -> usize {
        Array::len(self.0)
    }

    fn get(&self, row: usize) -> Option<&str> {
        let text = if self.0.is_null(row) { "" } else { self.0.value(row).trim() };
        if text.is_empty() { None } else { Some(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, field: usize, data_type: Option<DataType>) -> LineColumn {
        LineColumn { name: name.into(), field: LineField::Index(field), data_type }
    }

    fn read(text: &str, columns: Vec<LineColumn>, mode: LineMode) -> Result<Vec<RecordBatch>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::fs::write(&path, text).unwrap();
        let file = LineFile::open(vec![Input::open(&path)?], columns, mode, true)?;
        let all: Vec<usize> = (0..file.schema.fields().len()).collect();
        file.read(&all, 2)?.collect()
    }

    fn shown(batches: &[RecordBatch]) -> String {
        arrow::util::pretty::pretty_format_batches(batches).unwrap().to_string()
    }

    #[test]
    fn fields_are_split_and_typed_by_the_first_lines() {
        let mode = LineMode::new("split", "||", "").unwrap();
        let columns = vec![column("n", 2, None), column("name", 0, None)];
        let batches = read("a||x|| 1\r\n\n||y||\nc||z||3", columns, mode).unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(*batches[0].schema().field(0).data_type(), DataType::Int64);
        let expected =
            "+---+------+\n| n | name |\n+---+------+\n| 1 | a    |\n|   |      |\n| 3 | c    |\n+---+------+";
        assert_eq!(shown(&batches), expected);
    }

    #[test]
    fn groups_are_columns_by_name_or_number() {
        let mode = LineMode::new("regex", "", r"^(?P<level>\w+) \[(?P<ms>\d+)\]( .*)?$").unwrap();
        let batches = read("INFO [12] hello\nWARN [7]\n", Vec::new(), mode.clone()).unwrap();
        assert_eq!(*batches[0].schema().field(1).data_type(), DataType::Int64);
        assert!(shown(&batches).contains("| WARN  | 7  |"));
        let text = read("INFO [12] hello\nWARN [7]\n", vec![column("text", 3, None)], mode).unwrap();
        assert!(text[0].column(0).is_null(1));
    }

    #[test]
    fn a_bad_line_is_an_error_with_its_number_and_text() {
        let split = |delimiter| LineMode::new("split", delimiter, "").unwrap();
        let regex = LineMode::new("regex", "", r"(\d+)").unwrap();
        let typed = |data_type| vec![column("n", 1, Some(data_type))];
        for (text, columns, mode, expected) in [
            ("1,2\n\n3\n", typed(DataType::Int64), split(","), "line 3: expected at least 2 fields, got 1: \"3\""),
            ("1,2\n3,x\n", typed(DataType::Int64), split(","), "line 2: column \"n\": expected Int64, got \"x\""),
            ("a1\nb\n", typed(DataType::Int64), regex.clone(), "line 2: the pattern does not match: \"b\""),
            ("a1\n", vec![column("n", 2, None)], regex, "column \"n\": expected a group of the pattern, 0 to 1, got 2"),
        ] {
            let error = read(text, columns, mode).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
        }
        assert!(LineMode::new("regex", "", "(").unwrap_err().to_string().starts_with("regex_pattern: "));
        assert!(
            LineMode::new("cut", "", "").unwrap_err().to_string().ends_with("expected split or regex, got \"cut\"")
        );
    }

    #[test]
    fn a_file_of_empty_lines_has_columns_of_text() {
        for text in ["\n", "\n\n", " \n"] {
            let mode = LineMode::new("split", ",", "").unwrap();
            assert_eq!(read(text, vec![column("a", 0, None)], mode).unwrap(), Vec::<RecordBatch>::new(), "{text:?}");
        }
    }

    #[test]
    fn lines_of_one_column_keep_their_rows() {
        let batches =
            read("a\n\nb\n", vec![column("all", 0, None)], LineMode::new("split", "\t", "").unwrap()).unwrap();
        assert_eq!(batches[0].num_rows(), 2);
    }
}
