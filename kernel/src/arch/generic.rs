//! The kernels, written once over [`Lanes`], in vectors of `N` floats.
//!
//! One query reads four rows at a time: four streams of memory are in flight, and each load of the
//! query serves four rows. [`dot_and_square`] is
//!
//! ```text
//! for each block of 4 rows x0..x3:                      # the last block repeats its last row
//!     dot[r], square[r] = 0                             # vectors of N partial sums
//!     for i in 0, N, 2N, .. while N components are left:
//!         q = load(query + i)
//!         for r in 0..4:
//!             prefetch(ahead[r] + i)                    # of this row or the next block
//!             x = load(xr + i)
//!             dot[r] = x * q + dot[r]
//!             square[r] = x * x + square[r]
//!     if components are left:                           # fewer than N
//!         the same once, with loads filled up with zeros
//!     dots[r], squares[r] = sum of the lanes of dot[r], square[r]
//! ```
//!
//! [`l2_squared`] is the same loop with one sum, `(x - q)²`, unrolled twice: vectors of even
//! ordinal are added to one accumulator of a row, those of odd ordinal to another, so that
//! additions do not wait for each other. [`l1`] is the loop with one sum, `|x - q|`.
//!
//! A query batch is an outer product, with the register blocking of a matrix product (Goto and van
//! de Geijn, "Anatomy of high-performance matrix multiplication", 2008). The panel holds the
//! queries transposed, one lane for each, and no horizontal sum is needed. [`tile`] is
//!
//! ```text
//! for each block of R rows:
//!     sums[R][C] = 0                                    # R * C registers, kept for all components
//!     for i in 0..dim:
//!         q[c] = load(panel[i] + c * N) for c in 0..C   # component i of C * N queries
//!         for r in 0..R:
//!             x = splat(row r, component i)
//!             sums[r][c] = x * q[c] + sums[r][c] for c in 0..C
//!     store sums[r] as row r of the output
//! ```
//!
//! [`survivors`] applies the rejection test of [`crate::tier::Limits`] to N cells of a tile at
//! once:
//!
//! ```text
//! for each row of the tile, with square s:
//!     for each vector v of its cells, with limits a, b, t:
//!         kept = bits of the lanes where not (v + a * sqrt(s) + b * s < t)    # NaN is kept
//!         push (row, lane) for each bit of kept
//! ```
#![allow(unsafe_code)]

use super::lanes::Lanes;
use super::{Panel, PanelLimits, Rows};

/// Prefetch distance, in floats.
const PREFETCH: usize = 256;

/// Base pointers to prefetch while a block is read, and the component at which they change (the
/// split). Up to the split they are the current rows, [`PREFETCH`] floats later; after it, the next
/// block's rows, which need not follow in memory. The position in the row is added to them.
#[inline(always)]
fn ahead<const R: usize>(rows: Rows<'_>, first: usize, own: [*const f32; R]) -> (usize, [[*const f32; R]; 2]) {
    let same = own.map(|row| row.wrapping_add(PREFETCH));
    let split = rows.dim.saturating_sub(PREFETCH);
    let blocks = if split > 0 { 1 } else { PREFETCH.div_ceil(rows.dim.max(1)) };
    let later = std::array::from_fn(|r| match rows.rows.get(first + blocks * R + r) {
        Some(id) => rows.data.as_ptr().wrapping_add(*id as usize * rows.dim).wrapping_sub(split),
        None => same[r],
    });
    (split, [same, later])
}

/// Blocks of `R` rows: (ordinal of the first row, number of rows, row pointers). The last row is
/// repeated to fill the last block.
#[inline(always)]
fn blocks<'a, const R: usize>(rows: Rows<'a>) -> impl Iterator<Item = (usize, usize, [*const f32; R])> + 'a {
    let base = rows.data.as_ptr();
    rows.rows.chunks(R).enumerate().map(move |(block, ids)| {
        // In bounds: `Rows::new` checked every id.
        let pointers = std::array::from_fn(|i| base.wrapping_add(ids[i.min(ids.len() - 1)] as usize * rows.dim));
        (block * R, ids.len(), pointers)
    })
}

/// Computes `x·q` and `x·x` of each row.
///
/// # Safety
/// The instruction set of `V`; `query` padded to a multiple of `V::N`; outputs as long as `rows`.
#[inline(always)]
pub(super) unsafe fn dot_and_square<V: Lanes>(rows: Rows<'_>, query: &[f32], dots: &mut [f32], squares: &mut [f32]) {
    let whole = rows.dim - rows.dim % V::N;
    let rest = rows.dim - whole;
    for (first, len, x) in blocks::<4>(rows) {
        // SAFETY: each pointer of `x` is followed by `dim` floats, `query` by as many and padding;
        // the caller has the instruction set.
        let (dot, square) = unsafe {
            let mut dot = [V::splat(0.0); 4];
            let mut square = [V::splat(0.0); 4];
            let mut i = 0;
            let (split, ahead) = ahead(rows, first, x);
            for (end, ahead) in [split.min(whole), whole].into_iter().zip(ahead) {
                while i < end {
                    let q = V::load(query.as_ptr().add(i));
                    for r in 0..4 {
                        V::prefetch(ahead[r].wrapping_add(i));
                        let x = V::load(x[r].add(i));
                        dot[r] = x.mul_add(q, dot[r]);
                        square[r] = x.mul_add(x, square[r]);
                    }
                    i += V::N;
                }
            }
            if rest > 0 {
                let q = V::load(query.as_ptr().add(whole));
                for r in 0..4 {
                    let x = V::load_first(x[r].add(whole), rest);
                    dot[r] = x.mul_add(q, dot[r]);
                    square[r] = x.mul_add(x, square[r]);
                }
            }
            (dot.map(|v| v.sum()), square.map(|v| v.sum()))
        };
        dots[first..first + len].copy_from_slice(&dot[..len]);
        squares[first..first + len].copy_from_slice(&square[..len]);
    }
}

/// Computes `Σ(x - q)²` of each row.
///
/// # Safety
/// As [`dot_and_square`].
#[inline(always)]
pub(super) unsafe fn l2_squared<V: Lanes>(rows: Rows<'_>, query: &[f32], out: &mut [f32]) {
    let whole = rows.dim - rows.dim % V::N;
    let rest = rows.dim - whole;
    for (first, len, x) in blocks::<4>(rows) {
        // SAFETY: as in `dot_and_square`.
        let sums = unsafe {
            let mut even = [V::splat(0.0); 4];
            let mut odd = [V::splat(0.0); 4];
            let mut i = 0;
            let (split, ahead) = ahead(rows, first, x);
            for (end, ahead) in [split.min(whole), whole].into_iter().zip(ahead) {
                while i + V::N < end {
                    let (q0, q1) = (V::load(query.as_ptr().add(i)), V::load(query.as_ptr().add(i + V::N)));
                    for r in 0..4 {
                        V::prefetch(ahead[r].wrapping_add(i));
                        V::prefetch(ahead[r].wrapping_add(i + V::N));
                        let (d0, d1) = (V::load(x[r].add(i)).sub(q0), V::load(x[r].add(i + V::N)).sub(q1));
                        even[r] = d0.mul_add(d0, even[r]);
                        odd[r] = d1.mul_add(d1, odd[r]);
                    }
                    i += 2 * V::N;
                }
            }
            if i < whole {
                let q = V::load(query.as_ptr().add(i));
                for r in 0..4 {
                    let d = V::load(x[r].add(i)).sub(q);
                    even[r] = d.mul_add(d, even[r]);
                }
            }
            if rest > 0 {
                let q = V::load(query.as_ptr().add(whole));
                for r in 0..4 {
                    let d = V::load_first(x[r].add(whole), rest).sub(q);
                    odd[r] = d.mul_add(d, odd[r]);
                }
            }
            std::array::from_fn::<f32, 4, _>(|r| even[r].sum() + odd[r].sum())
        };
        out[first..first + len].copy_from_slice(&sums[..len]);
    }
}

/// Computes `Σ|x - q|` of each row.
///
/// # Safety
/// As [`dot_and_square`].
#[inline(always)]
pub(super) unsafe fn l1<V: Lanes>(rows: Rows<'_>, query: &[f32], out: &mut [f32]) {
    let whole = rows.dim - rows.dim % V::N;
    let rest = rows.dim - whole;
    for (first, len, x) in blocks::<4>(rows) {
        // SAFETY: as in `dot_and_square`.
        let sums = unsafe {
            let one = V::splat(1.0);
            let mut sums = [V::splat(0.0); 4];
            let mut i = 0;
            let (split, ahead) = ahead(rows, first, x);
            for (end, ahead) in [split.min(whole), whole].into_iter().zip(ahead) {
                while i < end {
                    let q = V::load(query.as_ptr().add(i));
                    for r in 0..4 {
                        V::prefetch(ahead[r].wrapping_add(i));
                        let d = V::load(x[r].add(i)).sub(q);
                        sums[r] = d.abs().mul_add(one, sums[r]);
                    }
                    i += V::N;
                }
            }
            if rest > 0 {
                let q = V::load(query.as_ptr().add(whole));
                for r in 0..4 {
                    let d = V::load_first(x[r].add(whole), rest).sub(q);
                    sums[r] = d.abs().mul_add(one, sums[r]);
                }
            }
            sums.map(|v| v.sum())
        };
        out[first..first + len].copy_from_slice(&sums[..len]);
    }
}

/// Computes `x·q` of each row and each query of the panel, `R` rows by `C` registers of queries at
/// a time.
///
/// # Safety
/// The instruction set of `V`; `panel` is `dim` lines of `C * V::N` floats; `out` holds as many per
/// row.
#[inline(always)]
pub(super) unsafe fn tile<V: Lanes, const R: usize, const C: usize>(rows: Rows<'_>, panel: Panel<'_>, out: &mut [f32]) {
    let width = C * V::N;
    debug_assert!(panel.width == width);
    for (first, len, x) in blocks::<R>(rows) {
        // SAFETY: each pointer of `x` is followed by `dim` floats, the panel has `dim` lines of
        // `width`, and the rows `first..first + len` of `out` exist.
        unsafe {
            let mut sums = [[V::splat(0.0); C]; R];
            let mut line = panel.components.as_ptr();
            for i in 0..rows.dim {
                let mut q = [V::splat(0.0); C];
                for (c, q) in q.iter_mut().enumerate() {
                    *q = V::load(line.add(c * V::N));
                }
                for r in 0..R {
                    let x = V::splat(*x[r].add(i));
                    for c in 0..C {
                        sums[r][c] = x.mul_add(q[c], sums[r][c]);
                    }
                }
                line = line.add(width);
            }
            for (r, sums) in sums.iter().enumerate().take(len) {
                for (c, sum) in sums.iter().enumerate() {
                    sum.store(out.as_mut_ptr().add((first + r) * width + c * V::N));
                }
            }
        }
    }
}

/// Appends the cells (row, query) of a tile that the limits do not reject.
///
/// # Safety
/// The instruction set of `V`; `width` a multiple of `V::N`, the length of each limit, and times
/// the length of `squares` that of `tile`.
#[inline(always)]
pub(super) unsafe fn survivors<V: Lanes>(
    tile: &[f32],
    width: usize,
    squares: &[f32],
    limits: PanelLimits<'_>,
    survivors: &mut Vec<(u32, u32)>,
) {
    for (row, (cells, &square)) in tile.chunks_exact(width).zip(squares).enumerate() {
        for first in (0..width).step_by(V::N) {
            // SAFETY: `first + V::N <= width`, the length of `cells` and of each limit.
            let mut kept = unsafe {
                let dot = V::load(cells.as_ptr().add(first));
                let norm = V::splat(square.sqrt());
                let with_norm = norm.mul_add(V::load(limits.a.as_ptr().add(first)), dot);
                let value = V::splat(square).mul_add(V::load(limits.b.as_ptr().add(first)), with_norm);
                value.not_less(V::load(limits.t.as_ptr().add(first)))
            };
            while kept != 0 {
                survivors.push((row as u32, first as u32 + kept.trailing_zeros()));
                kept &= kept - 1;
            }
        }
    }
}
