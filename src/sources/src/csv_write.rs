//! Rows as delimited text under a header line. A list of numbers becomes text `[1,2,3]`, which [`super::csv::open`] reads as the
//! same vector; so the lists of a column have to be of one length and without NULL components.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::cast;
use arrow::csv::{Writer, WriterBuilder};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type, Schema, SchemaRef, UInt64Type};
use datafusion::error::DataFusionError;
use vexact_core::error::{Error, Result};

use super::{bad_file, vector_text};

/// CSV text that is being written.
pub struct CsvWriter<W: Write> {
    writer: Writer<W>,
    texts: ListTexts,
    path: PathBuf,
}

impl<W: Write> CsvWriter<W> {
    /// Writes the header line. The path is for messages.
    ///
    /// # Errors
    /// An output that cannot be written.
    pub fn begin(output: W, path: &Path, schema: &SchemaRef, delimiter: u8, has_header: bool) -> Result<Self> {
        let texts = ListTexts::new("write_csv", schema);
        let writer = WriterBuilder::new().with_header(has_header).with_delimiter(delimiter).build(output);
        let mut begun = Self { writer, texts, path: path.into() };
        begun.write(&RecordBatch::new_empty(Arc::clone(schema)))?;
        Ok(begun)
    }

    /// Adds rows.
    ///
    /// # Errors
    /// Lists that would not be read back; values without a text; an output that cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = self.texts.replace(batch)?;
        self.writer.write(&batch).map_err(|error| bad_file(&self.path, &error))
    }

    /// The output, to which all is written.
    pub fn into_inner(self) -> W {
        self.writer.into_inner()
    }
}

/// What was written so far, and by whom.
pub struct ListTexts {
    caller: &'static str,
    /// The length of each column's lists, once there was one.
    dims: Vec<Option<usize>>,
    rows: usize,
}

impl ListTexts {
    /// Before the first row. Vectors have the length of their column's type.
    pub fn new(caller: &'static str, schema: &Schema) -> Self {
        let dim = |field: &Arc<Field>| match field.data_type() {
            DataType::FixedSizeList(_, dim) => usize::try_from(*dim).ok().filter(|dim| *dim > 0),
            _ => None,
        };
        Self { caller, dims: schema.fields().iter().map(dim).collect(), rows: 0 }
    }

    /// The batch with lists of numbers as text.
    pub fn replace(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
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

/// The rows of a column of lists of numbers; `None` for any other column.
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

/// A list as text, or why it would not be read back.
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
