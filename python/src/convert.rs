//! Python values as the engine takes them: query vectors, SQL parameters, Arrow data.

use std::sync::Arc;

use arrow::array::{ArrayData, FixedSizeListArray, Float64Array, RecordBatch, RecordBatchReader, make_array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::ffi_stream::ArrowArrayStreamReader;
use arrow_pyarrow::FromPyArrow;
use datafusion::common::ScalarValue;
use numpy::{PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString, PyTuple};
use vexact::QueryVectors;
use vexact::kernel::Element;

/// A query: a sequence of numbers, a numpy or pyarrow array; two-dimensional for a query batch.
pub fn query(value: &Bound<'_, PyAny>) -> PyResult<QueryVectors> {
    if let Some(query) = numpy_query(value)? {
        return Ok(query);
    }
    let is_text = value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyString>();
    if let Ok(numbers) = value.extract::<Vec<f64>>()
        && !is_text
    {
        return Ok(QueryVectors::One(numbers));
    }
    if let Ok(rows) = value.extract::<Vec<Vec<f64>>>() {
        return Ok(QueryVectors::Many(rows));
    }
    let got = value.get_type().name()?;
    Err(PyTypeError::new_err(format!(
        "query_vector: expected a sequence of numbers, or a numpy or pyarrow array of one or two dimensions, got {got}"
    )))
}

fn numpy_query(value: &Bound<'_, PyAny>) -> PyResult<Option<QueryVectors>> {
    if let Ok(array) = value.extract::<PyReadonlyArrayDyn<'_, f32>>() {
        return rows(&array).map(Some);
    }
    if let Ok(array) = value.extract::<PyReadonlyArrayDyn<'_, f64>>() {
        return rows(&array).map(Some);
    }
    // pyarrow and others say that they are arrays; numpy knows how to read them.
    if value.hasattr("__array__")? {
        let numpy = value.py().import("numpy")?;
        let nested = numpy.call_method1("asarray", (value,))?;
        let is_nested = nested.getattr("dtype")?.getattr("kind")?.extract::<String>()? == "O";
        let nested = if is_nested { numpy.call_method1("stack", (nested,))? } else { nested };
        let kind = nested.getattr("dtype")?.getattr("kind")?.extract::<String>()?;
        if !matches!(kind.as_str(), "f" | "i" | "u") {
            let got = nested.getattr("dtype")?.str()?.to_string();
            return Err(PyTypeError::new_err(format!("query_vector: expected an array of real numbers, got {got}")));
        }
        let floats = nested.call_method1("astype", ("float64",))?;
        return rows(&floats.extract::<PyReadonlyArrayDyn<'_, f64>>()?).map(Some);
    }
    Ok(None)
}

fn rows<T: Element + numpy::Element>(array: &PyReadonlyArrayDyn<'_, T>) -> PyResult<QueryVectors> {
    // In the order of the rows, also where memory is in another (a transposed array).
    let values: Vec<f64> = array.as_array().iter().map(|x| x.to_f64()).collect();
    match *array.shape() {
        [_] => Ok(QueryVectors::One(values)),
        [_, 0] => Ok(QueryVectors::Many(vec![vec![]])),
        [_, dim] => Ok(QueryVectors::Many(values.chunks(dim).map(<[f64]>::to_vec).collect())),
        _ => Err(PyValueError::new_err(format!(
            "query_vector: expected one or two dimensions, got {}",
            array.shape().len()
        ))),
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
        return match query(value)? {
            QueryVectors::One(vector) if vector.is_empty() => {
                Err(PyValueError::new_err("params: empty vector: expected at least one component, got none"))
            }
            QueryVectors::One(vector) => Ok(vector_scalar(vector)),
            QueryVectors::Many(_) => {
                Err(PyValueError::new_err("params: expected a vector, got a two-dimensional array"))
            }
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

/// Batches from anything that speaks the Arrow C stream or C array interface. No buffer is copied.
pub fn batches(value: &Bound<'_, PyAny>) -> PyResult<(SchemaRef, Vec<RecordBatch>)> {
    if value.hasattr("__arrow_c_stream__")? {
        let reader = ArrowArrayStreamReader::from_pyarrow_bound(value)?;
        let schema = reader.schema();
        let batches: Result<Vec<_>, _> = value.py().detach(|| reader.collect());
        return Ok((schema, batches.map_err(|error| PyValueError::new_err(error.to_string()))?));
    }
    if value.hasattr("__arrow_c_array__")? {
        let batch = RecordBatch::from_pyarrow_bound(value)?;
        return Ok((batch.schema(), vec![batch]));
    }
    let got = value.get_type().name()?;
    Err(PyTypeError::new_err(format!(
        "expected Arrow data (a pyarrow Table, RecordBatch or RecordBatchReader, or an object with __arrow_c_stream__ or \
         __arrow_c_array__), got {got}"
    )))
}
