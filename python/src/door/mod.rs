//! The door into other DataFusion programs: the vector functions and the replicas of engines, for
//! contexts of the PyPI package `datafusion`, over datafusion-ffi.
//!
//! The table functions are in Python. A `FFI_TableFunction` of datafusion-ffi 55 is not used: the
//! host reads the private data of the function's library, as if it were its own.

mod capsule;
mod replicas;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use datafusion_ffi::udf::FFI_ScalarUDF;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::errors::exception;

/// The scalar functions that a host gets.
const FUNCTIONS: [&str; 8] = [
    "cosine_distance",
    "cosine_similarity",
    "inner_product",
    "l2_distance",
    "l2_distance_squared",
    "l2_norm",
    "to_vector",
    "vector_dims",
];

/// A scalar function for a host.
#[pyclass(frozen, module = "vexact._native")]
pub struct ScalarFunction(Arc<ScalarUDF>);

#[pymethods]
impl ScalarFunction {
    fn __datafusion_scalar_udf__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        PyCapsule::new_with_value(py, FFI_ScalarUDF::from(Arc::clone(&self.0)), c"datafusion_scalar_udf")
    }
}

/// Returns the major version of DataFusion whose contexts the door fits.
#[pyfunction]
pub fn datafusion_version() -> u64 {
    datafusion_ffi::version()
}

/// Returns the scalar functions for a host.
#[pyfunction]
pub fn datafusion_functions(py: Python<'_>) -> PyResult<Vec<ScalarFunction>> {
    let session = vexact::Session::new().map_err(|error| exception(py, &error))?;
    let state = session.context().state();
    let scalar = |name: &&str| {
        let function = state.scalar_functions().get(*name);
        let function = function.ok_or_else(|| PyRuntimeError::new_err(format!("function {name} is not registered")))?;
        Ok(ScalarFunction(Arc::clone(function)))
    };
    FUNCTIONS.iter().map(scalar).collect()
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ScalarFunction>()?;
    module.add_class::<replicas::ReplicaProvider>()?;
    module.add_class::<replicas::ReplicaCatalog>()?;
    module.add_function(wrap_pyfunction!(datafusion_version, module)?)?;
    module.add_function(wrap_pyfunction!(datafusion_functions, module)?)?;
    module.add_function(wrap_pyfunction!(replicas::replica_table, module)?)?;
    module.add_function(wrap_pyfunction!(replicas::replica_snapshot, module)?)
}
