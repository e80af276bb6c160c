//! Sums over vectors of bytes: products and differences of small whole numbers, and counts of bits.
//! Every sum is a whole number below 2⁵³ and exact, in whichever order it is made. The seam is that
//! of [`super::Kernels`]: one algorithm, one table per instruction set, each tested by name.

mod generic;
mod portable;
mod words;
#[cfg(target_arch = "x86_64")]
mod x86_avx2;
#[cfg(target_arch = "x86_64")]
mod x86_avx512;

use super::Backend;

/// Words that a query is padded to a multiple of, with zeros: the widest register.
const QUERY_PADDING: usize = 32;

/// Queries that are multiplied with a row at a time.
pub(crate) const GROUP: usize = 4;

/// Some rows of bytes: row `ids[i]` is `bytes[ids[i] * stride..][..stride]`.
#[derive(Clone, Copy)]
pub(crate) struct ByteRows<'a> {
    bytes: &'a [u8],
    stride: usize,
    ids: &'a [u32],
}

impl<'a> ByteRows<'a> {
    /// # Panics
    /// If a row lies outside of `bytes`. The kernels rely on it.
    pub fn new(bytes: &'a [u8], stride: usize, ids: &'a [u32]) -> Self {
        let last = ids.iter().copied().max().unwrap_or(0) as usize;
        assert!(ids.is_empty() || (last + 1) * stride <= bytes.len(), "row {last} outside of {} bytes", bytes.len());
        Self { bytes, stride, ids }
    }
}

/// The bytes of numbers with a sign.
pub(crate) fn bytes_of(numbers: &[i8]) -> &[u8] {
    // SAFETY: both types have one byte, of which every value is valid.
    #[allow(unsafe_code)]
    unsafe {
        std::slice::from_raw_parts(numbers.as_ptr().cast(), numbers.len())
    }
}

/// How a byte is read as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Signed,
    Unsigned,
}

/// A query of whole numbers in the range of a byte of either sign.
pub(crate) struct WordQuery {
    words: Vec<i16>,
    dim: usize,
}

impl WordQuery {
    /// Returns `None` if a component is no whole number in the range of bytes of this sign.
    pub fn new(query: &[f64], sign: Sign) -> Option<Self> {
        let range = match sign {
            Sign::Signed => -128.0..=127.0,
            Sign::Unsigned => 0.0..=255.0,
        };
        let word = |x: &f64| (range.contains(x) && x.fract() == 0.0).then_some(*x as i16);
        let mut words: Vec<i16> = query.iter().map(word).collect::<Option<_>>()?;
        words.resize(query.len().next_multiple_of(QUERY_PADDING), 0);
        Some(Self { words, dim: query.len() })
    }
}

type ProductsFn = unsafe fn(ByteRows<'_>, Sign, &[&WordQuery], &mut [f64], Option<&mut [f64]>);

/// The operations of one instruction set.
pub(crate) struct ByteKernels {
    #[cfg_attr(not(test), allow(dead_code))]
    pub name: &'static str,
    /// `(rows, sign, queries, dots, squares)`: `x·q` of each row with up to [`GROUP`] queries, one
    /// line for each query, and `x·x`.
    products: ProductsFn,
    /// `(rows, sign, query, out)`: `Σ|x - q|` of each row.
    l1: unsafe fn(ByteRows<'_>, Sign, &WordQuery, &mut [f64]),
    /// `(rows, query, out)`: bits that differ.
    differing: unsafe fn(ByteRows<'_>, &[u8], &mut [f64]),
    /// `(rows, query, both, either)`: bits that are set in both, and in at least one.
    common: unsafe fn(ByteRows<'_>, &[u8], &mut [f64], &mut [f64]),
}

impl ByteKernels {
    /// The kernels that belong to a backend, or the portable ones.
    pub fn of(backend: Backend) -> &'static ByteKernels {
        match backend {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512 => x86_avx512::kernels().or_else(x86_avx2::kernels).unwrap_or(&portable::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2 => x86_avx2::kernels().unwrap_or(&portable::KERNELS),
            _ => &portable::KERNELS,
        }
    }

    /// `x·q` of each row with each of up to [`GROUP`] queries, a line of them for each query, and
    /// `x·x` of each row.
    pub fn products(
        &self,
        rows: ByteRows<'_>,
        sign: Sign,
        queries: &[&WordQuery],
        dots: &mut [f64],
        squares: Option<&mut [f64]>,
    ) {
        assert!(queries.len() <= GROUP && queries.iter().all(|query| query.dim == rows.stride));
        assert!(dots.len() == queries.len() * rows.ids.len());
        assert!(squares.as_ref().is_none_or(|squares| squares.len() == rows.ids.len()));
        // SAFETY: holding the table proves the instruction set; `ByteRows` checked its rows,
        // `WordQuery` pads, and the lines above check the lengths.
        #[allow(unsafe_code)]
        unsafe {
            (self.products)(rows, sign, queries, dots, squares)
        }
    }

    /// `Σ|x - q|` of each row.
    pub fn l1(&self, rows: ByteRows<'_>, sign: Sign, query: &WordQuery, out: &mut [f64]) {
        assert!(query.dim == rows.stride && out.len() == rows.ids.len());
        // SAFETY: as in `products`.
        #[allow(unsafe_code)]
        unsafe {
            (self.l1)(rows, sign, query, out)
        }
    }

    /// The number of bits that differ, of each row.
    pub fn differing(&self, rows: ByteRows<'_>, query: &[u8], out: &mut [f64]) {
        assert!(query.len() == rows.stride && out.len() == rows.ids.len());
        // SAFETY: as in `products`.
        #[allow(unsafe_code)]
        unsafe {
            (self.differing)(rows, query, out)
        }
    }

    /// The number of bits that are set in both, and in at least one, of each row and the query.
    pub fn common(&self, rows: ByteRows<'_>, query: &[u8], both: &mut [f64], either: &mut [f64]) {
        assert!(query.len() == rows.stride && both.len() == rows.ids.len() && either.len() == rows.ids.len());
        // SAFETY: as in `products`.
        #[allow(unsafe_code)]
        unsafe {
            (self.common)(rows, query, both, either)
        }
    }
}

#[cfg(test)]
mod tests;
