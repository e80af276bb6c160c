//! The parts that need no intrinsics: plain loops, compiled once for each instruction set.
//!
//! None of them is `unsafe`; they are inlined into functions that enable the instruction set.

use super::{Cells, CodeLimits, residuals};

#[inline(always)]
pub(super) fn values(sums: &[i32], words: &[u32], norms: Option<&[f32]>, limits: &CodeLimits, out: &mut [f32]) {
    let CodeLimits { base, delta, inside, tail, square, .. } = *limits;
    for ((&sum, &word), out) in sums.iter().zip(words).zip(out.iter_mut()) {
        let (i, t) = residuals(word);
        *out = base + delta * sum as f32 + (inside * i + tail * t);
    }
    if let Some(norms) = norms {
        for (&norm, out) in norms.iter().zip(out) {
            *out = norm * (*out + square * norm);
        }
    }
}

/// Values tested together: nearly always none of them survives.
const GROUP: usize = 32;

/// `first` is the ordinal of the first value.
#[inline(always)]
pub(super) fn survivors(values: &[f32], first: usize, limit: f32, out: &mut Vec<u32>) {
    for (group, values) in values.chunks(GROUP).enumerate() {
        // A comparison with NaN is false, so NaN survives.
        let rejected = values.iter().fold(0, |count, value| count + u32::from(*value < limit));
        if rejected as usize == values.len() {
            continue;
        }
        for (i, value) in values.iter().enumerate() {
            if value.partial_cmp(&limit).is_none_or(|order| order.is_ge()) {
                out.push((first + group * GROUP + i) as u32);
            }
        }
    }
}

#[inline(always)]
pub(super) fn add_product(matrix: &[f32], x: &[f64], out: &mut [f64]) {
    let width = out.len();
    let (fours, rest) = (x.len() / 4 * 4, x.len() % 4);
    for i in (0..fours).step_by(4) {
        let lines = &matrix[i * width..][..4 * width];
        let (a, lines) = lines.split_at(width);
        let (b, lines) = lines.split_at(width);
        let (c, d) = lines.split_at(width);
        for ((((out, &a), &b), &c), &d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *out +=
                (x[i] * f64::from(a) + x[i + 1] * f64::from(b)) + (x[i + 2] * f64::from(c) + x[i + 3] * f64::from(d));
        }
    }
    for i in fours..fours + rest {
        for (out, &line) in out.iter_mut().zip(&matrix[i * width..][..width]) {
            *out += x[i] * f64::from(line);
        }
    }
}

#[inline(always)]
pub(super) fn add_outer(rows: &[f32], dim: usize, out: &mut [f64]) {
    if rows.len() == 8 * dim {
        for i in 0..dim {
            let x: [f32; 8] = std::array::from_fn(|r| rows[r * dim + i]);
            let lines: [&[f32]; 8] = std::array::from_fn(|r| &rows[r * dim..][i..dim]);
            let out = &mut out[i * dim..][i..dim];
            for j in 0..dim - i {
                let low = (x[0] * lines[0][j] + x[1] * lines[1][j]) + (x[2] * lines[2][j] + x[3] * lines[3][j]);
                let high = (x[4] * lines[4][j] + x[5] * lines[5][j]) + (x[6] * lines[6][j] + x[7] * lines[7][j]);
                out[j] += f64::from(low + high);
            }
        }
        return;
    }
    for row in rows.chunks_exact(dim) {
        for i in 0..dim {
            for (out, &x) in out[i * dim..][i..dim].iter_mut().zip(&row[i..]) {
                *out += f64::from(row[i] * x);
            }
        }
    }
}

/// Lanes of a sum in `f64`.
const LANES: usize = 8;

/// The cell of a coordinate, and the weighted error of what the cell stands for.
#[inline(always)]
fn cell(p: f64, centre: f64, step: f64, inverse: f64, half: f64, weight: f64) -> (i32, f64) {
    let cell = ((p - centre) * inverse + half).max(0.0).min(2.0 * half - 0.5) as i32;
    (cell, weight * (p - (centre + step * (f64::from(cell) + 0.5 - half))))
}

#[inline(always)]
pub(super) fn quantize(cells: &Cells, p: &[f64], out: &mut [u32]) -> (f64, f64) {
    let (mut errors, mut squares) = ([0.0; LANES], [0.0; LANES]);
    let Cells { centre, step, inverse, half, weight } = cells;
    let count = p.len();
    let (centre, step, inverse) = (&centre[..count], &step[..count], &inverse[..count]);
    let (half, weight, out) = (&half[..count], &weight[..count], &mut out[..count]);
    let mut first = 0;
    while first + LANES <= count {
        for lane in 0..LANES {
            let i = first + lane;
            let (cell, error) = cell(p[i], centre[i], step[i], inverse[i], half[i], weight[i]);
            out[i] = cell as u32;
            errors[lane] += error * error;
            squares[lane] += p[i] * p[i];
        }
        first += LANES;
    }
    for i in first..count {
        let (cell, error) = cell(p[i], centre[i], step[i], inverse[i], half[i], weight[i]);
        out[i] = cell as u32;
        errors[0] += error * error;
        squares[0] += p[i] * p[i];
    }
    (errors.iter().sum(), squares.iter().sum())
}
