//! How the vectors of one table are coded: the directions, their digits, and the constants of the
//! bounds.

use crate::arch::codes::{CODE_PADDING, Cells, CodeForm, CodeKernels};
use crate::tier::{Tier, U};

/// One coded direction. A coordinate `p` has the code `v = ⌊(p − centre)/step + 16^digits/2⌋`,
/// clamped, which stands for `centre + step·(v + ½ − 16^digits/2)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Component {
    pub centre: f32,
    /// Width of a cell of the last digit.
    pub step: f32,
    /// Factor of this coordinate in the stored residual norm; the query's part of the bound is
    /// divided by it.
    pub weight: f32,
    /// Digits of 4 bits. Two of them are one byte where the form is bytes.
    pub digits: u8,
}

impl Component {
    fn levels(self) -> f64 {
        (1_u64 << (4 * self.digits)) as f64
    }

    /// The code of a coordinate and the coordinate that it stands for.
    pub fn code(self, p: f64) -> (u32, f64) {
        let (centre, step, half) = (f64::from(self.centre), f64::from(self.step), self.levels() / 2.0);
        let cell = ((p - centre) / step + half).clamp(0.0, 2.0 * half - 0.5) as u32;
        (cell, centre + step * (f64::from(cell) + 0.5 - half))
    }

    /// The largest magnitude that a code stands for.
    fn largest(self) -> f64 {
        f64::from(self.centre).abs() + f64::from(self.step) * self.levels() / 2.0
    }
}

/// Facts of a basis without a query: the certified errors of its arithmetic, computed from
/// the stored numbers themselves, so that they hold however the basis was trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Certificate {
    /// At least `‖BᵀB − I‖`.
    pub gram_error: f64,
    /// At least the error of one computed coordinate of a unit vector.
    pub projection_error: f64,
    /// At least the norm of any coded vector of coordinates.
    pub magnitude: f64,
    /// The norm of the weights, and the largest.
    pub weight_norm: f64,
    pub weight_max: f64,
    /// The weighted norm of the residual of a typical row: an estimate, on which no bound depends.
    pub typical: f64,
}

/// Rows that a query leaves, for each of the k best: so many of the sample's, and more by a power
/// of the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Left {
    pub of_sample: f64,
    pub sample_rows: f64,
    pub growth: f64,
}

impl Left {
    /// Before it is measured.
    pub const UNKNOWN: Left = Left { of_sample: f64::INFINITY, sample_rows: 1.0, growth: 0.0 };

    fn at(self, rows: usize) -> f64 {
        self.of_sample * (rows as f64 / self.sample_rows).max(1.0).powf(self.growth)
    }
}

/// Terms of a sum in `f32` when vectors are encoded; such sums are added in `f64`.
pub(crate) const SLICE: usize = 192;

/// The coded directions of one table's vectors, shared by the [sketches](super::Sketch) of its
/// chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct SketchBasis {
    pub(crate) dim: usize,
    pub(crate) form: CodeForm,
    /// `dim` lines of one number a component; empty where the components are the stored ones.
    pub(crate) matrix: Vec<f32>,
    pub(crate) components: Vec<Component>,
    /// The components as arrays.
    cells: Cells,
    /// Bytes of a row's codes.
    pub(crate) stride: usize,
    pub(crate) certificate: Certificate,
    pub(crate) left: Left,
}

/// Largest `‖BᵀB − I‖` for which the bounds are proved; rounding to `f32` makes it about 1e-6.
const GRAM_ERROR_MAX: f64 = 0.01;

/// Strides are multiples of it, so that no instruction set reads a part of a register.
pub(crate) const STRIDE_UNIT: usize = 32;

impl SketchBasis {
    /// Puts a basis together and computes its certificate.
    pub(crate) fn assemble(
        dim: usize,
        form: CodeForm,
        matrix: Vec<f32>,
        components: Vec<Component>,
        left: Left,
    ) -> Self {
        let digits: usize = components.iter().map(|component| usize::from(component.digits)).sum();
        let stride = digits.div_ceil(2).next_multiple_of(STRIDE_UNIT);
        let gram_error = if matrix.is_empty() { 0.0 } else { gram_error(&matrix, components.len()) };
        let squares = |f: &dyn Fn(Component) -> f64| components.iter().map(|c| f(*c).powi(2)).sum::<f64>().sqrt();
        // γ of a slice, u for rounding the vector to `f32`, as in the notes on bounds.
        let sum_error = 1.02 * (SLICE as f64 + 2.0) * U / (1.0 - (SLICE as f64 + 2.0) * U);
        let projection_error = match () {
            () if matrix.is_empty() => 1e-12,
            // The proof needs directions that are nearly orthonormal; without that, nothing is
            // certain of any row.
            () if gram_error.is_nan() || gram_error > GRAM_ERROR_MAX => f64::INFINITY,
            () => (sum_error + 2.0 * U) * (1.0 + gram_error),
        };
        let certificate = Certificate {
            gram_error,
            projection_error,
            magnitude: squares(&Component::largest) * 1.000_001,
            weight_norm: squares(&|c| f64::from(c.weight)) * 1.000_001,
            typical: squares(&|c| f64::from(c.weight) * f64::from(c.step)) / 12.0_f64.sqrt(),
            weight_max: components.iter().map(|c| f64::from(c.weight)).fold(0.0, f64::max),
        };
        let array = |f: &dyn Fn(&Component) -> f64| components.iter().map(f).collect();
        let cells = Cells {
            centre: array(&|c| c.centre.into()),
            step: array(&|c| c.step.into()),
            inverse: array(&|c| 1.0 / f64::from(c.step)),
            half: array(&|c| c.levels() / 2.0),
            weight: array(&|c| c.weight.into()),
        };
        Self { dim, form, matrix, components, cells, stride, certificate, left }
    }

    /// Components of a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// [`Tier::Pca4`] or [`Tier::I8`].
    pub fn tier(&self) -> Tier {
        match self.form {
            CodeForm::Nibbles => Tier::Pca4,
            CodeForm::Bytes => Tier::I8,
        }
    }

    pub(crate) fn form(&self) -> CodeForm {
        self.form
    }

    /// Directions that are coded.
    pub fn components(&self) -> usize {
        self.components.len()
    }

    /// Bytes of a row in a sketch, without its norm, which only `dot` and `l2` read.
    pub fn row_bytes(&self) -> usize {
        self.stride + size_of::<u32>()
    }

    /// Memory of the basis.
    pub fn size_bytes(&self) -> usize {
        size_of_val(&*self.matrix) + size_of_val(&*self.components)
    }

    /// Rows that are expected to be left to compute in a search of so many rows, for each of the k
    /// best: measured on the training sample, and extrapolated.
    pub fn rows_left(&self, rows: usize) -> f64 {
        self.left.at(rows)
    }

    /// Upper bounds of the weighted norm of the residual inside the span of the components, and of
    /// the norm of the tail, for computed coordinates `p` of a unit vector. Writes the codes, by
    /// way of `cells`. The proof stands in `docs/internals/exactness.md`.
    pub(crate) fn code(&self, kernels: &CodeKernels, p: &[f64], cells: &mut [u32], codes: &mut [u8]) -> (f64, f64) {
        let Certificate { gram_error: eps, projection_error, weight_norm, weight_max, .. } = self.certificate;
        let (weighted, square) = kernels.quantize(&self.cells, p, cells);
        match self.form {
            CodeForm::Bytes => {
                codes.fill(0);
                codes.iter_mut().zip(cells).for_each(|(code, cell)| *code = *cell as u8);
            }
            CodeForm::Nibbles => self.pack(cells, codes),
        }
        let inside = weighted.sqrt() * (1.0 + 1e-9) + weight_norm * projection_error + weight_max * 1.1 * eps;
        if self.matrix.is_empty() {
            return (inside, 0.0);
        }
        let count = self.components.len() as f64;
        let certain = (square.sqrt() * (1.0 - 1e-9) - count.sqrt() * projection_error).max(0.0);
        let tail = (1.0 + 1e-9 - certain * certain / (1.0 + eps)).max(0.0).sqrt() * (1.0 + 1e-9);
        (inside, tail)
    }

    fn pack(&self, cells: &[u32], codes: &mut [u8]) {
        let mut digits = self.components.iter().zip(cells).flat_map(|(component, &cell)| {
            (0..component.digits).rev().map(move |digit| ((cell >> (4 * digit)) & 15) as u8)
        });
        codes.iter_mut().for_each(|code| *code = digits.next().unwrap_or(0));
        codes.iter_mut().zip(digits).for_each(|(code, digit)| *code |= digit << 4);
    }

    /// For each code in the order of the [weights](crate::arch::codes::CodeWeights): its component,
    /// and the factor of its digit.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.components.iter().enumerate().flat_map(|(i, component)| {
            let digits = match self.form {
                CodeForm::Bytes => 1,
                CodeForm::Nibbles => component.digits,
            };
            (0..digits).rev().map(move |digit| (i, f64::from(component.step) * (1_u64 << (4 * digit)) as f64))
        })
    }

    /// Bytes that the codes of so many rows take, padding included.
    pub(crate) fn code_bytes(&self, rows: usize) -> usize {
        rows * self.stride + CODE_PADDING
    }
}

/// An upper bound of `‖BᵀB − I‖` by its Frobenius norm, for a matrix of lines of `width`.
fn gram_error(matrix: &[f32], width: usize) -> f64 {
    let mut gram = vec![0.0_f64; width * width];
    // In `f64` throughout: the error to find is that of rounding to `f32`.
    for line in matrix.chunks_exact(width) {
        for (i, &x) in line.iter().enumerate() {
            let x = f64::from(x);
            for (out, &y) in gram[i * width..][i..width].iter_mut().zip(&line[i..]) {
                *out += x * f64::from(y);
            }
        }
    }
    let mut square = 0.0;
    for i in 0..width {
        square += (gram[i * width + i] - 1.0).powi(2);
        square += 2.0 * gram[i * width + i + 1..(i + 1) * width].iter().map(|x| x * x).sum::<f64>();
    }
    square.sqrt() * 1.000_001 + width as f64 * 1e-12
}
