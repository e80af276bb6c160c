//! Reads several files of the same columns as one, one after the other.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use vexact_core::error::Result;

use super::input::Input;
use super::scan::{Batches, Records, check_columns};

/// Reads the files as one; a single file is returned unchanged.
///
/// # Errors
/// Other columns than those of the first.
pub(super) fn one_after_the_other(inputs: &[Input], files: Vec<Arc<dyn Records>>) -> Result<Arc<dyn Records>> {
    if let [one] = files.as_slice() {
        return Ok(Arc::clone(one));
    }
    for (input, file) in inputs.iter().zip(&files).skip(1) {
        check_columns(input.path(), files[0].schema(), file.schema())?;
    }
    Ok(Arc::new(Many(files)))
}

#[derive(Debug)]
struct Many(Vec<Arc<dyn Records>>);

impl Records for Many {
    fn schema(&self) -> &SchemaRef {
        self.0[0].schema()
    }

    fn read(&self, columns: &[usize], batch_rows: usize) -> Result<Batches> {
        let (files, columns) = (self.0.clone(), columns.to_vec());
        Ok(Box::new(files.into_iter().flat_map(move |file| -> Batches {
            match file.read(&columns, batch_rows) {
                Ok(batches) => batches,
                Err(error) => Box::new(std::iter::once(Err(error))),
            }
        })))
    }
}
