//! Delimited text with a header line, and vectors in its cells.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Builder, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::csv::WriterBuilder;
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::prelude::{CsvReadOptions, SessionContext};
use futures::TryStreamExt;
use vexact_sql::parse_vector;

use super::{arrow as memory, bad_file, location};
use crate::error::{Error, Result};
use crate::session::DataFrame;

/// Rows that decide which columns hold vectors.
const SAMPLE_ROWS: usize = 100;

/// A CSV file as a table. It is read as queries need it, unless cells hold vectors: then it is read once.
///
/// # Errors
/// A missing file; a delimiter that is not one ASCII character; a bad vector cell, with its line.
pub async fn open(ctx: &SessionContext, path: &Path, delimiter: char) -> Result<Arc<dyn TableProvider>> {
    let (location, extension) = location(path)?;
    let Ok(delimiter) = u8::try_from(delimiter) else {
        return Err(Error::InvalidArgument(format!("delimiter: expected one ASCII character, got {delimiter:?}")));
    };
    let bad = |error: DataFusionError| bad_file(path, &error.strip_backtrace());
    let options = CsvReadOptions::new().delimiter(delimiter).file_extension(&extension);
    let frame = ctx.read_csv(location, options).await.map_err(bad)?;
    let sample = frame.clone().limit(0, Some(SAMPLE_ROWS)).map_err(bad)?.collect().await.map_err(bad)?;
    let mut schema = Arc::clone(frame.schema().inner());
    let vectors: Vec<usize> = (0..schema.fields().len()).filter(|column| holds_vectors(&sample, *column)).collect();
    if vectors.is_empty() {
        return Ok(frame.into_view());
    }
    let mut batches = frame.collect().await.map_err(bad)?;
    for column in vectors {
        let name = schema.field(column).name().clone();
        let arrays = parse_cells(&batches, column).map_err(|problem| {
            let line = line_of(path, delimiter, problem.row).map_or(String::new(), |line| format!("line {line}, "));
            Error::BadFile { path: path.into(), problem: format!("{line}column {name:?}: {}", problem.text) }
        })?;
        (schema, batches) = memory::replace(&schema, &batches, column, arrays)?;
    }
    memory::open(schema, batches)
}

/// Whether the first cells of a column, the empty ones left out, all begin like a vector.
fn holds_vectors(sample: &[RecordBatch], column: usize) -> bool {
    let mut has_any = false;
    let mut cells = sample.iter().filter_map(|batch| cast(batch.column(column), &DataType::Utf8).ok());
    let all = cells.all(|cells| {
        cells.as_string::<i32>().iter().flatten().all(|cell| {
            has_any |= cell.starts_with('[');
            cell.is_empty() || cell.starts_with('[')
        })
    });
    all && has_any
}

/// A bad cell.
struct Problem {
    row: usize,
    text: String,
}

/// The cells of a column as vectors of one length; empty cells are NULL.
fn parse_cells(batches: &[RecordBatch], column: usize) -> Result<Vec<ArrayRef>, Problem> {
    let mut dim = None;
    let mut first = 0;
    let mut arrays: Vec<Vec<Option<Vec<f64>>>> = Vec::new();
    for batch in batches {
        let cells = cast(batch.column(column), &DataType::Utf8)
            .map_err(|error| Problem { row: first, text: error.to_string() })?;
        let mut rows = Vec::with_capacity(cells.len());
        for (row, cell) in cells.as_string::<i32>().iter().enumerate() {
            let problem = |text| Problem { row: first + row, text };
            let vector = match cell.filter(|cell| !cell.is_empty()) {
                Some(cell) => Some(parse_vector(cell).map_err(|error| problem(error.to_string()))?),
                None => None,
            };
            if let Some(x) = vector.iter().flatten().find(|x| !(**x as f32).is_finite()) {
                return Err(problem(format!("expected components within Float32, got {x}")));
            }
            if let Some(got) = vector.as_ref().map(Vec::len) {
                let expected = *dim.get_or_insert(got);
                if got != expected {
                    return Err(problem(format!(
                        "vectors of different lengths: expected {expected} components, got {got}"
                    )));
                }
            }
            rows.push(vector);
        }
        first += rows.len();
        arrays.push(rows);
    }
    let dim = dim.unwrap_or(1);
    Ok(arrays.into_iter().map(|rows| floats(&rows, dim)).collect())
}

fn floats(rows: &[Option<Vec<f64>>], dim: usize) -> ArrayRef {
    let mut values = Float32Builder::with_capacity(rows.len() * dim);
    for row in rows {
        match row {
            Some(vector) => vector.iter().for_each(|x| values.append_value(*x as f32)),
            None => values.append_nulls(dim),
        }
    }
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    Arc::new(FixedSizeListArray::new(item, dim as i32, Arc::new(values.finish()), Some(nulls)))
}

/// The line on which a row of the file begins, counting from 1 with the header.
fn line_of(path: &Path, delimiter: u8, row: usize) -> Option<u64> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_path(path).ok()?;
    let record = reader.byte_records().nth(row)?.ok()?;
    record.position().map(csv::Position::line)
}

/// Writes a frame's rows; vectors become text `[1 2 3]`.
///
/// # Errors
/// What fails while it runs, a file that cannot be written, a column of another nested type.
pub(crate) async fn write(frame: &DataFrame, path: &Path) -> Result<()> {
    // Beside the file and then in its place: a query that fails, or reads this very file, harms nothing.
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let unfinished = path.with_file_name(name);
    let written = write_to(frame, &unfinished).await;
    let renamed = match written {
        Ok(()) => std::fs::rename(&unfinished, path).map_err(|error| Error::io(path, error)),
        failed => failed,
    };
    if renamed.is_err() {
        // What went wrong is the error to report, not that the rest of it stays.
        let _ = std::fs::remove_file(&unfinished);
    }
    renamed
}

async fn write_to(frame: &DataFrame, path: &Path) -> Result<()> {
    let file = File::create(path).map_err(|error| Error::io(path, error))?;
    let mut writer = WriterBuilder::new().with_header(true).build(file);
    let mut batches = frame.stream().await?;
    let write = |error| bad_file(path, &error);
    let empty = RecordBatch::new_empty(frame.schema());
    writer.write(&with_text_vectors(&empty)?).map_err(write)?;
    while let Some(batch) = batches.try_next().await? {
        writer.write(&with_text_vectors(&batch)?).map_err(write)?;
    }
    Ok(())
}

fn with_text_vectors(batch: &RecordBatch) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let is_vector = vexact_kernel::VectorColumn::try_new(column).is_ok();
        if is_vector {
            let list = column.as_fixed_size_list();
            let text = |row: usize| -> Result<Option<String>> {
                if list.is_null(row) {
                    return Ok(None);
                }
                // The shortest text that reads back as the same float.
                let values = list.value(row);
                let words: Vec<String> = match values.data_type() {
                    DataType::Float32 => values
                        .as_primitive::<arrow::datatypes::Float32Type>()
                        .iter()
                        .map(|x| x.unwrap_or(f32::NAN).to_string())
                        .collect(),
                    _ => {
                        let wide = cast(&values, &DataType::Float64).map_err(DataFusionError::from)?;
                        wide.as_primitive::<Float64Type>().iter().map(|x| x.unwrap_or(f64::NAN).to_string()).collect()
                    }
                };
                Ok(Some(format!("[{}]", words.join(" "))))
            };
            columns.push(Arc::new((0..list.len()).map(text).collect::<Result<StringArray>>()?) as ArrayRef);
            fields.push(Field::new(field.name(), DataType::Utf8, true));
        } else {
            columns.push(Arc::clone(column));
            fields.push(field.as_ref().clone());
        }
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
    Ok(batch.map_err(DataFusionError::from)?)
}
