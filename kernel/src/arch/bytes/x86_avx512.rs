//! AVX-512: 32 words a register, whose products `madd` adds in pairs; bits by `vpopcntq`.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::words::Words;
use super::{ByteKernels, ByteRows, Sign, WordQuery, generic};

/// The table, where the processor has AVX-512F, AVX-512BW and AVX-512 VPOPCNTDQ.
pub(super) fn kernels() -> Option<&'static ByteKernels> {
    static KERNELS: ByteKernels = ByteKernels { name: "avx512", products, l1, differing, common };
    let has_words = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
    let has_counts = is_x86_feature_detected!("avx512vpopcntdq") && is_x86_feature_detected!("popcnt");
    (has_words && has_counts).then_some(&KERNELS)
}

#[derive(Clone, Copy)]
struct I16x32(__m512i);

// SAFETY (of each body): the trait's contract is that the processor has AVX-512F and AVX-512BW and
// that the pointers are valid.
impl Words for I16x32 {
    const N: usize = 32;
    type Sums = __m512i;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: see the impl.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn load(from: *const i16) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm512_loadu_si512(from.cast())) }
    }

    #[inline(always)]
    unsafe fn widen<const SIGNED: bool>(from: *const u8) -> Self {
        // SAFETY: see the impl.
        unsafe {
            let bytes = _mm256_loadu_si256(from.cast());
            Self(if SIGNED { _mm512_cvtepi8_epi16(bytes) } else { _mm512_cvtepu8_epi16(bytes) })
        }
    }

    #[inline(always)]
    unsafe fn distance(self, other: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm512_abs_epi16(_mm512_sub_epi16(self.0, other.0))) }
    }

    #[inline(always)]
    unsafe fn one() -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm512_set1_epi16(1)) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: Self, sums: __m512i) -> __m512i {
        // SAFETY: see the impl.
        unsafe { _mm512_add_epi32(sums, _mm512_madd_epi16(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn sum(sums: __m512i) -> i32 {
        // SAFETY: see the impl.
        unsafe { _mm512_reduce_add_epi32(sums) }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn products(rows: ByteRows<'_>, sign: Sign, queries: &[&WordQuery], dots: &mut [f64], squares: Option<&mut [f64]>) {
    // SAFETY: this function has the feature; lengths were checked by `ByteKernels`.
    unsafe { generic::products::<I16x32>(rows, sign, queries, dots, squares) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn l1(rows: ByteRows<'_>, sign: Sign, query: &WordQuery, out: &mut [f64]) {
    // SAFETY: as in `products`.
    unsafe { generic::l1::<I16x32>(rows, sign, query, out) }
}

#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
fn differing(rows: ByteRows<'_>, query: &[u8], out: &mut [f64]) {
    generic::differing(rows, query, out);
}

#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
fn common(rows: ByteRows<'_>, query: &[u8], both: &mut [f64], either: &mut [f64]) {
    generic::common(rows, query, both, either);
}
