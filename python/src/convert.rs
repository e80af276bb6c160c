//! Python values as the engine takes them: query vectors, SQL parameters, Arrow data.

use std::sync::Arc;

use arrow::array::{ArrayData, FixedSizeListArray, Float64Array, RecordBatch, RecordBatchReader, make_array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::ffi_stream::ArrowArrayStreamReader;
use arrow_pyarrow::FromPyArrow;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::{ParamValues, ScalarValue};
use numpy::{PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyFloat, PyInt, PyList, PyMapping, PySequence, PyString, PyTuple};
use vexact::QueryVectors;
use vexact::htap::Param;
use vexact::kernel::Element;

use crate::errors::invalid;

/// A query: a sequence of numbers, a numpy or pyarrow array; two-dimensional for a query batch. `name` is the argument's.
pub fn query(name: &str, value: &Bound<'_, PyAny>) -> PyResult<QueryVectors> {
    if let Some(query) = numpy_query(name, value)? {
        return Ok(query);
    }
    sequence_query(name, value)
}

fn is_text(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyString>()
}

fn sequence_query(name: &str, value: &Bound<'_, PyAny>) -> PyResult<QueryVectors> {
    let numbers = value.extract::<Vec<f64>>();
    if let Ok(numbers) = numbers
        && !is_text(value)
    {
        return Ok(QueryVectors::One(numbers));
    }
    if let Ok(rows) = value.extract::<Vec<Vec<f64>>>() {
        return Ok(QueryVectors::Many(rows));
    }
    let dimensions = dimensions(value)?;
    if dimensions > 2 {
        return Err(invalid(value.py(), format!("{name}: expected one or two dimensions, got {dimensions}")));
    }
    if dimensions == 2 {
        for (row, item) in value.try_iter()?.enumerate() {
            let item = item?;
            if self::dimensions(&item)? == 0 {
                let got = item.get_type().name()?;
                let problem = format!("{name}: row {row}: expected a vector, as row 0 is, got {got}");
                return Err(invalid(value.py(), problem));
            }
        }
    }
    let got = value.get_type().name()?;
    Err(PyTypeError::new_err(format!(
        "{name}: expected a sequence of numbers, or a numpy or pyarrow array of one or two dimensions, got {got}"
    )))
}

/// Dimensions of nested sequences and arrays, along their first items; 0 for what is neither.
fn dimensions(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    let is_array = value.getattr("ndim").is_ok_and(|ndim| ndim.gt(0).unwrap_or(false));
    if !is_array && !value.is_instance_of::<PyList>() && !value.is_instance_of::<PyTuple>() {
        return Ok(0);
    }
    match value.get_item(0) {
        Ok(first) => Ok(1 + dimensions(&first)?),
        Err(_) => Ok(1),
    }
}

fn numpy_query(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<QueryVectors>> {
    if let Ok(array) = value.extract::<PyReadonlyArrayDyn<'_, f32>>() {
        return rows(name, &array).map(Some);
    }
    if let Ok(array) = value.extract::<PyReadonlyArrayDyn<'_, f64>>() {
        return rows(name, &array).map(Some);
    }
    // pyarrow and others say that they are arrays; numpy knows how to read them.
    if value.hasattr("__array__")? {
        let numpy = value.py().import("numpy")?;
        let kind = |array: &Bound<'_, PyAny>| array.getattr("dtype")?.getattr("kind")?.extract::<String>();
        let mut array = numpy.call_method1("asarray", (value,))?;
        if kind(&array)? == "O" {
            // Rows that do not stack differ in length, or are no rows.
            array = match numpy.call_method1("stack", (&array,)) {
                Ok(stacked) if kind(&stacked)? != "O" => stacked,
                _ => return sequence_query(name, &array.call_method0("tolist")?).map(Some),
            };
        }
        if !matches!(kind(&array)?.as_str(), "f" | "i" | "u") {
            let got = array.getattr("dtype")?.str()?.to_string();
            return Err(PyTypeError::new_err(format!("{name}: expected an array of real numbers, got {got}")));
        }
        let floats = array.call_method1("astype", ("float64",))?;
        return rows(name, &floats.extract::<PyReadonlyArrayDyn<'_, f64>>()?).map(Some);
    }
    Ok(None)
}

fn rows<T: Element + numpy::Element>(name: &str, array: &PyReadonlyArrayDyn<'_, T>) -> PyResult<QueryVectors> {
    // In the order of the rows, also where memory is in another (a transposed array).
    let values: Vec<f64> = array.as_array().iter().map(|x| x.to_f64()).collect();
    match *array.shape() {
        [_] => Ok(QueryVectors::One(values)),
        [_, 0] => Ok(QueryVectors::Many(vec![vec![]])),
        [_, dim] => Ok(QueryVectors::Many(values.chunks(dim).map(<[f64]>::to_vec).collect())),
        _ => {
            let got = array.shape().len();
            Err(invalid(array.py(), format!("{name}: expected one or two dimensions, got {got}")))
        }
    }
}

/// A SQL parameter: None, bool, int, float, str, bytes, a vector, or whatever pyarrow makes a scalar of.
pub fn parameter(value: &Bound<'_, PyAny>) -> PyResult<ScalarValue> {
    if value.is_none() {
        return Ok(ScalarValue::Null);
    }
    if value.is_instance_of::<PyBool>() {
        return Ok(ScalarValue::Boolean(Some(value.extract()?)));
    }
    if value.is_instance_of::<PyInt>() {
        return Ok(ScalarValue::Int64(Some(value.extract()?)));
    }
    if value.is_instance_of::<PyFloat>() {
        return Ok(ScalarValue::Float64(Some(value.extract()?)));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(ScalarValue::Utf8(Some(text.to_string())));
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(ScalarValue::Binary(Some(bytes.as_bytes().to_vec())));
    }
    // A scalar of numpy's is the Python value that it holds.
    if value.hasattr("item")?
        && value.getattr("ndim").and_then(|ndim| ndim.extract::<usize>()).is_ok_and(|ndim| ndim == 0)
    {
        return parameter(&value.call_method0("item")?);
    }
    let is_sequence = value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>();
    if is_sequence || value.hasattr("__array__")? {
        let refused = |problem: &str| Err(invalid(value.py(), format!("params: {problem}")));
        return match query("params", value)? {
            QueryVectors::One(vector) if vector.is_empty() => {
                refused("empty vector: expected at least one component, got none")
            }
            QueryVectors::One(vector) => Ok(vector_scalar(vector)),
            QueryVectors::Many(_) => refused("expected a vector, got a two-dimensional array"),
        };
    }
    let pyarrow = value.py().import("pyarrow")?;
    let array = pyarrow.call_method1("array", (PyList::new(value.py(), [value])?,))?;
    let array = make_array(ArrayData::from_pyarrow_bound(&array)?);
    ScalarValue::try_from_array(&array, 0).map_err(|error| PyTypeError::new_err(format!("params: {error}")))
}

fn vector_scalar(vector: Vec<f64>) -> ScalarValue {
    let item = Arc::new(Field::new_list_field(DataType::Float64, true));
    let dim = vector.len() as i32;
    let list = FixedSizeListArray::new(item, dim, Arc::new(Float64Array::from(vector)), None);
    ScalarValue::FixedSizeList(Arc::new(list))
}

/// Parameters by position (a sequence) or by name (a mapping).
pub fn parameters(params: Option<&Bound<'_, PyAny>>) -> PyResult<Option<ParamValues>> {
    let Some(params) = params else { return Ok(None) };
    if let Ok(named) = params.cast::<PyMapping>() {
        let value = |item: Bound<'_, PyAny>| {
            let (name, value) = item.extract::<(String, Bound<'_, PyAny>)>()?;
            Ok((name, ScalarAndMetadata::from(parameter(&value)?)))
        };
        return Ok(Some(ParamValues::Map(named.items()?.iter().map(value).collect::<PyResult<_>>()?)));
    }
    // One text is a sequence of characters, which nobody means.
    let is_text = is_text(params) || params.is_instance_of::<PyByteArray>();
    match params.cast::<PySequence>() {
        Ok(values) if !is_text => {
            let values = values.try_iter()?.map(|value| Ok(ScalarAndMetadata::from(parameter(&value?)?)));
            Ok(Some(ParamValues::List(values.collect::<PyResult<_>>()?)))
        }
        _ => {
            let got = params.get_type().name()?;
            Err(PyTypeError::new_err(format!("params: expected a sequence or a mapping, got {got}")))
        }
    }
}

/// Parameters of the replication engine's statements, by position.
pub fn engine_parameters(params: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<Param>> {
    let Some(params) = params else { return Ok(Vec::new()) };
    let is_text = is_text(params) || params.is_instance_of::<PyByteArray>();
    match params.cast::<PySequence>() {
        Ok(values) if !is_text => {
            values.try_iter()?.enumerate().map(|(at, value)| engine_parameter(at, &value?)).collect()
        }
        _ => {
            let got = params.get_type().name()?;
            Err(PyTypeError::new_err(format!("params: expected a sequence, got {got}")))
        }
    }
}

fn engine_parameter(at: usize, value: &Bound<'_, PyAny>) -> PyResult<Param> {
    if value.is_none() {
        return Ok(Param::Null);
    }
    if value.is_instance_of::<PyBool>() {
        return Ok(Param::Boolean(value.extract()?));
    }
    if value.is_instance_of::<PyInt>() {
        // SQLite has no larger integers; a NUMERIC column keeps such a text.
        return Ok(match value.extract::<i64>() {
            Ok(number) => Param::Integer(number),
            Err(_) => Param::Text(value.str()?.to_string()),
        });
    }
    if value.is_instance_of::<PyFloat>() {
        return Ok(Param::Real(value.extract()?));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Param::Text(text.to_string()));
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Param::Bytes(bytes.as_bytes().to_vec()));
    }
    if let Ok(bytes) = value.cast::<PyByteArray>() {
        return Ok(Param::Bytes(bytes.to_vec()));
    }
    if value.hasattr("item")?
        && value.getattr("ndim").and_then(|ndim| ndim.extract::<usize>()).is_ok_and(|ndim| ndim == 0)
    {
        return engine_parameter(at, &value.call_method0("item")?);
    }
    let is_sequence = value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>();
    if is_sequence || value.hasattr("__array__")? {
        let name = format!("parameter {at}");
        return match query(&name, value)? {
            QueryVectors::One(vector) if !vector.is_empty() => {
                let narrowed = vector.iter().map(|x| *x as f32).collect::<Vec<_>>();
                match vector.iter().zip(&narrowed).find(|(x, narrow)| x.is_finite() && !narrow.is_finite()) {
                    Some((x, _)) => {
                        Err(PyValueError::new_err(format!("{name}: expected components within float32, got {x:e}")))
                    }
                    None => Ok(Param::Vector(narrowed)),
                }
            }
            QueryVectors::One(_) => Err(PyValueError::new_err(format!("{name}: expected a vector, got no components"))),
            QueryVectors::Many(_) => {
                Err(PyValueError::new_err(format!("{name}: expected a vector, got a two-dimensional array")))
            }
        };
    }
    let got = value.get_type().name()?;
    Err(PyTypeError::new_err(format!(
        "parameter {at}: expected None, bool, int, float, str, bytes or a vector, got {got}"
    )))
}

/// An option that is a whole number, if it is given.
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

/// Batches from anything that speaks the Arrow C stream or C array interface. No buffer is copied.
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

/// Whether a stream is of one column and not of a table.
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
