//! The host's codec, which each exported object needs.

use datafusion_ffi::proto::logical_extension_codec::FFI_LogicalExtensionCodec;
use pyo3::exceptions::{PyImportError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

const GETTER: &str = "__datafusion_logical_extension_codec__";

/// Returns the codec of a `SessionContext` of the package `datafusion`, or that of a capsule.
///
/// # Errors
/// `TypeError` for another object, `ImportError` for a context of another major version.
#[allow(unsafe_code)]
pub fn codec(session: &Bound<'_, PyAny>) -> PyResult<FFI_LogicalExtensionCodec> {
    let found = match session.hasattr(GETTER)? {
        true => session.call_method0(GETTER)?,
        false => session.clone(),
    };
    let Ok(capsule) = found.cast::<PyCapsule>() else {
        let got = session.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "expected a datafusion.SessionContext (of the package datafusion), got {got}"
        )));
    };
    let codec =
        capsule.pointer_checked(Some(c"datafusion_logical_extension_codec"))?.cast::<FFI_LogicalExtensionCodec>();
    // SAFETY: a capsule of this name holds this struct, and lives while `found` does.
    let codec: &FFI_LogicalExtensionCodec = unsafe { codec.as_ref() };
    // SAFETY: the function has no arguments and reads nothing.
    let (got, expected) = (unsafe { (codec.version)() }, datafusion_ffi::version());
    if got != expected {
        return Err(PyImportError::new_err(format!(
            "vexact fits datafusion {expected}: expected a context of that major version, got one of {got}"
        )));
    }
    Ok(codec.clone())
}
