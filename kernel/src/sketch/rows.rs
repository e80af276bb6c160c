//! Sketches row by row, as a column of a file stores them: the codes of a row, its residual norms
//! and its norm, each little-endian. A row says nothing without its basis.

use std::sync::Arc;

use super::{Sketch, SketchBasis};
use crate::arch::codes::CODE_PADDING;
use crate::error::{KernelError, Result};

/// Bytes of a row after its codes.
const NORM_BYTES: usize = size_of::<u32>() + size_of::<f32>();

impl SketchBasis {
    /// Bytes of a row in [`Sketch::to_rows`].
    pub fn stored_row_bytes(&self) -> usize {
        self.stride + NORM_BYTES
    }
}

impl Sketch {
    /// The rows one after the other, each of [`SketchBasis::stored_row_bytes`].
    pub fn to_rows(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.rows * self.basis.stored_row_bytes());
        let codes = self.codes.chunks_exact(self.basis.stride);
        for ((codes, word), norm) in codes.zip(&self.residuals).zip(&self.norms) {
            bytes.extend_from_slice(codes);
            bytes.extend_from_slice(&word.to_le_bytes());
            bytes.extend_from_slice(&norm.to_le_bytes());
        }
        bytes
    }

    /// The sketch that [`Self::to_rows`] wrote. Damage is not detected: who stores rows stores a
    /// [checksum](SketchBasis::checksum) beside them.
    ///
    /// # Errors
    /// [`KernelError::UnreadableSketch`] for bytes that are not whole rows.
    pub fn from_rows(basis: &Arc<SketchBasis>, bytes: &[u8]) -> Result<Self> {
        let size = basis.stored_row_bytes();
        if !bytes.len().is_multiple_of(size) {
            let (expected, got) = (format!("rows of {size} bytes"), format!("{} bytes", bytes.len()));
            return Err(KernelError::UnreadableSketch { expected, got });
        }
        let rows = bytes.len() / size;
        let mut codes = Vec::with_capacity(basis.code_bytes(rows));
        let (mut residuals, mut norms) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for row in bytes.chunks_exact(size) {
            let (own, rest) = row.split_at(basis.stride);
            codes.extend_from_slice(own);
            if let Some((word, rest)) = rest.split_first_chunk::<4>()
                && let Some((norm, _)) = rest.split_first_chunk::<4>()
            {
                residuals.push(u32::from_le_bytes(*word));
                norms.push(f32::from_le_bytes(*norm));
            }
        }
        codes.resize(codes.len() + CODE_PADDING, 0);
        Ok(Self { basis: Arc::clone(basis), rows, codes, residuals, norms })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;
    use crate::column::{ChunkedColumn, VectorColumn};
    use crate::tier::Tier;

    #[test]
    fn rows_give_back_the_sketch() {
        let floats = rows(0, 300, 40);
        let column = VectorColumn::of_floats(&floats, 40);
        for tier in [Tier::I8, Tier::Pca4] {
            let basis = SketchBasis::train(&ChunkedColumn::from(&column), tier).basis.unwrap();
            let sketch = basis.encode(&column).unwrap();
            let bytes = sketch.to_rows();
            assert_eq!(bytes.len(), 300 * basis.stored_row_bytes());
            assert_eq!(Sketch::from_rows(&basis, &bytes).unwrap(), sketch);
            let message = Sketch::from_rows(&basis, &bytes[1..]).unwrap_err().to_string();
            assert!(message.starts_with("unreadable sketch: expected rows of"), "{message}");
        }
    }
}
