//! The command line: the program `vexact` of the crate `vexact_cli`, in this process.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs a command, its arguments without the program's name; the exit code. Output goes to the process's own streams.
#[pyfunction]
pub fn cli_main(py: Python<'_>, argv: Vec<OsString>) -> u8 {
    py.detach(|| vexact_cli::run(argv))
}
