//! Delimited text, with optional vectors in its cells.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use vexact_core::error::{Error, Result};

use super::cell::{self, BadCell};
use super::cell_types;
pub use super::csv_options::{CsvOptions, delimiter_byte};
use super::csv_place::error;
pub(super) use super::csv_place::{bad_record, reader};
use super::csv_records::{Block, CsvRecords};
use super::csv_sample::Sample;
use super::csv_vectors::{VectorColumn, vector_dim};
use super::input::{Input, TextReader};
use super::scan::{self, Batches, FileTable, Records};
use super::{READ_ONLY, arrow as memory, bad_file};

/// Number of rows that decide which columns contain vectors.
const SAMPLE_ROWS: usize = 100;
/// Number of rows of each file that determine the types of the other columns, and that are read to
/// check declared types.
pub(super) const TYPED_ROWS: usize = 1000;

/// Opens CSV files of the same columns as a table. They are read on demand, unless cells contain
/// vectors: then they are read once.
///
/// A column contains vectors if most of its cells in the first rows have the form of one (see
/// [`super::vector_text::shape`]). Then each cell is a vector of the most frequent length, or
/// empty, which is NULL.
///
/// # Errors
/// An empty file; contradictory options; an invalid vector cell, with its line.
pub async fn open(inputs: Vec<Input>, options: CsvOptions) -> Result<Arc<dyn TableProvider>> {
    let file = CsvFile::infer(inputs, options)?;
    let has_vectors = file.schema.fields().iter().any(|field| field.data_type().is_nested());
    let records: Arc<dyn Records> = Arc::new(file);
    if !has_vectors {
        return Ok(FileTable::read_only(records, READ_ONLY));
    }
    let batches = scan::collect(&records).await?;
    memory::open(Arc::clone(records.schema()), batches)
}

/// CSV files and their columns.
#[derive(Debug, Clone)]
pub(super) struct CsvFile {
    inputs: Arc<[Input]>,
    options: Arc<CsvOptions>,
    /// The cells of the header lines, if there are any.
    header: Option<Arc<[String]>>,
    schema: SchemaRef,
}

impl CsvFile {
    /// Opens files with the columns of the header line, whose types the first rows of each file
    /// determine.
    pub fn infer(inputs: Vec<Input>, mut options: CsvOptions) -> Result<Self> {
        options.rules.is_inferred = true;
        options.check()?;
        let (mut header, mut sample): (Option<Vec<String>>, Sample) = (None, Sample::default());
        for input in &inputs {
            input.full_bytes("a header line")?;
            let (found, mut records) = begin(input, &options)?;
            if let (Some(expected), Some(found)) = (&header, &found) {
                check_header(input.path(), expected, found)?;
            }
            let read = sample.read(input, &options, &mut records, found.as_deref());
            read.map_err(|error| records.input().blame(error))?;
            header = header.or(found);
        }
        let path = inputs.first().map_or(Path::new(""), Input::path);
        let names = options.names(path, header.as_deref(), sample.width())?;
        let schema = infer_columns(names, &sample, &options)?;
        Ok(Self { inputs: inputs.into(), options: Arc::new(options), header: header.map(Arc::from), schema })
    }

    /// Opens files with declared columns. Files that exist are checked: their header lines, and the
    /// values of the first rows.
    pub fn declared(inputs: Vec<Input>, options: CsvOptions, schema: &SchemaRef) -> Result<Self> {
        options.check()?;
        check_declared(schema)?;
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let header = options.has_header.then(|| Arc::from(names));
        let file = Self { inputs: inputs.into(), options: Arc::new(options), header, schema: Arc::clone(schema) };
        for input in file.inputs.iter().filter(|input| input.is_there()) {
            input.full_bytes("a header line")?;
            let alone = Self { inputs: Arc::from([input.clone()]), ..file.clone() };
            let all: Vec<usize> = (0..schema.fields().len()).collect();
            alone.read(&all, TYPED_ROWS)?.next().transpose()?;
        }
        Ok(file)
    }
}

impl Records for CsvFile {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn read(&self, columns: &[usize], batch_rows: usize) -> Result<Batches> {
        let schema = Arc::new(self.schema.project(columns).map_err(Error::arrow)?);
        let mut batches =
            CsvBatches { file: self.clone(), columns: columns.into(), schema, batch_rows, next: 0, current: None };
        // A file that cannot be opened is reported at once.
        batches.open_next()?;
        Ok(Box::new(batches))
    }
}

struct CsvBatches {
    file: CsvFile,
    columns: Vec<usize>,
    /// Schema of these columns.
    schema: SchemaRef,
    batch_rows: usize,
    /// The next input.
    next: usize,
    current: Option<CsvRecords<TextReader>>,
}

impl CsvBatches {
    fn open_next(&mut self) -> Result<()> {
        self.current = None;
        let Some(input) = self.file.inputs.get(self.next) else { return Ok(()) };
        let (header, records) = begin(input, &self.file.options)?;
        if let (Some(expected), Some(found)) = (&self.file.header, header) {
            check_header(input.path(), expected, &found)?;
        }
        self.next += 1;
        self.current = Some(records);
        Ok(())
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        let width = self.file.schema.fields().len();
        while let Some(records) = &mut self.current {
            let input = &self.file.inputs[self.next - 1];
            let options = &self.file.options;
            let block = records.read(self.batch_rows, Some(width)).map_err(|bad| {
                let names: Vec<String> = self.file.schema.fields().iter().map(|field| field.name().clone()).collect();
                bad_record(input, options.encoding, bad, &names)
            })?;
            if block.len() > 0 {
                let batch = batch(&block, &self.schema, &self.columns, width, &options.rules);
                return batch
                    .map(Some)
                    .map_err(|bad| error(input, options.encoding, block.start(bad.row), &bad.problem));
            }
            self.open_next()?;
        }
        Ok(None)
    }
}

impl Iterator for CsvBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.batch() {
            Ok(batch) => batch.map(Ok),
            Err(error) => Some(Err(match self.current.take() {
                Some(records) => records.input().blame(error),
                None => error,
            })),
        }
    }
}

/// Returns the cells of the header line, if there is one, and the records after it.
fn begin(input: &Input, options: &CsvOptions) -> Result<(Option<Vec<String>>, CsvRecords<TextReader>)> {
    let mut text = input.text(options.encoding)?;
    let skipped = options.skip(&mut text).map_err(|error| input.failed(error))?;
    let mut records = CsvRecords::new(text, &options.dialect, skipped);
    if !options.has_header {
        return Ok((None, records));
    }
    let block =
        records.read(1, None).map_err(|bad| records.input().blame(bad_record(input, options.encoding, bad, &[])))?;
    if block.len() == 0 {
        return Err(bad_file(input.path(), &"expected a header line, got only line ends"));
    }
    Ok((Some(block.record(0).map(str::to_owned).collect()), records))
}

/// Rejects a header line with other cells.
pub(super) fn check_header(path: &Path, expected: &[String], found: &[String]) -> Result<()> {
    let (expected, found): (Vec<&str>, Vec<&str>) =
        (expected.iter().map(String::as_str).collect(), found.iter().map(String::as_str).collect());
    scan::check_names(path, &expected, &found)
}

/// Returns the rows of a block, or the first invalid cell of a column.
pub(super) fn batch(
    block: &Block,
    schema: &SchemaRef,
    columns: &[usize],
    width: usize,
    rules: &cell::CellRules,
) -> Result<RecordBatch, BadCell> {
    let column = |(ordinal, field): (&usize, &Arc<Field>)| -> Result<ArrayRef, BadCell> {
        cell::column(&block.column(*ordinal, width, rules), field.data_type(), rules)
            .map_err(|bad| BadCell { problem: format!("column {:?}: {}", field.name(), bad.problem), ..bad })
    };
    let arrays = columns.iter().zip(schema.fields()).map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(block.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
        .map_err(|error| BadCell { row: 0, problem: error.to_string() })
}

/// Rejects declared types that a cell cannot hold.
pub(super) fn check_declared(schema: &Schema) -> Result<()> {
    match schema.fields().iter().find(|field| !cell::is_readable(field.data_type())) {
        None => Ok(()),
        Some(field) => {
            let (name, got) = (field.name(), field.data_type());
            let problem = format!("expected VECTOR(n), a number, text or a time in a CSV file, got {got}");
            Err(Error::InvalidArgument(format!("column {name:?}: {problem}")))
        }
    }
}

/// Rejects two columns of one name.
pub(super) fn check_unique(path: &Path, names: &[String]) -> Result<()> {
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        None => Ok(()),
        Some(name) => Err(bad_file(path, &format!("column {name:?}: expected one column of each name, got two"))),
    }
}

/// Infers the columns of these names from the first rows, except those with given types.
pub(super) fn infer_columns(names: Vec<String>, sample: &Sample, options: &CsvOptions) -> Result<SchemaRef> {
    options.check_types(&names)?;
    let rules = &options.rules;
    let fields = names.into_iter().enumerate().map(|(ordinal, name)| {
        let cells = sample.column(ordinal, rules);
        let data_type = options.given_type(&name).unwrap_or_else(|| {
            match vector_dim((0..sample.len().min(SAMPLE_ROWS)).filter_map(|row| cell::Cells::get(&cells, row))) {
                Some(dim) => VectorColumn { dim }.data_type(),
                None => cell_types::infer(&cells, rules),
            }
        });
        Field::new(name, data_type, true)
    });
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}
