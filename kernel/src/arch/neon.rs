//! NEON: 8 lanes in two registers of 4, of 32 registers. A pair doubles the sums in flight, which
//! hides the latency of multiply-add on processors with four vector units.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::lanes::Lanes;
use super::{Backend, Kernels, Panel, PanelLimits, Rows, generic};

/// The table, where the processor has NEON.
pub(super) fn kernels() -> Option<&'static Kernels> {
    static KERNELS: Kernels = Kernels {
        backend: Backend::Neon,
        dot_and_square,
        l2_squared,
        l1,
        tile,
        survivors,
        panel_widths: &[16, 8],
        tile_rows: 6,
    };
    std::arch::is_aarch64_feature_detected!("neon").then_some(&KERNELS)
}

#[derive(Clone, Copy)]
struct F32x8(float32x4_t, float32x4_t);

/// The first `len < 4` floats, then zeros.
///
/// # Safety
/// NEON; `len` readable floats behind `from`.
#[inline(always)]
unsafe fn load_first_of_4(from: *const f32, len: usize) -> float32x4_t {
    // SAFETY: the caller has NEON; no branch reads more than `len` floats.
    unsafe {
        match len {
            0 => vdupq_n_f32(0.0),
            1 => vld1q_lane_f32::<0>(from, vdupq_n_f32(0.0)),
            2 => vcombine_f32(vld1_f32(from), vdup_n_f32(0.0)),
            _ => vcombine_f32(vld1_f32(from), vld1_lane_f32::<0>(from.add(2), vdup_n_f32(0.0))),
        }
    }
}

// SAFETY (of each body): the trait's contract is that the processor has NEON and that the pointers
// are valid.
impl Lanes for F32x8 {
    const N: usize = 8;

    #[inline(always)]
    unsafe fn prefetch(address: *const f32) {
        // SAFETY: a prefetch never faults and changes nothing that a program can see.
        unsafe {
            asm!("prfm pldl1keep, [{}]", in(reg) address, options(readonly, nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(vdupq_n_f32(x), vdupq_n_f32(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(vld1q_f32(from), vld1q_f32(from.add(4))) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, len: usize) -> Self {
        // SAFETY: see the impl; `len < 8`, and what lies behind the first `len` floats is not read.
        unsafe {
            match len < 4 {
                true => Self(load_first_of_4(from, len), vdupq_n_f32(0.0)),
                false => Self(vld1q_f32(from), load_first_of_4(from.add(4), len - 4)),
            }
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see the impl.
        unsafe {
            vst1q_f32(to, self.0);
            vst1q_f32(to.add(4), self.1);
        }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(vsubq_f32(self.0, other.0), vsubq_f32(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(vfmaq_f32(addend.0, self.0, factor.0), vfmaq_f32(addend.1, self.1, factor.1)) }
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: see the impl.
        unsafe { Self(vabsq_f32(self.0), vabsq_f32(self.1)) }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: see the impl.
        unsafe { vaddvq_f32(vaddq_f32(self.0, self.1)) }
    }

    #[inline(always)]
    unsafe fn not_less(self, other: Self) -> u32 {
        const BITS: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
        // SAFETY: see the impl. A comparison with NaN is false; a lane that is not less keeps its
        // bit.
        unsafe {
            let low = vbicq_u32(vld1q_u32(BITS.as_ptr()), vcltq_f32(self.0, other.0));
            let high = vbicq_u32(vld1q_u32(BITS.as_ptr().add(4)), vcltq_f32(self.1, other.1));
            vaddvq_u32(vorrq_u32(low, high))
        }
    }
}

#[target_feature(enable = "neon")]
fn dot_and_square(rows: Rows<'_>, query: &[f32], dots: &mut [f32], squares: &mut [f32]) {
    // SAFETY: this function has the feature; lengths were checked by `Kernels`.
    unsafe { generic::dot_and_square::<F32x8>(rows, query, dots, squares) }
}

#[target_feature(enable = "neon")]
fn l2_squared(rows: Rows<'_>, query: &[f32], out: &mut [f32]) {
    // SAFETY: as in `dot_and_square`.
    unsafe { generic::l2_squared::<F32x8>(rows, query, out) }
}

#[target_feature(enable = "neon")]
fn l1(rows: Rows<'_>, query: &[f32], out: &mut [f32]) {
    // SAFETY: as in `dot_and_square`.
    unsafe { generic::l1::<F32x8>(rows, query, out) }
}

#[target_feature(enable = "neon")]
fn tile(rows: Rows<'_>, panel: Panel<'_>, out: &mut [f32]) {
    // SAFETY: as in `dot_and_square`; the width is one of `panel_widths`.
    unsafe {
        match panel.width {
            16 => generic::tile::<F32x8, 6, 2>(rows, panel, out),
            _ => generic::tile::<F32x8, 6, 1>(rows, panel, out),
        }
    }
}

#[target_feature(enable = "neon")]
fn survivors(tile: &[f32], width: usize, squares: &[f32], limits: PanelLimits<'_>, out: &mut Vec<(u32, u32)>) {
    // SAFETY: as in `tile`.
    unsafe { generic::survivors::<F32x8>(tile, width, squares, limits, out) }
}
