//! The command line: the program `vexact` of the crate `vexact_cli`, in this process.

use std::ffi::OsString;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use pyo3::prelude::*;

use crate::convert;

/// Runs a command and returns the exit code. The arguments do not include the program's name.
/// Output goes to the process's own streams.
#[pyfunction]
pub fn cli_main(py: Python<'_>, argv: Vec<OsString>) -> u8 {
    vexact_cli::set_sheet_reader(read_sheet);
    py.detach(|| vexact_cli::run(argv))
}

/// Reads the first sheet of an Excel workbook through Python, or returns a description of the
/// error.
fn read_sheet(path: &Path) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
    let read = |py: Python<'_>| -> PyResult<_> {
        let table = py.import("vexact.excel")?.call_method1("sheet_table", (path.to_string_lossy(),))?;
        convert::batches(&table)
    };
    Python::attach(|py| read(py).map_err(|error| error.value(py).to_string()))
}
