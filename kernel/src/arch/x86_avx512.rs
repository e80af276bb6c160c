//! AVX-512F: 16 lanes, 32 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::lanes::Lanes;
use super::{Backend, Kernels, Panel, PanelLimits, Rows, generic};

/// The table, where the processor has AVX-512F.
pub(super) fn kernels() -> Option<&'static Kernels> {
    static KERNELS: Kernels = Kernels {
        backend: Backend::Avx512,
        dot_and_square,
        l2_squared,
        l1,
        tile,
        survivors,
        panel_widths: &[32, 16],
        tile_rows: 14,
    };
    is_x86_feature_detected!("avx512f").then_some(&KERNELS)
}

#[derive(Clone, Copy)]
struct F32x16(__m512);

// SAFETY (of each body): the trait's contract is that the processor has AVX-512F and that the
// pointers are valid.
impl Lanes for F32x16 {
    const N: usize = 16;

    #[inline(always)]
    unsafe fn prefetch(address: *const f32) {
        // SAFETY: see the impl; a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm512_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm512_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, len: usize) -> Self {
        // SAFETY: see the impl; masked-out lanes are not read.
        unsafe { Self(_mm512_maskz_loadu_ps((1_u16 << len) - 1, from)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see the impl.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, addend.0)) }
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(_mm512_abs_ps(self.0)) }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: see the impl.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn not_less(self, other: Self) -> u32 {
        // SAFETY: see the impl.
        unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(self.0, other.0)) }
    }
}

#[target_feature(enable = "avx512f")]
fn dot_and_square(rows: Rows<'_>, query: &[f32], dots: &mut [f32], squares: &mut [f32]) {
    // SAFETY: this function has the feature; lengths were checked by `Kernels`.
    unsafe { generic::dot_and_square::<F32x16>(rows, query, dots, squares) }
}

#[target_feature(enable = "avx512f")]
fn l2_squared(rows: Rows<'_>, query: &[f32], out: &mut [f32]) {
    // SAFETY: as in `dot_and_square`.
    unsafe { generic::l2_squared::<F32x16>(rows, query, out) }
}

#[target_feature(enable = "avx512f")]
fn l1(rows: Rows<'_>, query: &[f32], out: &mut [f32]) {
    // SAFETY: as in `dot_and_square`.
    unsafe { generic::l1::<F32x16>(rows, query, out) }
}

#[target_feature(enable = "avx512f")]
fn tile(rows: Rows<'_>, panel: Panel<'_>, out: &mut [f32]) {
    // SAFETY: as in `dot_and_square`; the width is one of `panel_widths`.
    unsafe {
        match panel.width {
            32 => generic::tile::<F32x16, 14, 2>(rows, panel, out),
            _ => generic::tile::<F32x16, 14, 1>(rows, panel, out),
        }
    }
}

#[target_feature(enable = "avx512f")]
fn survivors(tile: &[f32], width: usize, squares: &[f32], limits: PanelLimits<'_>, out: &mut Vec<(u32, u32)>) {
    // SAFETY: as in `tile`.
    unsafe { generic::survivors::<F32x16>(tile, width, squares, limits, out) }
}
