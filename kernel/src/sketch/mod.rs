//! Sketches: compact copies of vectors with a certified error for each row, so that an exact search
//! reads fewer bytes.
//!
//! A sketch holds the direction of each vector, x/‖x‖, as small integers, and upper bounds of what
//! they leave out. A search computes an interval for each row's score from them and reads only the
//! vectors whose best case still counts. Two forms:
//!
//! - `pca4`: digits of 4 bits along the leading principal components; a component of large variance
//!   has several digits. What they leave out is bounded twice, inside the span of the components
//!   and outside of it.
//! - `i8`: one byte for each stored component, for data without structure.
//!
//! A sketch is derived: never the truth, rebuilt at will. Its bounds are proved in
//! `docs/internals/exactness.md` from the stored numbers alone; how well its basis was trained
//! decides only how many vectors are read.

mod basis;
pub(crate) mod bound;
mod bytes;
mod eigen;
mod encode;
mod filter;
mod rows;
mod serve;
mod slots;
mod train;

use std::sync::Arc;

pub use basis::SketchBasis;
pub use filter::{SketchFilter, SketchedRow};
pub use train::Training;

use slots::DIGITS_MAX;

use crate::arch::codes::Codes;
use crate::column::VectorColumn;
use crate::error::{KernelError, Result};

/// The codes, residual norms and norms of one chunk's rows. Made by [`SketchBasis::encode`].
#[derive(Debug, Clone, PartialEq)]
pub struct Sketch {
    basis: Arc<SketchBasis>,
    rows: usize,
    codes: Vec<u8>,
    residuals: Vec<u32>,
    norms: Vec<f32>,
}

impl Sketch {
    /// The basis that the rows are coded in.
    pub fn basis(&self) -> &Arc<SketchBasis> {
        &self.basis
    }

    /// Rows, NULL ones included.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Memory of the codes and norms.
    pub fn size_bytes(&self) -> usize {
        self.codes.len() + size_of_val(&*self.residuals) + size_of_val(&*self.norms)
    }

    /// Encodes the rows of a column after those that the sketch has.
    ///
    /// # Errors
    /// [`KernelError::SketchMismatch`] for a column of another dim.
    pub fn append(&mut self, column: &VectorColumn<'_>) -> Result<()> {
        let expected = format!("vectors of {} components", self.basis.dim);
        if column.dim() != self.basis.dim {
            return Err(KernelError::SketchMismatch { expected, got: format!("{} components", column.dim()) });
        }
        encode::append(self, column);
        Ok(())
    }

    pub(crate) fn codes(&self) -> Codes<'_> {
        Codes::new(&self.codes, self.basis.stride, self.rows)
    }

    pub(crate) fn residuals(&self) -> &[u32] {
        &self.residuals
    }

    pub(crate) fn norms(&self) -> &[f32] {
        &self.norms
    }
}

impl SketchBasis {
    /// Encodes the rows of a column. Rows that no bound can judge (NULL, zero, non-finite or
    /// extreme ones) are marked, and a search computes them.
    ///
    /// # Errors
    /// [`KernelError::SketchMismatch`] for a column of another dim.
    pub fn encode(self: &Arc<Self>, column: &VectorColumn<'_>) -> Result<Sketch> {
        let mut sketch = self.sketch_with_capacity(column.len());
        sketch.append(column)?;
        Ok(sketch)
    }

    /// A sketch without rows, with room for so many, to which rows are [appended](Sketch::append).
    pub fn sketch_with_capacity(self: &Arc<Self>, rows: usize) -> Sketch {
        let mut codes = Vec::with_capacity(self.code_bytes(rows));
        codes.resize(self.code_bytes(0), 0);
        let (residuals, norms) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        Sketch { basis: Arc::clone(self), rows: 0, codes, residuals, norms }
    }
}

#[cfg(test)]
mod tests;
