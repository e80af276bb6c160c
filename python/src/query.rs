//! Query vectors, and vectors among parameters: sequences of numbers, numpy and pyarrow arrays.

use std::fmt::Display;

use numpy::{PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyFloat, PyInt, PyList, PySequence, PyString, PyTuple, PyType};
use vexact::QueryVectors;
use vexact::kernel::Element;
use vexact::kernel::reference::bits;

/// Creates the exception for an invalid value. The text names the value, the expected one and the
/// actual one.
pub type Refusal = fn(Python<'_>, String) -> PyErr;

/// Maximum nesting of sequences that is counted: a sequence may contain itself.
const MOST_DIMENSIONS: usize = 64;

/// Converts a query: a sequence of numbers, a numpy or pyarrow array; two-dimensional for a query
/// batch. `name` is the argument's.
///
/// # Errors
/// `TypeError` for a value that is no sequence or array, or has a component that is no number.
/// `refused` for other dimensions, a component beyond float64, an array with a NULL or a masked
/// value.
pub fn query(name: &dyn Display, value: &Bound<'_, PyAny>, refused: Refusal) -> PyResult<QueryVectors> {
    if is_list(value) {
        return sequence(name, value, refused);
    }
    if let Ok(array) = value.cast_exact::<PyUntypedArray>() {
        return array_query(name, array.as_any(), refused);
    }
    if let Some(items) = items_with_gaps(value)? {
        // The type of an array of numbers is right: the error is one of its values.
        return sequence(name, &items, refused).map_err(|error| {
            match error.is_instance_of::<PyTypeError>(value.py()) {
                true => refused(value.py(), error.value(value.py()).to_string()),
                false => error,
            }
        });
    }
    // pyarrow and others implement the array protocol; numpy reads them.
    if value.hasattr("__array__")? {
        return array_query(name, &value.py().import("numpy")?.call_method1("asarray", (value,))?, refused);
    }
    sequence(name, value, refused)
}

/// Converts a query of bits: bytes, a sequence of bytes for a query batch, an array of bool, or what
/// [`query`] takes, of a 0 or 1 for each bit.
///
/// # Errors
/// As [`query`].
pub fn bit_query(name: &dyn Display, value: &Bound<'_, PyAny>, refused: Refusal) -> PyResult<QueryVectors> {
    if let Some(bytes) = bytes(value)? {
        return Ok(QueryVectors::one(&bits(&bytes)));
    }
    if is_list(value) {
        let rows: Vec<Option<Vec<u8>>> = value.try_iter()?.map(|row| bytes(&row?)).collect::<PyResult<_>>()?;
        if let Some(rows) = rows.into_iter().collect::<Option<Vec<Vec<u8>>>>().filter(|rows| !rows.is_empty()) {
            let components = |row: Vec<u8>| bits(&row).iter().map(|bit| bit.to_f64()).collect();
            return Ok(QueryVectors::Many(rows.into_iter().map(components).collect()));
        }
    }
    if let Ok(array) = value.extract::<PyReadonlyArrayDyn<'_, bool>>() {
        let components: Vec<f64> = array.as_array().iter().map(|bit| Element::to_f64(*bit)).collect();
        return shaped(name, array.py(), array.shape(), components, refused);
    }
    query(name, value, refused)
}

fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    let is_bytes = value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyByteArray>();
    is_bytes.then(|| value.extract()).transpose()
}

/// Returns the type of a value, for messages.
pub fn got(value: &Bound<'_, PyAny>) -> String {
    let name = |kind: &Bound<'_, PyType>| kind.name().map_or_else(|_| "?".into(), |name| name.to_string());
    match value.cast::<PyType>() {
        Ok(class) => format!("the class {}", name(class)),
        Err(_) => name(&value.get_type()),
    }
}

/// Returns true for text or bytes: as a sequence of numbers they are never intended.
pub fn is_text(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyString>() || value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyByteArray>()
}

fn is_list(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>()
}

/// Returns the number of dimensions of nested sequences and arrays, along their first items; 0 for
/// any other value.
fn dimensions(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    let mut value = value.clone();
    for count in 0..MOST_DIMENSIONS {
        // Fast path for the most common types.
        if value.is_instance_of::<PyFloat>() || value.is_instance_of::<PyInt>() {
            return Ok(count);
        }
        let is_sequence = is_list(&value)
            || !is_text(&value)
                && match value.getattr("ndim") {
                    Ok(ndim) => ndim.gt(0).unwrap_or(false),
                    Err(_) => value.cast::<PySequence>().is_ok() || value.hasattr("__array__")?,
                };
        if !is_sequence {
            return Ok(count);
        }
        match value.get_item(0) {
            Ok(first) => value = first,
            Err(_) => return Ok(count + 1),
        }
    }
    Ok(MOST_DIMENSIONS)
}

fn sequence(name: &dyn Display, value: &Bound<'_, PyAny>, refused: Refusal) -> PyResult<QueryVectors> {
    match dimensions(value)? {
        0 => Err(PyTypeError::new_err(format!(
            "{name}: expected a sequence of numbers, or a numpy or pyarrow array of one or two dimensions, got {}",
            got(value)
        ))),
        1 => components(name, value, refused).map(QueryVectors::One),
        2 => {
            let rows = value.try_iter()?.enumerate().map(|(at, row)| vector(name, at, &row?, refused));
            rows.collect::<PyResult<_>>().map(QueryVectors::Many)
        }
        other => Err(refused(value.py(), format!("{name}: expected one or two dimensions, got {other}"))),
    }
}

/// Converts a row of a query batch.
fn vector(name: &dyn Display, at: usize, row: &Bound<'_, PyAny>, refused: Refusal) -> PyResult<Vec<f64>> {
    let of = format!("{name}: row {at}");
    match dimensions(row)? {
        0 => Err(refused(row.py(), format!("{of}: expected a vector, as row 0 is, got {}", got(row)))),
        1 => match query(&of, row, refused)? {
            QueryVectors::One(vector) => Ok(vector),
            QueryVectors::Many(_) => Err(refused(row.py(), format!("{of}: expected a vector, got several"))),
        },
        other => Err(refused(row.py(), format!("{of}: expected a vector, as row 0 is, got {other} dimensions"))),
    }
}

fn components(name: &dyn Display, values: &Bound<'_, PyAny>, refused: Refusal) -> PyResult<Vec<f64>> {
    let mut numbers = Vec::with_capacity(values.len().unwrap_or(0));
    for (at, value) in values.try_iter()?.enumerate() {
        let value = value?;
        numbers.push(match value.cast_exact::<PyFloat>() {
            Ok(number) => number.value(),
            Err(_) => number(name, at, &value, refused)?,
        });
    }
    Ok(numbers)
}

/// Converts a component: any value that Python takes for a number, but no bool and no array.
fn number(name: &dyn Display, at: usize, value: &Bound<'_, PyAny>, refused: Refusal) -> PyResult<f64> {
    let is_number = if value.is_instance_of::<PyInt>() {
        !value.is_instance_of::<PyBool>()
    } else {
        let kind = value.getattr("dtype").and_then(|dtype| dtype.getattr("kind"));
        dimensions(value)? == 0 && !kind.is_ok_and(|kind| kind.eq("b").unwrap_or(false))
    };
    if is_number {
        match value.extract::<f64>() {
            Ok(number) => return Ok(number),
            Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
                let problem = format!("{name}: component {at}: expected a number within float64, got a larger one");
                return Err(refused(value.py(), problem));
            }
            Err(error) if error.is_instance_of::<PyTypeError>(value.py()) => {}
            Err(error) => return Err(error),
        }
    }
    Err(PyTypeError::new_err(format!("{name}: component {at}: expected a number, got {}", got(value))))
}

/// Returns the items of an array with missing values, NULLs or masked ones, which numpy would read
/// as NaN or as the values behind the mask. Returns `None` if the array has no missing values.
fn items_with_gaps<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = value.py();
    if value.hasattr("mask")? && py.import("numpy.ma")?.call_method1("is_masked", (value,))?.is_truthy()? {
        return value.call_method0("tolist").map(Some);
    }
    // pandas has types with NULLs of its own. It also has arrays of numpy, in which NaN is an
    // ordinary value.
    if value.hasattr("isna")? && value.getattr("dtype").is_ok_and(|kind| kind.hasattr("na_value").unwrap_or(false)) {
        let has_gaps = value.call_method0("isna")?.call_method0("any")?.is_truthy()?;
        return if has_gaps { value.call_method0("tolist").map(Some) } else { Ok(None) };
    }
    if !value.hasattr("null_count")? {
        return Ok(None);
    }
    let pyarrow = py.import("pyarrow")?;
    let column = match value.hasattr("__arrow_c_array__")? {
        true => pyarrow.call_method1("array", (value,))?,
        false => pyarrow.call_method1("chunked_array", (value,))?,
    };
    let has_gaps = |column: &Bound<'py, PyAny>| column.getattr("null_count")?.gt(0);
    let is_nested = column.getattr("type")?.getattr("num_fields")?.gt(0)?;
    if has_gaps(&column)?
        || is_nested && has_gaps(&py.import("pyarrow.compute")?.call_method1("list_flatten", (&column,))?)?
    {
        return column.call_method0("to_pylist").map(Some);
    }
    Ok(None)
}

fn array_query(name: &dyn Display, array: &Bound<'_, PyAny>, refused: Refusal) -> PyResult<QueryVectors> {
    if let Ok(array) = array.extract::<PyReadonlyArrayDyn<'_, f32>>() {
        return rows(name, &array, refused);
    }
    if let Ok(array) = array.extract::<PyReadonlyArrayDyn<'_, f64>>() {
        return rows(name, &array, refused);
    }
    if let Ok(array) = array.extract::<PyReadonlyArrayDyn<'_, i8>>() {
        return rows(name, &array, refused);
    }
    if let Ok(array) = array.extract::<PyReadonlyArrayDyn<'_, u8>>() {
        return rows(name, &array, refused);
    }
    let kind = |array: &Bound<'_, PyAny>| array.getattr("dtype")?.getattr("kind")?.extract::<String>();
    let mut array = array.clone();
    if kind(&array)? == "O" {
        // Rows that cannot be stacked differ in length, or are no rows.
        array = match array.py().import("numpy")?.call_method1("stack", (&array,)) {
            Ok(stacked) if kind(&stacked)? != "O" => stacked,
            _ => return sequence(name, &array.call_method0("tolist")?, refused),
        };
    }
    if !matches!(kind(&array)?.as_str(), "f" | "i" | "u") {
        let got = array.getattr("dtype")?.str()?.to_string();
        return Err(PyTypeError::new_err(format!("{name}: expected an array of real numbers, got {got}")));
    }
    let floats = array.call_method1("astype", ("float64",))?;
    rows(name, &floats.extract::<PyReadonlyArrayDyn<'_, f64>>()?, refused)
}

fn rows<T: Element + numpy::Element>(
    name: &dyn Display,
    array: &PyReadonlyArrayDyn<'_, T>,
    refused: Refusal,
) -> PyResult<QueryVectors> {
    // The values are in the order of the rows, also if memory has another order (a transposed
    // array).
    let values: Vec<f64> = array.as_array().iter().map(|x| x.to_f64()).collect();
    shaped(name, array.py(), array.shape(), values, refused)
}

/// Values of an array of this shape, in the order of its rows.
fn shaped(
    name: &dyn Display,
    py: Python<'_>,
    shape: &[usize],
    values: Vec<f64>,
    refused: Refusal,
) -> PyResult<QueryVectors> {
    match *shape {
        [_] => Ok(QueryVectors::One(values)),
        [_, 0] => Ok(QueryVectors::Many(vec![vec![]])),
        [_, dim] => Ok(QueryVectors::Many(values.chunks(dim).map(<[f64]>::to_vec).collect())),
        _ => {
            let got = shape.len();
            Err(refused(py, format!("{name}: expected one or two dimensions, got {got}")))
        }
    }
}
