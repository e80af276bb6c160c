//! The lane trait of whole numbers: what the generic kernels need of a register.
#![allow(unsafe_code)]

/// A register of `N` words of 16 bits.
///
/// # Safety
/// Every method must only be called where the processor has the instruction set of the implementing
/// type. `load` needs `N` readable words behind the pointer, `widen` `N` readable bytes; no
/// alignment.
pub(super) trait Words: Copy {
    /// Words of a register; a divisor of [`super::QUERY_PADDING`].
    const N: usize;
    /// A register of 32-bit sums.
    type Sums: Copy;

    unsafe fn zero() -> Self::Sums;
    unsafe fn load(from: *const i16) -> Self;
    /// Bytes as words, with their sign if `SIGNED`.
    unsafe fn widen<const SIGNED: bool>(from: *const u8) -> Self;
    /// `|self - other|`.
    unsafe fn distance(self, other: Self) -> Self;
    unsafe fn one() -> Self;
    /// Adds the products of the words, each two of them to one of the sums.
    unsafe fn multiply_add(self, other: Self, sums: Self::Sums) -> Self::Sums;
    unsafe fn sum(sums: Self::Sums) -> i32;
}
