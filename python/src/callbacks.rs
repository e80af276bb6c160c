//! Python functions as SQL functions and collations of an engine.

use std::cmp::Ordering;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use rusqlite::types::ValueRef;
use vexact::htap::{Collation, Param, ScalarFunction};

use crate::arguments;

/// Wraps a Python function as a scalar function. An exception of the function becomes the
/// statement's error.
pub fn function(call: Py<PyAny>) -> ScalarFunction {
    Arc::new(move |values: &[ValueRef<'_>]| {
        Python::attach(|py| {
            let called = || -> PyResult<Param> {
                let values = values.iter().map(|value| argument(py, *value)).collect::<PyResult<Vec<_>>>()?;
                arguments::result(&call.bind(py).call1(PyTuple::new(py, values)?)?)
            };
            called().map(|param| param.to_sqlite()).map_err(|error| error.to_string())
        })
    })
}

/// Wraps a Python function as a collation. An exception of the function is reported to
/// `sys.unraisablehook`, and the texts are compared byte by byte.
pub fn collation(compare: Py<PyAny>) -> Collation {
    Arc::new(move |a: &str, b: &str| {
        Python::attach(|py| {
            let compared = || -> PyResult<Ordering> {
                let order = compare.bind(py).call1((a, b))?;
                Ok(if order.lt(0)? {
                    Ordering::Less
                } else if order.gt(0)? {
                    Ordering::Greater
                } else {
                    Ordering::Equal
                })
            };
            compared().unwrap_or_else(|error| {
                error.write_unraisable(py, Some(compare.bind(py)));
                a.cmp(b)
            })
        })
    })
}

fn argument<'py>(py: Python<'py>, value: ValueRef<'_>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        ValueRef::Null => py.None().into_bound(py),
        ValueRef::Integer(integer) => integer.into_pyobject(py)?.into_any(),
        ValueRef::Real(real) => real.into_pyobject(py)?.into_any(),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|_| {
                PyValueError::new_err(format!("expected text in UTF-8, got {} other bytes", text.len()))
            })?;
            PyString::new(py, text).into_any()
        }
        ValueRef::Blob(bytes) => PyBytes::new(py, bytes).into_any(),
    })
}
