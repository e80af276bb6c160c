//! Encoding: the coordinates of each row's direction as a blocked matrix product, then its codes
//! and residual norms.

use rayon::prelude::*;

use super::Sketch;
use super::basis::{SLICE, SketchBasis};
use crate::arch::codes::CodeKernels;
use crate::arch::{Kernels, Panel, Rows};
use crate::column::VectorColumn;
use crate::pool;
use crate::tier::{SQUARE_MAX, SQUARE_MIN};

/// Rows that are encoded together: whole tiles of every instruction set.
const BLOCK: usize = 168;

/// The word of a row that cannot be judged: both residual norms infinite.
const UNKNOWN: u32 = f32::INFINITY.to_bits() | (f32::INFINITY.to_bits() >> 16);

/// The basis as panels of a matrix product: for each slice of the dimensions, the panels of its
/// lines.
pub(super) struct Projection<'b> {
    basis: &'b SketchBasis,
    kernels: &'static Kernels,
    codes: &'static CodeKernels,
    width: usize,
    /// `panels[slice][panel]`: [`SLICE`] lines of `width` numbers.
    panels: Vec<Vec<Vec<f32>>>,
}

impl<'b> Projection<'b> {
    pub fn new(basis: &'b SketchBasis, kernels: &'static Kernels) -> Self {
        let width = kernels.panel_widths[0];
        let count = basis.components.len();
        let panel = |slice: usize, first: usize| {
            let mut panel = vec![0.0; SLICE * width];
            let lanes = first..count.min(first + width);
            for (i, line) in panel.chunks_exact_mut(width).enumerate() {
                if let Some(row) = basis.matrix.get((slice * SLICE + i) * count..).filter(|row| !row.is_empty()) {
                    line[..lanes.len()].copy_from_slice(&row[lanes.clone()]);
                }
            }
            panel
        };
        let slices = if basis.matrix.is_empty() { 0 } else { basis.dim.div_ceil(SLICE) };
        let panels =
            (0..slices).map(|slice| (0..count).step_by(width).map(|first| panel(slice, first)).collect()).collect();
        Self { basis, kernels, codes: CodeKernels::of(kernels.backend), width, panels }
    }

    /// Calls `row` with the coordinates of each direction.
    pub fn for_each_row(&self, directions: &[f32], mut row: impl FnMut(&[f64])) {
        let mut scratch = Scratch::default();
        for block in directions.chunks(BLOCK * self.basis.dim) {
            let wide: Vec<f64> = block.iter().map(|x| f64::from(*x)).collect();
            self.project(&wide, &mut scratch);
            scratch.coordinates.chunks_exact(self.basis.components.len()).for_each(&mut row);
        }
    }

    /// The coordinates of directions, one row of them after the other.
    fn project(&self, directions: &[f64], scratch: &mut Scratch) {
        let (dim, count) = (self.basis.dim, self.basis.components.len());
        let rows = directions.len() / dim;
        scratch.coordinates.clear();
        if self.panels.is_empty() {
            scratch.coordinates.extend_from_slice(directions);
            return;
        }
        scratch.coordinates.resize(rows * count, 0.0);
        scratch.slice.resize(rows * SLICE, 0.0);
        scratch.tile.resize(rows * self.width, 0.0);
        let ids: Vec<u32> = (0..rows as u32).collect();
        for (slice, panels) in self.panels.iter().enumerate() {
            let range = slice * SLICE..dim.min((slice + 1) * SLICE);
            for (out, direction) in scratch.slice.chunks_exact_mut(SLICE).zip(directions.chunks_exact(dim)) {
                out[range.len()..].fill(0.0);
                out.iter_mut().zip(&direction[range.clone()]).for_each(|(out, x)| *out = *x as f32);
            }
            for (panel, first) in panels.iter().zip((0..count).step_by(self.width)) {
                let data = Rows::new(&scratch.slice, SLICE, &ids);
                self.kernels.tile(data, Panel { components: panel, width: self.width }, &mut scratch.tile);
                let lanes = self.width.min(count - first);
                for (out, tile) in
                    scratch.coordinates.chunks_exact_mut(count).zip(scratch.tile.chunks_exact(self.width))
                {
                    out[first..first + lanes].iter_mut().zip(tile).for_each(|(out, x)| *out += f64::from(*x));
                }
            }
        }
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    cells: Vec<u32>,
    directions: Vec<f64>,
    slice: Vec<f32>,
    tile: Vec<f32>,
    coordinates: Vec<f64>,
}

/// The nearest upper half of an `f32` that is not below `x`.
fn half_above(x: f64) -> u32 {
    if !x.is_finite() {
        return f32::INFINITY.to_bits() >> 16;
    }
    let bits = (x as f32).next_up().to_bits();
    (bits.wrapping_add(0xFFFF)) >> 16
}

/// Where one block of rows is written.
struct Slots<'s> {
    codes: &'s mut [u8],
    residuals: &'s mut [u32],
    norms: &'s mut [f32],
}

/// Scales a row to unit length; its norm, or `None` where the bounds do not hold for it.
pub(super) fn normalize(row: &mut [f64]) -> Option<f64> {
    let mut lanes = [0.0; 8];
    let (groups, rest) = row.as_chunks::<8>();
    for group in groups {
        lanes.iter_mut().zip(group).for_each(|(lane, x)| *lane += x * x);
    }
    let square = lanes.iter().sum::<f64>() + rest.iter().map(|x| x * x).sum::<f64>();
    let is_ordinary = (f64::from(SQUARE_MIN)..=f64::from(SQUARE_MAX)).contains(&square);
    is_ordinary.then(|| {
        let norm = square.sqrt();
        let inverse = 1.0 / norm;
        row.iter_mut().for_each(|x| *x *= inverse);
        norm
    })
}

fn encode_block(
    projection: &Projection<'_>,
    column: &VectorColumn<'_>,
    first: usize,
    slots: Slots<'_>,
    scratch: &mut Scratch,
) {
    let basis = projection.basis;
    let rows = slots.residuals.len();
    let mut directions = std::mem::take(&mut scratch.directions);
    directions.resize(rows * basis.dim, 0.0);
    for (i, direction) in directions.chunks_exact_mut(basis.dim).enumerate() {
        let is_valid = column.valid().is_none_or(|valid| valid.value(first + i));
        let norm = if is_valid {
            column.widen(first + i, direction);
            normalize(direction)
        } else {
            None
        };
        if norm.is_none() {
            direction.fill(0.0);
            slots.residuals[i] = UNKNOWN;
        }
        slots.norms[i] = norm.unwrap_or(1.0) as f32;
    }
    projection.project(&directions, scratch);
    scratch.directions = directions;
    scratch.cells.resize(basis.components.len(), 0);
    let coordinates = scratch.coordinates.chunks_exact(basis.components.len());
    let codes = slots.codes.chunks_exact_mut(basis.stride);
    for ((word, p), codes) in slots.residuals.iter_mut().zip(coordinates).zip(codes) {
        let (inside, tail) = basis.code(projection.codes, p, &mut scratch.cells, codes);
        if *word != UNKNOWN {
            *word = (half_above(inside) << 16) | half_above(tail);
        }
    }
}

pub(super) fn append(sketch: &mut Sketch, column: &VectorColumn<'_>) {
    let basis = sketch.basis.clone();
    let (old, rows) = (sketch.rows, sketch.rows + column.len());
    sketch.codes.resize(basis.code_bytes(rows), 0);
    sketch.residuals.resize(rows, 0);
    sketch.norms.resize(rows, 0.0);
    sketch.rows = rows;
    let projection = Projection::new(&basis, Kernels::fastest());
    let codes = &mut sketch.codes[old * basis.stride..rows * basis.stride];
    let blocks = codes
        .par_chunks_mut(BLOCK * basis.stride)
        .zip(sketch.residuals[old..].par_chunks_mut(BLOCK))
        .zip(sketch.norms[old..].par_chunks_mut(BLOCK))
        .enumerate();
    pool::in_pool(|| {
        blocks.for_each_init(Scratch::default, |scratch, (block, ((codes, residuals), norms))| {
            encode_block(&projection, column, block * BLOCK, Slots { codes, residuals, norms }, scratch);
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_up() {
        for x in [0.0, 1e-30, 0.1, 0.999, 1.0, 1.5, 3e38, 1e300, f64::INFINITY, f64::NAN] {
            let up = f64::from(f32::from_bits(half_above(x) << 16));
            assert!(up >= x || x.is_nan() && up == f64::INFINITY, "{x} {up}");
            assert!(up <= x * 1.01 + 1e-38 || up == f64::INFINITY, "{x} {up}");
        }
        assert_eq!(crate::arch::codes::residuals(UNKNOWN), (f32::INFINITY, f32::INFINITY));
    }
}
