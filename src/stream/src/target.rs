//! Target of a query's rows, with a check of their types.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use vexact_core::error::{Error, Result};

use super::sink::SinkTable;
use super::source::columns;

/// A sink, and the names of its columns in the query.
pub(super) struct Target {
    pub sink: Arc<dyn SinkTable>,
    /// Name of the sink, for messages.
    pub name: String,
    /// Columns of the sink in the order of the query's; empty for the sink's own order.
    pub columns: Vec<String>,
}

impl Target {
    /// Returns the schema of the rows for the sink: the query's columns by position, with the
    /// declared names and types.
    ///
    /// # Errors
    /// Another number of columns; types that cannot hold the values; a list of columns that omits
    /// some.
    pub fn schema(&self, query: &SchemaRef) -> Result<SchemaRef> {
        let Some(declared) = self.sink.schema() else { return Ok(Arc::clone(query)) };
        let mismatch = |problem: String| {
            let (expected, got) = (columns(&declared), columns(query));
            let name = &self.name;
            Error::InvalidArgument(format!("sink {name}: {problem}: expected ({expected}), got ({got})"))
        };
        // The query has to follow a list that names the columns in another order.
        let named: Vec<&str> = declared.fields().iter().map(|field| field.name().as_str()).collect();
        if !self.columns.is_empty() && self.columns != named {
            return Err(mismatch(format!("its columns are listed as ({})", self.columns.join(", "))));
        }
        if declared.fields().len() != query.fields().len() {
            return Err(mismatch("another number of columns".into()));
        }
        let fields = declared.fields().iter().zip(query.fields()).map(|(declared, got)| {
            if !holds(declared.data_type(), got.data_type()) {
                return Err(mismatch(format!("column {:?} cannot hold {}", declared.name(), got.data_type())));
            }
            Ok(Field::new(declared.name(), declared.data_type().clone(), declared.is_nullable()))
        });
        Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?)))
    }
}

/// Returns true if a column can hold values of a type: integers in integers, numbers in floats,
/// texts in texts, times in times, but those with an offset only in columns with a time zone. A
/// value that does not fit without loss is an error when it arrives.
fn holds(declared: &DataType, got: &DataType) -> bool {
    let is_time =
        |data_type: &DataType| matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
    let is_zoned = |data_type: &DataType| matches!(data_type, DataType::Timestamp(_, Some(_)));
    declared == got
        || *got == DataType::Null
        || (declared.is_integer() && got.is_integer())
        || (declared.is_floating() && got.is_numeric())
        || (declared.is_decimal() && (got.is_decimal() || got.is_integer()))
        || (declared.is_string() && got.is_string())
        || (declared.is_binary() && got.is_binary())
        || (is_time(declared) && is_time(got) && (is_zoned(declared) || !is_zoned(got)))
}
