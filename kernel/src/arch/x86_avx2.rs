//! AVX2 and FMA: 8 lanes, 16 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::lanes::Lanes;
use super::{Backend, Kernels, Panel, PanelLimits, Rows, generic};

/// The table, where the processor has AVX2 and FMA.
pub(super) fn kernels() -> Option<&'static Kernels> {
    static KERNELS: Kernels = Kernels {
        backend: Backend::Avx2,
        dot_and_square,
        l2_squared,
        l1,
        tile,
        survivors,
        panel_widths: &[16, 8],
        tile_rows: 6,
    };
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(&KERNELS)
}

#[derive(Clone, Copy)]
struct F32x8(__m256);

// SAFETY (of each body): the trait's contract is that the processor has AVX2 and FMA and that the
// pointers are valid.
impl Lanes for F32x8 {
    const N: usize = 8;

    #[inline(always)]
    unsafe fn prefetch(address: *const f32) {
        // SAFETY: see the impl; a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm256_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm256_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, len: usize) -> Self {
        const MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: see the impl; `len < 8`, and masked-out lanes are not read.
        unsafe {
            let mask = _mm256_loadu_si256(MASKS.as_ptr().add(8 - len).cast());
            Self(_mm256_maskload_ps(from, mask))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see the impl.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm256_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, addend.0)) }
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)) }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: see the impl.
        unsafe {
            let halves = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
            _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
        }
    }

    #[inline(always)]
    unsafe fn not_less(self, other: Self) -> u32 {
        // SAFETY: see the impl.
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(self.0, other.0)) as u32 }
    }
}

#[target_feature(enable = "avx2,fma")]
fn dot_and_square(rows: Rows<'_>, query: &[f32], dots: &mut [f32], squares: &mut [f32]) {
    // SAFETY: this function has the features; lengths were checked by `Kernels`.
    unsafe { generic::dot_and_square::<F32x8>(rows, query, dots, squares) }
}

#[target_feature(enable = "avx2,fma")]
fn l2_squared(rows: Rows<'_>, query: &[f32], out: &mut [f32]) {
    // SAFETY: as in `dot_and_square`.
    unsafe { generic::l2_squared::<F32x8>(rows, query, out) }
}

#[target_feature(enable = "avx2,fma")]
fn l1(rows: Rows<'_>, query: &[f32], out: &mut [f32]) {
    // SAFETY: as in `dot_and_square`.
    unsafe { generic::l1::<F32x8>(rows, query, out) }
}

#[target_feature(enable = "avx2,fma")]
fn tile(rows: Rows<'_>, panel: Panel<'_>, out: &mut [f32]) {
    // SAFETY: as in `dot_and_square`; the width is one of `panel_widths`.
    unsafe {
        match panel.width {
            16 => generic::tile::<F32x8, 6, 2>(rows, panel, out),
            _ => generic::tile::<F32x8, 6, 1>(rows, panel, out),
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn survivors(tile: &[f32], width: usize, squares: &[f32], limits: PanelLimits<'_>, out: &mut Vec<(u32, u32)>) {
    // SAFETY: as in `tile`.
    unsafe { generic::survivors::<F32x8>(tile, width, squares, limits, out) }
}
