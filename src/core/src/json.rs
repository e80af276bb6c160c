//! Arrow rows as JSON objects.
//!
//! Integers are JSON integers, also beyond 2^53; floats read back as the same float. Values that
//! JSON lacks are text: NaN and the infinities are `"NaN"`, `"Infinity"`, `"-Infinity"` (only NULL
//! is null), binary is hexadecimal, decimals and times are text (ISO 8601). A value of a union is
//! written as its own type is, a map as an object. A value that has no text, such as a date beyond
//! the calendar, is the text of the error, and the other cells are not affected.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::*;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use crate::rows::cell_text;
use crate::schema::ColumnType;

/// A result column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnInfo {
    /// Unique in the result: the second `n` is `n_2`.
    pub name: String,
    /// The engine's type string if there is one, else Arrow's.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Returns the columns of a schema.
pub fn columns(schema: &Schema) -> Vec<ColumnInfo> {
    let mut found: Vec<ColumnInfo> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let numbered = (2..).map(|number| format!("{}_{number}", field.name()));
        let is_free = |name: &String| {
            !found.iter().any(|column| column.name == *name)
                && (name == field.name() || schema.field_with_name(name).is_err())
        };
        let name = std::iter::once(field.name().clone()).chain(numbered).find(is_free).unwrap_or_default();
        found.push(ColumnInfo { name, kind: kind(field.data_type()) });
    }
    found
}

fn kind(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "null".into(),
        DataType::Utf8View | DataType::LargeUtf8 => "utf8".into(),
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => "binary".into(),
        DataType::Dictionary(_, values) => kind(values),
        DataType::Union(..) => "any".into(),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            format!("list({})", kind(item.data_type()))
        }
        other => match (ColumnType::of_arrow(other), other) {
            (Some(known), _) => known.to_string(),
            (None, DataType::FixedSizeList(item, dim)) => format!("{}[{dim}]", kind(item.data_type())),
            (None, other) => other.to_string(),
        },
    }
}

/// Rows as a list of objects.
#[derive(Debug)]
pub struct Rows {
    /// The columns' names, as [`columns`] returns them.
    pub names: Vec<String>,
    /// The batches, which have one schema.
    pub batches: Vec<RecordBatch>,
}

impl Rows {
    /// Iterates over the rows, each as an object.
    pub fn iter(&self) -> impl Iterator<Item = impl Serialize> {
        let rows = |batch: &'_ RecordBatch| 0..batch.num_rows();
        self.batches.iter().flat_map(move |batch| rows(batch).map(move |row| Row { names: &self.names, batch, row }))
    }
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

struct Row<'a> {
    names: &'a [String],
    batch: &'a RecordBatch,
    row: usize,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cells = self.batch.columns().iter().map(|array| Cell { array, row: self.row });
        serializer.collect_map(self.names.iter().zip(cells))
    }
}

struct Cell<'a> {
    array: &'a ArrayRef,
    row: usize,
}

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { array, row } = *self;
        if array.is_null(row) {
            return serializer.serialize_none();
        }
        macro_rules! number {
            ($kind:ty) => {
                array.as_primitive::<$kind>().value(row).serialize(serializer)
            };
        }
        match array.data_type() {
            DataType::Null => serializer.serialize_none(),
            DataType::Boolean => serializer.serialize_bool(array.as_boolean().value(row)),
            DataType::Int8 => number!(Int8Type),
            DataType::Int16 => number!(Int16Type),
            DataType::Int32 => number!(Int32Type),
            DataType::Int64 => number!(Int64Type),
            DataType::UInt8 => number!(UInt8Type),
            DataType::UInt16 => number!(UInt16Type),
            DataType::UInt32 => number!(UInt32Type),
            DataType::UInt64 => number!(UInt64Type),
            DataType::Float16 => float32(array.as_primitive::<Float16Type>().value(row).to_f32(), serializer),
            DataType::Float32 => float32(array.as_primitive::<Float32Type>().value(row), serializer),
            DataType::Float64 => match array.as_primitive::<Float64Type>().value(row) {
                value if value.is_finite() => serializer.serialize_f64(value),
                value => serializer.serialize_str(no_number(value)),
            },
            DataType::Utf8 => serializer.serialize_str(array.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => serializer.serialize_str(array.as_string::<i64>().value(row)),
            DataType::Utf8View => serializer.serialize_str(array.as_string_view().value(row)),
            DataType::Binary => serializer.serialize_str(&hex(array.as_binary::<i32>().value(row))),
            DataType::LargeBinary => serializer.serialize_str(&hex(array.as_binary::<i64>().value(row))),
            DataType::BinaryView => serializer.serialize_str(&hex(array.as_binary_view().value(row))),
            DataType::FixedSizeBinary(_) => serializer.serialize_str(&hex(array.as_fixed_size_binary().value(row))),
            DataType::FixedSizeList(..) => items(&array.as_fixed_size_list().value(row), serializer),
            DataType::List(_) => items(&array.as_list::<i32>().value(row), serializer),
            DataType::LargeList(_) => items(&array.as_list::<i64>().value(row), serializer),
            DataType::Dictionary(..) => {
                // A slice of one row: all keys of the array are read.
                let dictionary = array.slice(row, 1);
                let dictionary = dictionary.as_any_dictionary();
                Cell { array: dictionary.values(), row: dictionary.normalized_keys()[0] }.serialize(serializer)
            }
            DataType::Union(..) => {
                let union = array.as_union();
                Cell { array: union.child(union.type_id(row)), row: union.value_offset(row) }.serialize(serializer)
            }
            DataType::Struct(fields) => {
                let mut object = serializer.serialize_map(Some(fields.len()))?;
                for (field, array) in fields.iter().zip(array.as_struct().columns()) {
                    object.serialize_entry(field.name(), &Cell { array, row })?;
                }
                object.end()
            }
            DataType::Map(..) => {
                let entries = array.as_map().value(row);
                let mut object = serializer.serialize_map(Some(entries.len()))?;
                for entry in 0..entries.len() {
                    let value = Cell { array: entries.column(1), row: entry };
                    object.serialize_entry(&cell_text(entries.column(0), entry), &value)?;
                }
                object.end()
            }
            DataType::ListView(_) => items(&array.as_list_view::<i32>().value(row), serializer),
            DataType::LargeListView(_) => items(&array.as_list_view::<i64>().value(row), serializer),
            _ => serializer.serialize_str(&cell_text(array, row)),
        }
    }
}

fn items<S: Serializer>(array: &ArrayRef, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq((0..array.len()).map(|row| Cell { array, row }))
}

/// Writes the digits of a float32, not those of the float64 that it widens to.
fn float32<S: Serializer>(value: f32, serializer: S) -> Result<S::Ok, S::Error> {
    match value.is_finite() {
        true => serializer.serialize_f32(value),
        false => serializer.serialize_str(no_number(value.into())),
    }
}

fn no_number(value: f64) -> &'static str {
    match value {
        value if value.is_nan() => "NaN",
        value if value > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String never fails.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Date32Array, Int32Builder, MapBuilder, StringBuilder};

    use super::*;

    fn json(columns: Vec<(&str, ArrayRef)>) -> String {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let names = self::columns(&batch.schema()).into_iter().map(|column| column.name).collect();
        serde_json::to_string(&Rows { names, batches: vec![batch] }).unwrap()
    }

    #[test]
    fn a_value_without_text_is_an_error_in_its_cell() {
        let days: ArrayRef = Arc::new(Date32Array::from(vec![0, i32::MAX]));
        let text = json(vec![("d", days)]);
        assert!(text.starts_with("[{\"d\":\"1970-01-01\"},{\"d\":\"ERROR: ") && text.contains("2147483647"), "{text}");
    }

    #[test]
    fn a_map_is_an_object() {
        let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        maps.keys().append_value("a");
        maps.values().append_value(1);
        maps.keys().append_value("b");
        maps.values().append_null();
        maps.append(true).unwrap();
        maps.append(false).unwrap();
        assert_eq!(json(vec![("m", Arc::new(maps.finish()))]), r#"[{"m":{"a":1,"b":null}},{"m":null}]"#);
    }
}
