//! Plain Rust: arrays of 16 words.
#![allow(unsafe_code)]

use super::words::Words;
use super::{ByteKernels, ByteRows, Sign, WordQuery, generic};

pub(super) static KERNELS: ByteKernels = ByteKernels { name: "portable", products, l1, differing, common };

#[derive(Clone, Copy)]
struct Array16([i16; 16]);

// SAFETY (of each body): the trait's contract is that the pointers are valid; no instruction set is
// needed.
impl Words for Array16 {
    const N: usize = 16;
    type Sums = [i32; 8];

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        [0; 8]
    }

    #[inline(always)]
    unsafe fn load(from: *const i16) -> Self {
        // SAFETY: see the impl.
        Self(unsafe { from.cast::<[i16; 16]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn widen<const SIGNED: bool>(from: *const u8) -> Self {
        // SAFETY: see the impl.
        let bytes = unsafe { from.cast::<[u8; 16]>().read_unaligned() };
        Self(if SIGNED { bytes.map(|byte| i16::from(byte as i8)) } else { bytes.map(i16::from) })
    }

    #[inline(always)]
    unsafe fn distance(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| (self.0[i] - other.0[i]).abs()))
    }

    #[inline(always)]
    unsafe fn one() -> Self {
        Self([1; 16])
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: Self, sums: Self::Sums) -> Self::Sums {
        let product = |i: usize| i32::from(self.0[i]) * i32::from(other.0[i]);
        std::array::from_fn(|i| sums[i] + (product(2 * i) + product(2 * i + 1)))
    }

    #[inline(always)]
    unsafe fn sum(sums: Self::Sums) -> i32 {
        sums.iter().sum()
    }
}

fn products(rows: ByteRows<'_>, sign: Sign, queries: &[&WordQuery], dots: &mut [f64], squares: Option<&mut [f64]>) {
    // SAFETY: lengths were checked by `ByteKernels`.
    unsafe { generic::products::<Array16>(rows, sign, queries, dots, squares) }
}

fn l1(rows: ByteRows<'_>, sign: Sign, query: &WordQuery, out: &mut [f64]) {
    // SAFETY: as in `products`.
    unsafe { generic::l1::<Array16>(rows, sign, query, out) }
}

fn differing(rows: ByteRows<'_>, query: &[u8], out: &mut [f64]) {
    generic::differing(rows, query, out);
}

fn common(rows: ByteRows<'_>, query: &[u8], both: &mut [f64], either: &mut [f64]) {
    generic::common(rows, query, both, either);
}
