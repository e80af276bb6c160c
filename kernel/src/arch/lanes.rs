//! The lane trait: what the generic kernels need of a vector register.
#![allow(unsafe_code)]

/// A register of `N` floats.
///
/// # Safety
/// Every method must only be called where the processor has the instruction set of the implementing
/// type. `load` and `store` need `N` readable or writable floats behind the pointer, `load_first`
/// needs `len` of them; no alignment.
pub(super) trait Lanes: Copy {
    const N: usize;

    /// Hints that the line at an address, which need not exist, will be read.
    unsafe fn prefetch(address: *const f32);
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `len < N` floats, then zeros.
    unsafe fn load_first(from: *const f32, len: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn sub(self, other: Self) -> Self;
    /// `self * factor + addend`.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// The absolute value of each lane.
    unsafe fn abs(self) -> Self;
    unsafe fn sum(self) -> f32;
    /// Bit `i` is set unless `self[i] < other[i]`; so it is set where one of them is NaN.
    unsafe fn not_less(self, other: Self) -> u32;
}
