//! AVX2: 16 words a register, whose products `madd` adds in pairs; bits by `popcnt`.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::words::Words;
use super::{ByteKernels, ByteRows, Sign, WordQuery, generic};

/// The table, where the processor has AVX2 and POPCNT.
pub(super) fn kernels() -> Option<&'static ByteKernels> {
    static KERNELS: ByteKernels = ByteKernels { name: "avx2", products, l1, differing, common };
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt")).then_some(&KERNELS)
}

#[derive(Clone, Copy)]
struct I16x16(__m256i);

// SAFETY (of each body): the trait's contract is that the processor has AVX2 and that the pointers
// are valid.
impl Words for I16x16 {
    const N: usize = 16;
    type Sums = __m256i;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: see the impl.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn load(from: *const i16) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn widen<const SIGNED: bool>(from: *const u8) -> Self {
        // SAFETY: see the impl.
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            Self(if SIGNED { _mm256_cvtepi8_epi16(bytes) } else { _mm256_cvtepu8_epi16(bytes) })
        }
    }

    #[inline(always)]
    unsafe fn distance(self, other: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm256_abs_epi16(_mm256_sub_epi16(self.0, other.0))) }
    }

    #[inline(always)]
    unsafe fn one() -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm256_set1_epi16(1)) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: Self, sums: __m256i) -> __m256i {
        // SAFETY: see the impl.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn sum(sums: __m256i) -> i32 {
        // SAFETY: see the impl.
        unsafe {
            let halves = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
            let pairs = _mm_add_epi32(halves, _mm_shuffle_epi32::<0b_01_00_11_10>(halves));
            _mm_cvtsi128_si32(_mm_add_epi32(pairs, _mm_shuffle_epi32::<0b_10_11_00_01>(pairs)))
        }
    }
}

#[target_feature(enable = "avx2")]
fn products(rows: ByteRows<'_>, sign: Sign, queries: &[&WordQuery], dots: &mut [f64], squares: Option<&mut [f64]>) {
    // SAFETY: this function has the feature; lengths were checked by `ByteKernels`.
    unsafe { generic::products::<I16x16>(rows, sign, queries, dots, squares) }
}

#[target_feature(enable = "avx2")]
fn l1(rows: ByteRows<'_>, sign: Sign, query: &WordQuery, out: &mut [f64]) {
    // SAFETY: as in `products`.
    unsafe { generic::l1::<I16x16>(rows, sign, query, out) }
}

#[target_feature(enable = "avx2,popcnt")]
fn differing(rows: ByteRows<'_>, query: &[u8], out: &mut [f64]) {
    generic::differing(rows, query, out);
}

#[target_feature(enable = "avx2,popcnt")]
fn common(rows: ByteRows<'_>, query: &[u8], both: &mut [f64], either: &mut [f64]) {
    generic::common(rows, query, both, either);
}
