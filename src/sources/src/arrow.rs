//! In-memory Arrow batches as a table.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use vexact_core::error::{Error, Result};
use vexact_kernel::{KernelError, to_fixed_size_list};
use vexact_sql::chunks::ChunkTable;

use super::struct_nulls::with_null_fields;

/// Creates a table of batches, in their order. Only columns of lists of floats whose rows all have
/// one length are copied: they become `FixedSizeList`, once.
///
/// # Errors
/// Two columns of one name, a batch of another schema.
pub fn open(schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Arc<dyn TableProvider>> {
    let (schema, batches) = with_vectors(schema, batches)?;
    Ok(Arc::new(ChunkTable::try_new(schema, batches)?))
}

/// Returns the columns and batches of [`open`]. The fields of NULL structs become NULL.
pub fn with_vectors(schema: SchemaRef, mut batches: Vec<RecordBatch>) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let mut names = HashSet::new();
    if let Some(field) = schema.fields().iter().find(|field| !names.insert(field.name())) {
        let problem = format!("column {:?}: expected one column of each name, got two", field.name());
        return Err(Error::InvalidArgument(problem));
    }
    let mut schema = schema;
    batches = batches.into_iter().map(with_null_fields).collect::<Result<_, _>>().map_err(Error::arrow)?;
    for column in 0..schema.fields().len() {
        if let Some(vectors) = vectors(&schema, &batches, column) {
            (schema, batches) = replace(&schema, &batches, column, vectors)?;
        }
    }
    Ok((schema, batches))
}

/// Creates a table of batches without inspecting them.
///
/// # Errors
/// A batch of another schema.
pub fn as_it_is(schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(ChunkTable::try_new(schema, batches)?))
}

/// Converts a column of lists to vectors; returns `None` if it is not a column of lists, or its
/// rows differ in length.
fn vectors(schema: &Schema, batches: &[RecordBatch], column: usize) -> Option<Vec<ArrayRef>> {
    let item = match schema.field(column).data_type() {
        DataType::List(item) | DataType::LargeList(item) => item,
        _ => return None,
    };
    if !item.data_type().is_floating() {
        return None;
    }
    let lengths = batches.iter().find_map(|batch| {
        let lists = batch.column(column);
        let first = (0..lists.len()).find(|row| lists.is_valid(*row))?;
        Some(match lists.data_type() {
            DataType::List(_) => lists.as_list::<i32>().value(first).len(),
            _ => lists.as_list::<i64>().value(first).len(),
        })
    });
    let dim = lengths.filter(|dim| *dim > 0)?;
    let convert = |batch: &RecordBatch| -> Result<ArrayRef, KernelError> {
        Ok(Arc::new(to_fixed_size_list(batch.column(column), Some(dim))?))
    };
    batches.iter().map(convert).collect::<Result<_, _>>().ok()
}

/// Returns the batches with a column replaced.
pub(super) fn replace(
    schema: &Schema,
    batches: &[RecordBatch],
    column: usize,
    arrays: Vec<ArrayRef>,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    if let Some(array) = arrays.first() {
        fields[column] = Arc::new(fields[column].as_ref().clone().with_data_type(array.data_type().clone()));
    }
    let schema: SchemaRef = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    let replaced = batches.iter().zip(arrays).map(|(batch, array)| {
        let mut columns = batch.columns().to_vec();
        columns[column] = array;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options);
        Ok(batch.map_err(datafusion::error::DataFusionError::from)?)
    });
    let batches = replaced.collect::<Result<_>>()?;
    Ok((schema, batches))
}
