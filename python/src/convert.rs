//! Conversion of Python values for sessions: SQL parameters, options, Arrow data.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use arrow::array::builder::{Float64Builder, ListBuilder};
use arrow::array::{ArrayData, FixedSizeListArray, Float64Array, RecordBatch, RecordBatchReader, make_array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::ffi_stream::ArrowArrayStreamReader;
use arrow_pyarrow::FromPyArrow;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::{ParamValues, ScalarValue};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyMapping, PySequence, PyString, PyTuple};
use vexact::QueryVectors;

use crate::errors::invalid;
use crate::query::{got, is_text, query};

/// Converts a SQL parameter: None, bool, int, float, str, bytes, a vector, a list of vectors, or any
/// value of which pyarrow makes a scalar. `name` is for messages.
fn parameter(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<ScalarValue> {
    if value.is_none() {
        return Ok(ScalarValue::Null);
    }
    if value.is_instance_of::<PyBool>() {
        return Ok(ScalarValue::Boolean(Some(value.extract()?)));
    }
    if value.is_instance_of::<PyInt>() {
        return match value.extract() {
            Ok(number) => Ok(ScalarValue::Int64(Some(number))),
            Err(_) => {
                // Python does not write a number of thousands of digits.
                let got = value.str().map_or_else(|_| "a much larger one".into(), |digits| digits.to_string());
                Err(invalid(value.py(), format!("{name}: expected an int within int64, got {got}")))
            }
        };
    }
    if value.is_instance_of::<PyFloat>() {
        return Ok(ScalarValue::Float64(Some(value.extract()?)));
    }
    if let Ok(value) = value.cast::<PyString>() {
        return Ok(ScalarValue::Utf8(Some(text(name, value)?)));
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(ScalarValue::Binary(Some(bytes.as_bytes().to_vec())));
    }
    if is_scalar(value)? {
        return parameter(name, &value.call_method0("item")?);
    }
    if is_vector(value)? {
        let refused = |problem: &str| Err(invalid(value.py(), format!("{name}: {problem}")));
        return match query(name, value, invalid)? {
            QueryVectors::One(vector) if vector.is_empty() => {
                refused("empty vector: expected at least one component, got none")
            }
            QueryVectors::One(vector) => Ok(vector_scalar(vector)),
            QueryVectors::Many(vectors) => Ok(vectors_scalar(vectors)),
        };
    }
    let no_parameter = |cause: Option<PyErr>| {
        let expected = "None, bool, int, float, str, bytes, a vector, a date or a time";
        let error = PyTypeError::new_err(format!("{name}: expected {expected}, got {}", got(value)));
        error.set_cause(value.py(), cause);
        error
    };
    let pyarrow = value.py().import("pyarrow")?;
    let array = pyarrow.call_method1("array", (PyList::new(value.py(), [value])?,));
    let array = make_array(ArrayData::from_pyarrow_bound(&array.map_err(|error| no_parameter(Some(error)))?)?);
    ScalarValue::try_from_array(&array, 0).map_err(|_| no_parameter(None))
}

/// Returns a text as UTF-8, or an error if it has surrogates.
pub fn text(name: &dyn Display, value: &Bound<'_, PyString>) -> PyResult<String> {
    value.to_cow().map(Cow::into_owned).map_err(|_| {
        let got = value.repr().map_or_else(|_| "others".into(), |text| text.to_string_lossy().into_owned());
        let got: String = got.chars().take(100).collect();
        invalid(value.py(), format!("{name}: expected text of Unicode characters, got {got}"))
    })
}

/// Returns true for a scalar of numpy. Its `item` returns the Python value.
pub fn is_scalar(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let ndim = || value.getattr("ndim").and_then(|ndim| ndim.extract::<usize>());
    Ok(value.hasattr("item")? && ndim().is_ok_and(|ndim| ndim == 0))
}

pub fn is_vector(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() || value.hasattr("__array__")?)
}

fn vector_scalar(vector: Vec<f64>) -> ScalarValue {
    let item = Arc::new(Field::new_list_field(DataType::Float64, true));
    let dim = vector.len() as i32;
    let list = FixedSizeListArray::new(item, dim, Arc::new(Float64Array::from(vector)), None);
    ScalarValue::FixedSizeList(Arc::new(list))
}

/// A list of vectors, as `max_sim` takes.
fn vectors_scalar(vectors: Vec<Vec<f64>>) -> ScalarValue {
    let mut list = ListBuilder::new(ListBuilder::new(Float64Builder::new()));
    for vector in &vectors {
        list.values().values().append_slice(vector);
        list.values().append(true);
    }
    list.append(true);
    ScalarValue::List(Arc::new(list.finish()))
}

/// Converts parameters by position (a sequence) or by name (a mapping).
pub fn parameters(params: Option<&Bound<'_, PyAny>>) -> PyResult<Option<ParamValues>> {
    let Some(params) = params else { return Ok(None) };
    if let Ok(named) = params.cast::<PyMapping>() {
        let value = |item: Bound<'_, PyAny>| {
            let (name, value) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            let Ok(name) = name.cast::<PyString>() else {
                return Err(PyTypeError::new_err(format!("params: a name: expected a str, got {}", got(&name))));
            };
            let name = text(&"params: a name", name)?;
            let value = parameter(&format_args!("params: ${name}"), &value)?;
            Ok((name, ScalarAndMetadata::from(value)))
        };
        return Ok(Some(ParamValues::Map(named.items()?.iter().map(value).collect::<PyResult<_>>()?)));
    }
    let Some(values) = sequence(params) else {
        return Err(PyTypeError::new_err(format!("params: expected a sequence or a mapping, got {}", got(params))));
    };
    let value = |(at, value): (usize, PyResult<Bound<'_, PyAny>>)| {
        let value = parameter(&format_args!("params: ${}", at + 1), &value?)?;
        Ok(ScalarAndMetadata::from(value))
    };
    Ok(Some(ParamValues::List(values.try_iter()?.enumerate().map(value).collect::<PyResult<_>>()?)))
}

/// Returns a sequence that is not a text: a sequence of characters is never intended.
pub fn sequence<'v, 'py>(value: &'v Bound<'py, PyAny>) -> Option<&'v Bound<'py, PySequence>> {
    value.cast::<PySequence>().ok().filter(|_| !is_text(value))
}

/// Converts an option that is a whole number, if it is given.
pub fn whole_number(name: &str, value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
    let Some(value) = value else { return Ok(None) };
    if !value.hasattr("__index__")? {
        let got = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!("{name}: expected an int or None, got {got}")));
    }
    let number = value.call_method0("__index__")?;
    match number.extract::<usize>() {
        Ok(number) => Ok(Some(number)),
        Err(_) => {
            let most = usize::MAX;
            Err(invalid(value.py(), format!("{name}: expected a whole number from 1 to {most}, got {number}")))
        }
    }
}

/// Converts an object with the Arrow C stream or C array interface to batches. No buffer is copied.
pub fn batches(value: &Bound<'_, PyAny>) -> PyResult<(SchemaRef, Vec<RecordBatch>)> {
    let py = value.py();
    if value.hasattr("__arrow_c_stream__")? {
        let reader = match ArrowArrayStreamReader::from_pyarrow_bound(value) {
            Ok(reader) => reader,
            Err(_) if is_column(value)? => return Err(no_table(value)),
            Err(error) => return Err(error),
        };
        let schema = reader.schema();
        let batches: Result<Vec<_>, _> = py.detach(|| reader.collect());
        return Ok((schema, batches.map_err(|error| PyValueError::new_err(error.to_string()))?));
    }
    if value.hasattr("__arrow_c_array__")? {
        let batch = RecordBatch::from_pyarrow_bound(value);
        let batch =
            batch.map_err(|error| if error.is_instance_of::<PyTypeError>(py) { no_table(value) } else { error })?;
        return Ok((batch.schema(), vec![batch]));
    }
    Err(no_table(value))
}

/// Returns true if a stream contains arrays of one column and not rows of a table.
fn is_column(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let pyarrow = value.py().import("pyarrow")?;
    let Ok(column) = pyarrow.call_method1("chunked_array", (value,)) else { return Ok(false) };
    let is_struct = pyarrow.getattr("types")?.call_method1("is_struct", (column.getattr("type")?,))?;
    Ok(!is_struct.is_truthy()?)
}

fn no_table(value: &Bound<'_, PyAny>) -> PyErr {
    let got = value.get_type().name().map_or_else(|_| "another object".into(), |name| name.to_string());
    PyTypeError::new_err(format!(
        "expected Arrow data (a pyarrow Table, RecordBatch or RecordBatchReader, a dict of columns, or a table with \
         __arrow_c_stream__ or __arrow_c_array__), got {got}"
    ))
}
