//! Sketches of chunks in memory, by which an exact search reads up to 15 times fewer bytes.
//!
//! A table has one basis for each vector column and form, in [`TableSketches`]. Each batch has its
//! codes in [`BatchSketches`], which all versions of a table share that have the batch. Both are
//! derived and optional: a search reads the vectors of the batches that have no sketch.
//!
//! A sketch is built in the background once searches of the column have read as many bytes as
//! building it costs ([`cost`]), so that the total is never more than twice the best in hindsight.
//! Nothing here blocks a query: a query that finds a lock taken goes on without a sketch.

mod batch;
mod build;
mod chunks;
mod cost;
pub mod files;
mod memory;
mod table;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use vexact_kernel::{ChunkedColumn, Sketch, VectorColumn};

use crate::exec::external;

pub use batch::BatchSketches;
pub use memory::SketchPool;
pub use table::TableSketches;

/// The sketches of one state of a table: one set for each batch, and what the batches share.
#[derive(Debug, Default)]
pub(crate) struct Sketches {
    pub table: Arc<TableSketches>,
    pub batches: Vec<Arc<BatchSketches>>,
}

impl Sketches {
    /// No sketches yet, of so many batches.
    pub fn empty(batches: usize) -> Self {
        Self { table: Arc::default(), batches: std::iter::repeat_with(Arc::default).take(batches).collect() }
    }
}

/// Returns true if sketches are made of columns of a type.
fn can_be_sketched(data_type: &DataType) -> bool {
    matches!(data_type, DataType::FixedSizeList(item, dim) if item.data_type().is_floating() && *dim > 0)
}

/// Bytes of the vectors of an array.
fn vector_bytes(array: &dyn Array) -> u64 {
    match array.data_type() {
        DataType::FixedSizeList(item, dim) => {
            let element = item.data_type().primitive_width().unwrap_or(0);
            array.len() as u64 * *dim as u64 * element as u64
        }
        _ => 0,
    }
}

/// Arrays of vectors as one column, each with its sketch if it has one.
pub(crate) fn column_of<'a>(arrays: &'a [ArrayRef], sketches: &'a [Option<Arc<Sketch>>]) -> Result<ChunkedColumn<'a>> {
    let column = |(ordinal, array): (usize, &'a ArrayRef)| {
        let column = VectorColumn::try_new(array)?;
        match sketches.get(ordinal) {
            Some(Some(sketch)) => column.with_sketch(sketch),
            _ => Ok(column),
        }
    };
    let columns = arrays.iter().enumerate().map(column).collect::<Result<_, _>>().map_err(external)?;
    ChunkedColumn::try_new(columns).map_err(external)
}
