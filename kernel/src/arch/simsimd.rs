//! simsimd's pairwise kernels: one row and one query a call, the instruction set chosen by the
//! library at run time. `benches/kernel.rs` compares them with our multi-row kernels.

use simsimd::SpatialSimilarity;

use super::{Backend, Kernels, Rows, portable};

pub(super) static KERNELS: Kernels = Kernels {
    backend: Backend::Simsimd,
    dot_and_square,
    l2_squared,
    // simsimd has no sum of absolute differences.
    l1: portable::l1,
    // A pairwise library has no matrix product.
    tile: portable::tile,
    survivors: portable::survivors,
    panel_widths: &[8],
    tile_rows: 4,
};

fn row<'a>(rows: &Rows<'a>, id: u32) -> &'a [f32] {
    &rows.data[id as usize * rows.dim..][..rows.dim]
}

/// simsimd's answer, or NaN, which rejects nothing: the caller computes the row exactly.
fn known(distance: Option<f64>) -> f32 {
    distance.map_or(f32::NAN, |x| x as f32)
}

fn dot_and_square(rows: Rows<'_>, query: &[f32], dots: &mut [f32], squares: &mut [f32]) {
    let query = &query[..rows.dim];
    for ((&id, dot), square) in rows.rows.iter().zip(dots).zip(squares) {
        let x = row(&rows, id);
        *dot = known(f32::dot(x, query));
        *square = known(f32::dot(x, x));
    }
}

fn l2_squared(rows: Rows<'_>, query: &[f32], out: &mut [f32]) {
    let query = &query[..rows.dim];
    for (&id, out) in rows.rows.iter().zip(out) {
        *out = known(f32::l2sq(row(&rows, id), query));
    }
}
