//! Plain Rust: arrays of 8 that the compiler turns into whatever the baseline target has.
#![allow(unsafe_code)]

use super::lanes::Lanes;
use super::{Backend, Kernels, Panel, PanelLimits, Rows, generic};

pub(super) static KERNELS: Kernels = Kernels {
    backend: Backend::Portable,
    dot_and_square,
    l2_squared,
    l1,
    tile,
    survivors,
    panel_widths: &[8],
    tile_rows: 4,
};

#[derive(Clone, Copy)]
struct Array8([f32; 8]);

// SAFETY (of each body): the trait's contract is that the pointers are valid; no instruction set is
// needed.
impl Lanes for Array8 {
    const N: usize = 8;

    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see the impl.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, len: usize) -> Self {
        let mut lanes = [0.0; 8];
        // SAFETY: see the impl.
        lanes[..len].copy_from_slice(unsafe { std::slice::from_raw_parts(from, len) });
        Self(lanes)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see the impl.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - other.0[i]))
    }

    /// Two roundings: `f32::mul_add` is a library call where the baseline has no FMA.
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * factor.0[i] + addend.0[i]))
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[inline(always)]
    unsafe fn not_less(self, other: Self) -> u32 {
        // A comparison with NaN is false, so NaN is not less.
        let less = (0..8).fold(0, |mask, i| mask | (u32::from(self.0[i] < other.0[i]) << i));
        !less & 0xFF
    }
}

pub(super) fn dot_and_square(rows: Rows<'_>, query: &[f32], dots: &mut [f32], squares: &mut [f32]) {
    // SAFETY: lengths were checked by `Kernels`.
    unsafe { generic::dot_and_square::<Array8>(rows, query, dots, squares) }
}

pub(super) fn l2_squared(rows: Rows<'_>, query: &[f32], out: &mut [f32]) {
    // SAFETY: as in `dot_and_square`.
    unsafe { generic::l2_squared::<Array8>(rows, query, out) }
}

pub(super) fn l1(rows: Rows<'_>, query: &[f32], out: &mut [f32]) {
    // SAFETY: as in `dot_and_square`.
    unsafe { generic::l1::<Array8>(rows, query, out) }
}

pub(super) fn tile(rows: Rows<'_>, panel: Panel<'_>, out: &mut [f32]) {
    // SAFETY: as in `dot_and_square`.
    unsafe { generic::tile::<Array8, 4, 1>(rows, panel, out) }
}

pub(super) fn survivors(
    tile: &[f32],
    width: usize,
    squares: &[f32],
    limits: PanelLimits<'_>,
    out: &mut Vec<(u32, u32)>,
) {
    // SAFETY: as in `dot_and_square`.
    unsafe { generic::survivors::<Array8>(tile, width, squares, limits, out) }
}
