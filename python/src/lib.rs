//! The native module `vexact._native`. It only converts arguments and results, and releases the GIL
//! while the engine works.
#![allow(missing_docs)]

mod adbc;
mod arguments;
mod callbacks;
mod cancel;
mod command;
mod convert;
mod custom_stream;
mod door;
mod engine;
mod errors;
mod frame;
mod lazy_reader;
mod process;
mod query;
mod runtime;
mod search;
mod session;
mod stream;
mod text;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    vexact::entry::keep_panics();
    // Loads numpy's interface now: a signal that arrives while it is loaded would be lost in it.
    numpy::PyArray1::<f64>::zeros(module.py(), 0, false);
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<cancel::Cancellation>()?;
    module.add_class::<session::Session>()?;
    module.add_class::<frame::DataFrame>()?;
    module.add_class::<engine::HtapEngine>()?;
    module.add_function(wrap_pyfunction!(cancel::cancel_all, module)?)?;
    module.add_function(wrap_pyfunction!(runtime::wait_for_queries, module)?)?;
    module.add_function(wrap_pyfunction!(command::cli_main, module)?)?;
    module.add_function(wrap_pyfunction!(engine::check_config, module)?)?;
    module.add_function(wrap_pyfunction!(engine::check_table_schema, module)?)?;
    module.add_function(wrap_pyfunction!(engine::has_isolated_locks, module)?)?;
    module.add_function(wrap_pyfunction!(engine::uninstall, module)?)?;
    module.add_function(wrap_pyfunction!(frame::discard_unfinished, module)?)?;
    module.add_function(wrap_pyfunction!(frame::explain_html, module)?)?;
    door::register(module)?;
    stream::register(module)?;
    custom_stream::register(module)
}
