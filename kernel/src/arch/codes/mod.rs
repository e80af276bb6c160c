//! Sums over the codes of a sketch: small unsigned integers times 16-bit weights, exact in `i32`,
//! and the rejection test over them. The seam is that of [`super::Kernels`]: one table per
//! instruction set, each tested by name.

mod generic;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_avx2;
#[cfg(target_arch = "x86_64")]
mod x86_avx512;

use super::Backend;

/// Readable bytes after the last row: a register may be loaded from the last byte of a row.
pub(crate) const CODE_PADDING: usize = 64;

/// Rows of codes, `stride` bytes each.
#[derive(Clone, Copy)]
pub(crate) struct Codes<'a> {
    bytes: &'a [u8],
    stride: usize,
    rows: usize,
}

impl<'a> Codes<'a> {
    /// # Panics
    /// If the rows and their padding lie outside of `bytes`. The kernels rely on it.
    pub fn new(bytes: &'a [u8], stride: usize, rows: usize) -> Self {
        assert!(rows * stride + CODE_PADDING <= bytes.len(), "{rows} rows of {stride} in {} bytes", bytes.len());
        Self { bytes, stride, rows }
    }
}

/// How a byte of codes is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeForm {
    /// Two codes of 4 bits, the first in the low half.
    Nibbles,
    /// One code of 8 bits.
    Bytes,
}

impl CodeForm {
    pub fn largest(self) -> i64 {
        match self {
            CodeForm::Nibbles => 15,
            CodeForm::Bytes => 255,
        }
    }

    pub fn codes_per_byte(self) -> usize {
        match self {
            CodeForm::Nibbles => 2,
            CodeForm::Bytes => 1,
        }
    }
}

/// Largest magnitude of a weight, so that its high byte fits an `i8`.
pub(crate) const WEIGHT_MAX: i64 = 32_512;

/// The integer weights of one query, one for each code, in the forms that the instruction sets
/// need: as 16-bit numbers and as two planes of bytes, weight = 256·high + low. `odd` belongs to
/// the high halves of nibbles.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "x86 alone multiplies the planes"))]
pub(crate) struct CodeWeights {
    form: CodeForm,
    even: Vec<i16>,
    odd: Vec<i16>,
    even_high: Vec<i8>,
    even_low: Vec<i8>,
    odd_high: Vec<i8>,
    odd_low: Vec<i8>,
    /// Bytes of the high planes up to the last that is not zero, in whole registers.
    even_high_len: usize,
    odd_high_len: usize,
    /// The planes in the order of the codes.
    low: Vec<i8>,
    high: Vec<i8>,
    /// Quads up to the last one with a high byte that is not zero.
    high_quads: usize,
}

impl CodeWeights {
    /// `weights[j]` belongs to the code of byte `j`, or of nibble `j % stride` of half
    /// `j / stride`.
    ///
    /// # Panics
    /// If there are more weights than codes, or a sum of products might leave `i32`.
    pub fn new(form: CodeForm, stride: usize, weights: &[i16]) -> Self {
        assert!(weights.len() <= stride * form.codes_per_byte());
        let magnitude: i64 = weights.iter().map(|k| i64::from(*k).abs() + 128).sum();
        assert!(magnitude * form.largest() <= i64::from(i32::MAX), "weights too large to sum");
        assert!(weights.iter().all(|k| i64::from(*k).abs() <= WEIGHT_MAX));
        let padded = stride.next_multiple_of(CODE_PADDING);
        let half = |ordinal: usize| -> Vec<i16> {
            let own = weights.iter().skip(ordinal * stride).take(stride).copied();
            own.chain(std::iter::repeat(0)).take(padded).collect()
        };
        let (even, odd) = (half(0), half(1));
        let count = stride * form.codes_per_byte();
        let whole = || weights.iter().copied().chain(std::iter::repeat(0)).take(count);
        let low = |k: &i16| *k as i8;
        let high = |k: &i16| ((i32::from(*k) - i32::from(*k as i8)) / 256) as i8;
        let high_len = |half: &[i16]| half.iter().rposition(|k| high(k) != 0).map_or(0, |last| last + 1);
        Self {
            form,
            even_high_len: high_len(&even).next_multiple_of(HIGH_UNIT),
            odd_high_len: high_len(&odd).next_multiple_of(HIGH_UNIT),
            even_high: even.iter().map(high).collect(),
            even_low: even.iter().map(low).collect(),
            odd_high: odd.iter().map(high).collect(),
            odd_low: odd.iter().map(low).collect(),
            low: whole().map(|k| low(&k)).collect(),
            high_quads: whole()
                .collect::<Vec<_>>()
                .iter()
                .rposition(|k| high(k) != 0)
                .map_or(0, |last| last / QUAD + 1),
            high: whole().map(|k| high(&k)).collect(),
            even,
            odd,
        }
    }
}

/// The unit of the lengths of the high planes: the narrowest register.
const HIGH_UNIT: usize = 32;

/// Codes that one instruction multiplies for each row of a tile.
const QUAD: usize = 4;

/// Queries that a tile kernel takes at a time.
const TILE_QUERIES: usize = 4;

/// Rows that a tile kernel takes at a time.
pub(crate) const TILE_ROWS: usize = 64;

/// A block of rows with their codes as bytes and transposed: for each 16 rows, for each [`QUAD`] of
/// codes, the four codes of each row. It is made once for many queries.
#[derive(Default)]
pub(crate) struct CodeTile {
    bytes: Vec<u8>,
    rows: usize,
    quads: usize,
}

impl CodeTile {
    /// Copies rows of codes, and zeros for those that are missing to whole [`TILE_ROWS`].
    pub fn fill(&mut self, codes: Codes<'_>, form: CodeForm, ids: &[u32]) {
        const GROUP: usize = 16;
        self.rows = ids.len().next_multiple_of(TILE_ROWS);
        self.quads = codes.stride * form.codes_per_byte() / QUAD;
        self.bytes.clear();
        self.bytes.resize(self.rows * self.quads * QUAD, 0);
        let (words, _) = self.bytes.as_chunks_mut::<QUAD>();
        for (i, &id) in ids.iter().enumerate() {
            let row = &codes.bytes[id as usize * codes.stride..][..codes.stride];
            let first = i / GROUP * GROUP * self.quads + i % GROUP;
            let words = &mut words[first..];
            for (quad, word) in row.as_chunks::<QUAD>().0.iter().enumerate() {
                match form {
                    CodeForm::Bytes => words[quad * GROUP] = *word,
                    CodeForm::Nibbles => {
                        let word = u32::from_le_bytes(*word);
                        words[quad * GROUP] = (word & 0x0F0F_0F0F).to_le_bytes();
                        words[(quad + self.quads / 2) * GROUP] = ((word >> 4) & 0x0F0F_0F0F).to_le_bytes();
                    }
                }
            }
        }
    }

    /// Rows, the missing ones included.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// The rejection test over codes, in `f32`. With `e = base + delta·sum + inside·i + tail·t`, an
/// upper bound of `x·q/‖x‖`, a row is rejected where `e < limit`, or, with norms, where
/// `n·(e + square·n) < limit`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CodeLimits {
    pub base: f32,
    pub delta: f32,
    pub inside: f32,
    pub tail: f32,
    pub square: f32,
    pub limit: f32,
}

/// The two residual norms of a row, as the high and the low half of a word: each an `f32` cut to
/// its upper 16 bits.
#[inline(always)]
pub(crate) fn residuals(word: u32) -> (f32, f32) {
    (f32::from_bits(word & 0xFFFF_0000), f32::from_bits(word << 16))
}

type SumsFn = unsafe fn(Codes<'_>, &CodeWeights, &[u32], &mut [i32]);
type TileFn = unsafe fn(&CodeTile, [&CodeWeights; TILE_QUERIES], [&mut [i32]; TILE_QUERIES]);
type QuantizeFn = unsafe fn(&Cells, &[f64], &mut [u32]) -> (f64, f64);
type ValuesFn = unsafe fn(&[i32], &[u32], Option<&[f32]>, &CodeLimits, &mut [f32]);

/// The cells of the components of a basis, as arrays: component `i` has cells of `step[i]` around
/// `centre[i]`, `2·half[i]` of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Cells {
    pub centre: Vec<f64>,
    pub step: Vec<f64>,
    /// About `1/step`.
    pub inverse: Vec<f64>,
    pub half: Vec<f64>,
    pub weight: Vec<f64>,
}

/// The operations of one instruction set.
pub(crate) struct CodeKernels {
    #[cfg_attr(not(test), allow(dead_code))]
    pub name: &'static str,
    nibbles: SumsFn,
    bytes: SumsFn,
    /// `(tile, weights, sums)` of [`TILE_QUERIES`] queries.
    tile: Option<TileFn>,
    /// Without a tile, the largest query batch that is faster by codes, query after query, than the
    /// matrix product of the vectors.
    pub untiled_queries: usize,
    /// `(sums, residuals, norms, limits, values)`: the left side of the rejection test.
    values: ValuesFn,
    /// `(values, limit, survivors)`: the ordinals of the values that are not less than the limit.
    survivors: unsafe fn(&[f32], f32, &mut Vec<u32>),
    /// `(matrix, x, out)`: adds `x · matrix` to `out`, in `f64`; the matrix has a line of
    /// `out.len()` for each of `x`.
    add_product: unsafe fn(&[f32], &[f64], &mut [f64]),
    /// `(rows, dim, out)`: adds the sum of the outer products of up to 8 rows to the upper triangle
    /// of `out`.
    add_outer: unsafe fn(&[f32], usize, &mut [f64]),
    quantize: QuantizeFn,
}

impl CodeKernels {
    /// The kernels that belong to a backend, or the portable ones.
    pub fn of(backend: Backend) -> &'static CodeKernels {
        match backend {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512 => x86_avx512::kernels().or_else(x86_avx2::kernels).unwrap_or(&portable::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2 => x86_avx2::kernels().unwrap_or(&portable::KERNELS),
            _ => &portable::KERNELS,
        }
    }

    /// `Σ weight·code` of each row of `ids`.
    pub fn sums(&self, codes: Codes<'_>, weights: &CodeWeights, ids: &[u32], out: &mut [i32]) {
        assert!(ids.len() == out.len() && weights.even.len() == codes.stride.next_multiple_of(CODE_PADDING));
        assert!(ids.iter().max().is_none_or(|id| (*id as usize) < codes.rows));
        // SAFETY: holding the table proves the instruction set; rows, padding and lengths were
        // checked here and in `new`.
        #[allow(unsafe_code)]
        unsafe {
            match weights.form {
                CodeForm::Nibbles => (self.nibbles)(codes, weights, ids, out),
                CodeForm::Bytes => (self.bytes)(codes, weights, ids, out),
            }
        }
    }

    /// Returns true if [`Self::tile`] can be called.
    pub fn has_tile(&self) -> bool {
        self.tile.is_some()
    }

    /// `Σ weight·code` of each row of a tile with each query: `out` has a line of
    /// [`CodeTile::rows`] for each.
    pub fn tile(&self, tile: &CodeTile, weights: &[&CodeWeights], out: &mut [i32]) {
        assert!(out.len() == weights.len() * tile.rows);
        assert!(weights.iter().all(|weights| weights.low.len() == tile.quads * QUAD));
        let Some(kernel) = self.tile else { return };
        // Where queries are missing, the last one is computed again.
        let mut spare = vec![0; if weights.len().is_multiple_of(TILE_QUERIES) { 0 } else { TILE_QUERIES * tile.rows }];
        for (group, out) in weights.chunks(TILE_QUERIES).zip(out.chunks_mut(TILE_QUERIES * tile.rows.max(1))) {
            let len = group.len();
            let mut lines = out.chunks_mut(tile.rows.max(1)).chain(spare.chunks_mut(tile.rows.max(1)));
            let out: [&mut [i32]; TILE_QUERIES] = std::array::from_fn(|_| lines.next().unwrap_or(&mut []));
            // SAFETY: holding the table proves the instruction set; lengths were checked here and
            // in `fill`.
            #[allow(unsafe_code)]
            unsafe {
                kernel(tile, std::array::from_fn(|i| group[i.min(len - 1)]), out)
            }
        }
    }

    /// The values that the rejection test compares with its limit.
    pub fn values(&self, sums: &[i32], words: &[u32], norms: Option<&[f32]>, limits: &CodeLimits, out: &mut [f32]) {
        assert!(sums.len() == words.len() && sums.len() == out.len());
        assert!(norms.is_none_or(|norms| norms.len() == sums.len()));
        // SAFETY: holding the table proves the instruction set.
        #[allow(unsafe_code)]
        unsafe {
            (self.values)(sums, words, norms, limits, out)
        }
    }

    /// The ordinals of the values that are not less than the limit, NaN included.
    pub fn survivors(&self, values: &[f32], limit: f32, out: &mut Vec<u32>) {
        // SAFETY: holding the table proves the instruction set.
        #[allow(unsafe_code)]
        unsafe {
            (self.survivors)(values, limit, out)
        }
    }

    /// Adds `x · matrix` to `out`.
    pub fn add_product(&self, matrix: &[f32], x: &[f64], out: &mut [f64]) {
        assert!(matrix.len() == x.len() * out.len());
        // SAFETY: holding the table proves the instruction set.
        #[allow(unsafe_code)]
        unsafe {
            (self.add_product)(matrix, x, out)
        }
    }

    /// The cells of coordinates; the sum of the squares of the weighted errors, and that of the
    /// coordinates.
    pub fn quantize(&self, cells: &Cells, p: &[f64], out: &mut [u32]) -> (f64, f64) {
        let count = p.len();
        assert!(out.len() == count && [&cells.centre, &cells.step, &cells.inverse].iter().all(|x| x.len() == count));
        assert!(cells.half.len() == count && cells.weight.len() == count);
        // SAFETY: holding the table proves the instruction set.
        #[allow(unsafe_code)]
        unsafe {
            (self.quantize)(cells, p, out)
        }
    }

    /// Adds `Σ xxᵀ` over the rows to the upper triangle of `out`.
    pub fn add_outer(&self, rows: &[f32], dim: usize, out: &mut [f64]) {
        assert!(rows.len().is_multiple_of(dim) && rows.len() <= 8 * dim && out.len() == dim * dim);
        // SAFETY: holding the table proves the instruction set.
        #[allow(unsafe_code)]
        unsafe {
            (self.add_outer)(rows, dim, out)
        }
    }
}

#[cfg(test)]
mod tests;
