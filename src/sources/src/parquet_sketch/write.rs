//! Writes Parquet files with columns of sketches.

use std::io::Write;
use std::mem;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use datafusion::parquet::basic::Compression;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use vexact_core::error::{Error, Result};
use vexact_kernel::{ChunkedColumn, KernelError, SketchBasis, Tier, Training, VectorColumn, to_fixed_size_list};
use vexact_sql::vector_type;

use super::{StoredGroup, StoredSketch, VERSION, WRITER, key, range, sketch_name};
use crate::bad_file;

/// Rows of a row group: enough that its sketch is read by one request.
const GROUP_ROWS: usize = 1 << 17;
/// Rows and bytes of vectors from which the basis is trained, at most.
const TRAINED_ROWS: usize = 1 << 16;
const TRAINED_BYTES: usize = 256 << 20;
/// Size of a page of vectors: a row that a sketch leaves open costs one.
const PAGE_BYTES: usize = 1 << 14;

/// A column that gets a sketch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SketchColumn {
    /// Name of the column of vectors.
    pub name: String,
    /// The form of the sketch; [`Tier::Auto`] chooses it from the data.
    pub tier: Tier,
}

impl SketchColumn {
    /// A sketch whose form is chosen from the data.
    pub fn auto(name: impl Into<String>) -> Self {
        Self { name: name.into(), tier: Tier::Auto }
    }
}

/// Encodes rows as Parquet, with sketches of some columns.
pub(crate) struct SketchWriter<W: Write + Send> {
    columns: Vec<Column>,
    schema: SchemaRef,
    properties: WriterPropertiesBuilder,
    state: State<W>,
}

enum State<W: Write + Send> {
    /// The first rows are held until the bases are trained from them.
    Waiting { output: W, batches: Vec<RecordBatch>, rows: usize, bytes: usize },
    /// `schema` has the columns of sketches too.
    Writing { writer: Box<ArrowWriter<W>>, schema: SchemaRef, group_rows: usize },
    /// A failed writer.
    Failed,
}

struct Column {
    ordinal: usize,
    of: SketchColumn,
    dim: Option<usize>,
    /// The result of training.
    training: Option<Training>,
    /// Rows of the sketch in the current row group.
    group: Vec<u8>,
    /// Rows and checksum of each finished row group.
    groups: Vec<(u64, u64)>,
}

impl Column {
    fn basis(&self) -> Option<&Arc<SketchBasis>> {
        self.training.as_ref()?.basis.as_ref()
    }

    /// Returns the vectors of a batch, all of one dim.
    fn vectors(&mut self, batch: &RecordBatch) -> Result<ArrayRef> {
        let array = batch.column(self.ordinal);
        let refused =
            |error: KernelError| Error::InvalidArgument(format!("sketch of column {:?}: {error}", self.of.name));
        if matches!(array.data_type(), DataType::FixedSizeList(..)) {
            return Ok(Arc::clone(array));
        }
        let list = to_fixed_size_list(array, self.dim).map_err(refused)?;
        self.dim.get_or_insert(list.value_length() as usize);
        Ok(Arc::new(list))
    }

    /// Encodes the vectors of a batch as a column of the file.
    fn encode(&mut self, batch: &RecordBatch) -> Result<Option<ArrayRef>> {
        let Some(basis) = self.basis().cloned() else { return Ok(None) };
        let vectors = self.vectors(batch)?;
        let refused =
            |error: KernelError| Error::InvalidArgument(format!("sketch of column {:?}: {error}", self.of.name));
        let column = VectorColumn::try_new(&vectors).map_err(refused)?;
        let rows = basis.encode(&column).map_err(refused)?.to_rows();
        self.group.extend_from_slice(&rows);
        let width = basis.stored_row_bytes() as i32;
        let array = FixedSizeBinaryArray::try_new(width, Buffer::from_vec(rows), None).map_err(Error::arrow)?;
        Ok(Some(Arc::new(array)))
    }
}

impl<W: Write + Send> SketchWriter<W> {
    /// Begins a file of rows of `schema`. `properties` are those of the other columns.
    ///
    /// # Errors
    /// A column that is missing or holds no vectors of floats; a column of the name of a sketch.
    pub fn begin(
        output: W,
        schema: &SchemaRef,
        properties: WriterPropertiesBuilder,
        sketches: &[SketchColumn],
    ) -> Result<Self> {
        let columns = sketches.iter().enumerate().map(|(place, of)| {
            if sketches[..place].iter().any(|other| other.name == of.name) {
                return Err(Error::InvalidArgument(format!(
                    "sketch: expected each column once, got {:?} twice",
                    of.name
                )));
            }
            let ordinal = checked(schema, of)?;
            let dim = vector_type(schema.field(ordinal).data_type()).flatten();
            Ok(Column { ordinal, of: of.clone(), dim, training: None, group: Vec::new(), groups: Vec::new() })
        });
        let columns = columns.collect::<Result<_>>()?;
        let state = State::Waiting { output, batches: Vec::new(), rows: 0, bytes: 0 };
        Ok(Self { columns, schema: SchemaRef::clone(schema), properties, state })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// A failed write, for `path`; vectors of different lengths.
    pub fn write(&mut self, path: &Path, batch: &RecordBatch) -> Result<()> {
        if let State::Waiting { batches, rows, bytes, .. } = &mut self.state {
            let of_row = |column: &Column| batch.column(column.ordinal).get_array_memory_size();
            *bytes += self.columns.iter().map(of_row).sum::<usize>();
            *rows += batch.num_rows();
            batches.push(batch.clone());
            if *rows < TRAINED_ROWS && *bytes < TRAINED_BYTES {
                return Ok(());
            }
            return self.train(path);
        }
        self.write_rows(path, batch)
    }

    /// Trains the bases from the rows so far, and writes these.
    fn train(&mut self, path: &Path) -> Result<()> {
        if !matches!(self.state, State::Waiting { .. }) {
            return Ok(());
        }
        let State::Waiting { output, batches, .. } = mem::replace(&mut self.state, State::Failed) else {
            return Ok(());
        };
        for column in &mut self.columns {
            let name = column.of.name.clone();
            let refused = |error: KernelError| Error::InvalidArgument(format!("sketch of column {name:?}: {error}"));
            let arrays = batches.iter().map(|batch| column.vectors(batch)).collect::<Result<Vec<_>>>()?;
            let vectors = arrays.iter().map(|array| VectorColumn::try_new(array)).collect::<Result<Vec<_>, _>>();
            let vectors = ChunkedColumn::try_new(vectors.map_err(refused)?).map_err(refused)?;
            column.training = Some(SketchBasis::train(&vectors, column.of.tier));
        }
        let mut fields: Vec<Arc<Field>> = self.schema.fields().iter().cloned().collect();
        for column in &self.columns {
            if let Some(basis) = column.basis() {
                let width = basis.stored_row_bytes() as i32;
                fields.push(Arc::new(Field::new(
                    sketch_name(&column.of.name),
                    DataType::FixedSizeBinary(width),
                    false,
                )));
            }
        }
        let schema = Arc::new(Schema::new_with_metadata(fields, self.schema.metadata().clone()));
        let properties = self.properties(&schema).map_err(|error| bad_file(path, &error))?;
        let writer = ArrowWriter::try_new(output, SchemaRef::clone(&schema), Some(properties));
        let writer = Box::new(writer.map_err(|error| failed(path, error))?);
        self.state = State::Writing { writer, schema, group_rows: 0 };
        for batch in batches {
            self.write_rows(path, &batch)?;
        }
        Ok(())
    }

    /// Returns the properties: vectors in small pages, because single rows of them are read.
    fn properties(&self, schema: &Schema) -> Result<WriterProperties, ParquetError> {
        let mut properties = self
            .properties
            .clone()
            .set_created_by(WRITER.into())
            .set_max_row_group_row_count(None)
            .set_max_row_group_bytes(None);
        let described = ArrowSchemaConverter::new().convert(schema)?;
        for leaf in described.columns() {
            let root = leaf.path().parts().first().cloned().unwrap_or_default();
            let with_sketch = self.columns.iter().filter(|column| column.basis().is_some());
            for column in with_sketch {
                let path = leaf.path().clone();
                if root == column.of.name {
                    properties = properties
                        .set_column_dictionary_enabled(path.clone(), false)
                        .set_column_statistics_enabled(path.clone(), EnabledStatistics::None)
                        .set_column_data_page_size_limit(path, PAGE_BYTES);
                } else if root == sketch_name(&column.of.name) {
                    properties = properties
                        .set_column_dictionary_enabled(path.clone(), false)
                        .set_column_statistics_enabled(path.clone(), EnabledStatistics::None)
                        .set_column_compression(path, Compression::UNCOMPRESSED);
                }
            }
        }
        Ok(properties.build())
    }

    fn write_rows(&mut self, path: &Path, batch: &RecordBatch) -> Result<()> {
        let mut start = 0;
        while start < batch.num_rows() {
            let State::Writing { writer, schema, group_rows } = &mut self.state else {
                return Err(bad_file(path, &"an earlier write has failed"));
            };
            let rows = (batch.num_rows() - start).min(GROUP_ROWS - *group_rows);
            let part = batch.slice(start, rows);
            let mut arrays = part.columns().to_vec();
            for column in &mut self.columns {
                arrays.extend(column.encode(&part)?);
            }
            let part = RecordBatch::try_new(SchemaRef::clone(schema), arrays).map_err(Error::arrow)?;
            writer.write(&part).map_err(|error| failed(path, error))?;
            *group_rows += rows;
            start += rows;
            if *group_rows == GROUP_ROWS {
                self.end_group(path)?;
            }
        }
        Ok(())
    }

    fn end_group(&mut self, path: &Path) -> Result<()> {
        let State::Writing { writer, group_rows, .. } = &mut self.state else { return Ok(()) };
        if *group_rows == 0 {
            return Ok(());
        }
        writer.flush().map_err(|error| failed(path, error))?;
        for column in &mut self.columns {
            column.groups.push((*group_rows as u64, SketchBasis::checksum(&column.group)));
            column.group.clear();
        }
        *group_rows = 0;
        Ok(())
    }

    /// Writes the end of the file. Returns for each column what training said, and whether it has a
    /// sketch.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn finish(mut self, path: &Path) -> Result<Vec<Training>> {
        self.train(path)?;
        self.end_group(path)?;
        let Self { columns, state: State::Writing { mut writer, .. }, .. } = self else {
            return Err(bad_file(path, &"an earlier write has failed"));
        };
        for column in &columns {
            let Some(basis) = column.basis() else { continue };
            let bytes = basis.to_bytes();
            let position = writer.bytes_written() as u64;
            writer.write_all(&bytes).map_err(|error| failed(path, error.into()))?;
            let stored = StoredSketch {
                version: VERSION,
                column: column.of.name.clone(),
                basis: (position, bytes.len() as u64, SketchBasis::checksum(&bytes)),
                groups: groups(&writer, column).ok_or_else(|| bad_file(path, &"a row group has no column chunks"))?,
            };
            let text = serde_json::to_string(&stored).map_err(|error| bad_file(path, &error))?;
            writer.append_key_value_metadata(KeyValue::new(key(&column.of.name), text));
        }
        writer.close().map_err(|error| failed(path, error))?;
        Ok(columns.into_iter().filter_map(|column| column.training).collect())
    }
}

/// Returns the finished row groups of a column.
fn groups<W: Write + Send>(writer: &ArrowWriter<W>, column: &Column) -> Option<Vec<StoredGroup>> {
    let sketch = sketch_name(&column.of.name);
    let groups = writer.flushed_row_groups().iter().zip(&column.groups).map(|(group, (rows, checksum))| {
        let leaf = |name: &str| {
            let columns = group.columns();
            (0..columns.len()).find(|leaf| columns[*leaf].column_path().parts().first().is_some_and(|of| of == name))
        };
        let (vectors, sketch) = (range(group, leaf(&column.of.name)?)?, range(group, leaf(&sketch)?)?);
        Some(StoredGroup { rows: *rows, vectors, sketch, checksum: *checksum })
    });
    groups.collect()
}

/// Returns the ordinal of a column that can have a sketch.
fn checked(schema: &Schema, of: &SketchColumn) -> Result<usize> {
    let name = &of.name;
    let Ok(ordinal) = schema.index_of(name) else {
        let all: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let problem = format!("sketch: column {name:?} not found: expected one of [{}]", all.join(", "));
        return Err(Error::InvalidArgument(problem));
    };
    let is_of_floats = match schema.field(ordinal).data_type() {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => {
            item.data_type().is_floating()
        }
        _ => false,
    };
    if !is_of_floats {
        let got = schema.field(ordinal).data_type();
        return Err(Error::InvalidArgument(format!("sketch: column {name:?}: expected vectors of floats, got {got}")));
    }
    if schema.index_of(&sketch_name(name)).is_ok() {
        let taken = sketch_name(name);
        return Err(Error::InvalidArgument(format!(
            "sketch: expected no column {taken:?}, which the sketch is written to"
        )));
    }
    Ok(ordinal)
}

fn failed(path: &Path, error: ParquetError) -> Error {
    match error {
        ParquetError::External(source) => Error::Query(datafusion::error::DataFusionError::External(source)),
        error => bad_file(path, &error),
    }
}
