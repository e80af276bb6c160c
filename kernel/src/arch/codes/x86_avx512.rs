//! AVX-512 with VNNI: 64 products of bytes an instruction, summed in `i32`.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{
    CODE_PADDING, Cells, CodeKernels, CodeLimits, CodeTile, CodeWeights, Codes, QUAD, TILE_QUERIES, TILE_ROWS, generic,
};

/// The table, where the processor has AVX-512 BW and VNNI.
pub(super) fn kernels() -> Option<&'static CodeKernels> {
    static KERNELS: CodeKernels = CodeKernels {
        name: "avx512vnni",
        nibbles,
        bytes,
        tile: Some(tile),
        untiled_queries: 0,
        values,
        survivors,
        add_product,
        add_outer,
        quantize,
    };
    let has_all = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni");
    has_all.then_some(&KERNELS)
}

/// Rows between those that are read and those that are prefetched, which need not follow them in
/// memory.
const PREFETCH: usize = 32;

/// Rows at a time: their sums share the reduction, and the weights of a block are loaded once for
/// them.
const ROWS: usize = 4;

/// Sums of the lanes of four registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn reduce([a, b, c, d]: [__m512i; ROWS]) -> [i32; ROWS] {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    // Each 128-bit part now holds a partial sum of a, b, c and d.
    let parts = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let halves = _mm256_add_epi32(_mm512_castsi512_si256(parts), _mm512_extracti64x4_epi64::<1>(parts));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
    // SAFETY: both are 16 bytes of integers.
    unsafe { std::mem::transmute::<__m128i, [i32; ROWS]>(sums) }
}

/// The pointers of the rows to prefetch while a group of four is read: those after it, or its own.
#[inline(always)]
fn ahead(codes: Codes<'_>, ids: &[u32], group: usize, own: [*const i8; ROWS]) -> [*const i8; ROWS] {
    ids.get(group * ROWS + PREFETCH..).filter(|ids| !ids.is_empty()).map_or(own, |ids| pointers(codes, ids))
}

/// The pointers of up to four rows, the last repeated.
#[inline(always)]
fn pointers(codes: Codes<'_>, ids: &[u32]) -> [*const i8; ROWS] {
    // In bounds: `CodeKernels::sums` checked every id.
    let pointer = |id: u32| codes.bytes.as_ptr().wrapping_add(id as usize * codes.stride).cast();
    std::array::from_fn(|r| pointer(ids[r.min(ids.len() - 1)]))
}

/// # Safety
/// `values` is followed by 64 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn load(values: *const i8) -> __m512i {
    // SAFETY: the caller's.
    unsafe { _mm512_loadu_si512(values.cast()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn nibbles(codes: Codes<'_>, weights: &CodeWeights, ids: &[u32], out: &mut [i32]) {
    let mask = _mm512_set1_epi8(15);
    for (group, (own, out)) in ids.chunks(ROWS).zip(out.chunks_mut(ROWS)).enumerate() {
        let rows = pointers(codes, own);
        let next = ahead(codes, ids, group, rows);
        let mut high = [_mm512_setzero_si512(); ROWS];
        let mut low = [_mm512_setzero_si512(); ROWS];
        for first in (0..codes.stride).step_by(CODE_PADDING) {
            // SAFETY: the weights are padded to whole blocks, and a row's last block reaches at
            // most into the padding.
            unsafe {
                let (even_high, even_low) =
                    (load(weights.even_high.as_ptr().add(first)), load(weights.even_low.as_ptr().add(first)));
                let (odd_high, odd_low) =
                    (load(weights.odd_high.as_ptr().add(first)), load(weights.odd_low.as_ptr().add(first)));
                for r in 0..ROWS {
                    let both = load(rows[r].add(first));
                    _mm_prefetch::<_MM_HINT_T0>(next[r].wrapping_add(first));
                    let even = _mm512_and_si512(both, mask);
                    let odd = _mm512_and_si512(_mm512_srli_epi16::<4>(both), mask);
                    high[r] = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(high[r], even, even_high), odd, odd_high);
                    low[r] = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(low[r], even, even_low), odd, odd_low);
                }
            }
        }
        let sums: [__m512i; ROWS] = std::array::from_fn(|r| _mm512_add_epi32(_mm512_slli_epi32::<8>(high[r]), low[r]));
        out.copy_from_slice(&reduce(sums)[..out.len()]);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn bytes(codes: Codes<'_>, weights: &CodeWeights, ids: &[u32], out: &mut [i32]) {
    for (group, (own, out)) in ids.chunks(ROWS).zip(out.chunks_mut(ROWS)).enumerate() {
        let rows = pointers(codes, own);
        let next = ahead(codes, ids, group, rows);
        let mut high = [_mm512_setzero_si512(); ROWS];
        let mut low = [_mm512_setzero_si512(); ROWS];
        for first in (0..codes.stride).step_by(CODE_PADDING) {
            // SAFETY: as in `nibbles`.
            unsafe {
                let (even_high, even_low) =
                    (load(weights.even_high.as_ptr().add(first)), load(weights.even_low.as_ptr().add(first)));
                for r in 0..ROWS {
                    let x = load(rows[r].add(first));
                    _mm_prefetch::<_MM_HINT_T0>(next[r].wrapping_add(first));
                    high[r] = _mm512_dpbusd_epi32(high[r], x, even_high);
                    low[r] = _mm512_dpbusd_epi32(low[r], x, even_low);
                }
            }
        }
        let sums: [__m512i; ROWS] = std::array::from_fn(|r| _mm512_add_epi32(_mm512_slli_epi32::<8>(high[r]), low[r]));
        out.copy_from_slice(&reduce(sums)[..out.len()]);
    }
}

/// Groups of 16 rows that a tile takes at a time, and the bytes of one quad of one group.
const GROUPS: usize = TILE_ROWS / 16;
const LINE: usize = 64;

/// Adds the products of the first `count` quads of codes with one plane of each query's weights.
///
/// # Safety
/// `codes` is followed by [`GROUPS`] groups of `quads ≥ count` lines, each plane by `count` quads.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn add_quads(
    sums: &mut [[__m512i; GROUPS]; TILE_QUERIES],
    codes: *const i8,
    quads: usize,
    planes: [*const i8; TILE_QUERIES],
    count: usize,
) {
    for quad in 0..count {
        // SAFETY: the caller's.
        unsafe {
            let mut x = [_mm512_setzero_si512(); GROUPS];
            for (g, x) in x.iter_mut().enumerate() {
                *x = load(codes.add((g * quads + quad) * LINE));
            }
            for (sums, plane) in sums.iter_mut().zip(planes) {
                let weights = _mm512_set1_epi32(plane.add(quad * QUAD).cast::<i32>().read_unaligned());
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = _mm512_dpbusd_epi32(*sum, x, weights);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn tile(tile: &CodeTile, weights: [&CodeWeights; TILE_QUERIES], mut out: [&mut [i32]; TILE_QUERIES]) {
    let quads = tile.quads;
    let mut high_quads = 0;
    let mut high = [std::ptr::null(); TILE_QUERIES];
    let mut low = [std::ptr::null(); TILE_QUERIES];
    for (i, weights) in weights.iter().enumerate() {
        high_quads = weights.high_quads.max(high_quads);
        (high[i], low[i]) = (weights.high.as_ptr(), weights.low.as_ptr());
    }
    for block in 0..tile.rows / TILE_ROWS {
        let codes = tile.bytes[block * TILE_ROWS * quads * QUAD..].as_ptr().cast::<i8>();
        let mut sums = [[_mm512_setzero_si512(); GROUPS]; TILE_QUERIES];
        // SAFETY: a tile has whole blocks of rows, each of `quads` lines for each group; each plane
        // has as many quads.
        unsafe {
            add_quads(&mut sums, codes, quads, high, high_quads);
            for sum in sums.as_flattened_mut() {
                *sum = _mm512_slli_epi32::<8>(*sum);
            }
            add_quads(&mut sums, codes, quads, low, quads);
            for (out, sums) in out.iter_mut().zip(sums) {
                for (out, sums) in out[block * TILE_ROWS..][..TILE_ROWS].chunks_exact_mut(16).zip(sums) {
                    _mm512_storeu_si512(out.as_mut_ptr().cast(), sums);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn values(sums: &[i32], words: &[u32], norms: Option<&[f32]>, limits: &CodeLimits, out: &mut [f32]) {
    generic::values(sums, words, norms, limits, out);
}

#[target_feature(enable = "avx512f,avx512bw")]
fn survivors(values: &[f32], limit: f32, out: &mut Vec<u32>) {
    let limits = _mm512_set1_ps(limit);
    let (groups, rest) = values.as_chunks::<16>();
    for (group, values) in groups.iter().enumerate() {
        // SAFETY: a group is a register of floats.
        let values = unsafe { _mm512_loadu_ps(values.as_ptr()) };
        let mut kept = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(values, limits);
        while kept != 0 {
            out.push(group as u32 * 16 + kept.trailing_zeros());
            kept &= kept - 1;
        }
    }
    generic::survivors(rest, groups.len() * 16, limit, out);
}

#[target_feature(enable = "avx512f,avx512bw")]
fn add_product(matrix: &[f32], x: &[f64], out: &mut [f64]) {
    generic::add_product(matrix, x, out);
}

#[target_feature(enable = "avx512f,avx512bw")]
fn add_outer(rows: &[f32], dim: usize, out: &mut [f64]) {
    generic::add_outer(rows, dim, out);
}

#[target_feature(enable = "avx512f,avx512bw")]
fn quantize(cells: &Cells, p: &[f64], out: &mut [u32]) -> (f64, f64) {
    generic::quantize(cells, p, out)
}
