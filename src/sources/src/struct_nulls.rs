//! The fields of NULL structs.
//!
//! Arrow leaves open what the fields of a NULL struct are: pyarrow has 0 and empty texts there.
//! DataFusion reads a field without regard to its struct (apache/datafusion#25120), so that
//! `s['a'] IS NULL` is false for a struct that is NULL. So these fields become NULL too, once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::compute::nullif;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// Returns the batch with the fields of NULL structs being NULL. Values are not copied.
///
/// # Errors
/// None at present.
pub(super) fn with_null_fields(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let is_nested = |column: &ArrayRef| matches!(column.data_type(), DataType::Struct(_)) && has_nulls(column);
    if !batch.columns().iter().any(is_nested) {
        return Ok(batch);
    }
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = batch.columns().iter().map(masked).collect::<Result<_, _>>()?;
    RecordBatch::try_new_with_options(batch.schema(), columns, &rows)
}

/// Returns true if a struct, or a struct in it, has NULL.
fn has_nulls(array: &ArrayRef) -> bool {
    array.as_struct_opt().is_some_and(|of| of.null_count() > 0 || of.columns().iter().any(has_nulls))
}

fn masked(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let Some(of) = array.as_struct_opt().filter(|_| has_nulls(array)) else { return Ok(Arc::clone(array)) };
    let is_null = of.nulls().map(|nulls| BooleanArray::new(!nulls.inner(), None));
    let field = |field: &ArrayRef| match &is_null {
        Some(is_null) if field.data_type() != &DataType::Null => masked(&nullif(field, is_null)?),
        _ => masked(field),
    };
    let fields = of.columns().iter().map(field).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(of.fields().clone(), fields, of.nulls().cloned(), of.len())?))
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::buffer::NullBuffer;
    use arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn a_field_of_a_null_struct_is_null() {
        let inner = Field::new("a", DataType::Int64, false);
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let inner_nulls = Some(NullBuffer::from(vec![true, true, false]));
        let one: ArrayRef = Arc::new(StructArray::new(vec![inner].into(), vec![numbers], inner_nulls));
        let outer = Field::new("s", one.data_type().clone(), true);
        let both = StructArray::new(vec![outer].into(), vec![one], Some(NullBuffer::from(vec![false, true, true])));
        let both: ArrayRef = Arc::new(both);
        let schema = Arc::new(Schema::new(vec![Field::new("t", both.data_type().clone(), true)]));
        let batch = with_null_fields(RecordBatch::try_new(schema, vec![both]).unwrap()).unwrap();
        let inner = batch.column(0).as_struct().column(0).as_struct();
        assert_eq!((inner.is_null(0), inner.is_null(1), inner.is_null(2)), (true, false, true));
        let numbers = inner.column(0);
        assert_eq!((numbers.is_null(0), numbers.is_null(1), numbers.is_null(2)), (true, false, true));
    }
}
