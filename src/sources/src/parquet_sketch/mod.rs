//! Sketches in Parquet files: a column `embedding$sketch` beside the vectors `embedding`.
//!
//! A row of the column has the codes and norms of the row's vector, in a basis that all rows of the
//! file share. The basis stands between the last row group and the footer, and the footer's
//! key-value metadata say where ([`StoredSketch`]). They bind the sketch to the vectors: the writer
//! encoded both from the same values, and their column chunks have the positions and sizes that it
//! wrote down. Whoever writes the file anew writes other chunks, so that the sketch no longer
//! applies, even if the column and the metadata are copied.

mod add;
mod read;
mod write;

use std::ops::Range;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::parquet::file::metadata::{KeyValue, ParquetMetaData, RowGroupMetaData};
use serde::{Deserialize, Serialize};
use vexact_sql::vector_type;

use super::parquet_pages::chunk;

pub(crate) use add::sketched;
pub use add::{AddedSketch, add_sketch};
pub use read::ParquetSketches;
pub use write::SketchColumn;
pub(crate) use write::SketchWriter;

/// The end of the name of a column of sketches.
const SUFFIX: &str = "$sketch";
/// The begin of the key of a sketch in the footer.
const KEY: &str = "vexact.sketch.";
/// The version of the format. Others are ignored: a sketch is made again in little time.
const VERSION: u32 = 1;
/// The program that the footer names as the writer. Another program that copies the metadata has
/// another name.
const WRITER: &str = concat!("vexact version ", env!("CARGO_PKG_VERSION"));
/// The name without its version.
const PROGRAM: &str = "vexact version ";

/// Returns the name of the column with the sketch of a column.
pub fn sketch_name(column: &str) -> String {
    format!("{column}{SUFFIX}")
}

/// Returns the key of the metadata of a column's sketch.
fn key(column: &str) -> String {
    format!("{KEY}{column}")
}

/// Returns true for a key of the metadata of a sketch.
fn is_key(key: &str) -> bool {
    key.starts_with(KEY)
}

/// Returns the ordinals of a file's columns without those of sketches. A column is one of a sketch
/// if it is binary and named after a column of vectors, whether or not its sketch can be used.
pub(crate) fn visible(schema: &Schema) -> Vec<usize> {
    let is_sketch = |name: &str, data_type: &DataType| {
        let is_binary = matches!(
            data_type,
            DataType::FixedSizeBinary(_) | DataType::Binary | DataType::LargeBinary | DataType::BinaryView
        );
        let of = name.strip_suffix(SUFFIX).filter(|_| is_binary).and_then(|of| schema.field_with_name(of).ok());
        of.is_some_and(|of| vector_type(of.data_type()).is_some())
    };
    let fields = schema.fields().iter().enumerate();
    fields.filter(|(_, field)| !is_sketch(field.name(), field.data_type())).map(|(ordinal, _)| ordinal).collect()
}

/// Returns a schema without the columns of sketches and the metadata about them.
pub(crate) fn without_sketches(schema: &SchemaRef) -> SchemaRef {
    let visible = visible(schema);
    if visible.len() == schema.fields().len() && !schema.metadata().keys().any(|key| is_key(key)) {
        return SchemaRef::clone(schema);
    }
    let fields: Vec<_> = visible.iter().map(|ordinal| schema.fields()[*ordinal].clone()).collect();
    let mut metadata = schema.metadata().clone();
    metadata.retain(|key, _| !is_key(key));
    SchemaRef::new(Schema::new_with_metadata(fields, metadata))
}

/// The description of a sketch in the footer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredSketch {
    version: u32,
    /// The column of vectors.
    column: String,
    /// Position, length and checksum of the basis.
    basis: (u64, u64, u64),
    groups: Vec<StoredGroup>,
}

/// The sketch of one row group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredGroup {
    rows: u64,
    /// Position and end of the column chunk of the vectors.
    vectors: (u64, u64),
    /// Position and end of the column chunk of the sketch.
    sketch: (u64, u64),
    /// Checksum of the rows of the sketch.
    checksum: u64,
}

/// Returns the ordinal of the only leaf of a column; `None` if it has none or several.
fn leaf(metadata: &ParquetMetaData, column: &str) -> Option<usize> {
    let leaves = metadata.file_metadata().schema_descr().columns();
    let mut own = (0..leaves.len()).filter(|leaf| leaves[*leaf].path().parts().first().is_some_and(|of| of == column));
    let first = own.next()?;
    own.next().is_none().then_some(first)
}

fn range(group: &RowGroupMetaData, leaf: usize) -> Option<(u64, u64)> {
    let Range { start, end } = chunk(group.column(leaf))?;
    Some((start, end))
}

impl StoredSketch {
    /// Returns the description of a column's sketch, and the leaf of the sketch. Returns `None` if
    /// the footer has no description.
    ///
    /// # Errors
    /// The reason why the sketch does not belong to the vectors of this file.
    fn of(metadata: &ParquetMetaData, column: &str) -> Option<Result<(Self, usize), String>> {
        let key = key(column);
        let entries: &[KeyValue] = metadata.file_metadata().key_value_metadata().map_or(&[], |entries| entries);
        let entry = entries.iter().find(|entry| entry.key == key)?;
        Some(Self::checked(metadata, column, entry.value.as_deref().unwrap_or_default()))
    }

    fn checked(metadata: &ParquetMetaData, column: &str, text: &str) -> Result<(Self, usize), String> {
        let stored: Self =
            serde_json::from_str(text).map_err(|error| format!("its description cannot be read: {error}"))?;
        if stored.version != VERSION {
            return Err(format!("it has version {}, not {VERSION}", stored.version));
        }
        let by = metadata.file_metadata().created_by().unwrap_or("an unknown program");
        if !by.starts_with(PROGRAM) {
            return Err(format!("the file was written anew by {by}"));
        }
        let (Some(vectors), Some(sketch)) = (leaf(metadata, column), leaf(metadata, &sketch_name(column))) else {
            return Err(format!("the file has no columns {column:?} and {:?}", sketch_name(column)));
        };
        if stored.column != column || stored.groups.len() != metadata.num_row_groups() {
            let (expected, got) = (stored.groups.len(), metadata.num_row_groups());
            return Err(format!("it is of {:?} in {expected} row groups, the file has {got}", stored.column));
        }
        for (number, (stored, group)) in stored.groups.iter().zip(metadata.row_groups()).enumerate() {
            let is_same = i64::try_from(stored.rows) == Ok(group.num_rows())
                && range(group, vectors) == Some(stored.vectors)
                && range(group, sketch) == Some(stored.sketch);
            if !is_same {
                return Err(format!("row group {number} was written anew"));
            }
        }
        Ok((stored, sketch))
    }
}

#[cfg(test)]
mod tests;
