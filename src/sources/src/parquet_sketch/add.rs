//! Adds sketches to a Parquet file that there is.

use std::path::Path;

use arrow::datatypes::{DataType, Schema};
use datafusion::parquet::arrow::ARROW_SCHEMA_META_KEY;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use vexact_core::atomic_file::AtomicFile;
use vexact_core::error::Result;
use vexact_kernel::Tier;

use super::{SketchColumn, SketchWriter, is_key, visible};
use crate::bad_file;
use crate::input::Input;
use crate::parquet::ParquetFile;
use crate::row_file::RowFileOptions;
use crate::scan::Records;

/// Rows that are copied at a time.
const BATCH_ROWS: usize = 8192;

/// What became of one column of vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedSketch {
    /// Name of the column of vectors.
    pub column: String,
    /// The form of the sketch; `None` if none was made.
    pub tier: Option<Tier>,
    /// The reason, with the figures that decided.
    pub reason: String,
}

/// Writes a Parquet file anew with sketches: of one column, or of all columns of vectors of floats.
/// Values, their order, the codecs of the columns and the other metadata stay; row groups and
/// pages are new. The file replaces `output`, or the file itself, when it is complete; if no
/// column gets a sketch, nothing is written.
///
/// # Errors
/// A file that is not Parquet or has no such column; a failed read or write.
pub fn add_sketch(path: &Path, output: Option<&Path>, column: Option<&str>, tier: Tier) -> Result<Vec<AddedSketch>> {
    let input = Input::open(path)?;
    let file = ParquetFile::open(&input)?;
    let schema = Records::schema(&file).clone();
    let columns = columns(path, &schema, column, tier, file.sketched_columns())?;
    let target = output.unwrap_or(path);
    let atomic = AtomicFile::create(target)?;
    let metadata = ParquetFile::metadata(&input)?;
    let properties = properties(&metadata);
    let mut writer = SketchWriter::begin(atomic.writer(), &schema, properties, &columns)?;
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    for batch in file.read(&all, BATCH_ROWS)? {
        writer.write(target, &batch?).map_err(|error| atomic.error(error))?;
    }
    let trained = writer.finish(target).map_err(|error| atomic.error(error))?;
    let added: Vec<AddedSketch> = columns
        .into_iter()
        .zip(trained)
        .map(|(column, training)| AddedSketch {
            column: column.name,
            tier: training.basis.as_ref().map(|basis| basis.tier()),
            reason: training.reason,
        })
        .collect();
    if added.iter().any(|added| added.tier.is_some()) {
        atomic.commit()?;
    }
    Ok(added)
}

/// Returns the columns that get a sketch: the chosen ones, and those that have one, whose sketch
/// would not belong to the new file.
fn columns(
    path: &Path,
    schema: &Schema,
    chosen: Option<&str>,
    tier: Tier,
    sketched: Vec<String>,
) -> Result<Vec<SketchColumn>> {
    let is_of_floats = |data_type: &DataType| match data_type {
        DataType::FixedSizeList(item, _) => item.data_type().is_floating(),
        _ => false,
    };
    let mut columns: Vec<SketchColumn> = match chosen {
        Some(name) => vec![SketchColumn { name: name.into(), tier }],
        None => {
            let vectors = schema.fields().iter().filter(|field| is_of_floats(field.data_type()));
            vectors.map(|field| SketchColumn { name: field.name().clone(), tier }).collect()
        }
    };
    if columns.is_empty() {
        let all: Vec<String> =
            schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
        let problem = format!("expected a column of vectors of floats, got [{}]", all.join(", "));
        return Err(bad_file(path, &problem));
    }
    for name in sketched {
        if !columns.iter().any(|column| column.name == name) {
            columns.push(SketchColumn::auto(name));
        }
    }
    Ok(columns)
}

/// Returns properties with the codecs and metadata of a file.
fn properties(metadata: &ParquetMetaData) -> WriterPropertiesBuilder {
    let mut properties = WriterProperties::builder().set_compression(RowFileOptions::default().compression);
    let Some(group) = metadata.row_groups().first() else { return with_entries(properties, metadata) };
    for column in group.columns() {
        // The writer has no LZO.
        if column.compression() != Compression::LZO {
            properties = properties.set_column_compression(column.column_path().clone(), column.compression());
        }
    }
    with_entries(properties, metadata)
}

fn with_entries(properties: WriterPropertiesBuilder, metadata: &ParquetMetaData) -> WriterPropertiesBuilder {
    let Some(entries) = metadata.file_metadata().key_value_metadata() else { return properties };
    let kept = entries.iter().filter(|entry| entry.key != ARROW_SCHEMA_META_KEY && !is_key(&entry.key));
    properties.set_key_value_metadata(Some(kept.cloned().collect()))
}

/// Returns the columns of vectors of a file's schema that have a column of a sketch.
pub(crate) fn sketched(schema: &Schema) -> Vec<String> {
    let visible = visible(schema);
    let hidden = (0..schema.fields().len()).filter(|ordinal| !visible.contains(ordinal));
    let of = hidden.filter_map(|ordinal| schema.field(ordinal).name().strip_suffix(super::SUFFIX));
    of.map(str::to_owned).collect()
}
