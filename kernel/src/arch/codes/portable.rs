//! Plain Rust.

use super::{Cells, CodeKernels, CodeLimits, CodeWeights, Codes, generic};

pub(super) static KERNELS: CodeKernels = CodeKernels {
    name: "portable",
    nibbles,
    bytes,
    tile: None,
    untiled_queries: 1,
    values,
    survivors,
    add_product,
    add_outer,
    quantize,
};

fn nibbles(codes: Codes<'_>, weights: &CodeWeights, ids: &[u32], out: &mut [i32]) {
    for (&id, out) in ids.iter().zip(out) {
        let row = &codes.bytes[id as usize * codes.stride..][..codes.stride];
        *out = row.iter().zip(&weights.even).zip(&weights.odd).fold(0, |sum, ((&code, &even), &odd)| {
            sum + i32::from(code & 15) * i32::from(even) + i32::from(code >> 4) * i32::from(odd)
        });
    }
}

fn bytes(codes: Codes<'_>, weights: &CodeWeights, ids: &[u32], out: &mut [i32]) {
    for (&id, out) in ids.iter().zip(out) {
        let row = &codes.bytes[id as usize * codes.stride..][..codes.stride];
        *out = row.iter().zip(&weights.even).fold(0, |sum, (&code, &even)| sum + i32::from(code) * i32::from(even));
    }
}

fn values(sums: &[i32], words: &[u32], norms: Option<&[f32]>, limits: &CodeLimits, out: &mut [f32]) {
    generic::values(sums, words, norms, limits, out);
}

fn survivors(values: &[f32], limit: f32, out: &mut Vec<u32>) {
    generic::survivors(values, 0, limit, out);
}

fn add_product(matrix: &[f32], x: &[f64], out: &mut [f64]) {
    generic::add_product(matrix, x, out);
}

fn add_outer(rows: &[f32], dim: usize, out: &mut [f64]) {
    generic::add_outer(rows, dim, out);
}

fn quantize(cells: &Cells, p: &[f64], out: &mut [u32]) -> (f64, f64) {
    generic::quantize(cells, p, out)
}
