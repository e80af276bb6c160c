//! Restrictions of each file format: columns and values that it cannot represent are rejected
//! before they are written.

use std::fmt;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float16Type, Float32Type, Float64Type, IntervalUnit, Schema};
use vexact_core::error::{Error, Result};
use vexact_core::rows::unreadable_cells;

/// A form of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileForm {
    /// Apache Parquet.
    Parquet,
    /// An Arrow IPC file or stream, which supports every type.
    Arrow,
    /// Delimited text.
    Csv,
    /// JSON, an object on each line.
    Json,
}

impl fmt::Display for FileForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parquet => "Parquet",
            Self::Arrow => "Arrow",
            Self::Csv => "CSV",
            Self::Json => "JSON",
        })
    }
}

impl FileForm {
    /// Rejects columns that a file of this format cannot hold.
    ///
    /// # Errors
    /// A type that the format lacks, with its column; two columns of one name, which no reader
    /// could distinguish.
    pub fn check_schema(self, schema: &Schema) -> Result<()> {
        for (place, field) in schema.fields().iter().enumerate() {
            let name = field.name();
            if self != Self::Arrow && schema.fields()[..place].iter().any(|other| other.name() == name) {
                return Err(Error::InvalidArgument(format!(
                    "column {name:?}: expected each name once in a {self} file, got two columns of it"
                )));
            }
            if !self.holds(field.data_type()) {
                return Err(Error::InvalidArgument(format!(
                    "column {name:?}: expected a type that a {self} file can hold, got {}",
                    field.data_type()
                )));
            }
        }
        Ok(())
    }

    fn holds(self, data_type: &DataType) -> bool {
        match self {
            Self::Arrow => true,
            Self::Parquet => parquet_holds(data_type),
            Self::Csv => csv_holds(data_type),
            Self::Json => json_holds(data_type),
        }
    }

    /// Rejects values that a file of this format cannot hold: text has no form for a date beyond
    /// the calendar.
    ///
    /// # Errors
    /// Such a value, with its column.
    pub fn check_values(self, batch: &RecordBatch) -> Result<()> {
        let unreadable = match self {
            Self::Parquet | Self::Arrow => Vec::new(),
            Self::Csv | Self::Json => unreadable_cells(std::slice::from_ref(batch)),
        };
        match unreadable.first() {
            None => Ok(()),
            Some(cell) => Err(Error::InvalidArgument(format!(
                "{cell}: expected a value that a {self} file can hold, got a time beyond the calendar"
            ))),
        }
    }

    /// Rejects NaN and the infinities in columns of numbers of a JSON file, which would become
    /// null.
    ///
    /// # Errors
    /// Such a value, with its column.
    pub fn check_numbers(self, batch: &RecordBatch) -> Result<()> {
        let schema = batch.schema();
        let is_bad = |place: &usize| self == Self::Json && !is_finite(batch.column(*place).as_ref());
        match (0..batch.num_columns()).find(is_bad) {
            None => Ok(()),
            Some(place) => Err(Error::InvalidArgument(format!(
                "column {:?}: expected finite numbers in a JSON file, got NaN or an infinity",
                schema.field(place).name()
            ))),
        }
    }
}

/// Returns true if all types within a type fulfil a condition.
fn all(data_type: &DataType, holds: &dyn Fn(&DataType) -> bool) -> bool {
    use DataType::{
        Dictionary, FixedSizeList, LargeList, LargeListView, List, ListView, Map, RunEndEncoded, Struct, Union,
    };

    let of = |field: &Field| all(field.data_type(), holds);
    holds(data_type)
        && match data_type {
            List(item) | LargeList(item) | ListView(item) | LargeListView(item) | FixedSizeList(item, _) => of(item),
            Map(entries, _) => of(entries),
            RunEndEncoded(_, values) => of(values),
            Dictionary(_, values) => all(values, holds),
            Struct(fields) => fields.iter().all(|field| of(field)),
            Union(fields, _) => fields.iter().all(|(_, field)| of(field)),
            _ => true,
        }
}

fn parquet_holds(data_type: &DataType) -> bool {
    // parquet panics on unions (apache/arrow-rs#5849 is open for intervals).
    all(data_type, &|data_type| match data_type {
        DataType::Union(..) | DataType::Interval(IntervalUnit::MonthDayNano) => false,
        DataType::Struct(fields) => !fields.is_empty(),
        _ => true,
    })
}

fn csv_holds(data_type: &DataType) -> bool {
    match data_type {
        // Lists are written as `[1,2,3]`, which is read back as a vector.
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type().is_integer() || item.data_type().is_floating()
        }
        DataType::Dictionary(_, values) => csv_holds(values),
        DataType::RunEndEncoded(_, values) => csv_holds(values.data_type()),
        other => !other.is_nested(),
    }
}

fn json_holds(data_type: &DataType) -> bool {
    all(data_type, &|data_type| match data_type {
        DataType::Union(..) => false,
        DataType::Map(entries, _) => match entries.data_type() {
            // The member names of an object are text.
            DataType::Struct(fields) => fields.first().is_some_and(|key| key.data_type().is_string()),
            _ => false,
        },
        DataType::Struct(fields) => {
            fields.iter().enumerate().all(|(at, field)| fields[..at].iter().all(|other| other.name() != field.name()))
        }
        _ => true,
    })
}

/// Returns true if all floats in an array are finite.
pub(crate) fn is_finite(array: &dyn Array) -> bool {
    match array.data_type() {
        DataType::Float16 => array.as_primitive::<Float16Type>().iter().flatten().all(|x| x.is_finite()),
        DataType::Float32 => array.as_primitive::<Float32Type>().iter().flatten().all(f32::is_finite),
        DataType::Float64 => array.as_primitive::<Float64Type>().iter().flatten().all(f64::is_finite),
        DataType::List(_) => array.as_list::<i32>().iter().flatten().all(|list| is_finite(&list)),
        DataType::LargeList(_) => array.as_list::<i64>().iter().flatten().all(|list| is_finite(&list)),
        DataType::ListView(_) => array.as_list_view::<i32>().iter().flatten().all(|list| is_finite(&list)),
        DataType::LargeListView(_) => array.as_list_view::<i64>().iter().flatten().all(|list| is_finite(&list)),
        DataType::FixedSizeList(..) => array.as_fixed_size_list().iter().flatten().all(|list| is_finite(&list)),
        DataType::Map(..) => array.as_map().iter().flatten().all(|entries| is_finite(&entries)),
        DataType::Struct(_) => {
            let rows = array.as_struct();
            // Values under a NULL are not written.
            let there = |column: &arrow::array::ArrayRef| match rows.nulls() {
                Some(nulls) => {
                    let mask = arrow::array::BooleanArray::new(nulls.inner().clone(), None);
                    arrow::compute::filter(column, &mask).is_ok_and(|column| is_finite(&column))
                }
                None => is_finite(column),
            };
            rows.columns().iter().all(there)
        }
        DataType::Dictionary(..) => is_finite(array.as_any_dictionary().values().as_ref()),
        DataType::RunEndEncoded(_, values) => {
            arrow::compute::cast(array, values.data_type()).map_or(true, |flat| is_finite(&flat))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StructArray};
    use arrow::datatypes::{UnionFields, UnionMode};

    use super::*;

    fn refusal(form: FileForm, data_type: DataType) -> Option<String> {
        let schema = Schema::new(vec![Field::new("x", data_type, true)]);
        form.check_schema(&schema).err().map(|error| error.to_string())
    }

    #[test]
    fn types_that_a_form_lacks_are_refused_by_column() {
        use FileForm::{Arrow, Csv, Json, Parquet};

        let field = |data_type| Arc::new(Field::new("item", data_type, true));
        let union = DataType::Union(
            UnionFields::try_new([0], [Field::new("a", DataType::Int64, true)]).unwrap(),
            UnionMode::Sparse,
        );
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        let empty = DataType::Struct(Vec::<Field>::new().into());
        let texts = DataType::List(field(DataType::Utf8));
        for (data_type, refusing) in [
            (union.clone(), &[Parquet, Csv, Json][..]),
            (DataType::List(field(union)), &[Parquet, Csv, Json]),
            (interval.clone(), &[Parquet]),
            (DataType::Struct(vec![Field::new("i", interval, true)].into()), &[Parquet, Csv]),
            (empty, &[Parquet, Csv]),
            (texts, &[Csv]),
            (DataType::Int64, &[]),
        ] {
            for form in [Arrow, Parquet, Csv, Json] {
                let refused = refusal(form, data_type.clone());
                assert_eq!(refused.is_some(), refusing.contains(&form), "{form} {data_type}");
                assert!(refused.is_none_or(|problem| problem.starts_with("column \"x\"")));
            }
        }
        let twice = Schema::new(vec![Field::new("x", DataType::Int8, true), Field::new("x", DataType::Int8, true)]);
        assert!(Csv.check_schema(&twice).unwrap_err().to_string().contains("got two columns"));
    }

    #[test]
    fn text_refuses_times_beyond_the_calendar() {
        let days: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![0, i32::MAX]));
        let batch = RecordBatch::try_from_iter([("d", days)]).unwrap();
        for form in [FileForm::Csv, FileForm::Json] {
            assert!(form.check_values(&batch).unwrap_err().to_string().starts_with("column \"d\", row 1: expected"));
            assert!(form.check_values(&batch.slice(0, 1)).is_ok());
        }
        assert!(FileForm::Parquet.check_values(&batch).is_ok());
    }

    #[test]
    fn json_refuses_what_it_would_write_as_null() {
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN]));
        let batch = |column: ArrayRef| RecordBatch::try_from_iter([("x", column)]).unwrap();
        let error = FileForm::Json.check_numbers(&batch(Arc::clone(&numbers))).unwrap_err().to_string();
        assert!(error.contains("column \"x\"") && error.contains("NaN"), "{error}");
        assert!(FileForm::Csv.check_numbers(&batch(Arc::clone(&numbers))).is_ok());
        let fields = vec![Field::new("n", DataType::Float64, true)].into();
        let hidden = StructArray::new(fields, vec![numbers], Some(vec![true, false].into()));
        assert!(FileForm::Json.check_numbers(&batch(Arc::new(hidden))).is_ok());
        assert!(FileForm::Json.check_numbers(&batch(Arc::new(Int64Array::from(vec![1])))).is_ok());
    }
}
