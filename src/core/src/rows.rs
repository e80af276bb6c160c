//! Batches of rows, as tables for people show them and as one batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, new_empty_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::{Error, Result};

/// Cells that a person can read: long lists and texts are cut.
pub fn shortened(batch: &RecordBatch) -> Result<RecordBatch> {
    const CHARS: usize = 60;
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
    let mut fields = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let is_short = !field.data_type().is_nested() && !field.data_type().is_string();
        if is_short {
            columns.push(Arc::clone(column));
            fields.push(field.as_ref().clone());
            continue;
        }
        let cell = |row| {
            let text = text(column, row)?;
            Ok(match text.char_indices().nth(CHARS) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            })
        };
        let cells: Vec<String> = (0..batch.num_rows()).map(cell).collect::<Result<_>>()?;
        columns.push(Arc::new(StringArray::from(cells)));
        fields.push(Field::new(field.name(), DataType::Utf8, true));
    }
    if columns.is_empty() {
        return Ok(batch.clone());
    }
    let schema = Arc::new(Schema::new(fields));
    RecordBatch::try_new(schema, columns).map_err(Error::arrow)
}

/// One batch of these batches, also of none.
pub fn concat(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    if batches.is_empty() {
        let columns = schema.fields().iter().map(|field| new_empty_array(field.data_type())).collect();
        return RecordBatch::try_new(Arc::clone(schema), columns).map_err(Error::arrow);
    }
    concat_batches(schema, batches).map_err(Error::arrow)
}

/// A cell as text.
fn text(column: &ArrayRef, row: usize) -> Result<String> {
    if let Some(union) = column.as_union_opt() {
        return text(union.child(union.type_id(row)), union.value_offset(row));
    }
    let options = FormatOptions::default().with_null("NULL");
    let formatter = ArrayFormatter::try_new(column, &options).map_err(Error::arrow)?;
    Ok(formatter.value(row).to_string())
}
