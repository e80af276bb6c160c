//! AVX2: `maddubs` for nibbles, whose pairs of products fit 16 bits, and 16-bit products for bytes,
//! whose pairs do not.
#![allow(unsafe_code)]
// Sums of several rows stay in registers where loops over them are plain.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::{Cells, CodeKernels, CodeLimits, CodeWeights, Codes, generic};

/// The table, where the processor has AVX2 and FMA.
pub(super) fn kernels() -> Option<&'static CodeKernels> {
    static KERNELS: CodeKernels = CodeKernels {
        name: "avx2",
        nibbles,
        bytes,
        tile: None,
        untiled_queries: 8,
        values,
        survivors,
        add_product,
        add_outer,
        quantize,
    };
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(&KERNELS)
}

/// Bytes of a register.
const WIDTH: usize = 32;

/// Blocks whose 16-bit sums cannot saturate: 4 blocks of 2 products, each pair at most 2·15·128,
/// make 30 720.
const BLOCKS: usize = 4;

/// Rows between the one that is read and the one that is prefetched, which need not follow it in
/// memory.
const PREFETCH: usize = 32;

#[inline(always)]
fn prefetch(codes: Codes<'_>, ids: &[u32], i: usize) {
    if let Some(id) = ids.get(i + PREFETCH) {
        crate::arch::prefetch(&codes.bytes[*id as usize * codes.stride..][..codes.stride]);
    }
}

/// The sum of the lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn reduce(sums: __m256i) -> i32 {
    let halves = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let pairs = _mm_add_epi32(halves, _mm_shuffle_epi32::<0b_01_00_11_10>(halves));
    _mm_cvtsi128_si32(_mm_add_epi32(pairs, _mm_shuffle_epi32::<0b_10_11_00_01>(pairs)))
}

/// # Safety
/// `values` is followed by 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load<T>(values: *const T) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_loadu_si256(values.cast()) }
}

/// Rows that share the loads of the weights.
const ROWS: usize = 4;

/// Sums of some rows in lanes of 32 bits. Most high bytes of weights are zero, and those that are
/// not belong to the leading components. Plain loops over constant ranges keep the sums in
/// registers; closures within a function of another instruction set might not be inlined.
///
/// # Safety
/// Each row is followed by `stride` bytes in whole registers, and so is each plane.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn of_rows<const N: usize>(rows: [*const u8; N], weights: &CodeWeights, stride: usize) -> [__m256i; N] {
    let mask = _mm256_set1_epi8(15);
    let ones = _mm256_set1_epi16(1);
    let mut high = [_mm256_setzero_si256(); N];
    let mut sums = [_mm256_setzero_si256(); N];
    // SAFETY: the caller's; no length of a high plane exceeds the stride in whole registers.
    unsafe {
        let mut first = 0;
        while first < weights.even_high_len {
            let plane = load(weights.even_high.as_ptr().add(first));
            for r in 0..N {
                let product = _mm256_maddubs_epi16(_mm256_and_si256(load(rows[r].add(first)), mask), plane);
                high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(product, ones));
            }
            first += WIDTH;
        }
        first = 0;
        while first < weights.odd_high_len {
            let plane = load(weights.odd_high.as_ptr().add(first));
            for r in 0..N {
                let codes = _mm256_srli_epi16::<4>(load(rows[r].add(first)));
                let product = _mm256_maddubs_epi16(_mm256_and_si256(codes, mask), plane);
                high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(product, ones));
            }
            first += WIDTH;
        }
        let mut group = 0;
        while group < stride {
            let end = stride.min(group + BLOCKS * WIDTH);
            let mut narrow = [_mm256_setzero_si256(); N];
            first = group;
            while first < end {
                let even = load(weights.even_low.as_ptr().add(first));
                let odd = load(weights.odd_low.as_ptr().add(first));
                for r in 0..N {
                    let codes = load(rows[r].add(first));
                    let product = _mm256_maddubs_epi16(_mm256_and_si256(codes, mask), even);
                    narrow[r] = _mm256_add_epi16(narrow[r], product);
                    let product = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<4>(codes), mask), odd);
                    narrow[r] = _mm256_add_epi16(narrow[r], product);
                }
                first += WIDTH;
            }
            for r in 0..N {
                sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(narrow[r], ones));
            }
            group = end;
        }
    }
    for r in 0..N {
        sums[r] = _mm256_add_epi32(sums[r], _mm256_slli_epi32::<8>(high[r]));
    }
    sums
}

#[target_feature(enable = "avx2,fma")]
fn nibbles(codes: Codes<'_>, weights: &CodeWeights, ids: &[u32], out: &mut [i32]) {
    // In bounds: `CodeKernels::sums` checked every id.
    let (first, stride) = (codes.bytes.as_ptr(), codes.stride);
    let (fours, rest) = ids.as_chunks::<ROWS>();
    let (outs, out_rest) = out.split_at_mut(fours.len() * ROWS);
    let (outs, _) = outs.as_chunks_mut::<ROWS>();
    for i in 0..fours.len() {
        let mut rows = [first; ROWS];
        for lane in 0..ROWS {
            prefetch(codes, ids, i * ROWS + lane);
            rows[lane] = first.wrapping_add(fours[i][lane] as usize * stride);
        }
        // SAFETY: the weights are padded to whole blocks, and a row's last block reaches at most
        // into the padding; `outs[i]` has four numbers.
        unsafe {
            let sums = of_rows(rows, weights, stride);
            let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
            let total = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
            _mm_storeu_si128(outs[i].as_mut_ptr().cast(), total);
        }
    }
    for (&id, out) in rest.iter().zip(out_rest) {
        // SAFETY: as above.
        let [sum] = unsafe { of_rows([first.wrapping_add(id as usize * stride)], weights, stride) };
        *out = reduce(sum);
    }
}

#[target_feature(enable = "avx2,fma")]
fn bytes(codes: Codes<'_>, weights: &CodeWeights, ids: &[u32], out: &mut [i32]) {
    for (i, (&id, out)) in ids.iter().zip(out).enumerate() {
        prefetch(codes, ids, i);
        // In bounds: `CodeKernels::sums` checked every id.
        let row = codes.bytes.as_ptr().wrapping_add(id as usize * codes.stride);
        let mut sums = [_mm256_setzero_si256(); 2];
        for first in (0..codes.stride).step_by(WIDTH) {
            for (half, sum) in sums.iter_mut().enumerate() {
                let first = first + half * WIDTH / 2;
                // SAFETY: as in `nibbles`.
                unsafe {
                    let x = _mm256_cvtepu8_epi16(_mm_loadu_si128(row.add(first).cast()));
                    let product = _mm256_madd_epi16(x, load(weights.even.as_ptr().add(first)));
                    *sum = _mm256_add_epi32(*sum, product);
                }
            }
        }
        *out = reduce(_mm256_add_epi32(sums[0], sums[1]));
    }
}

#[target_feature(enable = "avx2,fma")]
fn values(sums: &[i32], words: &[u32], norms: Option<&[f32]>, limits: &CodeLimits, out: &mut [f32]) {
    generic::values(sums, words, norms, limits, out);
}

#[target_feature(enable = "avx2,fma")]
fn survivors(values: &[f32], limit: f32, out: &mut Vec<u32>) {
    let limits = _mm256_set1_ps(limit);
    let (groups, rest) = values.as_chunks::<8>();
    for (group, values) in groups.iter().enumerate() {
        // SAFETY: a group is a register of floats.
        let values = unsafe { _mm256_loadu_ps(values.as_ptr()) };
        let mut kept = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(values, limits)) as u32;
        while kept != 0 {
            out.push(group as u32 * 8 + kept.trailing_zeros());
            kept &= kept - 1;
        }
    }
    generic::survivors(rest, groups.len() * 8, limit, out);
}

#[target_feature(enable = "avx2,fma")]
fn add_product(matrix: &[f32], x: &[f64], out: &mut [f64]) {
    generic::add_product(matrix, x, out);
}

#[target_feature(enable = "avx2,fma")]
fn add_outer(rows: &[f32], dim: usize, out: &mut [f64]) {
    generic::add_outer(rows, dim, out);
}

#[target_feature(enable = "avx2,fma")]
fn quantize(cells: &Cells, p: &[f64], out: &mut [u32]) -> (f64, f64) {
    generic::quantize(cells, p, out)
}
