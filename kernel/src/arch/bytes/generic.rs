//! The kernels, written once over [`Words`].
//!
//! ```text
//! for each row x:
//!     dot[q], square = 0
//!     for each part of 32768 components:             # whose sum fits 32 bits: 255² · 32768 < 2³¹
//!         sums[q], s = 0                             # registers of 32-bit sums
//!         for i in 0, N, 2N, .. of the part:
//!             w = widen(x + i)                       # N bytes as 16-bit words
//!             sums[q] += w * load(query q + i)       # pairs of products
//!             s += w * w
//!         dot[q] += sum of the lanes of sums[q]; square += that of s
//! ```
//!
//! The last register of a row is filled up with zeros, as the queries are.
#![allow(unsafe_code)]

use super::words::Words;
use super::{ByteRows, GROUP, QUERY_PADDING, Sign, WordQuery};

/// Components whose products are summed in 32 bits; a multiple of every register's words.
const PART: usize = 1 << 15;

/// Rows between the one that is read and the one that is prefetched, which need not follow it in
/// memory.
const PREFETCH: usize = 8;

#[inline(always)]
fn prefetch(rows: ByteRows<'_>, i: usize) {
    if let Some(id) = rows.ids.get(i + PREFETCH) {
        crate::arch::prefetch(&rows.bytes[*id as usize * rows.stride..][..rows.stride]);
    }
}

/// Evaluates `$body` with `$x` bound to each register of the part `$part` of a row and `$i` to its
/// offset in the row. It is no function with a closure, which might not be inlined into the
/// function that has the instruction set.
///
/// Safety: the instruction set of `$words`; the part lies within the row.
macro_rules! for_each_register {
    ($words:ty, $signed:ident, $row:ident, $part:expr, |$x:ident, $i:ident| $body:block) => {
        let part = $part;
        let whole = part.start + part.len() / <$words>::N * <$words>::N;
        let mut $i = part.start;
        while $i < whole {
            let $x = <$words>::widen::<$signed>($row.add($i));
            $body
            $i += <$words>::N;
        }
        if whole < part.end {
            // Fewer bytes than words of a register, of which `last` has at least as many.
            let mut last = [0_u8; QUERY_PADDING];
            std::ptr::copy_nonoverlapping($row.add(whole), last.as_mut_ptr(), part.end - whole);
            let $x = <$words>::widen::<$signed>(last.as_ptr());
            $body
        }
    };
}

/// # Safety
/// The instruction set of `W`; the queries have the rows' dim and padding; `dots` has a line of
/// rows for each of the `Q` queries.
#[inline(always)]
unsafe fn products_of<W: Words, const SIGNED: bool, const SQUARES: bool, const Q: usize>(
    rows: ByteRows<'_>,
    queries: [&WordQuery; Q],
    dots: &mut [f64],
    squares: &mut [f64],
) {
    let count = rows.ids.len();
    let words = queries.map(|query| query.words.as_ptr());
    for (ordinal, &id) in rows.ids.iter().enumerate() {
        prefetch(rows, ordinal);
        // In bounds: `ByteRows::new` checked every id.
        let row = rows.bytes.as_ptr().wrapping_add(id as usize * rows.stride);
        let (mut dot, mut square) = ([0.0; Q], 0.0);
        for first in (0..rows.stride).step_by(PART) {
            // SAFETY: the part lies within the row, and every register within the padded query.
            unsafe {
                let (mut sums, mut squared) = ([W::zero(); Q], W::zero());
                let part = first..rows.stride.min(first + PART);
                for_each_register!(W, SIGNED, row, part, |x, i| {
                    for q in 0..Q {
                        sums[q] = x.multiply_add(W::load(words[q].add(i)), sums[q]);
                    }
                    if SQUARES {
                        squared = x.multiply_add(x, squared);
                    }
                });
                for q in 0..Q {
                    dot[q] += f64::from(W::sum(sums[q]));
                }
                square += f64::from(W::sum(squared));
            }
        }
        for (q, dot) in dot.into_iter().enumerate() {
            dots[q * count + ordinal] = dot;
        }
        if SQUARES {
            squares[ordinal] = square;
        }
    }
}

/// # Safety
/// The instruction set of `W`; lengths as [`super::ByteKernels::products`] checks them.
#[inline(always)]
unsafe fn products_of_sign<W: Words, const SIGNED: bool>(
    rows: ByteRows<'_>,
    queries: &[&WordQuery],
    dots: &mut [f64],
    squares: Option<&mut [f64]>,
) {
    let count = rows.ids.len();
    // SAFETY: the caller's.
    unsafe {
        match (<[&WordQuery; GROUP]>::try_from(queries), squares) {
            (Ok(group), Some(squares)) => products_of::<W, SIGNED, true, GROUP>(rows, group, dots, squares),
            (Ok(group), None) => products_of::<W, SIGNED, false, GROUP>(rows, group, dots, &mut []),
            (Err(_), squares) => {
                let mut squares = squares;
                for (query, dots) in queries.iter().zip(dots.chunks_mut(count.max(1))) {
                    match squares.take() {
                        Some(squares) => products_of::<W, SIGNED, true, 1>(rows, [query], dots, squares),
                        None => products_of::<W, SIGNED, false, 1>(rows, [query], dots, &mut []),
                    }
                }
            }
        }
    }
}

/// Computes `x·q` and `x·x`.
///
/// # Safety
/// As [`products_of_sign`].
#[inline(always)]
pub(super) unsafe fn products<W: Words>(
    rows: ByteRows<'_>,
    sign: Sign,
    queries: &[&WordQuery],
    dots: &mut [f64],
    squares: Option<&mut [f64]>,
) {
    // SAFETY: the caller's.
    unsafe {
        match sign {
            Sign::Signed => products_of_sign::<W, true>(rows, queries, dots, squares),
            Sign::Unsigned => products_of_sign::<W, false>(rows, queries, dots, squares),
        }
    }
}

/// # Safety
/// As [`products_of`].
#[inline(always)]
unsafe fn l1_of<W: Words, const SIGNED: bool>(rows: ByteRows<'_>, query: &WordQuery, out: &mut [f64]) {
    for (ordinal, (&id, out)) in rows.ids.iter().zip(out).enumerate() {
        prefetch(rows, ordinal);
        // In bounds: `ByteRows::new` checked every id.
        let row = rows.bytes.as_ptr().wrapping_add(id as usize * rows.stride);
        *out = 0.0;
        for first in (0..rows.stride).step_by(PART) {
            // SAFETY: as in `products_of`.
            unsafe {
                let (mut sums, one) = (W::zero(), W::one());
                let part = first..rows.stride.min(first + PART);
                for_each_register!(W, SIGNED, row, part, |x, i| {
                    sums = x.distance(W::load(query.words.as_ptr().add(i))).multiply_add(one, sums);
                });
                *out += f64::from(W::sum(sums));
            }
        }
    }
}

/// Computes `Σ|x - q|`.
///
/// # Safety
/// As [`products_of_sign`].
#[inline(always)]
pub(super) unsafe fn l1<W: Words>(rows: ByteRows<'_>, sign: Sign, query: &WordQuery, out: &mut [f64]) {
    // SAFETY: the caller's.
    unsafe {
        match sign {
            Sign::Signed => l1_of::<W, true>(rows, query, out),
            Sign::Unsigned => l1_of::<W, false>(rows, query, out),
        }
    }
}

/// The bits that are set in the combination of a row and the query.
#[inline(always)]
fn count(row: &[u8], query: &[u8], combine: impl Fn(u64, u64) -> u64) -> u64 {
    let (words, rest) = row.as_chunks::<8>();
    let (query_words, query_rest) = query.as_chunks::<8>();
    let mut count = 0;
    for (x, q) in words.iter().zip(query_words) {
        count += u64::from(combine(u64::from_le_bytes(*x), u64::from_le_bytes(*q)).count_ones());
    }
    for (x, q) in rest.iter().zip(query_rest) {
        count += u64::from(combine(u64::from(*x), u64::from(*q)).count_ones());
    }
    count
}

#[inline(always)]
fn each_row<'a>(rows: ByteRows<'a>) -> impl Iterator<Item = &'a [u8]> {
    rows.ids.iter().enumerate().map(move |(ordinal, &id)| {
        prefetch(rows, ordinal);
        &rows.bytes[id as usize * rows.stride..][..rows.stride]
    })
}

/// Counts the bits that differ.
#[inline(always)]
pub(super) fn differing(rows: ByteRows<'_>, query: &[u8], out: &mut [f64]) {
    for (row, out) in each_row(rows).zip(out) {
        *out = count(row, query, |x, q| x ^ q) as f64;
    }
}

/// Counts the bits that are set in both, and in at least one.
#[inline(always)]
pub(super) fn common(rows: ByteRows<'_>, query: &[u8], both: &mut [f64], either: &mut [f64]) {
    for ((row, both), either) in each_row(rows).zip(both).zip(either) {
        *both = count(row, query, |x, q| x & q) as f64;
        *either = count(row, query, |x, q| x | q) as f64;
    }
}
